//! One writer, one reader, two cores: the crossing itself.
#![forbid(unsafe_code)]

use super::{Family, Scenario, with_wait};
use crate::measure::{Case, Unit};
use crate::options::Options;
use crate::queue::{Load, batched, one_by_one, ours};

/// `spsc`.
pub const SCENARIO: Scenario = Scenario {
    name: "spsc",
    family: Family::Rings,
    about: "one writer to one reader, item by item and in batches",
    unit: Unit::MillionPerSecond("items"),
    cases,
};

const ITEMS: u64 = 50_000_000;

fn cases(options: &Options) -> Vec<Case> {
    let load = Load::new(options, ITEMS, 1, 1);
    let batch = format!("batch of {}", load.batch);
    let mut cases = with_wait!(options, W => vec![
        one_by_one::<ours::Spsc<W>>(&load, "one by one"),
        batched::<ours::Spsc<W>>(&load, &batch),
    ]);
    #[cfg(feature = "peers")]
    if options.peers {
        use crate::queue::peers::{Crossbeam, CrossfireSpsc, Disruptor, Flume, Kanal, Rtrb};
        cases.extend([
            one_by_one::<Rtrb>(&load, "one by one"),
            one_by_one::<Crossbeam>(&load, "one by one"),
            one_by_one::<Kanal>(&load, "one by one"),
            one_by_one::<CrossfireSpsc>(&load, "one by one"),
            one_by_one::<Flume>(&load, "one by one"),
            one_by_one::<Disruptor>(&load, "one by one"),
            batched::<Rtrb>(&load, &batch),
            batched::<Kanal>(&load, &batch),
            batched::<Flume>(&load, &batch),
            batched::<Disruptor>(&load, &batch),
        ]);
    }
    cases.sort_by(|a, b| b.variant.cmp(&a.variant));
    cases
}
