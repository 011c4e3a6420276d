//! One worker: a thread that runs actors.
//!
//! Owns: the worker's queues, its loop.
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
use super::sweep;
use super::topology::Layout;
use crate::cell::{ANYWHERE, CellPtr, Header, Outcome, credit};
use crate::depths::Depths;
use crate::slab;
use crossbeam_utils::CachePadded;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
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
    /// What its turns found waiting.
    pub(super) depths: CachePadded<Depths>,
    thread: OnceLock<std::thread::Thread>,
    pub(super) core: Option<core_affinity::CoreId>,
    pub(super) node: u32,
    /// Where what its actors work with shall be.
    pub(super) memory: slab::Node,
    /// The others, nearest first.
    victims: Box<[usize]>,
    /// Whether there is a core to spin on.
    pub(super) spin: bool,
}

/// Another worker's turn count and next slot, at some time.
type Glimpse = (u64, *mut Header);

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
            depths: CachePadded::new(Depths::new()),
            thread: OnceLock::new(),
            core: layout.core_of(index),
            node: layout.node_of(index),
            memory: layout.memory_of(index),
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
    pub(super) fn begin_turn(&self) {
        self.turns.store(self.turns() + 1, Ordering::Relaxed);
    }

    pub(super) fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    #[inline]
    pub(super) fn push_next(&self, runtime: &Runtime, actor: CellPtr) -> bool {
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
    pub(super) fn push_new(&self, runtime: &Runtime, actor: CellPtr) -> bool {
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
    slab::settle(worker.memory);
    super::here::enter(runtime, worker, || {
        credit::set_open(true);
        work_loop(runtime, worker);
        credit::set_open(false);
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
    worker.depths.count(actor.waiting());
    let outcome = super::here::turn(actor);
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

/// Sleeps a while at a time as long as somebody works, and finds the actor that is stuck behind a long handler. `None` when
/// the worker was woken, or there is nobody to watch.
fn watch(runtime: &Runtime, worker: &Worker, seen: &mut Vec<Glimpse>) -> Option<CellPtr> {
    let sleepers = &runtime.sleepers;
    let mut found = None;
    while found.is_none()
        && sleepers.is_down(worker.index)
        && sleepers.asleep() < runtime.workers.len()
    {
        glance(runtime, worker, seen);
        std::thread::park_timeout(WATCH);
        if sleepers.is_down(worker.index) {
            found = search_others(runtime, worker, Some(seen));
        }
    }
    sleepers.end_watch();
    sleepers.hand_watch_on(worker.index, &runtime.workers);
    found
}

/// A sleeper that found something itself; others may have to look for more, as after `found_work`.
fn get_up(runtime: &Runtime, worker: &Worker) {
    let sleepers = &runtime.sleepers;
    if !sleepers.get_up(worker.index) {
        found_work(runtime);
    } else if sleepers.nobody_watches() {
        runtime.wake_one();
    }
}

fn sleep(runtime: &'static Runtime, worker: &Worker, seen: &mut Vec<Glimpse>) -> Option<CellPtr> {
    let sleepers = &runtime.sleepers;
    worker.distance.rest();
    sleepers.lie_down(worker.index);
    let leave = || work_anywhere(runtime, worker) || (runtime.is_closing() && runtime.live() == 0);
    while sleepers.is_down(worker.index) {
        if leave() {
            get_up(runtime, worker);
            return None;
        }
        if sleepers.asleep() == runtime.workers.len() {
            sweep::arm(runtime);
            std::thread::park();
        } else if !sleepers.begin_watch(worker.index) {
            std::thread::park();
        } else if let Some(actor) = watch(runtime, worker, seen) {
            get_up(runtime, worker);
            return Some(actor);
        }
    }
    // Woken: we count as searching.
    let found = search_others(runtime, worker, None);
    found_work(runtime);
    found
}
