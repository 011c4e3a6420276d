//! References to a runtime.
//!
//! Owns: whether they are counted.
//! Does not know: what a runtime is made of.
//! Invariants:
//! 1. The runtime of a system with threads is never freed, and nothing is counted: references to ended actors may outlive their
//!    system, and a program has few systems (some KiB each).
//! 2. That of a simulation is counted and goes with the last reference, because tests make simulations by the thousand. What it
//!    holds itself of its actors, who refer to it, is put away at the end (see `parting`).
//! 3. Who runs a simulated actor to its end, or lets go of it, uses the runtime no more, unless by another reference.
#![allow(unsafe_code)]

use super::Runtime;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

/// A reference to a runtime, for as long as it is needed.
pub(crate) struct RuntimeRef(NonNull<Runtime>);

/// Whoever has a reference may be the one to drop the runtime.
const fn may_be_sent<T: Send + Sync>() {}
const _: () = may_be_sent::<Runtime>();

// SAFETY: as an `Arc`, see the line above.
unsafe impl Send for RuntimeRef {}
// SAFETY: as above.
unsafe impl Sync for RuntimeRef {}

impl RuntimeRef {
    /// The first reference to the runtime of a simulation.
    pub(super) fn counted(runtime: Runtime) -> Self {
        debug_assert!(runtime.simulated.is_some());
        let runtime = Arc::into_raw(Arc::new(runtime)).cast_mut();
        Self(NonNull::new(runtime).expect("an `Arc` is nowhere near address zero"))
    }

    fn is_counted(&self) -> bool {
        self.simulated.is_some()
    }
}

impl From<&'static Runtime> for RuntimeRef {
    fn from(runtime: &'static Runtime) -> Self {
        debug_assert!(runtime.simulated.is_none());
        Self(NonNull::from(runtime))
    }
}

impl Clone for RuntimeRef {
    #[inline]
    fn clone(&self) -> Self {
        if self.is_counted() {
            // SAFETY: made by `counted`, and our reference is one of those counted.
            unsafe { Arc::increment_strong_count(self.0.as_ptr()) };
        }
        Self(self.0)
    }
}

impl Drop for RuntimeRef {
    #[inline]
    fn drop(&mut self) {
        if self.is_counted() {
            // SAFETY: made by `counted`, and our reference, which is one of those counted, is used no more.
            unsafe { Arc::decrement_strong_count(self.0.as_ptr()) };
        }
    }
}

impl Deref for RuntimeRef {
    type Target = Runtime;

    #[inline(always)]
    fn deref(&self) -> &Runtime {
        // SAFETY: never freed, or counted (invariants 1 and 2).
        unsafe { self.0.as_ref() }
    }
}
