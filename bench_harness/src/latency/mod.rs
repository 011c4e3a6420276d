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

use crate::measure::OURS;
use crate::options::{Options, Scale};

/// One distribution, in nanoseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// What was measured.
    pub path: String,
    /// Who was measured.
    #[serde(rename = "impl")]
    pub implementation: String,
    /// Messages per second on the schedule; zero means one after the other, there and back.
    pub rate: u64,
    /// Whether both sides shared a core.
    pub same_core: bool,
    /// Measurements.
    pub count: u64,
    /// Percentiles: name and nanoseconds.
    pub percentiles: Vec<(String, u64)>,
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
    fn new(path: &str, cores: Cores, rate: u64, histogram: &Histogram<u64>) -> Self {
        let mut percentiles: Vec<_> = NAMED
            .iter()
            .map(|(name, at)| ((*name).into(), histogram.value_at_percentile(*at)))
            .collect();
        percentiles.push(("max".into(), histogram.max()));
        let curve = (0..=20).map(|step| {
            let at = 100.0 * (1.0 - 0.5_f64.powf(f64::from(step) / 1.5));
            (at, histogram.value_at_percentile(at))
        });
        Self {
            path: path.into(),
            implementation: OURS.into(),
            rate,
            same_core: cores.shared(),
            count: histogram.len(),
            percentiles,
            curve: curve.collect(),
        }
    }

    /// Whether nothing of ours took part: what the machine itself needs.
    pub fn is_floor(&self) -> bool {
        self.implementation == MACHINE
    }

    /// What the machine itself needed for the same way on the same schedule, so open to the same disturbances.
    pub fn floor<'a>(&self, run: &'a [Self]) -> Option<&'a Self> {
        run.iter()
            .find(|row| row.is_floor() && row.same_core == self.same_core && row.rate == self.rate)
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

/// Every path that is measured: across cores, then on one core, where two sides take turns and yield to each other.
pub fn all(options: &Options) -> Vec<Latency> {
    let count = match options.scale {
        Scale::Full => 2_000_000,
        Scale::Quick => 200_000,
        Scale::Tiny => 500,
    };
    let (first, last) = (options.cores[0], options.cores[options.cores.len() - 1]);
    let across = Cores {
        near: last,
        far: first,
        workers: options.cores.len().saturating_sub(1).max(1),
    };
    let same = Cores {
        near: first,
        far: first,
        workers: 1,
    };
    let some = count.min(500_000);
    let few = count.min(100_000);
    let (often, seldom) = (100_000, 20_000);
    vec![
        machine::round_trip("bare cache-line round trip, two cores", across, count),
        rings::round_trip::<BusySpin>("ring round trip, two cores, busy spin", across, count),
        actors::round_trip("ask from a thread, two cores", across, some),
        machine::one_way("bare cache line one way, two cores", across, some, often),
        rings::one_way::<BusySpin>("ring one way, two cores, busy spin", across, some, often),
        actors::one_way("thread to actor, two cores", across, some, often),
        actors::to_actor("actor to actor, two pinned workers", across, some, often),
        machine::round_trip("bare cache-line round trip, same core", same, few),
        rings::round_trip::<SpinThenYield>("ring round trip, same core", same, few),
        actors::round_trip("ask from a thread, same core", same, few),
        machine::one_way("bare cache line one way, same core", same, few, seldom),
        rings::one_way::<SpinThenYield>("ring one way, same core", same, few, seldom),
        actors::one_way("thread to actor, same core", same, few, seldom),
    ]
}

/// Where the two sides run.
#[derive(Debug, Clone, Copy)]
struct Cores {
    /// The measuring side's core.
    near: usize,
    /// The other side's.
    far: usize,
    /// Workers of an actor system that a thread outside talks to, pinned from the first core on.
    workers: usize,
}

impl Cores {
    fn shared(self) -> bool {
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
pub fn render(all: &[Latency]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let _ = write!(text, "{:<52}", "latency (ns)");
    for (name, _) in all.first().map_or(&[][..], |first| &first.percentiles[..]) {
        let _ = write!(text, "{name:>10}");
    }
    text.push('\n');
    for latency in all {
        let _ = write!(text, "{:<52}", latency.path);
        for (_, value) in &latency.percentiles {
            let _ = write!(text, "{value:>10}");
        }
        let _ = match latency.rate {
            0 => writeln!(text, "  ({} one after the other)", latency.count),
            rate => writeln!(text, "  ({} at {rate}/s)", latency.count),
        };
    }
    text
}
