//! Many writers, many readers; every item goes to exactly one reader.
//!
//! Owns: the protocol between [`Sender`]s and [`Receiver`]s.
//! Does not know: threads; every handle may move between them, but is used by one at a time (`&mut self`).
//!
//! Each slot carries a stamp, `sequence << 2 | kind`, that says for which sequence number it is `FREE`, or holds a
//! published `ITEM`, or a `TOMB` (claimed, then given up). A writer that finds the stamps from `tail` on free claims
//! them by a compare-exchange of `tail`; a reader that finds them published claims by one of `head`; each then owns
//! its slots until it writes their next stamp (Vyukov's bounded queue, 2010, here with batches and tombstones).
//!
//! Rules, each with a test of its number below:
//! 1. Every item is received once. Those of one sender are claimed by readers in the order they were sent.
//! 2. The ring holds exactly `capacity` items; then `try_send` gives the item back as `Full`. The slots of a read chunk
//!    become free when the chunk is dropped.
//! 3. When the last sender is dropped, what was published can still be received; then `Disconnected`.
//! 4. When the last receiver is dropped, it drops what was published; sending answers `Disconnected`. An item that
//!    was being sent at that moment is dropped with the last handle.
//! 5. A write chunk publishes, when dropped, the items written into it and tombstones for the rest; so does a
//!    panic while filling. Readers never see a tombstone.
//! 6. A read chunk owns its items: those not taken from it are dropped with it, not returned to the ring.
//! 7. Every item is dropped exactly once, also when a `Drop` panics. Zero-sized and over-aligned types work.
//! 8. A slot that is claimed but not published stops readers there, who report `Empty`; one claimed but not given
//!    back stops writers there, who report `Full`. Nobody spins on it. A chunk forgotten by `mem::forget` stays so.
#![allow(unsafe_code)]

use crossbeam_utils::CachePadded;

use super::read::{Reader, Take};
use super::slots::{Slots, drop_all};
use super::wait::build_up;
use super::write::{Claim, Writer};
use super::{ClaimError, SpinThenYield, Wait};
use crate::prefetch;
use crate::sync::{Arc, AtomicU64, AtomicUsize, Ordering, hint};

/// A writing end of a ring made by [`channel`]; clone it for more writers.
pub type Sender<T, W = SpinThenYield> = Writer<Sending<T, W>>;
/// A reading end of a ring made by [`channel`]; clone it for more readers.
pub type Receiver<T, W = SpinThenYield> = Reader<Receiving<T, W>>;

const FREE: u64 = 0;
const ITEM: u64 = 1;
const TOMB: u64 = 2;
const KIND: u64 = 3;

/// How many items a reader looks for at once.
const LOOK_AHEAD: u64 = 64;
/// How many slots ahead a sender asks for the lines that it will write; see [`super::mpsc`].
const PREFETCH: u64 = 16;

#[inline]
fn stamp(seq: u64, kind: u64) -> u64 {
    seq << 2 | kind
}

struct Shared<T, W> {
    tail: CachePadded<AtomicU64>,
    head: CachePadded<AtomicU64>,
    // Changed rarely; read by both sides from lines that stay shared.
    senders: CachePadded<AtomicUsize>,
    receivers: AtomicUsize,
    stamps: Box<[AtomicU64]>,
    slots: Slots<T>,
    not_empty: W,
    not_full: W,
}

impl<T, W> Shared<T, W> {
    #[inline]
    fn stamp_at(&self, seq: u64) -> &AtomicU64 {
        let index = self.slots.index(seq);
        debug_assert!(index < self.stamps.len());
        // SAFETY: there are as many stamps as slots, and `index` is below their number.
        unsafe { self.stamps.get_unchecked(index) }
    }

    /// How many slots from `seq` on, at most `max`, carry a stamp of this kind for their sequence number.
    #[inline]
    fn count(&self, seq: u64, max: u64, kind: u64) -> u64 {
        // Pairs with the stores in `mark`: who finds a slot free or published has its cell as it was left.
        let is = |at: u64| self.stamp_at(at).load(Ordering::Acquire) == stamp(at, kind);
        (0..max)
            .find(|offset| !is(seq.wrapping_add(*offset)))
            .unwrap_or(max)
    }

