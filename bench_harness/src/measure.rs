//! The rules of measuring: warm-up apart, rotated order, medians, and a checksum that all must agree on.
#![forbid(unsafe_code)]

mod spread;

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;

use crate::alloc_count;
use crate::elapsed::{Cost, Costs, Elapsed};
use crate::machine::Machine;
use crate::options::Options;
use crate::pin;
use crate::scenario::Scenario;
use crate::threads::Threads;
use crate::usage::{Mark, Usage};
pub use spread::Spread;
use spread::costs;

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
    /// What each item cost beside time, as far as it was counted.
    pub costs: Costs,
}

impl Sample {
    fn new(value: f64, items: u64, elapsed: Elapsed, checksum: u64) -> Self {
        let each = |cost: Option<f64>| cost.map(|cost| cost / items as f64);
        Self {
            value,
            checksum,
            costs: elapsed.costs.map(each),
        }
    }

    /// Millions per second.
    pub fn rate(items: u64, elapsed: impl Into<Elapsed>, checksum: u64) -> Self {
        let elapsed = elapsed.into();
        let value = items as f64 / elapsed.time.as_secs_f64() / 1e6;
        Self::new(value, items, elapsed, checksum)
    }

    /// Thousands per second.
    pub fn kilo_rate(items: u64, elapsed: impl Into<Elapsed>, checksum: u64) -> Self {
        let elapsed = elapsed.into();
        let value = items as f64 / elapsed.time.as_secs_f64() / 1e3;
        Self::new(value, items, elapsed, checksum)
    }

    /// Milliseconds, of one task.
    pub fn time(elapsed: impl Into<Elapsed>, checksum: u64) -> Self {
        let elapsed = elapsed.into();
        Self::new(elapsed.time.as_secs_f64() * 1e3, 1, elapsed, checksum)
    }

    /// Bytes each, or what else was not timed.
    pub fn plain(value: f64, checksum: u64) -> Self {
        Self {
            value,
            checksum,
            costs: Costs::default(),
        }
    }
}

/// One implementation in one variant of a scenario.
pub struct Case {
    /// Who is measured: one of [`OWN`], or a peer's crate name.
    pub implementation: &'static str,
    /// What of the scenario, for example `batch of 64`.
    pub variant: String,
    /// The threads that work while this runs, as far as they are placed.
    pub threads: Threads,
    /// What the checksum must be, found without what is measured; where nobody knows, all that ran must agree.
    pub expected: Option<Box<dyn Fn() -> u64>>,
    /// Whether what it makes differs from what the others make by right: then only its own runs must agree.
    pub apart: bool,
    /// Does the work once.
    pub run: Box<dyn Fn() -> Sample>,
}

impl Case {
    /// A case whose checksum nobody knows yet.
    pub fn new(
        implementation: &'static str,
        variant: impl Into<String>,
        threads: Threads,
        run: impl Fn() -> Sample + 'static,
    ) -> Self {
        Self {
            implementation,
            variant: variant.into(),
            threads,
            expected: None,
            apart: false,
            run: Box::new(run),
        }
    }

    /// The same, whose checksum must be this.
    #[must_use]
    pub fn expecting(mut self, checksum: impl Fn() -> u64 + 'static) -> Self {
        self.expected = Some(Box::new(checksum));
        self
    }

    /// The same, which makes something of its own.
    #[must_use]
    pub fn apart(mut self) -> Self {
        self.apart = true;
        self
    }

    /// The same with so many threads from outside on a core.
    #[must_use]
    pub fn beside(mut self, core: usize, threads: usize) -> Self {
        let outside = Threads::yielding(std::iter::repeat_n(core, threads));
        self.threads = self.threads.and(outside);
        self
    }
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
    /// What each item cost beside time: allocations in the warm-up, the rest in the measured runs.
    pub costs: BTreeMap<Cost, Spread>,
    /// The same for every run and every implementation of the variant.
    pub checksum: u64,
    /// False when threads that never give way shared a core with others: then it says little about who is measured.
    pub valid: bool,
}

