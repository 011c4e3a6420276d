//! One writer, one reader.
//!
//! Owns: the protocol between [`Producer`] and [`Consumer`].
//! Does not know: threads; each end may move between them, but is used by one at a time (`&mut self`).
//!
//! `head` is the sequence number of the next item to read, `tail` of the next to write; both only grow, and
//! wrap at 2^64. Items live in the cells of `head..tail`, and `tail - head <= capacity`. Only the producer
//! writes `tail`, only the consumer writes `head`. Each end keeps its own cursor and the last value it saw of
//! the other's in plain fields, so that it touches a shared line only to publish, or when it seems stuck.
//!
//! Rules, each with a test of its number below:
//! 1. Items arrive in the order they were sent, each once.
//! 2. The ring holds exactly `capacity` items; then `try_send` gives the item back as `Full`.
//! 3. When the producer is dropped, what it published can still be received; then `Disconnected`.
//! 4. When the consumer is dropped, sending answers `Disconnected` and gives the item back. Items that were
//!    published and never received are dropped with the later of the two ends.
//! 5. A write chunk publishes, when dropped, exactly the items written into it; so does a panic while filling.
//! 6. A read chunk gives up, when dropped, exactly the items taken from it; the others stay first in the ring.
//! 7. Every item is dropped exactly once, also when a `Drop` panics. Zero-sized and over-aligned types work.
//! 8. A forgotten chunk (`mem::forget`) publishes or gives up nothing; it can leak items, never repeat one.
#![allow(unsafe_code)]

mod chunk;

use std::fmt;

pub use self::chunk::{ReadChunk, WriteChunk};

use crossbeam_utils::CachePadded;

use super::slots::{Slots, drop_all};
use super::wait::build_up;
use super::{ClaimError, RecvError, SendError, SpinThenYield, TryRecvError, TrySendError, Wait};
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering};

/// A blocking reader that finds fewer items than this is near the writer.
const NEAR: u64 = 16;
/// How often in a row it may be near before it keeps its distance.
const CLOSE_BEHIND: u32 = 4;

struct Shared<T, W> {
    head: CachePadded<AtomicU64>,
    tail: CachePadded<AtomicU64>,
    // Written once each; read by both ends from lines that stay shared.
    producer_gone: CachePadded<AtomicBool>,
    consumer_gone: AtomicBool,
    slots: Slots<T>,
    not_empty: W,
    not_full: W,
}

impl<T, W> Drop for Shared<T, W> {
    fn drop(&mut self) {
        let mut next = self.head.load(Ordering::Relaxed);
        let tail = self.tail.load(Ordering::Relaxed);
        drop_all(|| {
            if next == tail {
                return false;
            }
            let seq = next;
            next = next.wrapping_add(1);
            // SAFETY: both ends are gone; `head..tail` is initialised, and `next` counts this one as taken.
            drop(unsafe { self.slots.take(seq) });
            true
        });
    }
}

/// A ring with room for `capacity` items (rounded up to a power of two) and the default wait strategy.
///
/// # Panics
/// When `capacity` is zero or above 2^30.
pub fn channel<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    channel_with(capacity)
}

/// As [`channel`], with a wait strategy of choice for the blocking calls.
///
/// ```
/// use actor_rt::ring::{Block, spsc};
/// let (mut producer, mut consumer) = spsc::channel_with::<_, Block>(2);
/// producer.send("sleeps rather than spins").unwrap();
/// assert_eq!(consumer.recv(), Ok("sleeps rather than spins"));
/// ```
///
/// # Panics
/// When `capacity` is zero or above 2^30.
pub fn channel_with<T, W: Wait>(capacity: usize) -> (Producer<T, W>, Consumer<T, W>) {
    channel_from(capacity, 0)
}

