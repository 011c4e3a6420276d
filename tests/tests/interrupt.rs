//! Ctrl-C, SIGTERM and SIGKILL: no child is left, and the next run goes on from there.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::Command;

use zako_tests::{Project, is_alive};

/// `first` is quick. `second` starts a child and a grandchild, says their ids through a pipe that
/// all of them keep open, and waits for ever while the file `$RAN.hang` exists.
const BUILD: &str = r#"
import { target } from "zako:build";
const script = `
  echo second >> $RAN
  if [ -e $RAN.hang ]; then
    exec 3> $RAN.pipe
    (sleep 600 & echo $! >&3; wait) &
    echo $$ $! >&3
    wait
  fi
  cp first.out second.out`;
export default {
  first: target({ cmd: ["sh", "-c", "echo first >> $RAN; echo 1 > first.out"], outs: ["first.out"] }),
  second: target({ cmd: ["sh", "-c", script], deps: [":first"], outs: ["second.out"] }),
};
"#;

/// Builds until the second step hangs, sends a signal, and returns when zako has ended. All of the
/// step's processes must be dead by then.
fn interrupt(project: &Project, signal: &str) {
    let hang = project.outside().join("ran.hang");
    let pipe = project.outside().join("ran.pipe");
    File::create(&hang).unwrap();
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());

    let running = project.start(&["build"]);
    // Opening waits for the step; reading lines waits for what it says.
    let mut said = BufReader::new(File::open(&pipe).unwrap());
    let mut ids = Vec::new();
    while ids.len() < 3 {
        let mut line = String::new();
        let read = said.read_line(&mut line).unwrap();
        assert_ne!(read, 0, "the step ended early");
        ids.extend(line.split_whitespace().map(str::to_owned));
    }
    assert!(ids.iter().all(|id| is_alive(id)));

    running.signal(signal);
    let outcome = running.wait();
    assert!(!outcome.status.success(), "{}", outcome.text());
    assert!(
        !outcome.text().contains("panicked at"),
        "{}",
        outcome.text()
    );
    // After SIGKILL it is the guard that ends them, a moment later: the pipe ends with its last holder.
    let mut rest = String::new();
    if signal == "KILL" {
        said.read_to_string(&mut rest).unwrap();
        // A process that ends lets go of its files first.
        while ids.iter().any(|id| is_alive(id)) {
            std::thread::yield_now();
        }
    }
    for id in &ids {
        assert!(!is_alive(id), "{id} outlived zako");
    }
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    std::fs::remove_file(hang).unwrap();
}

fn goes_on_after(signal: &str) {
    let project = Project::with_build(BUILD);
    interrupt(&project, signal);
    assert_eq!(project.ran(), ["first", "second"]);
    assert!(!project.has("second.out"));
    project.store_is_intact();

    project.build();
    assert_eq!(
        project.ran(),
        ["second"],
        "what was finished is not run again"
    );
    assert_eq!(project.read("second.out"), "1\n");
    project.build();
    assert!(project.ran().is_empty());
}

/// `slow` waits for ever once it has said so; `fails` fails as soon as it has.
const SIBLINGS: &str = r#"
import { target } from "zako:build";
export default {
  slow: target({ cmd: ["sh", "-c", "echo slow > $RAN.pipe; sleep 600; echo > slow.out"], outs: ["slow.out"] }),
  fails: target({ cmd: ["sh", "-c", "read x < $RAN.pipe; exit 3"], outs: ["fails.out"] }),
};
"#;

#[test]
fn what_runs_beside_a_failed_step_is_stopped_with_the_reason() {
    let project = Project::with_build(SIBLINGS);
    let pipe = project.outside().join("ran.pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let events = project.outside().join("events");
    let arguments = ["build", "-j2", "--events", events.to_str().unwrap()];
    let said = project.zako(&arguments);
    assert_eq!(said.status.code(), Some(1), "{}", said.text());
    let said = said.text();
    assert!(
        said.contains("//:slow  stopped: another step failed"),
        "{said}"
    );
    assert!(said.contains("1 failed, 1 stopped"), "{said}");
    let events = std::fs::read_to_string(events).unwrap();
    assert!(
        events.contains("\"reason\":\"another step failed"),
        "{events}"
    );
}

#[test]
fn ctrl_c_kills_every_child_and_the_next_run_goes_on() {
    goes_on_after("INT");
}

#[test]
fn a_polite_end_does_the_same() {
    goes_on_after("TERM");
}

#[test]
fn a_killed_zako_leaves_a_state_to_go_on_from() {
    goes_on_after("KILL");
}
