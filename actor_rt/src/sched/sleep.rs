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
    /// The sleeper that gets up now and then to look for stuck workers, plus one; zero if none does.
    watcher: AtomicUsize,
}

impl Sleepers {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            bits: (0..workers.div_ceil(64))
                .map(|_| AtomicU64::new(0))
                .collect(),
            searching: CachePadded::new(AtomicUsize::new(0)),
            asleep: AtomicUsize::new(0),
            watcher: AtomicUsize::new(0),
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
        self.asleep() > 0 && self.watcher.load(Ordering::Relaxed) == 0
    }

    /// Whether this sleeper is the one that watches from now on: one is enough, however many workers there are.
    pub(super) fn begin_watch(&self, index: usize) -> bool {
        self.watcher
            .compare_exchange(0, index + 1, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// The sleeper watches no more.
    pub(super) fn end_watch(&self) {
        self.watcher.store(0, Ordering::Relaxed);
    }

    /// Lets another one of those that sleep look whether it is to watch.
    pub(super) fn hand_watch_on(&self, index: usize, workers: &[CachePadded<Worker>]) {
        // Pairs with the fence in `lie_down`: who saw a watcher before it slept is seen here.
        fence(Ordering::SeqCst);
        for (number, word) in self.bits.iter().enumerate() {
            let own = if number == index / 64 {
                1 << (index % 64)
            } else {
                0
            };
            let bits = word.load(Ordering::Relaxed) & !own;
            if bits != 0 {
                return workers[number * 64 + bits.trailing_zeros() as usize].unpark();
            }
        }
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
        // The watcher last: another one would have to take its place.
        let watcher = self.watcher.load(Ordering::Relaxed).wrapping_sub(1);
        for (number, word) in self.bits.iter().enumerate() {
            let mut bits = word.load(Ordering::Relaxed);
            while bits != 0 {
                let index = number * 64 + bits.trailing_zeros() as usize;
                if index != watcher && self.wake(index, &workers[index]) {
                    return;
                }
                bits &= bits - 1;
            }
        }
        if let Some(worker) = workers.get(watcher) {
            self.wake(watcher, worker);
        }
    }

    /// Wakes this worker if it sleeps.
    pub(super) fn wake(&self, index: usize, worker: &Worker) -> bool {
        // Pairs with the fence in `lie_down`.
        fence(Ordering::SeqCst);
        let (word, bit) = self.bit(index);
        if word.load(Ordering::Relaxed) & bit == 0 {
            return false;
        }
        // Before the bit is gone: a sleeper that sees that ends the search.
        self.begin_search();
        if word.fetch_and(!bit, Ordering::SeqCst) & bit == 0 {
            self.end_search();
            return false;
        }
        self.asleep.fetch_sub(1, Ordering::SeqCst);
        worker.unpark();
        true
    }

    pub(super) fn wake_all(&self, workers: &[CachePadded<Worker>]) {
        for (index, worker) in workers.iter().enumerate() {
            self.wake(index, worker);
        }
    }
}
