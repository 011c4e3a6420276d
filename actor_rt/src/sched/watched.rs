//! A place of a run queue whose accesses the model checker may watch.
//!
//! Owns: the stand-in for an atomic pointer. Does not know: queues.
//!
//! Loom lets no load see a store that comes after it, so it cannot show a taker that reads the actor for which its own
//! exchange makes room. What it can show is whether the reading is ordered before the overwriting, as it would
//! have to be for plain memory. Only a lone taker may be watched: where several race for a place, those who lose may have
//! read what is being overwritten, and throw it away.

use std::cell::Cell;

use super::Header;
use crate::sync::{AtomicPtr, Ordering, UnsafeCell};

// A model and all its threads run on one thread of the system.
thread_local! {
    static WATCHING: Cell<bool> = const { Cell::new(false) };
}

/// The places that `make` makes are watched.
pub(super) fn watched<T>(make: impl FnOnce() -> T) -> T {
    WATCHING.set(true);
    let made = make();
    WATCHING.set(false);
    made
}

pub(super) struct Place {
    actor: AtomicPtr<Header>,
    accesses: Option<UnsafeCell<()>>,
}

impl Place {
    pub(super) fn new(actor: *mut Header) -> Self {
        Self {
            actor: AtomicPtr::new(actor),
            accesses: WATCHING.get().then(|| UnsafeCell::new(())),
        }
    }

    pub(super) fn load(&self, ordering: Ordering) -> *mut Header {
        if let Some(accesses) = &self.accesses {
            accesses.with(|_| ());
        }
        self.actor.load(ordering)
    }

    pub(super) fn store(&self, actor: *mut Header, ordering: Ordering) {
        if let Some(accesses) = &self.accesses {
            accesses.with_mut(|_| ());
        }
        self.actor.store(actor, ordering);
    }
}
