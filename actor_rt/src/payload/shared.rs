//! Shared values in blocks of the slabs.
//!
//! Owns: [`Shared`], an `Arc` whose memory is pooled.
//! Invariant: the block holds a live value while `owners` is above zero; who takes it to zero drops it.
#![allow(unsafe_code)]

use super::Pooled;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counted<T> {
    owners: AtomicUsize,
    value: T,
}

/// As `Arc`, without weak references. Once warm, making and dropping one allocates nothing.
pub(crate) struct Shared<T> {
    place: NonNull<Counted<T>>,
}

// SAFETY: as for `Arc`: every owner can reach the value, and the last one, wherever it is, drops it.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    #[inline]
    pub(crate) fn new(value: T) -> Self {
        let owners = AtomicUsize::new(1);
        Self {
            place: Pooled::new(Counted { owners, value }).into_raw(),
        }
    }

    fn counted(&self) -> &Counted<T> {
        // SAFETY: this owner is counted.
        unsafe { self.place.as_ref() }
    }
}

impl<T> Clone for Shared<T> {
    #[inline]
    fn clone(&self) -> Self {
        // Relaxed: who has an owner can lend it. Never near the limit: each owner takes eight bytes.
        self.counted().owners.fetch_add(1, Ordering::Relaxed);
        Self { place: self.place }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.counted().value
    }
}

impl<T> Drop for Shared<T> {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the Acquire below: the last owner sees what the others did.
        if self.counted().owners.fetch_sub(1, Ordering::Release) == 1 {
            // A load and no fence, which ThreadSanitizer would not see.
            self.counted().owners.load(Ordering::Acquire);
            // SAFETY: the last owner; nobody can reach the block any more.
            drop(unsafe { Pooled::from_raw(self.place) });
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_last_owner_drops_the_value() {
        let value = Arc::new(());
        let shared = Shared::new(Arc::clone(&value));
        let others: Vec<_> = (0..4)
            .map(|_| {
                let shared = shared.clone();
                std::thread::spawn(move || drop(shared))
            })
            .collect();
        assert!(Arc::ptr_eq(&shared, &value));
        drop(shared);
        for other in others {
            other.join().expect("no panic");
        }
        assert_eq!(Arc::strong_count(&value), 1);
    }
}
