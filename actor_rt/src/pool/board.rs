//! A pool's notice board: who is free, what waits.
//!
//! Owns: the queue of jobs, the choice of worker, growth and retirement. It is an actor, so that each
//! of these is one serial decision.
//! Does not know: how a job is run.
//! Invariants:
//! 1. A worker has at most one job; it says `Free` once after each.
//! 2. Jobs begin in the order in which they came.
//! 3. Each job is answered once: with its output, an error, or by being dropped (`Stopped`).

use super::hand::{Hand, Order};
use super::{PoolError, Shared, Task, Work};
use crate::actor::Actor;
use crate::actor_ref::ActorRef;
use crate::cancel::CancelGuard;
use crate::clock::clock;
use crate::context::Context;
use crate::exit::{ExitReason, Failure};
use crate::restart::Restart;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

pub(super) enum Call<W: Work> {
    Submit(Box<Task<W>>),
    /// A worker has finished its job.
    Free(u64),
    /// The job with this number was cancelled, perhaps while it waits.
    Cancelled(u64),
    CollectGarbage,
    /// Time to see who had nothing to do for too long.
    Review,
}

struct Member<W: Work> {
    id: u64,
    hand: ActorRef<Order<W>>,
    free_since: Option<Instant>,
}

struct Waiting<W: Work> {
    number: u64,
    task: Box<Task<W>>,
    /// Takes the cancel action back once the job begins.
    _guard: CancelGuard,
}

pub(super) struct Board<W: Work> {
    shared: Arc<Shared<W>>,
    /// Longest-serving first: jobs go to the first that is free, so that the last can retire.
    members: Vec<Member<W>>,
    waiting: VecDeque<Waiting<W>>,
    numbers: u64,
    review_planned: bool,
}

impl<W: Work> Board<W> {
    pub(super) fn new(shared: Arc<Shared<W>>) -> Self {
        Self {
            shared,
            members: Vec::new(),
            waiting: VecDeque::new(),
            numbers: 0,
            review_planned: false,
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn hire(&mut self, ctx: &mut Context<'_, Self>) -> usize {
        let id = self.number();
        let shared = Arc::clone(&self.shared);
        let board = ctx.me();
        let hand = ctx
            .actor(move || Hand::new(Arc::clone(&shared), board.clone(), id))
            .mailbox(16)
            .restart(Restart::never())
            .spawn_dedicated();
        self.members.push(Member {
            id,
            hand,
            free_since: Some(Instant::now()),
        });
        self.members.len() - 1
    }

    fn submit(&mut self, task: Box<Task<W>>, ctx: &mut Context<'_, Self>) {
        let free = self
            .members
            .iter()
            .position(|member| member.free_since.is_some());
        let free = match free {
            Some(free) => Some(free),
            None if self.members.len() < self.shared.config.max => Some(self.hire(ctx)),
            None => None,
        };
        match free {
            Some(free) => self.assign(free, task),
            None => {
                let number = self.number();
                let me = ctx.me();
                let guard = task.cancel.on_cancel(move || {
                    // Should the mailbox be full, the worker finds out that the job is cancelled.
                    let _ = me.tell(Call::Cancelled(number));
                });
                self.waiting.push_back(Waiting {
                    number,
                    task,
                    _guard: guard,
                });
            }
        }
    }

    fn assign(&mut self, free: usize, task: Box<Task<W>>) {
        self.shared.counters.queued.fetch_sub(1, Ordering::AcqRel);
        let member = &mut self.members[free];
        member.free_since = None;
        // Invariant 1 leaves room; a worker that could not get a thread drops the job: `Stopped`.
        if member.hand.tell(Order::Run(task)).is_err() {
            tracing::error!(pool = self.shared.config.name, "a pool worker is gone");
            self.members.remove(free);
        }
    }

    fn free(&mut self, id: u64, ctx: &mut Context<'_, Self>) {
        let Some(place) = self.members.iter().position(|member| member.id == id) else {
            return;
        };
        self.members[place].free_since = Some(Instant::now());
        match self.waiting.pop_front() {
            Some(next) => self.assign(place, next.task),
            None => self.plan_review(ctx),
        }
    }

    fn cancel(&mut self, number: u64) {
        // Numbers grow along the queue.
        let Ok(place) = self
            .waiting
            .binary_search_by_key(&number, |waiting| waiting.number)
        else {
            return;
        };
        if let Some(cancelled) = self.waiting.remove(place) {
            let counters = &self.shared.counters;
            counters.queued.fetch_sub(1, Ordering::AcqRel);
            counters.cancelled.fetch_add(1, Ordering::Relaxed);
            cancelled.task.reply.send(Err(PoolError::Cancelled));
        }
    }

    fn plan_review(&mut self, ctx: &mut Context<'_, Self>) {
        if self.review_planned || self.members.len() <= self.shared.config.min {
            return;
        }
        self.review_planned = true;
        let me = ctx.me();
        clock().at(Instant::now() + self.shared.config.idle, move || {
            // A pool that has ended needs no review.
            let _ = me.tell(Call::Review);
        });
    }

    /// Lets go of workers above `min` that had nothing to do for the whole time, newest first.
    fn review(&mut self, ctx: &mut Context<'_, Self>) {
        self.review_planned = false;
        let config = &self.shared.config;
        let mut place = self.members.len();
        while place > 0 && self.members.len() > config.min {
            place -= 1;
            let idle = self.members[place].free_since.map(|since| since.elapsed());
            if idle.is_some_and(|idle| idle >= config.idle) {
                self.members.remove(place).hand.stop();
                self.shared.counters.retired.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.plan_review(ctx);
    }
}

impl<W: Work> Actor for Board<W> {
    type Msg = Call<W>;

    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        for _ in 0..self.shared.config.min {
            self.hire(ctx);
        }
        Ok(())
    }

    fn handle(&mut self, call: Call<W>, ctx: &mut Context<'_, Self>) {
        match call {
            Call::Submit(task) => self.submit(task, ctx),
            Call::Free(id) => self.free(id, ctx),
            Call::Cancelled(number) => self.cancel(number),
            Call::CollectGarbage => {
                for member in &self.members {
                    // One that has a dozen of these waiting needs no further one.
                    let _ = member.hand.tell(Order::CollectGarbage);
                }
            }
            Call::Review => self.review(ctx),
        }
    }

    fn stopped(&mut self, _reason: &ExitReason) {
        self.shared.counters.queued.store(0, Ordering::Release);
    }
}
