//! The clock: runs short jobs at their time, on one thread, started at first use.
//!
//! Owns: the jobs to come, each in a block of the slabs: setting a timer allocates nothing once warm. One clock serves
//! all systems of the process and is never stopped.
//! Does not know: actors; a job is a closure that must be quick (raise a signal, send a message).
//! A thread of its own means that no flood of messages can starve a timer.
//!
//! Two locks: who sets a timer holds the first one for the push of a pair; the thread fetches what was pushed and holds the
//! second one for the `wheel`, in which only alarms meet it. With one lock for both, a flood of timers from two workers spent a
//! third of its time waiting.

mod wheel;

use crate::payload::{Due, Job};
use crate::sched::mark_thread;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use wheel::{Key, Wheel};

/// Jobs taken out of the wheel under one lock.
const BATCH: usize = 64;
/// So many jobs that nobody wants are not worth a look at all the others.
const FEW: usize = 1024;

/// Most bytes that are kept for the next clearing.
const KEPT_BYTES: usize = 64 * 1024;

/// Room for what is on its way into the wheel or out of it, so that once warm it is not asked for again.
#[derive(Default)]
struct Trays {
    came: Vec<(u64, Job)>,
    unwanted: Vec<Job>,
}

/// What the thread has not seen yet.
struct Inbox {
    /// Jobs and when they are due, in the order given.
    jobs: Vec<(u64, Job)>,
    /// Whether something came, also an alarm that went into the wheel directly: then the thread does not sleep.
    news: bool,
    /// When the thread looks again, while it sleeps.
    looks_at: Option<u64>,
}

pub(crate) struct Clock {
    /// Where the wheel's time begins.
    epoch: Instant,
    inbox: Mutex<Inbox>,
    came: Condvar,
    wheel: Mutex<Wheel<Job>>,
    /// How many jobs of the wheel nobody may want any more, by what was told since that was looked at.
    unwanted: AtomicUsize,
    /// With so many the wheel is cleared of them: the cost is that of the news.
    too_many: AtomicUsize,
}

impl Default for Clock {
    fn default() -> Self {
        let inbox = Inbox {
            jobs: Vec::new(),
            news: false,
            looks_at: None,
        };
        Self {
            epoch: Instant::now(),
            inbox: Mutex::new(inbox),
            came: Condvar::new(),
            wheel: Mutex::new(Wheel::new()),
            unwanted: AtomicUsize::new(0),
            too_many: AtomicUsize::new(FEW),
        }
    }
}

