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

    /// Takes the first few, in the order in which they came; `true` if that was all.
    pub(super) fn take_some(&mut self, some: &mut [Option<Waker>]) -> bool {
        let count = some.len().min(self.registered.len());
        for (place, (_, waker)) in some.iter_mut().zip(self.registered.drain(..count)) {
            *place = Some(waker);
        }
        self.registered.is_empty()
    }
}
