//! What waits in a pool, and who is free: one lock, held for a few moves.
//!
//! Owns: the jobs that wait, the workers that have nothing to do, and how many workers there are.
//! A worker that finds no job looks on for some microseconds before it counts as free: calling a sleeping thread costs
//! who submits more than the job, and where jobs come one after another each of them would.
//! Does not know: how a worker is hired or a job is run.
//! Rules, each with a test in `tests/pool.rs`:
//! 1. Jobs begin in the order in which they were submitted.
//! 2. A worker looks for a job, and counts as looking on, or as free, when there is none, in one step; a job is put down,
//!    and a free worker is taken for it unless as many look on as jobs wait, in one step; one that has looked on takes a job
//!    that waits before all else. So a job waits while a worker is free only for one that looks on (tested below).
//! 3. The longest-serving free worker is taken first, so that the others can retire.
//! 4. A cancelled job that waits is answered at once.
//! 5. Each job is answered once: with its output, an error, or by being dropped (`Stopped`).
//! 6. A worker that is not free has one `Look` under way or is handling it; a free one has none. So their mailboxes are
//!    never full.

use super::hand::Look;
use super::{PoolConfig, PoolError, Task, Work};
use crate::actor_ref::ActorRef;
use crate::clock::later;
use crossbeam_utils::CachePadded;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Rounds of looking for a job before a worker counts as free, and the looks of each, with a pause (of 10 to 50 ns) after
/// each: the way of a job that is just being put down. After a round it lets whoever submits have the processor.
const ROUNDS: u32 = 32;
const LOOKS_PER_ROUND: u32 = 16;

/// A worker without a job.
pub(super) struct Free {
    pub(super) id: u64,
    pub(super) hand: ActorRef<Look>,
    since: Instant,
}

struct State<W: Work> {
    /// Whether jobs are taken.
    open: bool,
    waiting: VecDeque<Task<W>>,
    free: Vec<Free>,
    /// Workers that look on before they count as free.
    looking: usize,
    /// Workers, those that are being hired included.
    workers: usize,
    review_planned: bool,
    /// How often garbage was to be collected.
    collections: u64,
}

