//! What isolates did, counted.
//!
//! Owns the counters, shared by all isolates of a pool. Does not know who reads them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::FailureKind;

/// Counters that isolates add to.
#[derive(Debug, Default)]
pub(super) struct Figures {
    evaluations: AtomicU64,
    exceptions: AtomicU64,
    conversions: AtomicU64,
    limits: AtomicU64,
    modules: AtomicU64,
    loading_ns: AtomicU64,
    polls: AtomicU64,
    runtimes: AtomicU64,
}

/// What isolates did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IsolateFigures {
    /// Evaluations, failed ones included.
    pub evaluations: u64,
    /// Of these, ended by an exception.
    pub exceptions: u64,
    /// Of these, ended because the default export has no JSON form.
    pub conversions_failed: u64,
    /// Of these, ended by a limit: heap, wall or CPU time.
    pub limits_reached: u64,
    /// Modules that were read, checked and compiled for them.
    pub modules: u64,
    /// Time that took, in nanoseconds.
    pub module_load_ns: u64,
    /// Turns of their event loops.
    pub event_loop_polls: u64,
    /// Runtimes that were made; fewer than evaluations where calls share one.
    pub runtimes: u64,
}

impl Figures {
    /// Counts one evaluation by its end.
    pub fn count(&self, failure: Option<FailureKind>) {
        // Relaxed, as all of these: each is a figure by itself.
        self.evaluations.fetch_add(1, Ordering::Relaxed);
        let counter = match failure {
            Some(FailureKind::Exception) => &self.exceptions,
            Some(FailureKind::Value) => &self.conversions,
            Some(FailureKind::Memory | FailureKind::Timeout | FailureKind::CpuTime) => &self.limits,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts loaded modules.
    pub fn loaded(&self, modules: usize, took: Duration) {
        self.modules.fetch_add(modules as u64, Ordering::Relaxed);
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.loading_ns.fetch_add(took, Ordering::Relaxed);
    }

    /// Counts one turn of an event loop.
    pub fn polled(&self) {
        self.polls.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a new runtime.
    pub fn started(&self) {
        self.runtimes.fetch_add(1, Ordering::Relaxed);
    }

    /// All of them.
    pub fn read(&self) -> IsolateFigures {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        IsolateFigures {
            evaluations: get(&self.evaluations),
            exceptions: get(&self.exceptions),
            conversions_failed: get(&self.conversions),
            limits_reached: get(&self.limits),
            modules: get(&self.modules),
            module_load_ns: get(&self.loading_ns),
            event_loop_polls: get(&self.polls),
            runtimes: get(&self.runtimes),
        }
    }
}
