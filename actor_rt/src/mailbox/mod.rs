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
//!    writing; never a gap. (`a_panicking_iterator_leaves_tombstones`)
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
//!     without that, and then reads one by one as before. The flag lives in the tail, and ends with the
//!     epoch: the first message to an idle actor never waits. (`a_distant_owner_reads_on_when_nothing_comes`,
//!     `distance_ends_with_the_epoch`, `loom::distance_races_claim`)
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
#[cfg(all(test, loom))]
mod loom_tests;
mod pages;
pub(crate) mod prefetch;
#[cfg(all(test, not(loom)))]
mod tests;
mod waiters;
mod word;

pub(crate) use drain::{Drain, Settled};
use pages::{EMPTY, FROM_OUTSIDE, FULL, Ring, Slot, TOMBSTONE};
pub(crate) use waiters::Ticket;
use waiters::Waiters;
use word::{CLOSED, IDLE, SIGNAL, WAITERS, Word};

use crate::sync::{AtomicPtr, AtomicU64, Ordering, hint, lock};
use std::marker::PhantomData;
use std::ptr::{NonNull, null_mut};

/// Largest bound of a mailbox, in messages.
pub(crate) const LARGEST_BOUND: u32 = 1 << 24;

/// The producers' half of a mailbox: shares a cache line with nothing that the consumer writes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Front {
    word: AtomicU64,
    /// A tail that some producer read: never ahead of the real one.
    seen: AtomicU64,
    /// The ring bases of even and odd epochs; null until the first message.
    bases: [AtomicPtr<u8>; 2],
    bound: u32,
    capacity_log2: u8,
    /// Consumption is serialised by the waiters' lock, so that senders may drop the oldest.
    shared: bool,
    waiters: AtomicPtr<Waiters>,
}

