//! One worker: a thread that runs actors.
//!
//! Owns: the worker's queues, its loop, the thread-local that tells senders where they are.
//! Does not know: what a turn does.
//!
//! Where a runnable actor goes: one that is woken by the actor now running goes into the *next* slot
//! (its message is hot in the cache); whatever was there, every new actor and every actor that used up its
//! turn goes to the back of the local ring; what does not fit goes to the shared list. The slot is skipped after
//! `NEXT_CAP` uses in a row if others wait, and a thief may take it when it has not moved for a while.
#![allow(unsafe_code)]

use super::Runtime;
use super::queue::{Local, PLACES, Shared};
use super::share::{Distance, take_shared};
use super::simulated::Simulated;
use super::sweep;
use super::topology::Layout;
use crate::cell::{ANYWHERE, CellPtr, Header, Outcome, control, credit};
use std::cell::Cell;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

/// Uses of the next slot in a row while others wait.
const NEXT_CAP: u32 = 64;
/// Turns between looks at the shared list and at what only this worker may run, and for how many of them one counts after which
/// the actor had more to do.
const LOOK_EVERY: u32 = 61;
const LONG_TURN: u32 = 12;
/// Rounds of looking before parking, where there is a core to spin on.
const SPIN_ROUNDS: u32 = 30;
/// How long a worker sleeps at most while others work: bounds how long an actor can sit in the next
/// slot of a worker whose current handler does not return.
const WATCH: Duration = Duration::from_micros(500);

pub(super) struct Worker {
    pub(super) index: usize,
    /// The actor to run next: pushed by the owner, taken by anybody.
    next: AtomicPtr<Header>,
    pub(super) local: Local,
    /// Actors that only this worker may run.
    pub(super) inbox: Shared,
    /// Turns so far: thieves use it to see that the worker is stuck in one.
    turns: AtomicU64,
    pub(super) distance: Distance,
    /// How many of its next waits for a message begin by giving the core away.
    pub(super) yields_first: AtomicU32,
    /// The actor whose turn it is, null between turns: for the watchdog, who only compares it.
    running: AtomicPtr<Header>,
    thread: OnceLock<std::thread::Thread>,
    pub(super) core: Option<core_affinity::CoreId>,
    pub(super) node: u32,
    /// The others, nearest first.
    victims: Box<[usize]>,
    /// Whether there is a core to spin on.
    pub(super) spin: bool,
}

/// Another worker's turn count and next slot, at some time.
type Glimpse = (u64, *mut Header);

/// What a worker's thread knows about itself.
struct Here {
    runtime: Cell<*const Runtime>,
    worker: Cell<*const Worker>,
    /// The actor whose turn it is.
    running: Cell<*mut Header>,
}

thread_local! {
    static HERE: Here = const { Here { runtime: Cell::new(null()), worker: Cell::new(null()), running: Cell::new(null_mut()) } };
}

/// Whether the calling thread is a worker, of any system.
#[inline]
pub(crate) fn is_worker() -> bool {
    HERE.try_with(|here| !here.worker.get().is_null())
        .unwrap_or(false)
}

/// A waker of the actor that runs on the calling thread, if it is one that awaits.
#[inline]
pub(crate) fn waker_of_running() -> Option<Waker> {
    let running = HERE.try_with(|here| here.running.get()).ok()?;
    // SAFETY: set while the actor's turn lasts, on this very thread.
    let actor = unsafe { CellPtr::from_ptr(running) }?;
    actor.table.awaits.then(|| actor.waker())
}

/// What takes the place of the clock where an actor of a simulation runs on the calling thread.
#[cold]
pub(crate) fn simulated_here() -> Option<&'static Simulated> {
    let running = HERE.try_with(|here| here.running.get()).ok()?;
    // SAFETY: as above.
    let actor = unsafe { CellPtr::from_ptr(running) }?;
    actor.runtime.simulated.as_ref()
}

/// Runs one turn of an actor that the caller has dequeued.
#[inline]
pub(super) fn turn(actor: CellPtr) -> Outcome {
    HERE.with(|here| {
        here.running.set(actor.as_ptr());
        // SAFETY: whoever dequeues an actor owns it.
        let outcome = unsafe { (actor.table.run)(actor) };
        here.running.set(null_mut());
        outcome
    })
}

