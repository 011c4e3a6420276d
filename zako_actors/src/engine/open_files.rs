//! How many files this process may have open at a time.
//!
//! Owns the limit: as high as the system lets it be while a build runs, and as it was for children, which may
//! count on it (`select` knows 1024 files) or close everything below it. Does not know processes.
//! Invariants: a step begins with the limit that zako began with; nothing is lowered while files beyond the
//! lower limit are open, or, as far as a margin tells, about to be.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

/// Files that other threads may open while a child is being started.
const MARGIN: u64 = 256;

/// What this process began with, once that was changed.
static BEGAN_WITH: OnceLock<Rlimit> = OnceLock::new();

/// How many children are being started with the old limit in force.
static STARTING: Mutex<usize> = Mutex::new(0);

fn starting() -> MutexGuard<'static, usize> {
    STARTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Raises the limit as far as it goes.
pub fn raise() {
    BEGAN_WITH.get_or_init(|| {
        let began = getrlimit(Resource::Nofile);
        set(Rlimit {
            current: began.maximum,
            ..began
        });
        began
    });
}

/// Puts the limit back to what it was, for a program that this process is about to become.
pub fn restore() {
    if let Some(began) = BEGAN_WITH.get() {
        set(*began);
    }
}

fn set(limit: Rlimit) {
    // Whoever is refused goes on with what there is.
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!("cannot set the limit of open files: {error}");
    }
}

/// Starts a child with `start`, which is given the limit that this process began with. `lowest` is the lowest
/// number that an open file had a moment ago when all below were taken.
///
/// The limit belongs to a whole process and is inherited, so it is lowered for that moment; where so many files
/// are open that the lower limit would stop other threads, the child's is set as soon as it is there.
///
/// # Errors
/// Those of `start`.
pub fn with_old_limit<T, E>(
    lowest: u64,
    start: impl FnOnce() -> Result<T, E>,
    pid: impl FnOnce(&T) -> Pid,
) -> Result<T, E> {
    let Some(began) = BEGAN_WITH.get() else {
        return start();
    };
    let room = began.current.unwrap_or(u64::MAX);
    if lowest.saturating_add(MARGIN) >= room {
        let child = start()?;
        // It may have ended already.
        let _ended = prlimit(Some(pid(&child)), Resource::Nofile, *began);
        return Ok(child);
    }
    let _lowered = Lowered::new(began);
    start()
}

/// The old limit is in force as long as one of these is there.
struct Lowered<'a>(&'a Rlimit);

impl<'a> Lowered<'a> {
    fn new(began: &'a Rlimit) -> Self {
        let mut starting = starting();
        if *starting == 0 {
            set(*began);
        }
        *starting += 1;
        Self(began)
    }
}

impl Drop for Lowered<'_> {
    fn drop(&mut self) {
        let mut starting = starting();
        *starting -= 1;
        if *starting == 0 {
            set(Rlimit {
                current: self.0.maximum,
                ..*self.0
            });
        }
    }
}
