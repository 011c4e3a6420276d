//! Edits during a build: which running steps work on what is no longer so.
//!
//! Owns the list of running steps. Does not know how files are watched, nor what a step does.
//! Invariants: a step is given up at most once, and only for a file that is one of its sources and says
//! something else than what it works on; a
//! script that runs in the workspace is not, because what it writes may be among them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::cancel::CancelReason;
use super::files::read;
use super::step::StepJob;
use super::workspace::PRIVATE_DIR;

/// Directories that nobody edits.
pub const UNWATCHED: [&str; 3] = [PRIVATE_DIR, ".git", "node_modules"];

/// Whether the file at `path`, relative to the root, lies in a directory that nobody edits.
pub fn is_unwatched(path: &str) -> bool {
    path.split('/').any(|part| UNWATCHED.contains(&part))
}

/// The running steps of builds that somebody edits during.
#[derive(Debug, Default)]
pub struct Edits(Mutex<Vec<Weak<StepJob>>>);

impl Edits {
    /// From now on `job` is given up when one of its sources changes.
    pub fn follow(&self, job: &Arc<StepJob>) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// The steps that go on and have the file among their sources.
    fn readers(&self, name: &str) -> Vec<Arc<StepJob>> {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reads = |job: &Arc<StepJob>| {
            let place = job.sources.binary_search_by(|it| it.as_str().cmp(name));
            place.is_ok() && !job.is_in_place() && job.cancel.reason().is_none()
        };
        let jobs = running.iter().filter_map(Weak::upgrade);
        jobs.filter(reads).collect()
    }
}