/// Tests start near the wrap of the cursors.
pub(super) fn channel_from<T, W: Wait>(
    capacity: usize,
    start: u64,
) -> (Producer<T, W>, Consumer<T, W>) {
    let shared = Arc::new(Shared {
        head: CachePadded::new(AtomicU64::new(start)),
        tail: CachePadded::new(AtomicU64::new(start)),
        producer_gone: CachePadded::new(AtomicBool::new(false)),
        consumer_gone: AtomicBool::new(false),
        slots: Slots::new(capacity),
        not_empty: W::default(),
        not_full: W::default(),
    });
    let producer = Producer {
        shared: Arc::clone(&shared),
        tail: start,
        limit: start.wrapping_add(shared.slots.capacity()),
    };
    (
        producer,
        Consumer {
            shared,
            head: start,
            seen_tail: start,
            close_behind: 0,
        },
    )
}

/// The writing end of a ring made by [`channel`].
pub struct Producer<T, W: Wait = SpinThenYield> {
    shared: Arc<Shared<T, W>>,
    tail: u64,
    /// The ring was last seen to be full at this `tail`.
    limit: u64,
}

impl<T, W: Wait> Producer<T, W> {
    /// The number of slots.
    pub fn capacity(&self) -> usize {
        self.shared.slots.capacity() as usize
    }

    /// The number of free slots right now; the reader may be freeing more.
    pub fn free(&mut self) -> usize {
        self.refresh();
        self.room() as usize
    }

    /// True once the consumer is gone.
    pub fn is_disconnected(&self) -> bool {
        // Pairs with the store in the consumer's `drop`.
        self.shared.consumer_gone.load(Ordering::Acquire)
    }

    #[inline]
    fn room(&self) -> u64 {
        self.limit.wrapping_sub(self.tail)
    }

    #[inline]
    fn refresh(&mut self) {
        // Pairs with the consumer's `release`: the items before `head` were read out before their cells are reused.
        self.limit = self
            .shared
            .head
            .load(Ordering::Acquire)
            .wrapping_add(self.shared.slots.capacity());
    }

    #[inline]
    fn publish(&mut self, tail: u64) {
        self.tail = tail;
        // Pairs with the consumer's `refresh`: the items before `tail` are whole when it sees them.
        self.shared.tail.store(tail, Ordering::Release);
        self.shared.not_empty.wake();
    }

    /// Sends without waiting.
    ///
    /// # Errors
    /// Gives the item back: [`TrySendError::Full`] or [`TrySendError::Disconnected`].
    #[inline]
    pub fn try_send(&mut self, item: T) -> Result<(), TrySendError<T>> {
        if self.shared.consumer_gone.load(Ordering::Relaxed) {
            return Err(TrySendError::Disconnected(item));
        }
        if self.room() == 0 {
            self.refresh();
            if self.room() == 0 {
                return Err(TrySendError::Full(item));
            }
        }
        // SAFETY: there is room at `tail`, and only this producer writes there.
        unsafe { self.shared.slots.write(self.tail, item) };
        self.publish(self.tail.wrapping_add(1));
        Ok(())
    }

