//! The regression gate: figures against a stored baseline, by ratios that survive a change of weather.
//!
//! Absolute figures drift with the machine, its neighbours and its clock. So each scenario is measured between two runs
//! of a calibration loop (plain arithmetic and memory traffic), and what is stored and compared is the quotient. A
//! percentile of a latency is held against the same percentile of a bare cache line that goes the same way on the same
//! schedule; bytes and counts are what they are. Noise is measured too, on both sides: a figure fails only when even the
//! best of its runs is below the worst run of the baseline by more than the threshold; a baseline's run counts as no
//! worse than [`WORST`] of its median.
#![forbid(unsafe_code)]

mod figure;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::latency;
use crate::machine::Machine;
use crate::measure::{OTHERS_PERCENT, OWN, measure};
use crate::options::Options;
use crate::scenario::Scenario;
use crate::usage::Usage;
pub use figure::{Figure, Reference};
use figure::{of_latencies, of_outcome};

/// A baseline file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Baseline {
    /// Commit it was taken at, if known.
    pub commit: Option<String>,
    /// Processor and cores that it was taken on.
    #[serde(default)]
    pub machine: Option<String>,
    /// Whether it was taken by a build without optimisation.
    #[serde(default)]
    pub debug: bool,
    /// The greatest share of the machine that others used meanwhile, in percent.
    #[serde(default)]
    pub others_percent: f64,
    /// What else was doubtful.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Per `scenario / variant`, and per `latency / path, percentile`.
    pub figures: BTreeMap<String, Figure>,
}

impl Baseline {
    /// Whether others used more of the machine than a baseline can bear.
    pub fn was_busy(&self) -> bool {
        self.others_percent > OTHERS_PERCENT
    }

    /// Of this machine and this build, without any figure.
    pub fn empty() -> Self {
        let machine = Machine::look();
        Self {
            machine: Some(format!("{}, {} cores", machine.cpu, machine.cores)),
            commit: Some(machine.commit.to_owned()),
            debug: cfg!(debug_assertions),
            ..Self::default()
        }
    }

    /// Why nobody should compare with it, if so.
    pub fn doubt(&self) -> Option<&'static str> {
        let is_dirty = |commit: &str| commit.ends_with("-dirty");
        if self.was_busy() {
            Some("the machine was busy: a baseline of now would excuse regressions")
        } else if self.debug {
            Some("this is a debug build: a baseline of it would excuse everything")
        } else if self.commit.as_deref().is_some_and(is_dirty) {
            Some(
                "this program was compiled from files that are in no commit: nobody could measure the same again",
            )
        } else {
            None
        }
    }

    /// Takes note of what was doubtful while a subject was measured.
    fn note(&mut self, subject: &str, usage: Usage, notes: &[String]) {
        self.others_percent = self.others_percent.max(usage.others_percent);
        for note in notes {
            // What holds for the machine as such is told once.
            let note = if self.notes.contains(note) || !note.contains("busy") {
                note.clone()
            } else {
                format!("{subject}: {note}")
            };
            self.note_once(note);
        }
    }

    fn note_once(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Takes the better of two looks at each figure, and note of what was doubtful in the second.
    fn better_of(&mut self, second: Self) {
        for (name, figure) in second.figures {
            let known = self.figures.entry(name).or_insert(figure);
            known.median = known.median.max(figure.median);
            known.best = known.best.max(figure.best);
        }
        self.others_percent = self.others_percent.max(second.others_percent);
        second
            .notes
            .into_iter()
            .for_each(|note| self.note_once(note));
    }
}

/// What is measured unless something else is asked for: scenarios of every part that are steady enough, the memory of all
/// that there are many of, and what is written for a blob.
pub const SUBJECTS: [&str; 22] = [
    "spsc",
    "mpsc",
    "mpmc",
    "multicast",
    "tell",
    "tell_batch",
    "ask",
    "ping_pong",
    "big",
    "pool_submit",
    "idle_memory",
    "store_put",
    "store_get",
    "store_contains",
    "store_memory",
    "find_missing",
    "http_get",
    "transpile",
    "isolate_call",
    "build_noop",
    "graph_memory",
    "latency",
];