/// Waits a while for the next message of the actor that runs on the calling worker; see `linger`. `None` at
/// once where the caller is no worker, or the sender may need the worker's core.
#[inline]
pub(crate) fn linger(
    actor: CellPtr,
    ready: impl FnMut() -> bool,
    called: impl FnMut() -> bool,
) -> Option<u32> {
    let runtime = actor.runtime;
    let patience = runtime.settings.linger;
    HERE.try_with(|here| {
        if patience.is_zero() || !std::ptr::eq(here.runtime.get(), runtime) {
            return None;
        }
        // SAFETY: set by `work` for as long as the worker's loop runs on this thread.
        let worker = unsafe { &*here.worker.get() };
        if !super::linger::may_linger(runtime, actor.home != ANYWHERE) {
            return None;
        }
        let came = super::linger::linger(runtime, worker, patience, ready, called);
        if came.is_some() {
            // As good as a new turn: the handler did return.
            worker.begin_turn();
        }
        came
    })
    .unwrap_or(None)
}

/// Ends the turn of the actor that runs on the calling worker after its current message: it met a full
/// mailbox, and whoever is to empty it may need this worker.
#[cold]
pub(crate) fn yield_turn() {
    let running = HERE
        .try_with(|here| here.running.get())
        .unwrap_or(null_mut());
    // SAFETY: set while the actor's turn lasts, on this very thread.
    if let Some(actor) = unsafe { CellPtr::from_ptr(running) } {
        actor.control.fetch_or(control::YIELD, Ordering::Relaxed);
    }
}

/// Queues the actor on the calling worker; `false` if the caller is none, or not the right one.
#[inline]
pub(super) fn schedule_here(runtime: &Runtime, actor: CellPtr) -> bool {
    on_worker(runtime, |worker| worker.push_next(runtime, actor))
}

/// Queues a new actor on the calling worker; `false` as above.
#[inline]
pub(super) fn start_here(runtime: &Runtime, actor: CellPtr) -> bool {
    on_worker(runtime, |worker| worker.push_new(runtime, actor))
}

/// What `queue` says of the calling worker; `false` if the caller is none of this system.
#[inline]
fn on_worker(runtime: &Runtime, queue: impl FnOnce(&Worker) -> bool) -> bool {
    HERE.try_with(|here| {
        if !std::ptr::eq(here.runtime.get(), runtime) {
            return false;
        }
        // SAFETY: set by `work` for as long as the worker's loop runs on this thread.
        queue(unsafe { &*here.worker.get() })
    })
    .unwrap_or(false)
}

impl Worker {
    pub(super) fn new(index: usize, layout: &Layout, spin: bool) -> Self {
        Self {
            index,
            next: AtomicPtr::new(null_mut()),
            local: Local::new(),
            inbox: Shared::new(),
            turns: AtomicU64::new(0),
            distance: Distance::new(),
            yields_first: AtomicU32::new(0),
            running: AtomicPtr::new(null_mut()),
            thread: OnceLock::new(),
            core: layout.core_of(index),
            node: layout.node_of(index),
            victims: layout.victims_of(index),
            spin,
        }
    }

    /// Where the actor is whose turn it is; zero between turns.
    pub(super) fn running(&self) -> usize {
        // Acquire pairs with the Release of `run`: who sees an actor sees the number of its turn.
        self.running.load(Ordering::Acquire).addr()
    }

    /// The number of the turn that runs, or was the last to run.
    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Counts a turn. The worker's own.
    #[inline]
    fn begin_turn(&self) {
        self.turns.store(self.turns() + 1, Ordering::Relaxed);
    }

    pub(super) fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    #[inline]
    fn push_next(&self, runtime: &Runtime, actor: CellPtr) -> bool {
        actor.prefetch();
        if actor.home != ANYWHERE {
            if actor.home as usize != self.index {
                return false;
            }
            self.inbox.push(actor);
            return true;
        }
        // Release pairs with the Acquire of whoever takes it. Only we push, so an empty slot stays
        // empty until we store.
        if self.next.load(Ordering::Relaxed).is_null() {
            self.next.store(actor.as_ptr(), Ordering::Release);
            if runtime.sleepers.nobody_watches() {
                runtime.wake_one();
            }
            return true;
        }
        let older = self.next.swap(actor.as_ptr(), Ordering::AcqRel);
        // SAFETY: queued actors are alive, and the swap made it ours.
        if let Some(older) = unsafe { CellPtr::from_ptr(older) } {
            self.push_back(runtime, older);
            self.call_help(runtime);
        }
        true
    }

