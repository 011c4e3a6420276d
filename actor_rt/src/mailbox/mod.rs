//! The mailbox: one bounded ring per actor, one atomic word that is both claim cursor and wake-up.
//!
//! Owns: claiming, publishing, consuming, going idle, the life of ring bases, waiting senders.
//! Does not know: actors, schedulers, what a message means. Whoever gets `true` from a push or a
//! signal must schedule the actor; that is the whole interface upwards.
//!
//! # The protocol
//! The word is `[position:32 | epoch:28 | CLOSED WAITERS SIGNAL IDLE]`, see `word`. "The owner" is the
//! one activation that runs the actor; there is an owner exactly while `IDLE` is clear.
//!
//! 1. **Claim.** A producer claims `n` positions by compare-exchange on the word, only if
//!    `position - tail + n <= bound`. The bound is exact. (`the_bound_is_exact`)
//! 2. **Edge.** The same exchange clears `IDLE`; the producer whose exchange found it set, and no
//!    other, schedules the actor, after publishing. (`one_edge_per_idle_period`)
//! 3. **Publish.** A claimed slot becomes `FULL`, or `TOMBSTONE` if its producer panicked while
//!    writing; never a gap. (`a_panicking_conversion_leaves_a_tombstone`)
//! 4. **Consume.** The owner reads slots in order and sets them `EMPTY`: each after its message was handled, or
//!    its handler panicked, so that a message takes its place until then. A mailbox of fewer than eight places, or
//!    one that senders consume too, hands its messages out of their slots first: an actor with one place can
//!    send to itself. A claimed, unpublished slot ends its turn, at once or after a bounded wait.
//!    (`a_message_keeps_its_place_while_it_is_handled`, `a_small_mailbox_has_room_while_it_handles`,
//!    `a_message_whose_handler_panics_is_gone`, `loom::claim_races_consume`, `loom::claim_races_handling`)
//! 5. **Tail.** The owner publishes `(position, epoch)` now and then; producers read it only when
//!    their cached copy says full. A tail of another epoch counts as zero (rule 7), and "full" is
//!    believed only if the word did not change meanwhile. (`full_is_exact_across_flips`)
//! 6. **Idle.** With everything claimed consumed, the owner exchanges `(e, position)` for
//!    `(e + 2, 0) | IDLE`. It fails if anything was claimed or signalled meanwhile, so no wake-up is
//!    lost. (`loom::claim_races_idle`)
//! 7. **Epochs.** An epoch ends only with everything consumed, so all slots are empty, no producer
//!    holds a claim in it, and positions may start again at zero: a lightly loaded actor keeps using
//!    its first slot. Even steps keep the ring base, an odd step moves to the other one.
//!    (`a_stale_tail_never_meets_its_epoch_again`, `positions_wrap_in_the_middle_of_everything`)
//! 8. **Trim.** An odd step makes the old base unreachable to new claims, and none are left from
//!    before (rule 7), so the owner frees it without hazard pointers. It does so when it goes
//!    idle with a large ring. (`trim_frees_and_goes_on`, `loom::trim_races_claim`)
//! 9. **Close.** Setting `CLOSED` ends claiming. What was claimed before is still published and
//!    consumed or discarded. (`close_hands_messages_back`)
//! 10. **Waiters.** A sender registers and sets `WAITERS` under the waiters' lock, then tries again.
//!     The owner clears the bit and takes the waiters under the same lock. Because the exchange of
//!     rule 6 compares the whole word, a bit set meanwhile keeps the owner awake.
//!     (`a_waiting_sender_is_woken`)
//!
//! 11. **Distance.** An owner that was again and again too quick for its senders reads whole batches: it
//!     takes the first message of a batch once the last one is published, or after a few microseconds
//!     without that, and then reads one by one as before; it must be twice as often too quick to do it again. The
//!     flag lives in the tail, and ends with the epoch: the first message to an idle actor never waits.
//!     (`a_distant_owner_reads_on_when_nothing_comes`, `a_distance_that_was_kept_in_vain_is_kept_half_as_often`,
//!     `distance_ends_with_the_epoch`, `loom::distance_races_claim`)
//!
//! 12. **Own lane.** What the actor set going itself lies in a lane apart, see `own`, and its owner reads both by turns.
//!     (`lane_and_mailbox_take_turns`)
//!
//! The owner keeps off the line with the word while it reads: it has copies of what it needs from there, and
//! looks for waiting senders a few times per lap. Sender and owner on two cores otherwise pay the way of that
//! line between cores at every message, and so they do if the owner reads the very slot that is being
//! written.
//!
//! A stalled producer could be fooled only if the word went through 2^27 idle periods during one of
//! its compare-exchanges and then stood at the very same position above zero.
#![allow(unsafe_code)]