    #[inline]
    fn mark(&self, seq: u64, kind: u64) {
        // Pairs with the loads in `count`.
        self.stamp_at(seq)
            .store(stamp(seq, kind), Ordering::Release);
    }

    /// Publishes the claimed slots `from..written` as items and `written..to` as tombstones.
    #[inline]
    fn publish(&self, from: u64, written: u64, to: u64) {
        let mut seq = from;
        while seq != to {
            let kind = if seq.wrapping_sub(from) < written.wrapping_sub(from) {
                ITEM
            } else {
                TOMB
            };
            self.mark(seq, kind);
            seq = seq.wrapping_add(1);
        }
    }

    /// Makes the slots `from..to`, whose items were taken, free for the next lap.
    #[inline]
    fn free(&self, from: u64, to: u64) {
        let mut seq = from;
        while seq != to {
            self.mark(seq.wrapping_add(self.slots.capacity()), FREE);
            seq = seq.wrapping_add(1);
        }
    }
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
            next = seq.wrapping_add(1);
            // Neither a tombstone nor a forgotten claim (which leaks, rule 8) holds an item to drop.
            if self.count(seq, 1, ITEM) == 1 {
                // SAFETY: every handle is gone; `seq` is published, and `next` counts it as taken.
                drop(unsafe { self.slots.take(seq) });
            }
            true
        });
    }
}

/// A ring with room for `capacity` items (rounded up to a power of two) and the default wait strategy.
///
/// ```
/// use actor_rt::ring::mpmc;
///
/// let (mut sender, receiver) = mpmc::channel::<u64>(64);
/// let readers: Vec<_> = (0..2)
///     .map(|_| {
///         let mut receiver = receiver.clone();
///         std::thread::spawn(move || {
///             let mut sum = 0;
///             while let Ok(n) = receiver.recv() {
///                 sum += n;
///             }
///             sum
///         })
///     })
///     .collect();
/// (0..100).for_each(|n| sender.send(n).unwrap());
/// drop(sender); // the readers end when the last sender is gone
/// let sum: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
/// assert_eq!(sum, 4950);
/// ```
///
/// # Panics
/// When `capacity` is zero or above 2^30.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    channel_with(capacity)
}

/// As [`channel`], with a wait strategy of choice for the blocking calls.
///
/// # Panics
/// When `capacity` is zero or above 2^30.
pub fn channel_with<T, W: Wait>(capacity: usize) -> (Sender<T, W>, Receiver<T, W>) {
    channel_from(capacity, 0)
}

/// Tests start near the wrap of the cursors.
pub(super) fn channel_from<T, W: Wait>(
    capacity: usize,
    start: u64,
) -> (Sender<T, W>, Receiver<T, W>) {
    let slots = Slots::new(capacity);
    let mut stamps: Vec<_> = (0..slots.capacity()).map(|_| AtomicU64::new(0)).collect();
    for seq in (0..slots.capacity()).map(|offset| start.wrapping_add(offset)) {
        stamps[slots.index(seq)] = AtomicU64::new(stamp(seq, FREE));
    }
    let shared = Arc::new(Shared {
        tail: CachePadded::new(AtomicU64::new(start)),
        head: CachePadded::new(AtomicU64::new(start)),
        senders: CachePadded::new(AtomicUsize::new(1)),
        receivers: AtomicUsize::new(1),
        stamps: stamps.into(),
        slots,
        not_empty: W::default(),
        not_full: W::default(),
    });
    let sending = Sending {
        shared: Arc::clone(&shared),
    };
    let receiving = Receiving {
        shared,
        seen: start,
    };
    (Writer(sending), Reader::new(receiving))
}

/// How a [`Sender`] claims and publishes.
pub struct Sending<T, W: Wait> {
    shared: Arc<Shared<T, W>>,
}

