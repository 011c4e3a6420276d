//! What of a scenario is held against a baseline, and as which figures.
//!
//! Owns: the [`Figure`], what it refers to, and the choice of costs per scenario.
//! Does not know: baselines, rounds, thresholds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Subject;
use crate::elapsed::Cost;
use crate::latency::Latency;
use crate::measure::{Outcome, Spread, Unit};
use crate::scenario::{Family, Scenario};

/// What a figure is relative to, so that it means the same on another day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// The calibration loop, which ran before and after it: for times.
    #[default]
    Calibration,
    /// A bare cache line on the same way and the same schedule: for latencies.
    BareLine,
    /// Nothing: bytes and counts are alike on a slow day and on a fast one.
    Absolute,
}

impl Reference {
    /// As printed.
    pub fn label(self) -> &'static str {
        match self {
            Self::Calibration => "calibration loop",
            Self::BareLine => "bare line",
            Self::Absolute => "nothing",
        }
    }
}

/// Something measured, relative to its reference; greater is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is relative to; baselines of before there was more than speed do not say it.
    #[serde(default)]
    pub reference: Reference,
    /// Of the worst run.
    pub worst: f64,
    /// Of the median run.
    pub median: f64,
    /// Of the best run.
    pub best: f64,
}

impl Figure {
    fn new(reference: Reference, spread: Spread, relative: impl Fn(f64) -> f64) -> Self {
        let (one, other) = (relative(spread.min), relative(spread.max));
        Self {
            reference,
            worst: one.min(other),
            median: relative(spread.median),
            best: one.max(other),
        }
    }
}

/// Scenarios that wait for a disk: how fast that is today says nothing about us; what we write to it does.
const WAIT_FOR_A_DISK: [&str; 5] = [
    "store_put",
    "store_ingest",
    "store_writers",
    "http_put",
    "grpc_stream",
];

/// Whether the scenario's own number is held against a baseline, and which of its costs.
fn held(scenario: &Scenario) -> (bool, &'static [Cost]) {
    if WAIT_FOR_A_DISK.contains(&scenario.name) {
        return (false, &[Cost::CpuMicroseconds, Cost::WrittenBytes]);
    }
    match scenario.family {
        // Nothing is allocated once a ring is there.
        Family::Rings => (true, &[]),
        // Whoever waits for a message spins for a while: processor time is what was waited. What is allocated is exact.
        Family::Actors | Family::Savina(_) => (true, &[Cost::Allocations]),
        Family::Store | Family::Build => (true, &[Cost::CpuMicroseconds]),
    }
}

/// Every figure of what was measured while the calibration loop ran at this speed.
pub(super) fn of_outcome(
    scenario: &Scenario,
    outcome: &Outcome,
    speed: f64,
) -> BTreeMap<String, Figure> {
    let own = |value: f64| match scenario.unit {
        Unit::MillionPerSecond(_) | Unit::ThousandPerSecond(_) => value / speed,
        // Times shrink on a faster machine; bytes do not.
        Unit::Milliseconds => 1e3 / (value * speed),
        Unit::Bytes => 1e3 / value,
    };
    let reference = match scenario.unit {
        Unit::Bytes => Reference::Absolute,
        _ => Reference::Calibration,
    };
    let (number, costs) = held(scenario);
    let mut figures = BTreeMap::new();
    for row in &outcome.results {
        let name = format!("{} / {}", outcome.scenario, row.variant);
        if number {
            let figure = Figure::new(reference, row.spread(), own);
            figures.insert(name.clone(), figure);
        }
        for cost in costs {
            let spread = row.costs.get(cost);
            if let Some(figure) = spread.and_then(|spread| of_cost(*cost, *spread, speed)) {
                figures.insert(format!("{name}, {}", cost.label()), figure);
            }
        }
    }
    figures
}

/// None of what is not counted here: a file system in memory writes nothing.
fn of_cost(cost: Cost, each: Spread, speed: f64) -> Option<Figure> {
    let counted = each.min > 0.0;
    match cost {
        Cost::CpuMicroseconds => {
            let relative = |value: f64| 1e3 / (value * speed);
            counted.then(|| Figure::new(Reference::Calibration, each, relative))
        }
        Cost::WrittenBytes => {
            counted.then(|| Figure::new(Reference::Absolute, each, |value| 1e3 / value))
        }
        // None at all is as good as it gets, and has to be a number: a message alone counts as one.
        Cost::Allocations => Some(Figure::new(Reference::Absolute, each, |value| {
            1.0 / (1.0 + value)
        })),
    }
}

/// Percentiles that are compared; what lies beyond is the machine's alone.
pub(super) const PERCENTILES: [&str; 3] = ["p50", "p99", "p99.9"];

/// Per path and percentile, what a bare cache line needs for the same way on the same schedule over what ours needs.
pub(super) fn of_latencies(runs: &[Vec<Latency>]) -> BTreeMap<String, Figure> {
    let mut quotients = BTreeMap::<String, Vec<f64>>::new();
    for run in runs {
        for row in run {
            for name in PERCENTILES {
                let Some(quotient) = row.floor_ratio(run, name) else {
                    continue;
                };
                let name = format!("{} / {}, {name}", Subject::Latency.name(), row.path);
                quotients.entry(name).or_default().push(1.0 / quotient);
            }
        }
    }
    let figure = |(name, of_it): (String, Vec<f64>)| {
        let spread = Spread::of(of_it.into_iter())?;
        Some((name, Figure::new(Reference::BareLine, spread, |it| it)))
    };
    quotients.into_iter().filter_map(figure).collect()
}
