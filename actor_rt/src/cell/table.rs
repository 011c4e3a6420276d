//! What the cells of one kind of actor have in common.
//!
//! Owns: the functions through which a cell's body is run and freed.
//! Does not know: when; that is the runner's and the references' (see `cell`).
#![allow(unsafe_code)]

use super::{Cell, CellPtr, Header};
use crate::meter::Meter;
use crate::slab;
use std::alloc::Layout;
use std::any::TypeId;
use std::ptr::NonNull;

/// How a turn of an actor ended.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Outcome {
    /// It went idle or waits for a wake-up; the runner no longer owns it.
    Released,
    /// It has more to do: queue it again.
    Again,
    /// It is over: release the reference of being alive.
    Ended,
}

/// What differs between kinds of actors.
pub(crate) struct Table {
    /// Runs one turn. Only the owner may call it.
    pub(crate) run: unsafe fn(CellPtr) -> Outcome,
    /// Drops the cell's contents and gives its memory back. Only at zero references.
    pub(super) free: unsafe fn(NonNull<Header>),
    /// Hands the actor to whoever runs it.
    pub(crate) schedule: fn(CellPtr),
    pub(crate) actor: fn() -> &'static str,
    pub(crate) message: fn() -> TypeId,
    /// Of the whole cell.
    pub(super) size_bytes: usize,
    /// Whether its handlers await, so that it is woken by what it asks for.
    pub(crate) awaits: bool,
    /// Where a metered actor's meter is.
    pub(super) meter: Option<fn(CellPtr) -> *const Meter>,
}

/// The table's `free` for cells with body `S`.
///
/// # Safety
/// `cell` has body `S` and no reference is left.
unsafe fn free<S>(cell: NonNull<Header>) {
    let cell = cell.cast::<Cell<S>>();
    // SAFETY: the last reference is gone, nobody else can look.
    unsafe { cell.drop_in_place() };
    // SAFETY: taken in `CellRef::new` with this layout.
    unsafe { slab::give(cell.cast(), Layout::new::<Cell<S>>()) };
}

impl Table {
    pub(crate) const fn new<S>(
        run: unsafe fn(CellPtr) -> Outcome,
        schedule: fn(CellPtr),
        actor: fn() -> &'static str,
        message: fn() -> TypeId,
        awaits: bool,
    ) -> Self {
        Self {
            run,
            free: free::<S>,
            schedule,
            actor,
            message,
            size_bytes: size_of::<Cell<S>>(),
            awaits,
            meter: None,
        }
    }

    /// The same for a metered actor; `meter` gives a place that is valid as long as the cell and only read.
    pub(crate) const fn with_meter(mut self, meter: fn(CellPtr) -> *const Meter) -> Self {
        self.meter = Some(meter);
        self
    }
}
