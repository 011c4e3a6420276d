//! Cancelling work from another thread.
//!
//! Owns: [`CancelToken`], a flag with actions that run once when it is set.
//! Invariants: an action runs at most once, either in `cancel` or at once when it is added too
//! late; a dropped guard's action does not run afterwards.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Action = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    cancelled: bool,
    next_id: u64,
    actions: Vec<(u64, Action)>,
}

/// A flag that is set once; clones share it.
#[derive(Clone, Default)]
pub struct CancelToken {
    state: Arc<Mutex<State>>,
}

impl CancelToken {
    /// A token that is not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the flag and runs the waiting actions on this thread.
    pub fn cancel(&self) {
        let actions = {
            let mut state = self.lock();
            state.cancelled = true;
            std::mem::take(&mut state.actions)
        };
        for (_, action) in actions {
            action();
        }
    }

    /// Whether the flag is set.
    pub fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    /// Runs `action` when the flag is set, at once if it is; never after the guard is dropped.
    /// The action runs on the cancelling thread and must be short.
    #[must_use = "dropping the guard removes the action"]
    pub fn on_cancel(&self, action: impl FnOnce() + Send + 'static) -> CancelGuard {
        let mut state = self.lock();
        let id = state.next_id;
        state.next_id += 1;
        if state.cancelled {
            drop(state);
            action();
        } else {
            state.actions.push((id, Box::new(action)));
        }
        CancelGuard {
            token: self.clone(),
            id,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken")
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

/// Removes its action when dropped.
pub struct CancelGuard {
    token: CancelToken,
    id: u64,
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        self.token.lock().actions.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn actions_run_once() {
        let count = Arc::new(AtomicU32::new(0));
        let token = CancelToken::new();
        let add = |count: &Arc<AtomicU32>| {
            let count = Arc::clone(count);
            move || {
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        let kept = token.on_cancel(add(&count));
        drop(token.on_cancel(add(&count)));
        token.cancel();
        token.cancel();
        assert_eq!(count.load(Ordering::Relaxed), 1);
        let late = token.on_cancel(add(&count));
        assert_eq!(count.load(Ordering::Relaxed), 2);
        assert!(token.is_cancelled());
        drop((kept, late));
    }
}
