//! The moment when a step stops looking whether it must work, and works.
//!
//! Owns the wait for a seat and the event that says so. Does not know what the work is.
//! Invariant: it is told once, before the step's end is.

use std::sync::mpsc::Sender;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use super::{StepEnv, StepFailure, StepJob};
use crate::engine::event::{Event, Stamped, micros};
use crate::engine::seats::Seat;

/// When a step's work began. Whoever follows the build is told by the step itself: the build, which
/// would only hand it on, is not woken for that.
#[derive(Debug)]
pub struct Turn {
    event: Mutex<Option<Event>>,
    events: Sender<Stamped>,
    /// When the command began.
    begin: Instant,
    began: OnceLock<Instant>,
}

impl Turn {
    /// A turn that `event` announces, in a command that began at `begin`.
    pub fn new(event: Event, events: Sender<Stamped>, begin: Instant) -> Self {
        Self {
            event: Mutex::new(Some(event)),
            events,
            begin,
            began: OnceLock::new(),
        }
    }

    /// The work begins now; only the first call counts.
    pub fn begin(&self) {
        let now = Instant::now();
        let mut event = self.event.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(event) = event.take() {
            // Whoever has the event is the only one here.
            let _ = self.began.set(now);
            // The reader may have gone; the build goes on.
            drop(self.events.send(Stamped {
                time_us: micros(now.duration_since(self.begin)),
                event,
            }));
        }
    }

    /// When it began.
    pub(super) fn began(&self) -> Option<Instant> {
        self.began.get().copied()
    }
}

impl StepJob {
    /// Waits until a process of this step may run. Blocks.
    pub(super) fn seat<'a>(&'a self, env: &'a StepEnv) -> Result<Seat<'a>, StepFailure> {
        let seat = env.seats.take(&self.rank).ok_or_else(|| {
            let given_up = self.given_up();
            given_up.unwrap_or(StepFailure::NotBegun)
        })?;
        self.turn.begin();
        Ok(seat)
    }
}
