//! A generated monorepo under random edits: the same steps run as content asks for, ninja agrees
//! but for what was merely touched, and the outputs are those of a clean build, after kills too.
//!
//! `ZAKO_SEED`, `ZAKO_EDITS` and `ZAKO_KILLS` choose another run; a failure prints the line to type.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use zako_tests::{Monorepo, Outcome, Project, Running, is_installed, newest, succeed};

fn variable(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

/// Prints how to run it again when the test fails.
struct Again(String);

impl Again {
    fn new(test: &str, variables: &[(&str, u64)]) -> Self {
        let variables: Vec<String> = variables
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let line = format!(
            "{} cargo test -p zako_tests --test monorepo {test}",
            variables.join(" ")
        );
        println!("{line}");
        Self(line)
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("again: {}", self.0);
        }
    }
}

/// A project whose workspace holds the monorepo.
fn project(monorepo: &mut Monorepo) -> Project {
    let project = Project::new();
    monorepo.write(&project.root());
    project
}

/// Builds and tells which steps ran or were restored.
fn zako(project: &Project) -> BTreeSet<String> {
    let events = project.outside().join("events");
    project
        .zako(&["build", "--events", events.to_str().unwrap()])
        .succeeds();
    let text = fs::read_to_string(events).unwrap();
    let events = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let changed = events.filter(|event| {
        let outcome = event["outcome"].as_str();
        event["event"] == "step_finished" && matches!(outcome, Some("executed" | "cached"))
    });
    changed
        .map(|event| event["label"].as_str().unwrap().to_owned())
        .collect()
}

/// Builds and tells which steps ran.
fn ninja(monorepo: &Monorepo, root: &Path) -> BTreeSet<String> {
    monorepo.write_ninja(root);
    let said = succeed(
        Command::new("ninja")
            .current_dir(root)
            .env("NINJA_STATUS", ""),
    );
    let ran = said.lines().filter_map(|line| line.strip_prefix("RAN "));
    ran.map(str::to_owned).collect()
}

/// The outputs of a build from nothing, with an empty cache, of the sources below `root`.
fn clean_build(monorepo: &Monorepo, root: &Path) -> BTreeMap<String, String> {
    let clean = Project::new();
    let wanted =
        |name: &str| !matches!(name, ".zako" | "build.ninja" | ".ninja_log" | ".ninja_deps");
    copy(root, &clean.root(), &|name| {
        wanted(name) && !name.ends_with(".out")
    });
    clean.build();
    monorepo.outputs(&clean.root())
}

fn copy(from: &Path, to: &Path, wanted: &dyn Fn(&str) -> bool) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !wanted(&name) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(name), wanted);
        } else {
            fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

/// What must be equal, after each round of edits:
/// 1. zako runs (or restores) exactly the steps of which an input has another content or name than
///    when they last ran;
/// 2. ninja runs exactly these and the steps that read a file which was written with the content
///    that it had: it goes by time;
/// 3. both leave the same outputs, and those of a build from nothing.
#[test]
fn what_runs_is_what_ninja_runs_but_for_mere_touches() {
    if !is_installed("ninja") {
        return;
    }
    let (seed, edits) = (variable("ZAKO_SEED", 1), variable("ZAKO_EDITS", 8));
    let _again = Again::new("what_runs", &[("ZAKO_SEED", seed), ("ZAKO_EDITS", edits)]);
    let mut monorepo = Monorepo::new(50, seed);
    let project = project(&mut monorepo);
    let root = project.root();
    let other = project.outside().join("ninja");
    copy(&root, &other, &|name| name != "BUILD.ts");
    let all: BTreeSet<String> = monorepo
        .steps()
        .into_iter()
        .map(|step| step.label)
        .collect();
    assert_eq!(zako(&project), all);
    assert_eq!(ninja(&monorepo, &other), all);
    for round in 1..=edits {
        let before = monorepo.inputs(&root);
        let settled = newest(&other);
        let touched = loop {
            // Ninja does not see an edit within the tick of the clock in which an output was written.
            let tick = other.join("tick");
            fs::write(&tick, "").unwrap();
            if fs::metadata(tick).unwrap().modified().unwrap() > settled {
                break monorepo.edit(&[&root, &other]);
            }
        };
        let by_zako = zako(&project);
        let by_ninja = ninja(&monorepo, &other);
        let now = monorepo.inputs(&root);
        let changed: BTreeSet<String> = all
            .iter()
            .filter(|step| now[*step] != before[*step])
            .cloned()
            .collect();
        let directly: BTreeSet<String> = all
            .iter()
            .filter(|step| touched.iter().any(|path| now[*step].contains_key(path)))
            .cloned()
            .collect();
        assert_eq!(by_zako, changed, "round {round}: zako, after {touched:?}");
        assert_eq!(
            by_ninja,
            &changed | &directly,
            "round {round}: ninja, after {touched:?}"
        );
        assert_eq!(
            monorepo.outputs(&root),
            monorepo.outputs(&other),
            "round {round}"
        );
        if round.is_power_of_two() || round == edits {
            assert_eq!(
                monorepo.outputs(&root),
                clean_build(&monorepo, &root),
                "round {round}"
            );
        }
    }
    assert!(zako(&project).is_empty());
}

/// Starts a build and kills it after its `lines`th event, or at its very end; `None`: at once.
fn kill(project: &Project, lines: Option<usize>) {
    let pipe = project.outside().join("pipe");
    if !pipe.exists() {
        succeed(Command::new("mkfifo").arg(&pipe));
    }
    let running: Running = project.start(&["build", "--events", pipe.to_str().unwrap()]);
    if let Some(lines) = lines {
        let events = BufReader::new(File::open(&pipe).unwrap());
        // With fewer lines it is about to write its state.
        let read = events.lines().take(lines).filter(Result::is_ok).count();
        assert!(read > 0 || lines == 0, "it began");
    }
    // It may have ended by itself, with nobody to have waited for it: then this does nothing.
    running.signal("KILL");
    running.wait();
}

#[test]
fn a_killed_build_goes_on_to_what_a_clean_one_gives() {
    let (seed, kills) = (variable("ZAKO_SEED", 1), variable("ZAKO_KILLS", 8));
    let _again = Again::new("a_killed", &[("ZAKO_SEED", seed), ("ZAKO_KILLS", kills)]);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut monorepo = Monorepo::new(12, seed);
    let project = project(&mut monorepo);
    let root = project.root();
    for round in 1..=kills {
        kill(
            &project,
            rng.bool()
                .then(|| rng.usize(0..120))
                .or_else(|| rng.bool().then_some(usize::MAX)),
        );
        if rng.bool() {
            monorepo.edit(&[&root]);
        }
        if rng.u8(0..4) == 0 || round == kills {
            let outcome: Outcome = project.build();
            assert!(!outcome.text().contains("warning"), "{}", outcome.text());
            assert_eq!(
                monorepo.outputs(&root),
                clean_build(&monorepo, &root),
                "round {round}"
            );
            assert!(zako(&project).is_empty(), "round {round}");
            monorepo.edit(&[&root]);
        }
    }
    project.store_is_intact();
}
