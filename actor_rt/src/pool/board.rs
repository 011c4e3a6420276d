//! A pool's supervisor: hires workers and lets them go.
//!
//! Owns: the workers, its children. It is an actor so that each of these is one serial decision, and so that
//! the workers end when the pool does.
//! Does not know: jobs, which workers take from the `queue` themselves.

use super::Shared;
use super::Work;
use super::hand::{Hand, Look};
use crate::actor::Actor;
use crate::actor_ref::ActorRef;
use crate::clock::clock;
use crate::context::Context;
use crate::exit::{ExitReason, Failure};
use crate::restart::Restart;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How soon a worker that ended by itself is replaced: there may be no thread to be had right now.
const HIRE_AGAIN: Duration = Duration::from_millis(10);

pub(super) enum Call {
    /// A job found nobody free, nor looking for one: one more worker, which the queue has counted.
    Hire,
    /// This worker has ended.
    Ended(u64),
    /// Time to see who had nothing to do for too long.
    Review,
}

pub(super) struct Board<W: Work> {
    shared: Arc<Shared<W>>,
    hired: u64,
    /// Those it let go of that have not ended yet.
    leaving: Vec<u64>,
}

impl<W: Work> Board<W> {
    pub(super) fn new(shared: Arc<Shared<W>>) -> Self {
        Self {
            shared,
            hired: 0,
            leaving: Vec::new(),
        }
    }

    fn hire(&mut self, ctx: &mut Context<'_, Self>) {
        self.hired += 1;
        let id = self.hired;
        let shared = Arc::clone(&self.shared);
        let board = ctx.me();
        let stack_bytes = self.shared.config.stack_bytes;
        let mut hand = ctx
            .actor(move || Hand::new(Arc::clone(&shared), board.clone(), id))
            .mailbox(2)
            .restart(Restart::never());
        if let Some(bytes) = stack_bytes {
            hand = hand.stack_bytes(bytes);
        }
        let hand = hand.spawn_dedicated();
        ctx.monitor(&hand, move |_| Call::Ended(id));
        // It looks for a job, or notes that it is free. One that could not get a thread has ended, see `Ended`.
        let _ = hand.tell(Look);
    }

    fn ended(&mut self, id: u64, ctx: &Context<'_, Self>) {
        if let Some(place) = self.leaving.iter().position(|&leaving| leaving == id) {
            self.leaving.swap_remove(place);
        } else if self.shared.queue.worker_ended(id, &self.shared.config) {
            let me = ctx.me();
            clock().at(Instant::now() + HIRE_AGAIN, move || {
                // A pool that has ended hires nobody.
                let _ = me.tell(Call::Hire);
            });
        }
    }

    fn review(&mut self, ctx: &Context<'_, Self>) {
        let (retired, next) = self.shared.queue.review(&self.shared.config);
        for free in retired {
            self.leaving.push(free.id);
            // Before it can be gone, so that nobody misses it in both counts.
            self.shared.counters.retired.fetch_add(1, Ordering::Relaxed);
            free.hand.stop();
        }
        if let Some(at) = next {
            plan_review(ctx.me(), at);
        }
    }
}

/// Sees to it that the board looks at who is free, at that time.
pub(super) fn plan_review(board: ActorRef<Call>, at: Instant) {
    clock().at(at, move || {
        // A pool that has ended needs no review.
        let _ = board.tell(Call::Review);
    });
}

impl<W: Work> Actor for Board<W> {
    type Msg = Call;

    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        for _ in 0..self.shared.config.min {
            self.hire(ctx);
        }
        Ok(())
    }

    fn handle(&mut self, call: Call, ctx: &mut Context<'_, Self>) {
        match call {
            Call::Hire => self.hire(ctx),
            Call::Ended(id) => self.ended(id, ctx),
            Call::Review => self.review(ctx),
        }
    }

    fn stopped(&mut self, _reason: &ExitReason) {
        self.shared.queue.close();
    }
}
