//! Evaluation of build files by isolates.
//!
//! Owns the pool of isolates of one command, made at the first file that has to be evaluated.
//! Does not know what the values mean.

use std::path::PathBuf;
use std::time::Duration;

use super::event::Event;
use super::hash::Hash;
use super::load::{Evaluate, EvaluationJob, EvaluationOutput, FileKind};
use super::services::Services;
use crate::diagnostic::Diagnostic;
use crate::isolate::{
    ContextKind, EvaluateError, EvaluateRequest, Evaluation, IsolatePool, Limits, LogLine,
    engine_name,
};
use crate::machine::PoolSize;

/// Evaluates build files in isolates.
pub struct Isolates<'a> {
    services: &'a Services,
    root: PathBuf,
    limit: Duration,
    size: PoolSize,
    pool: Option<IsolatePool>,
}

impl<'a> Isolates<'a> {
    /// For the workspace at `root`; a file may take `limit`. Nothing is started.
    pub fn new(services: &'a Services, root: PathBuf, limit: Duration, size: PoolSize) -> Self {
        Self {
            services,
            root,
            limit,
            size,
            pool: None,
        }
    }

    /// What they did; nothing when no file had to be evaluated.
    pub fn figures(&self) -> Option<Event> {
        let pool = self.pool.as_ref()?;
        Some(Event::ScriptsEvaluated {
            pool: pool.stats().into(),
            scripts: pool.figures(),
        })
    }

    fn pool(&mut self) -> Result<IsolatePool, Diagnostic> {
        if let Some(pool) = &self.pool {
            return Ok(pool.clone());
        }
        let system = self
            .services
            .system()
            .map_err(|error| Diagnostic::error(error.to_string()))?;
        let pool = IsolatePool::new(system, self.size);
        Ok(self.pool.insert(pool).clone())
    }
}

impl Evaluate for Isolates<'_> {
    fn version(&self) -> &str {
        engine_name()
    }

    fn evaluate(
        &mut self,
        jobs: Vec<EvaluationJob>,
    ) -> Vec<Result<EvaluationOutput, Vec<Diagnostic>>> {
        let pool = match self.pool() {
            Ok(pool) => pool,
            Err(error) => return jobs.iter().map(|_| Err(vec![error.clone()])).collect(),
        };
        let asks: Vec<_> = jobs
            .into_iter()
            .map(|job| {
                let kind = match job.kind {
                    FileKind::Package => ContextKind::Package,
                    FileKind::Build => ContextKind::Build,
                };
                let mut request = EvaluateRequest::new(&self.root, &job.path, kind);
                request.execution_context = job.context;
                request.limits = Limits {
                    wall: self.limit,
                    cpu: self.limit,
                    ..Limits::default()
                };
                (job.path, pool.evaluate(request))
            })
            .collect();
        asks.into_iter()
            .map(|(path, ask)| match ask.wait() {
                Ok(Ok(evaluation)) => output(evaluation),
                Ok(Err(error)) => Err(mistakes(error)),
                Err(error) => Err(vec![Diagnostic::error(format!(
                    "{path} was not evaluated: {error}"
                ))]),
            })
            .collect()
    }
}

fn output(evaluation: Evaluation) -> Result<EvaluationOutput, Vec<Diagnostic>> {
    let modules = evaluation.modules.into_iter().map(|module| {
        let hash = Hash::from_hex(&module.digest).ok_or_else(|| {
            vec![Diagnostic::error(format!(
                "{}: `{}` is no digest",
                module.path, module.digest
            ))]
        })?;
        Ok((module.path, hash))
    });
    Ok(EvaluationOutput {
        value: evaluation.value,
        modules: modules.collect::<Result<_, Vec<Diagnostic>>>()?,
        absent: evaluation.absent,
        logs: evaluation
            .logs
            .into_iter()
            .map(|line: LogLine| line.message)
            .collect(),
    })
}

fn mistakes(error: EvaluateError) -> Vec<Diagnostic> {
    error.diagnostics
}
