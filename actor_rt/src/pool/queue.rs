//! What waits in a pool, and who is free: one lock, held for a few moves.
//!
//! Owns: the jobs that wait, the workers that have nothing to do, and how many workers there are.
//! Does not know: how a worker is hired or a job is run.
//! Rules, each with a test in `tests/pool.rs`:
//! 1. Jobs begin in the order in which they were submitted.
//! 2. A worker looks for a job, and counts as free when there is none, in one step; a job is put down, and a free worker
//!    is taken for it, in one step. So no job waits while a worker is free.
//! 3. The longest-serving free worker is taken first, so that the others can retire.
//! 4. A cancelled job that waits is answered at once.
//! 5. Each job is answered once: with its output, an error, or by being dropped (`Stopped`).
//! 6. A worker that is not free has one `Look` under way or is handling it; a free one has none. So their mailboxes are
//!    never full.

use super::hand::Look;
use super::{PoolConfig, PoolError, Task, Work};
use crate::actor_ref::ActorRef;
use crate::cancel::CancelGuard;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A job that waits.
pub(super) struct Waiting<W: Work> {
    pub(super) number: u64,
    pub(super) task: Task<W>,
    /// Takes the cancel action back once the job begins.
    pub(super) guard: CancelGuard,
}

/// A worker without a job.
pub(super) struct Free {
    pub(super) id: u64,
    pub(super) hand: ActorRef<Look>,
    since: Instant,
}

struct State<W: Work> {
    /// Whether jobs are taken.
    open: bool,
    waiting: VecDeque<Waiting<W>>,
    free: Vec<Free>,
    /// Workers, those that are being hired included.
    workers: usize,
    review_planned: bool,
    /// How often garbage was to be collected.
    collections: u64,
}

pub(super) struct Queue<W: Work> {
    state: Mutex<State<W>>,
}

/// What is to be done for a job that was put down.
pub(super) enum Call {
    /// This worker is to look for it.
    Wake(ActorRef<Look>),
    /// A worker is to be hired; it is counted already.
    Hire,
    /// It waits until a worker is free.
    Nobody,
}

/// What a worker is to do next.
pub(super) enum Next<W: Work> {
    Run(Waiting<W>),
    /// Collect garbage, then look again.
    Collect,
    /// Rest, after having planned a review if it is so said.
    Rest {
        plan_review: bool,
    },
}

impl<W: Work> Queue<W> {
    /// Nothing waits, and so many workers are being hired.
    pub(super) fn new(workers: usize) -> Self {
        Self {
            state: Mutex::new(State {
                open: true,
                waiting: VecDeque::new(),
                free: Vec::new(),
                workers,
                review_planned: false,
                collections: 0,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a job down.
    pub(super) fn put(&self, waiting: Waiting<W>, config: &PoolConfig) -> Result<Call, PoolError> {
        let mut state = self.lock();
        if !state.open {
            return Err(PoolError::Stopped);
        }
        if state.waiting.len() >= config.backlog {
            return Err(PoolError::Full(config.backlog));
        }
        state.waiting.push_back(waiting);
        Ok(state.call(config))
    }

    /// Takes a job, or notes that this worker is free. `collected` is how often it has collected garbage.
    pub(super) fn next(
        &self,
        id: u64,
        hand: &ActorRef<Look>,
        collected: &mut u64,
        config: &PoolConfig,
    ) -> Next<W> {
        let mut state = self.lock();
        if *collected != state.collections {
            *collected = state.collections;
            return Next::Collect;
        }
        if let Some(waiting) = state.waiting.pop_front() {
            return Next::Run(waiting);
        }
        state.free.push(Free {
            id,
            hand: hand.clone(),
            since: Instant::now(),
        });
        let plan_review = state.open && !state.review_planned && state.workers > config.min;
        state.review_planned |= plan_review;
        Next::Rest { plan_review }
    }

    /// Lets every worker collect garbage; those that are free, and are returned, have to be told.
    pub(super) fn collect(&self) -> Vec<ActorRef<Look>> {
        let mut state = self.lock();
        state.collections += 1;
        state.free.drain(..).map(|free| free.hand).collect()
    }

    /// Takes a waiting job out, if it still waits.
    pub(super) fn withdraw(&self, number: u64) -> Option<Waiting<W>> {
        let mut state = self.lock();
        // Submitters number their jobs before they put them down, so the numbers are not quite sorted.
        let place = state
            .waiting
            .iter()
            .position(|waiting| waiting.number == number)?;
        state.waiting.remove(place)
    }

    /// A worker that nobody let go of has ended. Says whether another one is to be hired in its place; it is counted already.
    pub(super) fn worker_ended(&self, id: u64, config: &PoolConfig) -> bool {
        let mut state = self.lock();
        state.workers = state.workers.saturating_sub(1);
        state.free.retain(|free| free.id != id);
        let hires = state.open && !state.waiting.is_empty() && state.workers < config.max;
        state.workers += usize::from(hires);
        hires
    }

    /// Lets go of workers above `min` that were free for too long, the newest first: they are counted no more. Says
    /// which, and when the next review is due, if there is to be one.
    pub(super) fn review(&self, config: &PoolConfig) -> (Vec<Free>, Option<Instant>) {
        let mut state = self.lock();
        let mut retired = Vec::new();
        state.free.sort_by_key(|free| free.id);
        while state.workers > config.min
            && let Some(last) = state
                .free
                .iter()
                .rposition(|free| free.since.elapsed() >= config.idle)
        {
            retired.push(state.free.remove(last));
            state.workers -= 1;
        }
        state.review_planned = state.open && state.workers > config.min;
        let next = state.review_planned.then(|| Instant::now() + config.idle);
        (retired, next)
    }

    /// Takes no more jobs, and drops those that wait.
    pub(super) fn close(&self) {
        let dropped = {
            let mut state = self.lock();
            state.open = false;
            state.free.clear();
            std::mem::take(&mut state.waiting)
        };
        // Outside the lock: what a job holds is a user's.
        drop(dropped);
    }

    /// How many jobs wait.
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }
}

impl<W: Work> State<W> {
    fn call(&mut self, config: &PoolConfig) -> Call {
        let longest = (0..self.free.len()).min_by_key(|&place| self.free[place].id);
        if let Some(longest) = longest {
            return Call::Wake(self.free.swap_remove(longest).hand);
        }
        if self.workers < config.max {
            self.workers += 1;
            return Call::Hire;
        }
        Call::Nobody
    }
}
