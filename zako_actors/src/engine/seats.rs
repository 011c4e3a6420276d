//! Seats: which steps compute at a time, in a process of their own or in a worker process.
//!
//! Owns the count and what they take of the CPUs. Does not know processes: a command keeps its seat
//! until its process has ended, a request to a worker until it is answered, and an idle worker has
//! none. Does not know the schedule, but for the rank that it gives a step: it starts a few more steps than there are
//! seats, so that these look for results, copy inputs and put outputs away while others compute.
//! Invariants: those who sit take no more than the CPUs of `jobs` together, but for a single one that
//! wants more; of those who wait the most urgent one sits down first, and nobody before it does, however little
//! they want; a long step does not sit down where a more urgent one that has started, or that can begin
//! when one that just ended is put away, would find no seat; after `close` nobody does. Who is [expected](Seats::expect) waits
//! for no other step before it sits or is forgotten.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

use super::schedule::{Rank, Urgency};

/// A step that takes less is no reason to leave a seat empty for a moment, µs.
const LONG_US: u64 = 50_000;

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
    /// Who waits, in the order in which they came. The most urgent one is woken when
    /// there is room for it, so that a step that cannot run yet takes no CPU from those that do.
    waiting: Vec<Waiting>,
    /// Who has started and may want a seat, and who may come after one that ended.
    coming: Vec<Coming>,
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    thread: Thread,
    urgency: Urgency,
    cost_us: u64,
    cpu_milli: u64,
}

#[derive(Debug)]
struct Coming {
    node: u32,
    urgency: Urgency,
    cpu_milli: u64,
}

/// A seat; given back when dropped, in favour of those who could not begin before.
#[derive(Debug)]
pub struct Seat<'a> {
    seats: &'a Seats,
    rank: &'a Rank,
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

    /// A step has started that may want a seat soon: until it [takes](Self::take) one, or is
    /// [forgotten](Self::forget), long ones that are less urgent leave one empty for it.
    pub fn expect(&self, rank: &Rank) {
        self.lock().coming.push(Coming {
            node: rank.node,
            urgency: rank.urgency,
            cpu_milli: rank.cpu_milli,
        });
    }

    /// Nobody need wait any more for the step with this number, nor for those who come after it.
    pub fn forget(&self, node: u32) {
        let mut inner = self.lock();
        inner.coming.retain(|coming| coming.node != node);
        let next = inner.next(self.jobs);
        drop(inner);
        wake(next);
    }

    /// Waits for a seat. `None` once the seats are closed. Blocks.
    pub fn take<'a>(&'a self, rank: &'a Rank) -> Option<Seat<'a>> {
        let me = thread::current();
        let mut inner = self.lock();
        inner.coming.retain(|coming| coming.node != rank.node);
        inner.waiting.push(Waiting {
            thread: me.clone(),
            urgency: rank.urgency,
            cost_us: rank.cost_us,
            cpu_milli: rank.cpu_milli,
        });
        while !inner.closed {
            // A thread waits once at a time.
            let first = inner.first();
            let first = first.filter(|at| inner.waiting[*at].thread.id() == me.id());
            if let Some(at) = first.filter(|at| inner.has_room(*at, self.jobs)) {
                inner.waiting.remove(at);
                inner.sitting += 1;
                inner.taken_milli += rank.cpu_milli;
                let next = inner.next(self.jobs);
                drop(inner);
                wake(next);
                return Some(Seat { seats: self, rank });
            }
            drop(inner);
            // Whoever makes room, or closes, after the lock was let go of wakes this thread.
            thread::park();
            inner = self.lock();
        }
        inner
            .waiting
            .retain(|waiting| waiting.thread.id() != me.id());
        None
    }

    /// Lets nobody sit down any more.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        for Waiting { thread, .. } in waiting {
            thread.unpark();
        }
    }
}

impl Inner {
    /// The place of the most urgent one who waits.
    fn first(&self) -> Option<usize> {
        (0..self.waiting.len()).max_by_key(|at| self.waiting[*at].urgency)
    }

    /// Whether the one who waits at `place` may sit down.
    fn has_room(&self, place: usize, jobs: usize) -> bool {
        let waiting = &self.waiting[place];
        let more_urgent =
            |coming: &&Coming| waiting.cost_us >= LONG_US && coming.urgency > waiting.urgency;
        let (mut count, mut cpu_milli) = (self.sitting, self.taken_milli);
        for coming in self.coming.iter().filter(more_urgent) {
            count += 1;
            cpu_milli = cpu_milli.saturating_add(coming.cpu_milli);
        }
        let cpus = cpu_milli.saturating_add(waiting.cpu_milli);
        count == 0 || (count < jobs && cpus <= jobs as u64 * 1000)
    }

