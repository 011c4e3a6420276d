//! Histograms of durations and what is told of them.
//!
//! Owns: [`Latencies`], [`Percentiles`], and the histograms behind them: HDR histograms of nanoseconds up to
//! an hour, within 6 %. Does not know: what is measured, and when.

use hdrhistogram::Histogram;
use std::fmt;
use std::time::Duration;

/// The longest time that is told apart, in ns: an hour.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// What a duration is one of.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Wait,
    Handling,
    Lifetime,
}

/// The histograms of one actor, or of many.
pub(crate) struct Totals([Histogram<u32>; 3]);

impl Default for Totals {
    fn default() -> Self {
        let empty = || match Histogram::new_with_bounds(1, LONGEST_NS, 1) {
            Ok(histogram) => histogram,
            Err(error) => unreachable!("the bounds are constants: {error}"),
        };
        Self([empty(), empty(), empty()])
    }
}

impl Totals {
    /// Allocates nothing.
    pub(super) fn record(&mut self, kind: Kind, ns: u64) {
        self.0[kind as usize].saturating_record(ns.max(1));
    }

    /// Adds what another one has of these kinds.
    pub(super) fn add(&mut self, other: &Self, kinds: &[Kind]) {
        for &kind in kinds {
            let added = self.0[kind as usize].add(&other.0[kind as usize]);
            debug_assert!(added.is_ok(), "all have the same bounds");
        }
    }

    pub(crate) fn latencies(&self) -> Latencies {
        let of = |kind: Kind| Percentiles::of(&self.0[kind as usize]);
        Latencies {
            wait: of(Kind::Wait),
            handling: of(Kind::Handling),
            lifetime: of(Kind::Lifetime),
        }
    }
}

/// Latencies of a metered actor, see [`ActorRef::latencies`](crate::ActorRef::latencies), or of all metered
/// actors of a system, see [`System::latencies`](crate::System::latencies). They are samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latencies {
    /// Between telling and handling: of the first message of each busy period, and of the last one of a
    /// mailbox that is not empty.
    pub wait: Percentiles,
    /// In the handler: of every sixteenth message, or every one of an asynchronous actor, awaiting included.
    pub handling: Percentiles,
    /// From an actor's start to its end: of the metered children of the actor, or of all of the system.
    pub lifetime: Percentiles,
}

/// Durations, from the shortest to the longest: half of them are at most `p50`, and so on. Zero if there is
/// none; else within 6 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// The median.
    pub p50: Duration,
    /// Nine in ten are at most this.
    pub p90: Duration,
    /// 99 in a hundred are at most this.
    pub p99: Duration,
    /// 999 in a thousand are at most this.
    pub p999: Duration,
    /// The longest.
    pub max: Duration,
}

impl Percentiles {
    fn of(histogram: &Histogram<u32>) -> Self {
        let at = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: Duration::from_nanos(histogram.max()),
        }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50={:.1?} p99={:.1?} max={:.1?}",
            self.p50, self.p99, self.max
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_near_the_truth_and_sums_are_as_good() {
        let (mut low, mut high) = (Totals::default(), Totals::default());
        for us in 1..=1000_u64 {
            let half = if us <= 500 { &mut low } else { &mut high };
            half.record(Kind::Wait, us * 1000);
        }
        low.add(&high, &[Kind::Wait]);
        let wait = low.latencies().wait;
        assert_eq!(wait.count, 1000);
        for (seen, true_us) in [(wait.p50, 500.0), (wait.p99, 990.0), (wait.max, 1000.0)] {
            let off = seen.as_secs_f64() * 1e6 / true_us;
            assert!((0.94..1.07).contains(&off), "{seen:?} for {true_us} µs");
        }
        assert_eq!(low.latencies().handling, Percentiles::default());
    }

    #[test]
    fn what_is_longer_than_an_hour_counts_as_an_hour() {
        let mut totals = Totals::default();
        totals.record(Kind::Lifetime, u64::MAX);
        let longest = totals.latencies().lifetime.max;
        assert!(longest >= Duration::from_nanos(LONGEST_NS), "{longest:?}");
    }
}
