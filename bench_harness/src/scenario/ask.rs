//! One actor asks another, one question after the other.
#![forbid(unsafe_code)]

use super::actors::{case, every_kit, sum_below, wait, workers};
use super::{Family, Scenario};
use crate::actor::Kit;
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;

/// `ask`.
pub const SCENARIO: Scenario = Scenario {
    name: "ask",
    family: Family::Actors,
    about: "one actor asks another, one question after the other",
    unit: Unit::MillionPerSecond("answers"),
    cases,
};

fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    every_kit!(options, cases, question, options);
    cases
}

fn question<K: Kit>(options: &Options) -> Case {
    let count = options.count(500_000, 500);
    case::<K>(
        "between actors",
        workers(options),
        move |kit, done, finished| {
            let (elapsed, sum) = timed(|| {
                kit.ask(count, done);
                wait(finished, 1)
            });
            assert_eq!(sum, count * (count - 1) / 2);
            Sample::rate(count, elapsed, sum)
        },
    )
    .expecting(move || sum_below(count))
}
