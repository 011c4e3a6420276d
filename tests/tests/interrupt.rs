//! Ctrl-C, SIGTERM, SIGHUP and SIGKILL: no child is left, and the next run goes on from there.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::Command;

use zako_tests::{Outcome, Project, is_alive, is_installed, until_so};

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
    let code = (signal != "KILL").then_some(130);
    assert_eq!(outcome.status.code(), code, "{}", outcome.text());
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

/// Whether whoever started these tests has it that a hang-up does nothing, as `nohup` does.
fn hang_ups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask & 1 == 1)
}

#[test]
fn a_closed_terminal_does_the_same() {
    if !hang_ups_are_ignored() {
        goes_on_after("HUP");
    }
}

/// `stray` starts a process that shows nothing of where it comes from, then does what follows; `last` comes after it.
fn strays(then: &str, options: &str) -> Project {
    let build = r#"
import { target } from "zako:build";
const script = `
  (env -i setsid sh -c 'exec > /dev/null 2>&1; cd /; echo $$ > $RAN.new; mv $RAN.new $RAN.stray; exec sleep 4801' &)
  until [ -e $RAN.stray ]; do sleep 0.01; done
  THEN`;
export default { stray: target({ cmd: ["sh", "-c", script], outs: ["out"], OPTIONS }) };
"#;
    Project::with_build(&build.replace("THEN", then).replace("OPTIONS", options))
}

/// Whether a process that should be gone was not; it is now.
fn was_alive(pid: &str) -> bool {
    let was = is_alive(pid);
    if was {
        Outcome::of(Command::new("kill").args(["-KILL", pid.trim()])).succeeds();
    }
    was
}

fn stray_of(project: &Project) -> String {
    until_so("there is a stray", || {
        project.outside().join("ran.stray").exists()
    });
    std::fs::read_to_string(project.outside().join("ran.stray")).unwrap()
}

#[test]
fn what_hides_from_its_step_does_not_outlive_the_build() {
    for (then, options, code) in [
        ("echo > out", "", 0),
        ("exit 3", "", 1),
        ("sleep 4802", "timeout: 1", 1),
    ] {
        let project = strays(then, options);
        let said = project.zako(&["build"]);
        assert_eq!(said.status.code(), Some(code), "{}", said.text());
        assert!(!was_alive(&stray_of(&project)), "after {then}");
    }
    for signal in ["INT", "TERM"] {
        let project = strays("sleep 4802", "");
        let running = project.start(&["build"]);
        let stray = stray_of(&project);
        running.signal(signal);
        running.wait();
        assert!(!was_alive(&stray), "after {signal}");
    }
}

#[test]
fn what_was_there_before_the_build_stays() {
    let project = strays("echo > out", "");
    // What a shell has in the background when it becomes zako is no step's.
    let mut shell = project.shell("sleep 600 > /dev/null 2>&1 & echo $!; exec \"$ZAKO\" build");
    let said = Outcome::of(&mut shell).succeeds();
    let before = said.stdout.lines().next().unwrap().to_owned();
    assert!(was_alive(&before), "{}", said.text());
    // Whose it is nobody can tell then.
    was_alive(&stray_of(&project));
}

#[test]
fn a_killed_zako_leaves_a_state_to_go_on_from() {
    goes_on_after("KILL");
}

#[test]
fn the_live_line_leaves_room_for_what_a_terminal_shows_of_ctrl_c() {
    if !is_installed("script") {
        return;
    }
    let project = Project::with_build(
        "import { target } from \"zako:build\";\nexport default { slow: target({ cmd: [\"sleep\", \"0.3\"] }) };\n",
    );
    let line =
        "exec script -qec 'stty cols 60 rows 10; exec \"$ZAKO\" build' /dev/null < /dev/null";
    let mut command = project.shell(line);
    command.env("TERM", "xterm");
    let shown = Outcome::of(&mut command).succeeds().stdout;
    let drawn = shown.split('\r').filter(|line| line.contains('░'));
    let lengths = drawn.map(|line| {
        let parts = line.split('\x1b').enumerate();
        let plain = parts.map(|(index, part)| match index {
            0 => part,
            _ => part
                .trim_start_matches(|c: char| !c.is_alphabetic())
                .get(1..)
                .unwrap_or(""),
        });
        plain.map(|part| part.chars().count()).sum::<usize>()
    });
    let longest = lengths.max().unwrap_or_else(|| panic!("{shown:?}"));
    // Behind a line that fills the terminal it would stand on the next one, and the line would stay.
    assert_eq!(longest, 60 - "^C^C^C".len(), "{shown:?}");
}
