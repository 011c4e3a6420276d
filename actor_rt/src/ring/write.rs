//! The writing end that all rings share: sending one by one, claiming and publishing batches.
//!
//! Owns: the calls of a [`Writer`], and what happens when a batch is left early, by a panic or by choice.
//! Does not know: how slots are claimed and published; that is [`Claim`], the protocol of each ring.
#![allow(unsafe_code)]

use std::fmt;
use std::mem::MaybeUninit;

use super::slots::Slots;
use super::{ClaimError, SendError, TrySendError};

/// How a ring lets its writers claim and publish slots.
///
/// # Safety
/// From a successful [`claim`](Self::claim), of one or many, until its [`publish`](Self::publish) nobody else touches the cells of the
/// claimed range, and no item is left in them.
pub unsafe trait Claim {
    /// What the ring carries.
    type Item;

    /// The name of this end, for `Debug`.
    const NAME: &'static str;

    fn slots(&self) -> &Slots<Self::Item>;

    /// Claims `min..=max` slots, as many as are free, and answers the sequence numbers `start..end`.
    fn claim(&mut self, min: u64, max: u64) -> Result<(u64, u64), ClaimError>;

    /// Claims one slot, as `claim(1, 1)` does.
    #[inline]
    fn claim_one(&mut self) -> Result<u64, ClaimError> {
        Ok(self.claim(1, 1)?.0)
    }

    /// Publishes the items of `start..written`, which are initialised, and gives up `written..end`.
    fn publish(&mut self, start: u64, written: u64, end: u64);

    /// Told of each slot that is claimed by itself: a protocol may ask for lines further on.
    #[inline]
    fn ask_ahead(&self, _seq: u64) {}

    /// Returns when there was room for an item, or nobody is left to read it.
    fn wait_for_room(&self);

    fn is_disconnected(&self) -> bool;
}

/// The writing end of a ring. Each ring names its own: [`spsc::Producer`](super::spsc::Producer),
/// [`mpsc::Sender`](super::mpsc::Sender), [`mpmc::Sender`](super::mpmc::Sender),
/// [`broadcast::Producer`](super::broadcast::Producer).
pub struct Writer<C: Claim>(pub(super) C);

impl<C: Claim> Writer<C> {
    /// The number of slots.
    pub fn capacity(&self) -> usize {
        self.0.slots().capacity() as usize
    }

    /// True once nobody is left to read.
    pub fn is_disconnected(&self) -> bool {
        self.0.is_disconnected()
    }

    /// Sends without waiting.
    ///
    /// # Errors
    /// Gives the item back: [`TrySendError::Full`] or [`TrySendError::Disconnected`].
    #[inline]
    pub fn try_send(&mut self, item: C::Item) -> Result<(), TrySendError<C::Item>> {
        match self.0.claim_one() {
            Ok(seq) => {
                self.0.ask_ahead(seq);
                // SAFETY: claimed above, and not published yet.
                unsafe { self.0.slots().write(seq, item) };
                let end = seq.wrapping_add(1);
                self.0.publish(seq, end, end);
                Ok(())
            }
            Err(ClaimError::Full) => Err(TrySendError::Full(item)),
            Err(ClaimError::Disconnected) => Err(TrySendError::Disconnected(item)),
        }
    }

