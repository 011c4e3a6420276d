//! Deadlines for code that cannot be interrupted from within its own thread.
//!
//! Owns: one thread for the whole process, started at the first deadline, which sleeps until the
//! earliest one.
//! Does not know: what happens at a deadline; it runs an action, which may ask to be run again.
//! Invariant: an action does not run after its guard is dropped.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What happens at a deadline; another delay makes another deadline.
type Action = Box<dyn FnMut() -> Option<Duration> + Send>;

#[derive(Default)]
struct Deadlines {
    next_id: u64,
    waiting: BTreeMap<(Instant, u64), Action>,
    /// When each of them is due.
    due: HashMap<u64, Instant>,
    /// Until when the thread sleeps; it need not be woken for what comes later. `None`: until it is woken.
    sleeps_until: Option<Instant>,
}

impl Deadlines {
    /// A delay beyond what the clock can express is no deadline.
    fn insert(&mut self, id: u64, delay: Duration, action: Action) {
        if let Some(when) = Instant::now().checked_add(delay) {
            self.due.insert(id, when);
            self.waiting.insert((when, id), action);
        }
    }

    fn remove(&mut self, id: u64) {
        if let Some(when) = self.due.remove(&id) {
            self.waiting.remove(&(when, id));
        }
    }

    /// Runs the earliest action.
    fn run_first(&mut self) {
        let Some(((_, id), mut action)) = self.waiting.pop_first() else {
            return;
        };
        self.due.remove(&id);
        if let Some(delay) = action() {
            self.insert(id, delay, action);
        }
    }
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
        tracing::error!(%error, "no watchdog thread: time limits of scripts are not enforced");
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
                deadlines.run_first();
                deadlines
            }
            Some(when) => {
                deadlines.sleeps_until = Some(when);
                let wait = shared.changed.wait_timeout(deadlines, when - now);
                wait.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                deadlines.sleeps_until = None;
                let wait = shared.changed.wait(deadlines);
                wait.unwrap_or_else(PoisonError::into_inner)
            }
        };
    }
}

/// Runs `action` after `delay`, and again after each delay that it returns, unless the guard is
/// dropped before.
#[must_use = "dropping the guard disarms the deadline"]
pub(super) fn after(
    delay: Duration,
    action: impl FnMut() -> Option<Duration> + Send + 'static,
) -> DeadlineGuard {
    let mut deadlines = lock(&SHARED);
    let id = deadlines.next_id;
    deadlines.next_id += 1;
    deadlines.insert(id, delay, Box::new(action));
    let due = deadlines.due.get(&id);
    let is_first = due.is_some_and(|due| deadlines.sleeps_until.is_none_or(|until| *due < until));
    if is_first {
        SHARED.changed.notify_one();
    }
    DeadlineGuard { id }
}

/// Disarms its deadline when dropped.
pub(super) struct DeadlineGuard {
    id: u64,
}

impl Drop for DeadlineGuard {
    fn drop(&mut self) {
        lock(&SHARED).remove(self.id);
    }
}

/// The CPU time of one thread.
pub(super) struct ThreadClock {
    path: String,
}

impl ThreadClock {
    /// That of the calling thread.
    pub fn of_this_thread() -> Self {
        let id = rustix::thread::gettid().as_raw_nonzero();
        Self {
            path: format!("/proc/self/task/{id}/schedstat"),
        }
    }

    /// What the calling thread has used since it began: the same, sooner.
    pub fn read_own() -> Duration {
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(used).unwrap_or_default()
    }

    /// What it has used since it began; `None` where the system does not say.
    pub fn read(&self) -> Option<Duration> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        let spent = text.split_ascii_whitespace().next()?;
        Some(Duration::from_nanos(spent.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn only_armed_deadlines_run() {
        let (send, receive) = mpsc::channel();
        let say = |word: &'static str| {
            let send = send.clone();
            move || {
                send.send(word).unwrap_or(());
                None
            }
        };
        const LONG: Duration = Duration::from_secs(60);
        drop(after(LONG, say("disarmed")));
        let last = after(LONG, say("last"));
        // Due after one another, and both before what was there already.
        let _first = after(Duration::from_millis(1), say("first"));
        let _later = after(Duration::from_millis(20), say("later"));
        assert_eq!(receive.recv(), Ok("first"));
        assert_eq!(receive.recv(), Ok("later"));
        drop(last);
        let _never = after(Duration::MAX, || None);
        let mut left = 3;
        let _again = after(Duration::ZERO, {
            let send = send.clone();
            move || {
                left -= 1;
                send.send("again").unwrap_or(());
                (left > 0).then_some(Duration::ZERO)
            }
        });
        let again: Vec<_> = receive.iter().take(3).collect();
        assert_eq!(again, ["again"; 3]);
    }

    #[test]
    fn a_thread_that_computes_uses_cpu_time() {
        let clock = ThreadClock::of_this_thread();
        let Some(before) = clock.read() else {
            println!("did not run: no schedstat here");
            return;
        };
        while clock.read().unwrap() == before {
            std::hint::black_box((0..1000).sum::<u64>());
        }
        assert!(ThreadClock::read_own() >= before, "they are one clock");
    }
}
