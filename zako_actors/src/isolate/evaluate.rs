//! One evaluation from request to result.
//!
//! Owns: the sequence load, start, limit, run, read.
//! Invariant: when `evaluate` returns, no other thread holds a way into the runtime.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use deno_core::error::{CoreError, CoreErrorKind};
use deno_core::{JsRuntime, PollEventLoopOptions, v8};
use serde_json::Value;

use crate::diagnostic::Diagnostic;

use super::compile::Compiler;
use super::exception;
use super::figures::{Figures, IsolateFigures};
use super::limits::{Brake, stopped};
use super::live::{Kept, Live};
use super::loader::url_of_path;
use super::modules::ModuleGraph;
use super::runtime::{self, Host, Startup};
use super::value::{NotJson, to_json};
use super::{
    ContextKind, EvaluateError, EvaluateRequest, Evaluation, FailureKind, Inputs, LogLine,
};

/// Evaluates build files, one after another, on the thread that made it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use zako_actors::isolate::{ContextKind, EvaluateRequest, Evaluator};
/// let workspace = tempfile::tempdir()?;
/// std::fs::write(
///     workspace.path().join("BUILD.ts"),
///     r#"import { target } from "zako:build"; export default { hello: target({ cmd: ["echo"] }) };"#,
/// )?;
/// let mut evaluator = Evaluator::new()?;
/// let request = EvaluateRequest::new(workspace.path(), "BUILD.ts", ContextKind::Build);
/// let evaluation = evaluator.evaluate(&request)?;
/// assert_eq!(evaluation.value["hello"]["cmd"][0], "echo");
/// # Ok(())
/// # }
/// ```
pub struct Evaluator {
    /// V8 posts delayed tasks to the reactor that is entered when an isolate is made, and aborts
    /// without one.
    reactor: tokio::runtime::Runtime,
    startup: Startup,
    kept: Kept,
    /// What the last evaluation ran in, unless it is kept.
    spent: Option<Live>,
    compiler: Rc<RefCell<Compiler>>,
    figures: Arc<Figures>,
}

impl std::fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evaluator").finish_non_exhaustive()
    }
}

impl Evaluator {
    /// An evaluator for this thread.
    ///
    /// # Errors
    /// When the operating system gives no event queue.
    pub fn new() -> std::io::Result<Self> {
        let reactor = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        Ok(Self {
            reactor,
            startup: Startup::default(),
            kept: Kept::default(),
            spent: None,
            compiler: Rc::default(),
            figures: Arc::default(),
        })
    }

    /// The same, adding to these counters.
    #[must_use]
    pub(super) fn with_figures(mut self, figures: Arc<Figures>) -> Self {
        self.figures = figures;
        self
    }

    /// What was done, by all who share the counters.
    pub fn figures(&self) -> IsolateFigures {
        self.figures.read()
    }

    /// Forgets what is only kept for speed: the runtime of the last calls, compiled files and the transpiler's arena.
    pub fn collect_garbage(&mut self) {
        let _entered = self.reactor.enter();
        self.kept.clear();
        *self.compiler.borrow_mut() = Compiler::default();
    }

    /// The same with another way of starting runtimes; it holds if this is the process's first.
    #[must_use]
    pub fn with_startup(mut self, startup: Startup) -> Self {
        self.startup = startup;
        self
    }

    /// Evaluates one entry file. Blocks this thread, no longer than the request's limits allow.
    ///
    /// # Errors
    /// See [`FailureKind`].
    pub fn evaluate(&mut self, request: &EvaluateRequest) -> Result<Evaluation, EvaluateError> {
        let call = request.call.as_ref().map(ToString::to_string);
        let result = self.answer(request, call.as_deref());
        self.tidy();
        result
    }

