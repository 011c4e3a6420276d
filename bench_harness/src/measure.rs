//! The rules of measuring: warm-up apart, rotated order, medians, and a checksum that all must agree on.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::machine::Machine;
use crate::options::{Options, WaitKind};
use crate::scenario::Scenario;
use crate::usage::{Mark, Usage};

/// The name of the runtime, and of everything of it that is measured.
pub const OURS: &str = "actor_rt";

/// The names of this workspace's crates: whatever is measured under another one is a peer.
pub const OWN: [&str; 3] = [OURS, "cas_actor", "zako_actors"];

/// What a number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Millions of something per second; more is better.
    MillionPerSecond(&'static str),
    /// Thousands of something per second; more is better.
    ThousandPerSecond(&'static str),
    /// Milliseconds for the whole task; less is better.
    Milliseconds,
    /// Bytes each; less is better.
    Bytes,
}

impl Unit {
    /// As printed.
    pub fn label(self) -> String {
        match self {
            Self::MillionPerSecond(what) => format!("M {what}/s"),
            Self::ThousandPerSecond(what) => format!("k {what}/s"),
            Self::Milliseconds => "ms".into(),
            Self::Bytes => "bytes each".into(),
        }
    }

    /// How many times better `ours` is than `theirs`.
    pub fn ratio(self, ours: f64, theirs: f64) -> f64 {
        match self {
            Self::MillionPerSecond(_) | Self::ThousandPerSecond(_) => ours / theirs,
            Self::Milliseconds | Self::Bytes => theirs / ours,
        }
    }

    /// Whether smaller numbers are better.
    pub fn less_is_better(self) -> bool {
        matches!(self, Self::Milliseconds | Self::Bytes)
    }
}

/// One measured run.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// In the scenario's unit.
    pub value: f64,
    /// Computed from everything the run delivered.
    pub checksum: u64,
}

impl Sample {
    /// Millions per second.
    pub fn rate(items: u64, elapsed: Duration, checksum: u64) -> Self {
        Self {
            value: items as f64 / elapsed.as_secs_f64() / 1e6,
            checksum,
        }
    }

    /// Thousands per second.
    pub fn kilo_rate(items: u64, elapsed: Duration, checksum: u64) -> Self {
        Self {
            value: items as f64 / elapsed.as_secs_f64() / 1e3,
            checksum,
        }
    }

    /// Milliseconds.
    pub fn time(elapsed: Duration, checksum: u64) -> Self {
        Self {
            value: elapsed.as_secs_f64() * 1e3,
            checksum,
        }
    }
}

/// One implementation in one variant of a scenario.
pub struct Case {
    /// Who is measured: one of [`OWN`], or a peer's crate name.
    pub implementation: &'static str,
    /// What of the scenario, for example `batch of 64`.
    pub variant: String,
    /// Threads that poll without sleeping while this runs.
    pub spinning: usize,
    /// Does the work once; the number scales it down for the warm-up.
    pub run: Box<dyn Fn() -> Sample>,
}

/// The measured runs of a case.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// As [`Case::implementation`].
    #[serde(rename = "impl")]
    pub implementation: String,
    /// As [`Case::variant`].
    pub variant: String,
    /// Median of the runs.
    pub median: f64,
    /// Least of the runs.
    pub min: f64,
    /// Greatest of the runs.
    pub max: f64,
    /// The same for every run and every implementation of the variant.
    pub checksum: u64,
}

impl Row {
    /// Whether it is a crate of this workspace.
    pub fn is_ours(&self) -> bool {
        OWN.contains(&self.implementation.as_str())
    }
}

/// All that was measured of one scenario.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// What the numbers are.
    pub unit: String,
    /// Where they were measured.
    pub machine: Machine,
    /// One per implementation and variant.
    pub results: Vec<Row>,
    /// Per variant: how many times better ours is than the best of the peers.
    pub ratio_to_best_peer: BTreeMap<String, f64>,
    /// What the measured runs used of the machine.
    pub usage: Usage,
    /// False when threads that never sleep outnumbered the cores, so that a comparison says little.
    pub valid: bool,
    /// What else a reader must know.
    pub notes: Vec<String>,
    #[serde(skip)]
    pub(crate) meaning: Option<Unit>,
}

impl Outcome {
    /// Whether smaller numbers are better in this scenario.
    pub fn less_is_better(&self) -> bool {
        self.meaning.is_some_and(Unit::less_is_better)
    }

    /// How many times better ours is than this row, if ours was measured in the same variant.
    pub fn ratio(&self, row: &Row) -> Option<f64> {
        let ours = self
            .results
            .iter()
            .find(|ours| ours.is_ours() && ours.variant == row.variant)?;
        (!row.is_ours()).then(|| self.meaning.map(|unit| unit.ratio(ours.median, row.median)))?
    }
}

