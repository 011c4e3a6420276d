//! Items that make mistakes of a ring visible: dropped twice, leaked, misaligned.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How often each numbered item was dropped.
#[derive(Clone, Default)]
pub(super) struct Ledger(Rc<RefCell<Vec<u32>>>);

impl Ledger {
    pub(super) fn item(&self) -> Entry {
        let mut drops = self.0.borrow_mut();
        drops.push(0);
        Entry {
            number: drops.len() - 1,
            ledger: self.clone(),
            panics: false,
        }
    }

    pub(super) fn panicking_item(&self) -> Entry {
        let mut item = self.item();
        item.panics = true;
        item
    }

    pub(super) fn alive(&self) -> usize {
        self.0.borrow().iter().filter(|drops| **drops == 0).count()
    }

    /// Panics unless every item was dropped exactly once.
    pub(super) fn check(&self) {
        assert!(
            self.0.borrow().iter().all(|drops| *drops == 1),
            "drops per item: {:?}",
            self.0.borrow()
        );
    }
}

/// An item that counts its drop, and may panic after.
pub(super) struct Entry {
    pub(super) number: usize,
    ledger: Ledger,
    panics: bool,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ledger.0.borrow_mut()[self.number] += 1;
        assert!(!self.panics, "planted panic in Drop");
    }
}

/// As [`Entry`] for rings that ask for `Send` items: counts its drops in a shared counter.
#[derive(Clone)]
pub(super) struct Counted(pub(super) Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Larger than a cache line pair, and says so when it is misplaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(align(256))]
pub(super) struct Aligned(pub(super) u8);

impl Aligned {
    pub(super) fn check(&self) -> u8 {
        assert_eq!(std::ptr::from_ref(self).addr() % 256, 0);
        self.0
    }
}

/// Runs `body`, which is expected to panic.
pub(super) fn panics(body: impl FnOnce()) {
    assert!(
        catch_unwind(AssertUnwindSafe(body)).is_err(),
        "the planted panic did not come through"
    );
}

/// An iterator that yields `count` items and then panics.
pub(super) fn then_panic<T>(count: usize, mut item: impl FnMut() -> T) -> impl Iterator<Item = T> {
    (0..=count).map(move |index| {
        assert!(index < count, "planted panic while filling");
        item()
    })
}
