//! Worker pools: jobs that block or burn CPU, on threads of their own, as many as the backlog asks for.
//!
//! Owns: [`Pool`], its configuration and errors, what submitters see.
//! Does not know: which worker gets a job (see `queue`), how a job is run (see `hand`), who hires (see `board`).
//!
//! A pool keeps between `min` and `max` workers, each on its own thread: it grows when a job finds
//! nobody free, nor looking for one, and lets workers go that had nothing to do for a while. A job that panics costs its
//! worker's state, which is made anew, and nothing else. While workers are busy, a job costs no message, no wake-up and,
//! once warm, no allocation.

mod board;
mod hand;
mod queue;
mod watch;

use crate::actor_ref::ActorRef;
use crate::ask::{Ask, Reply};
use crate::cancel::CancelToken;
use crate::restart::Restart;
use crate::system::System;
use board::Board;
use crossbeam_utils::CachePadded;
use hand::Look;
use queue::{Call, Queue};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use watch::{Latest, Watching};

/// What a pool's workers do. A worker lives on one thread, so its state need not be `Send`.
pub trait Work: 'static {
    /// What is to be done.
    type Job: Send + 'static;
    /// What comes of it.
    type Output: Send + 'static;

    /// Does one job. It may block, and should look at `cancel` now and then.
    fn run(&mut self, job: Self::Job, cancel: &CancelToken) -> Self::Output;

    /// Does what the output of a job need not wait for. Called after every job that gave an output, before the next one. A
    /// panic costs the state, as in a job, but fails no job.
    fn tidy(&mut self) {}

    /// Gives back memory that is only kept for speed. Called between jobs.
    fn collect_garbage(&mut self) {}
}

/// Why a job has no output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The pool was not started.
    #[error("the pool was not started: call `start` first")]
    NotStarted,
    /// The pool was started before.
    #[error("the pool was started already")]
    StartedTwice,
    /// The pool has been stopped, before or after the job was submitted.
    #[error("the pool has been stopped")]
    Stopped,
    /// As many jobs wait as the pool allows: try later.
    #[error("the pool's backlog of {0} jobs is full")]
    Full(usize),
    /// The job was cancelled before it began.
    #[error("the job was cancelled before it began")]
    Cancelled,
    /// The job panicked with this message.
    #[error("the job panicked: {0}")]
    Panicked(String),
}

/// How large a pool is, and how patient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// The name in messages to people, and the prefix of the workers' names.
    pub name: String,
    /// Workers kept even when there is nothing to do.
    pub min: usize,
    /// Most workers, at least one and at least `min`.
    pub max: usize,
    /// How long a worker above `min` may have nothing to do before it goes.
    pub idle: Duration,
    /// Most jobs that wait for a worker.
    pub backlog: usize,
    /// The stack of each worker, when it is not the usual one, see [`ActorBuilder::stack_bytes`](crate::ActorBuilder::stack_bytes).
    pub stack_bytes: Option<usize>,
}

impl Default for PoolConfig {
    /// Half as many workers as cores at least, twice as many at most, 45 s idle, 4096 jobs waiting.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            name: "pool".into(),
            min: (cores / 2).max(1),
            max: cores * 2,
            idle: Duration::from_secs(45),
            backlog: 4096,
            stack_bytes: None,
        }
    }
}

/// What a pool has done and is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Workers, busy or not.
    pub workers: usize,
    /// Workers that run a job.
    pub busy: usize,
    /// Jobs that wait for a worker.
    pub queued: usize,
    /// Jobs that gave an output.
    pub finished: u64,
    /// Jobs that panicked.
    pub panicked: u64,
    /// Jobs that were cancelled before they began.
    pub cancelled: u64,
    /// Workers let go because they had nothing to do.
    pub retired: u64,
    /// Garbage collections carried out, counted per worker.
    pub collections: u64,
    /// Time spent in jobs, all workers together, in nanoseconds.
    pub busy_ns: u64,
}

/// Most lines that workers count on.
const TALLIES: usize = 64;

/// What a worker counts for each job, on a line that mostly only it writes: workers hired in place of others may share one.
#[derive(Default)]
struct Tally {
    busy: AtomicUsize,
    finished: AtomicU64,
    busy_ns: AtomicU64,
}