/// Runs every case of a scenario: one warm-up each, then the measured rounds, each beginning with another case so
/// that nobody always runs on the warmest or the most throttled machine.
///
/// # Errors
/// When two runs of a variant computed different checksums, or nothing matches the options.
pub fn measure(scenario: &Scenario, options: &Options) -> anyhow::Result<Outcome> {
    let cases = cases(scenario, options)?;
    let machine = Machine::look();
    let mut samples: Vec<Vec<Sample>> = cases.iter().map(|_| Vec::new()).collect();
    for case in &cases {
        (case.run)();
    }
    let mark = Mark::now();
    for round in 0..options.repeat {
        for position in 0..cases.len() {
            let index = (round + position) % cases.len();
            samples[index].push((cases[index].run)());
        }
    }
    let usage = mark.until_now();
    let mut results = Vec::new();
    for (case, samples) in cases.iter().zip(&samples) {
        results.push(row(case, samples)?);
    }
    agree(scenario, &results)?;
    let spinning = cases.iter().map(|case| case.spinning).max().unwrap_or(0);
    let (valid, notes) = judge(&machine, usage, spinning, options);
    let mut outcome = Outcome {
        scenario: scenario.name.into(),
        unit: scenario.unit.label(),
        machine,
        ratio_to_best_peer: BTreeMap::new(),
        results,
        usage,
        valid,
        notes,
        meaning: Some(scenario.unit),
    };
    for row in &outcome.results {
        if let Some(ratio) = outcome.ratio(row) {
            let best = outcome
                .ratio_to_best_peer
                .entry(row.variant.clone())
                .or_insert(ratio);
            *best = best.min(ratio);
        }
    }
    Ok(outcome)
}

/// The cases that the options ask for.
fn cases(scenario: &Scenario, options: &Options) -> anyhow::Result<Vec<Case>> {
    let mut cases = (scenario.cases)(options);
    let mut names: Vec<&str> = cases.iter().map(|case| case.implementation).collect();
    cases.retain(|case| options.wants(case.implementation));
    if cases.is_empty() {
        names.sort_unstable();
        names.dedup();
        bail!(
            "`{}` has no implementation `{}` here; it has: {}{}",
            scenario.name,
            options.only.join("`, `"),
            names.join(", "),
            if cfg!(feature = "peers") {
                ""
            } else {
                " (peers need --features peers)"
            }
        );
    }
    Ok(cases)
}

/// All implementations of a variant must have computed the same.
fn agree(scenario: &Scenario, results: &[Row]) -> anyhow::Result<()> {
    for row in results {
        let first = results
            .iter()
            .find(|other| other.variant == row.variant)
            .context("a row has a variant")?;
        if row.checksum != first.checksum {
            bail!(
                "{}, {}: {} computed checksum {:x}, {} computed {:x}: one of them lost or repeated items",
                scenario.name,
                row.variant,
                row.implementation,
                row.checksum,
                first.implementation,
                first.checksum
            );
        }
    }
    Ok(())
}

/// Others may use this share of the machine before a run counts as disturbed, in percent.
const OTHERS_PERCENT: f64 = 5.0;

/// Whether implementations can be compared by this run, and what a reader must know of it.
fn judge(
    machine: &Machine,
    usage: Usage,
    spinning: usize,
    options: &Options,
) -> (bool, Vec<String>) {
    let mut notes = machine.doubts();
    if usage.others_percent > OTHERS_PERCENT {
        notes.push(format!(
            "The machine was busy: others used {:.0} % of it during these runs. Trust ratios, not absolute figures.",
            usage.others_percent
        ));
    }
    let crowded = spinning > options.cores.len();
    if crowded {
        notes.push(format!(
            "{spinning} threads share {} cores: they take turns.",
            options.cores.len()
        ));
    }
    let valid = !(crowded && options.wait == WaitKind::Busy);
    if !valid {
        notes.push(
            "Not a valid comparison: more spinning threads than cores. Choose another --wait."
                .into(),
        );
    }
    (valid, notes)
}

fn row(case: &Case, samples: &[Sample]) -> anyhow::Result<Row> {
    let mut values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
    values.sort_by(f64::total_cmp);
    let first = samples.first().context("--repeat must be at least 1")?;
    if let Some(other) = samples
        .iter()
        .find(|sample| sample.checksum != first.checksum)
    {
        bail!(
            "{} ({}): two runs computed different checksums, {:x} and {:x}",
            case.implementation,
            case.variant,
            first.checksum,
            other.checksum
        );
    }
    Ok(Row {
        implementation: case.implementation.into(),
        variant: case.variant.clone(),
        median: values[values.len() / 2],
        min: values[0],
        max: values[values.len() - 1],
        checksum: first.checksum,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(spinning: usize, wait: WaitKind, others_percent: f64) -> (bool, String) {
        let options = Options {
            cores: vec![0, 1],
            wait,
            ..Options::tiny()
        };
        let usage = Usage {
            others_percent,
            ..Usage::default()
        };
        let mut machine = Machine::look();
        machine.governor = Some("powersave".into());
        machine.numa_nodes = 1;
        let (valid, notes) = judge(&machine, usage, spinning, &options);
        (valid, notes.join("\n"))
    }

    #[test]
    fn a_run_says_what_makes_it_doubtful() {
        let (valid, notes) = judged(2, WaitKind::Busy, 0.0);
        assert!(valid && !notes.contains("busy") && !notes.contains("share"));
        assert!(notes.contains("powersave") && notes.contains("NUMA"));
        let (_, notes) = judged(2, WaitKind::Busy, 20.0);
        assert!(notes.contains("others used 20 %"));
    }

    #[test]
    fn more_spinning_threads_than_cores_are_no_comparison() {
        let (valid, notes) = judged(3, WaitKind::Busy, 0.0);
        assert!(!valid && notes.contains("3 threads share 2 cores"));
        let (valid, notes) = judged(3, WaitKind::Spin, 0.0);
        assert!(valid && notes.contains("3 threads share 2 cores"));
    }
}
