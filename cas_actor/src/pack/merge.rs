//! The index as it is now: the table on disk, and what has changed since.
//!
//! Owns: walking both in the order of names.
//! Does not know: how either came to be.
//! Invariants: a change hides the entry of its name in the table; what is held beside both is a reference
//! to each change and a piece of the table.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::iter::Peekable;
use std::vec;

use super::index::{Name, Place};
use super::table::{Entries, Table};

/// The entries of a table with the changes applied, sorted.
pub(super) struct Merge<'p> {
    changed: Peekable<vec::IntoIter<(&'p Name, &'p Option<Place>)>>,
    kept: Option<Entries<'p>>,
    /// The next of those.
    next_kept: Option<(Name, Place)>,
}

impl<'p> Merge<'p> {
    /// Those behind a name only, if there is one.
    pub(super) fn new(
        table: Option<&'p Table>,
        changes: &'p HashMap<Name, Option<Place>>,
        after: Option<&Name>,
    ) -> Self {
        let is_behind = |name: &Name| after.is_none_or(|after| name > after);
        let mut changed: Vec<_> = changes.iter().filter(|(name, _)| is_behind(name)).collect();
        changed.sort_unstable_by_key(|(name, _)| *name);
        let mut kept = table.map(|table| table.entries_from(table.first_after(after)));
        Self {
            changed: changed.into_iter().peekable(),
            next_kept: kept.as_mut().and_then(Iterator::next),
            kept,
        }
    }

    /// Whether all of the table was delivered, as it was written.
    pub(super) fn is_intact(&self) -> bool {
        // What could not be read, and can now, has come behind the end.
        self.next_kept.is_none() && self.kept.as_ref().is_none_or(Entries::is_intact)
    }

    fn keep(&mut self) -> Option<(Name, Place)> {
        let next = self.kept.as_mut().and_then(Iterator::next);
        std::mem::replace(&mut self.next_kept, next)
    }
}

impl Iterator for Merge<'_> {
    type Item = (Name, Place);

    fn next(&mut self) -> Option<(Name, Place)> {
        loop {
            match (self.changed.peek(), &self.next_kept) {
                (None, _) => return self.keep(),
                (Some((change, _)), Some((keep, _))) if *change > keep => return self.keep(),
                (Some((change, _)), Some((keep, _))) if *change == keep => drop(self.keep()),
                (Some(_), _) => {
                    if let Some((name, Some(place))) = self.changed.next() {
                        return Some((*name, *place));
                    }
                }
            }
        }
    }
}
