//! Memory of a large graph: a process that reads the state of a finished build, links the graph and plans.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::process::Command;

use super::ZAKO;
use super::noop::Planned;
use super::tree::{Steps, Tree};
use crate::machine::resident_bytes;
use crate::measure::{Case, Sample, Unit};
use crate::options::{Options, Scale};
use crate::scenario::{Family, Scenario};
use crate::threads::Threads;

/// `graph_memory`.
pub const SCENARIO: Scenario = Scenario {
    name: "graph_memory",
    family: Family::Build,
    about: "highest resident memory per target of a build with nothing to do, of 100,000 (20,000 with --quick)",
    unit: Unit::Bytes,
    cases,
};

/// Set for the child process: the workspace's root and its cache.
const PROBE: &str = "BENCH_HARNESS_GRAPH_PROBE";

fn cases(options: &Options) -> Vec<Case> {
    let targets = options.count(100_000, 8);
    let alone = options.scale != Scale::Tiny;
    let built = OnceCell::new();
    let run = move || {
        let tree: &Tree = built.get_or_init(|| {
            let tree = Tree::new(targets, Steps::Copy);
            Planned::of(&tree).build();
            tree
        });
        let (bytes, planned) = if alone { in_child(tree) } else { measure(tree) };
        Sample {
            value: bytes as f64 / targets as f64,
            checksum: planned,
        }
    };
    let case = Case::new(ZAKO, format!("{targets} targets"), Threads::anywhere(), run);
    vec![case.expecting(move || targets)]
}

fn in_child(tree: &Tree) -> (u64, u64) {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .env(PROBE, tree.root())
        .output()
        .expect("it starts again");
    let text = String::from_utf8_lossy(&output.stdout);
    let figures = text.trim().split_once(' ');
    figures
        .and_then(|(bytes, planned)| Some((bytes.parse().ok()?, planned.parse().ok()?)))
        .unwrap_or_else(|| panic!("the probe printed `{text}`"))
}

/// The highest resident memory, and how many targets were planned.
fn measure(tree: &Tree) -> (u64, u64) {
    let planned = Planned::of(tree);
    assert!(planned.plan.is_fresh(), "everything was built");
    let highest = resident_bytes().1;
    (highest, planned.plan.nodes.len() as u64)
}

/// The child's part: plans and prints, if this process was started for that.
pub fn answer_probe() -> bool {
    let Some(root) = std::env::var_os(PROBE) else {
        return false;
    };
    let (bytes, planned) = measure(&Tree::existing(root.into()));
    println!("{bytes} {planned}");
    true
}
