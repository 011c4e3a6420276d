//! Batches of [`super`]: items that were read and are not finished yet.
//!
//! Owns: when a consumer has finished the items of a batch (rules 6 and 8 of [`super`]).
//! Does not know: how they were found.
#![allow(unsafe_code)]

use super::super::{SpinThenYield, Wait};
use super::Consumer;

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
