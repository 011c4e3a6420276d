//! The children of an actor, or of the system: an intrusive list.
//!
//! Owns: the links between siblings. Nothing is allocated for a family.
//! Does not know: when an actor joins or leaves (see `family`).
//! Invariant: an actor is in its parent's list from its start until just before its end, so whoever is in
//! the list is alive; the links are only touched under the list's lock.
#![allow(unsafe_code)]

use super::{CellPtr, CellRef, Header};
use std::ptr::null_mut;
use std::sync::{Mutex, PoisonError};

/// A child's place among its siblings; guarded by the lock of the parent's list.
pub(super) struct Siblings {
    before: *mut Header,
    after: *mut Header,
}

impl Siblings {
    pub(super) const fn none() -> Self {
        Self {
            before: null_mut(),
            after: null_mut(),
        }
    }
}

/// The children of an actor, or of the system: an intrusive list under a lock.
pub(crate) struct Children(Mutex<Chain>);

struct Chain {
    first: *mut Header,
    count: usize,
}

/// The children that follow, newest first, while the chain is locked.
#[derive(Clone)]
pub(crate) struct All<'a> {
    next: *mut Header,
    _locked: &'a Chain,
}

impl Iterator for All<'_> {
    type Item = CellPtr;

    fn next(&mut self) -> Option<CellPtr> {
        // SAFETY: children in the chain are alive.
        let child = unsafe { CellPtr::from_ptr(self.next) }?;
        // SAFETY: guarded by the lock, which is held as long as we live.
        self.next = unsafe { (*child.siblings.get()).after };
        Some(child)
    }
}

// SAFETY: the chain holds actors that are alive (they leave it before they end).
unsafe impl Send for Chain {}

impl Children {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Chain {
            first: null_mut(),
            count: 0,
        }))
    }

    fn chain(&self) -> std::sync::MutexGuard<'_, Chain> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a new actor.
    pub(crate) fn link(&self, child: CellPtr) {
        let mut chain = self.chain();
        // SAFETY: the siblings' links are guarded by the lock we hold.
        unsafe {
            *child.siblings.get() = Siblings {
                before: null_mut(),
                after: chain.first,
            };
            if let Some(first) = CellPtr::from_ptr(chain.first) {
                (*first.siblings.get()).before = child.as_ptr();
            }
        }
        chain.first = child.as_ptr();
        chain.count += 1;
    }

    /// Removes an actor; `true` if it was the last.
    pub(crate) fn unlink(&self, child: CellPtr) -> bool {
        let mut chain = self.chain();
        // SAFETY: the siblings' links are guarded by the lock we hold, and siblings are alive.
        unsafe {
            let links = &mut *child.siblings.get();
            let (before, after) = (links.before, links.after);
            *links = Siblings::none();
            match CellPtr::from_ptr(before) {
                Some(before) => (*before.siblings.get()).after = after,
                None => chain.first = after,
            }
            if let Some(after) = CellPtr::from_ptr(after) {
                (*after.siblings.get()).before = before;
            }
        }
        chain.count -= 1;
        chain.count == 0
    }

    /// Calls `visit` for each child, newest first, under the lock.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(CellPtr)) {
        self.for_each_while(|child| {
            visit(child);
            true
        });
    }

    /// Shows all children, newest first, under the lock.
    pub(crate) fn with_all(&self, look: impl FnOnce(All<'_>)) {
        let chain = self.chain();
        look(All {
            next: chain.first,
            _locked: &chain,
        });
    }

    /// Calls `visit` for each child, newest first, until it says no.
    pub(crate) fn for_each_while(&self, mut visit: impl FnMut(CellPtr) -> bool) {
        self.with_all(|mut all| while all.next().is_some_and(&mut visit) {});
    }

    /// Calls `visit` for up to `most` children that follow `after`, or for the first ones. Returns the last of
    /// them if there are more; one that leaves the family meanwhile ends the walk early.
    pub(crate) fn for_some(
        &self,
        after: Option<&CellRef>,
        most: usize,
        mut visit: impl FnMut(CellPtr),
    ) -> Option<CellRef> {
        let chain = self.chain();
        let mut next = match after {
            // SAFETY: guarded by the lock we hold; whoever has left has no links.
            Some(after) => unsafe { (*after.siblings.get()).after },
            None => chain.first,
        };
        let mut last = None;
        for _ in 0..most {
            // SAFETY: children in the chain are alive.
            let child = unsafe { CellPtr::from_ptr(next) }?;
            // SAFETY: guarded by the lock we hold.
            next = unsafe { (*child.siblings.get()).after };
            visit(child);
            last = Some(child);
        }
        last.filter(|_| !next.is_null()).map(CellPtr::to_ref)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.chain().count
    }

    /// Runs `then` under the lock if any child is left; says whether one is.
    pub(crate) fn if_any(&self, then: impl FnOnce()) -> bool {
        let chain = self.chain();
        if chain.count > 0 {
            then();
        }
        chain.count > 0
    }
}
