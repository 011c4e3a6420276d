//! The engine's parts in a node: they prove that this machine can evaluate and transpile, and count
//! what they do.
//!
//! Owns their pools, which keep no thread while nobody asks. Does not know HTTP.

use std::path::PathBuf;

use actor_rt::{CancelToken, PoolStats, System};

use super::prometheus::Page;
use crate::isolate::IsolatePool;
use crate::machine::PoolSize;
use crate::transpile::{TranspileJob, TranspilerPool};

/// The pools of a node.
pub(super) struct Engine {
    isolates: IsolatePool,
    transpilers: TranspilerPool,
    /// Where the script of the health check lies.
    place: PathBuf,
}

impl Engine {
    /// Pools of at most this size in `system`; `place` is a directory of their own.
    pub(super) fn new(system: &System, size: PoolSize, place: PathBuf) -> Self {
        let size = PoolSize { min: 0, ..size };
        Self {
            isolates: IsolatePool::new(system, size),
            transpilers: TranspilerPool::new(system, size),
            place,
        }
    }

    /// Has a script say what it was told.
    pub(super) async fn check_isolates(&self) -> Result<(), String> {
        self.isolates.check(&self.place).await
    }

    /// Has a file transpiled, and memory given back.
    pub(super) async fn check_transpilers(&self) -> Result<(), String> {
        let job = TranspileJob::new("check.ts", "export const answer: number = 42;");
        let answer = self.transpilers.run(job, &CancelToken::new()).await;
        self.transpilers.collect_garbage();
        self.isolates.collect_garbage();
        match answer.map_err(|error| error.to_string())? {
            Ok(output) if output.code == "export const answer = 42;\n" => Ok(()),
            Ok(output) => Err(format!("a transpiler wrote {:?}", output.code)),
            Err(mistakes) => Err(format!("a transpiler found mistakes: {mistakes:?}")),
        }
    }

    /// Their figures.
    pub(super) fn render(&self, page: &mut Page) {
        let pools = [
            ("isolates", self.isolates.stats()),
            ("transpilers", self.transpilers.stats()),
        ];
        let seconds = |ns: u64| ns as f64 / 1e9;
        let mut gauge = |name: &str, help: &str, of: fn(&PoolStats) -> usize| {
            page.by_label(
                "gauge",
                name,
                help,
                "pool",
                pools.iter().map(|(n, s)| (*n, of(s))),
            );
        };
        gauge("pool_workers", "Workers, busy or not.", |s| s.workers);
        gauge("pool_busy", "Workers that run a task.", |s| s.busy);
        gauge("pool_queued", "Tasks that wait for a worker.", |s| s.queued);
        let mut counter = |name: &str, help: &str, of: fn(&PoolStats) -> u64| {
            page.by_label(
                "counter",
                name,
                help,
                "pool",
                pools.iter().map(|(n, s)| (*n, of(s))),
            );
        };
        counter("pool_tasks_total", "Tasks done.", |s| s.finished);
        counter("pool_panics_total", "Tasks that panicked.", |s| s.panicked);
        counter(
            "pool_cancelled_total",
            "Tasks cancelled before they began.",
            |s| s.cancelled,
        );
        counter(
            "pool_gc_runs_total",
            "Garbage collections of workers.",
            |s| s.collections,
        );
        counter(
            "pool_idle_timeouts_total",
            "Workers let go because they had nothing to do.",
            |s| s.retired,
        );
        let name = "pool_task_seconds_total";
        let help = "Time that tasks took.";
        let spent = pools.iter().map(|(n, s)| (*n, seconds(s.busy_ns)));
        page.by_label("counter", name, help, "pool", spent);

        let scripts = self.isolates.figures();
        for (name, help, value) in [
            (
                "isolate_evaluations_total",
                "Scripts evaluated.",
                scripts.evaluations,
            ),
            (
                "isolate_exceptions_total",
                "Scripts ended by an exception.",
                scripts.exceptions,
            ),
            (
                "isolate_json_failures_total",
                "Scripts whose value has no JSON form.",
                scripts.conversions_failed,
            ),
            (
                "isolate_limits_total",
                "Scripts ended by a limit of memory or time.",
                scripts.limits_reached,
            ),
            ("isolate_modules_total", "Modules loaded.", scripts.modules),
            (
                "isolate_event_loop_polls_total",
                "Turns of event loops.",
                scripts.event_loop_polls,
            ),
        ] {
            page.counter(name, help, value);
        }
        let loading = seconds(scripts.module_load_ns);
        page.counter(
            "isolate_module_load_seconds_total",
            "Time that loading modules took.",
            loading,
        );
    }
}