    /// Sends, waiting for room by the ring's strategy.
    ///
    /// # Errors
    /// [`SendError`] with the item when the consumer is gone.
    #[inline]
    pub fn send(&mut self, item: T) -> Result<(), SendError<T>> {
        match self.try_send(item) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(item)) => self.send_slowly(item),
            Err(TrySendError::Disconnected(item)) => Err(SendError(item)),
        }
    }

    // Apart, so that the fast path spills nothing: while the line with `tail` travels, a core runs ahead as far as
    // its store buffer lasts, and a spilled register per item cost three quarters of the throughput.
    #[cold]
    #[inline(never)]
    fn send_slowly(&mut self, mut item: T) -> Result<(), SendError<T>> {
        loop {
            self.wait_for_room(1);
            match self.try_send(item) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(back)) => return Err(SendError(back)),
                Err(TrySendError::Full(back)) => item = back,
            }
        }
    }

    fn wait_for_room(&self, count: u64) {
        let (shared, tail) = (&*self.shared, self.tail);
        shared.not_full.wait_until(|| {
            let used = tail.wrapping_sub(shared.head.load(Ordering::Relaxed));
            shared.slots.capacity() - used >= count || shared.consumer_gone.load(Ordering::Relaxed)
        });
    }

    /// Claims exactly `count` slots without waiting.
    ///
    /// ```
    /// use actor_rt::ring::spsc;
    /// let (mut producer, mut consumer) = spsc::channel(64);
    /// let mut chunk = producer.claim(3).unwrap();
    /// chunk.fill([1, 2, 3]);
    /// drop(chunk); // publishes all three at once
    /// assert_eq!(consumer.read(64).as_slices().0, [1, 2, 3]);
    /// ```
    ///
    /// # Errors
    /// [`ClaimError::Full`] when fewer slots are free, [`ClaimError::Disconnected`] when the consumer is gone.
    ///
    /// # Panics
    /// When `count` is above the capacity.
    #[inline]
    pub fn claim(&mut self, count: usize) -> Result<WriteChunk<'_, T, W>, ClaimError> {
        if self.shared.consumer_gone.load(Ordering::Relaxed) {
            return Err(ClaimError::Disconnected);
        }
        if self.room() < count as u64 {
            self.refresh();
            if self.room() < count as u64 {
                assert!(
                    count <= self.capacity(),
                    "a claim of {count} slots never fits into {}",
                    self.capacity()
                );
                return Err(ClaimError::Full);
            }
        }
        let (next, end) = (self.tail, self.tail.wrapping_add(count as u64));
        Ok(WriteChunk {
            producer: self,
            next,
            end,
        })
    }

    /// Claims as many slots as are free, at least one and at most `max`, waiting for the first.
    ///
    /// # Errors
    /// [`ClaimError::Disconnected`] when the consumer is gone.
    ///
    /// # Panics
    /// When `max` is zero.
    pub fn claim_up_to(&mut self, max: usize) -> Result<WriteChunk<'_, T, W>, ClaimError> {
        assert!(max > 0, "a claim of no slots would wait for nothing");
        if self.room() < max as u64 {
            self.refresh();
            if self.room() == 0 {
                self.wait_for_room(1);
                self.refresh();
            }
        }
        let count = self.room().min(max as u64) as usize;
        self.claim(count)
    }
}

impl<T, W: Wait> Drop for Producer<T, W> {
    fn drop(&mut self) {
        // Pairs with the load in the consumer's `try_recv`: whoever sees it also sees the last `tail`.
        self.shared.producer_gone.store(true, Ordering::Release);
        self.shared.not_empty.wake();
    }
}

/// The reading end of a ring made by [`channel`].
pub struct Consumer<T, W: Wait = SpinThenYield> {
    shared: Arc<Shared<T, W>>,
    head: u64,
    seen_tail: u64,
    /// How often in a row only a few items were found.
    close_behind: u32,
}

impl<T, W: Wait> Consumer<T, W> {
    /// The number of slots.
    pub fn capacity(&self) -> usize {
        self.shared.slots.capacity() as usize
    }

    /// The number of items that can be received right now; the writer may be publishing more.
    pub fn available(&mut self) -> usize {
        self.refresh();
        self.ready() as usize
    }

    #[inline]
    fn ready(&self) -> u64 {
        self.seen_tail.wrapping_sub(self.head)
    }

    #[inline]
    fn refresh(&mut self) {
        // Pairs with the producer's `publish`.
        self.seen_tail = self.shared.tail.load(Ordering::Acquire);
    }

    #[inline]
    fn release(&mut self, head: u64) {
        self.head = head;
        // Pairs with the producer's `refresh`.
        self.shared.head.store(head, Ordering::Release);
        self.shared.not_full.wake();
    }

