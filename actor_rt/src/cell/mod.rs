//! The actor cell: one allocation that holds an actor's header, mailbox halves and body.
//!
//! Owns: reference counts and what is in a header; the family list and the exit news have files of their
//! own. `CellRef` is the counted reference behind every `ActorRef`.
//! Does not know: what kind of actor the body is; it calls through a table of functions.
//! Invariants:
//! 1. `refs` counts every `CellRef`, plus one for the actor being alive, released by whoever runs it
//!    to its end. The cell is freed at zero, so an actor that is not idle may be touched by its runner.
//! 2. An actor is in at most one queue, once: only the one who took the scheduling edge (mailbox rule
//!    2, or parking rule 2) queues it.
#![allow(unsafe_code)]

mod children;
pub(crate) mod control;
pub(crate) mod credit;
mod news;
mod table;
mod waker;

#[cfg(test)]
pub(crate) use children::LOOKS;
use children::Siblings;
pub(crate) use children::{Chain, Children};
pub(crate) use news::EndTicket;
pub use news::Monitor;
use news::News;
pub(crate) use table::{Outcome, Table};

use crate::mailbox::{Front, Mailbox};
use crate::meter::Meter;
use crate::overflow::Overflow;
use crate::parking::Parking;
use crate::prefetch;
use crate::restart::{Intensity, Strategy};
use crate::sched::{RuntimeRef, Simulated};
use crate::slab;
use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
use std::sync::{Arc, Mutex};

/// The lines of a cell where the body begins: phase, and the state of a small actor.
const BODY_LINES: [usize; 2] = [3, 4];

/// Runs wherever a worker is free.
pub(crate) const ANYWHERE: u16 = u16::MAX;

/// Asks for the lines of a cell that its header says nothing about, because it may be gone.
#[inline]
pub(crate) fn prefetch_header(cell: *const Header) {
    // The smallest cell has four lines.
    for line in [0, 1, 3] {
        prefetch::for_write(cell.cast::<u8>().wrapping_add(line * 64));
    }
}

/// Everything about an actor that does not depend on its type. The slab aligns cells to cache lines; the
/// header itself does not ask for it, so that the body follows without a gap.
#[repr(C)]
pub(crate) struct Header {
    // First line: senders.
    front: Front,
    refs: AtomicUsize,
    pub(crate) table: &'static Table,
    // Second line: the owner.
    tail: AtomicU64,
    pub(crate) handled: AtomicU64,
    pub(crate) runtime: RuntimeRef,
    pub(crate) control: AtomicU32,
    /// The worker that must run this actor, or [`ANYWHERE`].
    pub(crate) home: u16,
    /// Whether its turns are looked at: by a meter, or by a simulation.
    pub(crate) observed: bool,
    /// Whether an incarnation runs, started and not ending: the owner's.
    running: AtomicBool,
    parking: Parking,
    /// Counts up when an incarnation ends; owner writes.
    incarnation: AtomicU32,
    /// Messages per turn, adapted to what handling them costs.
    pub(crate) batch: AtomicU16,
    /// What a child's restart means for its siblings.
    pub(crate) strategy: Strategy,
    /// How its mailbox stood at the last sweep.
    pub(crate) mark: AtomicU8,
    // Rarely touched from here on.
    pub(crate) overflow: Overflow,
    parent: UnsafeCell<Option<CellRef>>,
    /// Guarded by the lock of the parent's `children`.
    siblings: UnsafeCell<Siblings>,
    pub(crate) children: Children,
    news: Mutex<Option<Box<News>>>,
}

// SAFETY: the mailbox carries only `Send` messages (bounds of `ActorRef`); `parent` is written at
// creation and by the owner at the end; `siblings` is guarded by a lock; the rest is atomic.
unsafe impl Send for Header {}
// SAFETY: as above.
unsafe impl Sync for Header {}

/// A cell whose body is `S`.
#[repr(C)]
struct Cell<S> {
    header: Header,
    body: UnsafeCell<S>,
}

/// A borrowed pointer to a live cell: valid while the actor runs or a `CellRef` is held.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct CellPtr(NonNull<Header>);

// SAFETY: `Header` is `Sync`; the body is touched by the owner alone.
unsafe impl Send for CellPtr {}

impl Deref for CellPtr {
    type Target = Header;

    #[inline(always)]
    fn deref(&self) -> &Header {
        // SAFETY: holders keep within the validity that the type asks for.
        unsafe { self.0.as_ref() }
    }
}

impl CellPtr {
    pub(crate) fn as_ptr(self) -> *mut Header {
        self.0.as_ptr()
    }

    /// # Safety
    /// `ptr` came from [`CellPtr::as_ptr`] and the cell is still valid in the sense of the type.
    pub(crate) unsafe fn from_ptr(ptr: *mut Header) -> Option<Self> {
        NonNull::new(ptr).map(Self)
    }