struct Counters {
    workers: AtomicUsize,
    panicked: AtomicU64,
    cancelled: AtomicU64,
    retired: AtomicU64,
    collections: AtomicU64,
    tallies: Box<[CachePadded<Tally>]>,
}

impl Counters {
    fn new(workers: usize) -> Self {
        Self {
            workers: AtomicUsize::new(0),
            panicked: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            retired: AtomicU64::new(0),
            collections: AtomicU64::new(0),
            tallies: (0..workers.clamp(1, TALLIES))
                .map(|_| CachePadded::default())
                .collect(),
        }
    }

    /// Where the worker of this number counts.
    fn tally(&self, worker: u64) -> &Tally {
        &self.tallies[(worker % self.tallies.len() as u64) as usize]
    }

    fn sum(&self, of: impl Fn(&Tally) -> &AtomicU64) -> u64 {
        let counts = self.tallies.iter();
        counts.map(|tally| of(tally).load(Ordering::Relaxed)).sum()
    }
}

type Factory<W> = dyn Fn() -> W + Send + Sync;

struct Shared<W: Work> {
    config: PoolConfig,
    factory: Box<Factory<W>>,
    counters: Counters,
    queue: Queue<W>,
    board: OnceLock<ActorRef<board::Call>>,
    latest: Latest,
}

impl<W: Work> Shared<W> {
    /// Answers the waiting jobs that were cancelled.
    fn cancel(&self) {
        for task in self.queue.withdraw_cancelled() {
            self.counters.cancelled.fetch_add(1, Ordering::Relaxed);
            task.reply.send(Err(PoolError::Cancelled));
        }
    }
}

/// One job on its way.
struct Task<W: Work> {
    job: W::Job,
    watch: Watching,
    reply: Reply<Result<W::Output, PoolError>>,
}

/// A pool of workers that do `W`. Cheap to clone; any thread may use it.
///
/// ```
/// use actor_rt::{CancelToken, Pool, PoolConfig, System, Work};
///
/// struct Squarer;
/// impl Work for Squarer {
///     type Job = u64;
///     type Output = u64;
///     fn run(&mut self, n: u64, _cancel: &CancelToken) -> u64 {
///         n * n
///     }
/// }
///
/// let system = System::new()?;
/// let pool = Pool::new(PoolConfig { max: 4, ..PoolConfig::default() }, || Squarer);
/// pool.start(&system)?;
/// assert_eq!(pool.submit(12, &CancelToken::new()).wait()?, 144);
/// pool.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pool<W: Work> {
    shared: Arc<Shared<W>>,
}

impl<W: Work> Clone for Pool<W> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<W: Work> fmt::Debug for Pool<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("config", &self.shared.config)
            .field("stats", &self.stats())
            .finish()
    }
}

impl<W: Work> Pool<W> {
    /// A pool, not started. The factory makes each worker's state on the worker's thread, at its first
    /// job and after a panic.
    ///
    /// # Panics
    /// If `max` is zero or below `min`, or the backlog is zero.
    pub fn new(config: PoolConfig, factory: impl Fn() -> W + Send + Sync + 'static) -> Self {
        assert!(
            config.max > 0 && config.max >= config.min,
            "a pool has min ≤ max workers, max ≥ 1"
        );
        assert!(config.backlog > 0, "a pool must be able to hold a job");
        Self {
            shared: Arc::new(Shared {
                queue: Queue::new(config.min),
                counters: Counters::new(config.max),
                config,
                factory: Box::new(factory),
                board: OnceLock::new(),
                latest: Latest::default(),
            }),
        }
    }

    /// Starts the pool in a system, which ends it at its own end at the latest.
    ///
    /// # Errors
    /// [`PoolError::StartedTwice`]; a pool that was stopped does not start again.
    pub fn start(&self, system: &System) -> Result<(), PoolError> {
        let mut first = false;
        self.shared.board.get_or_init(|| {
            first = true;
            let shared = Arc::clone(&self.shared);
            system
                .actor(move || Board::new(Arc::clone(&shared)))
                .name(&self.shared.config.name)
                // Room for a worker's hiring, end and review, each of them once.
                .mailbox(4 * self.shared.config.max + 64)
                .restart(Restart::never())
                .spawn()
        });
        if first {
            Ok(())
        } else {
            Err(PoolError::StartedTwice)
        }
    }

