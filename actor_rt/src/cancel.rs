//! Cancelling work: a flag that is set once, with actions that then run once.
//!
//! Owns: [`CancelToken`]. Does not know: what is cancelled.
//! Invariant: an action runs at most once, in `cancel` or, if it comes too late, when it is added; once
//! its guard is dropped it does not start any more, unless `cancel` has begun to run those that waited.

use crate::payload::Job;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

#[derive(Default)]
struct Shared {
    cancelled: AtomicBool,
    waiting: Mutex<Waiting>,
}

/// The actions, each at the place that its guard remembers.
#[derive(Default)]
struct Waiting {
    places: Vec<Option<Job>>,
    free: Vec<usize>,
}

impl Waiting {
    fn add(&mut self, action: Job) -> usize {
        let place = self.free.pop().unwrap_or(self.places.len());
        match self.places.get_mut(place) {
            Some(free) => *free = Some(action),
            None => self.places.push(Some(action)),
        }
        place
    }

    fn take_back(&mut self, place: usize) -> Option<Job> {
        let action = self.places.get_mut(place)?.take()?;
        self.free.push(place);
        Some(action)
    }
}

/// Tells work that nobody wants it any more. Clones share the flag.
///
/// ```
/// use actor_rt::CancelToken;
/// let token = CancelToken::new();
/// let worker = token.clone();
/// token.cancel();
/// assert!(worker.is_cancelled());
/// ```
#[derive(Clone, Default)]
pub struct CancelToken {
    shared: Arc<Shared>,
}

impl CancelToken {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels, and runs the actions that wait for it on this thread. Once is enough.
    pub fn cancel(&self) {
        let actions = {
            let mut waiting = self.lock();
            // Release pairs with the Acquire of `is_cancelled`.
            self.shared.cancelled.store(true, Ordering::Release);
            std::mem::take(&mut *waiting)
        };
        for action in actions.places.into_iter().flatten() {
            action.run();
        }
    }

    /// Whether it was cancelled. Cheap enough for inner loops.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::Acquire)
    }

    /// Whether both share the flag.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Runs `action` when the token is cancelled, at once if it is already, and not any more once the
    /// guard is dropped. It runs on the thread that cancels and must be short. A guard that is dropped while `cancel` runs the
    /// actions takes nothing back and does not wait: what must not come late asks that itself.
    #[must_use = "dropping the guard takes the action back"]
    pub fn on_cancel(&self, action: impl FnOnce() + Send + 'static) -> CancelGuard {
        let mut waiting = self.lock();
        let place = if self.is_cancelled() {
            drop(waiting);
            action();
            None
        } else {
            Some(waiting.add(Job::new(action)))
        };
        CancelGuard {
            token: self.clone(),
            place,
        }
    }

    /// Waits until the token is cancelled.
    pub async fn cancelled(&self) {
        let mut guard = None;
        poll_fn(|task| {
            if self.is_cancelled() {
                return Poll::Ready(());
            }
            let waker = task.waker().clone();
            guard = Some(self.on_cancel(move || waker.wake()));
            if self.is_cancelled() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.shared
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken")
            .field("cancelled", &self.is_cancelled())
            .finish()
    }
}

/// Takes its action back when dropped.
pub struct CancelGuard {
    token: CancelToken,
    /// Where the action waits, if it did not run at once. The token is cancelled once and takes no action after.
    place: Option<usize>,
}

impl fmt::Debug for CancelGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelGuard").field(&self.token).finish()
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let taken = self.token.lock().take_back(place);
        // Dropped outside the lock: what it captured may use the token.
        drop(taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn actions_run_once_unless_taken_back() {
        let count = Arc::new(AtomicU32::new(0));
        let add = || {
            let count = Arc::clone(&count);
            move || {
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        let token = CancelToken::new();
        let kept = token.on_cancel(add());
        drop(token.on_cancel(add()));
        token.cancel();
        token.cancel();
        assert_eq!(count.load(Ordering::Relaxed), 1);
        let late = token.on_cancel(add());
        assert_eq!(count.load(Ordering::Relaxed), 2);
        drop((kept, late));
    }

    #[test]
    fn waiting_ends_when_another_thread_cancels() {
        let token = CancelToken::new();
        let other = token.clone();
        let canceller = std::thread::spawn(move || other.cancel());
        let waited = crate::block::block_on(Box::pin(token.cancelled()), None);
        assert_eq!(waited, Some(()));
        canceller.join().expect("no panic");
    }
}
