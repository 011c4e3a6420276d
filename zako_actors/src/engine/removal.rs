//! Taking away what no target leaves any more.
//!
//! Owns the question whether that is still what zako wrote. Does not know who wants it gone.
//! Invariants: nothing is removed that zako does not list as its own, nor anything that lies behind a symbolic link; what does not
//! hold what zako wrote is a person's.

use std::fs::{self, Metadata};
use std::io::{ErrorKind, Result};
use std::path::Path;

use super::files::FileTable;
use super::hash::Hash;
use super::ledger::Ledger;
use super::outputs::mark_of;

/// Those of `paths`, which are not wanted any more, that hold what zako wrote there and are not `theirs` whatever they hold; the
/// others are a person's from now on.
pub fn ours<'a>(
    files: &FileTable,
    ledger: &Ledger,
    theirs: impl Fn(&str) -> bool,
    paths: impl Iterator<Item = &'a str>,
) -> impl Iterator<Item = &'a str> {
    paths.filter(move |path| {
        let is_ours = !theirs(path) && is_left(files, ledger, path) == Some(true);
        if !is_ours {
            ledger.strike(path);
        }
        is_ours
    })
}

/// Whether what lies at `path` is what zako wrote there, or nothing does; unknown where the ledger does not say what zako wrote.
pub fn is_left(files: &FileTable, ledger: &Ledger, path: &str) -> Option<bool> {
    let full = files.root().join(path);
    let Ok(found) = fs::symlink_metadata(&full) else {
        return Some(true);
    };
    let mark = if found.is_dir() {
        // Removed only when nothing is in it.
        return Some(true);
    } else if found.is_symlink() {
        let to = fs::read_link(&full).ok()?;
        mark_of(&Hash::of(to.as_os_str().as_encoded_bytes()))
    } else {
        mark_of(&files.fact_of_output(path).ok()?.hash)
    };
    ledger.bears(path, mark)
}

/// Whether what lies at `path` is not zako's, or not any more.
pub fn is_persons(files: &FileTable, ledger: &Ledger, path: &str) -> bool {
    !ledger.contains(path) || is_left(files, ledger, path) == Some(false)
}

/// Whether a file or a symbolic link that is written at `path` may take the place of something that zako did not write, or come to
/// lie outside the workspace.
pub fn is_taken(files: &FileTable, ledger: &Ledger, path: &str) -> bool {
    let found = fs::symlink_metadata(files.root().join(path));
    let is_theirs = |found: Metadata| found.is_dir() || is_left(files, ledger, path) != Some(true);
    is_behind_a_link(files.root(), path) || found.is_ok_and(is_theirs)
}

/// Whether a directory above `path` is a symbolic link: what lies behind it is not in the workspace.
pub fn is_behind_a_link(root: &Path, path: &str) -> bool {
    let above = path.match_indices('/').map(|(end, _)| &path[..end]);
    let mut above = above.map(|dir| fs::symlink_metadata(root.join(dir)));
    above.any(|found| found.is_ok_and(|found| found.is_symlink()))
}

/// Removes outputs that are not wanted any more, and the directories that this empties, or that somebody else emptied, up to
/// directory `stop` (workspace-relative). What cannot be removed stays, and so does a directory that is an output itself.
pub fn remove<'a>(
    files: &FileTable,
    ledger: &Ledger,
    paths: impl Iterator<Item = &'a str>,
    stop: &str,
) {
    for path in paths.filter(|path| ledger.contains(path)) {
        if is_behind_a_link(files.root(), path) {
            ledger.strike(path);
            continue;
        }
        let full = files.root().join(path);
        let is_dir = fs::symlink_metadata(&full).is_ok_and(|metadata| metadata.is_dir());
        let removed = if is_dir {
            fs::remove_dir(&full)
        } else {
            fs::remove_file(&full)
        };
        files.removed(path);
        ledger.strike(path);
        if !is_gone(&removed) {
            continue;
        }
        let mut at = path;
        while let Some((dir, _)) = at.rsplit_once('/') {
            // Fails where something is left, which is the point.
            let is_kept = || !is_gone(&fs::remove_dir(files.root().join(dir)));
            if dir == stop || ledger.contains(dir) || is_kept() {
                break;
            }
            at = dir;
        }
    }
}

/// Whether nothing is there, whoever took it away.
fn is_gone(removed: &Result<()>) -> bool {
    let is_missing = |error: &std::io::Error| error.kind() == ErrorKind::NotFound;
    removed.as_ref().map_or_else(is_missing, |()| true)
}