impl Row {
    /// Where its runs lie.
    pub fn spread(&self) -> Spread {
        Spread {
            median: self.median,
            min: self.min,
            max: self.max,
        }
    }

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
    /// How, and how much of it.
    pub options: Options,
    /// One per implementation and variant.
    pub results: Vec<Row>,
    /// Per variant: how many times better ours is than the best of the peers, among rows that are valid.
    pub ratio_to_best_peer: BTreeMap<String, f64>,
    /// What the measured runs used of the machine.
    pub usage: Usage,
    /// False when ours is not valid, so that nothing can be compared with it, or when others used most of the machine.
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

    /// How many times better ours is than this row, if ours was measured in the same variant and both are valid.
    pub fn ratio(&self, row: &Row) -> Option<f64> {
        let ours = self
            .results
            .iter()
            .find(|ours| ours.is_ours() && ours.variant == row.variant)?;
        let comparable = !row.is_ours() && row.valid && ours.valid;
        comparable.then(|| self.meaning.map(|unit| unit.ratio(ours.median, row.median)))?
    }
}

/// Runs every case of a scenario: one warm-up each, then the measured rounds, each beginning with another case so
/// that nobody always runs on the warmest or the most throttled machine.
///
/// # Errors
/// When two runs of a variant computed different checksums, or nothing matches the options.
pub fn measure(scenario: &Scenario, options: &Options) -> anyhow::Result<Outcome> {
    measure_by(Mark::until_now, scenario, options)
}

/// The same by another account of what was used meanwhile.
fn measure_by(
    used_since: fn(Mark) -> Usage,
    scenario: &Scenario,
    options: &Options,
) -> anyhow::Result<Outcome> {
    let cases = chosen(scenario, options)?;
    let machine = Machine::look();
    let mut samples: Vec<Vec<Sample>> = cases.iter().map(|_| Vec::new()).collect();
    // Children, helper threads and whatever else nobody pins stays on these cores, too.
    let run = |case: &Case| pin::among(&options.cores, || (case.run)());
    // Allocations are counted where it cannot slow down what is measured.
    let counted = |case| alloc_count::count(|| run(case)).1;
    let warm_up: Vec<Sample> = cases.iter().map(counted).collect();
    let mark = Mark::begin();
    for round in 0..options.repeat {
        for position in 0..cases.len() {
            let index = (round + position) % cases.len();
            samples[index].push(run(&cases[index]));
        }
    }
    let usage = used_since(mark);
    let mut results = Vec::new();
    for ((case, warm_up), samples) in cases.iter().zip(warm_up).zip(&samples) {
        let row = row(case, warm_up, samples).with_context(|| scenario.name)?;
        results.push(row);
    }
    agree(scenario, &cases, &results)?;
    let mut notes = doubts(&machine, usage);
    let absent = scenario.absent(options).into_iter();
    notes.extend(absent.map(|who| format!("Not measured: {who}.")));
    notes.extend(crowds(&cases, options.cores.len()));
    let valid = results.iter().all(|row| row.valid || !row.is_ours());
    let crowded_out = usage.others_percent > CROWDED_OUT_PERCENT;
    let mut outcome = Outcome {
        scenario: scenario.name.into(),
        unit: scenario.unit.label(),
        machine,
        options: options.clone(),
        ratio_to_best_peer: BTreeMap::new(),
        results,
        usage,
        valid: valid && !crowded_out,
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

impl Scenario {
    /// Whether anything of it is asked for.
    pub fn has_any(&self, options: &Options) -> bool {
        let cases = (self.cases)(options);
        cases.iter().any(|case| options.wants(case.implementation))
    }
}

/// Whether every implementation that the options name is one of some of these scenarios.
///
/// # Errors
/// When one is of none: a name that is misspelt must not be left out in silence.
pub fn check_names(scenarios: &[&Scenario], options: &Options) -> anyhow::Result<()> {
    if options.only.is_empty() {
        return Ok(());
    }
    let cases = scenarios
        .iter()
        .flat_map(|scenario| (scenario.cases)(options));
    let mut names: Vec<&str> = cases.map(|case| case.implementation).collect();
    names.sort_unstable();
    names.dedup();
    for name in &options.only {
        ensure!(
            names.contains(&name.as_str()),
            "there is no implementation `{name}` here; these are: {}{}",
            names.join(", "),
            PEERS_HINT
        );
    }
    Ok(())
}

/// Where peers may be that are not here.
const PEERS_HINT: &str = if cfg!(feature = "peers") {
    ""
} else {
    " (peers need --features peers)"
};

/// The cases that the options ask for.
pub(crate) fn chosen(scenario: &Scenario, options: &Options) -> anyhow::Result<Vec<Case>> {
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
            PEERS_HINT
        );
    }
    Ok(cases)
}

