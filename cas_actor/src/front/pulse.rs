//! Where the requests of a connection stand.
//!
//! Owns: telling the stream below when requests begin and end, and counting them.
//! Does not know: HTTP, or how long anything may take (`timed`).
//! Invariant: a request counts as running until its guard is dropped.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::counters::Counters;
use super::watch::Watched;

/// The requests of one connection. `Relaxed` all over: a late view costs one more tick.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    begun: AtomicU64,
    ended: AtomicU64,
    /// Requests share the connection (HTTP/2), so bytes between them are no head.
    multiplexed: AtomicBool,
    counters: Arc<Counters>,
}

impl Pulse {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Self {
            counters,
            ..Self::default()
        }
    }

    /// Requests will share the connection: it has said that it speaks HTTP/2.
    pub(crate) fn multiplex(&self) {
        self.multiplexed.store(true, Relaxed);
    }

    /// A request begins; it ends when the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.begun.fetch_add(1, Relaxed);
        Busy {
            stripe: self.counters.begin(),
            pulse: Arc::clone(self),
            watched: None,
        }
    }

    /// Requests that have begun.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.begun() != self.ended.load(Relaxed)
    }

    pub(crate) fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Relaxed)
    }
}

/// A request that is being answered.
pub(crate) struct Busy {
    pulse: Arc<Pulse>,
    stripe: usize,
    /// What somebody will be told; the answer takes it along.
    pub(crate) watched: Option<Box<Watched>>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.pulse.ended.fetch_add(1, Relaxed);
        self.pulse.counters.end(self.stripe);
    }
}
