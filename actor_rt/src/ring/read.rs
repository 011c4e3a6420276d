//! The reading end of the rings that hand each item to one reader: receiving one by one, reading batches.
//!
//! Owns: the calls of a [`Reader`], how it keeps its distance from busy writers, and what happens when a batch is left
//! early, by a panic or by choice.
//! Does not know: how items are found and taken; that is [`Take`], the protocol of each ring.
#![allow(unsafe_code)]

use std::fmt;

use super::slots::{Slots, drop_all};
use super::wait::{Wait, build_up};
use super::{RecvError, TryRecvError};

/// How many items a blocking reader looks for at once.
const LOOK_AHEAD: u64 = 64;
/// A blocking reader that finds fewer items than this is near the writers.
const NEAR: u64 = LOOK_AHEAD / 4;
/// How often in a row it may be near before it keeps its distance.
const CLOSE_BEHIND: u32 = 4;

/// How a ring lets a reader find and take items.
///
/// # Safety
/// From a [`take`](Self::take), of one or many, until its [`give_up`](Self::give_up) the cells of the range hold items, and nobody else
/// touches them.
pub unsafe trait Take {
    /// What the ring carries.
    type Item;
    /// The ring's wait strategy.
    type Wait: Wait;

    /// The name of this end, for `Debug`.
    const NAME: &'static str;

    fn slots(&self) -> &Slots<Self::Item>;

    /// How many items are known to be published, without a look at what the writers write.
    fn known(&self) -> u64;

    /// Looks for published items until `max` are known, and answers how many are.
    fn look(&mut self, max: u64) -> u64;

    /// Some sequence number that is neither behind what was taken nor ahead of what is known.
    fn position(&self) -> u64;

    fn is_published(&self, seq: u64) -> bool;

    /// Takes the published items, at most `max`: the sequence numbers `start..end`, an empty range when there are none.
    fn take(&mut self, max: u64) -> (u64, u64);

    /// Takes one item, as `take(1)` does.
    #[inline]
    fn take_one(&mut self) -> Option<u64> {
        let (seq, end) = self.take(1);
        (seq != end).then_some(seq)
    }

    /// Frees the slots of `start..next`, whose items were moved out; those of `next..end` stay in the ring or are
    /// dropped, as the ring's rules say.
    fn give_up(&mut self, start: u64, next: u64, end: u64);

    /// Every writer is gone, and what they published is visible to the next look.
    fn is_finished(&self) -> bool;

    /// Returns when there was an item, or no writer is left.
    fn wait_for_item(&self);
}

/// The reading end of a ring. Each ring names its own: [`spsc::Consumer`](super::spsc::Consumer),
/// [`mpsc::Receiver`](super::mpsc::Receiver), [`mpmc::Receiver`](super::mpmc::Receiver).
pub struct Reader<R: Take> {
    pub(super) ring: R,
    /// How often in a row a look ahead found only a few items.
    close_behind: u32,
}

impl<R: Take> Reader<R> {
    pub(super) fn new(ring: R) -> Self {
        Self {
            ring,
            close_behind: 0,
        }
    }

    /// The number of slots.
    pub fn capacity(&self) -> usize {
        self.ring.slots().capacity() as usize
    }

    /// True when there was something to receive at some recent time.
    pub fn has_items(&mut self) -> bool {
        self.ring.look(1) > 0
    }

    /// Receives without waiting.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`], or [`TryRecvError::Disconnected`] when no item will ever come.
    #[inline]
    pub fn try_recv(&mut self) -> Result<R::Item, TryRecvError> {
        match self.take_one() {
            Some(item) => Ok(item),
            None => self.recv_last(),
        }
    }

    #[inline]
    fn take_one(&mut self) -> Option<R::Item> {
        let seq = self.ring.take_one()?;
        // SAFETY: taken above, and not given up yet.
        let item = unsafe { self.ring.slots().take(seq) };
        let end = seq.wrapping_add(1);
        self.ring.give_up(seq, end, end);
        Some(item)
    }

    /// The ring looked empty: is it so for ever?
    #[cold]
    #[inline(never)]
    fn recv_last(&mut self) -> Result<R::Item, TryRecvError> {
        if !self.ring.is_finished() {
            return Err(TryRecvError::Empty);
        }
        self.take_one().ok_or(TryRecvError::Disconnected)
    }

    /// Receives, waiting by the ring's strategy.
    ///
    /// # Errors
    /// [`RecvError`] when everything was received and every writer is gone.
    #[inline]
    pub fn recv(&mut self) -> Result<R::Item, RecvError> {
        if self.ring.known() == 0 {
            self.catch_up();
        }
        match self.take_one() {
            Some(item) => Ok(item),
            None => self.recv_slowly(),
        }
    }

