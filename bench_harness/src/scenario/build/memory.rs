//! Memory of a large graph: a process that builds all of it, and one that reads the state of a finished build, links the
//! graph and plans.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::process::Command;
use std::rc::Rc;

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
    about: "highest resident memory, per target and of the whole process, nothing to do and cold, of 100,000 with two edges each (20,000 with --quick)",
    unit: Unit::Bytes,
    cases,
};

/// Set for the child process: the workspace's root and its cache.
const PROBE: &str = "BENCH_HARNESS_GRAPH_PROBE";

/// What a process took to bring a workspace up to date.
#[derive(Clone, Copy)]
struct Seen {
    highest_bytes: u64,
    /// How many targets were planned.
    planned: u64,
}

/// A workspace that was built once: that takes minutes.
struct Built {
    tree: Tree,
    cold: Seen,
}

fn cases(options: &Options) -> Vec<Case> {
    let targets = options.targets(100_000, 8);
    let alone = options.scale != Scale::Tiny;
    let built: Rc<OnceCell<Built>> = Rc::default();
    let case = |what: &str, among: u64, seen: fn(&Built, bool) -> Seen| {
        let built = Rc::clone(&built);
        let run = move || {
            let built = built.get_or_init(|| {
                let tree = Tree::new(targets, Steps::Linked);
                let cold = look(&tree, alone);
                Built { tree, cold }
            });
            let seen = seen(built, alone);
            Sample::plain(seen.highest_bytes as f64 / among as f64, seen.planned)
        };
        let variant = format!("{targets} targets{what}");
        Case::new(ZAKO, variant, Threads::anywhere(), run).expecting(move || targets)
    };
    let nothing_to_do = |built: &Built, alone| look(&built.tree, alone);
    let cold = |built: &Built, _| built.cold;
    vec![
        case("", targets, nothing_to_do),
        case(", the process", 1, nothing_to_do),
        case(", cold", targets, cold),
        case(", cold, the process", 1, cold),
    ]
}

/// What a process of its own takes to bring `tree` up to date, or this one.
fn look(tree: &Tree, alone: bool) -> Seen {
    if !alone {
        return measure(tree);
    }
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .env(PROBE, tree.root())
        .output()
        .expect("it starts again");
    let text = String::from_utf8_lossy(&output.stdout);
    let figures = text.trim().split_once(' ');
    figures
        .and_then(|(bytes, planned)| {
            Some(Seen {
                highest_bytes: bytes.parse().ok()?,
                planned: planned.parse().ok()?,
            })
        })
        .unwrap_or_else(|| panic!("the probe printed `{text}`"))
}

fn measure(tree: &Tree) -> Seen {
    let work = Planned::of(tree);
    let planned = work.plan.nodes.len() as u64;
    if !work.plan.is_fresh() {
        work.build();
    }
    Seen {
        highest_bytes: resident_bytes().1,
        planned,
    }
}

/// The child's part: brings it up to date and prints, if this process was started for that.
pub fn answer_probe() -> bool {
    let Some(root) = std::env::var_os(PROBE) else {
        return false;
    };
    let seen = measure(&Tree::existing(root.into()));
    println!("{} {}", seen.highest_bytes, seen.planned);
    true
}
