//! One writer, many readers; every reader sees every item, in the order of their dependencies.
//!
//! Owns: the protocol between the [`Producer`] and the [`Consumer`]s, and the graph of who waits for whom
//! (the "multicast", "pipeline" and "diamond" of the LMAX Disruptor).
//! Does not know: threads; each end may move between them, but is used by one at a time (`&mut self`).
//!
//! Each consumer owns a cursor: the sequence number of the next item that it has not finished. A consumer may read
//! up to the least cursor of those it comes after, or up to the producer's `tail` if it comes after nobody. The
//! producer may write while `tail` is less than a capacity ahead of the least cursor of all. Items are read as `&T`
//! and stay in their slots until they are overwritten.
//!
//! Rules, each with a test of its number below:
//! 1. Every consumer sees every item once, in the order sent, and after all those it depends on have finished it.
//! 2. The ring holds exactly `capacity` items that some consumer has not finished; then `try_send` answers `Full`.
//! 3. When the producer is dropped, consumers still see what was published; then `Disconnected`.
//! 4. A consumer that is dropped holds nobody up: those after it wait for what it waited for. When all consumers are
//!    gone, sending answers `Disconnected`.
//! 5. A write chunk publishes, when dropped, exactly the items written into it; so does a panic while filling.
//! 6. A read chunk finishes all its items when dropped. A panic inside [`Consumer::for_each`] finishes the items
//!    handed over so far, the panicking one included.
//! 7. Every item is dropped exactly once: when its slot is claimed again, or with the last handle; also when a
//!    `Drop` panics. Zero-sized and over-aligned types work.
//! 8. A forgotten chunk (`mem::forget`) publishes and finishes nothing; items may be seen again, or leak.
#![allow(unsafe_code)]

mod chunk;

use std::fmt;

pub use self::chunk::ReadChunk;

use crossbeam_utils::CachePadded;

use super::slots::{Slots, drop_all};
use super::write::{Claim, Writer};
use super::{ClaimError, RecvError, SpinThenYield, TryRecvError, Wait};
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The writing end of a ring made by [`Builder`].
pub type Producer<T, W = SpinThenYield> = Writer<Writing<T, W>>;

struct Stage {
    /// The next item that this consumer has not finished.
    cursor: CachePadded<AtomicU64>,
    gone: AtomicBool,
    /// Indices of the stages before it, all smaller than its own; empty means the producer.
    after: Box<[usize]>,
}

struct Shared<T, W> {
    tail: CachePadded<AtomicU64>,
    /// The items `oldest..tail` are initialised. Written by the producer only.
    oldest: CachePadded<AtomicU64>,
    producer_gone: CachePadded<AtomicBool>,
    consumers: AtomicUsize,
    stages: Box<[Stage]>,
    /// Stages that nobody comes after: the producer waits for these alone.
    last: Box<[usize]>,
    slots: Slots<T>,
    moved: W,
}

impl<T, W> Shared<T, W> {
    /// How far `stage` has come, seen from `base`; a dropped stage stands where its predecessors stand.
    fn reached(&self, stage: usize, base: u64) -> u64 {
        let stage = &self.stages[stage];
        // Pairs with the consumer's `drop`: it has finished reading when it is seen gone.
        if stage.gone.load(Ordering::Acquire) {
            return self.reached_by(&stage.after, base);
        }
        // Pairs with the consumer's `finish`: it has read what is before its cursor.
        stage.cursor.load(Ordering::Acquire).wrapping_sub(base)
    }

    /// The least distance from `base` that every one of `stages` has come; the producer's, if there is none.
    ///
    /// `base` must not be ahead of any of them, so that distances compare where sequence numbers wrap.
    fn reached_by(&self, stages: &[usize], base: u64) -> u64 {
        // Pairs with the producer's `publish`.
        let none = || self.tail.load(Ordering::Acquire).wrapping_sub(base);
        stages
            .iter()
            .map(|&stage| self.reached(stage, base))
            .min()
            .unwrap_or_else(none)
    }
}

