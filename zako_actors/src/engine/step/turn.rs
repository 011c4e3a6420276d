//! The moment when a step stops looking whether it must work, and works.
//!
//! Owns the wait for a seat and the message to the build. Does not know what the work is.
//! Invariant: the build is told once.

use std::sync::OnceLock;
use std::time::Instant;

use actor_rt::ActorRef;

use super::{StepEnv, StepFailure, StepJob};
use crate::engine::build::BuildMsg;
use crate::engine::seats::Seat;

/// When a step's work began, as the build is told.
#[derive(Debug)]
pub struct Turn {
    build: ActorRef<BuildMsg>,
    node: u32,
    began: OnceLock<Instant>,
}

impl Turn {
    /// For node `node` of the build.
    pub fn new(build: ActorRef<BuildMsg>, node: u32) -> Self {
        Self {
            build,
            node,
            began: OnceLock::new(),
        }
    }

    /// The work begins now; only the first call counts.
    pub(super) fn begin(&self) {
        if self.began.set(Instant::now()).is_ok() {
            // The build's mailbox has room for it.
            drop(self.build.tell(BuildMsg::StepBegan(self.node)));
        }
    }

    /// When it began.
    pub(super) fn began(&self) -> Option<Instant> {
        self.began.get().copied()
    }
}

impl StepJob {
    /// Waits until a process of this step may run. Blocks.
    pub(super) fn seat<'a>(&self, env: &'a StepEnv) -> Result<Seat<'a>, StepFailure> {
        let command = self.target().command();
        let cpu_milli = command.map_or(1000, |command| command.uses.cpu_milli);
        let seat = env.seats.take(cpu_milli).ok_or_else(|| {
            let cancelled = env.cancel.reason().map(StepFailure::Cancelled);
            cancelled.unwrap_or(StepFailure::NotBegun)
        })?;
        self.turn.begin();
        Ok(seat)
    }
}
