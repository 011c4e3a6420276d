//! The run queues and the sleepers under the model checker.
//!
//! Owns: stand-ins for actors and workers, and the models. The queues and the sleepers are the files that ship.
//! Does not know: what a turn of an actor does.
//!
//! Weakened one at a time, all of these are found: in `Local`, the Acquire and the Release of `push`, the Acquire of the tail in
//! `pop` and in `steal_into`, the Release of their exchanges; both fences of `sleep.rs`.
#![allow(unsafe_code)]

#[path = "queue.rs"]
#[allow(dead_code)]
mod queue;
#[path = "sleep.rs"]
#[allow(dead_code)]
mod sleep;
#[path = "watched.rs"]
mod watched;

use std::ops::Deref;
use std::ptr::NonNull;

use crossbeam_utils::CachePadded;
use loom::sync::Notify;

use self::queue::{Local, PLACES, Shared};
use self::sleep::Sleepers;
use self::watched::{Place, watched};
use crate::sync::{Arc, AtomicBool, AtomicUsize, Ordering, UnsafeCell, thread};

/// Stands for an actor: a count of turns, and a body that belongs to whoever runs it.
struct Header {
    turns: AtomicUsize,
    body: UnsafeCell<()>,
}

#[derive(Clone, Copy)]
struct CellPtr(NonNull<Header>);

// SAFETY: actors may be run by any thread; these are never freed while a model runs.
unsafe impl Send for CellPtr {}

impl CellPtr {
    fn as_ptr(self) -> *mut Header {
        self.0.as_ptr()
    }

    /// # Safety
    /// `ptr` came from `as_ptr`.
    unsafe fn from_ptr(ptr: *mut Header) -> Option<Self> {
        NonNull::new(ptr).map(Self)
    }

    /// A turn. Loom complains if it does not see everything that happened in the body before.
    fn run(self) {
        self.touch();
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes the body, as whoever makes an actor runnable has done just before.
    fn touch(self) {
        self.body.with_mut(|_| ());
    }
}

impl Deref for CellPtr {
    type Target = Header;

    fn deref(&self) -> &Header {
        // SAFETY: made by `Actors::new`, whose owner outlives every pointer.
        unsafe { self.0.as_ref() }
    }
}

fn prefetch_header(_: *mut Header) {}

/// Some actors, each to be taken exactly once.
struct Actors(Vec<Box<Header>>);

impl Actors {
    fn new(count: usize) -> Self {
        let header = || Header {
            turns: AtomicUsize::new(0),
            body: UnsafeCell::new(()),
        };
        Self((0..count).map(|_| Box::new(header())).collect())
    }

    fn get(&self, index: usize) -> CellPtr {
        CellPtr(NonNull::from(&*self.0[index]))
    }

    /// Once everybody has joined.
    fn check(&self) {
        for actor in &self.0 {
            assert_eq!(actor.turns.load(Ordering::Relaxed), 1, "lost or run twice");
        }
    }
}

/// Stands for a worker: it can be woken, and counts how often that happened.
struct Worker {
    notify: Notify,
    wakes: AtomicUsize,
}

impl Worker {
    fn new() -> CachePadded<Self> {
        CachePadded::new(Self {
            notify: Notify::new(),
            wakes: AtomicUsize::new(0),
        })
    }

    fn unpark(&self) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        self.notify.notify();
    }
}

/// A ring whose places were used before, so that indices wrap.
fn used_ring(actors: &Actors) -> Local {
    let ring = Local::new();
    for _ in 0..PLACES - 1 {
        assert!(ring.push(actors.get(0)).is_ok());
        assert!(ring.pop().is_some());
    }
    ring
}

fn run_all(ring: &Local) {
    while let Some(actor) = ring.pop() {
        actor.run();
    }
}

/// Steals from the ring, runs all but the first, which it returns.
fn steal_and_run(ring: &Local) -> Option<CellPtr> {
    let mine = Local::new();
    let first = ring.steal_into(&mine);
    run_all(&mine);
    first
}

#[test]
fn a_thief_and_the_owner_share_what_is_there() {
    loom::model(|| {
        let actors = Arc::new(Actors::new(3));
        let ring = Arc::new(used_ring(&actors));
        assert!(ring.push(actors.get(0)).is_ok());
        assert!(ring.push(actors.get(1)).is_ok());
        let thief = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                if let Some(actor) = steal_and_run(&ring) {
                    actor.run();
                }
            })
        };
        // The owner goes on meanwhile.
        actors.get(2).touch();
        assert!(ring.push(actors.get(2)).is_ok());
        if let Some(actor) = ring.pop() {
            actor.run();
        }
        thief.join().unwrap();
        run_all(&ring);
        actors.check();
    });
}

