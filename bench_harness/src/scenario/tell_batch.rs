//! Batches to one actor from a thread on another core; peers have no batches and are measured message by message.
#![forbid(unsafe_code)]

use super::actors::{case, every_kit, sum_below, timed, wait, workers_and_outside};
use super::{Family, Scenario};
use crate::actor::ours::Ours;
use crate::actor::{Kit, Msg, Role};
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::pin;

/// `tell_batch`.
pub const SCENARIO: Scenario = Scenario {
    name: "tell_batch",
    family: Family::Actors,
    about: "batches to one actor from a thread on another core",
    unit: Unit::MillionPerSecond("messages"),
    cases,
};

const MESSAGES: u64 = 8_000_000;

fn cases(options: &Options) -> Vec<Case> {
    let variant = format!("1 thread, batch of {}", options.batch);
    let (count, batch) = (
        options
            .items(MESSAGES)
            .next_multiple_of(options.batch as u64),
        options.batch as u64,
    );
    let (library, core) = workers_and_outside(options);
    let ours = case::<Ours>(&variant, library.clone(), move |kit, done, finished| {
        let sink = kit.spawn(Role::sink(count, done));
        let (elapsed, sum) = timed(|| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    pin::to(core);
                    let mut waiting = Vec::with_capacity(batch as usize);
                    for from in (0..count).step_by(batch as usize) {
                        waiting.extend((from..from + batch).map(Msg::Item));
                        while !waiting.is_empty() {
                            let sent = sink.0.tell_batch(&mut waiting).expect("the actor lives");
                            if sent == 0 {
                                std::thread::yield_now();
                            }
                        }
                    }
                });
            });
            wait(finished, 1)
        });
        Sample::rate(count, elapsed, sum)
    })
    .beside(core, 1)
    .expecting(move || sum_below(count));
    let mut cases = vec![ours];
    let mut others = Vec::new();
    every_kit!(options, others, one_by_one, &variant, &library, core, count);
    cases.extend(others.into_iter().skip(1));
    cases
}

fn one_by_one<K: Kit>(variant: &str, library: &[usize], core: usize, count: u64) -> Case {
    case::<K>(variant, library.to_vec(), move |kit, done, finished| {
        let sink = kit.spawn(Role::sink(count, done));
        let (elapsed, sum) = timed(|| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    pin::to(core);
                    kit.flood(&sink, 0, count);
                });
            });
            wait(finished, 1)
        });
        Sample::rate(count, elapsed, sum)
    })
    .beside(core, 1)
    .expecting(move || sum_below(count))
}
