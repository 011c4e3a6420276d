//! Evaluation of build files by isolates.
//!
//! Owns the limits of one file; the isolates are made at the first file that has to be evaluated.
//! Does not know what the values mean.

use std::path::PathBuf;

use actor_rt::{CancelToken, System};

use super::evaluation::sources;
use super::event::Event;
use super::hash::Hash;
use super::load::{Evaluate, EvaluationFailure, EvaluationJob, EvaluationOutput};
use super::services::Services;
use crate::diagnostic::{Diagnostic, visible};
use crate::isolate::{
    EvaluateError, EvaluateRequest, Evaluation, FailureKind, IsolatePool, Limits, LoadedModule,
    LogLine, engine_name,
};
use crate::machine::PoolSize;

/// Evaluates build files in isolates.
pub struct Isolates<'a> {
    services: &'a Services,
    root: PathBuf,
    limits: Limits,
    size: PoolSize,
    cancel: CancelToken,
    told: Vec<String>,
    /// Is told how many files were evaluated, of how many that are known of.
    progress: Option<&'a dyn Fn(usize, usize)>,
    done: usize,
    expected: usize,
}

impl<'a> Isolates<'a> {
    /// For the workspace at `root`; a file may use what `limits` say. Nothing is started.
    pub fn new(services: &'a Services, root: PathBuf, limits: Limits, size: PoolSize) -> Self {
        Self {
            services,
            root,
            limits,
            size,
            cancel: CancelToken::new(),
            told: Vec::new(),
            progress: None,
            done: 0,
            expected: 0,
        }
    }

    /// Tells of each few files that were evaluated how many there were, and of how many that are known of.
    pub fn on_progress(&mut self, tell: &'a dyn Fn(usize, usize)) {
        self.progress = Some(tell);
    }

    /// Gives up what is evaluated when `cancel` is.
    pub fn until(mut self, cancel: &CancelToken) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// What is to be told to a person.
    pub fn told(&self) -> &[String] {
        &self.told
    }

    /// What they did; nothing when no file had to be evaluated.
    pub fn figures(&self) -> Option<Event> {
        let pool = self.services.isolates_in_use()?;
        Some(Event::ScriptsEvaluated {
            pool: pool.stats().into(),
            scripts: pool.figures(),
        })
    }

    /// Has them give back what they keep for the next evaluation.
    pub fn rest(&self) {
        if let Some(pool) = self.services.isolates_in_use() {
            pool.collect_garbage();
        }
    }

    fn pool(&self) -> Result<IsolatePool, Diagnostic> {
        let make = |system: &System| IsolatePool::new(system, self.size);
        let pool = self.services.isolates(make);
        pool.cloned()
            .map_err(|error| Diagnostic::error(error.to_string()))
    }
}

impl Evaluate for Isolates<'_> {
    fn version(&self) -> &str {
        engine_name()
    }

    fn most_text_bytes(&self) -> u64 {
        self.limits.text_bytes()
    }

    fn expect(&mut self, files: usize) {
        self.expected = self.done + files;
        if let Some(tell) = self.progress {
            tell(self.done, self.expected);
        }
    }

    fn evaluate(
        &mut self,
        jobs: Vec<EvaluationJob>,
    ) -> Vec<Result<EvaluationOutput, EvaluationFailure>> {
        let asked = jobs.len();
        let pool = match self.pool() {
            Ok(pool) => pool,
            Err(error) => return jobs.iter().map(|_| Err(error.clone().into())).collect(),
        };
        let paths: Vec<String> = jobs.iter().map(|job| job.path.clone()).collect();
        let requests = jobs.into_iter().map(|job| {
            let mut request = EvaluateRequest::new(&self.root, job.path, job.kind);
            request.execution_context = job.context;
            request.call = job.call;
            request.limits = self.limits;
            request.cancel = self.cancel.clone();
            request
        });
        let answers = pool.evaluate_all(requests);
        self.done += asked;
        self.expect(self.expected.saturating_sub(self.done));
        paths
            .into_iter()
            .zip(answers)
            .map(|(path, answer)| match answer {
                Ok(Ok(evaluation)) => output(evaluation),
                Ok(Err(error)) => Err(failure(error)),
                Err(error) => {
                    Err(Diagnostic::error(format!("{path} was not evaluated: {error}")).into())
                }
            })
            .collect()
    }

    fn tell(&mut self, mut lines: Vec<String>) {
        self.told.append(&mut lines);
    }
}

fn output(evaluation: Evaluation) -> Result<EvaluationOutput, EvaluationFailure> {
    Ok(EvaluationOutput {
        value: evaluation.value,
        modules: hashes(evaluation.modules)?,
        absent: evaluation.absent,
        logs: messages(evaluation.logs),
    })
}

fn hashes(modules: Vec<LoadedModule>) -> Result<Vec<(String, Hash)>, Diagnostic> {
    let modules = modules.into_iter().map(|module| {
        let hash = Hash::from_hex(&module.digest).ok_or_else(|| {
            Diagnostic::error(format!("{}: `{}` is no digest", module.path, module.digest))
        })?;
        Ok((module.path, hash))
    });
    modules.collect()
}

fn failure(error: EvaluateError) -> EvaluationFailure {
    let is_stopped = matches!(
        error.kind,
        FailureKind::Memory | FailureKind::Timeout | FailureKind::CpuTime
    );
    // The others are nothing that the files have done.
    let is_theirs = matches!(
        error.kind,
        FailureKind::Source | FailureKind::Exception | FailureKind::Value
    );
    let modules = hashes(error.inputs.modules).ok();
    let modules = modules.filter(|_| (is_stopped || is_theirs) && !error.is_unread);
    EvaluationFailure {
        diagnostics: error.diagnostics,
        subject: error.subject,
        logs: messages(error.logs),
        read: modules.map(|modules| sources(&modules, &error.inputs.absent)),
        is_stopped,
    }
}

fn messages(lines: Vec<LogLine>) -> Vec<String> {
    let lines = lines.into_iter();
    lines
        .map(|line| visible(&line.message).into_owned())
        .collect()
}
