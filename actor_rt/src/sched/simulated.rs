//! What takes the place of workers and clock in a simulation.
//!
//! Owns: the random choices, all from one seed, and virtual time.
//! Does not know: actors; `Runtime::simulate_turn` asks it whom to run.

use crate::clock::Clock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(crate) struct Simulated {
    pub(crate) clock: Clock,
    now: Mutex<Instant>,
    state: AtomicU64,
    /// Messages in a thousand whose handler panics.
    faults: AtomicU32,
}

impl Simulated {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            clock: Clock::default(),
            now: Mutex::new(Instant::now()),
            state: AtomicU64::new(seed),
            faults: AtomicU32::new(0),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_now(&self, now: Instant) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    pub(crate) fn later(&self, by: Duration) -> Instant {
        self.now() + by
    }

    pub(crate) fn set_faults(&self, per_mille: u32) {
        self.faults.store(per_mille, Ordering::Relaxed);
    }

    /// The next random number (SplitMix64, Steele et al. 2014).
    pub(crate) fn random(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self
            .state
            .fetch_add(STEP, Ordering::Relaxed)
            .wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Panics now and then, if faults are on.
    pub(crate) fn maybe_fail(&self) {
        let faults = self.faults.load(Ordering::Relaxed);
        assert!(
            faults == 0 || self.random() % 1000 >= u64::from(faults),
            "a fault injected by the simulation"
        );
    }
}