    /// The same with `call`, JSON text, in place of the request's own, and with a runtime that may be left for
    /// [`tidy`](Self::tidy), which comes next.
    pub(super) fn answer(
        &mut self,
        request: &EvaluateRequest,
        call: Option<&str>,
    ) -> Result<Evaluation, EvaluateError> {
        debug_assert!(self.spent.is_none(), "`tidy` comes after each answer");
        let begin = Instant::now();
        let (graph, loaded) = ModuleGraph::load(
            &request.root,
            &request.entry,
            request.context,
            &self.compiler,
        );
        self.figures.loaded(graph.digests().len(), begin.elapsed());
        let graph = Rc::new(RefCell::new(graph));
        let mut logs = Vec::new();
        let outcome = match loaded {
            Err(mistakes) => Err((FailureKind::Source, mistakes).into()),
            Ok(()) => self.answer_apart(request, call, &graph, &mut logs),
        };
        let graph = graph.borrow();
        let (modules, absent) = (graph.loaded(), graph.absent());
        match outcome {
            Ok(value) => Ok(Evaluation {
                value,
                modules,
                absent,
                logs,
            }),
            Err(Failed {
                kind,
                diagnostics,
                subject,
            }) => Err(EvaluateError {
                kind,
                diagnostics: diagnostics.into_iter().map(Diagnostic::shortened).collect(),
                subject,
                inputs: Inputs { modules, absent },
                is_unread: graph.is_unread(),
                logs,
            }),
        }
    }

    /// Runs the call; where modules might keep something from one target to the next, each target in a runtime of its own.
    fn answer_apart(
        &mut self,
        request: &EvaluateRequest,
        call: Option<&str>,
        graph: &Rc<RefCell<ModuleGraph>>,
        logs: &mut Vec<LogLine>,
    ) -> Result<Value, Failed> {
        let is_lasting = graph.borrow().is_lasting();
        let parts = call.filter(|_| !is_lasting).and_then(apart);
        let Some(parts) = parts else {
            return self.run(request, call, graph, logs, false);
        };
        let mut answers = Vec::new();
        for (place, part) in parts.iter().enumerate() {
            self.tidy();
            let mut said = Vec::new();
            let answer = self.run(request, Some(part), graph, &mut said, place > 0);
            logs.append(&mut said);
            if let Value::Array(mut some) = answer? {
                answers.append(&mut some);
            }
        }
        Ok(Value::Array(answers))
    }

    /// Evaluates the entry, unless that was done in this runtime, and passes the call on. Without a call the result is
    /// the entry's namespace. What modules log by themselves is not told `again`.
    fn ask(
        &self,
        live: &mut Live,
        request: &EvaluateRequest,
        call: Option<&str>,
        graph: &RefCell<ModuleGraph>,
        is_lasting: bool,
        again: bool,
    ) -> Result<Option<v8::Global<v8::Object>>, Ended> {
        let figures = &self.figures;
        if !live.has(&request.entry) {
            let loaded = load(live, &request.entry, graph, is_lasting, figures);
            let namespace = self.reactor.block_on(loaded)?;
            if call.is_none() {
                return Ok(Some(namespace));
            }
            if again {
                live.host.reset(&mut live.runtime);
                live.brake.check().map_err(Ended::Engine)?;
            }
        }
        if let Some(call) = call {
            let invoked = live.host.invoke(&mut live.runtime, call);
            invoked.map_err(Ended::Engine)?;
            // Most have nothing left to do after one turn, for which the reactor need not be set going.
            match poll(live, &mut Context::from_waker(Waker::noop()), figures) {
                Poll::Ready(settled) => settled?,
                Poll::Pending => {
                    let settled = poll_fn(|task| poll(live, task, figures));
                    self.reactor.block_on(settled)?;
                }
            }
        }
        Ok(None)
    }

    /// Takes down the runtime that is of no further use: a tenth of the time of an evaluation.
    pub(super) fn tidy(&mut self) {
        if let Some(live) = self.spent.take() {
            // Not at the first: a process that needs one only is spared making another.
            static TAKEN_DOWN: AtomicUsize = AtomicUsize::new(0);
            if TAKEN_DOWN.fetch_add(1, Ordering::Relaxed) == 1 {
                runtime::keep_shared(self.startup);
            }
            let _entered = self.reactor.enter();
            drop(live);
        }
    }

