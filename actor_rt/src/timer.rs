//! Timers: messages that an actor sends itself later.
//!
//! Owns: [`Timer`] and what happens when one is due.
//! Does not know: clocks (see `clock`), what the message means.
//! Rules:
//! 1. A timer belongs to the incarnation that set it: a restart or the end of the actor silences it.
//! 2. A due message goes through the mailbox like any other; while that is full it is tried again.
//! 3. After `cancel` has returned no further message is put into the mailbox.

use crate::actor_ref::{ActorRef, TellError};
use crate::cell::CellPtr;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How soon a due message is tried again when the mailbox is full.
const RETRY: Duration = Duration::from_millis(1);

/// A timer that was set with [`Context::after`](crate::Context::after) or
/// [`Context::every`](crate::Context::every). Dropping it changes nothing; [`Timer::cancel`] does.
#[derive(Clone)]
pub struct Timer {
    /// Held while a message is put into the mailbox (rule 3).
    cancelled: Arc<Mutex<bool>>,
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer")
            .field("cancelled", &self.is_cancelled())
            .finish()
    }
}

impl Timer {
    /// Silences the timer. A message that is in the mailbox already stays there.
    pub fn cancel(&self) {
        *self.lock() = true;
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, bool> {
        self.cancelled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be sent, and when again.
struct Plan<M, F> {
    target: ActorRef<M>,
    incarnation: u32,
    timer: Timer,
    make: F,
    /// Made but not delivered, because the mailbox was full.
    pending: Option<M>,
}

/// Sends what `make` gives to the actor after `first`, and again every `period` if there is one, until
/// `make` gives nothing.
pub(crate) fn set<M, F>(cell: CellPtr, first: Duration, period: Option<Duration>, make: F) -> Timer
where
    M: Send + 'static,
    F: FnMut() -> Option<M> + Send + 'static,
{
    let timer = Timer {
        cancelled: Arc::new(Mutex::new(false)),
    };
    let plan = Plan {
        target: ActorRef::from_cell(cell.to_ref()),
        incarnation: cell.incarnation(),
        timer: timer.clone(),
        make,
        pending: None,
    };
    arm(plan, first, period);
    timer
}

/// Sends a message now, or as soon as the mailbox has room.
pub(crate) fn deliver<M: Send + 'static>(cell: CellPtr, message: M) {
    let plan = Plan {
        target: ActorRef::from_cell(cell.to_ref()),
        incarnation: cell.incarnation(),
        timer: Timer {
            cancelled: Arc::default(),
        },
        make: || None,
        pending: Some(message),
    };
    due(plan, None);
}

fn arm<M, F>(plan: Plan<M, F>, delay: Duration, period: Option<Duration>)
where
    M: Send + 'static,
    F: FnMut() -> Option<M> + Send + 'static,
{
    let runtime = plan.target.cell().runtime;
    runtime.after(delay, move || due(plan, period));
}

fn due<M, F>(mut plan: Plan<M, F>, period: Option<Duration>)
where
    M: Send + 'static,
    F: FnMut() -> Option<M> + Send + 'static,
{
    let timer = plan.timer.clone();
    let cancelled = timer.lock();
    if *cancelled || plan.target.cell().incarnation() != plan.incarnation {
        return;
    }
    let Some(message) = plan.pending.take().or_else(|| (plan.make)()) else {
        return;
    };
    match plan.target.tell(message) {
        Ok(()) => {
            if let Some(period) = period {
                drop(cancelled);
                arm(plan, period, Some(period));
            }
        }
        Err(TellError::Full(message)) => {
            plan.pending = Some(message);
            drop(cancelled);
            arm(plan, RETRY, period);
        }
        Err(TellError::Closed(_)) => {}
    }
}
