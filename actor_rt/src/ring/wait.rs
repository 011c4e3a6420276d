//! How a thread waits when a ring is empty or full.
//!
//! Owns: the strategies, chosen by type so that the ones that need no wake-up cost nothing on the fast path.
//! Does not know: rings, cursors or messages; it is handed a question ("ready yet?") and asks it again.
//!
//! Rules, each with a test below:
//! 1. `wait_until` returns only after `ready` answered `true`.
//! 2. A state change that happens before [`Wait::wake`] is never slept through.
//! 3. No strategy keeps a core for ever: even [`BusySpin`] yields now and then, because a spinning thread
//!    on a machine with fewer cores than threads can keep the very thread away that it waits for.
#![forbid(unsafe_code)]

use crate::sync::{AtomicUsize, Condvar, Mutex, Ordering, fence, hint, lock, thread};

/// Polls between two yields of [`BusySpin`]: some tens of microseconds, long against a message's way from
/// core to core (20–100 ns), short against a time slice of the kernel (milliseconds).
const BUSY_POLLS: u32 = 16_384;
/// Doublings of the pause before [`SpinThenYield`] and [`Block`] stop spinning: 127 pauses, about 5 µs.
const BACK_OFF_STEPS: u32 = 5;
/// Yields before [`Block`] goes to sleep.
const YIELDS_BEFORE_SLEEP: u32 = 4;

/// A way to wait for another thread.
///
/// The blocking calls of a ring (`send`, `recv`) wait by one of these; `try_…` calls never wait, but do
/// wake, so both ends of a ring share one strategy.
pub trait Wait: Default + Send + Sync + 'static {
    /// How many pauses (of about 40 ns) a blocking reader, when it follows close behind busy writers, may let pass
    /// for a batch to build up, or a blocking writer of a full ring for room. Zero is for the lowest latency, the default for throughput.
    const PATIENCE: u32 = 128;

    /// Returns once `ready` answers `true`; asks it again and again until then.
    fn wait_until(&self, ready: impl FnMut() -> bool);

    /// Says that what `ready` asks for may have changed. A no-op for every strategy that polls.
    fn wake(&self);
}

/// Polls without pause: the lowest latency, a whole core per waiting thread.
///
/// It still yields every few thousand polls (see rule 3).
#[derive(Debug, Default)]
pub struct BusySpin;

/// Polls for about as long as a message needs between cores, then yields between polls. The default.
#[derive(Debug, Default)]
pub struct SpinThenYield;

/// Yields to the kernel between polls: for more threads than cores.
#[derive(Debug, Default)]
pub struct Yield;

/// Spins, yields, then sleeps until woken: no CPU use while idle, one fence more per operation.
#[derive(Debug, Default)]
pub struct Block {
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
}

/// Polls with pauses of doubling length between.
///
/// The pauses matter for throughput: a reader that looks again at once takes the line with the cursor away from
/// the writer for every single item, and both go at the pace of the line's way between cores.
fn back_off(ready: &mut impl FnMut() -> bool) -> bool {
    let steps = if cfg!(loom) { 1 } else { BACK_OFF_STEPS };
    (0..steps).any(|step| {
        (0..1 << (step + 4)).for_each(|_| hint::spin_loop());
        ready()
    })
}

/// Lets a batch build up in front of a reader that has taken item after item as they appeared for a while, or room in
/// front of a writer that found the ring full.
///
/// Such a reader shares its cache line with the writer, and every item costs both of them a line's way between
/// cores: an MPSC ring gave 24 M items/s that way where it gives 90 M with a few microseconds of distance.
/// Readers that find the ring empty now and then never come here.
pub(super) fn build_up<W: Wait>(mut built: impl FnMut() -> bool) {
    let patience = if cfg!(loom) { 0 } else { W::PATIENCE };
    for _ in 0..patience {
        if built() {
            return;
        }
        hint::spin_loop();
    }
}

impl Wait for BusySpin {
    const PATIENCE: u32 = 0;

