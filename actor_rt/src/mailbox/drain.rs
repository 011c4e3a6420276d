//! The owner's side of a mailbox: consuming, publishing progress, going idle.
//!
//! Owns: the consumer cursor while an activation lasts.
//! Does not know: why the owner stops consuming.
//! Invariant: at most one `Drain` of a mailbox exists at a time (or, for shared consumption, each
//! acts under the turn lock and starts from the published tail).
#![allow(unsafe_code)]

pub(super) mod distance;
mod handling;

use super::pages::{EMPTY, FROM_OUTSIDE, Ring, Slot, TOMBSTONE};
use super::word::DISTANT;
use super::{CLOSED, Front, IDLE, Mailbox, Own, SIGNAL, WAITERS, Word};
use crate::slab;
use crate::sync::{Ordering, UnsafeCell, lock};
use distance::{BATCH, CLOSE_BEHIND};
use std::mem::MaybeUninit;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

/// Most messages that are consumed before senders see the room: who reads a tail takes the line on which the owner
/// looks for orders at every message.
const LARGEST_CHUNK: u32 = 256;
/// Most messages between looks for senders that wait, on the line that senders write.
const LARGEST_STRIDE: u32 = 256;
/// Messages before the first of both in an activation: one that handles a single message leaves it to `settle`.
const FIRST_CHUNK: u32 = 2;
/// Bounds from which on a message stays in its slot while it is handled (rule 4).
const LEAST_BOUND_IN_PLACE: u32 = if cfg!(loom) { 2 } else { 8 };

/// Most bytes of ring that an idle actor keeps for its next messages.
const KEPT_BYTES: usize = 16 * 1024;

/// How an attempt to go idle ended.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Settled {
    /// The mailbox is idle and the caller no longer owns the actor.
    Idle,
    /// More was claimed: a message is there, or about to be published.
    Claimed,
    /// The system lane has something.
    Signalled,
}

/// Whether messages leave their slots before they are handled (rule 4).
fn moves(front: &Front) -> bool {
    front.shared || front.bound < LEAST_BOUND_IN_PLACE
}

/// Consumes a mailbox; publishes its progress when dropped.
#[derive(Debug)]
pub(crate) struct Drain<'a, M> {
    mailbox: Mailbox<'a, M>,
    position: u32,
    epoch: u32,
    published: u32,
    /// Publish after this many messages: in chunks, so that senders to a full mailbox do not fight for the
    /// tail at each one.
    chunk: u32,
    /// The next slot and how many follow it in its page; null until looked up.
    slot: *mut Slot<M>,
    left: u32,
    // Copies, because the originals share a line with the word, which senders write at every message.
    base: *mut u8,
    bound: u32,
    capacity_log2: u32,
    shared: bool,
    /// Messages are taken out of their slots before they are handled: senders may consume too, the mailbox is so small that the
    /// one being handled must not take any room, or there is another lane.
    moves: bool,
    /// Look for senders that wait at this position.
    look_at: u32,
    /// Up to here messages are read one by one; there, a distant owner waits for a whole batch.
    horizon: u32,
    distant: bool,
    close_behind: u32,
    /// Where more slots than this follow in the page, the line of one further on is asked for; see `distance`.
    asks_above: u32,
    /// How often the owner may be close behind in a row.
    allowed: u32,
    /// The actor's own lane, until it was found to be empty (rule 12).
    own: Option<Arc<Own<M>>>,
    /// The last message came from a thread that runs no actors.
    from_outside: bool,
    /// Whether `held` has a message.
    holds: bool,
    /// A message that was taken out of its slot.
    held: UnsafeCell<MaybeUninit<M>>,
}

