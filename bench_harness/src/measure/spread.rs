//! Where runs lie: what is kept of the values that they measured.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Serialize;

use super::Sample;
use crate::elapsed::Cost;

/// Where the runs of a case lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Median of the runs.
    pub median: f64,
    /// Least of the runs.
    pub min: f64,
    /// Greatest of the runs.
    pub max: f64,
}

impl Spread {
    /// Of these values; none of none.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        // The middle one, or the mean of the two that are.
        let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { median, min, max })
    }
}

/// What each item cost in the measured runs; what is counted in the warm-up alone, there.
pub(super) fn costs(warm_up: Sample, samples: &[Sample]) -> BTreeMap<Cost, Spread> {
    let spread = |cost: Cost| {
        let of = |samples: &[Sample]| {
            Spread::of(samples.iter().filter_map(|it| it.costs[cost as usize]))
        };
        Some((cost, of(samples).or_else(|| of(&[warm_up]))?))
    };
    Cost::ALL.into_iter().filter_map(spread).collect()
}