    /// A counted reference.
    pub(crate) fn to_ref(self) -> CellRef {
        self.to_refs(1)
    }

    /// A counted reference, from the calling worker's stock if there is one.
    pub(crate) fn lend_ref(self) -> CellRef {
        credit::lend(self)
    }

    /// So many counted references, of which one is handed out.
    fn to_refs(self, count: usize) -> CellRef {
        // Relaxed: a new reference is made from a valid one.
        let before = self.refs.fetch_add(count, Ordering::Relaxed);
        assert!(before < usize::MAX / 2, "too many references to one actor");
        CellRef(self.0)
    }

    /// Where the body is, for a body that others may look at in part.
    pub(crate) fn body_ptr<S>(self) -> *mut S {
        let cell = self.0.cast::<Cell<S>>().as_ptr();
        // SAFETY: only computes an address inside the cell.
        unsafe { (*cell).body.get() }
    }

    /// The body.
    ///
    /// # Safety
    /// The caller is the owner, `S` is the body's type, and no other borrow of it lives.
    pub(crate) unsafe fn body<'a, S>(self) -> &'a mut S {
        // SAFETY: the caller's; `repr(C)` puts the header first.
        unsafe { &mut *self.body_ptr::<S>() }
    }

    /// The mailbox.
    ///
    /// # Safety
    /// `M` is the actor's message type.
    #[inline(always)]
    pub(crate) unsafe fn mailbox<'a, M>(self) -> Mailbox<'a, M> {
        // SAFETY: validity as promised by the type; `M` by the caller.
        unsafe {
            let header = self.0.as_ref();
            Mailbox::new(&header.front, &header.tail)
        }
    }

    /// The meter of a metered actor.
    #[inline(always)]
    pub(crate) fn meter<'a>(self) -> Option<&'a Meter> {
        let meter = self.table.meter?;
        // SAFETY: valid as long as the cell (see `Table::with_meter`), which callers keep.
        unsafe { meter(self).as_ref() }
    }

    /// What takes the place of workers and clock, in a simulation.
    pub(crate) fn simulated<'a>(self) -> Option<&'a Simulated> {
        // SAFETY: the cell keeps its runtime, and callers keep the cell.
        let header = unsafe { self.0.as_ref() };
        header.runtime.simulated.as_ref()
    }

    /// Schedules the actor; only for whoever took the scheduling edge.
    #[inline]
    pub(crate) fn schedule(self) {
        (self.table.schedule)(self);
    }

    /// Asks for the lines that a turn writes, for whoever is about to run the actor: they may be in the cache of
    /// the core that ran it last, and are better fetched together than one after the other.
    #[inline]
    pub(crate) fn prefetch(self) {
        const LINE: usize = 64;
        let cell = self.0.as_ptr().cast::<u8>();
        prefetch::for_write(cell.wrapping_add(LINE));
        let size_bytes = self.table.size_bytes;
        for line in BODY_LINES {
            if line * LINE < size_bytes {
                prefetch::for_write(cell.wrapping_add(line * LINE));
            }
        }
    }

    /// Raises control bits and sees to it that the actor notices.
    pub(crate) fn order(self, bits: u32) {
        // Release pairs with the Acquire load at the start of a turn.
        self.control.fetch_or(bits, Ordering::Release);
        self.nudge();
    }

    /// Lets nothing more into the mailbox, and the actor end once it is empty.
    pub(crate) fn drain(self) {
        self.front.close();
        self.order(control::DRAIN);
    }

    /// Makes the actor look at its system lane.
    pub(crate) fn nudge(self) {
        if self.front.signal() {
            self.schedule();
        } else {
            self.wake();
        }
    }

    /// Wakes the actor if it waits; remembered if it is running.
    pub(crate) fn wake(self) {
        if self.parking.wake() {
            self.schedule();
        }
    }
}

impl Header {
    pub(crate) fn front(&self) -> &Front {
        &self.front
    }

    /// Messages that wait.
    pub(crate) fn depth(&self) -> u32 {
        self.front.depth(&self.tail)
    }

    /// Messages that a turn finds as it begins. Owner only.
    #[inline]
    pub(crate) fn waiting(&self) -> u32 {
        self.front.waiting(&self.tail)
    }

    /// At the start of a turn: takes note of wake-ups.
    #[inline]
    pub(crate) fn begin(&self) {
        self.parking.begin();
    }

    /// Whether somebody woke or signalled the running actor since its turn began. On the owner's own cache
    /// line: asking again and again costs the senders nothing.
    #[inline]
    pub(crate) fn is_called(&self) -> bool {
        self.parking.is_woken()
    }

    /// Whether an incarnation runs. Owner only.
    #[inline(always)]
    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    /// Owner only.
    pub(crate) fn set_running(&self, running: bool) {
        self.running.store(running, Ordering::Relaxed);
    }

    /// Gives the actor up until somebody wakes or signals it; `false` if that happened already.
    #[inline]
    pub(crate) fn try_wait(&self) -> bool {
        self.parking.try_wait()
    }

