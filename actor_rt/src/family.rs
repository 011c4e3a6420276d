//! Parents and children: how an actor joins the tree and leaves it.
//!
//! Owns: the order of the last steps of an actor.
//! Does not know: phases; `shell` decides when.

use crate::cell::{CellPtr, CellRef, Children, control};
use crate::exit::ExitReason;
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

/// The end of an actor: its name is free again, its watchers know, its parent has one child less.
#[allow(unsafe_code)]
pub(crate) fn depart(cell: CellPtr, reason: ExitReason, escalates: bool) {
    let runtime = cell.runtime;
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
    let failure = escalates.then(|| reason.clone());
    cell.announce_end(reason);
    // SAFETY: the owner, at the very end.
    let parent: Option<CellRef> = unsafe { cell.orphan() };
    let Some(parent) = parent else {
        runtime.roots.unlink(cell);
        return;
    };
    if let Some(failure) = failure {
        parent.leave_failure(failure);
        parent.ptr().order(control::FAIL);
    }
    if parent.children.unlink(cell) && parent.control() & control::AWAIT_CHILDREN != 0 {
        parent.ptr().nudge();
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
        let kind = (child.table.actor)();
        let name = child.name();
        let name = name.as_deref().unwrap_or("-");
        text.push_str(&format!(
            "{:indent$}{name} ({kind}) handled={handled}\n",
            ""
        ));
        describe(&child.children, depth + 1, text);
    }
}
