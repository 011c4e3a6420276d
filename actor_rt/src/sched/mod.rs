//! The scheduler: pinned workers, run queues, parking, and the runtime that owns them.
//!
//! Owns: [`Runtime`], the state shared by all workers; where a runnable actor is queued; whom to
//! wake; the count of live actors.
//! Does not know: messages, supervision.
//! Invariants:
//! 1. Push, fence, look for sleepers; go to sleep, fence, look for work: one of the two sees the
//!    other, so no runnable actor is left with every worker asleep. A worker that pushes into its own ring is awake and
//!    needs no fence: who lies down meanwhile and is missed watches, since not everybody sleeps.
//! 2. At most one sleeper is woken per push, and none while another worker is searching.
//! 3. Workers leave only when the system is closing and no actor is alive.
#![allow(unsafe_code)]

mod claims;
mod here;
mod homes;
mod linger;
#[cfg(test)]
mod memory_tests;
mod parting;
mod queue;
mod reference;
mod share;
mod simulated;
mod sleep;
mod sweep;
mod topology;
pub(crate) mod watch;
mod worker;

use crate::cell::{ANYWHERE, CellPtr, CellRef, Children, Header, Outcome, prefetch_header};
use crate::clock::{clock, later};
use crate::dead_letter::{DeadLetter, DeadLetterHook};
use crate::depths::{Depths, Stripes};
use crate::exit::ExitReason;
use crate::payload::Due;
use crate::slab::Node;
use crossbeam_utils::CachePadded;
pub(crate) use here::{is_worker, linger, run_turn, simulated_here, waker_of_running, yield_turn};
pub(crate) use parting::mark_thread;
use queue::Shared;
pub(crate) use reference::RuntimeRef;
pub(crate) use simulated::Simulated;
use sleep::Sleepers;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use worker::Worker;

/// A place of a run queue; the models have one that they watch.
type Place = std::sync::atomic::AtomicPtr<Header>;

/// How a runtime is made.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) workers: usize,
    /// Whether workers are pinned; unless it was said, where there is a core for each.
    pub(crate) pin: Option<bool>,
    /// Whether idle workers take from the queues of others.
    pub(crate) steal: bool,
    /// Whether thieves prefer near victims.
    pub(crate) near: bool,
    pub(crate) name: String,
    pub(crate) turn_budget: Duration,
    /// Whether every actor is metered.
    pub(crate) metered: bool,
    /// How long a worker without other work waits for the next message from another thread.
    pub(crate) linger: Duration,
}

/// What all workers and all actors of a system share; see `reference` for how long it lives.
pub(crate) struct Runtime {
    pub(crate) settings: Settings,
    workers: Box<[CachePadded<Worker>]>,
    inject: Shared,
    sleepers: Sleepers,
    homes: homes::Homes,
    sweep: sweep::Armed,
    /// Cores that the process may use.
    cores: usize,
    /// Where threads of the system run that are no workers.
    home: Arc<topology::Cores>,
    /// Actors that have ended; [`Counters::spawned`] less these are alive.
    departed: CachePadded<AtomicU64>,
    /// `System` handles; at zero everything is asked to stop.
    pub(crate) handles: AtomicUsize,
    closing: AtomicBool,
    /// A shutdown came to its deadline: nobody waits again.
    given_up: AtomicBool,
    pub(crate) roots: Children,
    pub(crate) names: Mutex<HashMap<Arc<str>, (std::any::TypeId, CellRef)>>,
    pub(crate) groups: crate::group::Groups,
    pub(crate) dead_letters: OnceLock<DeadLetterHook>,
    pub(crate) counters: Counters,
    /// The figures of metered actors that have ended.
    pub(crate) ended_meters: Mutex<Option<crate::meter::Totals>>,
    /// What turns that no worker runs found waiting.
    pub(crate) depths: Stripes,
    ended: Condvar,
    ended_lock: Mutex<()>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    io: OnceLock<crate::io::Reactor>,
    /// Dedicated threads so far.
    dedicated: AtomicU64,
    /// Present if a test runs the actors instead of workers.
    pub(crate) simulated: Option<Simulated>,
}

