//! Wakers of actors: a counted reference in the shape that futures want.
//!
//! Owns: the table of a waker's functions.
//! Does not know: who wakes, and what for.
//! Invariant: a waker holds one counted reference, lent by `credit`.
#![allow(unsafe_code)]

use super::{CellPtr, CellRef, credit};
use std::mem::ManuallyDrop;
use std::task::{RawWaker, RawWakerVTable, Waker};

impl CellPtr {
    /// A waker that calls [`CellPtr::wake`].
    pub(crate) fn waker(self) -> Waker {
        // SAFETY: the table below keeps the contract of a raw waker.
        unsafe { Waker::from_raw(raw_waker(credit::lend(self))) }
    }
}

/// A raw waker that owns the reference.
fn raw_waker(counted: CellRef) -> RawWaker {
    let cell = ManuallyDrop::new(counted).0;
    RawWaker::new(cell.as_ptr().cast(), &WAKER)
}

// A static, so that wakers of one actor are known to be the same by its address.
static WAKER: RawWakerVTable = RawWakerVTable::new(
    // SAFETY: a waker holds a counted reference.
    |cell| match unsafe { CellPtr::from_ptr(cell.cast_mut().cast()) } {
        Some(cell) => raw_waker(credit::lend(cell)),
        None => RawWaker::new(cell, &WAKER),
    },
    |cell| {
        // SAFETY: as above; `wake` consumes the reference.
        if let Some(cell) = unsafe { CellPtr::from_ptr(cell.cast_mut().cast()) } {
            cell.wake();
            credit::take_back(CellRef(cell.0));
        }
    },
    |cell| {
        // SAFETY: as above.
        if let Some(cell) = unsafe { CellPtr::from_ptr(cell.cast_mut().cast()) } {
            cell.wake();
        }
    },
    |cell| {
        // SAFETY: as above; dropping a waker gives its reference back.
        if let Some(cell) = unsafe { CellPtr::from_ptr(cell.cast_mut().cast()) } {
            credit::take_back(CellRef(cell.0));
        }
    },
);
