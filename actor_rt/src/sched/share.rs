//! What a worker takes from the shared list, and when.
//!
//! Owns: how much is taken at once, and the distance to a thread that fills the list one by one.
//! Does not know: where else a worker looks. Everything here is a matter of speed.

use super::Runtime;
use super::queue::PLACES;
use super::worker::Worker;
use crate::cell::CellPtr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Actors in the shared list that are worth their lines' way.
const FEW: usize = 32;
/// How often a worker takes fewer, without a rest, before it waits for more. It need not be in a row: who takes many in between
/// still follows the same thread. After a wait in vain it takes twice as many, up to the most.
const CLOSE_BEHIND: u32 = 4;
const CLOSE_BEHIND_AT_MOST: u32 = 256;
/// Between two looks while it waits: time for several actors of a thread that does nothing but start them, and for one at least
/// where list and worker were fought for until now. In time, because a pause takes 10 ns here and 50 ns there.
const LOOK_EVERY: Duration = Duration::from_nanos(1500);
/// Looks of a wait at most.
const LOOKS: u32 = 8;

/// How far a worker stays behind whoever fills the shared list. Only the worker itself counts, so all is relaxed.
pub(super) struct Distance {
    /// How often it found but a few since it last slept, or waited for more.
    close: AtomicU32,
    /// How often it may before it waits.
    allowed: AtomicU32,
}

impl Distance {
    pub(super) const fn new() -> Self {
        Self {
            close: AtomicU32::new(0),
            allowed: AtomicU32::new(CLOSE_BEHIND),
        }
    }

    /// The worker rests.
    pub(super) fn rest(&self) {
        self.close.store(0, Ordering::Relaxed);
    }

    /// Takes note of a worker that found but a few; whether it should wait for more.
    #[inline]
    fn is_too_close(&self) -> bool {
        let close = self.close.load(Ordering::Relaxed);
        self.close.store(close.saturating_add(1), Ordering::Relaxed);
        close >= self.allowed.load(Ordering::Relaxed)
    }

    /// Takes note of whether a wait was worth it.
    fn waited(&self, in_vain: bool) {
        let allowed = if in_vain {
            self.close.store(0, Ordering::Relaxed);
            (2 * self.allowed.load(Ordering::Relaxed)).min(CLOSE_BEHIND_AT_MOST)
        } else {
            CLOSE_BEHIND
        };
        self.allowed.store(allowed, Ordering::Relaxed);
    }
}

/// Takes a worker's fair part of the shared list, and one of them to run.
pub(super) fn take_shared(runtime: &Runtime, worker: &Worker) -> Option<CellPtr> {
    if runtime.inject.is_empty() {
        return None;
    }
    keep_distance(runtime, worker);
    let waiting = runtime.inject.len() / runtime.workers.len().max(1);
    let share = (waiting as u64).min(PLACES / 2);
    runtime.inject.pop_into(&worker.local, share)
}

/// Lets actors build up in the shared list, if this worker found only a few there again and again without a rest: then
/// it follows at the heels of a thread that starts or calls one after the other, and the lines of the list go back and forth
/// between the two for every single actor. Where there is no core to spin on, that thread may need this one.
#[inline]
fn keep_distance(runtime: &Runtime, worker: &Worker) {
    if !worker.spin {
        return;
    }
    let waiting = runtime.inject.len();
    if waiting < FEW && worker.distance.is_too_close() {
        worker.distance.waited(!more_come(runtime, worker, waiting));
    }
}

/// Waits for more actors in the shared list, as long as more come and the worker has nothing else to do; whether enough came.
#[cold]
#[inline(never)]
fn more_come(runtime: &Runtime, worker: &Worker, mut waiting: usize) -> bool {
    for _ in 0..LOOKS {
        let began = Instant::now();
        while began.elapsed() < LOOK_EVERY {
            std::hint::spin_loop();
        }
        let before = std::mem::replace(&mut waiting, runtime.inject.len());
        if waiting >= FEW {
            return true;
        }
        if waiting <= before || worker.has_work() {
            return false;
        }
    }
    false
}