/// What the gate can measure.
#[derive(Clone, Copy)]
pub enum Subject {
    /// Ours in a scenario.
    Scenario(&'static Scenario),
    /// Every path of [`latency::run`].
    Latency,
}

impl Subject {
    /// The name that its figures begin with, which is also its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scenario(scenario) => scenario.name,
            Self::Latency => "latency",
        }
    }
}

/// What became of a figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// As in [`Baseline::figures`].
    pub name: String,
    /// What it is relative to.
    pub reference: Reference,
    /// Change of the median in percent; negative is worse.
    pub change_percent: f64,
    /// How much worse every run would have to be than when the baseline was taken for this to be a regression, in percent.
    pub fails_below_percent: f64,
    /// False where that is more than [`GATED_UP_TO_PERCENT`]: such a figure is told, and nothing follows from it.
    pub gated: bool,
    /// Gated, and worse than the threshold allows, noise considered.
    pub regressed: bool,
}

/// Millions of steps per second of a loop of arithmetic and memory traffic.
fn calibrate() -> f64 {
    let mut table = vec![0_u64; 1 << 14];
    let steps = 2_000_000_u64;
    let began = Instant::now();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..steps {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let place = &mut table[(state >> 50) as usize];
        *place = place.wrapping_add(state);
    }
    black_box(&table);
    steps as f64 / began.elapsed().as_secs_f64() / 1e6
}

/// Rounds that a subject of a baseline gets to find the machine at rest.
const QUIET_LOOKS: usize = 4;

/// Measures ours in these subjects, each relative to what the machine itself does around it, and again where others
/// disturbed it.
///
/// # Errors
/// When a scenario fails.
pub fn take(subjects: &[Subject], options: &Options) -> anyhow::Result<Baseline> {
    let mut baseline = Baseline::empty();
    for subject in subjects {
        let quiet = at_rest(|| take_by(calibrate, &[*subject], options))?;
        baseline.better_of(quiet);
    }
    Ok(baseline)
}

/// The first of several looks that nobody disturbed, else the last.
fn at_rest(mut look: impl FnMut() -> anyhow::Result<Baseline>) -> anyhow::Result<Baseline> {
    let mut seen = look()?;
    for _ in 1..QUIET_LOOKS {
        if !seen.was_busy() {
            break;
        }
        seen = look()?;
    }
    Ok(seen)
}

/// The same by another measure of the machine's speed.
fn take_by(
    speed: fn() -> f64,
    subjects: &[Subject],
    options: &Options,
) -> anyhow::Result<Baseline> {
    let mut baseline = Baseline::empty();
    let options = Options {
        only: OWN.map(String::from).to_vec(),
        peers: false,
        ..options.clone()
    };
    for subject in subjects {
        match subject {
            Subject::Scenario(scenario) => {
                let before = speed();
                let outcome = measure(scenario, &options)?;
                let speed = f64::midpoint(before, speed());
                baseline
                    .figures
                    .extend(of_outcome(scenario, &outcome, speed));
                baseline.note(scenario.name, outcome.usage, &outcome.notes);
            }
            Subject::Latency => {
                let mut runs = Vec::new();
                for _ in 0..options.repeat {
                    let run = latency::run(&options, 1);
                    baseline.note(subject.name(), run.usage, &run.notes);
                    runs.push(run.paths);
                }
                baseline.figures.extend(of_latencies(&runs));
            }
        }
    }
    Ok(baseline)
}

/// One bad run of a baseline must not excuse everything: this part of the median is as bad as one counts.
const WORST: f64 = 0.7;

/// A figure that scatters so much that a change for the worse of less than this would pass holds nothing back: it is only told.
pub const GATED_UP_TO_PERCENT: f64 = 50.0;

