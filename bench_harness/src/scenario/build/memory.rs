//! Memory of a large graph: a process that builds all of it, and one that reads the state of a finished build, links the
//! graph and plans.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::path::Path;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::ZAKO;
use super::noop::Planned;
use super::tree::{Steps, Tree};
use crate::machine::resident_bytes;
use crate::measure::{Case, Sample, Unit};
use crate::options::{Options, Scale};
use crate::probe::Probe;
use crate::scenario::{Family, Scenario};
use crate::threads::Threads;

/// `graph_memory`.
pub const SCENARIO: Scenario = Scenario {
    name: "graph_memory",
    family: Family::Build,
    about: "highest resident memory, per target and of the whole process, nothing to do and cold (a single build), of 100,000 with two edges each (20,000 with --quick)",
    unit: Unit::Bytes,
    cases,
};

/// What a process took to bring a workspace up to date.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Seen {
    /// Resident memory.
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
                let cold = bring(&tree, alone);
                Built { tree, cold }
            });
            let seen = seen(built, alone);
            Sample::plain(seen.highest_bytes as f64 / among as f64, seen.planned)
        };
        let variant = format!("{targets} targets{what}");
        Case::new(ZAKO, variant, Threads::anywhere(), run).expecting(move || targets)
    };
    let nothing_to_do = |built: &Built, alone| bring(&built.tree, alone);
    let cold = |built: &Built, _| built.cold;
    vec![
        case("", targets, nothing_to_do),
        case(", the process", 1, nothing_to_do),
        case(", cold", targets, cold),
        case(", cold, the process", 1, cold),
    ]
}

/// What a process of its own takes to bring `tree` up to date, or this one.
fn bring(tree: &Tree, alone: bool) -> Seen {
    let root = tree.root().to_owned();
    if alone {
        let probe = Probe::Graph { root };
        probe.ask().unwrap_or_else(|error| panic!("{error:#}"))
    } else {
        look(&root)
    }
}

/// What this process takes to bring the workspace there up to date, beside what it took before.
///
/// # Panics
/// When there is none, or it cannot be built.
pub fn look(root: &Path) -> Seen {
    let work = Planned::of(&Tree::existing(root.to_owned()));
    let planned = work.plan.nodes.len() as u64;
    if !work.plan.is_fresh() {
        work.build();
    }
    Seen {
        highest_bytes: resident_bytes().1,
        planned,
    }
}
