//! How far a build is: how long the rest is expected to take.
//!
//! Owns the sums over steps that have not ended. Does not know which of them wait for which: the
//! longest chain is the scheduler's.
//! Invariant: a step that never ran counts as much as those of this build did on average.

/// Sums over the steps of a build.
#[derive(Debug)]
pub struct Progress {
    /// What each took when it last ran, µs.
    cost_us: Vec<Option<u64>>,
    jobs: u64,
    /// Of steps that have not ended and ran before.
    left_us: u64,
    /// Steps that have not ended and never ran before.
    unknown: u64,
    /// Of steps that ran in this build.
    ran_us: u64,
    ran: u64,
}

impl Progress {
    /// No steps yet.
    pub fn new(jobs: usize) -> Self {
        Self {
            cost_us: Vec::new(),
            jobs: jobs.max(1) as u64,
            left_us: 0,
            unknown: 0,
            ran_us: 0,
            ran: 0,
        }
    }

    /// One step more, which took so long when it last ran.
    pub fn add(&mut self, cost_us: Option<u64>) {
        match cost_us {
            Some(cost) => self.left_us += cost,
            None => self.unknown += 1,
        }
        self.cost_us.push(cost_us);
    }

    /// A step has ended, having run for `took_us` if it did run.
    pub fn ended(&mut self, step: u32, took_us: Option<u64>) {
        match self.cost_us[step as usize] {
            Some(cost) => self.left_us -= cost,
            None => self.unknown -= 1,
        }
        if let Some(took) = took_us {
            self.ran_us += took;
            self.ran += 1;
        }
    }

    /// Time to the end of the build, µs, when its longest chain takes `chain_us` more; `None` while
    /// nothing is known about new steps.
    pub fn left_us(&self, chain_us: u64) -> Option<u64> {
        let new = match (self.unknown, self.ran) {
            (0, _) => 0,
            (_, 0) => return None,
            (unknown, ran) => unknown * (self.ran_us / ran),
        };
        Some(chain_us.max((self.left_us + new) / self.jobs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(costs: &[Option<u64>], jobs: usize) -> Progress {
        let mut progress = Progress::new(jobs);
        costs.iter().for_each(|cost| progress.add(*cost));
        progress
    }

    #[test]
    fn the_rest_is_shared_among_jobs_but_never_shorter_than_the_longest_chain() {
        let mut progress = progress(&[Some(10), Some(20), Some(30)], 2);
        assert_eq!(progress.left_us(20), Some(30));
        assert_eq!(progress.left_us(45), Some(45));
        progress.ended(1, Some(7));
        assert_eq!(progress.left_us(0), Some(20));
    }

    #[test]
    fn new_steps_are_taken_for_average_ones() {
        let mut progress = progress(&[None, None, None], 1);
        assert_eq!(progress.left_us(0), None);
        progress.ended(0, Some(8));
        assert_eq!(progress.left_us(0), Some(16));
        progress.ended(1, None);
        progress.ended(2, Some(1));
        assert_eq!(progress.left_us(0), Some(0));
    }
}
