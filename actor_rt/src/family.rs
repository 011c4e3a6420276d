//! Parents and children: how an actor joins the tree and leaves it.
//!
//! Owns: the order of the last steps of an actor.
//! Does not know: phases; `shell` decides when.

use crate::cell::{CellPtr, CellRef, Children, control};
use crate::exit::{ExitReason, Failure};
use crate::group_restart as group;
use std::fmt::Write;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// Adds a new actor to its parent's children, or to the system's.
pub(crate) fn join(child: CellPtr, parent: Option<CellPtr>) {
    match parent {
        Some(parent) => parent.children.link(child),
        None => {
            child.runtime.roots.link(child);
            if child.runtime.is_closing() {
                child.order(control::STOP);
            }
        }
    }
}

/// Whether the parent lets a child that failed restart. If its children restart too often, it fails itself instead.
#[allow(unsafe_code)]
pub(crate) fn admits_restart(child: CellPtr, reason: &ExitReason) -> bool {
    // SAFETY: the owner.
    let Some(parent) = (unsafe { child.parent() }) else {
        return true;
    };
    let Err(intensity) = parent.admit_restart(child.runtime.now()) else {
        return true;
    };
    let failure = Failure::new(format_args!(
        "the children of {} restart more often than {intensity}, the last one was {}: {reason}",
        parent.label(),
        child.label()
    ));
    parent.ptr().fail(ExitReason::Failed(failure));
    false
}

/// The end of an actor: its name is free again, its watchers know, its parent has one child less.
#[allow(unsafe_code)]
pub(crate) fn depart(cell: CellPtr, reason: ExitReason, escalates: bool) {
    let runtime = &cell.runtime;
    runtime
        .counters
        .handled_by_ended
        .fetch_add(cell.handled.load(Ordering::Relaxed), Ordering::Relaxed);
    if let Some(name) = cell.name() {
        let mut names = runtime.names.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = names
            .get(&name)
            .is_some_and(|(_, named)| named.ptr() == cell);
        let freed = if ours { names.remove(&name) } else { None };
        drop(names);
        drop(freed);
    }
    // SAFETY: the owner.
    let parent = unsafe { cell.parent() }.map(CellRef::ptr);
    crate::meter::depart(cell, parent);
    let failure = escalates.then(|| reason.clone());
    cell.announce_end(reason);
    // SAFETY: the owner, at the very end.
    let parent: Option<CellRef> = unsafe { cell.orphan() };
    let Some(parent) = parent else {
        runtime.roots.locked(|roots| roots.unlink(cell));
        return;
    };
    if let Some(failure) = failure {
        parent.leave_failure(failure);
        parent.ptr().order(control::FAIL);
    }
    let was_last = group::leave(&parent, cell);
    let orders = parent.control();
    // It drains, and may have waited for this answer only.
    let was_awaited = cell.control() & control::ERRAND != 0 && orders & control::DRAIN != 0;
    if was_awaited || was_last && orders & control::AWAIT_CHILDREN != 0 {
        parent.ptr().nudge();
    }
}

/// Whether the actor waits for work of its own, see `pipe`.
pub(crate) fn has_errands(cell: CellPtr) -> bool {
    let mut any = false;
    cell.children.for_each_while(|child| {
        any = child.control() & control::ERRAND != 0;
        !any
    });
    any
}

/// Shows `visit` every member of a family.
pub(crate) fn each(children: &Children, visit: &mut impl FnMut(&CellRef)) {
    let mut members = Vec::new();
    children.for_each(|child| members.push(child.to_ref()));
    for child in members {
        visit(&child);
        each(&child.children, visit);
    }
}

/// Writes one line per actor, children indented below their parents.
pub(crate) fn describe(children: &Children, depth: usize, text: &mut String) {
    let mut lines = Vec::new();
    children.for_each(|child| lines.push(child.to_ref()));
    // The list is newest first.
    for child in lines.into_iter().rev() {
        let indent = depth * 2;
        let handled = child.handled.load(Ordering::Relaxed);
        let queued = child.depth();
        let kind = (child.table.actor)();
        let name = child.name();
        let name = name.as_deref().unwrap_or("-");
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "{:indent$}{name} ({kind}) handled={handled} queued={queued}",
            ""
        );
        if let Some((restarts, most)) = child.restarts_of_children(child.runtime.now()) {
            let _ = write!(text, " restarts={restarts} of {most}");
        }
        if let Some(meter) = child.ptr().meter() {
            let latencies = meter.latencies();
            let _ = write!(
                text,
                " wait: {} handling: {}",
                latencies.wait, latencies.handling
            );
        }
        text.push('\n');
        describe(&child.children, depth + 1, text);
    }
}