// SAFETY: a slot is claimed only while its stamp is free, by an exchange of `tail` that gives it to one sender; it is made
// free after its item was moved out.
unsafe impl<T, W: Wait> Claim for Sending<T, W> {
    type Item = T;

    const NAME: &'static str = "mpmc::Sender";

    #[inline]
    fn slots(&self) -> &Slots<T> {
        &self.shared.slots
    }

    #[inline]
    fn claim(&mut self, min: u64, max: u64) -> Result<(u64, u64), ClaimError> {
        let shared = &*self.shared;
        if shared.receivers.load(Ordering::Relaxed) == 0 {
            return Err(ClaimError::Disconnected);
        }
        let mut tail = shared.tail.load(Ordering::Relaxed);
        loop {
            let free = shared.count(tail, max.min(shared.slots.capacity()), FREE);
            if free < min {
                let now = shared.tail.load(Ordering::Relaxed);
                if now == tail {
                    return Err(ClaimError::Full);
                }
                tail = now;
                continue;
            }
            let end = tail.wrapping_add(free);
            // Relaxed: the claim hands over no data; the stamps do.
            match shared
                .tail
                .compare_exchange_weak(tail, end, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Ok((tail, end)),
                Err(moved) => tail = moved,
            }
            hint::spin_loop();
        }
    }

    #[inline]
    fn publish(&mut self, start: u64, written: u64, end: u64) {
        self.shared.publish(start, written, end);
        self.shared.not_empty.wake();
    }

    #[inline]
    fn ask_ahead(&self, seq: u64) {
        let ahead = seq.wrapping_add(PREFETCH);
        self.shared.slots.prefetch(ahead);
        prefetch::for_write(self.shared.stamp_at(ahead));
    }

    /// Waits for a free slot, and lets more become free: a sender that takes each slot as it is freed reads the very
    /// line of stamps that the readers write, and both go at the pace of that line's way between cores.
    fn wait_for_room(&self) {
        let shared = &*self.shared;
        shared.not_full.wait_until(|| {
            shared.count(shared.tail.load(Ordering::Relaxed), 1, FREE) == 1
                || shared.receivers.load(Ordering::Relaxed) == 0
        });
        let half = shared.slots.capacity() / 2;
        let far = shared.tail.load(Ordering::Relaxed).wrapping_add(half);
        build_up::<W>(|| shared.count(far, 1, FREE) == 1);
    }

    fn is_disconnected(&self) -> bool {
        // Pairs with the receiver's `drop`.
        self.shared.receivers.load(Ordering::Acquire) == 0
    }
}