    fn run(
        &mut self,
        request: &EvaluateRequest,
        call: Option<&str>,
        graph: &Rc<RefCell<ModuleGraph>>,
        logs: &mut Vec<LogLine>,
        again: bool,
    ) -> Result<Value, Failed> {
        let _entered = self.reactor.enter();
        let is_lasting = call.is_some() && graph.borrow().is_lasting();
        let kept = if is_lasting {
            self.kept.take(request, &graph.borrow())
        } else {
            None
        };
        let mut live = match kept {
            Some(live) => live,
            None => {
                self.figures.started();
                Live::new(request, graph, self.startup).map_err(engine_failure)?
            }
        };
        live.loader.serve(Rc::clone(graph));
        let guards = live.brake.arm(request);
        let result = self.ask(&mut live, request, call, graph, is_lasting, again);
        let result = match result {
            Ok(None) => read_results(&mut live.runtime, &live.host),
            Ok(Some(module)) => {
                let graph = graph.borrow();
                let source = graph
                    .get(&request.entry)
                    .map_or("", |module| &module.source);
                let shape = match request.context {
                    ContextKind::Package => "workspace({ … })",
                    _ => "{ name: target({ … }) }",
                };
                read_default(&mut live.runtime, module, (&request.entry, source), shape)
            }
            Err(Ended::Js(error)) => Err(describe(&error, &mut live, &graph.borrow())),
            Err(Ended::Engine(message)) => Err(engine_failure(message)),
        };
        // Disarmed before the runtime goes: nobody terminates what no longer exists.
        drop(guards);
        *logs = live.host.logs(&mut live.runtime);
        let result = match live.brake.cause() {
            None => result,
            Some(cause) => {
                let diagnostic = stopped(cause, &request.entry, request.limits);
                Err((cause, vec![diagnostic]))
            }
        };
        match result {
            Ok(value) => {
                if is_lasting && live.has(&request.entry) {
                    if !logs.is_empty() {
                        live.host.reset(&mut live.runtime);
                    }
                    self.spent = self.kept.keep(live);
                } else {
                    self.spent = Some(live);
                }
                Ok(value)
            }
            Err((kind, diagnostics)) => {
                let subject = live.host.current(&mut live.runtime);
                let subject = Some(subject).filter(|subject| !subject.is_empty());
                self.spent = Some(live);
                Err(Failed {
                    kind,
                    diagnostics,
                    subject: subject.map(String::into_boxed_str),
                })
            }
        }
    }
}

impl Drop for Evaluator {
    fn drop(&mut self) {
        self.tidy();
        let _entered = self.reactor.enter();
        self.kept.clear();
    }
}

/// The calls of a rule for one target each that a call for several is.
fn apart(call: &str) -> Option<Vec<String>> {
    let mut call: Value = serde_json::from_str(call).ok()?;
    let targets = call.get_mut("targets")?.as_array_mut()?;
    if targets.len() < 2 {
        return None;
    }
    let targets = std::mem::take(targets);
    let one = |target| {
        call["targets"] = Value::Array(vec![target]);
        call.to_string()
    };
    Some(targets.into_iter().map(one).collect())
}

type Failure = (FailureKind, Vec<Diagnostic>);

/// A failure, with what was being described when it happened.
struct Failed {
    kind: FailureKind,
    diagnostics: Vec<Diagnostic>,
    subject: Option<Box<str>>,
}

impl From<Failure> for Failed {
    fn from((kind, diagnostics): Failure) -> Self {
        Self {
            kind,
            diagnostics,
            subject: None,
        }
    }
}

/// What ended the run of a module.
enum Ended {
    Js(CoreError),
    Engine(String),
}

impl<E: Into<CoreError>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Js(error.into())
    }
}

fn engine_failure(message: String) -> Failure {
    let calls = crate::backtrace::here();
    let diagnostic = Diagnostic::error(format!("the JavaScript engine failed: {message}{calls}"))
        .with_help("this is a mistake in Zako; please report it with the build file");
    (FailureKind::Engine, vec![diagnostic])
}

