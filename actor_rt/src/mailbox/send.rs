//! Putting messages in: claim, write, publish (rules 1 to 3 and 5).
//!
//! Owns: the senders' way from a claim to a published slot.
//! Does not know: the owner, but for the tail that it publishes.
#![allow(unsafe_code)]

use super::pages::{Slot, TOMBSTONE};
use super::word::{CLOSED, IDLE, Word};
use super::{Mailbox, Refused};
use crate::prefetch;
use crate::sync::Ordering;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::{NonNull, null_mut};

/// Slots between the one being written and the one whose line is asked for.
const AHEAD: u32 = 16;

enum Refusal {
    Full,
    Closed,
}

/// What came of a message.
enum Pushed {
    Queued,
    /// Queued, and the actor must be scheduled (rule 2).
    Woke,
    Full,
    Closed,
}

struct Claim {
    position: u32,
    epoch: u32,
    count: u32,
    woke: bool,
}

impl<M> Mailbox<'_, M> {
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
            unsafe { ring.attach(base, index, self.front.memory.get()) };
        }
    }

    #[cold]
    #[inline(never)]
    fn attach_base(self, epoch: u32) {
        let fresh = self.ring().new_base(self.front.memory.get());
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
    #[inline(always)]
    pub(crate) fn push(self, message: M) -> Result<bool, Refused<M>> {
        let message = ManuallyDrop::new(message);
        // SAFETY: a message that was accepted is the mailbox's, and not used here again.
        match unsafe { self.push_at(&raw const *message) } {
            Pushed::Queued => Ok(false),
            Pushed::Woke => Ok(true),
            Pushed::Full => Err(Refused::Full(ManuallyDrop::into_inner(message))),
            Pushed::Closed => Err(Refused::Closed(ManuallyDrop::into_inner(message))),
        }
    }

    /// [`push`](Self::push) of a message that lies somewhere. It is read only once its place is claimed, when all stores
    /// before are done: just written in pieces, and read as a whole, it would have to wait for that by itself.
    ///
    /// # Safety
    /// `message` can be read, and is the mailbox's if it was accepted.
    #[inline(never)]
    unsafe fn push_at(self, message: *const M) -> Pushed {
        let claim = match self.claim(1, 1) {
            Ok(claim) => claim,
            Err(Refusal::Full) => return Pushed::Full,
            Err(Refusal::Closed) => return Pushed::Closed,
        };
        self.publish(&claim, self.state, |place| {
            // SAFETY: by the contract of this function; the place is exclusively ours until published.
            unsafe { place.as_mut_ptr().copy_from_nonoverlapping(message, 1) };
        });
        if claim.woke {
            Pushed::Woke
        } else {
            Pushed::Queued
        }
    }

    /// Puts in what becomes a message, which it does only once its place is claimed: what is refused comes back as it
    /// was. `schedule` schedules the actor, if that is to be done (rule 2), also when the conversion panics.
    #[inline]
    pub(crate) fn push_from<T>(self, message: T, schedule: impl Fn()) -> Result<(), Refused<T>>
    where
        M: From<T>,
    {
        let claim = match self.claim(1, 1) {
            Ok(claim) => claim,
            Err(Refusal::Full) => return Err(Refused::Full(message)),
            Err(Refusal::Closed) => return Err(Refused::Closed(message)),
        };
        let unused = Unused {
            mailbox: self,
            claim: &claim,
            schedule: &schedule,
        };
        let message = M::from(message);
        std::mem::forget(unused);
        self.publish(&claim, self.state, |place| {
            place.write(message);
        });
        if claim.woke {
            schedule();
        }
        Ok(())
    }

    /// Fills the only place of a claim.
    #[inline(always)]
    fn publish(self, claim: &Claim, state: u8, fill: impl FnOnce(&mut MaybeUninit<M>)) {
        let (slot, _) = self.claimed_slot(claim, claim.position);
        // SAFETY: the slot is ours by rule 1, and its page lives while our claim is unpublished.
        let slot = unsafe { &*slot };
        slot.message.with_mut(|place| {
            // SAFETY: exclusively ours until published.
            fill(unsafe { &mut *place });
        });
        // Release pairs with the Acquire of `Drain::pop`.
        slot.state.store(state, Ordering::Release);
    }

    /// Moves as many messages as fit from the front of `messages` into places of one claim. A message
    /// goes to its place as a whole: on its way out of an iterator it would be stored in pieces and loaded as a whole, which
    /// waits until all stores before it are done, and those to slots take as long as their lines.
    pub(crate) fn push_many(self, messages: &mut Vec<M>) -> Result<(u32, bool), Refused<()>> {
        let wanted = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        debug_assert!(wanted > 0);
        let claim = match self.claim(wanted, 1) {
            Ok(claim) => claim,
            Err(Refusal::Full) => return Err(Refused::Full(())),
            Err(Refusal::Closed) => return Err(Refused::Closed(())),
        };
        let rest = messages.len() - claim.count as usize;
        // SAFETY: what is left out of the vector is moved below; were that left early, it would be leaked.
        unsafe { messages.set_len(0) };
        let first = messages.as_mut_ptr();
        let mut moved = 0;
        while moved < claim.count {
            // SAFETY: `claim.count` messages begin at `first`, and those before `moved` have been moved.
            moved += unsafe { self.fill_page(&claim, moved, first) };
        }
        // SAFETY: the rest lies behind what was moved; it becomes the vector's again, at its front.
        unsafe {
            first.copy_from(first.add(claim.count as usize), rest);
            messages.set_len(rest);
        }
        Ok((claim.count, claim.woke))
    }

    /// Moves messages into the places of a claim from the `nth` on, as far as the page goes; how many.
    ///
    /// # Safety
    /// `messages` begins with one for every place of the claim; those from the `nth` on become the mailbox's.
    unsafe fn fill_page(self, claim: &Claim, nth: u32, messages: *const M) -> u32 {
        let position = claim.position.wrapping_add(nth);
        let (slots, left) = self.claimed_slot(claim, position);
        let after = self.slots_after(claim, position.wrapping_add(left));
        let count = left.min(claim.count - nth);
        for index in 0..count {
            let ahead = index + AHEAD;
            prefetch::for_write(if ahead < left {
                slots.wrapping_add(ahead as usize)
            } else {
                after.wrapping_add((ahead - left) as usize)
            });
            // SAFETY: the slot is ours by rule 1; the unpublished rest of the claim keeps it alive.
            let slot = unsafe { &*slots.add(index as usize) };
            // SAFETY: one of the claim's messages.
            let message = unsafe { messages.add((nth + index) as usize) };
            slot.message.with_mut(|place| {
                // SAFETY: the place is exclusively ours until published; the message is the mailbox's now.
                unsafe { (*place).as_mut_ptr().copy_from_nonoverlapping(message, 1) };
            });
            // Release pairs with the Acquire of `Drain::pop`.
            slot.state.store(self.state, Ordering::Release);
        }
        count
    }

    /// The slots that begin at a position, to ask for their lines; null if there are none yet.
    fn slots_after(self, claim: &Claim, position: u32) -> *mut Slot<M> {
        let base = &self.front.bases[(claim.epoch & 1) as usize];
        // Acquire as in `claimed_slot`, which found this very base.
        let base = NonNull::new(base.load(Ordering::Acquire));
        base.map_or(null_mut(), |base| {
            // SAFETY: our claim keeps the base alive; the index is masked.
            unsafe { self.ring().slot(base, position & self.mask()) }.0
        })
    }
}

/// A place that nobody has come to fill. Publishes a tombstone when dropped, so that a panic leaves no gap.
struct Unused<'a, 'c, M, F: Fn()> {
    mailbox: Mailbox<'a, M>,
    claim: &'c Claim,
    schedule: &'c F,
}

impl<M, F: Fn()> Drop for Unused<'_, '_, M, F> {
    fn drop(&mut self) {
        self.mailbox.publish(self.claim, TOMBSTONE, |_| {});
        if self.claim.woke {
            (self.schedule)();
        }
    }
}