    fn wait_until(&self, mut ready: impl FnMut() -> bool) {
        // Under a model checker or an interpreter one poll stands for many: spinning only repeats states.
        let polls = if cfg!(any(loom, miri)) { 1 } else { BUSY_POLLS };
        // No pause between: on some processors it lasts as long as a message's way between cores.
        while !(0..polls).any(|_| ready()) {
            thread::yield_now();
        }
    }

    #[inline]
    fn wake(&self) {}
}

impl Wait for SpinThenYield {
    fn wait_until(&self, mut ready: impl FnMut() -> bool) {
        if back_off(&mut ready) {
            return;
        }
        while !ready() {
            thread::yield_now();
        }
    }

    #[inline]
    fn wake(&self) {}
}

impl Wait for Yield {
    fn wait_until(&self, mut ready: impl FnMut() -> bool) {
        while !ready() {
            thread::yield_now();
        }
    }

    #[inline]
    fn wake(&self) {}
}

impl Wait for Block {
    fn wait_until(&self, mut ready: impl FnMut() -> bool) {
        if back_off(&mut ready) {
            return;
        }
        if !cfg!(loom) {
            for _ in 0..YIELDS_BEFORE_SLEEP {
                thread::yield_now();
                if ready() {
                    return;
                }
            }
        }
        let mut guard = lock(&self.lock);
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence in `wake`: either `wake` sees the sleeper, or `ready` sees the change.
        fence(Ordering::SeqCst);
        while !ready() {
            guard = self
                .changed
                .wait(guard)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
        drop(guard);
    }

    #[inline]
    fn wake(&self) {
        // Pairs with the fence in `wait_until`.
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) != 0 {
            // Under the lock a sleeper is either before its check of `ready` or inside `wait`.
            drop(lock(&self.lock));
            self.changed.notify_all();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    fn waits_for_the_flag<W: Wait>() {
        let shared = Arc::new((W::default(), AtomicBool::new(false)));
        let waiter = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.0.wait_until(|| shared.1.load(Ordering::Acquire));
                assert!(shared.1.load(Ordering::Acquire));
            })
        };
        shared.1.store(true, Ordering::Release);
        shared.0.wake();
        waiter
            .join()
            .expect("the waiter returns after the flag is set");
    }

    #[test]
    fn rule_1_and_2_every_strategy_returns_after_the_change() {
        for _ in 0..if cfg!(miri) { 5 } else { 200 } {
            waits_for_the_flag::<BusySpin>();
            waits_for_the_flag::<SpinThenYield>();
            waits_for_the_flag::<Yield>();
            waits_for_the_flag::<Block>();
        }
    }

    #[test]
    fn rule_3_busy_spin_yields_to_other_threads() {
        // More spinners than any machine has cores; without a yield this would take a time slice per step.
        let turns = Arc::new((BusySpin, AtomicUsize::new(0)));
        let spinners = 16;
        let threads: Vec<_> = (0..spinners)
            .map(|me| {
                let turns = Arc::clone(&turns);
                thread::spawn(move || {
                    for round in 0..10 {
                        turns.0.wait_until(|| {
                            turns.1.load(Ordering::Acquire) == round * spinners + me
                        });
                        turns.1.fetch_add(1, Ordering::Release);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("every spinner gets its turns");
        }
        assert_eq!(turns.1.load(Ordering::Relaxed), 10 * spinners);
    }
}

#[cfg(all(test, loom))]
mod loom_model {
    use super::*;
    use crate::sync::{Arc, AtomicBool};

    #[test]
    fn block_never_sleeps_through_a_wake() {
        loom::model(|| {
            let shared = Arc::new((Block::default(), AtomicBool::new(false)));
            let waker = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.1.store(true, Ordering::Release);
                    shared.0.wake();
                })
            };
            shared.0.wait_until(|| shared.1.load(Ordering::Acquire));
            waker.join().unwrap();
        });
    }
}
