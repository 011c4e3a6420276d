//! A crowd in which everybody pings random others (Savina's Big): many-to-many traffic.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::actors::{case, every_parallel_kit, sum_below, wait, workers};
use super::{Family, Scenario};
use crate::actor::{Kit, Msg, Role};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;

/// `big`.
pub const SCENARIO: Scenario = Scenario {
    name: "big",
    family: Family::Savina("Big"),
    about: "120 actors that ping random others and wait for the answer",
    unit: Unit::MillionPerSecond("round trips"),
    cases,
};

/// Actors in the crowd.
const ACTORS: u32 = 120;

fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    every_parallel_kit!(options, cases, mingle, options);
    cases
}

fn mingle<K: Kit>(options: &Options) -> Case {
    let pings = options.count(20_000, 20);
    case::<K>(
        "120 actors",
        workers(options),
        move |kit, done, finished| {
            let all: Vec<K::Ref> = (0..ACTORS)
                .map(|index| {
                    let random = 0x9E37_79B9 ^ (index + 1);
                    kit.spawn(Role::Crowd {
                        all: Arc::new([]),
                        index,
                        left: pings,
                        random,
                        sum: 0,
                        done: done.clone(),
                    })
                })
                .collect();
            let wires: Arc<[K::Ref]> = all.into();
            wires
                .iter()
                .for_each(|actor| kit.tell(actor, Msg::Wires(Arc::clone(&wires))));
            let (elapsed, _) = timed(|| {
                wires.iter().for_each(|actor| kit.tell(actor, Msg::Go));
                wait(finished, u64::from(ACTORS))
            });
            // Whose pings were all answered have been seen by everybody.
            wires
                .iter()
                .for_each(|actor| kit.tell(actor, Msg::Token(0)));
            let sum = wait(finished, u64::from(ACTORS));
            Sample::rate(pings * u64::from(ACTORS), elapsed, sum)
        },
    )
    .expecting(move || pings * sum_below(u64::from(ACTORS) + 1))
}
