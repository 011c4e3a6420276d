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

mod chunk;

use std::fmt;

pub use self::chunk::{ReadChunk, WriteChunk};

use crossbeam_utils::CachePadded;

use super::slots::{Slots, drop_all, prefetch_for_write};
use super::wait::build_up;
use super::{ClaimError, RecvError, SendError, SpinThenYield, TryRecvError, TrySendError, Wait};
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Ordering, hint};

const LENGTH: u64 = 0;
const ITEM: u64 = 1;
const RUN: u64 = 2;
const TOMB: u64 = 3;

/// How many items a blocking reader looks for at once.
const LOOK_AHEAD: u64 = 64;
/// After how many small batches in a row a blocking reader is too close behind the writers.
const CLOSE_BEHIND: u32 = 4;
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
    fn prefetch(&self, seq: u64) {
        self.slots.prefetch(seq);
        prefetch_for_write(self.stamp_at(seq));
    }

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
    let sender = Sender {
        shared: Arc::clone(&shared),
        seen_head: start,
    };
    (
        sender,
        Receiver {
            shared,
            head: start,
            ready: start,
            close_behind: 0,
        },
    )
}

/// A writing end of a ring made by [`channel`]; clone it for more writers.
pub struct Sender<T, W: Wait = SpinThenYield> {
    shared: Arc<Shared<T, W>>,
    /// The last `head` this sender saw. It may be old; then there is more room than it thinks.
    seen_head: u64,
}

impl<T, W: Wait> Sender<T, W> {
    /// The number of slots.
    pub fn capacity(&self) -> usize {
        self.shared.slots.capacity() as usize
    }

    /// True once the receiver is gone.
    pub fn is_disconnected(&self) -> bool {
        // Pairs with the store in the receiver's `drop`.
        self.shared.receiver_gone.load(Ordering::Acquire)
    }

    /// Claims `min..=max` slots from `tail` on, as many as are free.
    #[inline]
    fn claim_range(&mut self, min: u64, max: u64) -> Result<(u64, u64), ClaimError> {
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
                // Pairs with the receiver's `release`: the items before `head` were read out of their cells.
                self.seen_head = self.shared.head.load(Ordering::Acquire);
                used = tail.wrapping_sub(self.seen_head);
                if used > capacity {
                    // The reader has overtaken this stale `tail`.
                    tail = self.shared.tail.load(Ordering::Relaxed);
                    continue;
                }
                if used + min > capacity {
                    assert!(
                        min <= capacity,
                        "a claim of {min} slots never fits into {capacity}"
                    );
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

    /// Sends without waiting.
    ///
    /// # Errors
    /// Gives the item back: [`TrySendError::Full`] or [`TrySendError::Disconnected`].
    #[inline]
    pub fn try_send(&mut self, item: T) -> Result<(), TrySendError<T>> {
        match self.claim_range(1, 1) {
            Ok((seq, end)) => {
                self.shared.prefetch(seq.wrapping_add(PREFETCH));
                // SAFETY: `seq` was claimed by this sender alone, and is free.
                unsafe { self.shared.slots.write(seq, item) };
                self.shared.publish(seq, end, end);
                self.shared.not_empty.wake();
                Ok(())
            }
            Err(ClaimError::Full) => Err(TrySendError::Full(item)),
            Err(ClaimError::Disconnected) => Err(TrySendError::Disconnected(item)),
        }
    }

    /// Sends, waiting for room by the ring's strategy.
    ///
    /// # Errors
    /// [`SendError`] with the item when the receiver is gone.
    #[inline]
    pub fn send(&mut self, item: T) -> Result<(), SendError<T>> {
        match self.try_send(item) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(item)) => self.send_slowly(item),
            Err(TrySendError::Disconnected(item)) => Err(SendError(item)),
        }
    }