/// A taker sees all that was done to an actor before it was pushed, whichever way it takes it.
fn the_push_shows_the_actor(take: fn(&Local) -> Option<CellPtr>) {
    loom::model(move || {
        let actors = Arc::new(Actors::new(2));
        let ring = Arc::new(used_ring(&actors));
        let taker = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                if let Some(actor) = take(&ring) {
                    actor.run();
                }
            })
        };
        for index in 0..2 {
            actors.get(index).touch();
            assert!(ring.push(actors.get(index)).is_ok());
        }
        taker.join().unwrap();
        run_all(&ring);
        actors.check();
    });
}

#[test]
fn a_popped_actor_is_seen_as_it_was_pushed() {
    the_push_shows_the_actor(Local::pop);
}

#[test]
fn a_stolen_actor_is_seen_as_it_was_pushed() {
    the_push_shows_the_actor(steal_and_run);
}

#[test]
fn two_thieves_take_nothing_twice() {
    loom::model(|| {
        let actors = Arc::new(Actors::new(3));
        let ring = Arc::new(used_ring(&actors));
        for index in 0..3 {
            assert!(ring.push(actors.get(index)).is_ok());
        }
        let steal = |ring: &Local| {
            if let Some(actor) = steal_and_run(ring) {
                actor.run();
            }
        };
        let thief = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || steal(&ring))
        };
        steal(&ring);
        thief.join().unwrap();
        run_all(&ring);
        actors.check();
    });
}

/// The owner overwrites a place after the taker has read it, not before it has taken it.
fn the_take_frees_the_place(take: fn(&Local) -> Option<CellPtr>) {
    loom::model(move || {
        let count = PLACES as usize + 1;
        let actors = Arc::new(Actors::new(count));
        let ring = Arc::new(watched(Local::new));
        // Shows nothing to anybody, but loom looks at both orders of it; of what the ring does it does not.
        let order = Arc::new(AtomicUsize::new(0));
        for index in 0..count - 1 {
            assert!(ring.push(actors.get(index)).is_ok());
        }
        let taker = {
            let ring = Arc::clone(&ring);
            let order = Arc::clone(&order);
            thread::spawn(move || {
                let taken = take(&ring);
                order.fetch_add(1, Ordering::Relaxed);
                if let Some(actor) = taken {
                    actor.run();
                }
            })
        };
        order.fetch_add(1, Ordering::Relaxed);
        // Full until the taker has been there: then it is handed back.
        if let Err(actor) = ring.push(actors.get(count - 1)) {
            actor.run();
        }
        taker.join().unwrap();
        run_all(&ring);
        actors.check();
    });
}

#[test]
fn a_place_is_reused_only_after_it_was_popped() {
    the_take_frees_the_place(Local::pop);
}

#[test]
fn places_are_reused_only_after_they_were_stolen() {
    the_take_frees_the_place(steal_and_run);
}

#[test]
fn the_shared_list_loses_nothing() {
    loom::model(|| {
        let actors = Arc::new(Actors::new(3));
        let list = Arc::new(Shared::new());
        let writer = {
            let (actors, list) = (Arc::clone(&actors), Arc::clone(&list));
            thread::spawn(move || {
                actors.get(0).touch();
                list.push_all([actors.get(0), actors.get(1)].into_iter());
            })
        };
        let taker = {
            let list = Arc::clone(&list);
            thread::spawn(move || {
                let mine = Local::new();
                if let Some(actor) = list.pop_into(&mine, 1) {
                    actor.run();
                }
                run_all(&mine);
            })
        };
        actors.get(2).touch();
        list.push(actors.get(2));
        writer.join().unwrap();
        taker.join().unwrap();
        while let Some(actor) = list.take_nth(0) {
            actor.run();
        }
        assert!(list.is_empty());
        actors.check();
    });
}

#[test]
fn takers_share_the_shared_list_while_it_grows() {
    loom::model(|| {
        let actors = Arc::new(Actors::new(3));
        let list = Arc::new(Shared::new());
        list.push(actors.get(0));
        list.push(actors.get(1));
        // One fetches what was pushed in order to run the oldest, the other to reach behind it.
        let taker = {
            let list = Arc::clone(&list);
            thread::spawn(move || {
                if let Some(actor) = list.pop() {
                    actor.run();
                }
            })
        };
        let other = {
            let list = Arc::clone(&list);
            thread::spawn(move || {
                if let Some(actor) = list.take_nth(1) {
                    actor.run();
                }
            })
        };
        list.push(actors.get(2));
        taker.join().unwrap();
        other.join().unwrap();
        while let Some(actor) = list.pop() {
            actor.run();
        }
        assert_eq!(list.len(), 0);
        actors.check();
    });
}

