//! The wait state of an actor that is neither idle nor running: it awaits something.
//!
//! Owns: one word, `[changes:31 | WAITING:1]`, and the edge out of waiting.
//! Does not know: what is waited for, queues.
//! Rules:
//! 1. Each wake-up changes the word. The owner remembers the word at the start of its turn and goes
//!    waiting by compare-exchange from just that value, so a wake-up during the turn is never missed.
//! 2. The one wake-up that finds `WAITING` clears it and must schedule the actor; no other.

use crate::sync::{AtomicU32, Ordering};

const WAITING: u32 = 1;
const CHANGE: u32 = 2;

#[derive(Debug)]
pub(crate) struct Parking {
    word: AtomicU32,
    /// The word as the owner saw it last; owner only.
    seen: AtomicU32,
}

impl Parking {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            seen: AtomicU32::new(0),
        }
    }

    /// Owner: whatever woke it until now is about to be looked at.
    #[inline]
    pub(crate) fn begin(&self) {
        // Acquire pairs with the Release of `wake`: what the wakers did is seen.
        self.seen
            .store(self.word.load(Ordering::Acquire), Ordering::Relaxed);
    }

    /// Owner: whether something woke it since `begin`.
    #[inline]
    pub(crate) fn is_woken(&self) -> bool {
        self.word.load(Ordering::Relaxed) != self.seen.load(Ordering::Relaxed)
    }

    /// Owner: gives the actor up until the next wake-up; `false` if one came since `begin`, which then
    /// counts as looked at.
    #[inline]
    pub(crate) fn try_wait(&self) -> bool {
        let seen = self.seen.load(Ordering::Relaxed);
        // Release: the next owner sees this turn. Acquire as in `begin`.
        match self
            .word
            .compare_exchange(seen, seen | WAITING, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => true,
            Err(now) => {
                self.seen.store(now, Ordering::Relaxed);
                false
            }
        }
    }

    /// Anybody: `true` if the caller must schedule the actor.
    #[inline]
    pub(crate) fn wake(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            // Release pairs with the Acquire of `begin` and `try_wait`; Acquire with the Release of
            // `try_wait`, for the turn that follows.
            match self.word.compare_exchange_weak(
                word,
                word.wrapping_add(CHANGE) & !WAITING,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return word & WAITING != 0,
                Err(now) => word = now,
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_edge_out_of_waiting() {
        let parking = Parking::new();
        parking.begin();
        assert!(!parking.wake(), "running");
        assert!(!parking.try_wait(), "woken meanwhile");
        assert!(parking.try_wait());
        assert!(parking.wake());
        assert!(!parking.wake());
        parking.begin();
        assert!(parking.try_wait());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU64;
    use loom::thread;

    /// Two wakers and the owner: what a waker did before its wake-up is seen by the turn that follows,
    /// and nobody sleeps through it.
    #[test]
    fn no_wake_up_is_lost() {
        // Three threads: every schedule with up to three preemptions.
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let parking = Arc::new(Parking::new());
            let news = Arc::new(AtomicU64::new(0));
            parking.begin();
            let wakers: Vec<_> = [1, 2]
                .into_iter()
                .map(|bit| {
                    let (parking, news) = (Arc::clone(&parking), Arc::clone(&news));
                    thread::spawn(move || {
                        news.fetch_or(bit, Ordering::Relaxed);
                        parking.wake()
                    })
                })
                .collect();
            let mut seen = news.load(Ordering::Relaxed);
            let mut waits = parking.try_wait();
            if !waits {
                seen |= news.load(Ordering::Relaxed);
                waits = parking.try_wait();
            }
            let edges = wakers
                .into_iter()
                .map(|waker| waker.join().expect("no panic"));
            let edges = edges.filter(|&edge| edge).count();
            assert!(edges <= 1);
            if waits && edges == 0 {
                assert_eq!(seen, 3, "asleep without having seen everything");
            }
        });
    }
}
