//! Edits during a build: which running steps work on what is no longer so.
//!
//! Owns the list of running steps. Does not know how files are watched, nor what a step does.
//! Invariants: a step is given up at most once, and only for a file that is one of its sources; a
//! script that runs in the workspace is not, because what it writes may be among them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::cancel::CancelReason;
use super::step::StepJob;

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

    /// A file of the workspace was written, moved or removed.
    pub fn edited(&self, path: &Path) {
        let Some(path) = path.to_str() else { return };
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for job in running.iter().filter_map(Weak::upgrade) {
            let is_source = job.sources.binary_search_by(|it| it.as_str().cmp(path));
            if is_source.is_ok() && !job.is_in_place() {
                job.cancel.cancel(CancelReason::Invalidated);
            }
        }
    }
}
