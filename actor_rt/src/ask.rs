//! Asking: a reply slot shared by the one who asks and the one who answers.
//!
//! Owns: [`Reply`], [`Ask`], the slot protocol.
//! Does not know: actors, mailboxes. A slot comes from the slab, so asking allocates nothing once warm.
//! Two handles own a slot and the last to leave frees it, so neither can reach a slot that was given to
//! somebody else: that is why no generation is needed.
//!
//! # The protocol
//! 1. `value` is written by the answering side before `DONE`, and read by the asking side after it.
//! 2. While `WAITING` is set, the waker belongs to the answering side; the asking side takes it back by
//!    clearing the bit, which fails once `DONE` is set.
//! 3. Each side leaves once (`ANSWERER_LEFT`, `ASKER_LEFT`), as its last act; the second to leave frees.
#![allow(unsafe_code)]

use crate::block::block_on;
use crate::clock::clock;
use crate::sched::is_worker;
use crate::slab;
use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// The answer will not change any more; there is one if `value` is `Some`.
const DONE: u8 = 1;
const WAITING: u8 = 1 << 1;
const ANSWERER_LEFT: u8 = 1 << 2;
const ASKER_LEFT: u8 = 1 << 3;

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The mailbox was full: the question was not sent. Try later.
    #[error("the question was not sent: the actor's mailbox is full")]
    Full,
    /// The actor takes no more messages: the question was not sent.
    #[error("the question was not sent: the actor has ended or is ending")]
    Closed,
    /// The actor dropped the question: it failed, ended, or chose not to answer.
    #[error("the actor dropped the question without an answer")]
    NoReply,
    /// The time was up. The question may still be handled.
    #[error("no answer came in time")]
    Timeout,
    /// `wait` was called on a worker thread, which must not block; await the answer instead.
    #[error("a worker thread cannot block for an answer; await it")]
    OnWorker,
}

struct Slot<R> {
    state: AtomicU8,
    value: UnsafeCell<Option<R>>,
    waker: UnsafeCell<Option<Waker>>,
}

/// A slot from one side.
struct Side<R>(NonNull<Slot<R>>);

impl<R> Side<R> {
    fn slot(&self) -> &Slot<R> {
        // SAFETY: rule 3: alive until both sides have left.
        unsafe { self.0.as_ref() }
    }

    /// Frees the slot.
    ///
    /// # Safety
    /// Both sides have left.
    unsafe fn free(&self) {
        // SAFETY: nobody else can look any more.
        unsafe { self.0.drop_in_place() };
        // SAFETY: taken in `Reply::pair` with this layout.
        unsafe { slab::give(self.0.cast(), Layout::new::<Slot<R>>()) };
    }
}

/// The right to answer a question, once. Part of a message; may be passed on to another actor.
///
/// Dropped without an answer, the asker gets [`AskError::NoReply`].
#[must_use = "dropping a reply tells the asker that there is no answer"]
pub struct Reply<R> {
    side: Side<R>,
}

// SAFETY: the value travels from one thread to another (`R: Send`); everything shared is atomic or
// handed over by the protocol.
unsafe impl<R: Send> Send for Reply<R> {}
// SAFETY: a shared `Reply` gives access to nothing but whether anybody waits.
unsafe impl<R: Send> Sync for Reply<R> {}

impl<R> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

impl<R> Reply<R> {
    /// A reply and the answer to come, for questions that are not sent by
    /// [`ActorRef::ask`](crate::ActorRef::ask): in a batch, say.
    #[inline]
    pub fn pair() -> (Self, Ask<R>) {
        let slot = slab::take(Layout::new::<Slot<R>>()).cast::<Slot<R>>();
        let fresh = Slot {
            state: AtomicU8::new(0),
            value: UnsafeCell::new(None),
            waker: UnsafeCell::new(None),
        };
        // SAFETY: a fresh block of this layout.
        unsafe { slot.write(fresh) };
        let ask = Ask {
            side: Some(Side(slot)),
            refused: AskError::NoReply,
            deadline: None,
            timer: false,
        };
        (Self { side: Side(slot) }, ask)
    }

    /// Answers.
    #[inline]
    pub fn send(self, value: R) {
        // SAFETY: rule 1: ours until `DONE`.
        unsafe { *self.side.slot().value.get() = Some(value) };
        drop(self);
    }

    /// Whether nobody waits for the answer any more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.side.slot().state.load(Ordering::Relaxed) & ASKER_LEFT != 0
    }
}

