//! The half of a mailbox that senders write: the word, the ring's bases, and who waits for room.
//!
//! Owns: the system lane, closing, depth, waiting senders (rules 9 and 10).
//! Does not know: the type of the messages, how they are put in or taken out.
#![allow(unsafe_code)]

use super::waiters::{Ticket, Waiters};
use super::word::{CLOSED, IDLE, SIGNAL, WAITERS, Word};
use crate::slab::{Home, Node};
use crate::sync::{AtomicPtr, AtomicU64, Ordering, hint, lock};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

/// Largest bound of a mailbox, in messages.
pub(crate) const LARGEST_BOUND: u32 = 1 << 24;

/// The producers' half of a mailbox: shares a cache line with nothing that the consumer writes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Front {
    pub(super) word: AtomicU64,
    /// A tail that some producer read: never ahead of the real one.
    pub(super) seen: AtomicU64,
    /// The ring bases of even and odd epochs; null until the first message.
    pub(super) bases: [AtomicPtr<u8>; 2],
    pub(super) bound: u32,
    pub(super) capacity_log2: u8,
    /// Consumption is serialised by the waiters' lock, so that senders may drop the oldest.
    pub(super) shared: bool,
    /// Whose memory its rings are: that of the node where its owner runs, once that is known, whoever sends.
    pub(crate) memory: Home,
    waiters: AtomicPtr<Waiters>,
}

/// log2 of the most pauses after a lost exchange: about a microsecond.
const LONGEST_BACKOFF: u32 = if cfg!(loom) { 0 } else { 5 };
impl Front {
    /// A front with room for exactly `bound` messages (1 to [`LARGEST_BOUND`]); its maker is the owner.
    pub(crate) fn new(bound: u32, shared: bool) -> Self {
        assert!(
            (1..=LARGEST_BOUND).contains(&bound),
            "a mailbox holds 1 to {LARGEST_BOUND} messages"
        );
        Self {
            word: AtomicU64::new(Word::FRESH.0),
            seen: AtomicU64::new(Word::tag(0, 0).0),
            bases: [AtomicPtr::new(null_mut()), AtomicPtr::new(null_mut())],
            bound,
            capacity_log2: bound.next_power_of_two().ilog2() as u8,
            shared,
            memory: Home::new(Node::NONE),
            waiters: AtomicPtr::new(null_mut()),
        }
    }

    /// The word, before it is exchanged.
    ///
    /// Loom remembers one last access per object, so a thread's own load hides an earlier access of
    /// another thread from its search for races; an addition of zero does not.
    #[inline(always)]
    pub(super) fn observe(&self) -> Word {
        if cfg!(loom) {
            return Word(self.word.fetch_add(0, Ordering::Acquire));
        }
        // Acquire pairs with the Release of rule 6 (in a new epoch the slots are seen empty) and of
        // `wait` (who sets `WAITERS` has made the list).
        Word(self.word.load(Ordering::Acquire))
    }

    /// Raises the system lane's flag; `true` if the caller must schedule the actor.
    pub(crate) fn signal(&self) -> bool {
        let mut word = self.observe();
        loop {
            let next = word.with(SIGNAL).without(IDLE);
            // Release: the owner's Acquire in `take_signal` sees what the signal is about. Acquire:
            // pairs with the Release of rule 6, the next activation sees the last one's work.
            match self.word.compare_exchange_weak(
                word.0,
                next.0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return word.has(IDLE),
                Err(now) => word = Word(now),
            }
        }
    }

    /// Whether the system lane has something. Owner only.
    #[inline]
    pub(crate) fn has_signal(&self) -> bool {
        Word(self.word.load(Ordering::Relaxed)).has(SIGNAL)
    }

    /// Lowers the system lane's flag. Owner only; look at the lane afterwards, not before.
    pub(crate) fn take_signal(&self) {
        // Acquire pairs with the Release of `signal`.
        self.word.fetch_and(!SIGNAL, Ordering::AcqRel);
    }

    /// Ends claiming (rule 9) and lets waiting senders find out.
    pub(crate) fn close(&self) {
        // AcqRel: claims before it are seen by the discarding owner through the word.
        self.word.fetch_or(CLOSED, Ordering::AcqRel);
        self.wake_waiters();
    }

    /// Whether claiming has ended.
    pub(crate) fn is_closed(&self) -> bool {
        Word(self.word.load(Ordering::Acquire)).has(CLOSED)
    }

    /// Messages claimed and not yet consumed; exact when nothing moves.
    pub(crate) fn depth(&self, tail: &AtomicU64) -> u32 {
        loop {
            let word = self.word.load(Ordering::Acquire);
            let tail = Word(tail.load(Ordering::Acquire));
            if word == self.word.load(Ordering::Acquire) {
                let word = Word(word);
                let depth = word.position().wrapping_sub(tail.tail_in(word.epoch()));
                return depth.min(self.bound);
            }
        }
    }

