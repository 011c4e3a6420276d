//! Asking: a question that carries the right to answer it.
//!
//! Owns: [`Reply`], [`Ask`], timeouts.
//! Does not know: actors, mailboxes; how the answer is handed over (see `slot`).

mod slot;

use crate::block::block_on;
use crate::clock::{Alarm, ClockRef, clock};
use crate::sched::{Simulated, is_worker, simulated_here, waker_of_running};
use slot::{Answering, Asking};
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Rounds of looking for an answer before a thread sleeps, and the looks of each, with a pause (of 10 to 50 ns) after each.
const ROUNDS: u32 = 8;
const LOOKS_PER_ROUND: u32 = 16;

thread_local! {
    /// Whether the thread's last answer was there once it had given its core away: then it does so before it looks. Otherwise
    /// that would cost a time slice where all cores are busy.
    static SHARES_CORE: Cell<bool> = const { Cell::new(false) };
}

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

/// The right to answer a question, once. Part of a message; may be passed on to another actor.
///
/// Dropped without an answer, the asker gets [`AskError::NoReply`].
#[must_use = "dropping a reply tells the asker that there is no answer"]
pub struct Reply<R> {
    side: Answering<R>,
}

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
        // An actor that asks will most likely await the answer next.
        let (answering, asking) = slot::pair(waker_of_running());
        let ask = Ask {
            side: Some(asking),
            refused: AskError::NoReply,
            deadline: None,
            alarm: None,
        };
        (Self { side: answering }, ask)
    }

    /// Answers.
    #[inline]
    pub fn send(mut self, value: R) {
        self.side.put(value);
    }

    /// Whether nobody waits for the answer any more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.side.is_abandoned()
    }
}

/// An answer to come. Await it, or [`wait`](Ask::wait) for it on a thread that may block.
#[must_use = "the answer comes through this"]
pub struct Ask<R> {
    /// `None` once the answer is known.
    side: Option<Asking<R>>,
    refused: AskError,
    deadline: Option<Instant>,
    /// Wakes the asker at the deadline; taken back when the answer comes before.
    alarm: Option<Alarm>,
}

impl<R> Unpin for Ask<R> {}

impl<R> fmt::Debug for Ask<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ask")
    }
}

impl<R> Ask<R> {
    #[cold]
    pub(crate) fn refused(mut self, error: AskError) -> Self {
        self.side = None;
        self.refused = error;
        self
    }

    /// Gives up after this time, counted from now; in an actor of a simulation, by the simulation's time.
    pub fn timeout(mut self, after: Duration) -> Self {
        self.deadline = now().checked_add(after);
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
        if let Some(ready) = self.look_on() {
            return ready;
        }
        let deadline = self.deadline.take();
        block_on(&mut self, deadline).unwrap_or(Err(AskError::Timeout))
    }

    /// The answer, if it comes soon: sleeping and being woken takes longer than most answers.
    fn look_on(&mut self) -> Option<Result<R, AskError>> {
        let mut yields = SHARES_CORE.get();
        for _ in 0..ROUNDS {
            if yields {
                std::thread::yield_now();
                if let Some(ready) = self.try_take() {
                    SHARES_CORE.set(true);
                    return Some(ready);
                }
            }
            for _ in 0..LOOKS_PER_ROUND {
                if let Some(ready) = self.try_take() {
                    SHARES_CORE.set(false);
                    return Some(ready);
                }
                std::hint::spin_loop();
            }
            // Whoever is to answer may need this very core.
            yields = true;
            if self
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline)
            {
                break;
            }
        }
        self.try_take()
    }

    /// The answer, if it is there.
    #[inline]
    fn try_take(&mut self) -> Option<Result<R, AskError>> {
        let Some(side) = &self.side else {
            return Some(Err(self.refused));
        };
        let value = side.try_take()?;
        self.side = None;
        Some(value.ok_or(AskError::NoReply))
    }
}

impl<R> Future for Ask<R> {
    type Output = Result<R, AskError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(ready) = self.try_take() {
            return Poll::Ready(ready);
        }
        if !self
            .side
            .as_ref()
            .is_some_and(|side| side.register(task.waker()))
            && let Some(ready) = self.try_take()
        {
            return Poll::Ready(ready);
        }
        if let Some(deadline) = self.deadline {
            if now() >= deadline {
                self.side = None;
                self.refused = AskError::Timeout;
                return Poll::Ready(Err(AskError::Timeout));
            }
            if self.alarm.is_none() {
                let waker = task.waker().clone();
                let simulated = simulated_here(|simulated| Arc::clone(&simulated.clock));
                let clock = simulated.map_or_else(|| clock().into(), ClockRef::Simulated);
                self.alarm = Some(clock.alarm(deadline, move || waker.wake()));
            }
        }
        Poll::Pending
    }
}

/// The time by which questions of the calling thread are given up.
fn now() -> Instant {
    simulated_here(Simulated::now).unwrap_or_else(Instant::now)
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
        let value = Arc::new(());
        let (reply, ask) = Reply::pair();
        assert!(!reply.is_abandoned());
        drop(ask);
        assert!(reply.is_abandoned());
        reply.send(Arc::clone(&value));
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn an_unread_answer_is_dropped_once() {
        let value = Arc::new(());
        let (reply, ask) = Reply::pair();
        reply.send(Arc::clone(&value));
        drop(ask);
        assert_eq!(Arc::strong_count(&value), 1);
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