impl<T, W> Drop for Shared<T, W> {
    fn drop(&mut self) {
        let mut next = self.oldest.load(Ordering::Relaxed);
        let tail = self.tail.load(Ordering::Relaxed);
        drop_all(|| {
            if next == tail {
                return false;
            }
            let seq = next;
            next = seq.wrapping_add(1);
            // SAFETY: every handle is gone; `oldest..tail` is initialised, and `next` counts this one as taken.
            drop(unsafe { self.slots.take(seq) });
            true
        });
    }
}

/// Names a consumer while the ring is being built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageId(usize);

/// Builds a ring and the graph of its consumers.
///
/// A diamond, where `c` sees an item only after both `a` and `b` have finished it:
/// ```
/// use actor_rt::ring::broadcast::Builder;
///
/// let mut builder = Builder::new(64);
/// let a = builder.consumer(&[]);
/// let b = builder.consumer(&[]);
/// let _c = builder.consumer(&[a, b]);
/// let (mut producer, consumers) = builder.build::<u64>();
/// let [mut a, mut b, mut c] = consumers.try_into().unwrap();
///
/// producer.send(7).unwrap();
/// assert_eq!(c.for_each(64, |_| unreachable!("a and b have not finished")), 0);
/// assert_eq!(a.for_each(64, |n| assert_eq!(*n, 7)), 1);
/// assert_eq!(b.for_each(64, |n| assert_eq!(*n, 7)), 1);
/// assert_eq!(c.for_each(64, |n| assert_eq!(*n, 7)), 1);
/// ```
#[derive(Debug)]
pub struct Builder {
    capacity: usize,
    start: u64,
    stages: Vec<Box<[usize]>>,
}

impl Builder {
    /// A ring with room for `capacity` items (rounded up to a power of two).
    pub fn new(capacity: usize) -> Self {
        Self::starting_at(capacity, 0)
    }

    /// Tests start near the wrap of the cursors.
    pub(super) fn starting_at(capacity: usize, start: u64) -> Self {
        Self {
            capacity,
            start,
            stages: Vec::new(),
        }
    }

    /// Adds a consumer that sees an item once all of `after` have finished it; `&[]` means as soon as it is published.
    ///
    /// # Panics
    /// When `after` names a consumer of another builder that this one does not have.
    pub fn consumer(&mut self, after: &[StageId]) -> StageId {
        let me = self.stages.len();
        assert!(
            after.iter().all(|stage| stage.0 < me),
            "{after:?} are not all consumers of this ring"
        );
        self.stages
            .push(after.iter().map(|stage| stage.0).collect());
        StageId(me)
    }

    /// The producer, and the consumers in the order they were added, with the default wait strategy.
    ///
    /// # Panics
    /// When the capacity is zero or above 2^30, or when there is no consumer.
    pub fn build<T>(self) -> (Producer<T>, Vec<Consumer<T>>) {
        self.build_with()
    }

    /// As [`build`](Self::build), with a wait strategy of choice for the blocking calls.
    ///
    /// # Panics
    /// As [`build`](Self::build).
    pub fn build_with<T, W: Wait>(self) -> (Producer<T, W>, Vec<Consumer<T, W>>) {
        let count = self.stages.len();
        assert!(count > 0, "a broadcast ring needs at least one consumer");
        let last = (0..count)
            .filter(|stage| !self.stages.iter().any(|after| after.contains(stage)))
            .collect();
        let start = self.start;
        let stage = |after| Stage {
            cursor: CachePadded::new(AtomicU64::new(start)),
            gone: AtomicBool::new(false),
            after,
        };
        let shared = Arc::new(Shared {
            tail: CachePadded::new(AtomicU64::new(start)),
            oldest: CachePadded::new(AtomicU64::new(start)),
            producer_gone: CachePadded::new(AtomicBool::new(false)),
            consumers: AtomicUsize::new(count),
            stages: self.stages.into_iter().map(stage).collect(),
            last,
            slots: Slots::new(self.capacity),
            moved: W::default(),
        });
        let consumers = (0..count)
            .map(|stage| Consumer {
                shared: Arc::clone(&shared),
                stage,
                cursor: start,
                seen: start,
            })
            .collect();
        let writing = Writing {
            shared,
            tail: start,
            oldest: start,
            finished: start,
        };
        (Writer(writing), consumers)
    }
}

