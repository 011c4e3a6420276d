//! Starting actors that then do nothing.
#![forbid(unsafe_code)]

use super::actors::{case, every_kit, timed, workers};
use super::{Family, Scenario};
use crate::actor::{Kit, Role};
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;

/// `spawn`.
pub const SCENARIO: Scenario = Scenario {
    name: "spawn",
    family: Family::Actors,
    about: "starting idle actors from outside",
    unit: Unit::MillionPerSecond("actors"),
    cases,
};

fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    every_kit!(options, cases, start, options);
    cases
}

fn start<K: Kit>(options: &Options) -> Case {
    let count = options.count(200_000, 200);
    case::<K>("idle actors", workers(options), move |kit, _, _| {
        let mut all = Vec::with_capacity(count as usize);
        let (elapsed, ()) = timed(|| all.extend((0..count).map(|_| kit.spawn(Role::Idle))));
        Sample::rate(count, elapsed, all.len() as u64)
    })
}
