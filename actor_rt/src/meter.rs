//! How long messages waited, how long handling them took, how long actors lived: for those who asked.
//!
//! Owns: the sampling and the histograms. Does not know: mailboxes; it looks from the owner's side only, so
//! sending costs nothing more. An actor that is not metered pays one look at a static flag per turn.
//!
//! # What is measured
//! 1. **Wait.** The first message of a busy period waited since the actor was scheduled. Besides, whenever no
//!    other is being timed at the start of a turn, the last message in the mailbox is: it has waited at least
//!    from then on until its turn comes. Both are the ends that hurt: an empty mailbox's wake-up, a full one's
//!    length.
//! 2. **Handling.** One message in [`EVERY`] of each turn, the first one among them. For asynchronous actors
//!    every message, with the time that it awaited.
//! 3. **Lifetime.** Of an actor, from its making until its end; its parent's meter and the system keep it.
//!
//! Times are those of `Runtime::now`: virtual in a simulation.
#![allow(unsafe_code)]

mod figures;

use crate::actor_ref::ActorRef;
use crate::cell::{CellPtr, Outcome};
use crate::family;
use crate::sched::RuntimeRef;
use crate::shell::{Behaviour, Shell};
use crate::system::System;
use figures::Kind;
pub(crate) use figures::Totals;
pub use figures::{Latencies, Percentiles};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Messages of a turn per one whose handling is timed.
const EVERY: u32 = 16;

/// What a metered actor carries.
pub(crate) struct Meter {
    runtime: RuntimeRef,
    born: Instant,
    /// When the actor was scheduled, in ns since it was made; zero once its turn has begun.
    scheduled: AtomicU64,
    /// Messages until the one that is being timed, and since when. The owner's.
    marked: AtomicU32,
    marked_at: AtomicU64,
    /// When an asynchronous handler began. The owner's.
    began: AtomicU64,
    totals: Mutex<Totals>,
}

impl Meter {
    pub(crate) fn new(runtime: &RuntimeRef) -> Self {
        Self {
            runtime: runtime.clone(),
            born: runtime.now(),
            scheduled: AtomicU64::new(0),
            marked: AtomicU32::new(0),
            marked_at: AtomicU64::new(0),
            began: AtomicU64::new(0),
            totals: Mutex::default(),
        }
    }

    /// Nanoseconds since the actor was made, never zero.
    fn now_ns(&self) -> u64 {
        let age = self.runtime.now().saturating_duration_since(self.born);
        u64::try_from(age.as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// The actor was scheduled. By whoever took the scheduling edge, so by one thread at a time.
    pub(crate) fn scheduled(&self) {
        self.scheduled.store(self.now_ns(), Ordering::Relaxed);
    }

    fn record(&self, kind: Kind, since_ns: u64, now_ns: u64) {
        self.totals().record(kind, now_ns.saturating_sub(since_ns));
    }

    fn totals(&self) -> std::sync::MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A child lived as long as `child` until now.
    pub(crate) fn child_ended(&self, child: &Meter) {
        self.totals().record(Kind::Lifetime, child.now_ns());
    }

    /// Adds this actor's figures to others, but for its children's lifetimes, which are counted elsewhere.
    fn add_to(&self, others: &mut Totals) {
        others.add(&self.totals(), &[Kind::Wait, Kind::Handling]);
    }

    /// The figures so far.
    pub(crate) fn latencies(&self) -> Latencies {
        self.totals().latencies()
    }
}

/// The body of a metered actor's cell.
///
/// Invariant: `meter` is only read once the cell is shared, so that senders may look at it while the owner
/// has the shell to itself.
pub(crate) struct Metered<B> {
    meter: Meter,
    shell: Shell<B>,
}

impl<B: Behaviour> Metered<B> {
    pub(crate) fn new(runtime: &RuntimeRef, shell: Shell<B>) -> Self {
        let meter = Meter::new(runtime);
        Self { meter, shell }
    }

    pub(crate) fn meter(cell: CellPtr) -> *const Meter {
        // SAFETY: only computes an address inside the body, which is of this type.
        unsafe { &raw const (*cell.body_ptr::<Self>()).meter }
    }

    pub(crate) fn schedule(cell: CellPtr) {
        scheduled(cell);
        cell.runtime.schedule(cell);
    }

    /// # Safety
    /// Owner only.
    pub(crate) unsafe fn run(cell: CellPtr) -> Outcome {
        // SAFETY: the owner; nobody else borrows the shell.
        let shell = unsafe { &mut (*cell.body_ptr::<Self>()).shell };
        shell.advance(cell)
    }
}

/// An actor waits for a turn from now on, if it has a meter.
pub(crate) fn scheduled(cell: CellPtr) {
    if let Some(meter) = cell.meter() {
        meter.scheduled();
    }
}

/// At the end of an actor: its figures live on in its parent and its system.
pub(crate) fn depart(cell: CellPtr, parent: Option<CellPtr>) {
    let Some(meter) = cell.meter() else {
        return;
    };
    if let Some(parent) = parent.and_then(CellPtr::meter) {
        parent.child_ended(meter);
    }
    let mut ended = cell
        .runtime
        .ended_meters
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let ended = ended.get_or_insert_default();
    ended.record(Kind::Lifetime, meter.now_ns());
    meter.add_to(ended);
}

impl<M: Send + 'static> ActorRef<M> {
    /// How long messages waited and how long handling took, if the actor is
    /// [metered](crate::ActorBuilder::metered).
    #[must_use]
    pub fn latencies(&self) -> Option<Latencies> {
        self.cell().ptr().meter().map(Meter::latencies)
    }
}

impl System {
    /// Latencies of all metered actors since the start, those that have ended included, by looking at every
    /// actor.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        let runtime = self.runtime();
        let mut sum = Totals::default();
        family::each(&runtime.roots, &mut |actor| {
            if let Some(meter) = actor.ptr().meter() {
                meter.add_to(&mut sum);
            }
        });
        let ended = runtime
            .ended_meters
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(ended) = &*ended {
            sum.add(ended, &[Kind::Wait, Kind::Handling, Kind::Lifetime]);
        }
        sum.latencies()
    }
}

