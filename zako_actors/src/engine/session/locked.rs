//! What changed since a commit, lock files as what they said then.
//!
//! Owns that question. Does not know how a lock file is read (`locks`), nor what follows (`affected`).
//! Invariant: a lock file whose text of then is not there, or not understood, concerns all.

use super::Session;
use crate::engine::locks::{LOCK_FILES, Locks, YARN};
use crate::engine::members;
use crate::engine::since::{Changes, SinceError, changed_since, text_at};
use crate::lang::package_json::PACKAGE_JSON;

impl Session {
    /// What differs between the commit where the files on disk left `reference` and these.
    ///
    /// # Errors
    /// When git does not tell.
    pub fn changed_since(&mut self, reference: &str) -> Result<Changes, SinceError> {
        let root = &self.workspace.root;
        let mut changes = changed_since(root, reference)?;
        // What Yarn takes instead of what is asked for may have been something else.
        let is_told = |name: &str| name != YARN || !changes.paths.contains(PACKAGE_JSON);
        let is_changed = |name: &&str| changes.paths.contains(*name) && is_told(name);
        let changed: Vec<&str> = LOCK_FILES.into_iter().filter(is_changed).collect();
        if changed.is_empty() {
            return Ok(changes);
        }
        let found = members::read(&self.workspace, &mut self.known.dirs);
        let Some(members) = found.ok().and_then(|found| found.members) else {
            return Ok(changes);
        };
        let locks = Locks {
            files: &self.known.files,
            members: &members,
            known: &self.known.locks,
        };
        let then = changed.into_iter().filter_map(|name| {
            let text = text_at(root, &changes.commit, name)?;
            Some((name.to_owned(), locks.digests(name, &text)))
        });
        changes.locks = then.collect();
        Ok(changes)
    }
}
