//! Run queues: a bounded local ring with stealing, and an unbounded shared list.
//!
//! Owns: the order of runnable actors. The ring is an array, the list is made of chunks from the slabs: who takes
//! actors knows which come next, and asks for their lines, which other cores wrote, in time.
//! Does not know: what running means.
//! Invariants:
//! 1. An actor enters a queue once and leaves it once (cell invariant 2).
//! 2. Only its worker pushes to a local ring; anybody pops, by compare-exchange on `head`.
//! 3. A ring slot is overwritten only after `head` passed it, so what a taker read before its
//!    successful exchange is what it took. `head` has 64 bits and never comes back to a value.
//!
//! Loom checks that nothing is lost or taken twice: `models.rs`, which compiles this file with stand-ins for actors.
#![allow(unsafe_code)]

use super::{CellPtr, Header, Place, prefetch_header};
use crate::slab;
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, lock};
use crossbeam_utils::CachePadded;
use std::alloc::Layout;
use std::ptr::{NonNull, null_mut};

/// Places of a local ring; few under the model checker.
pub(super) const PLACES: u64 = if cfg!(loom) { 4 } else { 256 };

/// Actors of a chunk: it has 512 bytes.
const CHUNK: usize = if cfg!(loom) { 2 } else { 61 };
/// Actors between the one that is taken and the one whose lines are asked for: about as long as lines take.
const AHEAD: u64 = 2;

/// A worker's own runnable actors, first in, first out.
pub(super) struct Local {
    head: CachePadded<AtomicU64>,
    tail: CachePadded<AtomicU64>,
    places: Box<[Place]>,
}

impl Local {
    pub(super) fn new() -> Self {
        Self {
            head: CachePadded::new(AtomicU64::new(0)),
            tail: CachePadded::new(AtomicU64::new(0)),
            places: (0..PLACES).map(|_| Place::new(null_mut())).collect(),
        }
    }