/// log2 of the most pauses after a lost exchange: about a microsecond.
const LONGEST_BACKOFF: u32 = if cfg!(loom) { 0 } else { 5 };
/// Slots between the one being written and the one whose line is asked for.
const AHEAD: u32 = 16;

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
            waiters: AtomicPtr::new(null_mut()),
        }
    }

    /// The word, before it is exchanged.
    ///
    /// Loom remembers one last access per object, so a thread's own load hides an earlier access of
    /// another thread from its search for races; an addition of zero does not.
    #[inline(always)]
    fn observe(&self) -> Word {
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

    /// Whether a ring is attached.
    pub(crate) fn has_ring(&self) -> bool {
        let attached = |base: &AtomicPtr<u8>| !base.load(Ordering::Relaxed).is_null();
        self.bases.iter().any(attached)
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
    fn contended(&self, times: &mut u32) -> Word {
        *times = (*times + 1).min(LONGEST_BACKOFF);
        for _ in 0..1_u32 << *times {
            hint::spin_loop();
        }
        Word(self.word.load(Ordering::Acquire))
    }

    fn waiters(&self) -> &Waiters {
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

    #[cold]
    #[inline(never)]
    fn wake_waiters(&self) {
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
            // Outside the lock: a waker is a user's.
            woken.into_iter().flatten().for_each(std::task::Waker::wake);
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

/// A refused message, handed back.
#[derive(Debug)]
pub(crate) enum Refused<M> {
    Full(M),
    Closed(M),
}

enum Refusal {
    Full,
    Closed,
}

struct Claim {
    position: u32,
    epoch: u32,
    count: u32,
    woke: bool,
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

    /// Claims up to `wanted` positions, at least `least` of them (rule 1).
    #[inline(always)]
    fn claim(self, wanted: u32, least: u32) -> Result<Claim, Refusal> {
        let front = self.front;
        let mut word = front.observe();
        let mut contended = 0;
        loop {
            if word.has(CLOSED) {
                return Err(Refusal::Closed);
            }
            // Acquire pairs with the Release in `room`: a consumed slot is seen consumed.
            let seen = Word(front.seen.load(Ordering::Acquire));
            let depth = word.position().wrapping_sub(seen.tail_in(word.epoch()));
            let mut room = front.bound.wrapping_sub(depth);
            if room > front.bound || room < wanted {
                match self.room(word) {
                    Ok(fresh) if fresh >= least => room = fresh,
                    Ok(_) => return Err(Refusal::Full),
                    Err(now) => {
                        word = now;
                        continue;
                    }
                }
            }
            let count = wanted.min(room);
            let next = word.claim(count);
            // AcqRel: Acquire as above; Release so that the next owner, who sees this claim, sees
            // what this producer did before it.
            match front.word.compare_exchange_weak(
                word.0,
                next.0,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    return Ok(Claim {
                        position: word.position(),
                        epoch: word.epoch(),
                        count,
                        woke: word.has(IDLE),
                    });
                }
                Err(_) => {
                    word = front.contended(&mut contended);
                }
            }
        }
    }

    /// The room left by a fresh tail, or the word's newer value if `word` is out of date (rule 5).
    #[cold]
    #[inline(never)]
    fn room(self, word: Word) -> Result<u32, Word> {
        let front = self.front;
        // Acquire pairs with the Release in `Drain::publish`; the Release store hands that on to
        // other producers through `seen`.
        let tail = Word(self.tail.load(Ordering::Acquire));
        front.seen.store(tail.0, Ordering::Release);
        let depth = word.position().wrapping_sub(tail.tail_in(word.epoch()));
        let now = Word(front.word.load(Ordering::Acquire));
        if depth > front.bound || (depth == front.bound && now != word) {
            debug_assert!(now != word || depth <= front.bound);
            return Err(now);
        }
        Ok(front.bound - depth)
    }

    /// The slot of a position that the caller has claimed, its page attached if need be, and how many slots
    /// there are from it to the end of the page.
    #[inline(always)]
    fn claimed_slot(self, claim: &Claim, position: u32) -> (*mut Slot<M>, u32) {
        let ring = self.ring();
        let mask = self.mask();
        let index = position & mask;
        loop {
            let base = &self.front.bases[(claim.epoch & 1) as usize];
            // Acquire pairs with the Release in `attach_base`.
            let Some(base) = NonNull::new(base.load(Ordering::Acquire)) else {
                self.attach_base(claim.epoch);
                continue;
            };
            // SAFETY: our claim keeps the epoch, and with it the base, alive (rules 7 and 8).
            let (slot, left) = unsafe { ring.slot(base, index) };
            if !slot.is_null() {
                if left > AHEAD {
                    prefetch::for_write(slot.wrapping_add(AHEAD as usize));
                } else {
                    // SAFETY: as above; the index is masked.
                    let (ahead, _) =
                        unsafe { ring.slot(base, position.wrapping_add(AHEAD) & mask) };
                    prefetch::for_write(ahead);
                }
                return (slot, left);
            }
            // SAFETY: as above.
            unsafe { ring.attach(base, index) };
        }
    }

    #[cold]
    #[inline(never)]
    fn attach_base(self, epoch: u32) {
        let fresh = self.ring().new_base();
        // Release pairs with the Acquire loads of the base: its empty slots are seen.
        let won = self.front.bases[(epoch & 1) as usize].compare_exchange(
            null_mut(),
            fresh.as_ptr(),
            Ordering::Release,
            Ordering::Relaxed,
        );
        if won.is_err() {
            // SAFETY: nobody saw it.
            unsafe { self.ring().free(fresh) };
        }
    }

    /// Puts a message in; `Ok(true)` if the caller must schedule the actor (rule 2).
    #[inline]
    pub(crate) fn push(self, message: M) -> Result<bool, Refused<M>> {
        let claim = match self.claim(1, 1) {
            Ok(claim) => claim,
            Err(Refusal::Full) => return Err(Refused::Full(message)),
            Err(Refusal::Closed) => return Err(Refused::Closed(message)),
        };
        let (slot, _) = self.claimed_slot(&claim, claim.position);
        // SAFETY: the slot is ours by rule 1, and its page lives while our claim is unpublished.
        let slot = unsafe { &*slot };
        slot.message.with_mut(|place| {
            // SAFETY: exclusively ours until published.
            unsafe { (*place).write(message) };
        });
        // Release pairs with the Acquire of `Drain::pop`.
        slot.state.store(self.state, Ordering::Release);
        Ok(claim.woke)
    }

    /// Claims as many of `wanted` places as there are and fills them from the iterator that `take`
    /// gives for that number. Returns how many messages came, and whether the caller must schedule the
    /// actor.
    pub(crate) fn push_batch<I: Iterator<Item = M>>(
        self,
        wanted: u32,
        take: impl FnOnce(u32) -> I,
    ) -> Result<(u32, bool), Refused<()>> {
        debug_assert!(wanted > 0);
        let claim = match self.claim(wanted, 1) {
            Ok(claim) => claim,
            Err(Refusal::Full) => return Err(Refused::Full(())),
            Err(Refusal::Closed) => return Err(Refused::Closed(())),
        };
        let woke = claim.woke;
        let count = claim.count;
        let mut writer = Writer {
            mailbox: self,
            claim,
            written: 0,
            slot: null_mut(),
            left: 0,
        };
        for message in take(count).take(count as usize) {
            writer.write(self.state, |place| {
                place.write(message);
            });
        }
        let given = writer.written;
        drop(writer);
        Ok((given, woke))
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

/// Publishes the rest of its claim as tombstones when dropped, so that a panic leaves no gap.
struct Writer<'a, M> {
    mailbox: Mailbox<'a, M>,
    claim: Claim,
    written: u32,
    /// The next slot, and how many there are from it to the end of its page.
    slot: *mut Slot<M>,
    left: u32,
}

impl<M> Writer<'_, M> {
    #[inline(always)]
    fn write(&mut self, state: u8, fill: impl FnOnce(&mut std::mem::MaybeUninit<M>)) {
        if self.left <= AHEAD {
            let position = self.claim.position.wrapping_add(self.written);
            (self.slot, self.left) = self.mailbox.claimed_slot(&self.claim, position);
        } else {
            prefetch::for_write(self.slot.wrapping_add(AHEAD as usize));
        }
        // SAFETY: the slot is ours by rule 1; the unpublished rest of the claim keeps it alive.
        let slot = unsafe { &*self.slot };
        slot.message.with_mut(|place| {
            // SAFETY: exclusively ours until published.
            fill(unsafe { &mut *place });
        });
        self.written += 1;
        self.left -= 1;
        self.slot = self.slot.wrapping_add(1);
        // Release pairs with the Acquire of `Drain::pop`.
        slot.state.store(state, Ordering::Release);
    }
}

impl<M> Drop for Writer<'_, M> {
    fn drop(&mut self) {
        while self.written < self.claim.count {
            self.write(TOMBSTONE, |_| {});
        }
    }
}

const _: () = assert!(cfg!(loom) || size_of::<Front>() <= 48);
const _: () = assert!(EMPTY == 0);
