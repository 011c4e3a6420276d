//! `zako clean`: what zako wrote goes.
//!
//! Owns what goes and what is forgotten with it. Does not know by what zako's files are told from a person's (`removal`).
//! Invariant: what git knows, or may know, stays.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{BuildError, Session};
use crate::engine::removal::{is_left, remove};
use crate::lang::text::Text;

/// What became of the files that zako wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleaned {
    /// Those that are gone.
    pub removed: usize,
    /// Those that stay, listed as zako's, because git knows them or does not tell.
    pub kept: usize,
    /// Whether git told.
    pub is_known: bool,
}

impl Session {
    /// Removes everything that zako wrote into the workspace, but for what git knows, and forgets what was built; also, where it
    /// is to `forget_edited`, what zako wrote and a person changed.
    ///
    /// # Errors
    /// When the list of outputs cannot be written.
    pub fn clean(&mut self, forget_edited: bool) -> Result<Cleaned, BuildError> {
        let tracked = self.tracked();
        let paths = self.ledger().paths();
        let (files, ledger) = (&self.known.files, self.ledger());
        let is_kept = |path: &&str| match &tracked {
            Some(tracked) => tracked.contains(*path),
            None => true,
        };
        // Deepest first, so that directories are empty when their turn comes.
        let listed = paths.iter().rev().map(|path| &**path);
        let (kept, listed): (Vec<_>, Vec<_>) = listed.partition(is_kept);
        let is_edited = |path: &&str| is_left(files, ledger, path) == Some(false);
        let (edited, gone): (Vec<_>, Vec<_>) = listed.into_iter().partition(is_edited);
        remove(files, ledger, gone.iter().copied(), "");
        if forget_edited {
            edited.iter().for_each(|path| ledger.strike(path));
        }
        let cleaned = Cleaned {
            removed: gone.len(),
            kept: kept.len(),
            is_known: tracked.is_some(),
        };
        let left = kept.into_iter().map(Text::from).collect();
        *Arc::make_mut(&mut self.known.records) = FxHashMap::default();
        self.leftovers.set(left);
        // The list may be the one that was gone through.
        self.known.gone_through = None;
        self.changed = true;
        self.save()?;
        Ok(cleaned)
    }
}
