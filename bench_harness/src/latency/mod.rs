//! Latency, corrected for coordinated omission: messages are due on a fixed schedule, and an answer's delay counts from
//! when its question was due, not from when a stalled sender got round to it.
//!
//! Owns: the paths, their schedule, and what is kept of their delays.
//! Does not know: how a message travels (see `machine`, `rings`, `actors`).
#![forbid(unsafe_code)]

mod actors;
mod machine;
mod rings;

use std::thread;
use std::time::{Duration, Instant};

use actor_rt::ring::{BusySpin, SpinThenYield};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::machine::Machine;
use crate::measure::{OURS, doubts};
use crate::options::{Options, Scale};
use crate::scenario::workers_and_outside;
use crate::usage::{Mark, Usage};

/// How far a delay reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// From when a message was due until it was there.
    OneWay,
    /// From when a question was due until its answer was back.
    RoundTrip,
}

/// What one run of all paths found.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// Where it was measured.
    pub machine: Machine,
    /// What the run used of the machine.
    pub usage: Usage,
    /// What a reader must know of it.
    pub notes: Vec<String>,
    /// One distribution for each path.
    pub paths: Vec<Latency>,
}

/// One distribution, in nanoseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// What was measured.
    pub path: String,
    /// Who was measured.
    #[serde(rename = "impl")]
    pub implementation: String,
    /// Whether the delay is that of a message or of a question and its answer.
    pub way: Way,
    /// Messages, or questions, per second on the schedule.
    pub rate: u64,
    /// Whether both sides shared a core.
    pub same_core: bool,
    /// Measurements.
    pub count: u64,
    /// Percentiles: name and nanoseconds, the median over the rounds.
    pub percentiles: Vec<(String, u64)>,
    /// The least and the greatest 99th percentile of a round, in nanoseconds.
    pub p99_range: (u64, u64),
    /// For a curve: percentile and nanoseconds, finer towards the end.
    pub curve: Vec<(f64, u64)>,
}

/// Who is measured where nothing of ours takes part.
pub(crate) const MACHINE: &str = "machine";

const NAMED: [(&str, f64); 5] = [
    ("p50", 50.0),
    ("p90", 90.0),
    ("p99", 99.0),
    ("p99.9", 99.9),
    ("p99.99", 99.99),
];

impl Latency {
    fn new(path: &str, way: Way, cores: &Cores, rate: u64, histogram: &Histogram<u64>) -> Self {
        let mut percentiles: Vec<_> = NAMED
            .iter()
            .map(|(name, at)| ((*name).into(), histogram.value_at_percentile(*at)))
            .collect();
        percentiles.push(("max".into(), histogram.max()));
        let p99 = histogram.value_at_percentile(99.0);
        let curve = (0..=20).map(|step| {
            let at = 100.0 * (1.0 - 0.5_f64.powf(f64::from(step) / 1.5));
            (at, histogram.value_at_percentile(at))
        });
        Self {
            path: path.into(),
            implementation: OURS.into(),
            way,
            rate,
            same_core: cores.shared(),
            count: histogram.len(),
            percentiles,
            p99_range: (p99, p99),
            curve: curve.collect(),
        }
    }

    /// One path of several rounds: medians of each percentile, so that a round that was disturbed counts as one.
    fn of_rounds(rounds: &[&Self]) -> Self {
        let mut all = rounds[0].clone();
        let median = |values: &mut dyn Iterator<Item = u64>| {
            let mut values: Vec<u64> = values.collect();
            values.sort_unstable();
            values[values.len() / 2]
        };
        for (at, (_, nanos)) in all.percentiles.iter_mut().enumerate() {
            *nanos = median(&mut rounds.iter().map(|round| round.percentiles[at].1));
        }
        for (at, (_, nanos)) in all.curve.iter_mut().enumerate() {
            *nanos = median(&mut rounds.iter().map(|round| round.curve[at].1));
        }
        let (least, greatest): (Vec<u64>, Vec<u64>) =
            rounds.iter().map(|round| round.p99_range).unzip();
        all.p99_range = (
            least.into_iter().min().unwrap_or_default(),
            greatest.into_iter().max().unwrap_or_default(),
        );
        all.count = rounds.iter().map(|round| round.count).sum();
        all
    }

    /// Whether nothing of ours took part: what the machine itself needs.
    pub fn is_floor(&self) -> bool {
        self.implementation == MACHINE
    }

    /// What the machine itself needed for the same way on the same schedule, so open to the same disturbances.
    pub fn floor<'a>(&self, run: &'a [Self]) -> Option<&'a Self> {
        let way = |row: &Self| (row.way, row.same_core, row.rate);
        run.iter()
            .find(|row| row.is_floor() && way(row) == way(self))
    }

    /// How many times as long as the machine itself this took, by the name of a percentile; none for the machine.
    pub fn floor_ratio(&self, run: &[Self], percentile: &str) -> Option<f64> {
        let floor = self.floor(run).filter(|_| !self.is_floor())?;
        Some(self.percentile(percentile) / floor.percentile(percentile))
    }

    /// Nanoseconds, by the name of the percentile as it is printed; not a number for one that is not.
    pub fn percentile(&self, name: &str) -> f64 {
        let named = self.percentiles.iter().find(|(known, _)| known == name);
        named.map_or(f64::NAN, |(_, nanos)| *nanos as f64)
    }
}

fn histogram() -> Histogram<u64> {
    // Up to a minute; without a bound the histogram would refuse what it did not foresee.
    Histogram::new_with_max(60_000_000_000, 3).expect("three digits are allowed")
}

fn record(histogram: &mut Histogram<u64>, delay: Duration) {
    histogram.saturating_record(delay.as_nanos().min(u128::from(u64::MAX)) as u64);
}

