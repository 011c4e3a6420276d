//! Edits during a build: which running steps work on what is no longer so, and what is no edit because a script did it.
//!
//! Owns the list of running steps, and what scripts left where their outputs go. Does not know how files are watched, nor what a
//! step does.
//! Invariants: a step is given up at most once, and only for a file that is one of its sources and says
//! something else than what it works on; a
//! script that runs in the workspace is not, because what it writes may be among them.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::cancel::CancelReason;
use super::files::read;
use super::rounds::Rounds;
use super::stamp::Stamp;
use super::step::StepJob;
use super::workspace::PRIVATE_DIR;
use crate::lang::label::Label;
use crate::lang::pattern::Pattern;
use crate::lang::target::{Output, join};
use crate::lang::text::Text;

/// Directories that nobody edits.
pub const UNWATCHED: [&str; 3] = [PRIVATE_DIR, ".git", "node_modules"];

/// Whether the file at `path`, relative to the root, lies in a directory that nobody edits.
pub fn is_unwatched(path: &str) -> bool {
    path.split('/').any(|part| UNWATCHED.contains(&part))
}

/// The running steps of builds that somebody edits during, and what their scripts left.
#[derive(Debug, Default)]
pub struct Edits {
    /// What the builds themselves do.
    pub rounds: Rounds,
    running: Mutex<Vec<Weak<StepJob>>>,
    /// The last run of each script, in the order of their ends.
    left: Mutex<Vec<(Label, Left)>>,
}

/// What lay where the outputs of a script go when it ended, however it did.
#[derive(Debug)]
pub struct Left {
    /// As it declares them.
    pub outs: Vec<Output>,
    /// Not them.
    pub out_exclude: Vec<Pattern>,
    /// What was there; nothing else was.
    pub found: BTreeMap<Text, Stamp>,
}

impl Left {
    fn covers(&self, path: &str) -> bool {
        let is_it = |out: &Output| match out {
            Output::Tree(dir) => dir == path || out.covers(path),
            Output::Glob(pattern) => pattern.base() == path || out.covers(path),
            Output::File(_) => out.covers(path),
        };
        self.outs.iter().any(is_it) && !self.out_exclude.iter().any(|out| out.matches(path))
    }
}

impl Edits {
    /// From now on `job` is given up when one of its sources changes.
    pub fn follow(&self, job: &Arc<StepJob>) {
        let mut running = lock(&self.running);
        running.retain(|job| job.strong_count() > 0);
        running.push(Arc::downgrade(job));
    }

    /// A file of the workspace at `root` was written, moved or removed.
    pub fn edited(&self, root: &Path, path: &Path) {
        let Some(name) = path.to_str() else { return };
        let readers = self.readers(name);
        if readers.is_empty() {
            return;
        }
        let content = read(&root.join(path)).ok().map(|(hash, _)| hash);
        for job in readers {
            // Of a step that has not looked yet nobody knows what it will have seen.
            if content.is_none() || job.content_of(name) != content {
                job.cancel.cancel(CancelReason::Invalidated);
            }
        }
    }

    /// The script of `label` has ended.
    pub fn ended(&self, label: &Label, its: Left) {
        let mut left = lock(&self.left);
        left.retain(|(other, _)| other != label);
        left.push((label.clone(), its));
    }

    /// Whether at `path` in the workspace at `root` lies what the last script that writes there left, and with a directory whether
    /// all of its files do; or nothing lies there, and that script left nothing.
    pub fn is_as_left(&self, root: &Path, path: &str) -> bool {
        let full = root.join(path);
        let now = fs::symlink_metadata(&full).ok();
        if now.as_ref().is_some_and(Metadata::is_dir) {
            let mut entries = fs::read_dir(&full).into_iter().flatten().flatten();
            return entries.all(|entry| {
                let name = entry.file_name();
                let name = name.to_str();
                name.is_some_and(|name| self.is_as_left(root, &join(path, name)))
            });
        }
        let left = lock(&self.left);
        let last = left.iter().rev().find(|(_, left)| left.covers(path));
        last.is_some_and(|(_, left)| left.found.get(path).copied() == now.as_ref().map(Stamp::of))
    }

    /// The steps that go on and have the file among their sources.
    fn readers(&self, name: &str) -> Vec<Arc<StepJob>> {
        let running = lock(&self.running);
        let reads = |job: &Arc<StepJob>| {
            let place = job.sources.binary_search_by(|it| it.as_str().cmp(name));
            place.is_ok() && !job.is_in_place() && job.cancel.reason().is_none()
        };
        let jobs = running.iter().filter_map(Weak::upgrade);
        jobs.filter(reads).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
