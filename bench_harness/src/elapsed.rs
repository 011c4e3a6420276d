//! What a stretch of work took: its time, and what it cost beside.
//!
//! Owns: the counters around a stretch. Does not know: how much was done in it.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::{alloc_count, usage};

/// What work costs beside time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cost {
    /// Processor time of this process, all its threads together. Threads that spin while they wait use it all.
    CpuMicroseconds,
    /// What this process caused to be written to storage, in whole pages.
    WrittenBytes,
    /// Calls of the allocator, while [`alloc_count`] counts them.
    Allocations,
}

impl Cost {
    /// Every cost, in the order of [`Costs`].
    pub const ALL: [Self; 3] = [Self::CpuMicroseconds, Self::WrittenBytes, Self::Allocations];

    /// As printed.
    pub fn label(self) -> &'static str {
        match self {
            Self::CpuMicroseconds => "µs of CPU",
            Self::WrittenBytes => "bytes written",
            Self::Allocations => "allocations",
        }
    }
}

/// One number for each of [`Cost::ALL`]; none where nobody counted.
pub type Costs = [Option<f64>; Cost::ALL.len()];

/// What a stretch of work took.
#[derive(Debug, Clone, Copy)]
pub struct Elapsed {
    /// From its beginning to its end.
    pub time: Duration,
    /// What it cost in all.
    pub costs: Costs,
}

impl From<Duration> for Elapsed {
    /// A time of which nothing else is known.
    fn from(time: Duration) -> Self {
        let costs = Costs::default();
        Self { time, costs }
    }
}

/// The counters at the beginning of a stretch.
#[derive(Debug, Clone, Copy)]
pub struct Counters(Costs);

impl Counters {
    /// As they are now.
    pub fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self([
            Some(cpu.tv_sec as f64 * 1e6 + cpu.tv_nsec as f64 / 1e3),
            usage::written_bytes().map(|bytes| bytes as f64),
            alloc_count::so_far().map(|count| count as f64),
        ])
    }

    /// What was added since then.
    pub fn until_now(self) -> Costs {
        let now = Self::now().0;
        std::array::from_fn(|cost| Some(now[cost]? - self.0[cost]?))
    }
}

/// What `body` takes, and what it computes.
pub fn timed<T>(body: impl FnOnce() -> T) -> (Elapsed, T) {
    let counters = Counters::now();
    let began = Instant::now();
    let value = body();
    let time = began.elapsed();
    let costs = counters.until_now();
    (Elapsed { time, costs }, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stretch_costs_is_counted_from_its_beginning() {
        let burn = |microseconds| {
            let began = Counters::now();
            while began.until_now()[0] < Some(microseconds) {}
        };
        burn(1_000.0);
        let (elapsed, ()) = timed(|| burn(2_000.0));
        // Threads of other tests count, too.
        assert!(elapsed.costs[0] >= Some(2_000.0), "{elapsed:?}");
        // Nobody counts allocations here.
        assert_eq!(elapsed.costs[2], None);
        assert_eq!(Elapsed::from(elapsed.time).costs, [None; 3]);
    }
}