/// Every path in each of `rounds`, so that a path and the bare line beside it see the same disturbances, and what is
/// to be known of the machine meanwhile.
pub fn run(options: &Options, rounds: usize) -> Run {
    let (machine, mark) = (Machine::look(), Mark::begin());
    let rounds: Vec<_> = (0..rounds.max(1)).map(|_| all(options)).collect();
    let paths = (0..rounds[0].len())
        .map(|path| {
            Latency::of_rounds(&rounds.iter().map(|round| &round[path]).collect::<Vec<_>>())
        })
        .collect();
    let usage = mark.until_now();
    let mut notes = doubts(&machine, usage);
    if options.cores.len() == 1 {
        notes.push("One core: the paths between two were not measured.".into());
    }
    Run {
        notes,
        machine,
        usage,
        paths,
    }
}

/// Every path: across cores, if there are two, then on one core, where two sides take turns and yield to each other.
fn all(options: &Options) -> Vec<Latency> {
    let count = match options.scale {
        Scale::Full => 500_000,
        Scale::Quick => 100_000,
        Scale::Tiny => 500,
    };
    let mut paths = Vec::new();
    let (workers, near) = workers_and_outside(options);
    if options.cores.len() > 1 {
        let far = workers[0];
        paths.extend(across(&Cores { near, far, workers }, count));
    }
    let first = options.cores[0];
    let same = Cores {
        near: first,
        far: first,
        workers: vec![first],
    };
    paths.extend(on_one(&same, count / 5));
    paths
}

/// Per second across cores: so often that a worker of ours waits for the next message and does not sleep.
const OFTEN: u64 = 100_000;
/// Per second on one core, where every message takes a change of threads.
const SELDOM: u64 = 20_000;

fn across(cores: &Cores, count: u64) -> Vec<Latency> {
    vec![
        machine::round_trip("bare cache-line round trip, two cores", cores, count, OFTEN),
        rings::round_trip::<BusySpin>("ring round trip, two cores, busy spin", cores, count, OFTEN),
        actors::round_trip("ask from a thread, two cores", cores, count, OFTEN),
        machine::one_way("bare cache line one way, two cores", cores, count, OFTEN),
        rings::one_way::<BusySpin>("ring one way, two cores, busy spin", cores, count, OFTEN),
        actors::one_way("thread to actor, two cores", cores, count, OFTEN),
        actors::to_actor("actor to actor, two pinned workers", cores, count, OFTEN),
    ]
}

fn on_one(core: &Cores, count: u64) -> Vec<Latency> {
    vec![
        machine::round_trip("bare cache-line round trip, same core", core, count, SELDOM),
        rings::round_trip::<SpinThenYield>("ring round trip, same core", core, count, SELDOM),
        actors::round_trip("ask from a thread, same core", core, count, SELDOM),
        machine::one_way("bare cache line one way, same core", core, count, SELDOM),
        rings::one_way::<SpinThenYield>("ring one way, same core", core, count, SELDOM),
        actors::one_way("thread to actor, same core", core, count, SELDOM),
    ]
}

/// Where the two sides run.
#[derive(Debug, Clone)]
struct Cores {
    /// The measuring side's core.
    near: usize,
    /// The other side's.
    far: usize,
    /// The workers' cores of an actor system that a thread outside talks to.
    workers: Vec<usize>,
}

impl Cores {
    fn shared(&self) -> bool {
        self.near == self.far
    }
}

/// The first tenth warms up and is not recorded.
fn warm_up(count: u64) -> u64 {
    count / 10
}

/// Waits for the time that the message number `number` is due; on a shared core it lets the other side run meanwhile.
fn due(began: Instant, number: u64, rate: u64, shared: bool) -> Instant {
    let due = began + Duration::from_nanos(number * 1_000_000_000 / rate);
    while Instant::now() < due {
        if shared {
            thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
    due
}

/// A table for people.
pub fn render(run: &Run) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let _ = write!(text, "{:<52}", "latency (ns)");
    for (name, _) in run
        .paths
        .first()
        .map_or(&[][..], |first| &first.percentiles[..])
    {
        let _ = write!(text, "{name:>10}");
    }
    text.push('\n');
    for latency in &run.paths {
        let _ = write!(text, "{:<52}", latency.path);
        for (_, value) in &latency.percentiles {
            let _ = write!(text, "{value:>10}");
        }
        let _ = write!(text, "  ({} at {}/s", latency.count, latency.rate);
        if latency.p99_range.0 < latency.p99_range.1 {
            let (least, greatest) = latency.p99_range;
            let _ = write!(text, "; p99 of a round {least} to {greatest}");
        }
        for name in ["p50", "p99"] {
            if let Some(ratio) = latency.floor_ratio(&run.paths, name) {
                let _ = write!(text, "; {name} {ratio:.2} × the bare line's");
            }
        }
        text.push_str(")\n");
    }
    for note in &run.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_that_was_disturbed_does_not_decide() {
        let rounds = [100, 9_000, 120].map(|nanos| {
            let mut histogram = histogram();
            histogram.record(nanos).unwrap();
            let cores = Cores {
                near: 1,
                far: 0,
                workers: vec![0],
            };
            Latency::new("a path", Way::OneWay, &cores, OFTEN, &histogram)
        });
        let all = Latency::of_rounds(&rounds.each_ref());
        assert_eq!(all.count, 3);
        for (name, nanos) in &all.percentiles {
            assert_eq!(*nanos, 120, "{name}");
        }
        assert_eq!(all.p99_range.0, 100);
        assert!((9_000..9_010).contains(&all.p99_range.1));
    }
}
