//! Senders that wait for space.
//!
//! Owns: their wakers, each under a ticket, and the lock that serialises shared consumption.
//! Does not know: the word; `Front` keeps its `WAITERS` bit equal to "somebody is registered".

use crate::sync::Mutex;
use std::task::Waker;

/// A waiting sender's registration.
#[derive(Debug, Default)]
pub(crate) struct Ticket(Option<u64>);

impl Ticket {
    pub(crate) fn is_registered(&self) -> bool {
        self.0.is_some()
    }
}

#[derive(Debug)]
pub(super) struct Waiters {
    pub(super) waiting: Mutex<Waiting>,
    /// Held around each consumption of a mailbox whose senders may drop the oldest.
    pub(super) turn: Mutex<()>,
}

impl Waiters {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting::default()),
            turn: Mutex::new(()),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Waiting {
    next: u64,
    registered: Vec<(u64, Waker)>,
    /// The owner's position when it first had no room for them.
    passed_at: Option<u32>,
}

impl Waiting {
    pub(super) fn register(&mut self, ticket: &mut Ticket, waker: &Waker) {
        let place = ticket
            .0
            .and_then(|id| self.registered.iter_mut().find(|entry| entry.0 == id));
        if let Some((_, known)) = place {
            known.clone_from(waker);
            return;
        }
        self.next += 1;
        ticket.0 = Some(self.next);
        self.registered.push((self.next, waker.clone()));
    }

    /// `true` if the ticket had been woken already.
    pub(super) fn deregister(&mut self, ticket: &mut Ticket) -> bool {
        let Some(id) = ticket.0.take() else {
            return false;
        };
        match self.registered.iter().position(|entry| entry.0 == id) {
            Some(place) => {
                self.registered.remove(place);
                false
            }
            None => true,
        }
    }

    /// Takes note that there is no room for them at the owner's `position`; for how many messages that has been so.
    pub(super) fn pass_over(&mut self, position: u32) -> u32 {
        position.wrapping_sub(*self.passed_at.get_or_insert(position))
    }

    /// Takes the first few, in the order in which they came; `true` if that was all.
    pub(super) fn take_some(&mut self, some: &mut [Option<Waker>]) -> bool {
        let count = some.len().min(self.registered.len());
        for (place, (_, waker)) in some.iter_mut().zip(self.registered.drain(..count)) {
            *place = Some(waker);
        }
        self.passed_at = None;
        self.registered.is_empty()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::mailbox::WAITERS;
    use crate::mailbox::tests::Whole;
    use crate::mailbox::word::Word;
    use crate::sync::Ordering;

    /// Others that do not wait take every place as it becomes free.
    #[test]
    fn who_waits_is_woken_once_per_lap_of_a_mailbox_that_others_keep_full() {
        const BOUND: u32 = 64;
        let whole = Whole::new(BOUND);
        (0..BOUND).for_each(|n| assert!(whole.of().push(n).is_ok()));
        whole.front.wait(&mut Ticket::default(), Waker::noop());
        let mut drain = whole.drain::<u32>();
        for read in 1.. {
            assert!(drain.pop().is_some());
            drain.publish();
            assert!(whole.of().push(0).is_ok(), "the place that was left");
            drain.publish_and_wake();
            let waits = Word(whole.front.word.load(Ordering::Relaxed)).has(WAITERS);
            assert_eq!(waits, read <= BOUND, "after {read} messages");
            if !waits {
                break;
            }
        }
        while drain.pop().is_some() {}
        drop(drain);
        whole.end::<u32>();
    }
}
