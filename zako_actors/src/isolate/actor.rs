//! Isolates as a pool of workers.
//!
//! Owns the pool and what it counts about scripts. Does not know how an evaluation runs, nor how many
//! workers there are when (`actor_rt::Pool`).
//! Invariants: an isolate never leaves the thread that made it (V8's cannot); every request ends once:
//! with its answer or with the pool's error.

use std::path::Path;
use std::sync::Arc;

use actor_rt::{CancelToken, Pool, PoolError, PoolOutput, PoolStats, System, Work};

use super::figures::{Figures, IsolateFigures};
use super::{
    ContextKind, EvaluateError, EvaluateRequest, Evaluation, Evaluator, FailureKind, Inputs,
};
use crate::diagnostic::Diagnostic;
use crate::machine::PoolSize;

/// What a worker of the pool is made of.
#[derive(Debug, Default)]
pub struct Isolate {
    evaluator: Option<Evaluator>,
    figures: Arc<Figures>,
}

impl Work for Isolate {
    type Job = Box<Asked>;
    type Output = Result<Evaluation, EvaluateError>;

    fn run(&mut self, asked: Self::Job, _cancel: &CancelToken) -> Self::Output {
        let evaluator = match &mut self.evaluator {
            Some(evaluator) => evaluator,
            None => {
                let made = Evaluator::new().map_err(|error| EvaluateError::engine(&error))?;
                self.evaluator
                    .insert(made.with_figures(Arc::clone(&self.figures)))
            }
        };
        let result = evaluator.answer(&asked.request, asked.call.as_deref());
        self.figures
            .count(result.as_ref().err().map(|error| error.kind));
        result
    }

    fn tidy(&mut self) {
        if let Some(evaluator) = &mut self.evaluator {
            evaluator.tidy();
        }
    }

    fn collect_garbage(&mut self) {
        if let Some(evaluator) = &mut self.evaluator {
            evaluator.collect_garbage();
        }
    }
}

/// A request on its way to an isolate.
#[derive(Debug)]
pub struct Asked {
    request: EvaluateRequest,
    /// Its call as text: what a thread has made piece by piece, another one had better not take apart.
    call: Option<String>,
}

impl Asked {
    fn new(mut request: EvaluateRequest) -> Self {
        let call = request.call.take().map(|call| call.to_string());
        Self { request, call }
    }
}

/// Isolates that share the work. Each costs a thread, and memory only while it evaluates.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use zako_actors::isolate::{ContextKind, EvaluateRequest, IsolatePool};
/// use zako_actors::machine::PoolSize;
/// let workspace = tempfile::tempdir()?;
/// std::fs::write(workspace.path().join("BUILD.ts"), "export default { a: 1 };")?;
/// let system = actor_rt::System::new()?;
/// let pool = IsolatePool::new(&system, PoolSize::fixed(2));
/// let request = EvaluateRequest::new(workspace.path(), "BUILD.ts", ContextKind::Build);
/// assert_eq!(pool.evaluate(request).wait()??.value["a"], 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct IsolatePool {
    pool: Pool<Isolate>,
    figures: Arc<Figures>,
}

/// A workspace's build files are all asked for at once.
const BACKLOG: usize = 1 << 16;

impl IsolatePool {
    /// A pool of this size, at work until the system ends.
    pub fn new(system: &System, size: PoolSize) -> Self {
        let figures = Arc::<Figures>::default();
        let shared = Arc::clone(&figures);
        let pool = Pool::new(size.config("zako/isolates", BACKLOG), move || Isolate {
            evaluator: None,
            figures: Arc::clone(&shared),
        });
        // A pool that was just made is started for the first time.
        drop(pool.start(system));
        Self { pool, figures }
    }

    /// Evaluates one entry file. The request's token also takes it back while it waits.
    pub fn evaluate(
        &self,
        request: EvaluateRequest,
    ) -> PoolOutput<Result<Evaluation, EvaluateError>> {
        let cancel = request.cancel.clone();
        self.pool.submit(Box::new(Asked::new(request)), &cancel)
    }

    /// Evaluates all of these, and waits for the answers, which are in their order.
    ///
    /// # Panics
    /// On a worker thread of a system, which must not block.
    pub fn evaluate_all(
        &self,
        requests: impl IntoIterator<Item = EvaluateRequest>,
    ) -> Vec<Result<Result<Evaluation, EvaluateError>, PoolError>> {
        let asked = requests.into_iter().map(|request| self.evaluate(request));
        let asked: Vec<_> = asked.collect();
        // The last one first: isolates that answer somebody who waits for one after the other have to wake him each time.
        let mut answers: Vec<_> = asked.into_iter().rev().map(PoolOutput::wait).collect();
        answers.reverse();
        answers
    }

    /// Has every isolate give memory back, each between two evaluations.
    pub fn collect_garbage(&self) {
        self.pool.collect_garbage();
    }

    /// What the pool does.
    pub fn stats(&self) -> PoolStats {
        self.pool.stats()
    }

    /// What scripts did.
    pub fn figures(&self) -> IsolateFigures {
        self.figures.read()
    }

    /// Has a script in `place`, a directory of the caller's own, answer what it was told: through every
    /// part that an evaluation goes through.
    ///
    /// # Errors
    /// What does not work, in words.
    pub async fn check(&self, place: &Path) -> Result<(), String> {
        const TOLD: u64 = 41;
        const SCRIPT: &str = "export default { answer: executionContext.told + 1 };\n";
        let written = tokio::fs::create_dir_all(place).await;
        let written = written.and(tokio::fs::write(place.join("check.ts"), SCRIPT).await);
        written.map_err(|error| format!("{}: {error}", place.display()))?;
        let mut request = EvaluateRequest::new(place, "check.ts", ContextKind::Build);
        request.execution_context = serde_json::json!({ "told": TOLD });
        let evaluated = self.evaluate(request).await.map_err(|e| e.to_string())?;
        let evaluation = evaluated.map_err(|error| error.to_string())?;
        if evaluation.value["answer"].as_f64() == Some((TOLD + 1) as f64) {
            Ok(())
        } else {
            Err(format!("a script answered {}", evaluation.value))
        }
    }
}

impl EvaluateError {
    /// The engine could not be had.
    fn engine(error: &std::io::Error) -> Self {
        Self {
            kind: FailureKind::Engine,
            diagnostics: vec![Diagnostic::error(format!("no JavaScript engine: {error}"))],
            subject: None,
            inputs: Inputs::default(),
            is_unread: false,
            logs: Vec::new(),
        }
    }
}
