//! The way of outputs into the workspace: what lies where they go, above that, and below.
//!
//! Owns the question which of that goes, which gives way and which is a person's, and taking the first two away. Does not know what
//! comes instead.
//! Invariants: what git knows, or may know, and what a target names as its source stays; other content of a person is lost only where
//! whoever builds said so (`--overwrite`), and then of files, not of directories; what a target of this build has stays.

use std::fs;
use std::iter::once;
use std::path::{Path, PathBuf};

use cas_actor::Digest;
use rustc_hash::FxHashSet;

use super::{StepEnv, StepFailure, StepJob};
use crate::engine::outputs::{OutputError, is_intact, list};
use crate::engine::record::{OutputItem, OutputKind};
use crate::engine::removal::{is_left, remove};
use crate::lang::target::{Target, join};

/// Takes away what stands where `items` cannot lie beside it: files and links where they need a directory, directories where they
/// need none.
///
/// # Errors
/// When that is a person's, or another target has it; nothing else is taken away then.
pub fn clear(env: &StepEnv, job: &StepJob, items: &[OutputItem]) -> Result<(), StepFailure> {
    let way = Way {
        env,
        target: job.target(),
    };
    let mut passed = FxHashSet::default();
    for item in items {
        way.clear_above(&item.path, &mut passed)?;
        way.clear_place(item)?;
    }
    Ok(())
}

/// Makes sure that `items` may be written where nothing stands in their way, and lists them as zako's. What a target of this build
/// takes for a source is a person's, and so is what zako does not know to have written, unless it gives way.
///
/// # Errors
/// When one of them would replace a person's file.
pub fn take_over(env: &StepEnv, items: &[OutputItem]) -> Result<(), OutputError> {
    let StepEnv { files, ledger, .. } = env;
    for item in items {
        let path = &*item.path;
        let theirs = !ledger.contains(path)
            && item.kind != OutputKind::Directory
            && fs::symlink_metadata(files.root().join(path)).is_ok()
            // Exactly what would be written harms nobody: the ledger was lost, say.
            && (env.claims.is_source(path) || !(is_intact(files, item) || gives_way(env, path)));
        if theirs {
            if is_intact(files, item) {
                // The next build takes it for an output, then.
                list(ledger, once(item))?;
            }
            return Err(OutputError::NotOurs(path.to_owned()));
        }
    }
    list(ledger, items.iter())
}

/// Whether what lies at `path` gives way: zako wrote it before its list of outputs was lost, as far as the cache has the same
/// content, or all such files are to be replaced.
fn gives_way(env: &StepEnv, path: &str) -> bool {
    let full = env.files.root().join(path);
    let is_dir = fs::symlink_metadata(full).is_ok_and(|found| found.is_dir());
    !is_dir && (env.overwrite || is_kept(env, path)) && !env.may_be_gits(path)
}

/// Whether the cache has what lies there.
fn is_kept(env: &StepEnv, path: &str) -> bool {
    let Ok(fact) = env.files.fact_of_output(path) else {
        return false;
    };
    let digest = Digest::new(*fact.hash.bytes(), fact.stamp.size_bytes);
    let found = env.store.blocking().contains(&[digest]);
    found.is_ok_and(|found| found == [true])
}

/// The way of one target's outputs.
struct Way<'a> {
    env: &'a StepEnv,
    target: &'a Target,
}