/// Evaluates the entry, and freezes what it leaves when that is to last; gives its namespace.
async fn load(
    live: &mut Live,
    entry: &str,
    graph: &RefCell<ModuleGraph>,
    is_lasting: bool,
    figures: &Figures,
) -> Result<v8::Global<v8::Object>, Ended> {
    // Definitions of another entry were called perhaps: now there are to be more.
    live.host.reset(&mut live.runtime);
    live.brake.check().map_err(Ended::Engine)?;
    let url = url_of_path(entry).map_err(CoreError::from)?;
    let module = {
        let mut loading = Box::pin(live.runtime.load_side_es_module(&url));
        poll_fn(|task| unless_stopped(&live.brake, loading.as_mut().poll(task))).await?
    };
    let evaluated = live.runtime.mod_evaluate(module);
    poll_fn(|task| poll(live, task, figures)).await?;
    evaluated.await?;
    let namespace = live.runtime.get_module_namespace(module)?;
    if is_lasting {
        live.host.freeze(&mut live.runtime).map_err(Ended::Engine)?;
        // What a module logs belongs to every evaluation of it: one that does is evaluated each time.
        if live.host.logs(&mut live.runtime).is_empty() {
            live.loaded(entry, &graph.borrow());
        }
        live.brake.check().map_err(Ended::Engine)?;
    }
    Ok(namespace)
}

/// One turn of the event loop; it is ready when nothing is left to do, and when the script was stopped, whether or not the engine
/// still knows.
fn poll(live: &mut Live, task: &mut Context<'_>, figures: &Figures) -> Poll<Result<(), Ended>> {
    figures.polled();
    let options = PollEventLoopOptions::default();
    let turned = live.runtime.poll_event_loop(task, options);
    unless_stopped(&live.brake, turned)
}

/// What has come about, or that the script was stopped meanwhile.
fn unless_stopped<T>(brake: &Brake, polled: Poll<Result<T, CoreError>>) -> Poll<Result<T, Ended>> {
    match brake.check() {
        Ok(()) => polled.map_err(Ended::from),
        Err(stopped) => Poll::Ready(Err(Ended::Engine(stopped))),
    }
}

/// What the definitions answered.
fn read_results(runtime: &mut JsRuntime, host: &Host) -> Result<Value, Failure> {
    deno_core::scope!(scope, runtime);
    v8::tc_scope!(let scope, scope);
    let Some(results) = host.collect(scope) else {
        return Err(engine_failure("there are no results".to_owned()));
    };
    to_json(scope, results, "results").map_err(|NotJson { path, what }| {
        let message = format!("`{path}` is {what}: what a rule says must be plain JSON data");
        (FailureKind::Value, vec![Diagnostic::error(message)])
    })
}

const DEFAULT_EXPORT: &str = "export default";

/// The `default` property of the namespace as JSON, which has such a `shape` as a rule.
fn read_default(
    runtime: &mut JsRuntime,
    namespace: v8::Global<v8::Object>,
    (entry, source): (&str, &str),
    shape: &str,
) -> Result<Value, Failure> {
    deno_core::scope!(scope, runtime);
    v8::tc_scope!(let scope, scope);
    let namespace = v8::Local::new(scope, namespace);
    let value =
        v8::String::new(scope, "default").and_then(|name| namespace.get(scope, name.into()));
    let value_failure = |diagnostic: Diagnostic| {
        let place = source
            .find(DEFAULT_EXPORT)
            .map(|at| (at, DEFAULT_EXPORT.len()));
        let (start, length) = place.unwrap_or_default();
        (
            FailureKind::Value,
            vec![diagnostic.at(entry, source, start, length)],
        )
    };
    let Some(value) = value.filter(|value| !value.is_undefined()) else {
        let diagnostic = Diagnostic::error(format!("{entry} has no default export"))
            .with_help(format!("write: {DEFAULT_EXPORT} {shape};"));
        return Err(value_failure(diagnostic));
    };
    to_json(scope, value, "default").map_err(|NotJson { path, what }| {
        let message = format!("`{path}` is {what}: the default export must be plain JSON data");
        let diagnostic = Diagnostic::error(message)
            .with_help("use strings, numbers, booleans, null, lists and plain objects");
        value_failure(diagnostic)
    })
}

fn describe(error: &CoreError, live: &mut Live, graph: &ModuleGraph) -> Failure {
    let late = live.loader.take_late_mistakes();
    if !late.is_empty() {
        return (FailureKind::Source, late);
    }
    let diagnostic = match error.as_kind() {
        CoreErrorKind::Js(exception) => {
            let notes_places = live.host.notes_places(&mut live.runtime);
            exception::to_diagnostic(exception, graph, notes_places)
        }
        other => Diagnostic::error(other.to_string()),
    };
    (FailureKind::Exception, vec![diagnostic])
}
