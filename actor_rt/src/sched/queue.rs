//! Run queues: a bounded local ring with stealing, and an unbounded shared list.
//!
//! Owns: the order of runnable actors. Neither queue allocates: the ring is an array, the list runs
//! through the actors' own links.
//! Does not know: what running means.
//! Invariants:
//! 1. An actor enters a queue once and leaves it once (cell invariant 2).
//! 2. Only its worker pushes to a local ring; anybody pops, by compare-exchange on `head`.
//! 3. A ring slot is overwritten only after `head` passed it, so what a taker read before its
//!    successful exchange is what it took. `head` has 64 bits and never comes back to a value.
//!
//! Loom checks that nothing is lost or taken twice: `models.rs`, which compiles this file with stand-ins for actors.
#![allow(unsafe_code)]

use super::{CellPtr, Header, prefetch_header};
use crate::sync::{AtomicPtr, AtomicU64, AtomicUsize, Mutex, Ordering, lock};
use crossbeam_utils::CachePadded;
use std::ptr::null_mut;

/// Places of a local ring; few under the model checker.
pub(super) const PLACES: u64 = if cfg!(loom) { 4 } else { 256 };

/// A worker's own runnable actors, first in, first out.
pub(super) struct Local {
    head: CachePadded<AtomicU64>,
    tail: CachePadded<AtomicU64>,
    places: Box<[AtomicPtr<Header>]>,
}

impl Local {
    pub(super) fn new() -> Self {
        Self {
            head: CachePadded::new(AtomicU64::new(0)),
            tail: CachePadded::new(AtomicU64::new(0)),
            places: (0..PLACES).map(|_| AtomicPtr::new(null_mut())).collect(),
        }
    }

    fn place(&self, index: u64) -> &AtomicPtr<Header> {
        &self.places[(index % PLACES) as usize]
    }

    /// Actors in the ring, at some recent time.
    pub(super) fn len(&self) -> u64 {
        let head = self.head.load(Ordering::Acquire);
        self.tail.load(Ordering::Acquire).saturating_sub(head)
    }

    /// Worker only: appends, or hands back when full.
    pub(super) fn push(&self, actor: CellPtr) -> Result<(), CellPtr> {
        let tail = self.tail.load(Ordering::Relaxed);
        // Acquire pairs with the Release of a taker's exchange: it has read the place.
        if tail - self.head.load(Ordering::Acquire) >= PLACES {
            return Err(actor);
        }
        self.place(tail).store(actor.as_ptr(), Ordering::Relaxed);
        // Release pairs with the Acquire of takers: they see the place and the actor.
        self.tail.store(tail + 1, Ordering::Release);
        Ok(())
    }

    /// Anybody: takes the oldest.
    pub(super) fn pop(&self) -> Option<CellPtr> {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            if head >= self.tail.load(Ordering::Acquire) {
                return None;
            }
            let actor = self.place(head).load(Ordering::Relaxed);
            match self.head.compare_exchange_weak(
                head,
                head + 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                // SAFETY: queued actors are alive (invariant 1), and this one is now ours.
                Ok(_) => return unsafe { CellPtr::from_ptr(actor) },
                Err(now) => head = now,
            }
        }
    }

    /// Asks for the cell that the next [`Local::pop`] may give.
    #[inline]
    pub(super) fn prefetch_first(&self) {
        let head = self.head.load(Ordering::Relaxed);
        if head < self.tail.load(Ordering::Relaxed) {
            let actor = self.place(head).load(Ordering::Relaxed);
            // The cell may be taken and freed meanwhile, so nothing of it is read.
            prefetch_header(actor);
        }
    }

    /// Moves up to half of the actors into `thief`, whose worker calls this; returns one to run.
    pub(super) fn steal_into(&self, thief: &Local) -> Option<CellPtr> {
        let mut taken = [null_mut::<Header>(); PLACES as usize / 2];
        loop {
            let head = self.head.load(Ordering::Acquire);
            let waiting = self.tail.load(Ordering::Acquire).saturating_sub(head);
            let free = PLACES - thief.len();
            let count = waiting.div_ceil(2).min(PLACES / 2).min(free);
            if count == 0 {
                return None;
            }
            for index in 0..count {
                taken[index as usize] = self.place(head + index).load(Ordering::Relaxed);
            }
            let won =
                self.head
                    .compare_exchange(head, head + count, Ordering::AcqRel, Ordering::Relaxed);
            if won.is_err() {
                continue;
            }
            for &actor in &taken[1..count as usize] {
                // SAFETY: invariants 1 and 3: these are alive and ours.
                if let Some(actor) = unsafe { CellPtr::from_ptr(actor) } {
                    let pushed = thief.push(actor);
                    debug_assert!(
                        pushed.is_ok(),
                        "the thief's ring had room and only it pushes"
                    );
                }
            }
            // SAFETY: as above.
            return unsafe { CellPtr::from_ptr(taken[0]) };
        }
    }
}

/// Runnable actors for whoever is free, first in, first out.
///
/// Two chains: those who push hold the lock of the first for three stores; those who take, and who look at
/// many cells that another core wrote, hold the lock of the second, and fetch the whole first chain when
/// theirs is empty.
pub(super) struct Shared {
    length: CachePadded<AtomicUsize>,
    pushed: CachePadded<Mutex<Chain>>,
    ready: CachePadded<Mutex<Chain>>,
}

