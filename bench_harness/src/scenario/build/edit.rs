//! One source edited among thousands under `zako watch`: from the write to the first instruction of its step.
#![forbid(unsafe_code)]

use std::cell::{Cell, OnceCell, RefCell};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::ZAKO;
use super::noop::Planned;
use super::tree::{Steps, Tree, run};
use crate::elapsed::{Elapsed, timed};
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::probe::beside;
use crate::scenario::{Family, Scenario};
use crate::threads::Threads;

/// `build_edit`.
pub const SCENARIO: Scenario = Scenario {
    name: "build_edit",
    family: Family::Build,
    about: "one source edited among 10,000 targets under watch, until its step runs (2,000 with --quick)",
    unit: Unit::Milliseconds,
    cases,
};

fn cases(options: &Options) -> Vec<Case> {
    let targets = options.targets(10_000, 8);
    let watched = OnceCell::new();
    let planned = OnceCell::new();
    if options.peers && beside("zako").is_some() {
        let run = move || {
            let (elapsed, came_out) = watched.get_or_init(|| Watched::new(targets)).edit();
            Sample::time(elapsed, came_out)
        };
        let variant = format!("{targets} targets, until the step runs");
        return vec![Case::new(ZAKO, variant, Threads::anywhere(), run).expecting(|| 1)];
    }
    let run = move || {
        let tree = planned.get_or_init(|| {
            let tree = Tree::new(targets, Steps::Copy);
            Planned::of(&tree).build();
            tree
        });
        tree.write("p0/in0.txt", "edited");
        let (elapsed, planned) = timed(|| Planned::of(tree));
        assert!(!planned.plan.is_fresh(), "a source was edited");
        Sample::time(elapsed, planned.plan.nodes.len() as u64)
    };
    let variant = format!("{targets} targets, planned in this process");
    vec![Case::new(ZAKO, variant, Threads::anywhere(), run).expecting(move || targets)]
}

/// A running watch, and a pipe that the edited step writes to as the first thing that it does.
struct Watched {
    tree: Tree,
    watch: Child,
    settled: RefCell<BufReader<ChildStdout>>,
    bell: RefCell<File>,
    edits: Cell<u64>,
}

impl Watched {
    fn new(targets: u64) -> Self {
        let tree = Tree::new(targets, Steps::Copy);
        let pipe = tree.root().join("bell");
        run(Command::new("mkfifo").arg(&pipe));
        // Opened for both, it needs nobody at the other end.
        let bell = OpenOptions::new().read(true).write(true).open(&pipe);
        let mut bell = bell.expect("a pipe");
        tree.write("leaf/in.txt", "0");
        tree.write(
            "leaf/BUILD.ts",
            &format!(
                "import {{ target }} from \"zako:build\";\nexport default {{ leaf: target({{ cmd: [\"sh\", \"-c\", \
                 \"echo > {}; cp in.txt out.txt\"], srcs: [\"in.txt\"], outs: [\"out.txt\"] }}) }};\n",
                pipe.display()
            ),
        );
        let mut watch = tree.command(&["watch"]);
        let watch = watch.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut watch = watch.expect("it starts");
        let mut settled = BufReader::new(watch.stdout.take().expect("a pipe"));
        wait(&mut settled);
        ring(&mut bell);
        Self {
            tree,
            watch,
            settled: RefCell::new(settled),
            bell: RefCell::new(bell),
            edits: Cell::new(0),
        }
    }

    /// The time until the step runs, and how many edits its output holds once all is settled: this one.
    fn edit(&self) -> (Elapsed, u64) {
        self.edits.set(self.edits.get() + 1);
        let text = self.edits.get().to_string();
        let (elapsed, ()) = timed(|| {
            self.tree.write("leaf/in.txt", &text);
            ring(&mut self.bell.borrow_mut());
        });
        wait(&mut self.settled.borrow_mut());
        let output = self.tree.root().join("leaf/out.txt");
        let output = fs::read_to_string(output).expect("the step has run");
        (elapsed, u64::from(output == text))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.watch.kill();
        let _ = self.watch.wait();
    }
}

/// Until the watch has nothing left to do.
fn wait(settled: &mut BufReader<ChildStdout>) {
    let mut line = String::new();
    let read = settled.read_line(&mut line).expect("lines of text");
    assert!(read > 0 && line.starts_with("watching "), "{line:?}");
}

/// Until the step has rung.
fn ring(bell: &mut File) {
    bell.read_exact(&mut [0]).expect("a line");
}