/// All implementations of a variant must have computed the same, but for those that make something of their own.
fn agree(scenario: &Scenario, cases: &[Case], results: &[Row]) -> anyhow::Result<()> {
    let together: Vec<&Row> = cases
        .iter()
        .zip(results)
        .filter(|(case, _)| !case.apart)
        .map(|(_, row)| row)
        .collect();
    for row in &together {
        let first = together
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
pub(crate) const OTHERS_PERCENT: f64 = 5.0;

/// Where others used more than this share of the machine, nobody should quote what was measured.
const CROWDED_OUT_PERCENT: f64 = 50.0;

/// What a reader must know of the machine during these runs.
pub fn doubts(machine: &Machine, usage: Usage) -> Vec<String> {
    let mut notes = machine.doubts();
    if usage.others_percent > CROWDED_OUT_PERCENT {
        notes.push(format!(
            "Not a valid comparison: the machine was busy, others used {:.0} % of it during these runs.",
            usage.others_percent
        ));
    } else if usage.others_percent > OTHERS_PERCENT {
        notes.push(format!(
            "The machine was busy: others used {:.0} % of it during these runs. Trust ratios, not absolute figures.",
            usage.others_percent
        ));
    }
    notes
}

/// Which cases had more threads than cores, and which of them say little for that.
fn crowds(cases: &[Case], cores: usize) -> Vec<String> {
    let threads = cases.iter().map(|case| case.threads.count()).max();
    let crowded = threads.filter(|threads| *threads > cores);
    let mut notes: Vec<_> = crowded
        .map(|threads| format!("{threads} threads share {cores} cores: they take turns."))
        .into_iter()
        .collect();
    for case in cases {
        let in_the_way = case.threads.in_the_way();
        if in_the_way > 0 {
            notes.push(format!(
                "Not a valid comparison: {} ({}) has {in_the_way} spinning threads that never give way on cores that they share{}.",
                case.implementation,
                case.variant,
                if OWN.contains(&case.implementation) {
                    "; choose another --wait"
                } else {
                    ""
                }
            ));
        }
    }
    notes
}

/// Every run, the warm-up among them, must have computed the same.
fn row(case: &Case, warm_up: Sample, samples: &[Sample]) -> anyhow::Result<Row> {
    let checksum = warm_up.checksum;
    let figure = Spread::of(samples.iter().map(|sample| sample.value));
    let figure = figure.context("--repeat must be at least 1")?;
    if let Some(other) = samples.iter().find(|sample| sample.checksum != checksum) {
        bail!(
            "{} ({}): two runs computed different checksums, {checksum:x} and {:x}",
            case.implementation,
            case.variant,
            other.checksum
        );
    }
    if let Some(expected) = case.expected.as_ref().map(|expected| expected())
        && expected != checksum
    {
        bail!(
            "{} ({}) computed checksum {checksum:x}, and {expected:x} is right: items were lost, repeated or changed",
            case.implementation,
            case.variant
        );
    }
    Ok(Row {
        implementation: case.implementation.into(),
        variant: case.variant.clone(),
        median: figure.median,
        min: figure.min,
        max: figure.max,
        costs: costs(warm_up, samples),
        checksum,
        valid: case.threads.in_the_way() == 0,
    })
}

#[cfg(test)]
mod tests;
