//! Several writers, several readers, each item to one of them: the shape of a work queue.
#![forbid(unsafe_code)]

use super::{Family, Scenario, with_wait};
use crate::measure::{Case, Unit};
use crate::options::Options;
use crate::queue::{Load, batched, one_by_one, ours};

/// `mpmc`.
pub const SCENARIO: Scenario = Scenario {
    name: "mpmc",
    family: Family::Rings,
    about: "2 writers to 2 readers, each item to one of them, item by item and in batches",
    unit: Unit::MillionPerSecond("items"),
    cases: |options| {
        let (producers, consumers) = (options.producers, options.consumers);
        cases(options, producers.unwrap_or(2), consumers.unwrap_or(2))
    },
};

/// `one_to_three`.
pub const ONE_TO_THREE: Scenario = Scenario {
    name: "one_to_three",
    family: Family::Rings,
    about: "one writer to 3 readers, each item to one of them",
    unit: Unit::MillionPerSecond("items"),
    cases: |options| cases(options, 1, options.consumers.unwrap_or(3)),
};

const ITEMS: u64 = 10_000_000;

fn cases(options: &Options, producers: usize, consumers: usize) -> Vec<Case> {
    let load = Load::new(options, ITEMS, producers, consumers);
    let single = format!("{} × {}", load.producers, load.consumers);
    let batch = format!("{single}, batch of {}", load.batch);
    #[cfg_attr(not(feature = "peers"), expect(unused_mut))]
    let mut cases = with_wait!(options, W => vec![
        one_by_one::<ours::Mpmc<W>>(&load, &single),
        batched::<ours::Mpmc<W>>(&load, &batch),
    ]);
    #[cfg(feature = "peers")]
    if options.peers {
        use crate::queue::peers::{ArrayQueue, Crossbeam, CrossfireMpmc, Flume, Kanal};
        for variant in [&single, &batch] {
            cases.push(one_by_one::<ArrayQueue>(&load, variant));
            cases.push(one_by_one::<Crossbeam>(&load, variant));
            cases.push(one_by_one::<CrossfireMpmc>(&load, variant));
        }
        cases.push(one_by_one::<Kanal>(&load, &single));
        cases.push(one_by_one::<Flume>(&load, &single));
        cases.push(batched::<Kanal>(&load, &batch));
        cases.push(batched::<Flume>(&load, &batch));
    }
    cases
}
