//! A generated monorepo under random edits of sources, build files, outputs, permissions and packages: the same steps
//! run as content asks for, ninja agrees where it looks at the same, and the outputs are those of a clean build, after
//! kills too.
//!
//! `ZAKO_EDITS_SEED`, `ZAKO_EDITS_ROUNDS`, `ZAKO_EDITS_PACKAGES` and `ZAKO_KILLS` choose another run; without a seed
//! each run has one of its own, and a failure prints the line to type.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use zako_tests::{Made, Monorepo, Outcome, Project, is_installed, may_run, succeed};

fn variable(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

/// A run of a test: its seed, how many rounds, of how many packages.
struct Run {
    seed: u64,
    rounds: u64,
    packages: u64,
    /// How to have the same one again.
    line: String,
}

impl Run {
    fn new(test: &str, rounds: &str, (usual_rounds, usual_packages): (u64, u64)) -> Self {
        let seed = variable("ZAKO_EDITS_SEED", u64::from(fastrand::u32(..)));
        let packages = variable("ZAKO_EDITS_PACKAGES", usual_packages);
        let count = variable(rounds, usual_rounds);
        let line = format!(
            "ZAKO_EDITS_SEED={seed} {rounds}={count} ZAKO_EDITS_PACKAGES={packages} cargo test -p zako_tests --test monorepo {test}"
        );
        println!("{line}");
        Self {
            seed,
            rounds: count,
            packages,
            line,
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("again: {}", self.line);
        }
    }
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

type Outputs = BTreeMap<String, Option<(String, u32)>>;

/// The outputs of a build from nothing, with an empty cache, of the sources below `root`.
fn clean_build(monorepo: &Monorepo, root: &Path) -> Outputs {
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

/// Two copies of the monorepo, and what was true when both had last been built.
struct Both {
    monorepo: Monorepo,
    project: Project,
    made: BTreeMap<String, Made>,
    outputs: Outputs,
    times: BTreeMap<String, std::time::SystemTime>,
}

impl Both {
    fn new(run: &Run) -> Self {
        let project = Project::new();
        let other = project.outside().join("ninja");
        fs::create_dir(&other).unwrap();
        let roots: [&Path; 2] = [&project.root(), &other];
        let monorepo = Monorepo::new(usize::try_from(run.packages).unwrap(), run.seed, &roots);
        let all: BTreeSet<String> = monorepo.steps().into_iter().map(|it| it.label).collect();
        assert_eq!(zako(&project), all);
        assert_eq!(ninja(&monorepo, &other), all);
        let mut both = Self {
            monorepo,
            project,
            made: BTreeMap::new(),
            outputs: Outputs::new(),
            times: BTreeMap::new(),
        };
        both.note();
        both
    }

    /// Takes note of what was built.
    fn note(&mut self) {
        let other = self.project.outside().join("ninja");
        self.made = self.monorepo.made(&self.project.root());
        self.outputs = self.monorepo.outputs(&self.project.root());
        self.times = self.monorepo.times(&other);
    }

    /// Edits both, once an edit is seen by its time.
    fn edit(&mut self) -> Vec<String> {
        let other = self.project.outside().join("ninja");
        // Ninja does not see an edit within the tick of the clock in which an output was written.
        let settled = self.times.values().max().copied();
        let tick = self.project.outside().join("tick");
        loop {
            fs::write(&tick, "").unwrap();
            if fs::metadata(&tick).unwrap().modified().ok() > settled {
                return self.monorepo.edit(&[&self.project.root(), &other]);
            }
        }
    }

    /// Builds both after `edits` and compares what ran.
    fn build(&mut self, round: &str) {
        let (root, other) = (self.project.root(), self.project.outside().join("ninja"));
        let times = self.monorepo.times(&other);
        let paths = times.keys().chain(self.times.keys());
        let touched: BTreeSet<String> = paths
            .filter(|path| times.get(*path) != self.times.get(*path))
            .cloned()
            .collect();
        let outputs = self.monorepo.outputs(&root);
        let (by_zako, by_ninja) = (zako(&self.project), ninja(&self.monorepo, &other));
        let made = self.monorepo.made(&root);
        let steps = self.monorepo.steps();
        let those = |runs: &dyn Fn(&str, &str) -> bool| -> BTreeSet<String> {
            let steps = steps.iter().filter(|step| runs(&step.label, &step.output));
            steps.map(|step| step.label.clone()).collect()
        };
        let changed = those(&|label, output| {
            made.get(label) != self.made.get(label) || outputs[output] != self.outputs[output]
        });
        assert_eq!(by_zako, changed, "{round}: zako");
        let seen = |made: Option<&Made>| made.map(Made::without_permissions);
        let changed = those(&|label, output| {
            seen(made.get(label)) != seen(self.made.get(label))
                || touched.contains(output)
                || made[label].reads_any(&touched)
        });
        assert_eq!(by_ninja, changed, "{round}: ninja");
        self.note();
        assert_eq!(
            self.outputs,
            self.monorepo.outputs(&other),
            "{round}: ninja's"
        );
        assert_eq!(
            self.outputs,
            clean_build(&self.monorepo, &root),
            "{round}: clean"
        );
        let left = self.monorepo.leftovers(&root);
        assert!(left.is_empty(), "{round}: left over: {left:?}");
    }
}

/// What must be so, after each round of edits:
/// 1. zako runs (or restores) exactly the steps that are made of another script, variables, content or permission to
///    execute than when they last ran, or whose output is not what it was;
/// 2. ninja runs exactly these, but that it looks at no permissions and into no outputs, and the steps that read a file
///    which was written with the content that it had: it goes by time;
/// 3. both leave the same outputs, which are those of a build from nothing, and zako leaves no others.
#[test]
fn what_runs_is_what_ninja_runs_but_for_mere_touches() {
    if !is_installed("ninja") {
        return;
    }
    let run = Run::new("what_runs", "ZAKO_EDITS_ROUNDS", (6, 50));
    let mut both = Both::new(&run);
    let mut count = 0;
    for round in 1..=run.rounds {
        let edits = both.edit();
        count += edits.len();
        both.build(&format!("round {round}, edit {count}, after {edits:?}"));
    }
    assert!(zako(&both.project).is_empty());
    both.project.store_is_intact();
    println!("{count} edits in {} rounds", run.rounds);
}

/// What zako calls and the steps here do not, and how often it may have done so when it is killed.
const CALLS: [(&str, usize); 12] = [
    ("rename", 80),
    ("openat", 300),
    ("newfstatat,statx", 200),
    ("fdatasync,fsync", 12),
    ("pwrite64", 30),
    ("write", 60),
    ("mkdir,mkdirat", 20),
    ("unlink,unlinkat,rmdir", 40),
    ("futex", 150),
    ("clone3", 12),
    ("close", 200),
    ("ftruncate,fallocate", 4),
];

const SIGKILL: i32 = 9;

/// Where a build is killed.
enum Kill {
    /// When so much of its stream of events was read.
    Events(usize),
    Bytes(usize),
    /// At a thread's call of the system.
    Call(&'static str, usize),
}

impl Kill {
    fn any(rng: &mut fastrand::Rng, may_trace: bool) -> Self {
        match rng.u8(0..12) {
            0 => Self::Events(rng.usize(0..200)),
            1 => Self::Bytes(rng.usize(0..20_000)),
            _ if !may_trace => Self::Events(rng.usize(0..200)),
            _ => {
                let (call, most) = CALLS[rng.usize(0..CALLS.len())];
                // Most builds are short.
                let most = if rng.u8(0..4) == 0 {
                    most
                } else {
                    most / 8 + 1
                };
                Self::Call(call, rng.usize(1..=most))
            }
        }
    }

    /// Whether a build that is to be killed was.
    fn carry_out(&self, project: &Project) -> bool {
        let Self::Call(call, number) = self else {
            return self.at_event(project);
        };
        // The steps' processes count for themselves, and so does each thread.
        let traced = format!(
            "exec strace -f -qq -o /dev/null --seccomp-bpf -e trace={call} -e inject={call}:signal=KILL:when={number} \
             \"$ZAKO\" build"
        );
        let outcome = Outcome::of(&mut project.shell(&traced));
        outcome.status.signal() == Some(SIGKILL)
    }

    fn at_event(&self, project: &Project) -> bool {
        let pipe = project.outside().join("pipe");
        if !pipe.exists() {
            succeed(Command::new("mkfifo").arg(&pipe));
        }
        let running = project.start(&["build", "--events", pipe.to_str().unwrap()]);
        let mut events = BufReader::new(File::open(&pipe).unwrap());
        match self {
            Self::Events(lines) => drop(events.by_ref().lines().take(*lines).count()),
            Self::Bytes(bytes) => {
                let mut read = Vec::new();
                events
                    .by_ref()
                    .take(*bytes as u64)
                    .read_to_end(&mut read)
                    .unwrap();
            }
            Self::Call(..) => unreachable!("traced"),
        }
        // It may have ended by itself, with nobody to have waited for it: then this does nothing.
        running.signal("KILL");
        running.wait().status.signal() == Some(SIGKILL)
    }
}

/// Whether a process may be traced here.
fn may_trace() -> bool {
    let trace = || {
        Command::new("strace")
            .args(["-qq", "-f", "--seccomp-bpf", "-e", "trace=write", "true"])
            .status()
    };
    is_installed("strace")
        && may_run(
            "the right to trace",
            trace().is_ok_and(|status| status.success()),
        )
}

#[test]
fn a_killed_build_goes_on_to_what_a_clean_one_gives() {
    let run = Run::new("a_killed", "ZAKO_KILLS", (8, 50));
    let mut rng = fastrand::Rng::with_seed(run.seed);
    let project = Project::new();
    let root = project.root();
    let packages = usize::try_from(run.packages).unwrap();
    let mut monorepo = Monorepo::new(packages, run.seed, &[&root]);
    let may_trace = may_trace();
    let (mut killed, mut tried, mut edited) = (0, 0, 0);
    while killed < run.rounds && tried < 10 * run.rounds {
        tried += 1;
        killed += u64::from(Kill::any(&mut rng, may_trace).carry_out(&project));
        if rng.bool() {
            edited += monorepo.edit(&[&root]).len();
        }
        if rng.u8(0..4) == 0 || killed == run.rounds {
            let outcome: Outcome = project.build();
            assert!(!outcome.text().contains("warning"), "{}", outcome.text());
            assert_eq!(
                monorepo.outputs(&root),
                clean_build(&monorepo, &root),
                "after {tried}"
            );
            let left = monorepo.leftovers(&root);
            assert!(left.is_empty(), "after {tried}: left over: {left:?}");
            assert!(zako(&project).is_empty(), "after {tried}");
            edited += monorepo.edit(&[&root]).len();
        }
    }
    project.store_is_intact();
    println!("{killed} of {tried} builds were killed, {edited} edits between them");
}