/// How a [`Producer`] claims and publishes.
pub struct Writing<T, W: Wait> {
    shared: Arc<Shared<T, W>>,
    tail: u64,
    /// The items `oldest..tail` are initialised.
    oldest: u64,
    /// Every consumer was seen to have finished the items before this.
    finished: u64,
}

impl<T, W: Wait> Writing<T, W> {
    #[inline]
    fn room(&self) -> u64 {
        self.shared.slots.capacity() - self.tail.wrapping_sub(self.finished)
    }

    fn refresh(&mut self) {
        let moved = self.shared.reached_by(&self.shared.last, self.finished);
        self.finished = self.finished.wrapping_add(moved);
    }

    /// Drops the old items in the slots of `tail..end`.
    #[inline]
    fn clear(&mut self, end: u64) {
        let oldest = end.wrapping_sub(self.shared.slots.capacity());
        // The distance is huge while the first lap has not filled the slots.
        let count = oldest.wrapping_sub(self.oldest);
        if count == 0 || count > self.shared.slots.capacity() {
            return;
        }
        let mut next = self.oldest;
        self.oldest = oldest;
        self.shared.oldest.store(oldest, Ordering::Relaxed);
        if std::mem::needs_drop::<T>() {
            drop_all(|| {
                if next == oldest {
                    return false;
                }
                let seq = next;
                next = seq.wrapping_add(1);
                // SAFETY: every consumer has finished `seq`, and it is no longer counted as initialised.
                drop(unsafe { self.shared.slots.take(seq) });
                true
            });
        }
    }
}

// SAFETY: every consumer has finished the items a capacity before `tail..end`, `clear` has dropped them, and only the
// producer writes.
unsafe impl<T, W: Wait> Claim for Writing<T, W> {
    type Item = T;

    const NAME: &'static str = "broadcast::Producer";

    #[inline]
    fn slots(&self) -> &Slots<T> {
        &self.shared.slots
    }

    #[inline]
    fn claim(&mut self, min: u64, max: u64) -> Result<(u64, u64), ClaimError> {
        if self.is_disconnected() {
            return Err(ClaimError::Disconnected);
        }
        if self.room() < max {
            self.refresh();
            if self.room() < min {
                return Err(ClaimError::Full);
            }
        }
        let end = self.tail.wrapping_add(self.room().min(max));
        self.clear(end);
        Ok((self.tail, end))
    }

    #[inline]
    fn publish(&mut self, _start: u64, written: u64, _end: u64) {
        self.tail = written;
        // Pairs with `reached_by`: the items before `tail` are whole when it is seen.
        self.shared.tail.store(written, Ordering::Release);
        self.shared.moved.wake();
    }

    fn wait_for_room(&self) {
        let (shared, base) = (&*self.shared, self.finished);
        shared.moved.wait_until(|| {
            shared.reached_by(&shared.last, base) > 0
                || shared.consumers.load(Ordering::Relaxed) == 0
        });
    }

    #[inline]
    fn is_disconnected(&self) -> bool {
        self.shared.consumers.load(Ordering::Relaxed) == 0
    }
}

impl<T, W: Wait> Drop for Writing<T, W> {
    fn drop(&mut self) {
        // Pairs with the load in `is_finished`: who sees it also sees the last `tail`.
        self.shared.producer_gone.store(true, Ordering::Release);
        self.shared.moved.wake();
    }
}

/// A reading end of a ring made by [`Builder`].
pub struct Consumer<T, W: Wait = SpinThenYield> {
    shared: Arc<Shared<T, W>>,
    stage: usize,
    cursor: u64,
    /// The items before this were seen to be published and finished by those this consumer comes after.
    seen: u64,
}

