//! The children of an actor, or of the system: an intrusive list.
//!
//! Owns: the links between siblings. Nothing is allocated for a family.
//! Does not know: when an actor joins or leaves (see `family`).
//! Invariant: an actor is in its parent's list from its start until just before its end, so whoever is in
//! the list is alive; the links are only touched under the list's lock.
#![allow(unsafe_code)]

use super::{CellPtr, CellRef, Header, control};
use std::cell::Cell;
use std::ptr::null_mut;
use std::sync::atomic::Ordering;
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

/// The list, while it is locked.
pub(crate) struct Chain {
    first: *mut Header,
    // Both are of 32 bits for the sake of the header's size; so many children would take a terabyte.
    count: u32,
    /// How many of them their siblings wait for (see `group_restart`, which counts).
    pub(crate) awaited: Cell<u32>,
}

// SAFETY: the chain holds actors that are alive (they leave it before they end).
unsafe impl Send for Chain {}

impl Chain {
    /// All children, newest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = CellPtr> {
        self.walk(self.first, |links| links.after)
    }

    /// The children that were started after this one, oldest first.
    pub(crate) fn newer_than(&self, child: CellPtr) -> impl Iterator<Item = CellPtr> {
        // SAFETY: the siblings' links are guarded by the lock, which is held as long as we are borrowed.
        let newer = unsafe { (*child.siblings.get()).before };
        self.walk(newer, |links| links.before)
    }

    /// The children that were started before this one, newest first.
    pub(crate) fn older_than(&self, child: CellPtr) -> impl Iterator<Item = CellPtr> {
        // SAFETY: the siblings' links are guarded by the lock, which is held as long as we are borrowed.
        let older = unsafe { (*child.siblings.get()).after };
        self.walk(older, |links| links.after)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }

    fn walk(
        &self,
        mut next: *mut Header,
        follow: fn(&Siblings) -> *mut Header,
    ) -> impl Iterator<Item = CellPtr> {
        std::iter::from_fn(move || {
            #[cfg(test)]
            LOOKS.set(LOOKS.get() + 1);
            // SAFETY: children in the chain are alive.
            let child = unsafe { CellPtr::from_ptr(next) }?;
            // SAFETY: the siblings' links are guarded by the lock, which is held as long as we are borrowed.
            next = follow(unsafe { &*child.siblings.get() });
            Some(child)
        })
    }

    /// Removes an actor; `true` if it was the last.
    pub(crate) fn unlink(&mut self, child: CellPtr) -> bool {
        // SAFETY: the siblings' links are guarded by the lock, which is held as long as we are borrowed, and siblings are alive.
        unsafe {
            let links = &mut *child.siblings.get();
            let (before, after) = (links.before, links.after);
            *links = Siblings::none();
            match CellPtr::from_ptr(before) {
                Some(before) => (*before.siblings.get()).after = after,
                None => self.first = after,
            }
            if let Some(after) = CellPtr::from_ptr(after) {
                (*after.siblings.get()).before = before;
            }
        }
        self.count -= 1;
        self.count == 0
    }
}

#[cfg(test)]
thread_local! {
    /// How many siblings were looked at on this thread.
    pub(crate) static LOOKS: Cell<usize> = const { Cell::new(0) };
}

impl Children {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Chain {
            first: null_mut(),
            count: 0,
            awaited: Cell::new(0),
        }))
    }

    fn chain(&self) -> std::sync::MutexGuard<'_, Chain> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a new actor.
    pub(crate) fn link(&self, child: CellPtr) {
        let mut chain = self.chain();
        if chain.awaited.get() > 0 {
            child.control.fetch_or(control::LATE, Ordering::Relaxed);
        }
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

    /// Runs `work` under the lock.
    pub(crate) fn locked<R>(&self, work: impl FnOnce(&mut Chain) -> R) -> R {
        work(&mut self.chain())
    }

    /// Calls `visit` for each child, newest first, under the lock.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(CellPtr)) {
        self.for_each_while(|child| {
            visit(child);
            true
        });
    }

    /// Calls `visit` for each child, newest first, until it says no.
    pub(crate) fn for_each_while(&self, mut visit: impl FnMut(CellPtr) -> bool) {
        self.locked(|chain| _ = chain.all().all(&mut visit));
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
        self.chain().count()
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
