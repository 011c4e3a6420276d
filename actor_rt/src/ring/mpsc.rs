//! Many writers, one reader.
//!
//! Owns: the protocol between [`Sender`]s and the [`Receiver`].
//! Does not know: threads; every handle may move between them, but is used by one at a time (`&mut self`).
//!
//! Writers claim slots by moving `tail` with a compare-exchange, write, then publish by the slot's *stamp*. The
//! reader never looks at `tail`, the contended line: it asks the stamp at its own cursor. A stamp is
//! `sequence << 2 | kind`:
//!
//! | kind | meaning |
//! | --- | --- |
//! | `ITEM` | this slot is published |
//! | `RUN` | a run of slots is published at once; its length stands in the stamp of the slot after |
//! | `TOMB` | the slot was claimed, but its writer panicked or gave it up: skip |
//! | `LENGTH` | not a stamp, but the length that belongs to a `RUN` |
//!
//! so that a batch costs one release store, not one per item. A stamp from an earlier lap never equals the
//! one that the reader waits for before 2^62 items have passed, because it carries the whole sequence number.
//!
//! Rules, each with a test of its number below:
//! 1. The items of one sender arrive in the order they were sent, each once; those of several interleave, but a
//!    claimed batch stays together.
//! 2. The ring holds exactly `capacity` items however many senders there are; then `try_send` answers `Full`.
//! 3. When the last sender is dropped, what was published can still be received; then `Disconnected`.
//! 4. When the receiver is dropped, it drops what was published; sending answers `Disconnected`. An item that
//!    was being sent at that moment is dropped with the last handle.
//! 5. A write chunk publishes, when dropped, the items written into it and tombstones for the rest; so does a
//!    panic while filling. The reader never sees a tombstone.
//! 6. A read chunk gives up, when dropped, exactly the items taken from it; the others stay first in the ring.
//! 7. Every item is dropped exactly once, also when a `Drop` panics. Zero-sized and over-aligned types work.
//! 8. A slot that is claimed but not published stops the reader there, who reports `Empty` and never spins on it.
//!    Other senders go on until the ring is full. A write chunk forgotten by `mem::forget` stays in this state;
//!    the items of a forgotten read chunk leak.
#![allow(unsafe_code)]

use crossbeam_utils::CachePadded;

use super::read::{Reader, Take};
use super::slots::{Slots, drop_all};
use super::write::{Claim, Writer};
use super::{ClaimError, SpinThenYield, Wait};
use crate::prefetch;
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Ordering, hint};

/// A writing end of a ring made by [`channel`]; clone it for more writers.
pub type Sender<T, W = SpinThenYield> = Writer<Sending<T, W>>;
/// The reading end of a ring made by [`channel`].
pub type Receiver<T, W = SpinThenYield> = Reader<Receiving<T, W>>;

const LENGTH: u64 = 0;
const ITEM: u64 = 1;
const RUN: u64 = 2;
const TOMB: u64 = 3;

/// How many slots ahead a sender asks for the lines that it will write.
///
/// The readers had them last, and the locked instruction of the next claim waits until the stores of this one have
/// their lines: without asking early, each line costs its whole way between cores, and nothing overlaps.
const PREFETCH: u64 = 16;

#[inline]
fn stamp(seq: u64, kind: u64) -> u64 {
    seq << 2 | kind
}

struct Shared<T, W> {
    tail: CachePadded<AtomicU64>,
    head: CachePadded<AtomicU64>,
    // Changed once or rarely; read by both sides from lines that stay shared.
    receiver_gone: CachePadded<AtomicBool>,
    senders: CachePadded<AtomicUsize>,
    stamps: Box<[AtomicU64]>,
    slots: Slots<T>,
    not_empty: W,
    not_full: W,
}

/// What the stamp at a sequence number says.
enum Published {
    Nothing,
    Items(u64),
    Tombstone,
}

impl<T, W> Shared<T, W> {
    #[inline]
    fn stamp_at(&self, seq: u64) -> &AtomicU64 {
        let index = self.slots.index(seq);
        debug_assert!(index < self.stamps.len());
        // SAFETY: there are as many stamps as slots, and `index` is below their number.
        unsafe { self.stamps.get_unchecked(index) }
    }

    #[inline]
    fn published_at(&self, seq: u64) -> Published {
        // Pairs with the stores in `publish`: the cells of the run are whole when its stamp is seen.
        let found = self.stamp_at(seq).load(Ordering::Acquire);
        if found == stamp(seq, ITEM) {
            Published::Items(1)
        } else if found == stamp(seq, RUN) {
            // Ordered by the acquire load above: the length was written before the stamp.
            Published::Items(self.stamp_at(seq.wrapping_add(1)).load(Ordering::Relaxed) >> 2)
        } else if found == stamp(seq, TOMB) {
            Published::Tombstone
        } else {
            Published::Nothing
        }
    }

