//! Sleeping workers and how they are woken.
//!
//! Owns: who sleeps, how many search for work.
//! Does not know: the queues.
//! Invariant: a worker's bit is set only by itself, before its last look for work; whoever clears it
//! owes it a wake-up, and counts it as searching. Loom checks it: `models.rs`. `asleep` is no part of this: a worker counts
//! before its bit is set and until after it is cleared, for a moment twice if it lies down again before its waker has counted
//! it out. So `asleep` is never too small for those whose bit is set, but all may seem asleep while one works.

use super::Worker;
use crate::sync::{AtomicU64, AtomicUsize, Ordering, fence};
use crossbeam_utils::CachePadded;

pub(super) struct Sleepers {
    bits: Box<[AtomicU64]>,
    searching: CachePadded<AtomicUsize>,
    asleep: AtomicUsize,
    /// Sleepers that get up now and then to look for stuck workers.
    watching: AtomicUsize,
}

impl Sleepers {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            bits: (0..workers.div_ceil(64))
                .map(|_| AtomicU64::new(0))
                .collect(),
            searching: CachePadded::new(AtomicUsize::new(0)),
            asleep: AtomicUsize::new(0),
            watching: AtomicUsize::new(0),
        }
    }

    fn bit(&self, index: usize) -> (&AtomicU64, u64) {
        (&self.bits[index / 64], 1 << (index % 64))
    }

    /// Workers that sleep, at some recent time; those that are just being woken may count too, see the head.
    pub(super) fn asleep(&self) -> usize {
        self.asleep.load(Ordering::Relaxed)
    }

    /// Whether everybody who is not working sleeps without watching those who are.
    #[inline]
    pub(super) fn nobody_watches(&self) -> bool {
        self.asleep() > 0 && self.watching.load(Ordering::Relaxed) == 0
    }

    /// Parks for a while, as a watcher.
    pub(super) fn watch(&self, at_most: std::time::Duration) {
        self.watching.fetch_add(1, Ordering::Relaxed);
        std::thread::park_timeout(at_most);
        self.watching.fetch_sub(1, Ordering::Relaxed);
    }

    /// Announces that a worker searches.
    pub(super) fn begin_search(&self) {
        self.searching.fetch_add(1, Ordering::SeqCst);
    }

    /// `true` if it was the last one searching.
    pub(super) fn end_search(&self) -> bool {
        self.searching.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// Announces that a worker is about to sleep; it must look for work once more afterwards.
    pub(super) fn lie_down(&self, index: usize) {
        let (word, bit) = self.bit(index);
        self.asleep.fetch_add(1, Ordering::SeqCst);
        word.fetch_or(bit, Ordering::SeqCst);
        // Pairs with the fence in `wake_any`: scheduler invariant 1.
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement back; `false` if somebody woke the worker, which then counts as
    /// searching.
    pub(super) fn get_up(&self, index: usize) -> bool {
        let (word, bit) = self.bit(index);
        let own = word.fetch_and(!bit, Ordering::SeqCst) & bit != 0;
        if own {
            self.asleep.fetch_sub(1, Ordering::SeqCst);
        }
        own
    }

    /// Whether the worker's announcement still stands.
    pub(super) fn is_down(&self, index: usize) -> bool {
        let (word, bit) = self.bit(index);
        word.load(Ordering::Acquire) & bit != 0
    }

    /// Wakes one sleeper unless somebody searches already.
    pub(super) fn wake_any(&self, workers: &[CachePadded<Worker>]) {
        // Pairs with the fence in `lie_down`: scheduler invariant 1.
        fence(Ordering::SeqCst);
        if self.searching.load(Ordering::Relaxed) > 0 {
            return;
        }
        for (number, word) in self.bits.iter().enumerate() {
            let mut bits = word.load(Ordering::Relaxed);
            while bits != 0 {
                let index = number * 64 + bits.trailing_zeros() as usize;
                if self.wake(index, &workers[index]) {
                    return;
                }
                bits &= bits - 1;
            }
        }
    }

    /// Wakes this worker if it sleeps.
    pub(super) fn wake(&self, index: usize, worker: &Worker) -> bool {
        // Pairs with the fence in `lie_down`.
        fence(Ordering::SeqCst);
        let (word, bit) = self.bit(index);
        if word.load(Ordering::Relaxed) & bit == 0
            || word.fetch_and(!bit, Ordering::SeqCst) & bit == 0
        {
            return false;
        }
        self.asleep.fetch_sub(1, Ordering::SeqCst);
        self.begin_search();
        worker.unpark();
        true
    }

    pub(super) fn wake_all(&self, workers: &[CachePadded<Worker>]) {
        for (index, worker) in workers.iter().enumerate() {
            self.wake(index, worker);
        }
    }
}
