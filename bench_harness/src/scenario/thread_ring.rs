//! A token passed round a ring of actors (Savina's ThreadRing).
#![forbid(unsafe_code)]

use super::actors::{case, every_kit, sum_below, wait, workers};
use super::{Family, Scenario};
use crate::actor::{Kit, Msg, Role};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;

/// `thread_ring`.
pub const SCENARIO: Scenario = Scenario {
    name: "thread_ring",
    family: Family::Savina("Thread Ring"),
    about: "a token passed round a ring of 100 actors",
    unit: Unit::MillionPerSecond("hops"),
    cases,
};

/// Actors in the ring.
const ACTORS: usize = 100;

fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    every_kit!(options, cases, pass, options);
    cases
}

fn pass<K: Kit>(options: &Options) -> Case {
    let hops = options.count(2_000_000, 1000);
    case::<K>(
        "100 actors",
        workers(options),
        move |kit, done, finished| {
            let ring: Vec<K::Ref> = (0..ACTORS)
                .map(|_| {
                    kit.spawn(Role::Ring {
                        next: None,
                        seen: 0,
                        done: done.clone(),
                    })
                })
                .collect();
            for (index, actor) in ring.iter().enumerate() {
                kit.tell(actor, Msg::Wire(ring[(index + 1) % ACTORS].clone()));
            }
            let (elapsed, _) = timed(|| {
                kit.tell(&ring[0], Msg::Token(hops));
                wait(finished, 1)
            });
            ring.iter().for_each(|actor| kit.tell(actor, Msg::Go));
            Sample::rate(hops, elapsed, wait(finished, ACTORS as u64))
        },
    )
    .expecting(move || sum_below(hops + 1))
}
