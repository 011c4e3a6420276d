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

use crossbeam_utils::CachePadded;

use super::read::{Reader, Take};
use super::slots::{Slots, drop_all};
use super::write::{Claim, Writer};
use super::{ClaimError, SpinThenYield, Wait};
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering};

/// The writing end of a ring made by [`channel`].
pub type Producer<T, W = SpinThenYield> = Writer<Writing<T, W>>;
/// The reading end of a ring made by [`channel`].
pub type Consumer<T, W = SpinThenYield> = Reader<Reading<T, W>>;

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
    let writing = Writing {
        shared: Arc::clone(&shared),
        tail: start,
        limit: start.wrapping_add(shared.slots.capacity()),
    };
    let reading = Reading {
        shared,
        head: start,
        seen_tail: start,
    };
    (Writer(writing), Reader::new(reading))
}

/// How a [`Producer`] claims and publishes.
pub struct Writing<T, W: Wait> {
    shared: Arc<Shared<T, W>>,
    tail: u64,
    /// The ring was last seen to be full at this `tail`.
    limit: u64,
}

impl<T, W: Wait> Writing<T, W> {
    #[inline]
    fn room(&self) -> u64 {
        self.limit.wrapping_sub(self.tail)
    }

    #[inline]
    fn refresh(&mut self) {
        // Pairs with the consumer's `give_up`: the items before `head` were read out before their cells are reused.
        self.limit = self
            .shared
            .head
            .load(Ordering::Acquire)
            .wrapping_add(self.shared.slots.capacity());
    }
}

// SAFETY: only the producer writes into the cells of `tail..head + capacity`, and the consumer has moved the items out
// before it lets `head` pass them.
unsafe impl<T, W: Wait> Claim for Writing<T, W> {
    type Item = T;

    const NAME: &'static str = "spsc::Producer";

    #[inline]
    fn slots(&self) -> &Slots<T> {
        &self.shared.slots
    }

    #[inline]
    fn claim(&mut self, min: u64, max: u64) -> Result<(u64, u64), ClaimError> {
        if self.shared.consumer_gone.load(Ordering::Relaxed) {
            return Err(ClaimError::Disconnected);
        }
        if self.room() < max {
            self.refresh();
            if self.room() < min {
                return Err(ClaimError::Full);
            }
        }
        Ok((self.tail, self.tail.wrapping_add(self.room().min(max))))
    }

    // By itself, because the compiler does not see through the general one: a sixth of the throughput.
    #[inline]
    fn claim_one(&mut self) -> Result<u64, ClaimError> {
        if self.shared.consumer_gone.load(Ordering::Relaxed) {
            return Err(ClaimError::Disconnected);
        }
        if self.room() == 0 {
            self.refresh();
            if self.room() == 0 {
                return Err(ClaimError::Full);
            }
        }
        Ok(self.tail)
    }

    #[inline]
    fn publish(&mut self, _start: u64, written: u64, _end: u64) {
        self.tail = written;
        // Pairs with the consumer's `refresh`: the items before `tail` are whole when it sees them.
        self.shared.tail.store(written, Ordering::Release);
        self.shared.not_empty.wake();
    }

    fn wait_for_room(&self) {
        let (shared, tail) = (&*self.shared, self.tail);
        shared.not_full.wait_until(|| {
            let used = tail.wrapping_sub(shared.head.load(Ordering::Relaxed));
            used < shared.slots.capacity() || shared.consumer_gone.load(Ordering::Relaxed)
        });
    }

    fn is_disconnected(&self) -> bool {
        // Pairs with the store in the consumer's `drop`.
        self.shared.consumer_gone.load(Ordering::Acquire)
    }
}

impl<T, W: Wait> Drop for Writing<T, W> {
    fn drop(&mut self) {
        // Pairs with the consumer's `is_finished`: whoever sees it also sees the last `tail`.
        self.shared.producer_gone.store(true, Ordering::Release);
        self.shared.not_empty.wake();
    }
}

impl<T, W: Wait> Producer<T, W> {
    /// The number of free slots right now; the reader may be freeing more.
    pub fn free(&mut self) -> usize {
        self.0.refresh();
        self.0.room() as usize
    }
}

/// How a [`Consumer`] finds and takes.
pub struct Reading<T, W: Wait> {
    shared: Arc<Shared<T, W>>,
    head: u64,
    seen_tail: u64,
}

impl<T, W: Wait> Reading<T, W> {
    #[inline]
    fn refresh(&mut self) {
        // Pairs with the producer's `publish`.
        self.seen_tail = self.shared.tail.load(Ordering::Acquire);
    }
}

// SAFETY: the items of `head..tail` are published, and only the consumer takes them; `publish` shows them whole.
unsafe impl<T, W: Wait> Take for Reading<T, W> {
    type Item = T;
    type Wait = W;

    const NAME: &'static str = "spsc::Consumer";

    #[inline]
    fn slots(&self) -> &Slots<T> {
        &self.shared.slots
    }

    #[inline]
    fn known(&self) -> u64 {
        self.seen_tail.wrapping_sub(self.head)
    }

    #[inline]
    fn look(&mut self, max: u64) -> u64 {
        if self.known() < max {
            self.refresh();
        }
        self.known()
    }

    fn position(&self) -> u64 {
        self.head
    }

    #[inline]
    fn is_published(&self, seq: u64) -> bool {
        let tail = self.shared.tail.load(Ordering::Relaxed);
        tail.wrapping_sub(self.head) > seq.wrapping_sub(self.head)
    }

    #[inline]
    fn take(&mut self, max: u64) -> (u64, u64) {
        let start = self.head;
        let end = start.wrapping_add(self.look(max).min(max));
        // Ahead of time, so that a forgotten chunk leaks its items (rule 8); `give_up` sets it right.
        self.head = end;
        (start, end)
    }

    // By itself for the same reason as `claim_one`.
    #[inline]
    fn take_one(&mut self) -> Option<u64> {
        if self.known() == 0 {
            self.refresh();
            if self.known() == 0 {
                return None;
            }
        }
        Some(self.head)
    }

    #[inline]
    fn give_up(&mut self, _start: u64, next: u64, _end: u64) {
        self.head = next;
        // Pairs with the producer's `refresh`.
        self.shared.head.store(next, Ordering::Release);
        self.shared.not_full.wake();
    }

    fn is_finished(&self) -> bool {
        // Pairs with the producer's `drop`.
        self.shared.producer_gone.load(Ordering::Acquire)
    }

    fn wait_for_item(&self) {
        let shared = &*self.shared;
        shared.not_empty.wait_until(|| {
            if W::PATIENCE == 0 {
                // The line of the item comes together with that of the cursor and not after it.
                shared.slots.prefetch_for_read(self.head);
            }
            self.is_published(self.head) || shared.producer_gone.load(Ordering::Relaxed)
        });
    }
}

impl<T, W: Wait> Drop for Reading<T, W> {
    fn drop(&mut self) {
        // Not behind `head` even after a forgotten chunk. Ordered for `Shared::drop` by the `Arc`.
        self.shared.head.store(self.head, Ordering::Relaxed);
        // Pairs with `is_disconnected`; `claim` needs no pair, it touches nothing of the consumer's after.
        self.shared.consumer_gone.store(true, Ordering::Release);
        self.shared.not_full.wake();
    }
}

impl<T, W: Wait> Consumer<T, W> {
    /// The number of items that can be received right now; the writer may be publishing more.
    pub fn available(&mut self) -> usize {
        self.ring.look(u64::MAX) as usize
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_model;