impl<T, W: Wait> Clone for Sending<T, W> {
    fn clone(&self) -> Self {
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T, W: Wait> Drop for Sending<T, W> {
    fn drop(&mut self) {
        // Pairs with the load in `is_finished`: who sees zero also sees every stamp.
        self.shared.senders.fetch_sub(1, Ordering::Release);
        self.shared.not_empty.wake();
    }
}

/// How a [`Receiver`] finds and takes.
pub struct Receiving<T, W: Wait> {
    shared: Arc<Shared<T, W>>,
    /// The slots before this were seen to be published, from wherever `head` was then.
    seen: u64,
}

impl<T, W: Wait> Receiving<T, W> {
    /// How many items from `head` on are known to be published.
    #[inline]
    fn known_from(&self, head: u64) -> u64 {
        // Not more than a capacity, or `head` has overtaken it and the distance wraps.
        match self.seen.wrapping_sub(head) {
            known if known <= self.shared.slots.capacity() => known,
            _ => 0,
        }
    }

    /// Looks for published items from `head` on until `max` are known, and answers how many are.
    #[inline(never)]
    fn look_from(&mut self, head: u64, max: u64) -> u64 {
        let known = self.known_from(head);
        let max = max.max(LOOK_AHEAD).min(self.shared.slots.capacity());
        let more = self
            .shared
            .count(head.wrapping_add(known), max.saturating_sub(known), ITEM);
        self.seen = head.wrapping_add(known + more);
        known + more
    }
}

// SAFETY: a slot is claimed only while its stamp says that it is published, by an exchange of `head` that gives it to one
// receiver, who alone makes it free.
unsafe impl<T, W: Wait> Take for Receiving<T, W> {
    type Item = T;
    type Wait = W;

    const NAME: &'static str = "mpmc::Receiver";

    #[inline]
    fn slots(&self) -> &Slots<T> {
        &self.shared.slots
    }

    #[inline]
    fn known(&self) -> u64 {
        self.known_from(self.position())
    }

    #[inline]
    fn look(&mut self, max: u64) -> u64 {
        self.look_from(self.position(), max)
    }

    #[inline]
    fn position(&self) -> u64 {
        self.shared.head.load(Ordering::Relaxed)
    }

    #[inline]
    fn is_published(&self, seq: u64) -> bool {
        self.shared.count(seq, 1, ITEM) == 1
    }

    #[inline]
    fn take(&mut self, max: u64) -> (u64, u64) {
        let mut head = self.shared.head.load(Ordering::Relaxed);
        loop {
            let mut ready = self.known_from(head);
            if ready < max {
                ready = self.look_from(head, max);
            }
            let tombstone = ready == 0 && self.shared.count(head, 1, TOMB) == 1;
            if ready == 0 && !tombstone {
                let now = self.shared.head.load(Ordering::Relaxed);
                if now == head {
                    return (head, head);
                }
                head = now;
                continue;
            }
            let end = head.wrapping_add(if tombstone { 1 } else { ready.min(max) });
            // Relaxed: the claim hands over no data; the stamps do. What was seen to be published from `head` on
            // still is: who else took it would have moved `head`, which never comes back.
            match self.shared.head.compare_exchange_weak(
                head,
                end,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) if tombstone => {
                    self.shared.free(head, end);
                    self.shared.not_full.wake();
                    head = end;
                }
                Ok(_) => return (head, end),
                Err(moved) => head = moved,
            }
            hint::spin_loop();
        }
    }

    #[inline]
    fn give_up(&mut self, start: u64, mut next: u64, end: u64) {
        let _free = FreeOnDrop(&self.shared, start, end);
        drop_all(|| {
            if next == end {
                return false;
            }
            let seq = next;
            next = seq.wrapping_add(1);
            // SAFETY: claimed by this receiver alone, not taken, and counted as taken now.
            drop(unsafe { self.shared.slots.take(seq) });
            true
        });
    }

    fn is_finished(&self) -> bool {
        // Pairs with the sender's `drop`.
        self.shared.senders.load(Ordering::Acquire) == 0
    }

    fn wait_for_item(&self) {
        let shared = &*self.shared;
        shared.not_empty.wait_until(|| {
            let head = shared.head.load(Ordering::Relaxed);
            let found = shared.stamp_at(head).load(Ordering::Relaxed);
            let published = found >> 2 == stamp(head, FREE) >> 2 && found & KIND != FREE;
            published || shared.senders.load(Ordering::Relaxed) == 0
        });
    }
}

/// Frees the slots of a batch even when the `Drop` of an untaken item panics.
struct FreeOnDrop<'a, T, W: Wait>(&'a Shared<T, W>, u64, u64);

impl<T, W: Wait> Drop for FreeOnDrop<'_, T, W> {
    #[inline]
    fn drop(&mut self) {
        self.0.free(self.1, self.2);
        self.0.not_full.wake();
    }
}

impl<T, W: Wait> Clone for Receiving<T, W> {
    fn clone(&self) -> Self {
        self.shared.receivers.fetch_add(1, Ordering::Relaxed);
        Self {
            shared: Arc::clone(&self.shared),
            seen: self.seen,
        }
    }
}

impl<T, W: Wait> Drop for Receiving<T, W> {
    fn drop(&mut self) {
        // Pairs with `is_disconnected`; a sender that misses it leaves its item to `Shared::drop`.
        let last = self.shared.receivers.fetch_sub(1, Ordering::Release) == 1;
        self.shared.not_full.wake();
        if last {
            drop_all(|| {
                let (start, end) = self.take(1);
                // Gives up the item untaken: drops it.
                self.give_up(start, start, end);
                start != end
            });
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_model;
