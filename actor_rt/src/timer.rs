//! Timers: messages that an actor sends itself later.
//!
//! Owns: [`Timer`] and what happens when one is due.
//! Does not know: clocks (see `clock`), what the message means.
//! Rules:
//! 1. A timer belongs to the incarnation that set it: a restart or the end of the actor silences it.
//! 2. A due message goes through the mailbox like any other; while that is full it is tried again.
//! 3. After `cancel` has returned no further message is put into the mailbox.

use crate::actor_ref::ActorRef;
use crate::cell::CellPtr;
use crate::payload::Shared;
use crate::tell_error::TellError;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How soon a due message is tried again when the mailbox is full.
const RETRY: Duration = Duration::from_millis(1);

/// A timer that was set with [`Context::after`](crate::Context::after) or
/// [`Context::every`](crate::Context::every). Dropping it changes nothing; [`Timer::cancel`] does.
#[derive(Clone)]
pub struct Timer {
    /// Held while a message is put into the mailbox (rule 3).
    cancelled: Shared<Mutex<bool>>,
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

/// Whom a timer's messages are for.
struct Aim<M> {
    target: ActorRef<M>,
    timer: Timer,
    incarnation: u32,
}

/// A message that was not put into the mailbox.
enum Unsent<M> {
    /// There was no room.
    Full(M),
    /// Nobody wants it any more.
    Unwanted,
}

impl<M: Send + 'static> Aim<M> {
    fn new(cell: CellPtr) -> Self {
        Self {
            target: ActorRef::from_cell(cell.to_ref()),
            timer: Timer {
                cancelled: Shared::new(Mutex::new(false)),
            },
            incarnation: cell.incarnation(),
        }
    }

    fn is_wanted(&self) -> bool {
        !self.timer.is_cancelled() && self.target.cell().incarnation() == self.incarnation
    }

    /// Puts a message into the mailbox.
    fn send(&self, message: M) -> Result<(), Unsent<M>> {
        let cancelled = self.timer.lock();
        if *cancelled || self.target.cell().incarnation() != self.incarnation {
            return Err(Unsent::Unwanted);
        }
        self.target.tell(message).map_err(|error| match error {
            TellError::Full(message) => Unsent::Full(message),
            TellError::Closed(_) => Unsent::Unwanted,
        })
    }

    /// Sends a message later, or as soon as there is room after that.
    fn send_after(self, delay: Duration, message: M) {
        let runtime = self.target.cell().runtime;
        runtime.after(delay, move || {
            if let Err(Unsent::Full(message)) = self.send(message) {
                self.send_after(RETRY, message);
            }
        });
    }

    /// Sends a message that was made before, or one that is made then, and the next one after a period.
    fn repeat_after(
        self,
        delay: Duration,
        period: Duration,
        mut made: Option<M>,
        mut make: impl FnMut() -> M + Send + 'static,
    ) {
        let runtime = self.target.cell().runtime;
        runtime.after(delay, move || {
            if !self.is_wanted() {
                return;
            }
            match self.send(made.take().unwrap_or_else(&mut make)) {
                Ok(()) => self.repeat_after(period, period, None, make),
                Err(Unsent::Full(message)) => {
                    self.repeat_after(RETRY, period, Some(message), make);
                }
                Err(Unsent::Unwanted) => {}
            }
        });
    }
}

/// Sends a message to the actor after `delay`.
pub(crate) fn once<M: Send + 'static>(cell: CellPtr, delay: Duration, message: M) -> Timer {
    let aim = Aim::new(cell);
    let timer = aim.timer.clone();
    aim.send_after(delay, message);
    timer
}

/// Sends what `make` gives to the actor every `period`.
pub(crate) fn every<M, F>(cell: CellPtr, period: Duration, make: F) -> Timer
where
    M: Send + 'static,
    F: FnMut() -> M + Send + 'static,
{
    let aim = Aim::new(cell);
    let timer = aim.timer.clone();
    aim.repeat_after(period, period, None, make);
    timer
}

/// Sends a message now, or as soon as the mailbox has room.
pub(crate) fn deliver<M: Send + 'static>(cell: CellPtr, message: M) {
    let aim = Aim::new(cell);
    if let Err(Unsent::Full(message)) = aim.send(message) {
        aim.send_after(RETRY, message);
    }
}
