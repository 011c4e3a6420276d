//! Batches of [`super`]: slots that were claimed and not yet published, items that were read and not yet given up.
//!
//! Owns: what happens when a batch is left early, by a panic or by choice (rules 5, 6 and 8 of [`super`]).
//! Does not know: how slots are claimed.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use super::super::slots::drop_all;
use super::super::{SpinThenYield, Wait};
use super::Shared;

/// Slots that were claimed by [`Sender::claim`]; published when dropped.
pub struct WriteChunk<'a, T, W: Wait = SpinThenYield> {
    pub(super) shared: &'a Shared<T, W>,
    pub(super) start: u64,
    /// The items of `start..next` are written.
    pub(super) next: u64,
    pub(super) end: u64,
}

impl<T, W: Wait> WriteChunk<'_, T, W> {
    /// The number of claimed slots that are not written yet.
    pub fn remaining(&self) -> usize {
        self.end.wrapping_sub(self.next) as usize
    }

    /// Writes one item into the next slot.
    ///
    /// # Errors
    /// Gives the item back when every claimed slot is written.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.next == self.end {
            return Err(item);
        }
        // SAFETY: `next..end` was claimed by this chunk alone, and is free.
        unsafe { self.shared.slots.write(self.next, item) };
        self.next = self.next.wrapping_add(1);
        Ok(())
    }

    /// Writes items into the remaining slots until either ends. Items beyond the last slot stay in the iterator.
    #[inline]
    pub fn fill(&mut self, items: impl IntoIterator<Item = T>) {
        // SAFETY: `next..end` was claimed by this chunk alone, and is free.
        unsafe { self.shared.slots.fill(&mut self.next, self.end, items) };
    }

    /// The slots that are not written yet, as two slices (the second is empty unless the chunk wraps), to be
    /// written in place and then counted by [`assume_written`](Self::assume_written).
    pub fn uninit(&mut self) -> (&mut [MaybeUninit<T>], &mut [MaybeUninit<T>]) {
        // SAFETY: `next..end` was claimed by this chunk alone, and is free.
        unsafe {
            self.shared
                .slots
                .uninit(self.next, self.end.wrapping_sub(self.next))
        }
    }

    /// Counts the first `count` slots of [`uninit`](Self::uninit) as written.
    ///
    /// # Safety
    /// They were initialised since they were claimed.
    ///
    /// # Panics
    /// When `count` is more than [`remaining`](Self::remaining).
    pub unsafe fn assume_written(&mut self, count: usize) {
        assert!(
            count <= self.remaining(),
            "{count} slots written, {} were claimed",
            self.remaining()
        );
        self.next = self.next.wrapping_add(count as u64);
    }

    /// Publishes what was written; the same as dropping the chunk.
    pub fn publish(self) {}
}

impl<T, W: Wait> Drop for WriteChunk<'_, T, W> {
    #[inline]
    fn drop(&mut self) {
        self.shared.publish(self.start, self.next, self.end);
        self.shared.not_empty.wake();
    }
}

/// Items claimed by [`Receiver::read`]; their slots become free when the chunk is dropped.
///
/// As an iterator it takes the items one by one.
pub struct ReadChunk<'a, T, W: Wait = SpinThenYield> {
    pub(super) shared: &'a Shared<T, W>,
    pub(super) start: u64,
    /// The items of `start..next` are taken.
    pub(super) next: u64,
    pub(super) end: u64,
}

impl<T, W: Wait> ReadChunk<'_, T, W> {
    /// The items that are not taken yet, as two slices; the second is empty unless the chunk wraps.
    #[inline]
    pub fn as_slices(&self) -> (&[T], &[T]) {
        // SAFETY: `next..end` was claimed by this chunk alone, is published and not taken.
        unsafe {
            self.shared
                .slots
                .slices(self.next, self.end.wrapping_sub(self.next))
        }
    }

    /// Takes every remaining item and hands it to `each`.
    #[inline]
    pub fn drain(&mut self, each: impl FnMut(T)) {
        // SAFETY: `next..end` was claimed by this chunk alone, is published and not taken.
        unsafe { self.shared.slots.drain(&mut self.next, self.end, each) };
    }
}

impl<T, W: Wait> Iterator for ReadChunk<'_, T, W> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.next == self.end {
            return None;
        }
        let seq = self.next;
        self.next = seq.wrapping_add(1);
        // SAFETY: `seq` was claimed by this chunk alone, was not taken, and is counted as taken now.
        Some(unsafe { self.shared.slots.take(seq) })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl<T, W: Wait> ExactSizeIterator for ReadChunk<'_, T, W> {
    #[inline]
    fn len(&self) -> usize {
        self.end.wrapping_sub(self.next) as usize
    }
}

/// Frees the slots of a read chunk even when the `Drop` of an untaken item panics.
struct FreeOnDrop<'a, T, W>(&'a Shared<T, W>, u64, u64)
where
    W: Wait;

impl<T, W: Wait> Drop for FreeOnDrop<'_, T, W> {
    #[inline]
    fn drop(&mut self) {
        self.0.free(self.1, self.2);
        self.0.not_full.wake();
    }
}

impl<T, W: Wait> Drop for ReadChunk<'_, T, W> {
    #[inline]
    fn drop(&mut self) {
        let _free = FreeOnDrop(self.shared, self.start, self.end);
        if self.next != self.end {
            drop_all(|| self.next().map(drop).is_some());
        }
    }
}