    /// Publishes the claimed slots `from..written` as items and `written..to` as tombstones.
    #[inline]
    fn publish(&self, from: u64, written: u64, to: u64) {
        // Tombstones first, so that a reader who meets them after the items needs no second look.
        let mut seq = written;
        while seq != to {
            // Pairs with `published_at`, as do the stores below.
            self.stamp_at(seq)
                .store(stamp(seq, TOMB), Ordering::Release);
            seq = seq.wrapping_add(1);
        }
        match written.wrapping_sub(from) {
            0 => {}
            1 => self
                .stamp_at(from)
                .store(stamp(from, ITEM), Ordering::Release),
            length => {
                self.stamp_at(from.wrapping_add(1))
                    .store(length << 2 | LENGTH, Ordering::Relaxed);
                self.stamp_at(from)
                    .store(stamp(from, RUN), Ordering::Release);
            }
        }
    }
}

impl<T, W> Drop for Shared<T, W> {
    fn drop(&mut self) {
        let mut next = self.head.load(Ordering::Relaxed);
        let mut ready = next;
        drop_all(|| {
            while next == ready {
                match self.published_at(next) {
                    Published::Items(count) => ready = next.wrapping_add(count),
                    Published::Tombstone => {
                        next = next.wrapping_add(1);
                        ready = next;
                    }
                    // The end, or a forgotten claim: what lies behind it leaks (rule 8).
                    Published::Nothing => return false,
                }
            }
            let seq = next;
            next = seq.wrapping_add(1);
            // SAFETY: every handle is gone; `seq` is published, and `next` counts it as taken.
            drop(unsafe { self.slots.take(seq) });
            true
        });
    }
}

/// A ring with room for `capacity` items (rounded up to a power of two) and the default wait strategy.
///
/// ```
/// use actor_rt::ring::mpsc;
///
/// let (sender, mut receiver) = mpsc::channel::<u64>(64);
/// let writers: Vec<_> = (0..4)
///     .map(|_| {
///         let mut sender = sender.clone();
///         std::thread::spawn(move || (0..100).for_each(|n| sender.send(n).unwrap()))
///     })
///     .collect();
/// drop(sender); // the loop below ends when the last sender is gone
/// let mut sum = 0;
/// while let Ok(n) = receiver.recv() {
///     sum += n;
/// }
/// assert_eq!(sum, 4 * 4950);
/// # for writer in writers { writer.join().unwrap(); }
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
    let stamps = (0..slots.capacity())
        .map(|_| AtomicU64::new(LENGTH))
        .collect();
    let shared = Arc::new(Shared {
        tail: CachePadded::new(AtomicU64::new(start)),
        head: CachePadded::new(AtomicU64::new(start)),
        receiver_gone: CachePadded::new(AtomicBool::new(false)),
        senders: CachePadded::new(AtomicUsize::new(1)),
        stamps,
        slots,
        not_empty: W::default(),
        not_full: W::default(),
    });
    let sending = Sending {
        shared: Arc::clone(&shared),
        seen_head: start,
    };
    let receiving = Receiving {
        shared,
        head: start,
        ready: start,
    };
    (Writer(sending), Reader::new(receiving))
}

/// How a [`Sender`] claims and publishes.
pub struct Sending<T, W: Wait> {
    shared: Arc<Shared<T, W>>,
    /// The last `head` this sender saw. It may be old; then there is more room than it thinks.
    seen_head: u64,
}

// SAFETY: the exchange of `tail` gives each slot to one sender, never more than a capacity ahead of `head`; the receiver
// has moved the items before `head` out.
unsafe impl<T, W: Wait> Claim for Sending<T, W> {
    type Item = T;

    const NAME: &'static str = "mpsc::Sender";

    #[inline]
    fn slots(&self) -> &Slots<T> {
        &self.shared.slots
    }