    /// The same for the owner, who alone moves on, unless senders drop the oldest.
    #[inline]
    pub(crate) fn waiting(&self, tail: &AtomicU64) -> u32 {
        // The tail first, which is never ahead of a word that is read later. Relaxed: the owner's own, and a number.
        let tail = Word(tail.load(Ordering::Relaxed));
        let word = Word(self.word.load(Ordering::Relaxed));
        let depth = word.position().wrapping_sub(tail.tail_in(word.epoch()));
        depth.min(self.bound)
    }

    /// Whether a ring is attached.
    pub(crate) fn has_ring(&self) -> bool {
        let attached = |base: &AtomicPtr<u8>| !base.load(Ordering::Relaxed).is_null();
        self.bases.iter().any(attached)
    }

    /// Whose memory its ring is, if it has one.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn ring_node(&self) -> Option<Node> {
        let base = |base: &AtomicPtr<u8>| std::ptr::NonNull::new(base.load(Ordering::Acquire));
        self.bases.iter().find_map(base).map(crate::slab::node_of)
    }

    /// If the mailbox is idle and has a ring: a mark, never zero, that changes with the next message (and comes
    /// back after 128 idle periods).
    pub(crate) fn rest(&self) -> Option<u8> {
        let word = Word(self.word.load(Ordering::Relaxed));
        (word.has(IDLE) && self.has_ring()).then_some((word.epoch() >> 1) as u8 | 0x80)
    }

    /// Most messages that may wait at once.
    pub(crate) fn bound(&self) -> u32 {
        self.bound
    }

    /// After a lost exchange: lets the winner go on for a while, so that producers take turns in bursts
    /// instead of sending the word and each slot's line back and forth at every message.
    #[cold]
    #[inline(never)]
    pub(super) fn contended(&self, times: &mut u32) -> Word {
        *times = (*times + 1).min(LONGEST_BACKOFF);
        for _ in 0..1_u32 << *times {
            hint::spin_loop();
        }
        Word(self.word.load(Ordering::Acquire))
    }

    pub(super) fn waiters(&self) -> &Waiters {
        // Acquire pairs with the Release below.
        let mut waiters = self.waiters.load(Ordering::Acquire);
        if waiters.is_null() {
            let fresh = Box::into_raw(Box::new(Waiters::new()));
            waiters = match self.waiters.compare_exchange(
                null_mut(),
                fresh,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => fresh,
                Err(first) => {
                    // SAFETY: ours, nobody saw it.
                    drop(unsafe { Box::from_raw(fresh) });
                    first
                }
            };
        }
        // SAFETY: set once, freed only when the front is dropped.
        unsafe { &*waiters }
    }

    /// Registers a sender that waits for space; it must try once more afterwards (rule 10).
    pub(crate) fn wait(&self, ticket: &mut Ticket, waker: &std::task::Waker) {
        let mut waiting = lock(&self.waiters().waiting);
        waiting.register(ticket, waker);
        self.word.fetch_or(WAITERS, Ordering::AcqRel);
    }

    /// Takes a registration back.
    pub(crate) fn stop_waiting(&self, ticket: &mut Ticket) {
        if ticket.is_registered() {
            let woken = lock(&self.waiters().waiting).deregister(ticket);
            if woken {
                // This sender was chosen for freed space that it did not use: pass the turn on.
                self.wake_waiters();
            }
        }
    }

    /// Whether senders have waited while a whole lap of the mailbox was read, up to `position`.
    #[cold]
    pub(super) fn passes_over(&self, position: u32) -> bool {
        lock(&self.waiters().waiting).pass_over(position) >= self.bound
    }

    #[cold]
    #[inline(never)]
    pub(super) fn wake_waiters(&self) {
        if self.waiters.load(Ordering::Acquire).is_null() {
            return;
        }
        let mut all = false;
        while !all {
            let mut woken = [const { None }; 16];
            {
                let mut waiting = lock(&self.waiters().waiting);
                all = waiting.take_some(&mut woken);
                if all {
                    self.word.fetch_and(!WAITERS, Ordering::AcqRel);
                }
            }
            for waker in woken.into_iter().flatten() {
                // Outside the lock: a waker is a user's. The others are to be woken all the same.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                    // Its drop may panic, too.
                    std::mem::forget(payload);
                    tracing::error!("the waker of a sender panicked");
                }
            }
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let waiters = self.waiters.load(Ordering::Acquire);
        if !waiters.is_null() {
            // SAFETY: made by `Box::into_raw` in `waiters`; nobody else can reach the front now.
            drop(unsafe { Box::from_raw(waiters) });
        }
    }
}

const _: () = assert!(cfg!(loom) || size_of::<Front>() <= 48);