/// Totals since the start.
#[derive(Default)]
pub(crate) struct Counters {
    /// Those being made included. Apart from the rest: spawners and workers would fight for the line.
    pub(crate) spawned: CachePadded<AtomicU64>,
    pub(crate) restarts: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) stuck: AtomicU64,
    pub(crate) dead_letters: AtomicU64,
    pub(crate) handled_by_ended: AtomicU64,
}

impl Runtime {
    /// Starts the workers.
    ///
    /// # Errors
    /// A thread could not be started.
    pub(crate) fn start(settings: Settings) -> std::io::Result<&'static Self> {
        let layout = topology::plan(settings.workers, settings.pin, settings.near);
        Self::start_on(settings, layout)
    }

    /// Starts the workers where they are planned to run.
    fn start_on(
        settings: Settings,
        mut layout: topology::Layout,
    ) -> std::io::Result<&'static Self> {
        layout.steals = settings.steal;
        let runtime: &'static Self = Box::leak(Box::new(Self::make(settings, &layout, None)));
        runtime.start_workers(layout.take_claims())?;
        Ok(runtime)
    }

    /// A runtime without workers, whose actors are run by [`Simulated`].
    pub(crate) fn simulated(settings: Settings, simulated: Simulated) -> RuntimeRef {
        debug_assert_eq!(settings.workers, 0);
        let layout = topology::plan(0, settings.pin, settings.near);
        RuntimeRef::counted(Self::make(settings, &layout, Some(simulated)))
    }

    fn make(settings: Settings, layout: &topology::Layout, simulated: Option<Simulated>) -> Self {
        let spin = settings.workers <= layout.cores_available;
        let workers: Box<[_]> = (0..settings.workers)
            .map(|index| CachePadded::new(Worker::new(index, layout, spin)))
            .collect();
        let pins = workers.iter().filter_map(|worker| worker.core);
        let pins = pins.map(|core| core.id).collect();
        Self {
            home: Arc::new(topology::Cores::of_this_thread(pins)),
            workers,
            inject: Shared::new(),
            sleepers: Sleepers::new(settings.workers),
            homes: homes::Homes::new(settings.workers),
            sweep: sweep::Armed::default(),
            cores: layout.cores_available,
            settings,
            departed: CachePadded::new(AtomicU64::new(0)),
            handles: AtomicUsize::new(1),
            closing: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            roots: Children::new(),
            names: Mutex::default(),
            groups: Mutex::default(),
            dead_letters: OnceLock::new(),
            counters: Counters::default(),
            ended_meters: Mutex::new(None),
            depths: Stripes::new(),
            ended: Condvar::new(),
            ended_lock: Mutex::new(()),
            threads: Mutex::default(),
            io: OnceLock::new(),
            dedicated: AtomicU64::new(0),
            simulated,
        }
    }

    /// Of pinned workers each has a claim.
    fn start_workers(&'static self, claims: Vec<claims::Claim>) -> std::io::Result<()> {
        let runtime = self;
        // Not by a worker that sets the first timer: the clock's thread would inherit its pin.
        clock();
        let mut claims = claims.into_iter();
        for index in 0..runtime.workers.len() {
            let claim = claims.next();
            let thread = std::thread::Builder::new()
                .name(format!("{}-{index}", runtime.settings.name))
                .spawn(move || {
                    worker::work(runtime, index);
                    drop(claim);
                });
            match thread {
                Ok(thread) => runtime.lock_threads().push(thread),
                Err(error) => {
                    runtime.close();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn lock_threads(&self) -> std::sync::MutexGuard<'_, Vec<std::thread::JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many workers run.
    pub(crate) fn worker_count(&self) -> usize {
        self.workers.len().max(1)
    }

    /// What each worker's turns found waiting.
    pub(crate) fn depths_of_workers(&self) -> impl Iterator<Item = &Depths> {
        self.workers.iter().map(|worker| &*worker.depths)
    }

    /// The worker of this NUMA node that has least to do; `None` if the node has none.
    pub(crate) fn worker_of_node(&self, node: u32) -> Option<usize> {
        let on_node = |index: &usize| self.workers[*index].node == node;
        let candidates = (0..self.workers.len()).filter(on_node);
        let waiting = |index: usize| self.workers[index].inbox.len();
        self.homes.least_loaded(candidates, waiting)
    }

    /// Where the memory of this worker's actors shall be; a simulation, which has no workers, does not mind.
    pub(crate) fn memory_of(&self, worker: u16) -> Node {
        let worker = self.workers.get(usize::from(worker));
        worker.map_or(Node::NONE, |worker| worker.memory)
    }

    /// The time that restart policies go by: virtual in a simulation.
    pub(crate) fn now(&self) -> Instant {
        self.simulated
            .as_ref()
            .map_or_else(Instant::now, Simulated::now)
    }

    /// Runs a quick job after a delay, by the clock that `now` reads.
    pub(crate) fn after(&self, delay: Duration, job: impl Due) {
        match &self.simulated {
            None => clock().at(later(Instant::now(), delay), job),
            Some(simulated) => simulated.after(delay, job),
        }
    }

    /// So many quick jobs may be wanted by nobody from now on.
    pub(crate) fn note_unwanted(&self, jobs: usize) {
        match &self.simulated {
            _ if jobs == 0 => {}
            None => clock().note_unwanted(jobs),
            Some(simulated) => simulated.clock.note_unwanted(jobs),
        }
    }

    /// Runs one turn of the runnable actor that the simulation chooses; `false` if there is none.
    pub(crate) fn simulate_turn(&self) -> bool {
        let Some(simulated) = &self.simulated else {
            return false;
        };
        let runnable = self.inject.len() as u64;
        if runnable == 0 {
            return false;
        }
        let chosen = simulated.random() % runnable;
        let Some(actor) = self.inject.take_nth(chosen) else {
            return false;
        };
        self.depths.count(0, actor.waiting());
        match here::turn(actor) {
            Outcome::Released => {}
            Outcome::Again => self.inject.push(actor),
            Outcome::Ended => self.actor_ended(actor),
        }
        true
    }

    /// Queues a runnable actor, on this worker if the caller is one, and sees to it that it runs.
    #[inline]
    pub(crate) fn schedule(&self, actor: CellPtr) {
        if !here::schedule_here(self, actor) {
            self.schedule_elsewhere(actor);
        }
    }

    /// [`Runtime::schedule`] for the first turn of a new actor, which is not as urgent as a message from the one that runs.
    #[inline]
    pub(crate) fn schedule_start(&self, actor: CellPtr) {
        if !here::start_here(self, actor) {
            self.schedule_elsewhere(actor);
        }
    }

    #[cold]
    #[inline(never)]
    fn schedule_elsewhere(&self, actor: CellPtr) {
        if actor.home == ANYWHERE || self.workers.is_empty() {
            self.inject.push(actor);
            self.wake_one();
        } else {
            let index = actor.home as usize;
            self.workers[index].inbox.push(actor);
            self.sleepers.wake(index, &self.workers[index]);
        }
    }

    /// Wakes one sleeper, unless somebody is searching already.
    pub(crate) fn wake_one(&self) {
        self.sleepers.wake_any(&self.workers);
    }

    /// Counts a new actor.
    pub(crate) fn actor_made(&self, actor: CellPtr) {
        if actor.home != ANYWHERE {
            self.homes.enter(actor.home);
        }
        self.counters.spawned.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes note that an actor's last turn is over, and releases it.
    pub(crate) fn actor_ended(&self, actor: CellPtr) {
        if actor.home != ANYWHERE {
            self.homes.leave(actor.home);
        }
        // SAFETY: called once by the runner that saw `Outcome::Ended`.
        unsafe { CellRef::release_life(actor) };
        // AcqRel: whoever sees that none is left sees all the actors' work.
        let departed = self.departed.fetch_add(1, Ordering::AcqRel) + 1;
        // An actor that is counted later will come by here itself.
        if departed == self.counters.spawned.load(Ordering::Relaxed) {
            let _guard = self
                .ended_lock
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            self.ended.notify_all();
            if self.is_closing() {
                self.sleepers.wake_all(&self.workers);
            }
        }
    }

    /// Actors that have not ended.
    pub(crate) fn live(&self) -> usize {
        // In this order: an actor that is counted between the two looks alive, so that "none" is never said
        // too early. Acquire pairs with the Release of `actor_ended`.
        let departed = self.departed.load(Ordering::Acquire);
        let spawned = self.counters.spawned.load(Ordering::Relaxed);
        spawned.saturating_sub(departed) as usize
    }

    /// Whether the system no longer wants to live.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// From now on every new actor is stopped at once, and workers leave when none is left.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.sleepers.wake_all(&self.workers);
    }

    /// Gives an order to every top-level actor.
    pub(crate) fn order_all(&self, bits: u32) {
        self.roots.for_each(|actor| actor.order(bits));
    }

    /// Lets every top-level actor, and so every family, handle what is queued and end.
    pub(crate) fn drain_all(&self) {
        self.roots.for_each(CellPtr::drain);
    }

    /// Waits until no actor is alive; `false` at the deadline.
    pub(crate) fn wait_ended(&self, deadline: Instant) -> bool {
        if self.simulated.is_some() {
            while self.simulate_turn() {}
            return self.live() == 0;
        }
        let mut guard = self
            .ended_lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while self.live() > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            guard = self
                .ended
                .wait_timeout(guard, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// Takes note that actors were still running at the deadline of a shutdown.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// After all actors have ended: joins every thread that has no reason to stay, but for the calling one. `false` if at the
    /// deadline work for the tokio runtime still blocks; workers and dedicated threads only have their loops to leave.
    pub(crate) fn join_threads(&self, deadline: Instant) -> bool {
        let threads = std::mem::take(&mut *self.lock_threads());
        let me = std::thread::current().id();
        for thread in threads {
            if thread.thread().id() != me {
                // A worker contains the panics of actors; its own would have aborted the process.
                let _ = thread.join();
            }
        }
        let ended = self.io.get().is_none_or(|io| io.stop(deadline));
        if !ended {
            tracing::warn!(
                system = self.settings.name,
                "a system has ended while work that blocks, or a task that never yields, still runs on its tokio runtime; the \
                 threads are left behind. Such work should look at a `CancelToken`"
            );
        }
        ended
    }

    /// Remembers a thread to be joined at the end.
    pub(crate) fn adopt_thread(&self, thread: std::thread::JoinHandle<()>) {
        let mut threads = self.lock_threads();
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
    }

    /// A number for the name of the next dedicated thread.
    pub(crate) fn next_dedicated(&self) -> u64 {
        self.dedicated.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes the calling thread, which is no worker, off the core of the worker that may have started it. Any other choice
    /// of cores is the user's, and stays.
    pub(crate) fn leave_core(&self) {
        self.home.enter();
    }

    /// The tokio runtime for I/O and timers, started at first use.
    pub(crate) fn io(&self) -> &crate::io::Reactor {
        self.io.get_or_init(|| {
            let home = Arc::clone(&self.home);
            crate::io::Reactor::start(move || home.enter())
        })
    }

    /// Counts a dead letter and tells the hook, if there is one.
    pub(crate) fn dead_letter(&self, letter: impl FnOnce() -> DeadLetter) {
        self.counters.dead_letters.fetch_add(1, Ordering::Relaxed);
        if let Some(hook) = self.dead_letters.get() {
            let letter = letter();
            // A hook is a user's.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| hook.call(&letter))) {
                let panic = ExitReason::from_panic(payload);
                tracing::error!(%panic, "the hook for dead letters failed");
            }
        }
    }
}
