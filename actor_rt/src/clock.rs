//! The clock: runs short jobs at their time, on one thread, started at first use.
//!
//! Owns: the heap of jobs. One clock serves all systems of the process and is never stopped.
//! Does not know: actors; a job is a closure that must be quick (raise a signal, send a message).
//! A thread of its own means that no flood of messages can starve a timer.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

type Job = Box<dyn FnOnce() + Send>;

struct Entry {
    at: Instant,
    order: u64,
    job: Job,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    /// Reversed, because the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

#[derive(Default)]
struct State {
    heap: BinaryHeap<Entry>,
    order: u64,
}

#[derive(Default)]
pub(crate) struct Clock {
    state: Mutex<State>,
    changed: Condvar,
}

impl Clock {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) -> ! {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            match state.heap.peek().map(|entry| entry.at) {
                None => {
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner)
                }
                Some(at) if at > now => {
                    let waited = self.changed.wait_timeout(state, at - now);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                Some(_) => {
                    let due = state.heap.pop();
                    drop(state);
                    if let Some(entry) = due {
                        // A job may run a user's waker; its panic was reported where it arose.
                        let _ = catch_unwind(AssertUnwindSafe(entry.job));
                    }
                    state = self.lock();
                }
            }
        }
    }

    /// When the first job is due.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.lock().heap.peek().map(|first| first.at)
    }

    /// Runs the first job if it is due at `now`, for a clock without a thread.
    pub(crate) fn run_due(&self, now: Instant) {
        let mut state = self.lock();
        if state.heap.peek().is_some_and(|first| first.at <= now)
            && let Some(entry) = state.heap.pop()
        {
            drop(state);
            (entry.job)();
        }
    }

    /// Runs `job` at `at`; jobs of the same time run in the order given.
    pub(crate) fn at(&self, at: Instant, job: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        state.order += 1;
        let order = state.order;
        let sooner = state.heap.peek().is_none_or(|first| at < first.at);
        state.heap.push(Entry {
            at,
            order,
            job: Box::new(job),
        });
        drop(state);
        if sooner {
            self.changed.notify_one();
        }
    }
}

/// The process's clock, started at first use.
///
/// # Panics
/// If the operating system gives no thread for it.
pub(crate) fn clock() -> &'static Clock {
    static CLOCK: OnceLock<&'static Clock> = OnceLock::new();
    CLOCK.get_or_init(|| {
        let clock: &'static Clock = Box::leak(Box::default());
        std::thread::Builder::new()
            .name("actor-clock".into())
            .spawn(|| clock.run())
            .expect("the operating system provides a thread for timers");
        clock
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn jobs_run_in_order_of_time_and_then_of_arrival() {
        let (sender, receiver) = channel();
        let base = Instant::now() + Duration::from_millis(5);
        for (label, delay) in [("late", 2), ("first", 0), ("second", 0), ("middle", 1)] {
            let sender = sender.clone();
            clock().at(base + Duration::from_millis(delay), move || {
                sender.send(label).expect("the test listens");
            });
        }
        let order: Vec<_> = (0..4).map(|_| receiver.recv().expect("due")).collect();
        assert_eq!(order, ["first", "second", "middle", "late"]);
        assert!(Instant::now() >= base + Duration::from_millis(2));
    }
}
