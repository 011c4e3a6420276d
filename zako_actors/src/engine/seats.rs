//! Seats: which steps compute at a time, in a process of their own or in a worker process.
//!
//! Owns the count and what they take of the CPUs. Does not know processes: a command keeps its seat
//! until its process has ended, a request to a worker until it is answered, and an idle worker has
//! none. Does not know the schedule: that starts a few more steps than there are seats, so that these
//! look for results, copy inputs and put outputs away while others compute.
//! Invariants: those who sit take no more than the CPUs of `jobs` together, but for a single one that
//! wants more; they sit down in the order in which they came; after `close` nobody does.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

/// The seats of one build.
#[derive(Debug)]
pub struct Seats {
    jobs: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sitting: usize,
    taken_milli: u64,
    /// Who waits, in the order in which they came, with the CPUs that they want. The first one is woken when
    /// there is room for it, so that a step that cannot run yet takes no CPU from those that do.
    waiting: VecDeque<(Thread, u64)>,
    closed: bool,
}

/// A seat; given back when dropped.
#[derive(Debug)]
pub struct Seat<'a> {
    seats: &'a Seats,
    cpu_milli: u64,
}

impl Seats {
    /// Seats for `jobs` processes (at least one) of one CPU each.
    pub fn new(jobs: usize) -> Self {
        Self {
            jobs: jobs.max(1),
            inner: Mutex::default(),
        }
    }

    /// How many steps may be under way, seated or not: those that prepare themselves or put their
    /// outputs away use a CPU for a small part of the time.
    pub fn steps(jobs: usize) -> usize {
        jobs + jobs.clamp(2, 8)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a seat of so many thousandths of a CPU. `None` once the seats are closed. Blocks.
    pub fn take(&self, cpu_milli: u64) -> Option<Seat<'_>> {
        let me = thread::current();
        let mut inner = self.lock();
        inner.waiting.push_back((me.clone(), cpu_milli));
        while !inner.closed {
            // A thread waits once at a time.
            let is_first = inner
                .waiting
                .front()
                .is_some_and(|(first, _)| first.id() == me.id());
            if is_first && inner.has_room(self.jobs) {
                inner.waiting.pop_front();
                inner.sitting += 1;
                inner.taken_milli += cpu_milli;
                let next = inner.next(self.jobs);
                drop(inner);
                wake(next);
                return Some(Seat {
                    seats: self,
                    cpu_milli,
                });
            }
            drop(inner);
            // Whoever makes room, or closes, after the lock was let go of wakes this thread.
            thread::park();
            inner = self.lock();
        }
        inner.waiting.retain(|(thread, _)| thread.id() != me.id());
        None
    }

    /// Lets nobody sit down any more.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        for (thread, _) in waiting {
            thread.unpark();
        }
    }
}

impl Inner {
    /// Whether the one who waits first may sit down.
    fn has_room(&self, jobs: usize) -> bool {
        let Some((_, cpu_milli)) = self.waiting.front() else {
            return false;
        };
        let cpus = self.taken_milli.saturating_add(*cpu_milli);
        self.sitting == 0 || (self.sitting < jobs && cpus <= jobs as u64 * 1000)
    }

    /// Who is to be woken.
    fn next(&self, jobs: usize) -> Option<Thread> {
        let (thread, _) = self.waiting.front()?;
        self.has_room(jobs).then(|| thread.clone())
    }
}

fn wake(thread: Option<Thread>) {
    if let Some(thread) = thread {
        thread.unpark();
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut inner = self.seats.lock();
        inner.sitting -= 1;
        inner.taken_milli -= self.cpu_milli;
        let next = inner.next(self.seats.jobs);
        drop(inner);
        wake(next);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn no_more_sit_than_there_are_seats() {
        let seats = Seats::new(3);
        let (sitting, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for number in 0..8 {
                let (seats, sitting, most) = (&seats, &sitting, &most);
                scope.spawn(move || {
                    for _ in 0..50 {
                        let cpus = 1 + usize::from(number == 0);
                        let seat = seats.take(cpus as u64 * 1000).unwrap();
                        let now = sitting.fetch_add(cpus, Ordering::Relaxed) + cpus;
                        most.fetch_max(now, Ordering::Relaxed);
                        thread::yield_now();
                        sitting.fetch_sub(cpus, Ordering::Relaxed);
                        drop(seat);
                    }
                });
            }
        });
        assert!(most.load(Ordering::Relaxed) <= 3);
    }

    #[test]
    fn one_that_wants_more_than_there_is_sits_alone() {
        let seats = Seats::new(2);
        let large = seats.take(64_000).unwrap();
        thread::scope(|scope| {
            let small = scope.spawn(|| seats.take(1000).map(|_| ()));
            assert!(!small.is_finished());
            drop(large);
            assert_eq!(small.join().unwrap(), Some(()));
        });
    }

    #[test]
    fn who_waits_when_they_are_closed_goes() {
        let seats = Seats::new(1);
        let seat = seats.take(1000);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| seats.take(1000).is_none());
            seats.close();
            assert!(waiting.join().unwrap());
        });
        drop(seat);
        assert!(seats.take(1000).is_none());
    }
}
