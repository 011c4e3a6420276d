//! Seats: which steps compute at a time, in a process of their own or in a worker process.
//!
//! Owns the count and what they take of the CPUs. Does not know processes: a command keeps its seat
//! until its process has ended, a request to a worker until it is answered, and an idle worker has
//! none. Does not know the schedule: that starts a few more steps than there are seats, so that these
//! look for results, copy inputs and put outputs away while others compute.
//! Invariants: those who sit take no more than the CPUs of `jobs` together, but for a single one that
//! wants more; they sit down in the order in which they came; after `close` nobody does.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The seats of one build.
#[derive(Debug)]
pub struct Seats {
    jobs: usize,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    sitting: usize,
    taken_milli: u64,
    /// Who comes next, and who is served next.
    next_ticket: u64,
    served: u64,
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
            changed: Condvar::new(),
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
        let mut inner = self.lock();
        let ticket = inner.next_ticket;
        inner.next_ticket += 1;
        while !inner.closed {
            let room = inner.sitting < self.jobs
                && inner.taken_milli.saturating_add(cpu_milli) <= self.jobs as u64 * 1000;
            if inner.served == ticket && (room || inner.sitting == 0) {
                inner.served += 1;
                inner.sitting += 1;
                inner.taken_milli += cpu_milli;
                drop(inner);
                // There may be room for the next one as well.
                self.changed.notify_all();
                return Some(Seat {
                    seats: self,
                    cpu_milli,
                });
            }
            let woken = self.changed.wait(inner);
            inner = woken.unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    /// Lets nobody sit down any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut inner = self.seats.lock();
        inner.sitting -= 1;
        inner.taken_milli -= self.cpu_milli;
        drop(inner);
        self.seats.changed.notify_all();
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
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (seats, sitting, most) = (&seats, &sitting, &most);
                scope.spawn(move || {
                    for _ in 0..50 {
                        let cpus = 1 + usize::from(number == 0);
                        let seat = seats.take(cpus as u64 * 1000).unwrap();
                        let now = sitting.fetch_add(cpus, Ordering::Relaxed) + cpus;
                        most.fetch_max(now, Ordering::Relaxed);
                        std::thread::yield_now();
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
        std::thread::scope(|scope| {
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
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| seats.take(1000).is_none());
            seats.close();
            assert!(waiting.join().unwrap());
        });
        drop(seat);
        assert!(seats.take(1000).is_none());
    }
}
