//! The slot that a question and its answer share.
//!
//! Owns: the hand-over of one value and one waker between two sides.
//! Does not know: questions. A slot comes from the slab, so asking allocates nothing once warm. Two
//! handles own a slot and the last to leave frees it, so neither can reach a slot that was given to
//! somebody else meanwhile: that is why no generation is needed.
//!
//! # The protocol
//! 1. `value` is written by the answering side before `DONE`, and read by the asking side after it.
//! 2. While `WAITING` is set, the waker belongs to the answering side; the asking side takes it back by
//!    clearing the bit, which fails once `DONE` is set.
//! 3. Each side leaves once (`ANSWERER_LEFT`, `ASKER_LEFT`), as its last act; the second to leave frees.
//!
//! Loom checks all three: `loom_tests` below.
#![allow(unsafe_code)]

use crate::slab;
use crate::sync::{AtomicU8, Ordering, UnsafeCell};
use std::alloc::Layout;
use std::ptr::NonNull;
use std::task::Waker;

/// The answer will not change any more; there is one if `value` is `Some`.
const DONE: u8 = 1;
const WAITING: u8 = 1 << 1;
const ANSWERER_LEFT: u8 = 1 << 2;
const ASKER_LEFT: u8 = 1 << 3;

struct Slot<R> {
    state: AtomicU8,
    value: UnsafeCell<Option<R>>,
    waker: UnsafeCell<Option<Waker>>,
}

/// The side that answers, by being dropped.
pub(super) struct Answering<R>(NonNull<Slot<R>>);

/// The side that asks.
pub(super) struct Asking<R>(NonNull<Slot<R>>);

// SAFETY: the value travels from one thread to another (`R: Send`); everything shared is atomic or
// handed over by the protocol.
unsafe impl<R: Send> Send for Answering<R> {}
// SAFETY: shared, it gives access to nothing but whether anybody waits.
unsafe impl<R: Send> Sync for Answering<R> {}
// SAFETY: as for `Answering`.
unsafe impl<R: Send> Send for Asking<R> {}
// SAFETY: shared, it gives access to nothing.
unsafe impl<R: Send> Sync for Asking<R> {}

/// A fresh slot's two sides.
#[inline]
pub(super) fn pair<R>() -> (Answering<R>, Asking<R>) {
    let slot = slab::take(Layout::new::<Slot<R>>()).cast::<Slot<R>>();
    let fresh = Slot {
        state: AtomicU8::new(0),
        value: UnsafeCell::new(None),
        waker: UnsafeCell::new(None),
    };
    // SAFETY: a fresh block of this layout.
    unsafe { slot.write(fresh) };
    (Answering(slot), Asking(slot))
}

/// Frees a slot.
///
/// # Safety
/// Both sides have left.
unsafe fn free<R>(slot: NonNull<Slot<R>>) {
    // SAFETY: nobody else can look any more.
    unsafe { slot.drop_in_place() };
    // SAFETY: taken in `pair` with this layout.
    unsafe { slab::give(slot.cast(), Layout::new::<Slot<R>>()) };
}

impl<R> Answering<R> {
    fn slot(&self) -> &Slot<R> {
        // SAFETY: rule 3: alive until both sides have left.
        unsafe { self.0.as_ref() }
    }

    /// Puts the answer in; dropping the side delivers it.
    #[inline]
    pub(super) fn put(&mut self, value: R) {
        self.slot().value.with_mut(|place| {
            // SAFETY: rule 1: ours until `DONE`.
            unsafe { *place = Some(value) };
        });
    }

    /// Whether the asking side has left.
    pub(super) fn is_abandoned(&self) -> bool {
        self.slot().state.load(Ordering::Relaxed) & ASKER_LEFT != 0
    }
}

