//! What happens during a build, as one stream.
//!
//! Owns the vocabulary. Does not know who reads it: the live display, plain lines, the file of
//! `--events` and the trace of `--trace` are fed by the same events.
//! Invariants: one `BuildStarted`, and as many targets in it and in all `BuildGrew` as there are; every `StepStarted` is followed by exactly one `StepFinished` of the same label, with a
//! time that is no earlier; `BuildFinished` is the last. Each step says itself when it begins, so between
//! steps the times are not sorted.

use std::time::Duration;

use actor_rt::PoolStats;
use serde::{Deserialize, Serialize};

use super::worker::WorkerStats;
use crate::isolate::IsolateFigures;

/// An event with its time. As JSON: one object, `time_us` beside the event's own fields.
#[derive(Clone, Debug, Serialize)]
pub struct Stamped {
    /// Since the command began, µs.
    pub time_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Whole microseconds.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// One event. As JSON: an object with `event` and the fields.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The plan stands, as far as rules have said what there is.
    BuildStarted {
        /// Targets asked for, dependencies included.
        targets: usize,
        /// Of these, up to date already.
        fresh: usize,
    },
    /// Rules that read outputs have said more, or will not be able to.
    BuildGrew {
        /// Targets asked for that are known now and were not.
        targets: usize,
        /// Of these, up to date already.
        fresh: usize,
    },
    /// What holds commands to what they declare, before the first of them starts.
    SandboxChosen {
        /// `warn` or `strict`.
        mode: &'static str,
        /// What it is made of.
        by: &'static str,
    },
    /// A part of the command that is no step is over: reading build files, planning.
    PhaseFinished {
        /// Its name.
        phase: &'static str,
        /// Wall time, µs.
        duration_us: u64,
    },
    /// A step was given to a worker.
    StepStarted {
        /// Its target.
        label: String,
        /// Why it is not up to date.
        cause: String,
        /// Whether the whole build waits for it: it begins the longest chain of steps.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        critical: bool,
    },
    /// A step is over.
    StepFinished {
        /// Its target.
        label: String,
        /// How it ended.
        outcome: Outcome,
        /// Wall time, µs.
        duration_us: u64,
        /// Why it was not up to date, as found once everything that it needs was there.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        causes: Vec<String>,
        /// What a person needs to mend it, when it failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
        /// What a command printed although it succeeded, tries that failed included.
        #[serde(skip_serializing_if = "Option::is_none")]
        output: Option<String>,
        /// Why it was stopped, when it was, or skipped, when that is another target's mistake.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// How often it was tried: a test that did not pass at once is flaky.
        #[serde(skip_serializing_if = "is_one")]
        attempts: u32,
        /// How long the rest of the build is expected to take, µs.
        #[serde(skip_serializing_if = "Option::is_none")]
        left_us: Option<u64>,
    },
    /// What isolates did to read the build files.
    ScriptsEvaluated {
        /// Their pool.
        pool: PoolFigures,
        /// The scripts.
        scripts: IsolateFigures,
    },
    /// What the pools of a build did, when its steps are over.
    PoolsFinished {
        /// Isolates, where the build began with some.
        #[serde(skip_serializing_if = "Option::is_none")]
        isolates: Option<PoolFigures>,
        /// Transpilers.
        transpilers: PoolFigures,
        /// Worker processes.
        workers: WorkerStats,
    },
    /// The build is over.
    BuildFinished(Summary),
}

fn is_one(attempts: &u32) -> bool {
    *attempts == 1
}

/// What a pool did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PoolFigures {
    /// Workers at the end.
    pub workers: usize,
    /// Tasks done.
    pub tasks: u64,
    /// Time that tasks took, all workers together, µs.
    pub task_us: u64,
    /// Tasks that panicked.
    pub panics: u64,
    /// Tasks cancelled before they began.
    pub cancelled: u64,
    /// Garbage collections of workers.
    pub gc_runs: u64,
    /// Workers let go because they had nothing to do.
    pub idle_timeouts: u64,
}

impl From<PoolStats> for PoolFigures {
    fn from(stats: PoolStats) -> Self {
        Self {
            workers: stats.workers,
            tasks: stats.finished,
            task_us: stats.busy_ns / 1000,
            panics: stats.panicked,
            cancelled: stats.cancelled,
            gc_runs: stats.collections,
            idle_timeouts: stats.retired,
        }
    }
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It ran.
    Executed,
    /// Its result was in the action cache.
    Cached,
    /// Its inputs turned out unchanged.
    UpToDate,
    /// It failed.
    Failed,
    /// Something it needs failed, or the build stopped first.
    Skipped,
    /// It was stopped.
    Cancelled,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Executed => "ran",
            Self::Cached => "came from the cache",
            Self::UpToDate => "was up to date",
            Self::Failed => "failed",
            Self::Skipped => "was skipped",
            Self::Cancelled => "was stopped",
        })
    }
}

/// A step that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// Its target.
    pub label: String,
    /// Why, as a person is told.
    pub failure: String,
}

/// The figures of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Targets asked for, dependencies included.
    pub targets: usize,
    /// Files in these targets' outputs.
    pub files: usize,
    /// Steps that ran.
    pub executed: usize,
    /// Steps answered by the action cache.
    pub cached: usize,
    /// Steps that were up to date.
    pub up_to_date: usize,
    /// Steps that failed.
    pub failed: usize,
    /// Steps that never began.
    pub skipped: usize,
    /// Steps that were stopped.
    pub cancelled: usize,
    /// Tests that passed, but not at once.
    pub flaky: usize,
    /// What failed, with why; told by the events of their steps.
    #[serde(skip)]
    pub failures: Vec<Failed>,
    /// Whether the build was stopped.
    pub interrupted: bool,
    /// Wall time, µs.
    pub duration_us: u64,
    /// JavaScript engine with its version.
    pub engine: String,
}

impl Summary {
    /// Counts one step.
    pub fn count(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Executed => &mut self.executed,
            Outcome::Cached => &mut self.cached,
            Outcome::UpToDate => &mut self.up_to_date,
            Outcome::Failed => &mut self.failed,
            Outcome::Skipped => &mut self.skipped,
            Outcome::Cancelled => &mut self.cancelled,
        } += 1;
    }
}