pub(super) struct Queue<W: Work> {
    state: Mutex<State<W>>,
    /// How many jobs wait, for those that look on without the lock.
    length: CachePadded<AtomicUsize>,
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
    Run(Task<W>),
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
                looking: 0,
                workers,
                review_planned: false,
                collections: 0,
            }),
            length: CachePadded::new(AtomicUsize::new(0)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a job down.
    pub(super) fn put(&self, task: Task<W>, config: &PoolConfig) -> Result<Call, PoolError> {
        let mut state = self.lock();
        if !state.open {
            return Err(PoolError::Stopped);
        }
        if state.waiting.len() >= config.backlog {
            return Err(PoolError::Full(config.backlog));
        }
        state.waiting.push_back(task);
        self.note_length(&state);
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
        let next = state
            .collection(collected)
            .or_else(|| self.take(&mut state));
        if let Some(next) = next {
            return next;
        }
        state.looking += 1;
        drop(state);
        self.look_on();
        self.looked_on(id, hand, collected, config)
    }

    /// What is to be done by a worker that has looked on: a job that waits counts on it, so garbage has to wait.
    fn looked_on(
        &self,
        id: u64,
        hand: &ActorRef<Look>,
        collected: &mut u64,
        config: &PoolConfig,
    ) -> Next<W> {
        let mut state = self.lock();
        state.looking -= 1;
        let next = self
            .take(&mut state)
            .or_else(|| state.collection(collected));
        if let Some(next) = next {
            return next;
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

    /// The first job that waits.
    fn take(&self, state: &mut State<W>) -> Option<Next<W>> {
        let waiting = state.waiting.pop_front()?;
        self.note_length(state);
        Some(Next::Run(waiting))
    }

    /// Returns when a job seems to wait, or after a while.
    fn look_on(&self) {
        for _ in 0..ROUNDS {
            for _ in 0..LOOKS_PER_ROUND {
                // Relaxed: a hint; the job is taken under the lock.
                if self.length.load(Ordering::Relaxed) > 0 {
                    return;
                }
                std::hint::spin_loop();
            }
            std::thread::yield_now();
        }
    }

    fn note_length(&self, state: &State<W>) {
        self.length.store(state.waiting.len(), Ordering::Relaxed);
    }

    /// Lets every worker collect garbage; those that are free, and are returned, have to be told.
    pub(super) fn collect(&self) -> Vec<ActorRef<Look>> {
        let mut state = self.lock();
        state.collections += 1;
        state.free.drain(..).map(|free| free.hand).collect()
    }

    /// Takes the waiting jobs out that were cancelled.
    pub(super) fn withdraw_cancelled(&self) -> Vec<Task<W>> {
        let mut state = self.lock();
        let mut cancelled = Vec::new();
        // Once round, so that the others keep their order.
        for _ in 0..state.waiting.len() {
            match state.waiting.pop_front() {
                Some(task) if task.watch.token.is_cancelled() => cancelled.push(task),
                Some(task) => state.waiting.push_back(task),
                None => {}
            }
        }
        self.note_length(&state);
        cancelled
    }

    /// A worker that nobody let go of has ended. Says whether another one is to be hired in its place; it is counted already.
    pub(super) fn worker_ended(&self, id: u64, config: &PoolConfig) -> bool {
        let mut state = self.lock();
        state.workers = state.workers.saturating_sub(1);
        state.free.retain(|free| free.id != id);
        let is_missed = !state.waiting.is_empty() || state.workers < config.min;
        let hires = state.open && is_missed && state.workers < config.max;
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
        let next = state
            .review_planned
            .then(|| later(Instant::now(), config.idle));
        (retired, next)
    }

    /// Takes no more jobs, and drops those that wait.
    pub(super) fn close(&self) {
        let dropped = {
            let mut state = self.lock();
            state.open = false;
            state.free.clear();
            let waiting = std::mem::take(&mut state.waiting);
            self.note_length(&state);
            waiting
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
    /// Garbage to be collected by a worker that has collected it so often.
    fn collection(&self, collected: &mut u64) -> Option<Next<W>> {
        let due = *collected != self.collections;
        *collected = self.collections;
        due.then_some(Next::Collect)
    }

    fn call(&mut self, config: &PoolConfig) -> Call {
        if self.waiting.len() <= self.looking {
            return Call::Nobody;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Actor, CancelToken, Context, Pool, Reply, System};

    struct Nothing;

    impl Work for Nothing {
        type Job = u8;
        type Output = ();
        fn run(&mut self, _job: u8, _cancel: &CancelToken) {}
    }

    struct Deaf;

    impl Actor for Deaf {
        type Msg = Look;
        fn handle(&mut self, _look: Look, _ctx: &mut Context<'_, Self>) {}
    }

    #[test]
    fn a_job_that_counts_on_a_worker_who_looks_on_comes_before_its_garbage() {
        let system = System::builder().workers(1).build().expect("threads");
        let hand = system.spawn(|| Deaf);
        // Not started: only this thread uses its queue.
        let pool = Pool::new(PoolConfig::default(), || Nothing);
        let (shared, config) = (&pool.shared, pool.config());
        let queue = Queue::<Nothing>::new(2);
        let put = |job| {
            let task = Task {
                job,
                watch: shared.latest.watch(shared, &CancelToken::new()),
                reply: Reply::pair().0,
            };
            queue.put(task, config).expect("open, and there is room")
        };
        let mut collected = [0; 2];
        // Nobody puts a job down meanwhile, so the first worker is free after its look.
        let next = queue.next(1, &hand, &mut collected[0], config);
        assert!(matches!(next, Next::Rest { .. }));
        queue.lock().looking += 1;
        queue.lock().collections += 1;
        assert!(matches!(put(7), Call::Nobody), "the second one looks on");
        assert!(matches!(put(8), Call::Wake(_)), "one looks for two");
        let next = queue.looked_on(2, &hand, &mut collected[1], config);
        assert!(matches!(next, Next::Run(Task { job: 7, .. })));
        let next = queue.next(2, &hand, &mut collected[1], config);
        assert!(matches!(next, Next::Collect));
        let next = queue.next(1, &hand, &mut collected[0], config);
        assert!(matches!(next, Next::Collect));
        let next = queue.next(1, &hand, &mut collected[0], config);
        assert!(matches!(next, Next::Run(Task { job: 8, .. })));
    }
}