    pub(crate) fn control(&self) -> u32 {
        self.control.load(Ordering::Acquire)
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.control() & control::ENDED != 0
    }

    /// # Safety
    /// Owner only.
    pub(crate) unsafe fn parent(&self) -> Option<&CellRef> {
        // SAFETY: only the owner writes it.
        unsafe { (*self.parent.get()).as_ref() }
    }

    /// Lets go of the parent.
    ///
    /// # Safety
    /// Owner only, at the very end.
    pub(crate) unsafe fn orphan(&self) -> Option<CellRef> {
        // SAFETY: the owner is the only one to look at it.
        unsafe { (*self.parent.get()).take() }
    }
}

impl Header {
    pub(crate) fn incarnation(&self) -> u32 {
        self.incarnation.load(Ordering::Acquire)
    }

    /// Silences what the incarnation that ends has set going.
    pub(crate) fn end_incarnation(&self) {
        self.incarnation.fetch_add(1, Ordering::AcqRel);
    }
}

/// A counted reference to an actor cell.
pub(crate) struct CellRef(NonNull<Header>);

// SAFETY: `Header` is `Send` and `Sync`; bodies are dropped by their owner at the end of the actor,
// so that what is freed with the last reference holds nothing that is tied to a thread.
unsafe impl Send for CellRef {}
// SAFETY: as above.
unsafe impl Sync for CellRef {}

impl CellRef {
    /// Makes a cell. The reference of being alive is counted, and its owner is the caller until it
    /// schedules the actor; `front` starts out claimed by nobody and idle.
    pub(crate) fn new<S>(parts: Parts, table: &'static Table, body: S) -> Self {
        let layout = Layout::new::<Cell<S>>();
        let block = slab::take_on(parts.front.memory.get(), layout).cast::<Cell<S>>();
        let lasting = u32::from(parts.name.is_some()) * control::NAMED
            + u32::from(parts.is_errand) * control::ERRAND;
        let header = Header {
            front: parts.front,
            refs: AtomicUsize::new(2),
            table,
            tail: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            observed: table.meter.is_some() || parts.runtime.simulated.is_some(),
            runtime: parts.runtime,
            control: AtomicU32::new(lasting),
            home: parts.home,
            running: AtomicBool::new(false),
            parking: Parking::new(),
            incarnation: AtomicU32::new(0),
            batch: AtomicU16::new(64),
            mark: AtomicU8::new(0),
            overflow: parts.overflow,
            strategy: parts.strategy,
            parent: UnsafeCell::new(parts.parent),
            siblings: UnsafeCell::new(Siblings::none()),
            children: Children::new(),
            news: Mutex::new(News::at_start(parts.name, parts.intensity)),
        };
        // SAFETY: a fresh block of this layout.
        unsafe {
            block.write(Cell {
                header,
                body: UnsafeCell::new(body),
            })
        };
        Self(block.cast())
    }

    #[inline(always)]
    pub(crate) fn ptr(&self) -> CellPtr {
        CellPtr(self.0)
    }

    /// Releases the reference of being alive.
    ///
    /// # Safety
    /// Once per actor, by the runner that saw [`Outcome::Ended`].
    pub(crate) unsafe fn release_life(cell: CellPtr) {
        drop(Self(cell.0));
    }
}

/// What a new cell is made of, apart from its body.
pub(crate) struct Parts {
    pub(crate) front: Front,
    pub(crate) runtime: RuntimeRef,
    pub(crate) home: u16,
    pub(crate) overflow: Overflow,
    pub(crate) strategy: Strategy,
    pub(crate) intensity: Option<Intensity>,
    pub(crate) parent: Option<CellRef>,
    pub(crate) name: Option<Arc<str>>,
    /// Whether it is work that the parent waits for.
    pub(crate) is_errand: bool,
}

impl Clone for CellRef {
    #[inline]
    fn clone(&self) -> Self {
        self.ptr().to_ref()
    }
}

impl Drop for CellRef {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the Acquire of whoever frees: all uses come before the end.
        if self.ptr().refs.fetch_sub(1, Ordering::Release) == 1 {
            // A load and no fence, which ThreadSanitizer would not see.
            self.ptr().refs.load(Ordering::Acquire);
            // SAFETY: the last reference, see invariant 1.
            unsafe { (self.ptr().table.free)(self.0) };
        }
    }
}

impl Deref for CellRef {
    type Target = Header;

    fn deref(&self) -> &Header {
        // SAFETY: we hold a reference.
        unsafe { self.0.as_ref() }
    }
}

impl fmt::Debug for CellRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{:p}", self.label(), self.0)
    }
}

const _: () = assert!(std::mem::offset_of!(Header, tail) == 64);
const _: () = assert!(std::mem::offset_of!(Header, overflow) <= 128);
const _: () = assert!(size_of::<Header>() <= 200);