    #[inline]
    fn claim(&mut self, min: u64, max: u64) -> Result<(u64, u64), ClaimError> {
        if self.shared.receiver_gone.load(Ordering::Relaxed) {
            return Err(ClaimError::Disconnected);
        }
        let capacity = self.shared.slots.capacity();
        let mut tail = self.shared.tail.load(Ordering::Relaxed);
        loop {
            // `seen_head` may be older than a `tail` moved by others by more than a lap: then `used` is above the
            // capacity, and only a fresh look can tell.
            let mut used = tail.wrapping_sub(self.seen_head);
            if used.saturating_add(max) > capacity {
                // Pairs with the receiver's `give_up`: the items before `head` were read out of their cells.
                self.seen_head = self.shared.head.load(Ordering::Acquire);
                used = tail.wrapping_sub(self.seen_head);
                if used > capacity {
                    // The reader has overtaken this stale `tail`.
                    tail = self.shared.tail.load(Ordering::Relaxed);
                    continue;
                }
                if min > capacity - used {
                    return Err(ClaimError::Full);
                }
            }
            let end = tail.wrapping_add(max.min(capacity - used));
            // Relaxed: the claim hands over no data; `head` and the stamps do.
            match self.shared.tail.compare_exchange_weak(
                tail,
                end,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
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

    fn wait_for_room(&self) {
        let shared = &*self.shared;
        shared.not_full.wait_until(|| {
            // `head` first: a later `tail` can only make the ring look fuller than it is.
            let head = shared.head.load(Ordering::Relaxed);
            let used = shared.tail.load(Ordering::Relaxed).wrapping_sub(head);
            used < shared.slots.capacity() || shared.receiver_gone.load(Ordering::Relaxed)
        });
    }

    fn is_disconnected(&self) -> bool {
        // Pairs with the store in the receiver's `drop`.
        self.shared.receiver_gone.load(Ordering::Acquire)
    }
}

impl<T, W: Wait> Clone for Sending<T, W> {
    fn clone(&self) -> Self {
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        Self {
            shared: Arc::clone(&self.shared),
            seen_head: self.seen_head,
        }
    }
}

impl<T, W: Wait> Drop for Sending<T, W> {
    fn drop(&mut self) {
        // Pairs with the receiver's `is_finished`: who sees zero also sees every stamp.
        self.shared.senders.fetch_sub(1, Ordering::Release);
        self.shared.not_empty.wake();
    }
}

/// How a [`Receiver`] finds and takes.
pub struct Receiving<T, W: Wait> {
    shared: Arc<Shared<T, W>>,
    head: u64,
    /// The slots `head..ready` were seen to be published, without a tombstone among them.
    ready: u64,
}

impl<T, W: Wait> Receiving<T, W> {
    #[inline]
    fn release(&mut self, head: u64) {
        self.head = head;
        // Pairs with the load in the senders' `claim`.
        self.shared.head.store(head, Ordering::Release);
        self.shared.not_full.wake();
    }
}

// SAFETY: the items of `head..ready` were seen to be published, and only the receiver takes them.
unsafe impl<T, W: Wait> Take for Receiving<T, W> {
    type Item = T;
    type Wait = W;

    const NAME: &'static str = "mpsc::Receiver";

    #[inline]
    fn slots(&self) -> &Slots<T> {
        &self.shared.slots
    }

    #[inline]
    fn known(&self) -> u64 {
        self.ready.wrapping_sub(self.head)
    }

    #[inline]
    fn look(&mut self, max: u64) -> u64 {
        loop {
            let known = self.known();
            if known >= max {
                return max;
            }
            match self.shared.published_at(self.ready) {
                Published::Items(count) => self.ready = self.ready.wrapping_add(count),
                Published::Nothing => return known,
                Published::Tombstone if known > 0 => return known,
                Published::Tombstone => {
                    self.ready = self.ready.wrapping_add(1);
                    self.release(self.ready);
                }
            }
        }
    }

    fn position(&self) -> u64 {
        self.ready
    }

    #[inline]
    fn is_published(&self, seq: u64) -> bool {
        !matches!(self.shared.published_at(seq), Published::Nothing)
    }

    #[inline]
    fn take(&mut self, max: u64) -> (u64, u64) {
        let count = self.look(max);
        let start = self.head;
        // Ahead of time, so that a forgotten chunk leaks its items (rule 8); `give_up` sets it right.
        self.head = start.wrapping_add(count);
        (start, self.head)
    }

    #[inline]
    fn give_up(&mut self, _start: u64, next: u64, _end: u64) {
        self.release(next);
    }

    fn is_finished(&self) -> bool {
        // Pairs with the sender's `drop`.
        self.shared.senders.load(Ordering::Acquire) == 0
    }

    fn wait_for_item(&self) {
        let shared = &*self.shared;
        shared.not_empty.wait_until(|| {
            self.is_published(self.ready) || shared.senders.load(Ordering::Relaxed) == 0
        });
    }
}

impl<T, W: Wait> Drop for Receiving<T, W> {
    fn drop(&mut self) {
        // Pairs with `is_disconnected`; a sender that misses it leaves its item to `Shared::drop`.
        self.shared.receiver_gone.store(true, Ordering::Release);
        drop_all(|| {
            let (seq, end) = self.take(1);
            if seq == end {
                return false;
            }
            self.release(end);
            // SAFETY: taken above, and counted as taken; its slot is written by nobody once the receiver is gone.
            drop(unsafe { self.shared.slots.take(seq) });
            true
        });
        // Not behind `head` even after a forgotten chunk. Ordered for `Shared::drop` by the `Arc`.
        self.shared.head.store(self.head, Ordering::Relaxed);
        self.shared.not_full.wake();
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_model;
