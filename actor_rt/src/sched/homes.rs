//! Which worker an actor belongs to that is placed on a NUMA node.
//!
//! Owns: how many placed actors each worker has.
//! Does not know: actors that run anywhere; whoever is free takes them, so that their load spreads by itself.

use crate::sync::{AtomicUsize, Ordering};

pub(super) struct Homes(Box<[AtomicUsize]>);

impl Homes {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| AtomicUsize::new(0)).collect())
    }

    /// The candidate with the least to do: as many placed actors as it has, and so many of them as `waiting` says
    /// once more. Whoever asks at the same time may get the same answer, which the next ones make up for.
    pub(super) fn least_loaded(
        &self,
        candidates: impl Iterator<Item = usize>,
        waiting: impl Fn(usize) -> usize,
    ) -> Option<usize> {
        candidates.min_by_key(|&worker| self.0[worker].load(Ordering::Relaxed) + waiting(worker))
    }

    /// An actor was made; a simulation, which has no workers, has no homes.
    pub(super) fn enter(&self, worker: u16) {
        if let Some(count) = self.0.get(usize::from(worker)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It has ended.
    pub(super) fn leave(&self, worker: u16) {
        if let Some(count) = self.0.get(usize::from(worker)) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_least_is_next_and_what_waits_counts_once_more() {
        let homes = Homes::new(3);
        homes.enter(0);
        homes.enter(0);
        homes.enter(1);
        assert_eq!(homes.least_loaded(0..3, |_| 0), Some(2));
        assert_eq!(homes.least_loaded(0..2, |_| 0), Some(1));
        // One that has nothing to do weighs less than one that waits.
        let waiting = |worker| if worker == 1 { 2 } else { 0 };
        assert_eq!(homes.least_loaded(0..2, waiting), Some(0));
        homes.leave(0);
        homes.leave(0);
        assert_eq!(homes.least_loaded(0..3, |_| 0), Some(0));
        assert_eq!(homes.least_loaded(0..0, |_| 0), None);
    }
}
