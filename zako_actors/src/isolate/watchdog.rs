//! Deadlines for code that cannot be interrupted from within its own thread.
//!
//! Owns: one thread for the whole process, started at the first deadline, which sleeps until the
//! earliest one.
//! Does not know: what happens at a deadline; it runs an action.
//! Invariant: an action does not run after its guard is dropped.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

type Action = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Deadlines {
    next_id: u64,
    waiting: BTreeMap<(Instant, u64), Action>,
}

#[derive(Default)]
struct Shared {
    deadlines: Mutex<Deadlines>,
    changed: Condvar,
}

static SHARED: LazyLock<Arc<Shared>> = LazyLock::new(|| {
    let shared = Arc::new(Shared::default());
    let thread = Arc::clone(&shared);
    let spawned = std::thread::Builder::new()
        .name("zako-watchdog".to_owned())
        .spawn(move || watch(&thread));
    if let Err(error) = spawned {
        tracing::error!(%error, "no watchdog thread: wall-clock limits of scripts are not enforced");
    }
    shared
});

fn lock(shared: &Shared) -> MutexGuard<'_, Deadlines> {
    shared
        .deadlines
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

fn watch(shared: &Shared) {
    let mut deadlines = lock(shared);
    loop {
        let now = Instant::now();
        let next = deadlines
            .waiting
            .first_key_value()
            .map(|((when, _), _)| *when);
        deadlines = match next {
            Some(when) if when <= now => {
                // The action runs under the lock: a guard that is dropped now waits for its end.
                if let Some((_, action)) = deadlines.waiting.pop_first() {
                    action();
                }
                deadlines
            }
            Some(when) => {
                let wait = shared.changed.wait_timeout(deadlines, when - now);
                wait.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let wait = shared.changed.wait(deadlines);
                wait.unwrap_or_else(PoisonError::into_inner)
            }
        };
    }
}

/// Runs `action` after `delay`, unless the guard is dropped before.
#[must_use = "dropping the guard disarms the deadline"]
pub(super) fn after(delay: Duration, action: impl FnOnce() + Send + 'static) -> DeadlineGuard {
    let mut deadlines = lock(&SHARED);
    let id = deadlines.next_id;
    deadlines.next_id += 1;
    // A delay beyond what the clock can express is no deadline.
    let key = Instant::now().checked_add(delay).map(|when| (when, id));
    if let Some(key) = key {
        deadlines.waiting.insert(key, Box::new(action));
        SHARED.changed.notify_one();
    }
    DeadlineGuard { key }
}

/// Disarms its deadline when dropped.
pub(super) struct DeadlineGuard {
    key: Option<(Instant, u64)>,
}

impl Drop for DeadlineGuard {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            lock(&SHARED).waiting.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn only_armed_deadlines_run() {
        let (send, receive) = mpsc::channel();
        let disarmed = send.clone();
        drop(after(Duration::from_millis(1), move || {
            disarmed.send("disarmed").unwrap_or(())
        }));
        let later = send.clone();
        let _later = after(Duration::from_millis(20), move || {
            later.send("later").unwrap_or(())
        });
        let _first = after(Duration::from_millis(1), move || {
            send.send("first").unwrap_or(())
        });
        assert_eq!(receive.recv(), Ok("first"));
        assert_eq!(receive.recv(), Ok("later"));
        let _never = after(Duration::MAX, || {});
    }
}