    /// Gives a job to the pool. It is queued at once, whether or not the output is waited for.
    pub fn submit(&self, job: W::Job, cancel: &CancelToken) -> Output<W::Output> {
        let shared = &self.shared;
        let Some(board) = shared.board.get() else {
            return Output::refused(PoolError::NotStarted);
        };
        if cancel.is_cancelled() {
            shared.counters.cancelled.fetch_add(1, Ordering::Relaxed);
            return Output::refused(PoolError::Cancelled);
        }
        if board.is_closed() {
            // Perhaps it never lived to say so: the pool was started in a system that had ended.
            shared.queue.close();
        }
        let (reply, ask) = Reply::pair();
        let task = Task {
            job,
            watch: shared.latest.watch(shared, cancel),
            reply,
        };
        match shared.queue.put(task, &shared.config) {
            Ok(Call::Nobody) => {}
            // A worker that has ended meanwhile is missed by the board, who hires another one.
            Ok(Call::Wake(hand)) => drop(hand.tell(Look)),
            // A pool that has ended has dropped the job.
            Ok(Call::Hire) => drop(board.tell(board::Call::Hire)),
            Err(error) => return Output::refused(error),
        }
        // The action may have come too soon to find the job.
        if cancel.is_cancelled() {
            shared.cancel();
        }
        Output { ask: Ok(ask) }
    }

    /// Lets every worker collect garbage, each between two jobs.
    pub fn collect_garbage(&self) {
        for hand in self.shared.queue.collect() {
            // One that has ended has no garbage.
            let _ = hand.tell(Look);
        }
    }

    /// Stops the pool: jobs that run are finished, those that wait end with [`PoolError::Stopped`].
    pub fn stop(&self) {
        if let Some(board) = self.shared.board.get() {
            self.shared.queue.close();
            board.stop();
        }
    }

    /// Waits until a stopped pool's last job is finished and its threads are free.
    ///
    /// # Panics
    /// On a worker thread of the system, see [`ActorRef::join`].
    pub fn join(&self) {
        if let Some(board) = self.shared.board.get() {
            board.join();
        }
    }

    /// What the pool has done and is doing.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let counters = &self.shared.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PoolStats {
            // First of all; Acquire pairs with the Release of a worker that goes.
            workers: counters.workers.load(Ordering::Acquire),
            busy: counters
                .tallies
                .iter()
                .map(|tally| tally.busy.load(Ordering::Relaxed))
                .sum(),
            queued: self.shared.queue.waiting(),
            finished: counters.sum(|tally| &tally.finished),
            panicked: get(&counters.panicked),
            cancelled: get(&counters.cancelled),
            retired: get(&counters.retired),
            collections: get(&counters.collections),
            busy_ns: counters.sum(|tally| &tally.busy_ns),
        }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &PoolConfig {
        &self.shared.config
    }
}

/// The output to come of a submitted job. Await it, or [`wait`](Output::wait) for it.
#[must_use = "the output comes through this"]
pub struct Output<O> {
    ask: Result<Ask<Result<O, PoolError>>, PoolError>,
}

impl<O> fmt::Debug for Output<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}

impl<O> Output<O> {
    fn refused(error: PoolError) -> Self {
        Self { ask: Err(error) }
    }

    /// Blocks the thread until the job is done; not for handlers on workers, which await it.
    ///
    /// # Errors
    /// See [`PoolError`].
    ///
    /// # Panics
    /// On a worker thread of a system, which must not block.
    pub fn wait(self) -> Result<O, PoolError> {
        match self.ask?.wait() {
            Ok(output) => output,
            Err(crate::ask::AskError::OnWorker) => {
                panic!("a worker thread cannot block for a job; await it")
            }
            // The task was dropped unanswered.
            Err(_) => Err(PoolError::Stopped),
        }
    }
}

impl<O> Future for Output<O> {
    type Output = Result<O, PoolError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.ask {
            Err(error) => Poll::Ready(Err(error.clone())),
            Ok(ask) => {
                let answer = ready!(Pin::new(ask).poll(task));
                Poll::Ready(answer.unwrap_or(Err(PoolError::Stopped)))
            }
        }
    }
}