/// What the models of sleeping share: the scheduler with everything but the actors' turns left out.
struct Company {
    actors: Actors,
    list: Shared,
    sleepers: Sleepers,
    workers: Box<[CachePadded<Worker>]>,
    closing: AtomicBool,
}

impl Company {
    fn new(actors: usize, workers: usize) -> Arc<Self> {
        Arc::new(Self {
            actors: Actors::new(actors),
            list: Shared::new(),
            sleepers: Sleepers::new(workers),
            workers: (0..workers).map(|_| Worker::new()).collect(),
            closing: AtomicBool::new(false),
        })
    }

    fn schedule(&self, actor: usize) {
        self.list.push(self.actors.get(actor));
        self.sleepers.wake_any(&self.workers);
    }

    fn found_work(&self) {
        if self.sleepers.end_search() {
            self.sleepers.wake_any(&self.workers);
        }
    }

    /// One round of a worker as in `worker.rs`: find, search, sleep.
    fn step(&self, me: usize) {
        if let Some(actor) = self.list.pop() {
            actor.run();
            return;
        }
        self.sleepers.begin_search();
        if let Some(actor) = self.list.pop() {
            self.found_work();
            actor.run();
            return;
        }
        self.sleepers.end_search();
        self.sleepers.lie_down(me);
        while self.sleepers.is_down(me) {
            if !self.list.is_empty() || self.closing.load(Ordering::Acquire) {
                if !self.sleepers.get_up(me) {
                    self.found_work();
                }
                return;
            }
            self.workers[me].notify.wait();
        }
        self.found_work();
    }

    fn work(&self, me: usize) {
        while !self.closing.load(Ordering::Acquire) {
            self.step(me);
        }
    }

    fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.sleepers.wake_all(&self.workers);
    }
}

fn bounded(preemptions: usize) -> loom::model::Builder {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model
}

/// One worker that leaves by itself once it has run the actor: nothing but the push may wake it. If it slept through
/// the push, it would wait for ever, which loom reports as a deadlock.
fn only_the_push_wakes(push: impl Fn(&Company) + Send + Sync + 'static) {
    bounded(3).check(move || {
        let company = Company::new(1, 1);
        let worker = {
            let company = Arc::clone(&company);
            thread::spawn(move || {
                while company.actors.0[0].turns.load(Ordering::Relaxed) == 0 {
                    company.step(0);
                }
            })
        };
        push(&company);
        worker.join().unwrap();
        company.actors.check();
    });
}

#[test]
fn no_push_is_slept_through() {
    only_the_push_wakes(|company| company.schedule(0));
}

#[test]
fn no_push_to_its_inbox_is_slept_through() {
    // As for an actor with a home: this worker is woken, whoever else searches.
    only_the_push_wakes(|company| {
        company.list.push(company.actors.get(0));
        company.sleepers.wake(0, &company.workers[0]);
    });
}

#[test]
fn two_workers_run_an_actor_once_and_leave() {
    bounded(2).check(|| {
        let company = Company::new(1, 2);
        let workers: Vec<_> = (0..2)
            .map(|me| {
                let company = Arc::clone(&company);
                thread::spawn(move || company.work(me))
            })
            .collect();
        company.schedule(0);
        company.close();
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        while let Some(actor) = company.list.pop() {
            actor.run();
        }
        company.actors.check();
    });
}

#[test]
fn a_push_wakes_one_sleeper_and_nobody_twice() {
    loom::model(|| {
        let company = Company::new(2, 2);
        company.sleepers.lie_down(0);
        company.sleepers.lie_down(1);
        let other = {
            let company = Arc::clone(&company);
            thread::spawn(move || company.schedule(1))
        };
        company.schedule(0);
        other.join().unwrap();
        let wakes: Vec<_> = company
            .workers
            .iter()
            .map(|worker| worker.wakes.load(Ordering::Relaxed))
            .collect();
        // Two pushes: one wake-up, or two if neither saw the other's sleeper searching; never two of one sleeper.
        let woken: usize = wakes.iter().sum();
        assert!((1..=2).contains(&woken), "{wakes:?}");
        assert!(wakes.iter().all(|wakes| *wakes <= 1), "{wakes:?}");
        assert_eq!(company.sleepers.asleep(), 2 - woken);
        while let Some(actor) = company.list.pop() {
            actor.run();
        }
    });
}
