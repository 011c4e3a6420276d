//! Transpilers as a pool of workers.
//!
//! Owns what they are asked and what they answer. Does not know where sources come from, nor how many
//! workers there are when (`actor_rt::Pool`).
//! Invariant: every request ends once: with its answer or with the pool's error.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actor_rt::{CancelToken, Pool, PoolConfig, PoolError, PoolOutput, PoolStats, System, Work};

use super::room::WORKER_STACK_BYTES;
use super::{ModuleSurvey, TranspileJob, TranspileOutput, Transpiler};
use crate::diagnostic::Diagnostic;
use crate::machine::PoolSize;

/// What a transpiler answers to a job.
pub type TranspileResult = Result<TranspileOutput, Vec<Diagnostic>>;

/// What a transpiler is asked.
#[derive(Debug)]
pub enum TranspileTask {
    /// Transpile one file.
    Run(Box<TranspileJob>),
    /// Survey one file, given as path and source, for a [`super::ModuleIndex`].
    Survey(String, Arc<str>),
}

/// What it answers.
#[derive(Debug)]
pub enum TranspileAnswer {
    /// To [`TranspileTask::Run`].
    Run(TranspileResult),
    /// To [`TranspileTask::Survey`].
    Survey(ModuleSurvey),
}

impl Work for Transpiler {
    type Job = TranspileTask;
    type Output = TranspileAnswer;

    fn run(&mut self, task: TranspileTask, _cancel: &CancelToken) -> TranspileAnswer {
        match task {
            TranspileTask::Run(job) => TranspileAnswer::Run(self.transpile(&job)),
            TranspileTask::Survey(path, source) => {
                TranspileAnswer::Survey(self.survey(&path, &source))
            }
        }
    }

    fn collect_garbage(&mut self) {
        self.gc();
    }
}

/// A target's files are all asked for at once.
const BACKLOG: usize = 1 << 16;

/// Transpilers that share the work, each on a thread of its own.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use actor_rt::CancelToken;
/// use zako_actors::machine::PoolSize;
/// use zako_actors::transpile::{TranspileJob, TranspilerPool};
/// let system = actor_rt::System::new()?;
/// let pool = TranspilerPool::new(&system, PoolSize::fixed(2));
/// let job = TranspileJob::new("a.ts", "let a: number = 1;");
/// let out = pool.run(job, &CancelToken::new()).wait()?;
/// assert_eq!(out.unwrap().code, "let a = 1;\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TranspilerPool {
    pool: Pool<Transpiler>,
}

impl TranspilerPool {
    /// A pool of this size, at work until the system ends.
    pub fn new(system: &System, size: PoolSize) -> Self {
        let config = PoolConfig {
            stack_bytes: Some(WORKER_STACK_BYTES),
            ..size.config("zako/transpilers", BACKLOG)
        };
        let pool = Pool::new(config, Transpiler::new);
        // A pool that was just made is started for the first time.
        drop(pool.start(system));
        Self { pool }
    }

    /// Transpiles one file.
    pub fn run(&self, job: TranspileJob, cancel: &CancelToken) -> Transpiled<TranspileResult> {
        Transpiled {
            output: self.pool.submit(TranspileTask::Run(Box::new(job)), cancel),
            take: |answer| match answer {
                TranspileAnswer::Run(result) => Some(result),
                TranspileAnswer::Survey(_) => None,
            },
        }
    }

    /// Surveys one file.
    pub fn survey(
        &self,
        path: String,
        source: Arc<str>,
        cancel: &CancelToken,
    ) -> Transpiled<ModuleSurvey> {
        Transpiled {
            output: self
                .pool
                .submit(TranspileTask::Survey(path, source), cancel),
            take: |answer| match answer {
                TranspileAnswer::Survey(survey) => Some(survey),
                TranspileAnswer::Run(_) => None,
            },
        }
    }

    /// Has every transpiler rebuild its arena, each between two jobs.
    pub fn collect_garbage(&self) {
        self.pool.collect_garbage();
    }

    /// What the pool does.
    pub fn stats(&self) -> PoolStats {
        self.pool.stats()
    }
}

/// An answer to come. Await it, or [`wait`](Self::wait) for it.
#[must_use = "the answer comes through this"]
#[derive(Debug)]
pub struct Transpiled<T> {
    output: PoolOutput<TranspileAnswer>,
    take: fn(TranspileAnswer) -> Option<T>,
}

impl<T> Transpiled<T> {
    /// Blocks the thread until it is there; not on a worker of the system.
    ///
    /// # Errors
    /// See [`PoolError`].
    pub fn wait(self) -> Result<T, PoolError> {
        (self.take)(self.output.wait()?).ok_or(PoolError::Stopped)
    }
}

impl<T> Future for Transpiled<T> {
    type Output = Result<T, PoolError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.output).poll(task))?;
        // Each task has one kind of answer.
        Poll::Ready((self.take)(answer).ok_or(PoolError::Stopped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_answers_everything_also_mistakes() {
        let system = System::builder().workers(2).build().unwrap();
        let pool = TranspilerPool::new(&system, PoolSize::fixed(2));
        let never = CancelToken::new();
        let asks: Vec<_> = (0..20)
            .map(|n| {
                let job = TranspileJob::new("a.ts", format!("let a: number = {n};"));
                pool.run(job, &never)
            })
            .collect();
        for (n, ask) in asks.into_iter().enumerate() {
            assert_eq!(ask.wait().unwrap().unwrap().code, format!("let a = {n};\n"));
        }
        let mistakes = pool.run(TranspileJob::new("a.ts", "let = ;"), &never);
        assert!(!mistakes.wait().unwrap().unwrap_err().is_empty());
        pool.collect_garbage();
        let survey = pool
            .survey("a.ts".to_owned(), "export type A = 1;".into(), &never)
            .wait()
            .unwrap();
        assert_ne!(survey, ModuleSurvey::default());
        let cancelled = CancelToken::new();
        cancelled.cancel();
        let refused = pool.run(TranspileJob::new("a.ts", ""), &cancelled);
        assert_eq!(refused.wait().unwrap_err(), PoolError::Cancelled);
        assert_eq!(pool.stats().finished, 22);
    }
}
