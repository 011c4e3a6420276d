//! Timers: messages that an actor sends itself later.
//!
//! Owns: [`Timer`] and what happens when one is due.
//! Does not know: clocks (see `clock`), what the message means.
//! Rules:
//! 1. A timer belongs to the incarnation that set it: a restart or the end of the actor silences it.
//! 2. A due message goes through the actor's own lane (see `mailbox::own`): a full mailbox does not hold it up, and no overflow
//!    policy loses it. While many wait there, one that repeats is tried again later.
//! 3. After `cancel` has returned no further message is put into the lane.
//! 4. What nobody wants any more is dropped before its time, once it is half of what the clock holds.

use crate::actor_ref::ActorRef;
use crate::cell::{CellPtr, control};
use crate::exit::ExitReason;
use crate::mailbox::{Own, Unsent};
use crate::payload::{Due, Shared};
use crate::sched::RuntimeRef;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How soon a message that repeats is tried again when many wait.
const RETRY: Duration = Duration::from_millis(1);

/// A timer that was set with [`Context::after`](crate::Context::after) or
/// [`Context::every`](crate::Context::every). Dropping it changes nothing; [`Timer::cancel`] does.
///
/// Its message goes through a lane of the actor's own, as do notices of monitors and answers that are piped: others can neither
/// fill it nor starve it, since the actor reads lane and mailbox by turns. In the lane they keep the order in which they came.
#[derive(Clone)]
pub struct Timer {
    state: Shared<State>,
}

struct State {
    /// Held while a message is put into the lane (rule 3).
    cancelled: Mutex<bool>,
    runtime: RuntimeRef,
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer")
            .field("cancelled", &self.is_cancelled())
            .finish()
    }
}

impl Timer {
    pub(crate) fn new(runtime: &RuntimeRef) -> Self {
        Self {
            state: Shared::new(State {
                cancelled: Mutex::new(false),
                runtime: runtime.clone(),
            }),
        }
    }

    /// Silences the timer. A message that is in the actor's lane already stays there.
    pub fn cancel(&self) {
        let was_cancelled = std::mem::replace(&mut *self.lock(), true);
        if !was_cancelled {
            // It may have run; the clock looks.
            self.state.runtime.note_unwanted(1);
        }
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, bool> {
        let cancelled = &self.state.cancelled;
        cancelled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom a timer's messages are for.
struct Aim<M> {
    target: ActorRef<M>,
    lane: Arc<Own<M>>,
    timer: Timer,
    incarnation: u32,
}

impl<M: Send + 'static> Aim<M> {
    fn new(cell: CellPtr) -> Self {
        Self {
            target: ActorRef::from_cell(cell.to_ref()),
            lane: cell.own_lane(),
            timer: Timer::new(&cell.runtime),
            incarnation: cell.incarnation(),
        }
    }

    fn is_wanted(&self) -> bool {
        !self.timer.is_cancelled() && self.target.cell().incarnation() == self.incarnation
    }

    /// Puts a message into the lane, unless `most` are there.
    fn send(&self, message: M, most: usize) -> Result<(), Unsent<M>> {
        let cancelled = self.timer.lock();
        if *cancelled {
            return Err(Unsent::Unwanted(message));
        }
        let cell = self.target.cell().ptr();
        let is_wanted = || cell.incarnation() == self.incarnation;
        if self.lane.push(message, most, is_wanted)? {
            cell.order(control::OWN);
        }
        Ok(())
    }

    /// Sends a message that is made now, unless the actor has restarted; a panic of `make` is its failure.
    fn send_made(&self, make: impl FnOnce() -> M, most: usize) -> Result<(), Unsent<M>> {
        match catch_unwind(AssertUnwindSafe(make)) {
            Ok(message) => self.send(message, most),
            Err(payload) => {
                if self.is_wanted() {
                    let cell = self.target.cell().ptr();
                    cell.fail(ExitReason::from_panic(payload));
                }
                Ok(())
            }
        }
    }
}

/// A message for later.
struct Once<M> {
    aim: Aim<M>,
    message: M,
}

impl<M: Send + 'static> Due for Once<M> {
    fn run(self) {
        drop(self.aim.send(self.message, usize::MAX));
    }

    fn is_wanted(&self) -> bool {
        self.aim.is_wanted()
    }
}

/// Messages every now and then.
struct Repeated<M, F> {
    aim: Aim<M>,
    period: Duration,
    /// The next one, if there was no room for it.
    made: Option<M>,
    make: F,
}

impl<M: Send + 'static, F: FnMut() -> M + Send + 'static> Repeated<M, F> {
    fn after(self, delay: Duration) {
        let runtime = self.aim.target.cell().runtime.clone();
        runtime.after(delay, self);
    }
}

impl<M: Send + 'static, F: FnMut() -> M + Send + 'static> Due for Repeated<M, F> {
    fn run(mut self) {
        if !self.is_wanted() {
            return;
        }
        let most = self.aim.target.cell().front().bound() as usize;
        let (made, make) = (self.made.take(), &mut self.make);
        match self.aim.send_made(|| made.unwrap_or_else(make), most) {
            Ok(()) => {
                let period = self.period;
                self.after(period);
            }
            Err(Unsent::Full(message)) => {
                self.made = Some(message);
                self.after(RETRY);
            }
            Err(Unsent::Unwanted(_)) => {}
        }
    }

    fn is_wanted(&self) -> bool {
        self.aim.is_wanted()
    }
}

/// Sends a message to the actor after `delay`.
pub(crate) fn once<M: Send + 'static>(cell: CellPtr, delay: Duration, message: M) -> Timer {
    let aim = Aim::new(cell);
    let timer = aim.timer.clone();
    aim.lane.count_timer();
    cell.runtime.after(delay, Once { aim, message });
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
    aim.lane.count_timer();
    let repeated = Repeated {
        aim,
        period,
        made: None,
        make,
    };
    repeated.after(period);
    timer
}

/// Sends a message now.
pub(crate) fn deliver<M: Send + 'static>(cell: CellPtr, message: M) {
    drop(Aim::new(cell).send(message, usize::MAX));
}

/// Sends a message that is made now to an incarnation, unless `timer` is cancelled.
pub(crate) fn deliver_made<M: Send + 'static>(
    cell: CellPtr,
    incarnation: u32,
    timer: Timer,
    make: impl FnOnce() -> M,
) {
    let aim = Aim {
        timer,
        incarnation,
        ..Aim::new(cell)
    };
    drop(aim.send_made(make, usize::MAX));
}
