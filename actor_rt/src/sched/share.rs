//! What a worker takes from the shared list, and when.
//!
//! Owns: how much is taken at once, and the distance to a thread that fills the list one by one.
//! Does not know: where else a worker looks. Everything here is a matter of speed.

use super::Runtime;
use super::queue::PLACES;
use super::worker::Worker;
use crate::cell::CellPtr;
use std::sync::atomic::Ordering;

/// Actors in the shared list that are worth their lines' way, and how often a worker takes fewer, without a rest, before it
/// waits for more, as long as they come within so many pauses (of 10 to 50 ns). It need not be in a row: who takes many in
/// between still follows the same thread.
const FEW: usize = 32;
const CLOSE_BEHIND: u32 = 4;
const PAUSES_PER_LOOK: u32 = 16;

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
    // Relaxed: only this worker counts.
    let times = worker.close_behind.load(Ordering::Relaxed);
    let mut waiting = runtime.inject.len();
    if waiting >= FEW {
        return;
    }
    if times < CLOSE_BEHIND {
        worker.close_behind.store(times + 1, Ordering::Relaxed);
        return;
    }
    while waiting < FEW {
        (0..PAUSES_PER_LOOK).for_each(|_| std::hint::spin_loop());
        let before = std::mem::replace(&mut waiting, runtime.inject.len());
        if waiting <= before {
            worker.close_behind.store(0, Ordering::Relaxed);
            return;
        }
    }
}