    /// A new actor goes behind those that wait.
    #[inline]
    fn push_new(&self, runtime: &Runtime, actor: CellPtr) -> bool {
        if actor.home != ANYWHERE {
            return self.push_next(runtime, actor);
        }
        self.push_back(runtime, actor);
        self.call_help(runtime);
        true
    }

    /// Wakes a sleeper, if there is one, for what this worker has queued. Without the fence of scheduler invariant 1: this
    /// worker is awake and comes to it in any case, and a sleeper that is missed while it lies down watches.
    #[inline]
    fn call_help(&self, runtime: &Runtime) {
        if runtime.sleepers.asleep() > 0 {
            runtime.wake_one();
        }
    }

    /// Appends to the ring, half of which moves to the shared list when it is full.
    fn push_back(&self, runtime: &Runtime, actor: CellPtr) {
        if let Err(actor) = self.local.push(actor) {
            let spill = (0..PLACES / 2)
                .map_while(|_| self.local.pop())
                .chain(Some(actor));
            runtime.inject.push_all(spill);
        }
    }

    #[inline]
    fn take_next(&self) -> Option<CellPtr> {
        if self.next.load(Ordering::Relaxed).is_null() {
            return None;
        }
        // Acquire pairs with the Release of `push_next`.
        let actor = self.next.swap(null_mut(), Ordering::AcqRel);
        // SAFETY: queued actors are alive, and the swap made it ours.
        unsafe { CellPtr::from_ptr(actor) }
    }

    /// The oldest of the ring, while the cells of those that follow are fetched.
    #[inline]
    fn pop_local(&self) -> Option<CellPtr> {
        let actor = self.local.pop()?;
        self.local.prefetch();
        Some(actor)
    }

    pub(super) fn has_work(&self) -> bool {
        !self.next.load(Ordering::Relaxed).is_null()
            || self.local.len() > 0
            || !self.inbox.is_empty()
    }
}

/// The worker's loop, until the system is closing and no actor is left.
pub(super) fn work(runtime: &'static Runtime, index: usize) {
    let worker: &Worker = &runtime.workers[index];
    // Set once: each worker has one thread.
    let _ = worker.thread.set(std::thread::current());
    super::mark_thread();
    if let Some(core) = worker.core {
        super::topology::pin(core);
    }
    HERE.with(|here| {
        here.runtime.set(runtime);
        here.worker.set(worker);
        credit::set_open(true);
        work_loop(runtime, worker);
        credit::set_open(false);
        here.runtime.set(null());
        here.worker.set(null());
    });
}

fn work_loop(runtime: &'static Runtime, worker: &Worker) {
    let mut in_a_row = 0;
    let mut look_in = LOOK_EVERY;
    let mut looks_at_inbox = false;
    let mut seen = Vec::with_capacity(worker.victims.len());
    loop {
        worker.begin_turn();
        let mut urgent = None;
        if look_in == 0 {
            look_in = LOOK_EVERY;
            // By turns, so that neither starves the other.
            looks_at_inbox = !looks_at_inbox;
            urgent = if looks_at_inbox {
                worker.inbox.pop().or_else(|| runtime.inject.pop())
            } else {
                runtime.inject.pop().or_else(|| worker.inbox.pop())
            };
        }
        let actor = urgent
            .or_else(|| find(runtime, worker, &mut in_a_row))
            .or_else(|| search(runtime, worker, &mut seen));
        match actor {
            Some(actor) => {
                let turns = if run(runtime, worker, actor) {
                    LONG_TURN
                } else {
                    1
                };
                look_in = look_in.saturating_sub(turns);
            }
            None if runtime.is_closing() && runtime.live() == 0 => return,
            None => {}
        }
    }
}

#[inline]
fn find(runtime: &Runtime, worker: &Worker, in_a_row: &mut u32) -> Option<CellPtr> {
    if *in_a_row < NEXT_CAP
        && let Some(actor) = worker.take_next()
    {
        *in_a_row += 1;
        return Some(actor);
    }
    *in_a_row = 0;
    worker
        .pop_local()
        .or_else(|| worker.inbox.pop())
        .or_else(|| worker.take_next())
        .or_else(|| take_shared(runtime, worker))
}