/// Watches one turn of a metered actor.
pub(crate) struct Sampler<'a> {
    meter: &'a Meter,
    /// When the turn was scheduled and when it began, until its first message is there.
    first: Option<(u64, u64)>,
    number: u32,
    handling_since: Option<u64>,
}

impl<'a> Sampler<'a> {
    /// At the start of a turn of `cell`.
    pub(crate) fn new(meter: &'a Meter, cell: CellPtr) -> Self {
        let now = meter.now_ns();
        let scheduled = meter.scheduled.swap(0, Ordering::Relaxed);
        if meter.marked.load(Ordering::Relaxed) == 0 {
            let waiting = cell.depth();
            // The first one has a stamp of its own, if it is one of a busy period.
            if waiting > 1 {
                meter.marked.store(waiting, Ordering::Relaxed);
                meter.marked_at.store(now, Ordering::Relaxed);
            }
        }
        Self {
            meter,
            first: (scheduled != 0).then_some((scheduled, now)),
            number: 0,
            handling_since: None,
        }
    }
}

impl Sampler<'_> {
    /// An asynchronous handler gets a message, after `popped`; it may take more than this turn.
    pub(crate) fn begins(&mut self) {
        self.handling_since = None;
        let now = self.meter.now_ns();
        self.meter.began.store(now, Ordering::Relaxed);
    }

    /// An asynchronous handler is done, if one was at work.
    pub(crate) fn ends(&self) {
        let meter = self.meter;
        let began = meter.began.swap(0, Ordering::Relaxed);
        if began != 0 {
            meter.record(Kind::Handling, began, meter.now_ns());
        }
    }

    /// A message was taken out of the mailbox.
    pub(crate) fn popped(&mut self) {
        let meter = self.meter;
        if let Some((scheduled, began)) = self.first.take() {
            meter.record(Kind::Wait, scheduled, began);
        }
        match meter.marked.load(Ordering::Relaxed) {
            0 => {}
            left => {
                meter.marked.store(left - 1, Ordering::Relaxed);
                if left == 1 {
                    let since = meter.marked_at.load(Ordering::Relaxed);
                    meter.record(Kind::Wait, since, meter.now_ns());
                }
            }
        }
        if self.number.is_multiple_of(EVERY) {
            self.handling_since = Some(meter.now_ns());
        }
        self.number = self.number.wrapping_add(1);
    }

    /// It was handled.
    pub(crate) fn handled(&mut self) {
        if let Some(since) = self.handling_since.take() {
            self.meter
                .record(Kind::Handling, since, self.meter.now_ns());
        }
    }
}
