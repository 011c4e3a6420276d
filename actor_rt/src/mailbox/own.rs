//! The lane for what an actor has set going itself: due timers, notices of monitors, answers that it pipes.
//!
//! Owns: the messages in it, and whether it or the mailbox is next.
//! Does not know: timers, monitors; who puts something in schedules the actor.
//! Invariants:
//! 1. Nobody else's message goes through it, so that no sender can fill it, and no overflow policy concerns it. What an actor sets
//!    going is its bound; what repeats by itself is put off while as many wait as the mailbox holds.
//! 2. First come, first out. Lane and mailbox take turns, also from one activation to the next: neither starves the other.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most bytes that an empty lane keeps for its next messages.
const KEPT_BYTES: usize = 16 * 1024;

/// An actor's lane; made when the actor first sets something going.
pub(crate) struct Own<M> {
    lane: Mutex<Lane<M>>,
    /// How many timers were set since the incarnation began.
    timers: AtomicUsize,
}

struct Lane<M> {
    waiting: VecDeque<M>,
    /// The last message that the actor got was one of these.
    was_last: bool,
}

impl<M> fmt::Debug for Own<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").finish_non_exhaustive()
    }
}

impl<M> Own<M> {
    pub(crate) fn new() -> Self {
        Self {
            lane: Mutex::new(Lane {
                waiting: VecDeque::new(),
                was_last: false,
            }),
            timers: AtomicUsize::new(0),
        }
    }

    /// One more timer was set. Owner only, as below.
    pub(crate) fn count_timer(&self) {
        // Relaxed: a mere number, of one thread at a time.
        self.timers.fetch_add(1, Ordering::Relaxed);
    }

    /// How many timers were set since this was asked last.
    pub(crate) fn take_timers(&self) -> usize {
        self.timers.swap(0, Ordering::Relaxed)
    }

    fn lane(&self) -> MutexGuard<'_, Lane<M>> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message in, or hands it back where `most` wait already or `is_wanted` says no, which is asked when nothing can come
    /// between. `Ok(true)` if the owner has to be told, because the lane was empty.
    pub(crate) fn push(
        &self,
        message: M,
        most: usize,
        is_wanted: impl FnOnce() -> bool,
    ) -> Result<bool, Unsent<M>> {
        let mut lane = self.lane();
        if !is_wanted() {
            return Err(Unsent::Unwanted(message));
        }
        if lane.waiting.len() >= most {
            return Err(Unsent::Full(message));
        }
        lane.waiting.push_back(message);
        Ok(lane.waiting.len() == 1)
    }

    /// Whether it is the mailbox's turn.
    pub(super) fn yields(&self) -> bool {
        std::mem::take(&mut self.lane().was_last)
    }

    /// The first message. Owner only.
    pub(super) fn pop(&self) -> Option<M> {
        let mut lane = self.lane();
        let message = lane.waiting.pop_front();
        lane.was_last = message.is_some();
        if lane.waiting.is_empty() && lane.waiting.capacity() * size_of::<M>() > KEPT_BYTES {
            lane.waiting = VecDeque::new();
        }
        message
    }

    /// All messages; nothing is wanted any more that is not put in later.
    pub(crate) fn clear(&self) -> VecDeque<M> {
        std::mem::take(&mut self.lane().waiting)
    }
}

/// A message that was not put in.
#[derive(Debug)]
pub(crate) enum Unsent<M> {
    /// Enough wait.
    Full(M),
    /// Nobody wants it any more.
    Unwanted(M),
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::mailbox::Settled;
    use crate::mailbox::tests::Whole;
    use std::sync::Arc;

    fn put<M: fmt::Debug>(own: &Own<M>, message: M) -> bool {
        own.push(message, usize::MAX, || true).expect("wanted")
    }

    /// Rule 12 of the mailbox, for each way in which messages leave it.
    #[test]
    fn lane_and_mailbox_take_turns() {
        for whole in [Whole::new(64), Whole::new(4), Whole::shared(4)] {
            let own = Arc::new(Own::new());
            assert!(put(&own, 10), "the first one is told of");
            assert!(!put(&own, 11));
            (0..4).for_each(|n| assert!(!whole.of().push(n).expect("room")));
            let mut drain = whole.drain::<i32>();
            drain.attach(Arc::clone(&own));
            assert_eq!(drain.pop(), Some(10));
            // Whose turn it is outlives an activation.
            drop(drain);
            let mut drain = whole.drain::<i32>();
            drain.attach(Arc::clone(&own));
            let rest: Vec<_> = std::iter::from_fn(|| drain.pop()).collect();
            assert_eq!(rest, [0, 11, 1, 2, 3]);
            assert!(!drain.has_own(), "found to be empty");
            assert_eq!(drain.settle(), Settled::Idle);
            assert!(put(&own, 12), "told of again");
            assert_eq!(own.clear(), [12]);
            whole.end::<i32>();
        }
    }

    #[test]
    fn what_is_not_put_in_comes_back() {
        let own = Own::new();
        put(&own, "first");
        assert!(matches!(
            own.push("second", 1, || true),
            Err(Unsent::Full("second"))
        ));
        assert!(matches!(
            own.push("late", 9, || false),
            Err(Unsent::Unwanted("late"))
        ));
        assert_eq!(own.clear(), ["first"]);
    }
}