/// Runs one turn; whether the actor had more to do.
#[inline]
fn run(runtime: &Runtime, worker: &Worker, actor: CellPtr) -> bool {
    worker.running.store(actor.as_ptr(), Ordering::Release);
    let outcome = turn(actor);
    worker.running.store(null_mut(), Ordering::Relaxed);
    match outcome {
        Outcome::Released => {}
        Outcome::Again => {
            if actor.home == ANYWHERE {
                worker.push_back(runtime, actor);
                if runtime.sleepers.asleep() > 0
                    && (worker.local.len() > 1 || !worker.next.load(Ordering::Relaxed).is_null())
                {
                    runtime.wake_one();
                }
            } else {
                worker.inbox.push(actor);
            }
        }
        Outcome::Ended => runtime.actor_ended(actor),
    }
    outcome == Outcome::Again
}

/// Looks everywhere, spins a little, then sleeps. `None` after having slept.
#[cold]
#[inline(never)]
fn search(runtime: &'static Runtime, worker: &Worker, seen: &mut Vec<Glimpse>) -> Option<CellPtr> {
    credit::settle();
    runtime.sleepers.begin_search();
    let found = search_others(runtime, worker, None);
    if found.is_some() {
        found_work(runtime);
        return found;
    }
    runtime.sleepers.end_search();
    sleep(runtime, worker, seen)
}

/// A searcher found something: if there may be more, somebody else should look.
fn found_work(runtime: &Runtime) {
    if runtime.sleepers.end_search() {
        runtime.wake_one();
    }
}

fn search_others(runtime: &Runtime, worker: &Worker, stuck: Option<&[Glimpse]>) -> Option<CellPtr> {
    let rounds = if worker.spin { SPIN_ROUNDS } else { 1 };
    for _ in 0..rounds {
        if let Some(actor) = worker.inbox.pop().or_else(|| worker.take_next()) {
            return Some(actor);
        }
        if let Some(actor) = take_shared(runtime, worker) {
            return Some(actor);
        }
        for &victim in &worker.victims {
            if let Some(actor) = runtime.workers[victim].local.steal_into(&worker.local) {
                return Some(actor);
            }
        }
        std::hint::spin_loop();
    }
    // An actor in the next slot of a worker that made no turn since we last looked.
    for (&victim, &(turns, waiting)) in worker.victims.iter().zip(stuck?) {
        let victim = &runtime.workers[victim];
        if !waiting.is_null()
            && victim.turns.load(Ordering::Relaxed) == turns
            && victim.next.load(Ordering::Relaxed) == waiting
            && let Some(actor) = victim.take_next()
        {
            return Some(actor);
        }
    }
    None
}

/// Remembers where the others stand.
fn glance(runtime: &Runtime, worker: &Worker, seen: &mut Vec<Glimpse>) {
    seen.clear();
    seen.extend(worker.victims.iter().map(|&victim| {
        let victim = &runtime.workers[victim];
        (
            victim.turns.load(Ordering::Relaxed),
            victim.next.load(Ordering::Relaxed),
        )
    }));
}

pub(super) fn work_anywhere(runtime: &Runtime, worker: &Worker) -> bool {
    worker.has_work()
        || !runtime.inject.is_empty()
        || worker
            .victims
            .iter()
            .any(|&victim| runtime.workers[victim].local.len() > 0)
}

fn sleep(runtime: &'static Runtime, worker: &Worker, seen: &mut Vec<Glimpse>) -> Option<CellPtr> {
    let sleepers = &runtime.sleepers;
    worker.distance.rest();
    sleepers.lie_down(worker.index);
    let leave = || work_anywhere(runtime, worker) || (runtime.is_closing() && runtime.live() == 0);
    while sleepers.is_down(worker.index) {
        if leave() {
            if !sleepers.get_up(worker.index) {
                found_work(runtime);
            }
            return None;
        }
        if sleepers.asleep() == runtime.workers.len() {
            sweep::arm(runtime);
            std::thread::park();
            continue;
        }
        // Somebody works: watch for an actor stuck behind a long handler.
        glance(runtime, worker, seen);
        sleepers.watch(WATCH);
        if sleepers.is_down(worker.index)
            && let Some(actor) = search_others(runtime, worker, Some(seen))
        {
            if !sleepers.get_up(worker.index) {
                found_work(runtime);
            }
            return Some(actor);
        }
    }
    // Woken: we count as searching.
    let found = search_others(runtime, worker, None);
    found_work(runtime);
    found
}
