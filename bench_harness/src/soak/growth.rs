//! Whether memory grows, by exact counts at rest.
//!
//! Rules:
//! 1. Counted is what is in use: what the counting allocator knows to be allocated and not freed, and the blocks of the
//!    runtime's slabs that are not kept for reuse. Resident memory comes in pages that allocators keep, and proves nothing.
//!    It is sampled beside it all the same: what nobody counts shows there, and nowhere else.
//! 2. A sample is taken at rest after every round. Something may still be on its way back then; so the time is cut into
//!    [`WINDOWS`] windows, and the least of each counts.
//! 3. A leak is there in window after window. Something that was needed for the first time ever (a larger queue on a busy
//!    machine) is there in one, and stays. So growth is the median of the steps from window to window, and its bounds are
//!    the steps of rank [`RANK`] from below and from above: an interval for the median that holds in 99 % of all cases,
//!    whatever the distribution (Conover, Practical Nonparametric Statistics, chapter 3).
#![forbid(unsafe_code)]

use serde::Serialize;

/// Parts that the time is cut into.
const WINDOWS: usize = 16;
/// The lower bound is the third of the fifteen steps: at most two steps are smaller, which has a probability of 121 in 32,768
/// if half of all steps are; the same from above.
const RANK: usize = 3;
/// Samples that a window has at least, so that one is at rest.
const SAMPLES: usize = 3;

/// What is in use at a moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    pub second: f64,
    /// But for a constant.
    pub in_use_bytes: i64,
    /// Of the whole process.
    pub resident_bytes: i64,
}

/// How what is in use grows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Growth {
    /// From the first window to the last, in bytes.
    pub bytes: i64,
    /// KiB per hour: the median of the steps, and what it is at least and at most.
    pub kib_per_hour: f64,
    /// At least.
    pub at_least: f64,
    /// At most.
    pub at_most: f64,
}

impl Growth {
    /// Of some bytes of samples in the order of time; `None` if they are too few to say anything.
    pub(super) fn of(samples: &[Sample], bytes: fn(&Sample) -> i64) -> Option<Self> {
        if samples.len() < WINDOWS * SAMPLES {
            return None;
        }
        let window = samples.len() / WINDOWS;
        // What does not fill a window is left out at the beginning, where warm-up was.
        let samples = &samples[samples.len() % WINDOWS..];
        let least: Vec<i64> = samples
            .chunks(window)
            .filter_map(|window| window.iter().map(bytes).min())
            .collect();
        let seconds = samples[samples.len() - 1].second - samples[0].second;
        let hours = seconds.max(1e-3) / WINDOWS as f64 / 3600.0;
        let mut steps: Vec<i64> = least.windows(2).map(|pair| pair[1] - pair[0]).collect();
        steps.sort_unstable();
        let rate = |step: i64| step as f64 / 1024.0 / hours;
        Some(Self {
            bytes: least[WINDOWS - 1] - least[0],
            kib_per_hour: rate(steps[steps.len() / 2]),
            at_least: rate(steps[RANK - 1]),
            at_most: rate(steps[steps.len() - RANK]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten samples a second, and what is in use at each.
    fn grown(count: u32, in_use: impl Fn(u32) -> i64) -> Growth {
        let sample = |n| Sample {
            second: f64::from(n) / 10.0,
            in_use_bytes: in_use(n),
            ..Sample::default()
        };
        let samples: Vec<Sample> = (0..count).map(sample).collect();
        Growth::of(&samples, |it| it.in_use_bytes).expect("enough")
    }

    #[test]
    fn a_leak_is_certain_and_its_rate_is_known() {
        // 64 bytes a second are 225 KiB an hour.
        let growth = grown(1600, |n| i64::from(n / 10) * 64);
        assert!((growth.kib_per_hour - 225.0).abs() < 3.0, "{growth:?}");
        assert!(
            growth.at_least > 200.0 && growth.at_most < 250.0,
            "{growth:?}"
        );
    }

    #[test]
    fn what_is_needed_once_is_no_leak() {
        let growth = grown(1600, |n| if n > 700 { 4096 } else { 0 });
        assert_eq!(
            (growth.bytes, growth.at_least, growth.at_most),
            (4096, 0.0, 0.0)
        );
    }

    #[test]
    fn what_is_on_its_way_back_does_not_count() {
        let growth = grown(480, |n| i64::from(n % 7) * 1000);
        assert_eq!(
            (growth.bytes, growth.at_least, growth.at_most),
            (0, 0.0, 0.0)
        );
    }

    #[test]
    fn growth_now_and_then_is_not_certain() {
        let growth = grown(1600, |n| i64::from(n / 320) * 100);
        assert!(growth.at_least < 1.0 && growth.at_most > 1.0, "{growth:?}");
    }

    #[test]
    fn few_samples_say_nothing() {
        let of = |samples: &[Sample]| Growth::of(samples, |it| it.in_use_bytes);
        let sample = Sample::default();
        assert_eq!(of(&[sample; WINDOWS * SAMPLES - 1]), None);
        assert!(of(&[sample; WINDOWS * SAMPLES]).is_some());
    }
}