    fn place(&self, index: u64) -> &Place {
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
        // Relaxed, here and in the exchange: what the place and the actor need comes with the tail, and a `head`
        // that is behind lets the exchange fail.
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // Acquire pairs with the Release of `push`.
            if head >= self.tail.load(Ordering::Acquire) {
                return None;
            }
            let actor = self.place(head).load(Ordering::Relaxed);
            // Release pairs with the Acquire of `push`, which overwrites the place.
            match self.head.compare_exchange_weak(
                head,
                head + 1,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                // SAFETY: queued actors are alive (invariant 1), and this one is now ours.
                Ok(_) => return unsafe { CellPtr::from_ptr(actor) },
                Err(now) => head = now,
            }
        }
    }

    /// Asks for the cell that one of the next calls of [`Local::pop`] may give.
    #[inline]
    pub(super) fn prefetch(&self) {
        let head = self.head.load(Ordering::Relaxed);
        let waiting = self.tail.load(Ordering::Relaxed).saturating_sub(head);
        if waiting > 0 {
            let ahead = head + (waiting - 1).min(AHEAD - 1);
            // The cell may be taken and freed meanwhile, so nothing of it is read.
            prefetch_header(self.place(ahead).load(Ordering::Relaxed));
        }
    }

    /// Moves up to half of the actors into `thief`, whose worker calls this; returns one to run.
    pub(super) fn steal_into(&self, thief: &Local) -> Option<CellPtr> {
        let mut taken = [null_mut::<Header>(); PLACES as usize / 2];
        loop {
            // The orderings are those of `pop`.
            let head = self.head.load(Ordering::Relaxed);
            let waiting = self.tail.load(Ordering::Acquire).saturating_sub(head);
            let free = PLACES - thief.len();
            let count = waiting.div_ceil(2).min(PLACES / 2).min(free);
            if count == 0 {
                return None;
            }
            for index in 0..count {
                taken[index as usize] = self.place(head + index).load(Ordering::Relaxed);
            }
            let won = self.head.compare_exchange(
                head,
                head + count,
                Ordering::Release,
                Ordering::Relaxed,
            );
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
/// Two chains: those who push hold the lock of the first for a few stores; those who take hold the lock of the second,
/// and fetch the whole first chain when theirs is empty.
pub(super) struct Shared {
    length: CachePadded<AtomicUsize>,
    pushed: CachePadded<Mutex<Chain>>,
    ready: CachePadded<Mutex<Chain>>,
}

/// Actors in chunks, none of which is empty.
struct Chain {
    first: *mut Chunk,
    last: *mut Chunk,
}

#[repr(C)]
struct Chunk {
    next: *mut Chunk,
    /// Those not taken are `begin..end`.
    begin: usize,
    end: usize,
    actors: [*mut Header; CHUNK],
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

    fn append(&mut self, actor: CellPtr) {
        // SAFETY: the chain's chunks are its own.
        match unsafe { self.last.as_mut() } {
            Some(last) if last.end < CHUNK => {
                last.actors[last.end] = actor.as_ptr();
                last.end += 1;
            }
            last => {
                let fresh = Chunk::of(actor);
                match last {
                    Some(last) => last.next = fresh,
                    None => self.first = fresh,
                }
                self.last = fresh;
            }
        }
    }

    fn join(&mut self, newer: Self) {
        // SAFETY: the chain's chunks are its own.
        match unsafe { self.last.as_mut() } {
            _ if newer.first.is_null() => {}
            Some(last) => {
                last.next = newer.first;
                self.last = newer.last;
            }
            None => *self = newer,
        }
    }

    fn take_first(&mut self) -> Option<CellPtr> {
        // SAFETY: the chain's chunks are its own.
        let chunk = unsafe { self.first.as_mut() }?;
        let actor = chunk.actors[chunk.begin];
        chunk.begin += 1;
        if chunk.begin == chunk.end {
            self.unlink_after(null_mut());
        }
        // SAFETY: queued actors are alive.
        unsafe { CellPtr::from_ptr(actor) }
    }

    fn take_nth(&mut self, place: u64) -> Option<CellPtr> {
        let mut place = usize::try_from(place).ok()?;
        let mut before = null_mut();
        let mut current = self.first;
        loop {
            // SAFETY: the chain's chunks are its own.
            let chunk = unsafe { current.as_mut() }?;
            let length = chunk.end - chunk.begin;
            if place < length {
                let index = chunk.begin + place;
                let actor = chunk.actors[index];
                chunk.actors.copy_within(index + 1..chunk.end, index);
                chunk.end -= 1;
                if chunk.begin == chunk.end {
                    self.unlink_after(before);
                }
                // SAFETY: queued actors are alive.
                return unsafe { CellPtr::from_ptr(actor) };
            }
            place -= length;
            before = current;
            current = chunk.next;
        }
    }

    /// Removes and frees the chunk that follows `before`, or the first one if that is null.
    fn unlink_after(&mut self, before: *mut Chunk) {
        // SAFETY: the chain's chunks are its own.
        let link = match unsafe { before.as_mut() } {
            Some(before) => &mut before.next,
            None => &mut self.first,
        };
        let Some(chunk) = NonNull::new(*link) else {
            return;
        };
        // SAFETY: as above.
        *link = unsafe { chunk.as_ref() }.next;
        if self.last == chunk.as_ptr() {
            self.last = before;
        }
        // SAFETY: taken in `Chunk::of` with this layout, and unlinked.
        unsafe { slab::give(chunk.cast(), Layout::new::<Chunk>()) };
    }
}

impl Chunk {
    /// A chunk with one actor.
    #[cold]
    fn of(actor: CellPtr) -> *mut Self {
        let chunk = slab::take(Layout::new::<Self>()).cast::<Self>();
        let mut actors = [null_mut(); CHUNK];
        actors[0] = actor.as_ptr();
        // SAFETY: a fresh block of this layout.
        unsafe {
            chunk.write(Self {
                next: null_mut(),
                begin: 0,
                end: 1,
                actors,
            });
        }
        chunk.as_ptr()
    }
}

const _: () = assert!(cfg!(loom) || size_of::<Chunk>() == 512);
