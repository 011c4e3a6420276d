//! Closures in blocks of the slabs.
//!
//! Owns: [`Job`]. Does not know: when it is run.
//! Invariant: `closure` came from `Pooled::into_raw`, and `end` is the function for its type; whoever calls it owns the
//! closure no more.
#![allow(unsafe_code)]

use super::Pooled;
use crate::prefetch;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// Something to be done once, on whatever thread. Once warm, making and running one allocates nothing.
pub(crate) struct Job {
    closure: NonNull<()>,
    end: unsafe fn(NonNull<()>, bool),
}

// SAFETY: `new` asks for closures that are `Send`.
unsafe impl Send for Job {}

/// Calls a closure, or only drops it.
///
/// # Safety
/// `closure` came from `Pooled::<F>::into_raw`, and is used no more.
unsafe fn end<F: FnOnce()>(closure: NonNull<()>, call: bool) {
    // SAFETY: the caller's promise.
    let closure = unsafe { Pooled::<F>::from_raw(closure.cast()) };
    if call {
        closure.into_inner()();
    }
}

impl Job {
    #[inline]
    pub(crate) fn new<F: FnOnce() + Send + 'static>(closure: F) -> Self {
        Self {
            closure: Pooled::new(closure).into_raw().cast(),
            end: end::<F>,
        }
    }

    /// Asks for what it will need soon.
    #[inline]
    pub(crate) fn prefetch(&self) {
        prefetch::for_write(self.closure.as_ptr());
    }

    #[inline]
    pub(crate) fn run(self) {
        let this = ManuallyDrop::new(self);
        // SAFETY: the invariant; nothing drops `this`.
        unsafe { (this.end)(this.closure, true) }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // SAFETY: the invariant.
        unsafe { (self.end)(self.closure, false) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_job_runs_once_or_is_dropped() {
        let count = Arc::new(AtomicU32::new(0));
        let job = || {
            let count = Arc::clone(&count);
            Job::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
            })
        };
        job().run();
        drop(job());
        Job::new(|| ()).run();
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert_eq!(Arc::strong_count(&count), 1);
    }
}
