//! What happens to the waiting jobs of a token that is cancelled.
//!
//! Owns: one action per token and pool, which all jobs that come with the token share: adding one for each
//! job and taking it back costs as much as the rest of its way.
//! Does not know: which jobs wait; the action has the pool look.
//! Invariant: the action is in the token as long as a job waits whose watch this is.

use super::{Shared, Work};
use crate::cancel::{CancelGuard, CancelToken};
use crate::payload;
use std::sync::{Arc, Mutex, PoisonError};

pub(super) struct Watch {
    pub(super) token: CancelToken,
    /// Takes the action back.
    _guard: CancelGuard,
}

/// Counted: one for each job, and one for the jobs to come.
pub(super) type Watching = payload::Shared<Watch>;

/// The watch of the token that came last.
#[derive(Default)]
pub(super) struct Latest(Mutex<Option<Watching>>);

impl Latest {
    fn exchange<R>(&self, with: impl FnOnce(&mut Option<Watching>) -> R) -> R {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The watch of a token for a job of this pool.
    pub(super) fn watch<W: Work>(&self, pool: &Arc<Shared<W>>, token: &CancelToken) -> Watching {
        let known = self.exchange(|latest| {
            let same = |latest: &&Watching| latest.token.is_same(token);
            latest.as_ref().filter(same).cloned()
        });
        known.unwrap_or_else(|| {
            // Not counted, because the pool has the watch.
            let pool = Arc::downgrade(pool);
            let guard = token.on_cancel(move || {
                if let Some(pool) = pool.upgrade() {
                    pool.cancel();
                }
            });
            let watch = Watching::new(Watch {
                token: token.clone(),
                _guard: guard,
            });
            let older = self.exchange(|latest| latest.replace(watch.clone()));
            // Outside the lock: it may take its action back.
            drop(older);
            watch
        })
    }
}