    #[cold]
    #[inline(never)]
    fn send_slowly(&mut self, mut item: T) -> Result<(), SendError<T>> {
        loop {
            self.wait_for_room();
            match self.try_send(item) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(back)) => return Err(SendError(back)),
                Err(TrySendError::Full(back)) => item = back,
            }
        }
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

    /// Claims exactly `count` slots without waiting. They stay together (rule 1).
    ///
    /// ```
    /// use actor_rt::ring::mpsc;
    /// let (mut sender, mut receiver) = mpsc::channel(64);
    /// sender.claim(3).unwrap().fill(["a", "b", "c"]); // published when the chunk is dropped
    /// assert_eq!(receiver.read(64).collect::<String>(), "abc");
    /// ```
    ///
    /// # Errors
    /// [`ClaimError::Full`] when fewer slots are free, [`ClaimError::Disconnected`] when the receiver is gone.
    ///
    /// # Panics
    /// When `count` is zero or above the capacity.
    #[inline]
    pub fn claim(&mut self, count: usize) -> Result<WriteChunk<'_, T, W>, ClaimError> {
        assert!(count > 0, "a claim of no slots");
        let (start, end) = self.claim_range(count as u64, count as u64)?;
        Ok(WriteChunk {
            sender: self,
            start,
            next: start,
            end,
        })
    }

    /// Claims as many slots as are free, at least one and at most `max`, waiting for the first.
    ///
    /// # Errors
    /// [`ClaimError::Disconnected`] when the receiver is gone.
    ///
    /// # Panics
    /// When `max` is zero.
    pub fn claim_up_to(&mut self, max: usize) -> Result<WriteChunk<'_, T, W>, ClaimError> {
        assert!(max > 0, "a claim of no slots");
        loop {
            match self.claim_range(1, max as u64) {
                Ok((start, end)) => {
                    return Ok(WriteChunk {
                        sender: self,
                        start,
                        next: start,
                        end,
                    });
                }
                Err(ClaimError::Disconnected) => return Err(ClaimError::Disconnected),
                Err(ClaimError::Full) => self.wait_for_room(),
            }
        }
    }
}

impl<T, W: Wait> Clone for Sender<T, W> {
    fn clone(&self) -> Self {
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        Self {
            shared: Arc::clone(&self.shared),
            seen_head: self.seen_head,
        }
    }
}

impl<T, W: Wait> Drop for Sender<T, W> {
    fn drop(&mut self) {
        // Pairs with the load in the receiver's `recv_last`: who sees zero also sees every stamp.
        self.shared.senders.fetch_sub(1, Ordering::Release);
        self.shared.not_empty.wake();
    }
}

/// The reading end of a ring made by [`channel`].
pub struct Receiver<T, W: Wait = SpinThenYield> {
    shared: Arc<Shared<T, W>>,
    head: u64,
    /// The slots `head..ready` were seen to be published, without a tombstone among them.
    ready: u64,
    /// How often in a row a look ahead found only a few items.
    close_behind: u32,
}

impl<T, W: Wait> Receiver<T, W> {
    /// The number of slots.
    pub fn capacity(&self) -> usize {
        self.shared.slots.capacity() as usize
    }

    /// True when an item can be received now.
    pub fn has_items(&mut self) -> bool {
        self.look(1) > 0
    }

