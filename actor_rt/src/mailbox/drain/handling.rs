//! How a message gets from its slot to its handler (rule 4 of the mailbox).
//!
//! Owns: where a message lies while it is handled, and when its place is left.
//! Does not know: cursors; it leaves a place by a step of the drain.
#![allow(unsafe_code)]

use super::{Drain, moves};
use crate::sync::{UnsafeCell, lock};
use std::mem::MaybeUninit;

impl<M> Drain<'_, M> {
    /// Whether there is a message for [`Drain::hand_over`] or [`Drain::take`]. In two steps, because a message
    /// that travels in an `Option` is copied in pieces, and reading it back as a whole then costs more than
    /// all the rest.
    #[inline(always)]
    pub(crate) fn is_ready(&mut self) -> bool {
        if self.moves {
            return self.hold();
        }
        if self.position.wrapping_sub(self.horizon) as i32 >= 0 {
            self.look_ahead();
        }
        self.find_full()
    }

    /// Hands the message that [`Drain::is_ready`] found to `handle`, straight from its slot, which is emptied
    /// only afterwards: a store in between would have the message copied in pieces first. What `handle`
    /// panics over is gone like any other.
    #[inline(always)]
    pub(crate) fn hand_over<R>(&mut self, handle: impl FnOnce(M) -> R) -> R {
        self.ask_ahead();
        let leaving = Leaving(self);
        let place = leaving.0.place();
        // SAFETY: the slot is of a live page, which the owner alone frees, or it is `held` itself.
        let result = unsafe { &*place }.with(|message| {
            // SAFETY: found by `is_ready`, so initialised; read once, because whatever happens to `handle`
            // the place is left afterwards.
            handle(unsafe { (*message).assume_init_read() })
        });
        std::mem::forget(leaving);
        self.leave();
        if self.position.wrapping_sub(self.published) >= self.chunk {
            self.progress();
        }
        result
    }

    /// The message that [`Drain::is_ready`] found.
    pub(crate) fn take(&mut self) -> M {
        self.hand_over(|message| message)
    }

    /// The message that [`Drain::is_ready`] found, where it lies.
    #[cold]
    pub(crate) fn peek(&self) -> &M {
        // SAFETY: as in `hand_over`, which was not called since.
        unsafe { &*self.place() }.with(|message| {
            // SAFETY: initialised, and taken by nobody but the owner, who is borrowed.
            unsafe { (*message).assume_init_ref() }
        })
    }

    /// Where the message is that `is_ready` found.
    #[inline(always)]
    fn place(&self) -> *const UnsafeCell<MaybeUninit<M>> {
        if self.moves {
            return &raw const self.held;
        }
        // SAFETY: `find_full` took the slot from a live page; this only computes an address in it.
        unsafe { &raw const (*self.slot).message }
    }

    /// Leaves the place of the message that was read.
    #[inline(always)]
    fn leave(&mut self) {
        if self.moves {
            self.holds = false;
        } else {
            // SAFETY: as in `find_full`, which found it and was not followed by a step.
            self.step(unsafe { &*self.slot });
        }
    }

    /// Takes the next message out of its slot or the own lane, if there is one.
    #[inline(never)]
    fn hold(&mut self) -> bool {
        debug_assert!(!self.holds, "the last one was taken");
        let Some(own) = self.own.take() else {
            return self.hold_next();
        };
        // By turns (rule 12).
        if own.yields() && self.hold_next() {
            self.own = Some(own);
            return true;
        }
        if let Some(message) = own.pop() {
            self.own = Some(own);
            self.keep(message);
            return true;
        }
        self.moves = moves(self.mailbox.front);
        self.is_ready()
    }

    fn hold_next(&mut self) -> bool {
        let mailbox = self.mailbox;
        if !self.shared {
            return self.hold_exclusive();
        }
        let _turn = lock(&mailbox.front.waiters().turn);
        // A sender may have moved the tail meanwhile.
        let moves = self.moves;
        *self = Drain::new(mailbox);
        self.moves = moves;
        self.hold_exclusive()
    }

    fn hold_exclusive(&mut self) -> bool {
        let Some(message) = self.pop_exclusive() else {
            return false;
        };
        self.keep(message);
        if self.shared {
            self.publish();
        } else {
            self.progress();
        }
        true
    }

    fn keep(&mut self, message: M) {
        self.held.with_mut(|held| {
            // SAFETY: ours alone, and empty.
            unsafe { (*held).write(message) };
        });
        self.holds = true;
    }
}

/// Leaves the place of a message whose handler panics.
struct Leaving<'d, 'a, M>(&'d mut Drain<'a, M>);

impl<M> Drop for Leaving<'_, '_, M> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::mailbox::tests::{Whole, full};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    /// Rule 4: senders get the place of a message that is handled only afterwards.
    #[test]
    fn a_message_keeps_its_place_while_it_is_handled() {
        let whole = Whole::new(8);
        (0..8).for_each(|n| assert!(!whole.of().push(n).expect("room")));
        let mut drain = whole.drain::<i32>();
        for n in 0..2 {
            assert!(drain.is_ready());
            assert_eq!(*drain.peek(), n);
            drain.hand_over(|message| {
                assert_eq!(message, n);
                assert_eq!(full(whole.of().push(8)), 8);
            });
        }
        assert!(!whole.of().push(8).expect("the places of the first two"));
        let rest: Vec<_> = std::iter::from_fn(|| drain.pop()).collect();
        assert_eq!(rest, (2..=8).collect::<Vec<_>>());
        drop(drain);
        whole.end::<i32>();
    }

    /// Rule 4: with so few places, the one that is handled takes none.
    #[test]
    fn a_small_mailbox_has_room_while_it_handles() {
        for whole in [Whole::new(1), Whole::shared(1)] {
            assert!(!whole.of().push(0).expect("room"));
            let mut drain = whole.drain::<i32>();
            for n in 0..100 {
                assert!(drain.is_ready());
                drain.hand_over(|message| {
                    assert_eq!(message, n);
                    assert!(!whole.of().push(n + 1).expect("its own place"));
                    assert_eq!(full(whole.of().push(n + 2)), n + 2);
                });
            }
            drop(drain);
            whole.end::<i32>();
        }
    }

    /// Rule 4: nothing is left of it, and the next one is the next one.
    #[test]
    fn a_message_whose_handler_panics_is_gone() {
        for whole in [Whole::new(1 << 3), Whole::new(2), Whole::shared(2)] {
            let message = Arc::new(());
            whole.of().push((0, Arc::clone(&message))).expect("room");
            whole.of().push((1, Arc::clone(&message))).expect("room");
            let mut drain = whole.drain::<(i32, Arc<()>)>();
            let caught = catch_unwind(AssertUnwindSafe(|| {
                assert!(drain.is_ready());
                drain.hand_over(|_message| panic!("as planned"));
            }));
            assert!(caught.is_err());
            assert_eq!(Arc::strong_count(&message), 2, "dropped, once");
            drop(drain);
            let mut drain = whole.drain::<(i32, Arc<()>)>();
            assert_eq!(drain.pop().map(|(n, _)| n), Some(1));
            assert!(drain.pop().is_none());
            drop(drain);
            assert_eq!(Arc::strong_count(&message), 1);
            whole.end::<(i32, Arc<()>)>();
        }
    }
}
