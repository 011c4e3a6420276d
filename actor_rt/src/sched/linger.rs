//! Waiting for an actor's next message before giving the actor up.
//!
//! Owns: who may wait, and for how long.
//! Does not know: mailboxes; it is handed the question "has it come?".
//! Invariant: a worker waits only while there is nothing else that it could do, and lets other threads run.
//!
//! An actor that goes idle costs its next sender a wake-up: the queue, the worker's attention and half a
//! dozen cache lines, ten times what the message costs. So where messages come from other threads, a worker
//! without other work looks for the next one for a while.

use super::Runtime;
use super::worker::{Worker, work_anywhere};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Looks between two thoughts about time, orders and other work: a few microseconds.
const LOOKS: u32 = 64;
/// Waits in a row that begin by giving the core away, after one whose message was there as soon as that was done: its sender
/// needed this very core. Then one begins by looking, to see whether that is still so.
const YIELDS_FIRST: u32 = 8;

/// Whether whoever sends to the actor has another core to do so. Threads from outside come on top of the workers, so
/// one of these must leave them its core; an actor at `home` on one worker is sent to by those on other workers too.
pub(super) fn may_linger(runtime: &Runtime, at_home: bool) -> bool {
    match runtime.workers.len() {
        workers if workers < runtime.cores => true,
        workers if workers == runtime.cores => {
            workers > 1 && (at_home || runtime.sleepers.asleep() > 0)
        }
        _ => false,
    }
}

/// Looks for `ready` for up to `patience`; the number of looks that it took, or `None` if it did not come or
/// the worker has something else to do. `called` says that the actor is wanted for something else.
#[inline(never)]
pub(super) fn linger(
    runtime: &Runtime,
    worker: &Worker,
    patience: Duration,
    mut ready: impl FnMut() -> bool,
    mut called: impl FnMut() -> bool,
) -> Option<u32> {
    if work_anywhere(runtime, worker) {
        return None;
    }
    let (mut looks, mut began) = (0, None);
    // Relaxed: only this worker's.
    let yields = worker.yields_first.load(Ordering::Relaxed);
    let mut has_yielded = yields > 0;
    if has_yielded {
        std::thread::yield_now();
        // Who waited that long did not wait briefly.
        looks = LOOKS;
    }
    loop {
        for look in 0..LOOKS {
            if ready() {
                let at_once = has_yielded && look == 0;
                let next = match (at_once, yields) {
                    (false, _) => 0,
                    (true, 0) => YIELDS_FIRST,
                    (true, yields) => yields - 1,
                };
                worker.yields_first.store(next, Ordering::Relaxed);
                return Some(looks);
            }
            looks += 1;
            std::hint::spin_loop();
        }
        if called() || work_anywhere(runtime, worker) || runtime.is_closing() {
            return None;
        }
        let now = Instant::now();
        if now - *began.get_or_insert(now) > patience {
            return None;
        }
        // Where there are more threads than cores, the sender may be waiting for this one.
        std::thread::yield_now();
        has_yielded = true;
    }
}