    /// Sends, waiting for room by the ring's strategy.
    ///
    /// # Errors
    /// [`SendError`] with the item when nobody is left to read it.
    #[inline]
    pub fn send(&mut self, item: C::Item) -> Result<(), SendError<C::Item>> {
        match self.try_send(item) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(item)) => self.send_slowly(item),
            Err(TrySendError::Disconnected(item)) => Err(SendError(item)),
        }
    }

    // Apart, so that the fast path spills nothing: while the line with the cursor travels, a core runs ahead as far as
    // its store buffer lasts, and a spilled register per item cost three quarters of the throughput of `spsc`.
    #[cold]
    #[inline(never)]
    fn send_slowly(&mut self, mut item: C::Item) -> Result<(), SendError<C::Item>> {
        loop {
            self.0.wait_for_room();
            match self.try_send(item) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(back)) => return Err(SendError(back)),
                Err(TrySendError::Full(back)) => item = back,
            }
        }
    }

    /// Claims exactly `count` slots without waiting. They stay together.
    ///
    /// ```
    /// use actor_rt::ring::mpsc;
    /// let (mut sender, mut receiver) = mpsc::channel(64);
    /// let mut chunk = sender.claim(3).unwrap();
    /// chunk.fill(["a", "b", "c"]);
    /// drop(chunk); // publishes all three at once
    /// assert_eq!(receiver.read(64).collect::<String>(), "abc");
    /// ```
    ///
    /// # Errors
    /// [`ClaimError::Full`] when fewer slots are free, [`ClaimError::Disconnected`] when nobody is left to read.
    ///
    /// # Panics
    /// When `count` is zero or above the capacity.
    #[inline]
    pub fn claim(&mut self, count: usize) -> Result<WriteChunk<'_, C>, ClaimError> {
        assert!(count > 0, "a claim of no slots");
        match self.0.claim(count as u64, count as u64) {
            Ok(range) => Ok(self.chunk(range)),
            Err(ClaimError::Full) if count > self.capacity() => {
                panic!(
                    "a claim of {count} slots never fits into {}",
                    self.capacity()
                )
            }
            Err(error) => Err(error),
        }
    }

    /// Claims as many slots as are free, at least one and at most `max`, waiting for the first.
    ///
    /// # Errors
    /// [`ClaimError::Disconnected`] when nobody is left to read.
    ///
    /// # Panics
    /// When `max` is zero.
    #[inline]
    pub fn claim_up_to(&mut self, max: usize) -> Result<WriteChunk<'_, C>, ClaimError> {
        assert!(max > 0, "a claim of no slots");
        loop {
            match self.0.claim(1, max as u64) {
                Ok(range) => return Ok(self.chunk(range)),
                Err(ClaimError::Disconnected) => return Err(ClaimError::Disconnected),
                Err(ClaimError::Full) => self.0.wait_for_room(),
            }
        }
    }

    #[inline]
    fn chunk(&mut self, (start, end): (u64, u64)) -> WriteChunk<'_, C> {
        WriteChunk {
            ring: &mut self.0,
            start,
            next: start,
            end,
        }
    }
}

impl<C: Claim + Clone> Clone for Writer<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C: Claim> fmt::Debug for Writer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(C::NAME)
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

/// Slots that were claimed by [`Writer::claim`]; what was written into them is published when this is dropped.
pub struct WriteChunk<'a, C: Claim> {
    ring: &'a mut C,
    start: u64,
    /// The items of `start..next` are written; `next..end` is free and written by this chunk alone.
    next: u64,
    end: u64,
}

impl<C: Claim> WriteChunk<'_, C> {
    /// The number of claimed slots that are not written yet.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.end.wrapping_sub(self.next) as usize
    }

    /// Writes one item into the next slot.
    ///
    /// # Errors
    /// Gives the item back when every claimed slot is written.
    #[inline]
    pub fn push(&mut self, item: C::Item) -> Result<(), C::Item> {
        if self.next == self.end {
            return Err(item);
        }
        // SAFETY: the chunk's own, and free.
        unsafe { self.ring.slots().write(self.next, item) };
        self.next = self.next.wrapping_add(1);
        Ok(())
    }

    /// Writes items into the remaining slots until either ends. Items beyond the last slot stay in the iterator.
    #[inline]
    pub fn fill(&mut self, items: impl IntoIterator<Item = C::Item>) {
        // SAFETY: the chunk's own, and free; a claim is never above the capacity.
        unsafe { self.ring.slots().fill(&mut self.next, self.end, items) };
    }

    /// The slots that are not written yet, as two slices (the second is empty unless the chunk wraps), to be
    /// written in place and then counted by [`assume_written`](Self::assume_written).
    #[allow(clippy::type_complexity)] // Two slices, as everywhere.
    pub fn uninit(&mut self) -> (&mut [MaybeUninit<C::Item>], &mut [MaybeUninit<C::Item>]) {
        let count = self.end.wrapping_sub(self.next);
        // SAFETY: the chunk's own, and free; a claim is never above the capacity.
        unsafe { self.ring.slots().uninit(self.next, count) }
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

impl<C: Claim> Drop for WriteChunk<'_, C> {
    #[inline]
    fn drop(&mut self) {
        self.ring.publish(self.start, self.next, self.end);
    }
}
