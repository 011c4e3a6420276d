//! The slot that a question and its answer share.
//!
//! Owns: the hand-over of one value and one waker between two sides.
//! Does not know: questions. A slot comes from the slab, so asking allocates nothing once warm. Two
//! handles own a slot and the last to leave frees it, so neither can reach a slot that was given to
//! somebody else meanwhile: that is why no generation is needed.
//!
//! # The protocol
//! The state is `[registrations:28 | ASKER_LEFT WAITING DONE]`.
//! 1. `value` is written by the answering side before `DONE`, and read by the asking side after it.
//! 2. The answering side sets `DONE` by one exchange, which is also its leaving: afterwards it touches
//!    the slot no more. If that exchange found `WAITING`, the waker that it read before is its own.
//! 3. The asking side writes the waker only while `WAITING` is clear, and each time it sets `WAITING` it
//!    counts a registration, so that an exchange that rests on an older waker fails.
//! 4. The asking side leaves by seeing `DONE`, and then frees; or by setting `ASKER_LEFT`, after which
//!    the answering side frees, and drops the waker if `WAITING` is set.
//!
//! Only a side that stalls while the other registers 2^28 wakers could be fooled by rule 3.
//! Loom checks all four: `loom_tests` below.
#![allow(unsafe_code)]

use crate::slab;
use crate::sync::{AtomicPtr, AtomicU32, Ordering, UnsafeCell};
use std::alloc::Layout;
use std::mem::ManuallyDrop;
use std::ptr::{NonNull, null_mut};
use std::task::{RawWakerVTable, Waker};

/// The answering side has left; there is an answer if `value` is `Some`.
const DONE: u32 = 1;
const WAITING: u32 = 1 << 1;
const ASKER_LEFT: u32 = 1 << 2;
const REGISTRATION: u32 = 1 << 4;

struct Slot<R> {
    state: AtomicU32,
    /// The two halves of a waker, atomic because a read may race with a write; see rule 3.
    data: AtomicPtr<()>,
    calls: AtomicPtr<RawWakerVTable>,
    value: UnsafeCell<Option<R>>,
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

/// A waker taken apart; whoever has both halves owns it.
fn apart(waker: Waker) -> (*mut (), *mut RawWakerVTable) {
    let waker = ManuallyDrop::new(waker);
    let calls: *const RawWakerVTable = waker.vtable();
    (waker.data().cast_mut(), calls.cast_mut())
}

/// A fresh slot's two sides. A waker that is given is registered as if the asking side had been polled
/// with it, for nothing: nobody else sees the slot yet.
#[inline]
pub(super) fn pair<R>(waker: Option<Waker>) -> (Answering<R>, Asking<R>) {
    let slot = slab::take(Layout::new::<Slot<R>>()).cast::<Slot<R>>();
    let (state, (data, calls)) = match waker {
        Some(waker) => (WAITING, apart(waker)),
        None => (0, (null_mut(), null_mut())),
    };
    let fresh = Slot {
        state: AtomicU32::new(state),
        data: AtomicPtr::new(data),
        calls: AtomicPtr::new(calls),
        value: UnsafeCell::new(None),
    };
    // SAFETY: a fresh block of this layout.
    unsafe { slot.write(fresh) };
    (Answering(slot), Asking(slot))
}

impl<R> Slot<R> {
    /// What the waker's place holds.
    #[inline]
    fn halves(&self) -> (*mut (), *mut RawWakerVTable) {
        // Relaxed: what matters is ordered by the state.
        (
            self.data.load(Ordering::Relaxed),
            self.calls.load(Ordering::Relaxed),
        )
    }
}

/// The waker of two halves.
///
/// # Safety
/// They came from [`apart`], and the caller owns them by the protocol.
unsafe fn whole((data, calls): (*mut (), *mut RawWakerVTable)) -> Waker {
    // SAFETY: a waker's table is static.
    let calls: &'static RawWakerVTable = unsafe { &*calls };
    // SAFETY: the caller's.
    unsafe { Waker::new(data, calls) }
}

/// Frees a slot; its waker is somebody else's by now.
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
        // SAFETY: rules 2 and 4: alive until both sides have left.
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
        // Acquire pairs with the Release of `register`: the waker of this state is seen. If the asker
        // has left, its use of the slot is over.
        let mut state = slot.state.load(Ordering::Acquire);
        loop {
            let waker = slot.halves();
            if state & ASKER_LEFT != 0 {
                // SAFETY: both have left.
                unsafe { free(self.0) };
                if state & WAITING != 0 {
                    // SAFETY: rule 4.
                    drop(unsafe { whole(waker) });
                }
                return;
            }
            // Release pairs with the Acquire of the asking side: the value is seen, and the slot is no
            // longer used here.
            match slot.state.compare_exchange_weak(
                state,
                state | DONE,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    if state & WAITING != 0 {
                        // SAFETY: rules 2 and 3: these are the halves of this very registration.
                        unsafe { whole(waker) }.wake();
                    }
                    return;
                }
                Err(now) => state = now,
            }
        }
    }
}