/// Compares new figures with a baseline; those that either lacks are left out.
pub fn compare(baseline: &Baseline, now: &Baseline, threshold_percent: f64) -> Vec<Finding> {
    let factor = 1.0 - threshold_percent / 100.0;
    now.figures
        .iter()
        .filter_map(|(name, now)| {
            let then = baseline.figures.get(name)?;
            let worst = then.worst.max(then.median * WORST);
            // All runs worse by the same part: the median and the best of them must both have fallen below.
            let fails_below = (factor * worst / then.best).min(factor);
            let fails_below_percent = 100.0 * (1.0 - fails_below);
            let gated = fails_below_percent <= GATED_UP_TO_PERCENT;
            let worse = now.median < then.median * factor && now.best < worst * factor;
            Some(Finding {
                name: name.clone(),
                reference: now.reference,
                change_percent: 100.0 * (now.median / then.median - 1.0),
                fails_below_percent,
                gated,
                regressed: gated && worse,
            })
        })
        .collect()
}

/// Rounds that a figure gets to show that it was the machine's mood.
const SECOND_LOOKS: usize = 2;

/// What the gate found.
#[derive(Debug, Clone)]
pub struct Checked {
    /// One for every figure that both sides have.
    pub findings: Vec<Finding>,
    /// Figures of now that nothing can be held against.
    pub not_in_baseline: Vec<String>,
    /// Figures of the baseline's, of the same subjects, that nobody measured now.
    pub not_measured: Vec<String>,
    /// What was doubtful now.
    pub notes: Vec<String>,
}

/// Measures the subjects against a baseline. What looks worse is measured again, and the best of all rounds counts: a
/// disturbance passes, a regression stays.
///
/// # Errors
/// When a scenario fails.
pub fn check(
    baseline: &Baseline,
    subjects: &[Subject],
    options: &Options,
    threshold_percent: f64,
) -> anyhow::Result<Checked> {
    check_by(calibrate, baseline, subjects, options, threshold_percent)
}

/// The same by another measure of the machine's speed.
fn check_by(
    speed: fn() -> f64,
    baseline: &Baseline,
    subjects: &[Subject],
    options: &Options,
    threshold_percent: f64,
) -> anyhow::Result<Checked> {
    let mut now = take_by(speed, subjects, options)?;
    for _ in 0..SECOND_LOOKS {
        let findings = compare(baseline, &now, threshold_percent);
        let worse = |subject: &&Subject| {
            let prefix = format!("{} / ", subject.name());
            let mut of_it = findings.iter().filter(|it| it.name.starts_with(&prefix));
            of_it.any(|finding| finding.regressed)
        };
        let again: Vec<Subject> = subjects.iter().filter(worse).copied().collect();
        if again.is_empty() {
            break;
        }
        now.better_of(take_by(speed, &again, options)?);
    }
    let of_these = |name: &&String| {
        let mut names = subjects.iter().map(|it| format!("{} / ", it.name()));
        names.any(|prefix| name.starts_with(&prefix))
    };
    let lacks = |all: &BTreeMap<String, Figure>, other: &BTreeMap<String, Figure>| {
        let missing = all.keys().filter(|name| !other.contains_key(*name));
        missing.filter(of_these).cloned().collect()
    };
    Ok(Checked {
        findings: compare(baseline, &now, threshold_percent),
        not_in_baseline: lacks(&now.figures, &baseline.figures),
        not_measured: lacks(&baseline.figures, &now.figures),
        notes: now.notes,
    })
}

/// Reads a baseline file.
///
/// # Errors
/// When it is not there or not a baseline.
pub fn read(path: &std::path::Path) -> anyhow::Result<Baseline> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "no baseline at {}; make one with `check --baseline … --update`",
            path.display()
        )
    })?;
    serde_json::from_str(&text).with_context(|| {
        format!(
            "{} is no baseline of this version; renew it with --update",
            path.display()
        )
    })
}

/// Writes a baseline file.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &std::path::Path, baseline: &Baseline) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(baseline)?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests;
