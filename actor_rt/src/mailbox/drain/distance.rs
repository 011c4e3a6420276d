//! How an owner keeps its distance from busy senders (rule 11 of the mailbox).
//!
//! Owns: when it begins and ends, how much is then read at once.
//! Does not know: what a message is. Everything here is a matter of speed: a drain is as correct without it.
#![allow(unsafe_code)]

use super::Drain;
use crate::sync::hint;
use std::ptr::NonNull;

/// Messages that are read at once by an owner that keeps its distance (rule 11).
const BATCH: u32 = if cfg!(loom) { 2 } else { 64 };
/// Bounds from which on an owner may keep its distance: senders need room meanwhile.
const LEAST_BOUND_FOR_DISTANCE: u32 = if cfg!(loom) { BATCH } else { 4 * BATCH };
/// How often in a row an owner waits for the next message only briefly before it keeps its distance.
pub(in crate::mailbox) const CLOSE_BEHIND: u32 = if cfg!(loom) { 1 } else { 4 };
/// Pauses that count as briefly.
const BRIEFLY: u32 = 16;
/// Pauses (of 10 to 50 ns) that an owner at a distance waits for the next batch to be complete.
const PATIENCE: u32 = if cfg!(loom) { 1 } else { 96 };

impl<M> Drain<'_, M> {
    /// Takes note that the next message came after so many pauses: an owner that is again and again too
    /// quick for its senders will keep its distance (rule 11).
    #[inline]
    pub(crate) fn waited(&mut self, pauses: u32) {
        self.close_behind = if pauses < BRIEFLY {
            self.close_behind.saturating_add(1)
        } else {
            0
        };
        if self.close_behind >= CLOSE_BEHIND && self.bound >= LEAST_BOUND_FOR_DISTANCE {
            self.distant = true;
            self.horizon = self.position;
        }
    }

    /// Whether the owner keeps its distance.
    #[cfg(test)]
    pub(crate) fn is_distant(&self) -> bool {
        self.distant
    }

    /// At the horizon: a distant owner waits until a whole batch is there, or no longer is one.
    #[cold]
    #[inline(never)]
    pub(super) fn look_ahead(&mut self) {
        self.horizon = self.position.wrapping_add(BATCH);
        if !self.distant || self.left == 0 && !self.find_slot() {
            return;
        }
        let Some(base) = NonNull::new(self.base) else {
            return;
        };
        let last = self.index(self.horizon.wrapping_sub(1));
        for _ in 0..PATIENCE {
            // SAFETY: the owner alone frees bases; the index is masked.
            if unsafe { self.ring().is_published(base, last) } {
                return;
            }
            hint::spin_loop();
        }
        self.distant = false;
        self.close_behind = 0;
    }
}