impl<'a, M> Drain<'a, M> {
    #[inline]
    pub(super) fn new(mailbox: Mailbox<'a, M>) -> Self {
        // Relaxed: only the owner changes the epoch and the tail, and ownership was handed over with
        // Acquire and Release (by the word, a run queue, or the turn lock).
        let epoch = Word(mailbox.front.word.load(Ordering::Relaxed)).epoch();
        let tail = Word(mailbox.tail.load(Ordering::Relaxed));
        let position = tail.tail_in(epoch);
        let front = mailbox.front;
        let moves = moves(front);
        let chunk = if moves { 1 } else { FIRST_CHUNK };
        let distant = tail.epoch() == epoch && tail.has(DISTANT);
        // An activation that handles but a few messages looks no further.
        let free = if distant { 0 } else { BATCH };
        Self {
            mailbox,
            position,
            epoch,
            published: position,
            chunk,
            slot: null_mut(),
            left: 0,
            base: null_mut(),
            bound: front.bound,
            capacity_log2: u32::from(front.capacity_log2),
            shared: front.shared,
            moves,
            look_at: position.wrapping_add(chunk),
            horizon: position.wrapping_add(free),
            distant,
            close_behind: 0,
            asks_above: u32::MAX,
            allowed: CLOSE_BEHIND,
            own: None,
            from_outside: false,
            holds: false,
            held: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Reads the actor's own lane too.
    pub(crate) fn attach(&mut self, own: Arc<Own<M>>) {
        self.own = Some(own);
        self.moves = true;
    }

    /// Whether there may be something in the actor's own lane.
    #[inline]
    pub(crate) fn has_own(&self) -> bool {
        self.own.is_some()
    }

    /// Whether senders may consume too.
    #[inline]
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    #[inline(always)]
    fn ring(&self) -> Ring<M> {
        Ring::new(self.capacity_log2)
    }

    #[inline(always)]
    fn index(&self, position: u32) -> u32 {
        position & ((1 << self.capacity_log2) - 1)
    }

    /// Whether the last message came from a thread that runs no actors.
    #[inline]
    pub(crate) fn is_from_outside(&self) -> bool {
        self.from_outside
    }

    /// Whether the next message is there.
    #[inline]
    pub(crate) fn has_next(&mut self) -> bool {
        if self.left == 0 && !self.find_slot() {
            return false;
        }
        // SAFETY: `find_slot` took it from a live page; the owner alone frees pages. Acquire pairs with
        // the Release that published the slot.
        unsafe { (*self.slot).state.load(Ordering::Acquire) != EMPTY }
    }

    /// The next message, or `None` if none is claimed or the next one is not yet published.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<M> {
        self.is_ready().then(|| self.take())
    }

    #[cold]
    #[inline(never)]
    fn progress(&mut self) {
        self.publish();
        self.chunk = (self.bound / 4).clamp(1, LARGEST_CHUNK);
        if self.position.wrapping_sub(self.look_at) as i32 >= 0 {
            self.publish_and_wake();
            let stride = (self.bound / 4).clamp(1, LARGEST_STRIDE);
            self.look_at = self.position.wrapping_add(stride);
        }
    }

    pub(super) fn pop_exclusive(&mut self) -> Option<M> {
        self.find_full().then(|| self.take_full())
    }

    /// Moves on to the next slot with a message, if there is one, past what panicking senders left.
    #[inline(always)]
    fn find_full(&mut self) -> bool {
        loop {
            if self.left == 0 && !self.find_slot() {
                return false;
            }
            // SAFETY: `find_slot` took it from a live page; the owner alone frees pages.
            let slot = unsafe { &*self.slot };
            // Acquire pairs with the Release that published the slot.
            match slot.state.load(Ordering::Acquire) {
                EMPTY => return false,
                TOMBSTONE => self.step(slot),
                state => {
                    self.from_outside = state == FROM_OUTSIDE;
                    return true;
                }
            }
        }
    }

    /// Takes the message that `find_full` found.
    #[inline(always)]
    fn take_full(&mut self) -> M {
        // SAFETY: as in `find_full`, which found it and was not followed by a step.
        let slot = unsafe { &*self.slot };
        debug_assert!(slot.state.load(Ordering::Relaxed) != EMPTY);
        let message = slot.message.with_mut(|place| {
            // SAFETY: published, so initialised; read once, since the slot becomes empty.
            unsafe { (*place).assume_init_read() }
        });
        self.step(slot);
        message
    }

    /// Empties the current slot and moves to the next.
    #[inline(always)]
    fn step(&mut self, slot: &Slot<M>) {
        // Relaxed: a producer claims the slot again only after an Acquire of the tail or of the word that
        // we store later with Release.
        slot.state.store(EMPTY, Ordering::Relaxed);
        self.position = self.position.wrapping_add(1);
        self.left -= 1;
        // SAFETY: at most one past the end of the page, and then `left` is zero.
        self.slot = unsafe { self.slot.add(1) };
    }

    #[inline]
    fn find_slot(&mut self) -> bool {
        if self.base.is_null() {
            let base = &self.mailbox.front.bases[(self.epoch & 1) as usize];
            // Acquire pairs with the Release of `attach_base`. Once set it stays for the epoch.
            self.base = base.load(Ordering::Acquire);
        }
        let Some(base) = NonNull::new(self.base) else {
            return false;
        };
        let index = self.index(self.position);
        // SAFETY: the owner alone frees bases; the index is masked.
        let (slot, left) = unsafe { self.ring().slot(base, index) };
        if slot.is_null() {
            return false;
        }
        (self.slot, self.left) = (slot, left);
        true
    }

    /// Lets producers see how far consumption got (rule 5), and wakes senders that wait for it.
    #[inline]
    pub(crate) fn publish(&mut self) {
        if self.published != self.position {
            self.published = self.position;
            // Release pairs with the Acquire in `Mailbox::room`: the slots were read before.
            let mut tail = Word::tag(self.position, self.epoch);
            if self.distant {
                tail = tail.with(DISTANT);
            }
            self.mailbox.tail.store(tail.0, Ordering::Release);
        }
    }

    /// Publishes progress and, once half of the mailbox is free, wakes waiting senders: a wake-up costs
    /// more than many messages. Where others that do not wait keep it full, they are woken once per lap. A sender that registers right after is seen at the next call, at the
    /// latest by `settle` (rule 10).
    #[inline]
    pub(crate) fn publish_and_wake(&mut self) {
        self.publish();
        let word = Word(self.mailbox.front.word.load(Ordering::Acquire));
        let depth = word.position().wrapping_sub(self.position);
        if word.has(WAITERS)
            && (depth <= self.bound / 2 || self.mailbox.front.passes_over(self.position))
        {
            self.mailbox.front.wake_waiters();
        }
    }

    /// Whether everything claimed so far has been consumed.
    pub(crate) fn is_empty(&self) -> bool {
        let word = Word(self.mailbox.front.word.load(Ordering::Acquire));
        self.current_position() == word.position()
    }

    fn current_position(&self) -> u32 {
        if self.is_shared() {
            return Word(self.mailbox.tail.load(Ordering::Acquire)).tail_in(self.epoch);
        }
        self.position
    }

    /// Tries to go idle (rule 6). After [`Settled::Idle`] the actor may already run elsewhere.
    #[inline]
    pub(crate) fn settle(mut self) -> Settled {
        if self.is_shared() {
            return self.settle_shared();
        }
        let settled = self.try_settle();
        debug_assert!(self.own.is_none(), "settles with nothing left to handle");
        if settled == Settled::Idle {
            // Nothing to publish: the epoch did it, and the actor is no longer ours.
            std::mem::forget(self);
        }
        settled
    }

    #[cold]
    #[inline(never)]
    fn settle_shared(self) -> Settled {
        let mailbox = self.mailbox;
        drop(self);
        let turn = lock(&mailbox.front.waiters().turn);
        let mut fresh = Drain::new(mailbox);
        let settled = fresh.try_settle();
        std::mem::forget(fresh);
        drop(turn);
        settled
    }

    #[inline(always)]
    fn try_settle(&mut self) -> Settled {
        let front = self.mailbox.front;
        let mut word = front.observe();
        loop {
            if word.has(SIGNAL) {
                return Settled::Signalled;
            }
            if word.position() != self.position {
                return Settled::Claimed;
            }
            if word.has(WAITERS) {
                self.publish();
                front.wake_waiters();
                word = Word(front.word.load(Ordering::Acquire));
                continue;
            }
            let next = if self.position == 0 {
                word
            } else {
                word.flipped(self.next_epoch(word))
            };
            // Release pairs with the Acquire of the claim or signal that clears `IDLE` again, and of
            // every claim in the new epoch. Acquire as above.
            match front.word.compare_exchange_weak(
                word.0,
                next.with(IDLE).0,
                Ordering::Release,
                Ordering::Acquire,
            ) {
                Ok(_) => return Settled::Idle,
                Err(now) => word = Word(now),
            }
        }
    }

    /// The next epoch on the same base: one that the tail and its cached copy were not left in.
    #[inline(always)]
    fn next_epoch(&self, word: Word) -> u32 {
        let next = word.epoch_after(2);
        let tail = Word(self.mailbox.tail.load(Ordering::Relaxed));
        if tail.epoch() == next && tail.position() != 0 {
            return word.epoch_after(4);
        }
        next
    }

    /// Whether this epoch reached so many slots that an idle actor should give them back.
    #[inline]
    pub(crate) fn is_large(&self) -> bool {
        let reached = self.position.min(1 << self.capacity_log2) as usize;
        reached * size_of::<Slot<M>>() > KEPT_BYTES
    }

    /// Moves to the other base and frees this one (rule 8); `false` if anything is claimed.
    pub(crate) fn trim(&mut self) -> bool {
        if !self.is_shared() {
            return self.trim_exclusive();
        }
        let mailbox = self.mailbox;
        let _turn = lock(&mailbox.front.waiters().turn);
        // A sender may have moved the tail meanwhile.
        *self = Drain::new(mailbox);
        self.trim_exclusive()
    }

    fn trim_exclusive(&mut self) -> bool {
        let front = self.mailbox.front;
        let mut word = front.observe();
        loop {
            if word.position() != self.position {
                return false;
            }
            let next = word.flipped(word.epoch_after(1));
            // Release: claims of the new epoch see this one consumed. Acquire: pages attached by
            // producers of this epoch are seen below.
            match front.word.compare_exchange_weak(
                word.0,
                next.0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(now) => word = Word(now),
            }
        }
        let old = &front.bases[(self.epoch & 1) as usize];
        let base = old.swap(null_mut(), Ordering::Acquire);
        self.epoch = Word(word.0).epoch_after(1);
        (self.position, self.published) = (0, 0);
        (self.slot, self.left, self.base) = (null_mut(), 0, null_mut());
        (self.look_at, self.horizon) = (0, 0);
        self.asks_above = u32::MAX;
        // The next ring comes from where the owner is now.
        front.memory.set(slab::here());
        // The tail must not look like one of the new epoch.
        self.mailbox
            .tail
            .store(Word::tag(0, self.epoch).0, Ordering::Release);
        if let Some(base) = NonNull::new(base) {
            // SAFETY: all claims of the old epoch were consumed, and new ones go to the other base.
            unsafe { self.mailbox.ring().free(base) };
        }
        true
    }

    /// Hands every remaining message of a closed mailbox to `bury` and frees the rings; `false` if a
    /// claimed message is still being written, in which case call it again later.
    pub(crate) fn finish(&mut self, mut bury: impl FnMut(M)) -> bool {
        debug_assert!(Word(self.mailbox.front.word.load(Ordering::Relaxed)).has(CLOSED));
        while let Some(message) = self.pop() {
            bury(message);
        }
        if !self.is_empty() {
            return false;
        }
        for base in &self.mailbox.front.bases {
            // Acquire pairs with the Release of `attach_base`.
            if let Some(base) = NonNull::new(base.swap(null_mut(), Ordering::Acquire)) {
                // SAFETY: closed and everything consumed: no claim is left and none will come.
                unsafe { self.mailbox.ring().free(base) };
            }
        }
        (self.slot, self.left, self.base) = (null_mut(), 0, null_mut());
        true
    }
}

impl<M> Drop for Drain<'_, M> {
    fn drop(&mut self) {
        if self.holds {
            self.held.with_mut(|held| {
                // SAFETY: `holds` says that there is one.
                unsafe { (*held).assume_init_drop() };
            });
        }
        if !self.is_shared() {
            self.publish();
        }
    }
}
