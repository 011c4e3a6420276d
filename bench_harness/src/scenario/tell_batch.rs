//! Batches to one actor from a thread on another core; libraries without batches are measured message by message.
#![forbid(unsafe_code)]

use super::actors::{case, every_kit, sum_below, wait, workers_and_outside};
use super::{Family, Scenario};
use crate::actor::{Kit, Role};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::pin;

/// `tell_batch`.
pub const SCENARIO: Scenario = Scenario {
    name: "tell_batch",
    family: Family::Actors,
    about: "batches to one actor from a thread on another core (ours, and tokio by permits; others one by one)",
    unit: Unit::MillionPerSecond("messages"),
    cases,
};

const MESSAGES: u64 = 8_000_000;
/// Messages in the tests: mailboxes overflow still.
const TINY: u64 = 6_400;

fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    every_kit!(options, cases, flooded, options);
    cases
}

fn flooded<K: Kit>(options: &Options) -> Case {
    let batch = options.batch;
    let messages = options.count(MESSAGES, TINY);
    let count = messages.next_multiple_of(batch as u64);
    let (library, core) = workers_and_outside(options);
    let variant = format!("1 thread, batch of {batch}");
    case::<K>(variant, library, move |kit, done, finished| {
        let sink = kit.spawn(Role::sink(count, done));
        let (elapsed, sum) = timed(|| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    pin::to(core);
                    kit.flood_batches(&sink, 0, count, batch);
                });
            });
            wait(finished, 1)
        });
        Sample::rate(count, elapsed, sum)
    })
    .beside(core, 1)
    .expecting(move || sum_below(count))
}