impl Way<'_> {
    fn full(&self, path: &str) -> PathBuf {
        self.env.files.root().join(path)
    }

    /// Makes sure that only directories lie above `path`, or links that lead to one; `passed` are directories that are known to be.
    fn clear_above<'p>(
        &self,
        path: &'p str,
        passed: &mut FxHashSet<&'p str>,
    ) -> Result<(), StepFailure> {
        let parent = path.rsplit_once('/').map(|(parent, _)| parent);
        if parent.is_none_or(|parent| !passed.insert(parent)) {
            return Ok(());
        }
        for dir in path.match_indices('/').map(|(end, _)| &path[..end]) {
            // Below what is not there is nothing.
            let Ok(found) = fs::symlink_metadata(self.full(dir)) else {
                break;
            };
            if !found.is_dir() && !self.leads_on(dir) {
                self.clear_file(dir)?;
                break;
            }
        }
        Ok(())
    }

    /// Makes sure that at the place of `item` lies nothing that it cannot replace.
    fn clear_place(&self, item: &OutputItem) -> Result<(), StepFailure> {
        let path = &*item.path;
        let Ok(found) = fs::symlink_metadata(self.full(path)) else {
            return Ok(());
        };
        match (&item.kind, found.is_dir()) {
            (OutputKind::Directory, false) if !self.leads_on(path) => self.clear_file(path),
            (OutputKind::File { .. } | OutputKind::Link(_), true) => self.clear_directory(path),
            _ => Ok(()),
        }
    }

    /// Whether at `path` lies a link to a directory which is not a leftover: a person may have what is built on another disk.
    fn leads_on(&self, path: &str) -> bool {
        let is_had = || self.check(once(path)).is_err();
        self.full(path).is_dir() && (is_had() || !self.is_zakos(path))
    }

    fn check<'p>(&self, paths: impl Iterator<Item = &'p str>) -> Result<(), StepFailure> {
        let checked = self.env.claims.check(&self.target.label, paths);
        checked.map_err(StepFailure::Clash)
    }

    fn clear_file(&self, path: &str) -> Result<(), StepFailure> {
        self.check(once(path))?;
        if self.is_zakos(path) {
            self.remove(once(path));
        } else if self.env.overwrite
            && !self.env.claims.names_source(path)
            && !self.env.may_be_gits(path)
        {
            // What is left of it is told when something is written there.
            drop(fs::remove_file(self.full(path)));
            self.env.files.removed(path);
            self.env.ledger.strike(path);
        } else if fs::symlink_metadata(self.full(path)).is_ok_and(|found| !found.is_dir()) {
            return Err(OutputError::NotOurs(path.to_owned()).into());
        }
        // Otherwise whoever left it has taken it away meanwhile.
        Ok(())
    }

    fn clear_directory(&self, path: &str) -> Result<(), StepFailure> {
        let listed = self.env.ledger.within(path);
        self.check(listed.iter().map(|path| &**path))?;
        // What is in a directory before the directory.
        let listed = listed.iter().rev().map(|path| &**path);
        let zakos: Vec<&str> = listed.filter(|path| self.is_zakos(path)).collect();
        self.remove(zakos.into_iter());
        let full = self.full(path);
        if fs::symlink_metadata(&full).is_ok_and(|found| found.is_dir()) {
            return Err(OutputError::Directory {
                path: path.to_owned(),
                inside: first_file(&full, path),
            }
            .into());
        }
        Ok(())
    }

    fn remove<'p>(&self, paths: impl Iterator<Item = &'p str>) {
        let StepEnv { files, ledger, .. } = self.env;
        let label = &self.target.label;
        let claims = &self.env.claims;
        claims.unclaimed(Some(label), paths, |paths| {
            remove(files, ledger, paths, label.dir());
        });
    }

    /// Whether what lies at `path` is what zako wrote there, and nobody but zako has to do with it.
    fn is_zakos(&self, path: &str) -> bool {
        let StepEnv { files, ledger, .. } = self.env;
        ledger.contains(path)
            && is_left(files, ledger, path) == Some(true)
            && !self.env.claims.names_source(path)
            && !self.env.may_be_gits(path)
    }
}

/// A file in the directory `dir`, which lies at `full`, or below it.
fn first_file(full: &Path, dir: &str) -> Option<String> {
    let entries = fs::read_dir(full).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    names.sort_unstable();
    names.into_iter().find_map(|name| {
        let path = join(dir, &name.to_string_lossy());
        let full = full.join(name);
        match fs::symlink_metadata(&full).is_ok_and(|found| found.is_dir()) {
            true => first_file(&full, &path),
            false => Some(path),
        }
    })
}
