//! The index as it is now: the table on disk, and what has changed since.
//!
//! Owns: walking both in the order of names.
//! Does not know: how either came to be.
//! Invariant: a change hides the entry of its name in the table.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::index::{Name, Place};
use super::table::Table;

/// The entries of the table with the changes applied, sorted, those behind a name only.
pub(super) fn merge<'p>(
    table: Option<&'p Table>,
    changes: &'p HashMap<Name, Option<Place>>,
    after: Option<&Name>,
) -> impl Iterator<Item = (Name, Place)> + 'p {
    let mut changed: Vec<(Name, Option<Place>)> = changes
        .iter()
        .filter(|(name, _)| after.is_none_or(|after| *name > after))
        .map(|(name, place)| (*name, *place))
        .collect();
    changed.sort_unstable_by_key(|(name, _)| *name);
    let mut changed = changed.into_iter().peekable();
    let start = table.map_or(0, |table| table.first_after(after));
    let kept = table
        .into_iter()
        .flat_map(move |table| table.iter_from(start));
    let mut kept = kept.peekable();
    std::iter::from_fn(move || {
        loop {
            let take_change = match (changed.peek(), kept.peek()) {
                (None, None) => return None,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some((change, _)), Some((keep, _))) => {
                    if change == keep {
                        kept.next();
                    }
                    match kept.peek() {
                        Some((keep, _)) => change < keep,
                        None => true,
                    }
                }
            };
            if !take_change {
                return kept.next();
            }
            if let Some((name, Some(place))) = changed.next() {
                return Some((name, place));
            }
        }
    })
}
