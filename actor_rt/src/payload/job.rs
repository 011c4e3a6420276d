//! Closures in blocks of the slabs.
//!
//! Owns: [`Job`] and [`Due`]. Does not know: when it is run.
//! Invariant: `closure` came from `Pooled::into_raw`, and `act` is the function for its type; whoever calls it, but to ask,
//! owns the closure no more.
#![allow(unsafe_code)]

use super::Pooled;
use crate::prefetch;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// Something to be done later, unless nobody wants it any more.
pub(crate) trait Due: Send + 'static {
    fn run(self);

    /// May be asked at any time, and often.
    fn is_wanted(&self) -> bool {
        true
    }
}

impl<F: FnOnce() + Send + 'static> Due for F {
    #[inline]
    fn run(self) {
        self();
    }
}

/// What is done with a job.
#[derive(Clone, Copy)]
enum Act {
    Run,
    Drop,
    /// It stays.
    Ask,
}

/// Something to be done once, on whatever thread. Once warm, making and running one allocates nothing.
pub(crate) struct Job {
    closure: NonNull<()>,
    act: unsafe fn(NonNull<()>, Act) -> bool,
}

// SAFETY: `new` asks for closures that are `Send`.
unsafe impl Send for Job {}

/// Runs what is due, drops it, or asks whether it is wanted.
///
/// # Safety
/// `closure` came from `Pooled::<F>::into_raw`, and is used no more unless it was asked.
unsafe fn act<F: Due>(closure: NonNull<()>, act: Act) -> bool {
    if let Act::Ask = act {
        // SAFETY: the caller's promise; a block holds its value.
        return unsafe { closure.cast::<F>().as_ref() }.is_wanted();
    }
    // SAFETY: the caller's promise.
    let closure = unsafe { Pooled::<F>::from_raw(closure.cast()) };
    if let Act::Run = act {
        closure.into_inner().run();
    }
    true
}

impl Job {
    #[inline]
    pub(crate) fn new<F: Due>(closure: F) -> Self {
        Self {
            closure: Pooled::new(closure).into_raw().cast(),
            act: act::<F>,
        }
    }

    /// Whether anybody wants it still.
    pub(crate) fn is_wanted(&self) -> bool {
        // SAFETY: the invariant.
        unsafe { (self.act)(self.closure, Act::Ask) }
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
        unsafe { (this.act)(this.closure, Act::Run) };
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // SAFETY: the invariant.
        unsafe { (self.act)(self.closure, Act::Drop) };
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
