//! How an owner keeps its distance from busy senders (rule 11 of the mailbox).
//!
//! Owns: when it begins and ends, how much is then read at once.
//! Does not know: what a message is. Everything here is a matter of speed: a drain is as correct without it.
#![allow(unsafe_code)]

use super::Drain;
use crate::prefetch;
use crate::sync::hint;
use std::ptr::NonNull;

/// Messages that are read at once by an owner that keeps its distance (rule 11).
pub(super) const BATCH: u32 = if cfg!(loom) { 2 } else { 64 };
/// Bounds from which on an owner may keep its distance: senders need room meanwhile.
const LEAST_BOUND_FOR_DISTANCE: u32 = if cfg!(loom) { BATCH } else { 4 * BATCH };
/// How often in a row an owner waits for the next message only briefly before it keeps its distance. Twice as often, up to the
/// most, after each time that it waited for a batch in vain: senders that wait for answers send as quickly, but one message.
pub(in crate::mailbox) const CLOSE_BEHIND: u32 = if cfg!(loom) { 1 } else { 4 };
const CLOSE_BEHIND_AT_MOST: u32 = 4096;
/// Pauses that count as briefly.
const BRIEFLY: u32 = 16;
/// Pauses (of 10 to 50 ns) that an owner at a distance waits for the next batch to be complete.
const PATIENCE: u32 = if cfg!(loom) { 1 } else { 96 };
/// Messages between the one that is handled and the one whose line is asked for: as many as one sender has written for sure if
/// the last of this batch and of so many of the next is there; of several, one may still be writing.
const AHEAD: u32 = BATCH / 2;

impl<M> Drain<'_, M> {
    /// Asks for the line of a message further on, if it is known to be there. With the right to write, because the owner empties
    /// what it reads.
    #[inline(always)]
    pub(super) fn ask_ahead(&self) {
        // What lies behind the end of the page is somebody else's.
        if self.left > self.asks_above {
            prefetch::for_write(self.slot.wrapping_add(AHEAD as usize));
        }
    }

    /// Takes note that the next message came after so many pauses: an owner that is again and again too
    /// quick for its senders will keep its distance (rule 11).
    #[inline]
    pub(crate) fn waited(&mut self, pauses: u32) {
        self.close_behind = if pauses < BRIEFLY {
            self.close_behind.saturating_add(1)
        } else {
            0
        };
        if self.close_behind >= self.allowed && self.bound >= LEAST_BOUND_FOR_DISTANCE {
            self.distant = true;
            self.horizon = self.position;
        }
    }

    /// Whether the owner keeps its distance.
    #[cfg(test)]
    pub(crate) fn is_distant(&self) -> bool {
        self.distant
    }

    /// At the horizon: finds out whether there is more than a batch, whose lines can be asked for without taking them from a
    /// sender that writes them. A distant owner waits until a whole batch is there, or no longer is one.
    #[cold]
    #[inline(never)]
    pub(super) fn look_ahead(&mut self) {
        self.horizon = self.position.wrapping_add(BATCH);
        self.asks_above = u32::MAX;
        if self.left == 0 && !self.find_slot() {
            return;
        }
        let Some(base) = NonNull::new(self.base) else {
            return;
        };
        let ring = self.ring();
        let is_there = |position: u32| {
            let index = self.index(position.wrapping_sub(1));
            // SAFETY: the owner alone frees bases; the index is masked.
            unsafe { ring.is_published(base, index) }
        };
        if self.bound > BATCH + AHEAD && is_there(self.horizon.wrapping_add(AHEAD)) {
            (self.asks_above, self.allowed) = (AHEAD, CLOSE_BEHIND);
            return;
        }
        if !self.distant {
            return;
        }
        for _ in 0..PATIENCE {
            if is_there(self.horizon) {
                self.allowed = CLOSE_BEHIND;
                return;
            }
            hint::spin_loop();
        }
        self.distant = false;
        self.close_behind = 0;
        self.allowed = (2 * self.allowed).min(CLOSE_BEHIND_AT_MOST);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::mailbox::tests::Whole;

    /// Rule 11: who sends one message and waits for its answer is not waited for again and again.
    #[test]
    fn a_distance_that_was_kept_in_vain_is_kept_half_as_often() {
        let whole = Whole::new(1024);
        let mut drain = whole.drain::<u32>();
        let mut quick = CLOSE_BEHIND;
        for _ in 0..3 {
            for _ in 1..quick {
                drain.waited(0);
                assert!(!drain.is_distant());
            }
            drain.waited(0);
            assert!(drain.is_distant(), "after {quick} times");
            assert!(!whole.of().push(7).expect("room"));
            assert_eq!(drain.pop(), Some(7), "one by one as before");
            assert!(!drain.is_distant());
            quick *= 2;
        }
        drop(drain);
        whole.end::<u32>();
    }

    /// The lines of slots that a sender may be writing are left to it.
    #[test]
    fn only_what_is_there_is_asked_for() {
        for (sent, asks_above) in [(AHEAD, AHEAD), (AHEAD - 1, u32::MAX)] {
            let (whole, sent) = (Whole::new(1024), 2 * BATCH + sent);
            (0..sent).for_each(|n| assert!(!whole.of().push(n).expect("room")));
            let mut drain = whole.drain::<u32>();
            (0..BATCH).for_each(|n| assert_eq!(drain.pop(), Some(n)));
            assert!(drain.is_ready());
            assert_eq!(drain.asks_above, asks_above);
            (BATCH..sent).for_each(|n| assert_eq!(drain.pop(), Some(n)));
            assert!(drain.pop().is_none());
            drop(drain);
            whole.end::<u32>();
        }
    }
}