/// A time after `now`; what the system's clock cannot express is as good as never.
pub(crate) fn later(now: Instant, delay: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    now.checked_add(delay).unwrap_or_else(|| now + CENTURY)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clock {
    /// Nanoseconds of the wheel: 584 years of them.
    fn tick(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    fn run(&self) -> ! {
        let mut trays = Trays::default();
        let mut due = Vec::with_capacity(BATCH);
        loop {
            let mut wheel = self.fetch(&mut trays);
            let now = self.tick(Instant::now());
            let popped = std::iter::from_fn(|| wheel.pop_due(now));
            // They were written on other cores: their lines come while the last ones of the batch are popped.
            due.extend(popped.take(BATCH).inspect(Job::prefetch));
            let look_at = wheel.look_at();
            drop(wheel);
            if due.is_empty() {
                self.sleep(now, look_at);
            }
            for job in due.drain(..) {
                // A job may run a user's waker; its panic was reported where it arose.
                let _ = catch_unwind(AssertUnwindSafe(|| job.run()));
            }
        }
    }

    /// Moves what came into the wheel, by way of an empty vector.
    fn fetch(&self, trays: &mut Trays) -> MutexGuard<'_, Wheel<Job>> {
        {
            let mut inbox = lock(&self.inbox);
            std::mem::swap(&mut inbox.jobs, &mut trays.came);
            inbox.news = false;
        }
        let mut wheel = lock(&self.wheel);
        for (at, job) in trays.came.drain(..) {
            wheel.insert(at, job);
        }
        // Relaxed, here and below: mere numbers.
        let too_many = (wheel.len() / 2).max(FEW);
        self.too_many.store(too_many, Ordering::Relaxed);
        if self.unwanted.load(Ordering::Relaxed) < too_many {
            return wheel;
        }
        self.unwanted.store(0, Ordering::Relaxed);
        wheel.retain(Job::is_wanted, &mut trays.unwanted);
        drop(wheel);
        discard(&mut trays.unwanted);
        lock(&self.wheel)
    }

    /// Drops all jobs, for a clock without a thread.
    pub(crate) fn clear(&self) {
        let mut all = Vec::new();
        self.fetch(&mut Trays::default())
            .retain(|_| false, &mut all);
        discard(&mut all);
    }

    /// So many jobs may be wanted by nobody from now on. Once half of them are, they are dropped before their time.
    pub(crate) fn note_unwanted(&self, jobs: usize) {
        let before = self.unwanted.fetch_add(jobs, Ordering::Relaxed);
        if before.saturating_add(jobs) >= self.too_many.load(Ordering::Relaxed) {
            let inbox = lock(&self.inbox);
            if !inbox.news {
                self.announce(inbox, 0);
            }
        }
    }

    /// Sleeps until it is time to look again, unless something came since the inbox was fetched.
    fn sleep(&self, now: u64, look_at: Option<u64>) {
        let mut inbox = lock(&self.inbox);
        if inbox.news {
            return;
        }
        inbox.looks_at = Some(look_at.unwrap_or(u64::MAX));
        inbox = match look_at {
            None => self
                .came
                .wait(inbox)
                .unwrap_or_else(PoisonError::into_inner),
            Some(look) => {
                let pause = Duration::from_nanos(look.saturating_sub(now));
                let waited = self.came.wait_timeout(inbox, pause);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        inbox.looks_at = None;
    }

    /// When the first job is due, for a clock without a thread.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        let first = self.fetch(&mut Trays::default()).first_at()?;
        Some(self.epoch + Duration::from_nanos(first))
    }

    /// Runs the first job if it is due at `now`, for a clock without a thread.
    pub(crate) fn run_due(&self, now: Instant) {
        let due = self.fetch(&mut Trays::default()).pop_due(self.tick(now));
        if let Some(job) = due {
            job.run();
        }
    }

    /// Runs `job` at `at`; jobs of the same time run in the order given.
    pub(crate) fn at(&self, at: Instant, job: impl Due) {
        let at = self.tick(at);
        let job = Job::new(job);
        let mut inbox = lock(&self.inbox);
        inbox.jobs.push((at, job));
        self.announce(inbox, at);
    }

    /// Lets the thread know of something that is due at `at`.
    fn announce(&self, mut inbox: MutexGuard<'_, Inbox>, at: u64) {
        inbox.news = true;
        // Who wakes the sleeper takes its note away, so that nobody wakes it twice.
        let wakes = inbox.looks_at.is_some_and(|look| at < look);
        if wakes {
            inbox.looks_at = None;
        }
        drop(inbox);
        if wakes {
            self.came.notify_one();
        }
    }
}

fn discard(jobs: &mut Vec<Job>) {
    for job in jobs.drain(..) {
        // What it holds is a user's.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(job)));
    }
    if jobs.capacity() * size_of::<Job>() > KEPT_BYTES {
        *jobs = Vec::new();
    }
}

/// A clock that somebody keeps.
pub(crate) enum ClockRef {
    /// The process's, which is never stopped.
    Process(&'static Clock),
    Simulated(Arc<Clock>),
}

impl From<&'static Clock> for ClockRef {
    fn from(clock: &'static Clock) -> Self {
        Self::Process(clock)
    }
}

impl Deref for ClockRef {
    type Target = Clock;

    fn deref(&self) -> &Clock {
        match self {
            Self::Process(clock) => clock,
            Self::Simulated(clock) => clock,
        }
    }
}

impl ClockRef {
    /// Runs `job` at `at`, unless the alarm is dropped before.
    pub(crate) fn alarm(self, at: Instant, job: impl Due) -> Alarm {
        let at = self.tick(at);
        let key = lock(&self.wheel).insert(at, Job::new(job));
        self.announce(lock(&self.inbox), at);
        Alarm { clock: self, key }
    }
}

/// A job to come that is taken back by being dropped.
pub(crate) struct Alarm {
    clock: ClockRef,
    key: Key,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let job = lock(&self.clock.wheel).remove(self.key);
        // Outside the lock: what it holds may use the clock.
        drop(job);
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
            .spawn(|| {
                mark_thread();
                clock.run()
            })
            .expect("the operating system provides a thread for timers");
        clock
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

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

    #[test]
    fn a_sooner_job_wakes_the_sleeping_clock() {
        let (sender, receiver) = channel();
        let far = sender.clone();
        clock().at(Instant::now() + Duration::from_secs(3600), move || {
            let _ = far.send("far");
        });
        clock().at(Instant::now(), move || {
            sender.send("near").expect("the test listens");
        });
        assert_eq!(receiver.recv(), Ok("near"));
    }

    #[test]
    fn a_dropped_alarm_is_taken_back() {
        let (sender, receiver) = channel::<()>();
        let alarm = ClockRef::Process(clock()).alarm(
            Instant::now() + Duration::from_secs(3600),
            move || {
                let _ = sender.send(());
            },
        );
        drop(alarm);
        assert!(receiver.recv().is_err(), "the job and its sender are gone");
    }

    #[test]
    fn a_job_that_panics_stops_no_clock() {
        let (sender, receiver) = channel();
        clock().at(Instant::now(), || {
            std::panic::resume_unwind(Box::new("as told"))
        });
        clock().at(Instant::now(), move || {
            sender.send(()).expect("the test listens");
        });
        assert_eq!(receiver.recv(), Ok(()));
    }
}