impl<R> Asking<R> {
    fn slot(&self) -> &Slot<R> {
        // SAFETY: rules 2 and 4: alive until both sides have left.
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
        let slot = self.slot();
        // Relaxed: only this side writes what is read next.
        let state = slot.state.load(Ordering::Relaxed);
        if state & WAITING != 0 {
            let calls: *const RawWakerVTable = waker.vtable();
            if slot.halves() == (waker.data().cast_mut(), calls.cast_mut()) {
                // If the answer is here already, its exchange has found `WAITING` and wakes.
                return true;
            }
        }
        self.register_other(waker, state)
    }

    #[inline(never)]
    fn register_other(&self, waker: &Waker, mut state: u32) -> bool {
        let slot = self.slot();
        if state & DONE != 0 {
            return false;
        }
        if state & WAITING != 0 {
            let clear = state & !WAITING;
            if slot
                .state
                .compare_exchange(state, clear, Ordering::AcqRel, Ordering::Relaxed)
                .is_err()
            {
                return false;
            }
            // SAFETY: rule 2: the answering side cannot have it any more.
            drop(unsafe { whole(slot.halves()) });
            state = clear;
        }
        let (data, calls) = apart(waker.clone());
        slot.data.store(data, Ordering::Relaxed);
        slot.calls.store(calls, Ordering::Relaxed);
        let waiting = state.wrapping_add(REGISTRATION) | WAITING;
        // Release pairs with the Acquire of `Answering::drop`: the waker is seen.
        let registered = slot
            .state
            .compare_exchange(state, waiting, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if !registered {
            // SAFETY: rule 2: the answering side left without it.
            drop(unsafe { whole((data, calls)) });
        }
        registered
    }
}

impl<R> Drop for Asking<R> {
    #[inline]
    fn drop(&mut self) {
        let state = &self.slot().state;
        // The common case, answered and left: no need to announce it. Acquire pairs with the Release of
        // the answerer's leaving.
        if state.load(Ordering::Acquire) & DONE != 0
            || state.fetch_or(ASKER_LEFT, Ordering::AcqRel) & DONE != 0
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
    use std::sync::atomic::AtomicBool as PlainBool;
    use std::task::Wake;

    struct Bell(PlainBool);

    impl Bell {
        fn has_rung(&self) -> bool {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl Wake for Bell {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
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

    /// The asker is polled with two wakers in turn, after having been given one or not.
    fn seen_or_rung(registered_first: bool) {
        loom::model(move || {
            let (given, given_waker) = bell();
            let given_waker = registered_first.then_some(given_waker);
            let (mut answering, asking) = pair::<u32>(given_waker.clone());
            let answerer = thread::spawn(move || {
                answering.put(7);
            });
            let (first, first_waker) = bell();
            let (second, second_waker) = bell();
            let mut answer = asking.try_take();
            let mut last = registered_first.then_some(&given);
            for (bell, waker) in [(&first, &first_waker), (&second, &second_waker)] {
                if answer.is_none() {
                    last = asking.register(waker).then_some(bell);
                }
                answer = answer.or_else(|| asking.try_take());
            }
            answerer.join().expect("no panic");
            if let (Some(last), None) = (last, answer) {
                assert!(last.has_rung(), "the answer came and nobody was told");
            }
            answer = answer.or_else(|| asking.try_take());
            assert_eq!(answer, Some(Some(7)));
            drop(asking);
            drop((given_waker, first_waker, second_waker));
            for bell in [given, first, second] {
                let owners = std::sync::Arc::strong_count(&bell);
                assert_eq!(owners, 1, "a waker was dropped twice or never");
            }
        });
    }

    #[test]
    fn an_answer_is_seen_or_its_waker_rings() {
        seen_or_rung(false);
    }

    #[test]
    fn an_answer_is_seen_or_the_waker_it_was_made_with_rings() {
        seen_or_rung(true);
    }

    #[test]
    fn whoever_leaves_last_frees_and_everything_is_dropped_once() {
        loom::model(|| {
            let dropped = Arc::new(AtomicBool::new(false));
            let (given, given_waker) = bell();
            let (mut answering, asking) = pair::<Once>(Some(given_waker));
            let value = Once(Arc::clone(&dropped));
            let answerer = thread::spawn(move || {
                answering.put(value);
            });
            let (other, waker) = bell();
            asking.register(&waker);
            drop(asking);
            drop(waker);
            answerer.join().expect("no panic");
            assert!(dropped.load(Ordering::Acquire));
            for bell in [given, other] {
                assert_eq!(std::sync::Arc::strong_count(&bell), 1);
            }
        });
    }
}