    /// Looks for published items until `max` are known, and answers how many are.
    #[inline]
    fn look(&mut self, max: u64) -> u64 {
        loop {
            let known = self.ready.wrapping_sub(self.head);
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

    /// Looks for a batch, and lets one build up after having followed close behind the writers for a while.
    #[inline(never)]
    fn look_ahead(&mut self) -> u64 {
        let found = self.look(LOOK_AHEAD);
        if found == 0 {
            self.close_behind = 0;
        } else if found < LOOK_AHEAD / 4 {
            self.close_behind += 1;
            if self.close_behind > CLOSE_BEHIND {
                let far = self.ready.wrapping_add(self.shared.slots.capacity() / 2);
                build_up::<W>(|| !matches!(self.shared.published_at(far), Published::Nothing));
                return self.look(LOOK_AHEAD);
            }
        }
        found
    }

    #[inline]
    fn release(&mut self, head: u64) {
        self.head = head;
        // Pairs with the load in `claim_range`.
        self.shared.head.store(head, Ordering::Release);
        self.shared.not_full.wake();
    }

    /// Receives without waiting.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`], or [`TryRecvError::Disconnected`] when no item will ever come.
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        if self.look(1) == 0 {
            return self.recv_last();
        }
        // SAFETY: `head` is published and was not taken; only this receiver takes.
        let item = unsafe { self.shared.slots.take(self.head) };
        self.release(self.head.wrapping_add(1));
        Ok(item)
    }

    /// The ring looked empty: is it so for ever?
    #[cold]
    fn recv_last(&mut self) -> Result<T, TryRecvError> {
        if !self.is_finished() {
            Err(TryRecvError::Empty)
        } else {
            self.try_recv_finished()
        }
    }

    fn is_finished(&self) -> bool {
        // Pairs with the sender's `drop`.
        self.shared.senders.load(Ordering::Acquire) == 0
    }

    fn try_recv_finished(&mut self) -> Result<T, TryRecvError> {
        if self.look(1) == 0 {
            Err(TryRecvError::Disconnected)
        } else {
            self.try_recv()
        }
    }

    /// Receives, waiting by the ring's strategy.
    ///
    /// # Errors
    /// [`RecvError`] when everything was received and every sender is gone.
    #[inline]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        if self.head == self.ready && self.look_ahead() == 0 {
            return self.recv_slowly();
        }
        // SAFETY: `head` is published and was not taken; only this receiver takes.
        let item = unsafe { self.shared.slots.take(self.head) };
        self.release(self.head.wrapping_add(1));
        Ok(item)
    }

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
        let (shared, seq) = (&*self.shared, self.ready);
        shared.not_empty.wait_until(|| {
            !matches!(shared.published_at(seq), Published::Nothing)
                || shared.senders.load(Ordering::Relaxed) == 0
        });
    }

    /// The published items, at most `max`, without waiting; the chunk may be empty.
    #[inline]
    pub fn read(&mut self, max: usize) -> ReadChunk<'_, T, W> {
        let count = self.look(max as u64);
        let (next, end) = (self.head, self.head.wrapping_add(count));
        // Ahead of time, so that a forgotten chunk leaks its items (rule 8); its drop sets it right.
        self.head = end;
        ReadChunk {
            receiver: self,
            next,
            end,
        }
    }

    /// Waits for at least one item, then reads as [`read`](Self::read) does.
    ///
    /// # Errors
    /// [`RecvError`] when everything was received and every sender is gone.
    ///
    /// # Panics
    /// When `max` is zero.
    pub fn read_wait(&mut self, max: usize) -> Result<ReadChunk<'_, T, W>, RecvError> {
        assert!(max > 0, "a read of no items would wait for nothing");
        while self.look(1) == 0 {
            if self.is_finished() {
                if self.look(1) == 0 {
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

impl<T, W: Wait> Drop for Receiver<T, W> {
    fn drop(&mut self) {
        // Pairs with `is_disconnected`; a sender that misses it leaves its item to `Shared::drop`.
        self.shared.receiver_gone.store(true, Ordering::Release);
        drop_all(|| self.try_recv().map(drop).is_ok());
        // Not behind `head` even after a forgotten chunk. Ordered for `Shared::drop` by the `Arc`.
        self.shared.head.store(self.head, Ordering::Relaxed);
        self.shared.not_full.wake();
    }
}

impl<T, W: Wait> fmt::Debug for Sender<T, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("mpsc::Sender")
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

impl<T, W: Wait> fmt::Debug for Receiver<T, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("mpsc::Receiver")
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_model;
