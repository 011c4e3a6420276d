//! Several writers, one reader: the shape of a mailbox.
#![forbid(unsafe_code)]

use super::{Family, Scenario, with_wait};
use crate::measure::{Case, Unit};
use crate::options::Options;
use crate::queue::{Load, batched, one_by_one, ours};

/// `mpsc`.
pub const SCENARIO: Scenario = Scenario {
    name: "mpsc",
    family: Family::Rings,
    about: "2 and 4 writers to one reader, item by item and in batches",
    unit: Unit::MillionPerSecond("items"),
    cases: |options| match options.producers {
        Some(count) => cases(options, &[count]),
        None => cases(options, &[2, 4]),
    },
};

const ITEMS: u64 = 10_000_000;

/// `three_to_one`.
pub const THREE: Scenario = Scenario {
    name: "three_to_one",
    family: Family::Rings,
    about: "3 writers to one reader: the sequencer of the LMAX tests",
    unit: Unit::MillionPerSecond("items"),
    cases: |options| cases(options, &[options.producers.unwrap_or(3)]),
};

fn cases(options: &Options, producers: &[usize]) -> Vec<Case> {
    let mut cases = Vec::new();
    for &producers in producers {
        let load = Load::new(options, ITEMS, producers, 1);
        let single = format!("{producers} producers");
        let batch = format!("{producers} producers, batch of {}", load.batch);
        with_wait!(options, W => {
            cases.push(one_by_one::<ours::Mpsc<W>>(&load, &single));
            cases.push(batched::<ours::Mpsc<W>>(&load, &batch));
        });
        #[cfg(feature = "peers")]
        if options.peers {
            use crate::queue::peers::{Crossbeam, CrossfireMpsc, DisruptorMulti, Flume, Kanal};
            // Channels without batches are measured in both variants with what they have.
            for variant in [&single, &batch] {
                cases.push(one_by_one::<Crossbeam>(&load, variant));
                cases.push(one_by_one::<CrossfireMpsc>(&load, variant));
            }
            cases.push(one_by_one::<Kanal>(&load, &single));
            cases.push(one_by_one::<Flume>(&load, &single));
            cases.push(batched::<Kanal>(&load, &batch));
            cases.push(batched::<Flume>(&load, &batch));
            // It refuses smaller rings.
            if load.capacity >= 64 {
                cases.push(one_by_one::<DisruptorMulti>(&load, &single));
                cases.push(batched::<DisruptorMulti>(&load, &batch));
            }
        }
    }
    cases
}