    /// Who is to be woken.
    fn next(&self, jobs: usize) -> Option<Thread> {
        let first = self.first()?;
        let has_room = self.has_room(first, jobs);
        has_room.then(|| self.waiting[first].thread.clone())
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
        inner.taken_milli -= self.rank.cpu_milli;
        if let Some(urgency) = self.rank.heirs {
            inner.coming.push(Coming {
                node: self.rank.node,
                urgency,
                cpu_milli: self.rank.cpu_milli,
            });
        }
        let next = inner.next(self.seats.jobs);
        drop(inner);
        wake(next);
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    use super::*;

    /// A long step of so many CPUs, at the beginning of a chain of `path_us`.
    fn rank(node: u32, path_us: u64, cpus: u64) -> Rank {
        Rank {
            node,
            urgency: (false, path_us, Reverse(node)),
            heirs: None,
            cost_us: LONG_US,
            cpu_milli: cpus * 1000,
        }
    }

    impl Seats {
        /// Returns once so many wait.
        fn await_waiting(&self, count: usize) {
            while self.lock().waiting.len() < count {
                thread::yield_now();
            }
        }
    }

    #[test]
    fn no_more_sit_than_there_are_seats() {
        let seats = Seats::new(3);
        let (sitting, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for number in 0..8 {
                let (seats, sitting, most) = (&seats, &sitting, &most);
                scope.spawn(move || {
                    for round in 0..50 {
                        let cpus = 1 + usize::from(number == 0);
                        let rank = rank(number, (u64::from(number) + round) % 5, cpus as u64);
                        let seat = seats.take(&rank).unwrap();
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
        let (large, small) = (rank(0, 1, 64), rank(1, 1, 1));
        let large = seats.take(&large).unwrap();
        thread::scope(|scope| {
            let small = scope.spawn(|| seats.take(&small).map(|_| ()));
            assert!(!small.is_finished());
            drop(large);
            assert_eq!(small.join().unwrap(), Some(()));
        });
    }

    #[test]
    fn the_most_urgent_sits_down_first_whoever_came_first() {
        let seats = Seats::new(1);
        let sits = rank(9, 1, 1);
        let sits = seats.take(&sits).unwrap();
        let (tell, told) = channel();
        thread::scope(|scope| {
            for (node, path_us) in [(0, 10), (1, 30), (2, 20), (3, 30)] {
                let (seats, tell) = (&seats, tell.clone());
                scope.spawn(move || {
                    let rank = rank(node, path_us, 1);
                    let seat = seats.take(&rank).unwrap();
                    tell.send(node).unwrap();
                    drop(seat);
                });
                seats.await_waiting(node as usize + 1);
            }
            drop(sits);
        });
        drop(tell);
        assert_eq!(told.iter().collect::<Vec<u32>>(), [1, 3, 2, 0]);
    }

    #[test]
    fn a_seat_is_left_empty_for_who_can_only_begin_now() {
        let seats = Seats::new(1);
        let (long, heir) = (rank(1, 10, 1), rank(2, 20, 1));
        let mut begins = rank(0, 30, 1);
        begins.heirs = Some((false, 20, Reverse(0)));
        let seat = seats.take(&begins).unwrap();
        let (tell, told) = channel();
        thread::scope(|scope| {
            let (seats, long, tell) = (&seats, &long, &tell);
            scope.spawn(move || {
                let _seat = seats.take(long);
                tell.send("long").unwrap();
            });
            seats.await_waiting(1);
            drop(seat);
            // The heir is expected before its time is over.
            seats.expect(&heir);
            seats.forget(0);
            let seat = seats.take(&heir).unwrap();
            tell.send("heir").unwrap();
            // Who needs none in the end is forgotten.
            seats.expect(&begins);
            drop(seat);
            tell.send("forgotten").unwrap();
            seats.forget(0);
        });
        drop(tell);
        let all: Vec<_> = told.iter().collect();
        assert_eq!(all, ["heir", "forgotten", "long"]);
        // One that is short, or that nobody knows, takes what there is.
        seats.expect(&begins);
        let mut short = rank(3, 10, 1);
        short.cost_us = LONG_US - 1;
        assert!(seats.take(&short).is_some());
    }

    #[test]
    fn who_waits_when_they_are_closed_goes() {
        let seats = Seats::new(1);
        let (first, second) = (rank(0, 1, 1), rank(1, 1, 1));
        let seat = seats.take(&first);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| seats.take(&second).is_none());
            seats.close();
            assert!(waiting.join().unwrap());
        });
        drop(seat);
        assert!(seats.take(&first).is_none());
    }
}
