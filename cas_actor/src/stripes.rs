//! Counters that every thread adds to on a cache line of its own.
//!
//! Owns: which line is a thread's.
//! Does not know: what is counted.
//! Invariant: all accesses are `Relaxed`, for no other memory hangs on a counter.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

/// Threads that count side by side.
pub(crate) const STRIPES: usize = 16;

thread_local! {
    static STRIPE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed) % STRIPES
    };
}

/// This thread's stripe.
pub(crate) fn own() -> usize {
    STRIPE.with(|stripe| *stripe)
}

/// One counter in stripes.
#[derive(Debug, Default)]
pub(crate) struct Striped([CachePadded<AtomicU64>; STRIPES]);

impl Striped {
    pub(crate) fn add(&self, number: u64) {
        self.0[own()].fetch_add(number, Relaxed);
    }

    /// The sum over all threads.
    pub(crate) fn load(&self, ordering: std::sync::atomic::Ordering) -> u64 {
        self.0.iter().map(|stripe| stripe.load(ordering)).sum()
    }
}