impl<R> Drop for Answering<R> {
    #[inline]
    fn drop(&mut self) {
        let slot = self.slot();
        let done = DONE | ANSWERER_LEFT;
        // Release pairs with the Acquire of `Asking::try_take`: the value is seen. Acquire: if the asker
        // has left, its use of the slot is over.
        if slot.state.load(Ordering::Relaxed) == 0
            && slot
                .state
                .compare_exchange(0, done, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            return;
        }
        // Somebody waits, or has left. `DONE` stops the asker from taking its waker back (rule 2).
        let before = slot.state.fetch_or(DONE, Ordering::AcqRel);
        let waker = if before & WAITING != 0 {
            // SAFETY: rule 2.
            slot.waker.with_mut(|place| unsafe { (*place).take() })
        } else {
            None
        };
        if slot.state.fetch_or(ANSWERER_LEFT, Ordering::AcqRel) & ASKER_LEFT != 0 {
            // SAFETY: both have left.
            unsafe { free(self.0) };
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<R> Asking<R> {
    fn slot(&self) -> &Slot<R> {
        // SAFETY: rule 3: alive until both sides have left.
        unsafe { self.0.as_ref() }
    }

    /// `None` while the answer may still come; then the answer, if there was one, once.
    #[inline]
    pub(super) fn try_take(&self) -> Option<Option<R>> {
        let slot = self.slot();
        // Acquire pairs with the Release of `Answering::drop`.
        if slot.state.load(Ordering::Acquire) & DONE == 0 {
            return None;
        }
        // SAFETY: rule 1.
        Some(slot.value.with_mut(|place| unsafe { (*place).take() }))
    }

    /// Leaves a waker; `false` if the answer came meanwhile.
    #[inline]
    pub(super) fn register(&self, waker: &Waker) -> bool {
        let state = &self.slot().state;
        if state.load(Ordering::Relaxed) & WAITING != 0
            // Take the old waker back first (rule 2).
            && state.compare_exchange(WAITING, 0, Ordering::AcqRel, Ordering::Relaxed).is_err()
        {
            return false;
        }
        self.slot().waker.with_mut(|place| {
            // SAFETY: rule 2: `WAITING` is clear, so the waker is ours.
            let place = unsafe { &mut *place };
            match place {
                Some(known) => known.clone_from(waker),
                None => *place = Some(waker.clone()),
            }
        });
        // Release pairs with the Acquire of `Answering::drop`: the waker is seen.
        state
            .compare_exchange(0, WAITING, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }
}

impl<R> Drop for Asking<R> {
    #[inline]
    fn drop(&mut self) {
        let state = &self.slot().state;
        // The common case, answered and left: no need to announce it. Acquire pairs with the Release of
        // the answerer's leaving.
        if state.load(Ordering::Acquire) & ANSWERER_LEFT != 0
            || state.fetch_or(ASKER_LEFT, Ordering::AcqRel) & ANSWERER_LEFT != 0
        {
            // SAFETY: both have left.
            unsafe { free(self.0) };
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicBool;
    use loom::thread;
    use std::task::Wake;

    struct Bell(std::sync::atomic::AtomicBool);

    impl Wake for Bell {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }

    fn bell() -> (std::sync::Arc<Bell>, Waker) {
        let bell = std::sync::Arc::new(Bell(false.into()));
        (std::sync::Arc::clone(&bell), Waker::from(bell))
    }

    /// Counts drops where loom can see the order.
    struct Once(Arc<AtomicBool>);

    impl Drop for Once {
        fn drop(&mut self) {
            assert!(!self.0.swap(true, Ordering::AcqRel), "dropped twice");
        }
    }

    #[test]
    fn an_answer_is_seen_or_its_waker_rings() {
        loom::model(|| {
            let (mut answering, asking) = pair::<u32>();
            let answerer = thread::spawn(move || {
                answering.put(7);
            });
            let (first, waker) = bell();
            let mut answer = asking.try_take();
            let mut last = None;
            if answer.is_none() && asking.register(&waker) {
                // Polled again with another waker.
                let (second, waker) = bell();
                last = Some(second);
                if !asking.register(&waker) {
                    last = None;
                }
            }
            answerer.join().expect("no panic");
            if let Some(last) = last {
                assert!(last.0.load(std::sync::atomic::Ordering::SeqCst));
            }
            drop(first);
            answer = answer.or_else(|| asking.try_take());
            assert_eq!(answer, Some(Some(7)));
        });
    }

    #[test]
    fn whoever_leaves_last_frees_and_the_value_is_dropped_once() {
        loom::model(|| {
            let dropped = Arc::new(AtomicBool::new(false));
            let (mut answering, asking) = pair::<Once>();
            let value = Once(Arc::clone(&dropped));
            let answerer = thread::spawn(move || {
                answering.put(value);
            });
            let (_bell, waker) = bell();
            asking.register(&waker);
            drop(asking);
            answerer.join().expect("no panic");
            assert!(dropped.load(Ordering::Acquire));
        });
    }
}