    /// Receives without waiting.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`], or [`TryRecvError::Disconnected`] when no item will ever come.
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        if self.ready() == 0 {
            self.refresh();
            if self.ready() == 0 {
                return self.recv_last();
            }
        }
        // SAFETY: `head` is before the published `tail`: initialised, and read only by this consumer.
        let item = unsafe { self.shared.slots.take(self.head) };
        self.release(self.head.wrapping_add(1));
        Ok(item)
    }

    /// The ring looked empty: is it so for ever?
    #[cold]
    #[inline(never)]
    fn recv_last(&mut self) -> Result<T, TryRecvError> {
        // Pairs with the producer's `drop`.
        if !self.shared.producer_gone.load(Ordering::Acquire) {
            return Err(TryRecvError::Empty);
        }
        self.refresh();
        if self.ready() == 0 {
            return Err(TryRecvError::Disconnected);
        }
        self.try_recv()
    }

    /// Receives, waiting by the ring's strategy.
    ///
    /// # Errors
    /// [`RecvError`] when everything was received and the producer is gone.
    #[inline]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        if self.ready() == 0 && self.catch_up() == 0 {
            return self.recv_slowly();
        }
        // SAFETY: `head` is before the published `tail`: initialised, and read only by this consumer.
        let item = unsafe { self.shared.slots.take(self.head) };
        self.release(self.head.wrapping_add(1));
        Ok(item)
    }

    /// Looks for items, and lets a batch build up after having followed close behind the producer for a while.
    #[inline(never)]
    fn catch_up(&mut self) -> u64 {
        self.refresh();
        if self.ready() == 0 {
            self.close_behind = 0;
        } else if self.ready() < NEAR {
            self.close_behind += 1;
            if self.close_behind > CLOSE_BEHIND {
                let (shared, head) = (&*self.shared, self.head);
                let half = shared.slots.capacity() / 2;
                build_up::<W>(|| shared.tail.load(Ordering::Relaxed).wrapping_sub(head) >= half);
                self.refresh();
            }
        }
        self.ready()
    }

    // Apart for the same reason as `send_slowly`.
    #[cold]
    #[inline(never)]
    fn recv_slowly(&mut self) -> Result<T, RecvError> {
        loop {
            match self.try_recv() {
                Ok(item) => return Ok(item),
                Err(TryRecvError::Disconnected) => return Err(RecvError),
                Err(TryRecvError::Empty) => self.wait_for_item(),
            }
        }
    }

    fn wait_for_item(&self) {
        let (shared, head) = (&*self.shared, self.head);
        shared.not_empty.wait_until(|| {
            shared.tail.load(Ordering::Relaxed) != head
                || shared.producer_gone.load(Ordering::Relaxed)
        });
    }

    /// The published items, at most `max`, without waiting; the chunk may be empty.
    #[inline]
    pub fn read(&mut self, max: usize) -> ReadChunk<'_, T, W> {
        if self.ready() < max as u64 {
            self.refresh();
        }
        let next = self.head;
        let end = next.wrapping_add(self.ready().min(max as u64));
        // Ahead of time, so that a forgotten chunk leaks its items (rule 8); its drop sets it right.
        self.head = end;
        ReadChunk {
            consumer: self,
            next,
            end,
        }
    }

    /// Waits for at least one item, then reads as [`read`](Self::read) does.
    ///
    /// # Errors
    /// [`RecvError`] when everything was received and the producer is gone.
    ///
    /// # Panics
    /// When `max` is zero.
    pub fn read_wait(&mut self, max: usize) -> Result<ReadChunk<'_, T, W>, RecvError> {
        assert!(max > 0, "a read of no items would wait for nothing");
        while self.ready() == 0 {
            self.refresh();
            if self.ready() > 0 {
                break;
            }
            // Pairs with the producer's `drop`.
            if self.shared.producer_gone.load(Ordering::Acquire) {
                self.refresh();
                if self.ready() == 0 {
                    return Err(RecvError);
                }
                break;
            }
            self.wait_for_item();
        }
        Ok(self.read(max))
    }

    /// Hands the published items, at most `max`, to `each` without waiting, and says how many those were.
    #[inline]
    pub fn drain(&mut self, max: usize, each: impl FnMut(T)) -> usize {
        let mut chunk = self.read(max);
        let count = chunk.len();
        chunk.drain(each);
        count
    }
}

impl<T, W: Wait> Drop for Consumer<T, W> {
    fn drop(&mut self) {
        // Not behind `head` even after a forgotten chunk. Ordered for `Shared::drop` by the `Arc`.
        self.shared.head.store(self.head, Ordering::Relaxed);
        // Pairs with `is_disconnected`; `try_send` needs no pair, it touches nothing of the consumer's after.
        self.shared.consumer_gone.store(true, Ordering::Release);
        self.shared.not_full.wake();
    }
}

impl<T, W: Wait> fmt::Debug for Producer<T, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("spsc::Producer")
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

impl<T, W: Wait> fmt::Debug for Consumer<T, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("spsc::Consumer")
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_model;