    /// Looks for a batch, and lets one build up after having followed close behind the writers for a while.
    #[inline(never)]
    fn catch_up(&mut self) {
        let found = self.ring.look(LOOK_AHEAD);
        if found == 0 {
            self.close_behind = 0;
        } else if found < NEAR {
            self.close_behind += 1;
            if self.close_behind > CLOSE_BEHIND {
                let half = self.ring.slots().capacity() / 2;
                let far = self.ring.position().wrapping_add(half);
                build_up::<R::Wait>(|| self.ring.is_published(far));
                self.ring.look(LOOK_AHEAD);
            }
        }
    }

    // Apart for the same reason as the slow way of sending.
    #[cold]
    #[inline(never)]
    fn recv_slowly(&mut self) -> Result<R::Item, RecvError> {
        loop {
            match self.try_recv() {
                Ok(item) => return Ok(item),
                Err(TryRecvError::Disconnected) => return Err(RecvError),
                Err(TryRecvError::Empty) => self.ring.wait_for_item(),
            }
        }
    }

    /// The published items, at most `max`, without waiting; the chunk may be empty.
    #[inline]
    pub fn read(&mut self, max: usize) -> ReadChunk<'_, R> {
        let range = self.ring.take(max as u64);
        self.chunk(range)
    }

    /// Waits for at least one item, then reads as [`read`](Self::read) does.
    ///
    /// # Errors
    /// [`RecvError`] when everything was received and every writer is gone.
    ///
    /// # Panics
    /// When `max` is zero.
    #[inline]
    pub fn read_wait(&mut self, max: usize) -> Result<ReadChunk<'_, R>, RecvError> {
        assert!(max > 0, "a read of no items would wait for nothing");
        let mut range = self.ring.take(max as u64);
        while range.0 == range.1 {
            let finished = self.ring.is_finished();
            if !finished {
                self.ring.wait_for_item();
            }
            range = self.ring.take(max as u64);
            if finished && range.0 == range.1 {
                return Err(RecvError);
            }
        }
        Ok(self.chunk(range))
    }

    #[inline]
    fn chunk(&mut self, (start, end): (u64, u64)) -> ReadChunk<'_, R> {
        ReadChunk {
            ring: &mut self.ring,
            start,
            next: start,
            end,
        }
    }

    /// Hands the published items, at most `max`, to `each` without waiting, and says how many those were.
    #[inline]
    pub fn drain(&mut self, max: usize, each: impl FnMut(R::Item)) -> usize {
        let mut chunk = self.read(max);
        let count = chunk.len();
        chunk.drain(each);
        count
    }
}

impl<R: Take + Clone> Clone for Reader<R> {
    fn clone(&self) -> Self {
        Self::new(self.ring.clone())
    }
}

impl<R: Take> fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(R::NAME)
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

/// Published items, read by [`Reader::read`]; the slots of those taken from it are free when this is dropped.
///
/// As an iterator it takes the items one by one.
pub struct ReadChunk<'a, R: Take> {
    ring: &'a mut R,
    start: u64,
    /// The items of `start..next` are taken from the chunk, those of `next..end` are not.
    next: u64,
    end: u64,
}

impl<R: Take> ReadChunk<'_, R> {
    /// The items that are not taken yet, as two slices; the second is empty unless the chunk wraps.
    #[inline]
    pub fn as_slices(&self) -> (&[R::Item], &[R::Item]) {
        let count = self.end.wrapping_sub(self.next);
        // SAFETY: the chunk's own, and not taken; a chunk is never above the capacity.
        unsafe { self.ring.slots().slices(self.next, count) }
    }

    /// Takes every remaining item and hands it to `each`.
    #[inline]
    pub fn drain(&mut self, each: impl FnMut(R::Item)) {
        // SAFETY: the chunk's own, and not taken; a chunk is never above the capacity.
        unsafe { self.ring.slots().drain(&mut self.next, self.end, each) };
    }

    /// Drops the next `count` items (or all, if fewer remain).
    pub fn skip_items(&mut self, count: usize) {
        let end = self.next.wrapping_add(count.min(self.len()) as u64);
        drop_all(|| {
            if self.next == end {
                return false;
            }
            drop(self.next());
            true
        });
    }
}

impl<R: Take> Iterator for ReadChunk<'_, R> {
    type Item = R::Item;

    #[inline]
    fn next(&mut self) -> Option<R::Item> {
        if self.next == self.end {
            return None;
        }
        let seq = self.next;
        self.next = seq.wrapping_add(1);
        // SAFETY: the chunk's own, was not taken, and is counted as taken now.
        Some(unsafe { self.ring.slots().take(seq) })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl<R: Take> ExactSizeIterator for ReadChunk<'_, R> {
    #[inline]
    fn len(&self) -> usize {
        self.end.wrapping_sub(self.next) as usize
    }
}

impl<R: Take> Drop for ReadChunk<'_, R> {
    #[inline]
    fn drop(&mut self) {
        self.ring.give_up(self.start, self.next, self.end);
    }
}