/// Actors linked through their headers.
struct Chain {
    first: *mut Header,
    last: *mut Header,
}

// SAFETY: queued actors are alive and may be run by any thread.
unsafe impl Send for Chain {}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            length: CachePadded::new(AtomicUsize::new(0)),
            pushed: CachePadded::new(Mutex::new(Chain::EMPTY)),
            ready: CachePadded::new(Mutex::new(Chain::EMPTY)),
        }
    }

    /// Whether there was nothing, at some recent time.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.length.load(Ordering::Acquire) == 0
    }

    /// How many there were, at some recent time.
    pub(super) fn len(&self) -> usize {
        self.length.load(Ordering::Acquire)
    }

    pub(super) fn push(&self, actor: CellPtr) {
        // Before the lock: the cell may still be in another core's cache.
        actor.next.store(null_mut(), Ordering::Relaxed);
        let mut pushed = lock(&self.pushed);
        pushed.append(actor);
        // Under the lock, so that the length never falls behind what is taken.
        self.length.fetch_add(1, Ordering::Release);
    }

    /// Appends many under one lock.
    pub(super) fn push_all(&self, actors: impl Iterator<Item = CellPtr>) {
        let mut pushed = lock(&self.pushed);
        let mut count = 0;
        for actor in actors {
            actor.next.store(null_mut(), Ordering::Relaxed);
            pushed.append(actor);
            count += 1;
        }
        self.length.fetch_add(count, Ordering::Release);
    }

    pub(super) fn pop(&self) -> Option<CellPtr> {
        if self.is_empty() {
            return None;
        }
        let mut ready = lock(&self.ready);
        let actor = self.take_first(&mut ready)?;
        self.length.fetch_sub(1, Ordering::Release);
        Some(actor)
    }

    /// Takes the actor at this place of the line.
    pub(super) fn take_nth(&self, place: u64) -> Option<CellPtr> {
        let mut ready = lock(&self.ready);
        let newer = std::mem::replace(&mut *lock(&self.pushed), Chain::EMPTY);
        ready.join(newer);
        let actor = ready.take_nth(place)?;
        self.length.fetch_sub(1, Ordering::Release);
        Some(actor)
    }

    /// Takes one to run and moves up to `more` into the ring of the calling worker.
    pub(super) fn pop_into(&self, ring: &Local, more: u64) -> Option<CellPtr> {
        if self.is_empty() {
            return None;
        }
        let mut ready = lock(&self.ready);
        let first = self.take_first(&mut ready)?;
        let mut moved = 1;
        while moved <= more.min(PLACES - 1 - ring.len()) as usize {
            let Some(actor) = self.take_first(&mut ready) else {
                break;
            };
            moved += 1;
            let pushed = ring.push(actor);
            debug_assert!(
                pushed.is_ok(),
                "the ring had room and only its worker pushes"
            );
        }
        self.length.fetch_sub(moved, Ordering::Release);
        Some(first)
    }

    /// The oldest of all, for whoever holds the lock of `ready`.
    fn take_first(&self, ready: &mut Chain) -> Option<CellPtr> {
        if ready.first.is_null() {
            *ready = std::mem::replace(&mut *lock(&self.pushed), Chain::EMPTY);
        }
        ready.take_first()
    }
}

impl Chain {
    const EMPTY: Self = Self {
        first: null_mut(),
        last: null_mut(),
    };

    /// Appends an actor whose link is null.
    fn append(&mut self, actor: CellPtr) {
        // SAFETY: queued actors are alive; the link is ours under the lock.
        match unsafe { CellPtr::from_ptr(self.last) } {
            Some(last) => last.next.store(actor.as_ptr(), Ordering::Relaxed),
            None => self.first = actor.as_ptr(),
        }
        self.last = actor.as_ptr();
    }

    fn join(&mut self, newer: Self) {
        // SAFETY: as above.
        match unsafe { CellPtr::from_ptr(self.last) } {
            _ if newer.first.is_null() => {}
            Some(last) => {
                last.next.store(newer.first, Ordering::Relaxed);
                self.last = newer.last;
            }
            None => *self = newer,
        }
    }

    fn take_first(&mut self) -> Option<CellPtr> {
        // SAFETY: queued actors are alive.
        let first = unsafe { CellPtr::from_ptr(self.first) }?;
        self.first = first.next.load(Ordering::Relaxed);
        if self.first.is_null() {
            self.last = null_mut();
        }
        Some(first)
    }

    fn take_nth(&mut self, place: u64) -> Option<CellPtr> {
        let mut before: Option<CellPtr> = None;
        // SAFETY: queued actors are alive; the links are ours under the lock.
        let mut actor = unsafe { CellPtr::from_ptr(self.first) }?;
        for _ in 0..place {
            before = Some(actor);
            // SAFETY: as above.
            actor = unsafe { CellPtr::from_ptr(actor.next.load(Ordering::Relaxed)) }?;
        }
        let after = actor.next.load(Ordering::Relaxed);
        match before {
            Some(before) => before.next.store(after, Ordering::Relaxed),
            None => self.first = after,
        }
        if after.is_null() {
            self.last = before.map_or(null_mut(), CellPtr::as_ptr);
        }
        Some(actor)
    }
}