impl<R> Drop for Reply<R> {
    #[inline]
    fn drop(&mut self) {
        let slot = self.side.slot();
        // Release pairs with the Acquire of `Ask::poll`: the value is seen. Acquire: if the asker has
        // left, its use of the slot is over.
        let done = DONE | ANSWERER_LEFT;
        if slot
            .state
            .compare_exchange(0, done, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
        {
            return;
        }
        // Somebody waits, or has left. `DONE` stops the asker from taking its waker back (rule 2).
        let before = slot.state.fetch_or(DONE, Ordering::AcqRel);
        let waker = if before & WAITING != 0 {
            // SAFETY: rule 2.
            unsafe { (*slot.waker.get()).take() }
        } else {
            None
        };
        if slot.state.fetch_or(ANSWERER_LEFT, Ordering::AcqRel) & ASKER_LEFT != 0 {
            // SAFETY: both have left.
            unsafe { self.side.free() };
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// An answer to come. Await it, or [`wait`](Ask::wait) for it on a thread that may block.
#[must_use = "the answer comes through this"]
pub struct Ask<R> {
    side: Option<Side<R>>,
    refused: AskError,
    deadline: Option<Instant>,
    timer: bool,
}

// SAFETY: as for `Reply`.
unsafe impl<R: Send> Send for Ask<R> {}
// SAFETY: a shared `Ask` gives access to nothing.
unsafe impl<R: Send> Sync for Ask<R> {}

impl<R> Unpin for Ask<R> {}

impl<R> fmt::Debug for Ask<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ask")
    }
}

impl<R> Ask<R> {
    #[cold]
    pub(crate) fn refused(mut self, error: AskError) -> Self {
        self.leave();
        self.refused = error;
        self
    }

    /// Gives up after this time, counted from now.
    pub fn timeout(mut self, after: Duration) -> Self {
        self.deadline = Instant::now().checked_add(after);
        self
    }

    /// Blocks the thread until the answer comes.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn wait(mut self) -> Result<R, AskError> {
        if let Some(ready) = self.try_take() {
            return ready;
        }
        if is_worker() {
            return Err(AskError::OnWorker);
        }
        let deadline = self.deadline.take();
        block_on(&mut self, deadline).unwrap_or(Err(AskError::Timeout))
    }

    /// The answer, if it is there.
    fn try_take(&mut self) -> Option<Result<R, AskError>> {
        let Some(side) = &self.side else {
            return Some(Err(self.refused));
        };
        let slot = side.slot();
        // Acquire pairs with the Release of `Reply::drop`.
        if slot.state.load(Ordering::Acquire) & DONE == 0 {
            return None;
        }
        // SAFETY: rule 1.
        let value = unsafe { (*slot.value.get()).take() };
        self.leave();
        Some(value.ok_or(AskError::NoReply))
    }

    fn leave(&mut self) {
        if let Some(side) = self.side.take() {
            let state = &side.slot().state;
            // The common case, answered and left: no need to announce it. Acquire pairs with the
            // Release of the answerer's leaving.
            if state.load(Ordering::Acquire) & ANSWERER_LEFT != 0
                || state.fetch_or(ASKER_LEFT, Ordering::AcqRel) & ANSWERER_LEFT != 0
            {
                // SAFETY: both have left.
                unsafe { side.free() };
            }
        }
    }

    /// Leaves a waker; `false` if the answer came meanwhile.
    fn register(&self, waker: &Waker) -> bool {
        let Some(side) = &self.side else { return false };
        let slot = side.slot();
        let mut state = slot.state.load(Ordering::Acquire);
        if state & WAITING != 0 {
            // Take the old waker back first (rule 2).
            let back = slot.state.compare_exchange(
                state & !DONE,
                state & !(DONE | WAITING),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match back {
                Ok(_) => state &= !(DONE | WAITING),
                Err(_) => return false,
            }
        }
        if state & DONE != 0 {
            return false;
        }
        // SAFETY: rule 2: `WAITING` is clear, so the waker is ours.
        let place = unsafe { &mut *slot.waker.get() };
        match place {
            Some(known) => known.clone_from(waker),
            None => *place = Some(waker.clone()),
        }
        // Release pairs with the Acquire of `Reply::drop`: the waker is seen.
        slot.state
            .compare_exchange(0, WAITING, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

impl<R> Drop for Ask<R> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<R> Future for Ask<R> {
    type Output = Result<R, AskError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(ready) = self.try_take() {
            return Poll::Ready(ready);
        }
        if !self.register(task.waker())
            && let Some(ready) = self.try_take()
        {
            return Poll::Ready(ready);
        }
        if let Some(deadline) = self.deadline {
            if Instant::now() >= deadline {
                self.leave();
                self.refused = AskError::Timeout;
                return Poll::Ready(Err(AskError::Timeout));
            }
            if !self.timer {
                self.timer = true;
                let waker = task.waker().clone();
                clock().at(deadline, move || waker.wake());
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_before_the_question_is_waited_for() {
        let (reply, ask) = Reply::pair();
        reply.send(7);
        assert_eq!(ask.wait(), Ok(7));
    }

    #[test]
    fn a_dropped_reply_says_so() {
        let (reply, ask) = Reply::<u8>::pair();
        drop(reply);
        assert_eq!(ask.wait(), Err(AskError::NoReply));
    }

    #[test]
    fn an_abandoned_answer_is_dropped_once() {
        let value = std::sync::Arc::new(());
        let (reply, ask) = Reply::pair();
        assert!(!reply.is_abandoned());
        drop(ask);
        assert!(reply.is_abandoned());
        reply.send(std::sync::Arc::clone(&value));
        assert_eq!(std::sync::Arc::strong_count(&value), 1);
    }

    #[test]
    fn an_unread_answer_is_dropped_once() {
        let value = std::sync::Arc::new(());
        let (reply, ask) = Reply::pair();
        reply.send(std::sync::Arc::clone(&value));
        drop(ask);
        assert_eq!(std::sync::Arc::strong_count(&value), 1);
    }

    #[test]
    fn answers_cross_threads() {
        for round in 0..2000_u64 {
            let (reply, ask) = Reply::pair();
            let answerer = std::thread::spawn(move || reply.send(round));
            assert_eq!(ask.timeout(Duration::from_secs(60)).wait(), Ok(round));
            answerer.join().expect("no panic");
        }
    }

    #[test]
    fn a_timeout_ends_the_waiting() {
        let (reply, ask) = Reply::<u8>::pair();
        assert_eq!(
            ask.timeout(Duration::from_millis(5)).wait(),
            Err(AskError::Timeout)
        );
        assert!(reply.is_abandoned());
    }
}
