//! A pool's worker: one thread that does one job at a time.
//!
//! Owns: the user's state, which it makes at the first job and again after a panic.
//! Does not know: who else works. It takes job after job from the `queue`, one per message to itself, so that an order
//! to stop gets its turn between two jobs.

use super::board::Call;
use super::queue::Next;
use super::{PoolError, Shared, Task, Work};
use crate::actor::Actor;
use crate::actor_ref::ActorRef;
use crate::clock::later;
use crate::context::Context;
use crate::exit::ExitReason;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Look for something to do.
pub(super) struct Look;

pub(super) struct Hand<W: Work> {
    shared: Arc<Shared<W>>,
    board: ActorRef<Call>,
    id: u64,
    work: Option<W>,
    /// How often it has collected garbage, or had none.
    collected: u64,
}

impl<W: Work> Hand<W> {
    pub(super) fn new(shared: Arc<Shared<W>>, board: ActorRef<Call>, id: u64) -> Self {
        shared.counters.workers.fetch_add(1, Ordering::Relaxed);
        Self {
            shared,
            board,
            id,
            work: None,
            collected: 0,
        }
    }

    /// Does a job, if there is one, and sees to it that it looks again after that.
    fn look(&mut self, me: &ActorRef<Look>) {
        let shared = &self.shared;
        let config = &shared.config;
        match shared.queue.next(self.id, me, &mut self.collected, config) {
            Next::Run(task) => self.run(task),
            Next::Collect => self.collect_garbage(),
            Next::Rest { plan_review } => {
                if plan_review {
                    let at = later(Instant::now(), config.idle);
                    super::board::plan_review(self.board.clone(), at);
                }
                return;
            }
        }
        // There is room (rule 6 of the queue), and who is ending need not look again.
        let _ = me.tell(Look);
    }

    fn collect_garbage(&mut self) {
        if let Some(work) = &mut self.work {
            work.collect_garbage();
            let collections = &self.shared.counters.collections;
            collections.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn run(&mut self, task: Task<W>) {
        let Task { job, watch, reply } = task;
        let counters = &self.shared.counters;
        if watch.token.is_cancelled() {
            counters.cancelled.fetch_add(1, Ordering::Relaxed);
            return reply.send(Err(PoolError::Cancelled));
        }
        let tally = counters.tally(self.id);
        tally.busy.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let work = &mut self.work;
        let output = catch_unwind(AssertUnwindSafe(|| {
            work.get_or_insert_with(|| (self.shared.factory)())
                .run(job, &watch.token)
        }));
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        tally.busy_ns.fetch_add(took, Ordering::Relaxed);
        tally.busy.fetch_sub(1, Ordering::Relaxed);
        match output {
            Ok(output) => {
                tally.finished.fetch_add(1, Ordering::Relaxed);
                reply.send(Ok(output));
                self.tidy();
            }
            Err(payload) => {
                counters.panicked.fetch_add(1, Ordering::Relaxed);
                let message = self.lose_state(payload, "a job failed");
                reply.send(Err(PoolError::Panicked(message)));
            }
        }
    }

    fn tidy(&mut self) {
        let Some(work) = &mut self.work else {
            return;
        };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| work.tidy())) {
            // Counted nowhere: the job before it has given its output.
            self.lose_state(payload, "tidying up after a job failed");
        }
    }

    /// Has the state made anew after a panic, which may have left it half changed; returns the panic's message.
    fn lose_state(&mut self, payload: Box<dyn Any + Send>, what: &str) -> String {
        let reason = ExitReason::from_panic(payload);
        tracing::error!(pool = self.shared.config.name, %reason, "{what}");
        let broken = self.work.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(broken)));
        match reason {
            ExitReason::Panicked(failure) => failure.message().to_owned(),
            other => other.to_string(),
        }
    }
}

impl<W: Work> Actor for Hand<W> {
    type Msg = Look;

    fn handle(&mut self, _look: Look, ctx: &mut Context<'_, Self>) {
        self.look(&ctx.me());
    }

    fn stopped(&mut self, _reason: &ExitReason) {
        // Release pairs with the Acquire of `Pool::stats`: whoever misses this worker sees it retired.
        let workers = &self.shared.counters.workers;
        workers.fetch_sub(1, Ordering::Release);
    }
}
