//! The restart of a group of siblings, as their parent's strategy says.
//!
//! Owns: who is concerned by a failure, and in which order they start again.
//! Does not know: phases (`shell` asks here), how an incarnation ends or starts.
//!
//! # Rules
//! 1. All that are concerned end their incarnations before any of them starts again; the one that failed waits its back-off
//!    first. Their mailboxes and references stay.
//! 2. They start again one after another, in the order in which they were started at first. Each waits until the one before it
//!    has started; who ends instead, or cannot, is waited for no longer.
//! 3. Who fails while it starts gathers the group anew.
//! 4. Work that the parent waits for (`ctx.pipe`, `ctx.blocking`) is no sibling and goes on.
//!
//! Whoever gathers, has started or has ended looks whether it is somebody's turn. All look under the lock of the parent's
//! children and after their own bits were written, so the last one to look sees what all the others did, and no turn is lost.

use crate::cell::{CellPtr, CellRef, control};
use crate::restart::Strategy;
use std::sync::atomic::Ordering;

/// An actor fails and will restart: its siblings end theirs, as far as the strategy concerns them.
#[allow(unsafe_code)]
pub(crate) fn begin(cell: CellPtr) {
    // SAFETY: the owner.
    let Some(parent) = (unsafe { cell.parent() }) else {
        return;
    };
    let is_errand = cell.control() & control::ERRAND != 0;
    if parent.strategy == Strategy::OneForOne || is_errand {
        return;
    }
    cell.control.fetch_or(control::REGROUP, Ordering::AcqRel);
    cell.control.fetch_and(!control::STARTS, Ordering::AcqRel);
    let to_oldest = parent.strategy == Strategy::OneForAll;
    // Newest first: those before it in the list were started after it.
    parent.children.for_each_while(|sibling| {
        if sibling == cell {
            return to_oldest;
        }
        if sibling.control() & control::ERRAND == 0 {
            sibling.order(control::REGROUP);
        }
        true
    });
}

/// Whether the actor, whose incarnation has ended, is to wait for others before it starts again.
pub(crate) fn concerns(cell: CellPtr) -> bool {
    cell.control() & control::REGROUP != 0
}

/// The actor has no incarnation and waits for its turn.
pub(crate) fn gather(cell: CellPtr) {
    // In this order: it never looks as if it were not concerned.
    cell.control.fetch_or(control::GATHERED, Ordering::AcqRel);
    let done = control::REGROUP | control::STARTS;
    cell.control.fetch_and(!done, Ordering::AcqRel);
    look(cell);
}

/// Whether it is the turn of a gathered actor; it starts then.
pub(crate) fn take_turn(cell: CellPtr) -> bool {
    let before = cell.control();
    if before & (control::TURN | control::REGROUP) == control::TURN {
        cell.control.fetch_or(control::STARTS, Ordering::AcqRel);
        let done = control::TURN | control::GATHERED;
        cell.control.fetch_and(!done, Ordering::AcqRel);
        return true;
    }
    // One that failed since must restart first.
    if before & control::REGROUP != 0 {
        let done = control::TURN | control::REGROUP;
        cell.control.fetch_and(!done, Ordering::AcqRel);
        look(cell);
    }
    false
}

/// The actor runs: if that was its turn, the next one has it.
pub(crate) fn started(cell: CellPtr) {
    if cell.control() & control::STARTS != 0 {
        cell.control.fetch_and(!control::STARTS, Ordering::AcqRel);
        look(cell);
    }
}

#[allow(unsafe_code)]
fn look(cell: CellPtr) {
    // SAFETY: the owner.
    if let Some(parent) = unsafe { cell.parent() } {
        go_on(parent);
    }
}

/// Gives the oldest of the gathered its turn, once nobody is on the way there or starts. Looks at every sibling.
pub(crate) fn go_on(parent: &CellRef) {
    if parent.strategy == Strategy::OneForOne {
        return;
    }
    parent.children.with_all(|mut siblings| {
        let is = |sibling: &CellPtr, bits| sibling.control() & bits != 0;
        let is_awaited = |sibling: &CellPtr| {
            let busy = control::TURN | control::STARTS;
            is(sibling, busy) || is(sibling, control::REGROUP) && !is(sibling, control::GATHERED)
        };
        let gathered = siblings.clone();
        let gathered = gathered.filter(|sibling| is(sibling, control::GATHERED));
        if !siblings.any(|sibling| is_awaited(&sibling))
            && let Some(oldest) = gathered.last()
        {
            oldest.order(control::TURN);
        }
    });
}
