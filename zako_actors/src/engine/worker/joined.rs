//! Who shares which process.
//!
//! Owns the places in processes that do several things at a time: who joins which, when another one is started
//! and when one is let go. Does not know the conversation (`crowd`).
//! Invariants: a process has at most as many requests as it may; after a request that failed or ran out of time
//! nobody joins until it has none, for what that one left is taken away only then; one that ended is joined by
//! nobody.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use super::crowd::Crowd;
use super::{Shelf, Workers};
use crate::engine::hash::Hash;

/// A process that several share, or will when the first of them has started it.
pub(super) struct Shared {
    key: Hash,
    process: Arc<Process>,
    under_way: usize,
    /// Nobody joins until it has nothing to do.
    closed: bool,
    /// Nobody else ever joins.
    alone: bool,
    pub(super) since: Instant,
}

impl Shared {
    pub(super) fn is_idle(&self) -> bool {
        self.under_way == 0
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("key", &self.key)
            .field("under_way", &self.under_way)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Process {
    starting: Mutex<()>,
    crowd: OnceLock<Crowd>,
}

/// A place in a process. Dropping it without [`done`](Self::done) has nobody join until all have left.
pub struct Joined {
    process: Arc<Process>,
    entered: bool,
    left: Vec<Box<str>>,
    done: bool,
    workers: Arc<Workers>,
}

impl Workers {
    /// A place in a process of this key that has fewer than `at_once` requests, or in a new one made by `start`;
    /// `alone`: in a new one that nobody else joins.
    ///
    /// # Errors
    /// Those of `start`.
    pub fn join<E>(
        self: &Arc<Self>,
        key: Hash,
        at_once: usize,
        alone: bool,
        start: impl FnOnce() -> Result<Crowd, E>,
    ) -> Result<Joined, E> {
        let joined = self.take_place(key, at_once, alone);
        let starting = joined.process.starting.lock();
        let starting = starting.unwrap_or_else(PoisonError::into_inner);
        if joined.process.crowd.get().is_none() {
            let crowd = start()?;
            self.started.fetch_add(1, Ordering::Relaxed);
            // This is the only one who starts it.
            drop(joined.process.crowd.set(crowd));
        }
        drop(starting);
        Ok(joined)
    }

    fn take_place(self: &Arc<Self>, key: Hash, at_once: usize, alone: bool) -> Joined {
        let mut shelf = self.lock();
        let open = |shared: &&mut Shared| -> bool {
            let lives = shared.process.crowd.get().is_none_or(Crowd::lives);
            let free = !shared.closed && !shared.alone && shared.under_way < at_once;
            shared.key == key && free && lives && !alone
        };
        let open = shelf.shared.iter_mut().filter(open);
        let process = match open.min_by_key(|shared| shared.under_way) {
            Some(shared) => {
                shared.under_way += 1;
                Arc::clone(&shared.process)
            }
            None => {
                let process = Arc::new(Process::default());
                shelf.shared.push(Shared {
                    key,
                    process: Arc::clone(&process),
                    under_way: 1,
                    closed: false,
                    alone,
                    since: Instant::now(),
                });
                process
            }
        };
        let room = self.make_room(&mut shelf);
        drop(shelf);
        // Waiting for a process to end is nothing to hold the lock for.
        drop(room);
        Joined {
            process,
            entered: false,
            left: Vec::new(),
            done: false,
            workers: Arc::clone(self),
        }
    }

    /// Takes out what has nothing to do, where there are more processes than there should be.
    fn make_room(&self, shelf: &mut Shelf) -> Option<Shared> {
        let count = shelf.idle.len() + shelf.busy + shelf.shared.len();
        let idle = shelf.shared.iter().position(Shared::is_idle);
        let place = idle.filter(|_| count > self.max)?;
        self.retired.fetch_add(1, Ordering::Relaxed);
        Some(shelf.shared.remove(place))
    }

    fn leave(self: &Arc<Self>, process: &Arc<Process>, done: bool) {
        let mut shelf = self.lock();
        let place = shelf
            .shared
            .iter()
            .position(|shared| Arc::ptr_eq(&shared.process, process));
        let Some(place) = place else {
            return;
        };
        let ended = shelf.ended;
        let shared = &mut shelf.shared[place];
        shared.under_way -= 1;
        shared.closed |= !done;
        shared.since = Instant::now();
        let mut gone = None;
        if shared.is_idle() {
            shared.closed = false;
            let lives = process.crowd.get().is_some_and(Crowd::lives);
            if ended || shared.alone || !lives {
                gone = Some(shelf.shared.remove(place));
            } else {
                self.plan_review(&mut shelf);
            }
        }
        drop(shelf);
        drop(gone);
        if done {
            self.served.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Joined {
    /// The process.
    pub fn crowd(&self) -> Option<&Crowd> {
        self.process.crowd.get()
    }

    /// Takes note that the files of a request lie there.
    pub fn entered(&mut self) {
        self.entered = true;
    }

    /// The request succeeded, and left these files.
    pub fn done<'p>(mut self, left: impl Iterator<Item = &'p str>) {
        self.left = left.map(Into::into).collect();
        self.done = true;
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(crowd) = self.process.crowd.get().filter(|_| self.entered) {
            crowd.leave(self.left.iter().map(|path| &**path));
        }
        self.workers.leave(&self.process, self.done);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_process_has_more_requests_than_allowed() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let workers = Workers::new(8, Duration::from_secs(60), runtime.handle().clone());
        let join = |alone| workers.take_place(Hash::of(b"tool"), 2, alone);
        let under_way = || -> Vec<usize> {
            let shelf = workers.lock();
            shelf.shared.iter().map(|shared| shared.under_way).collect()
        };
        let mut places: Vec<Joined> = (0..5).map(|_| join(false)).collect();
        assert_eq!(under_way(), [2, 2, 1]);
        let alone = join(true);
        places.push(join(false));
        assert_eq!(under_way(), [2, 2, 2, 1], "nobody joins who is alone");
        drop((places, alone));
        assert_eq!(under_way(), [0; 0], "what never started is gone");
    }

    #[test]
    fn who_comes_joins_the_process_with_the_least_to_do() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let workers = Workers::new(8, Duration::from_secs(60), runtime.handle().clone());
        let join = || workers.take_place(Hash::of(b"tool"), 3, false);
        let mut places: Vec<Joined> = (0..6).map(|_| join()).collect();
        let first = Arc::clone(&places[0].process);
        // Of the second process two leave, of the first one.
        let left = places.drain(4..).collect::<Vec<_>>();
        let left = left.into_iter().chain([places.remove(0)]);
        left.for_each(|place| place.done(std::iter::empty()));
        let next = join();
        assert!(!Arc::ptr_eq(&next.process, &first));
        assert!(Arc::ptr_eq(&next.process, &places[2].process));
    }
}