mod drain;
mod front;
#[cfg(all(test, loom))]
mod loom_tests;
mod own;
mod pages;
mod send;
#[cfg(all(test, not(loom)))]
mod tests;
mod waiters;
mod word;

pub(crate) use drain::{Drain, Settled};
pub(crate) use front::{Front, LARGEST_BOUND};
pub(crate) use own::{Own, Unsent};
use pages::{EMPTY, FROM_OUTSIDE, FULL, Ring};
pub(crate) use waiters::Ticket;
use word::{CLOSED, IDLE, SIGNAL, WAITERS, Word};

use crate::sync::{AtomicU64, lock};
use std::marker::PhantomData;

/// A refused message, handed back.
#[derive(Debug)]
pub(crate) enum Refused<M> {
    Full(M),
    Closed(M),
}

/// A mailbox of messages `M`: two halves that live apart in the actor's cell.
#[derive(Debug)]
pub(crate) struct Mailbox<'a, M> {
    front: &'a Front,
    /// The consumer's progress, on the consumer's cache line.
    tail: &'a AtomicU64,
    /// What a slot becomes when it is published.
    state: u8,
    message: PhantomData<fn(M)>,
}

impl<M> Clone for Mailbox<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M> Copy for Mailbox<'_, M> {}

impl<'a, M> Mailbox<'a, M> {
    /// Views a front and its tail as a mailbox of `M`.
    ///
    /// # Safety
    /// The two belong together, and every view of them uses the same `M`.
    #[inline(always)]
    pub(crate) unsafe fn new(front: &'a Front, tail: &'a AtomicU64) -> Self {
        Self {
            front,
            tail,
            state: FULL,
            message: PhantomData,
        }
    }

    /// The same mailbox; with `true`, for a sender that is no worker of the system.
    #[inline(always)]
    pub(crate) fn outside(self, outside: bool) -> Self {
        let state = if outside { FROM_OUTSIDE } else { FULL };
        Self { state, ..self }
    }

    #[inline(always)]
    fn ring(self) -> Ring<M> {
        Ring::new(u32::from(self.front.capacity_log2))
    }

    #[inline(always)]
    fn mask(self) -> u32 {
        (1 << self.front.capacity_log2) - 1
    }

    /// See [`Front::depth`].
    pub(crate) fn depth(self) -> u32 {
        self.front.depth(self.tail)
    }

    /// Starts consuming.
    ///
    /// # Safety
    /// The caller is the owner: `IDLE` is clear and this activation alone runs the actor.
    #[inline]
    pub(crate) unsafe fn drain(self) -> Drain<'a, M> {
        Drain::new(self)
    }

    /// Discards the oldest message to make room; `None` if there is none to take yet.
    /// Only for mailboxes whose consumption is shared.
    pub(crate) fn take_oldest(self) -> Option<M> {
        assert!(
            self.front.shared,
            "only a drop-oldest mailbox is consumed by its senders"
        );
        let _turn = lock(&self.front.waiters().turn);
        let mut drain = Drain::new(self);
        let oldest = drain.pop_exclusive();
        drain.publish();
        oldest
    }
}

const _: () = assert!(EMPTY == 0);

/// What a mailbox takes before its first message, when it has no ring: its two halves.
pub(crate) const IDLE_BYTES: usize = size_of::<Front>() + size_of::<AtomicU64>();

const _: () = assert!(cfg!(loom) || IDLE_BYTES <= 64);
