//! Batches of [`super`]: slots that were claimed and not yet published, items that were read and not yet given up.
//!
//! Owns: what happens when a batch is left early, by a panic or by choice (rules 5, 6 and 8 of [`super`]).
//! Does not know: how slots are claimed.
#![allow(unsafe_code)]

use super::super::{SpinThenYield, Wait};
use super::{Consumer, Producer};

/// Slots that were claimed by [`Producer::claim`]; published when dropped.
pub struct WriteChunk<'a, T, W: Wait = SpinThenYield> {
    pub(super) producer: &'a mut Producer<T, W>,
    /// The items of `producer.tail..next` are written.
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
        // SAFETY: `next..end` was claimed and cleared, and this producer alone writes there.
        unsafe { self.producer.shared.slots.write(self.next, item) };
        self.next = self.next.wrapping_add(1);
        Ok(())
    }

    /// Writes items into the remaining slots until either ends. Items beyond the last slot stay in the iterator.
    #[inline]
    pub fn fill(&mut self, items: impl IntoIterator<Item = T>) {
        // SAFETY: `next..end` was claimed and cleared, and this producer alone writes there.
        unsafe {
            self.producer
                .shared
                .slots
                .fill(&mut self.next, self.end, items)
        };
    }

    /// Publishes what was written; the same as dropping the chunk.
    pub fn publish(self) {}
}

impl<T, W: Wait> Drop for WriteChunk<'_, T, W> {
    #[inline]
    fn drop(&mut self) {
        self.producer.publish(self.next);
    }
}

/// Items read by [`Consumer::read`], all finished when the chunk is dropped.
pub struct ReadChunk<'a, T, W: Wait = SpinThenYield> {
    pub(super) consumer: &'a mut Consumer<T, W>,
    pub(super) end: u64,
}

impl<T: Sync, W: Wait> ReadChunk<'_, T, W> {
    /// The items as two slices; the second is empty unless the chunk wraps.
    #[inline]
    pub fn as_slices(&self) -> (&[T], &[T]) {
        // SAFETY: these items are published, and not overwritten before this consumer finishes them.
        unsafe {
            self.consumer.shared.slots.slices(
                self.consumer.cursor,
                self.end.wrapping_sub(self.consumer.cursor),
            )
        }
    }

    /// The items in order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let (front, back) = self.as_slices();
        front.iter().chain(back)
    }
}

impl<T, W: Wait> ReadChunk<'_, T, W> {
    /// The number of items.
    pub fn len(&self) -> usize {
        self.end.wrapping_sub(self.consumer.cursor) as usize
    }

    /// True when there was nothing to read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T, W: Wait> Drop for ReadChunk<'_, T, W> {
    #[inline]
    fn drop(&mut self) {
        self.consumer.finish(self.end);
    }
}