impl<T, W: Wait> Consumer<T, W> {
    #[inline]
    fn ready(&self) -> u64 {
        self.seen.wrapping_sub(self.cursor)
    }

    #[inline]
    fn refresh(&mut self) {
        let shared = &*self.shared;
        let reached = shared.reached_by(&shared.stages[self.stage].after, self.cursor);
        self.seen = self.cursor.wrapping_add(reached);
    }

    #[inline]
    fn finish(&mut self, cursor: u64) {
        self.cursor = cursor;
        // Pairs with `reached`.
        self.shared.stages[self.stage]
            .cursor
            .store(cursor, Ordering::Release);
        self.shared.moved.wake();
    }

    /// The items this consumer may see, at most `max`, without waiting; the chunk may be empty.
    #[inline]
    pub fn read(&mut self, max: usize) -> ReadChunk<'_, T, W>
    where
        T: Sync,
    {
        if self.ready() < max as u64 {
            self.refresh();
        }
        let end = self.cursor.wrapping_add(self.ready().min(max as u64));
        ReadChunk {
            consumer: self,
            end,
        }
    }

    /// Waits for at least one item, then reads as [`read`](Self::read) does.
    ///
    /// # Errors
    /// [`RecvError`] when this consumer has seen everything and the producer is gone.
    ///
    /// # Panics
    /// When `max` is zero.
    pub fn read_wait(&mut self, max: usize) -> Result<ReadChunk<'_, T, W>, RecvError>
    where
        T: Sync,
    {
        assert!(max > 0, "a read of no items would wait for nothing");
        while self.ready() == 0 {
            self.refresh();
            if self.ready() > 0 {
                break;
            }
            if self.is_finished() {
                return Err(RecvError);
            }
            self.wait_for_item();
        }
        Ok(self.read(max))
    }

    /// Nothing will ever come: the producer is gone and this consumer is at the end. Others before it may not be.
    fn is_finished(&self) -> bool {
        // Pairs with the producer's `drop`.
        let gone = self.shared.producer_gone.load(Ordering::Acquire);
        gone && self.shared.tail.load(Ordering::Relaxed) == self.cursor
    }

    fn wait_for_item(&self) {
        let shared = &*self.shared;
        shared.moved.wait_until(|| {
            shared.reached_by(&shared.stages[self.stage].after, self.cursor) > 0
                || self.is_finished()
        });
    }

    /// Hands the items this consumer may see, at most `max`, to `each` without waiting, and says how many.
    ///
    /// All are finished at once at the end: a batch costs those who wait for it one look, not one per item.
    #[inline]
    pub fn for_each(&mut self, max: usize, mut each: impl FnMut(&T)) -> usize
    where
        T: Sync,
    {
        let mut chunk = self.read(max);
        let (count, end) = (chunk.len(), chunk.end);
        // Only what was handed over is finished if `each` panics.
        chunk.end = chunk.consumer.cursor;
        while chunk.end != end {
            let seq = chunk.end;
            chunk.end = seq.wrapping_add(1);
            // SAFETY: `seq` is published, and not overwritten before this consumer finishes it.
            each(unsafe { chunk.consumer.shared.slots.get(seq) });
        }
        count
    }

    /// Receives a clone of the next item without waiting.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`], or [`TryRecvError::Disconnected`] when no item will ever come.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError>
    where
        T: Clone + Sync,
    {
        let finished = self.is_finished();
        let mut item = None;
        self.for_each(1, |next| item = Some(next.clone()));
        match item {
            Some(item) => Ok(item),
            None if finished => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }
}

impl<T, W: Wait> Drop for Consumer<T, W> {
    fn drop(&mut self) {
        // Pairs with `reached`.
        self.shared.stages[self.stage]
            .gone
            .store(true, Ordering::Release);
        self.shared.consumers.fetch_sub(1, Ordering::Relaxed);
        self.shared.moved.wake();
    }
}

impl<T, W: Wait> fmt::Debug for Consumer<T, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("broadcast::Consumer")
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_model;
