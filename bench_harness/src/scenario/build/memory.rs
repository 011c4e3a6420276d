//! Memory of a large graph: a process that builds all of it, and one that reads the state of a finished build, links the
//! graph and plans. It is that of `zako` itself where that lies beside this program: only there the allocator is set as
//! for a command, and whoever reads the events is there.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::path::Path;
use std::rc::Rc;

use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

use super::ZAKO;
use super::noop::Planned;
use super::tree::{Steps, Tree, number_before, run};
use crate::machine::resident_bytes;
use crate::measure::{Case, Sample, Unit};
use crate::options::{Options, Scale};
use crate::probe::{Probe, beside};
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
    let by = match alone && beside("zako").is_some() {
        true => "",
        false => ", in this program",
    };
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
        let variant = format!("{targets} targets{what}{by}");
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

/// What `zako` takes to bring `tree` up to date, or a process of its own, or this one.
fn bring(tree: &Tree, alone: bool) -> Seen {
    let root = tree.root().to_owned();
    if alone {
        let by_zako = beside("zako").is_some();
        let probe = Probe::Graph { root, by_zako };
        probe.ask().unwrap_or_else(|error| panic!("{error:#}"))
    } else {
        look(&root, false)
    }
}

/// What it takes to bring the workspace there up to date: this process, beside what it took before, or `zako`.
///
/// # Panics
/// When there is none, or it cannot be built.
pub fn look(root: &Path, by_zako: bool) -> Seen {
    let tree = Tree::existing(root.to_owned());
    if by_zako {
        let (_, said) = run(&mut tree.command(&["build"]));
        return Seen {
            // What it starts is smaller than itself.
            highest_bytes: highest_of_children(),
            planned: number_before(&said, " targets"),
        };
    }
    let work = Planned::of(&tree);
    let planned = work.plan.nodes.len() as u64;
    if !work.plan.is_fresh() {
        work.build();
    }
    Seen {
        highest_bytes: resident_bytes().1,
        planned,
    }
}

/// The highest resident memory, in bytes, of any process that this one has waited for, or they have.
fn highest_of_children() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN);
    let kib = usage.map_or(0, |usage| usage.max_rss());
    u64::try_from(kib).unwrap_or(0) * 1024
}
