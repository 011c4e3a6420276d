//! A tree of actors, ten children each, whose leaves report their number: spawn, sum up, end.
#![forbid(unsafe_code)]

use super::actors::{case, every_parallel_kit, sum_below, wait, workers};
use super::{Family, Scenario};
use crate::actor::{Kit, Msg, Role};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::{Options, Scale};

/// `skynet`.
pub const SCENARIO: Scenario = Scenario {
    name: "skynet",
    family: Family::Actors,
    about: "a tree of a million leaves (100,000 with --quick) that is spawned, summed up and ended",
    unit: Unit::Milliseconds,
    cases,
};

fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    every_parallel_kit!(options, cases, grow, options);
    cases
}

fn grow<K: Kit>(options: &Options) -> Case {
    let leaves: u64 = match options.scale {
        Scale::Full => 1_000_000,
        Scale::Quick => 100_000,
        Scale::Tiny => 100,
    };
    case::<K>(
        format!("{leaves} leaves"),
        workers(options),
        move |kit, done, finished| {
            let root = kit.spawn(Role::sky(None, 0, leaves, Some(done)));
            let (elapsed, sum) = timed(|| {
                kit.tell(&root, Msg::Go);
                wait(finished, 1)
            });
            assert_eq!(sum, leaves * (leaves - 1) / 2);
            Sample::time(elapsed, sum)
        },
    )
    .expecting(move || sum_below(leaves))
}
