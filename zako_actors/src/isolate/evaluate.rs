//! One evaluation from request to result.
//!
//! Owns: the sequence load, start, limit, run, read; and which of several causes ended it.
//! Invariant: when `evaluate` returns, no other thread holds a way into the runtime.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use deno_core::error::{CoreError, CoreErrorKind};
use deno_core::{JsRuntime, PollEventLoopOptions, v8};
use serde_json::Value;

use crate::diagnostic::Diagnostic;

use super::compile::Compiler;
use super::exception;
use super::figures::Figures;
use super::loader::{WorkspaceLoader, url_of_path};
use super::modules::ModuleGraph;
use super::runtime::{self, Host, Startup};
use super::value::{NotJson, to_json};
use super::watchdog::{self, DeadlineGuard, ThreadClock};
use super::{EvaluateError, EvaluateRequest, Evaluation, FailureKind, Inputs, Limits, LogLine};

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

    /// Forgets what is only kept for speed: compiled files and the transpiler's arena. A runtime is
    /// gone with its evaluation, so there is no heap to collect.
    pub fn collect_garbage(&mut self) {
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
        let begin = Instant::now();
        let (graph, loaded) = ModuleGraph::load(
            &request.root,
            &request.entry,
            request.context,
            &self.compiler,
        );
        self.figures.loaded(graph.loaded().len(), begin.elapsed());
        let graph = Rc::new(RefCell::new(graph));
        let mut logs = Vec::new();
        let outcome = match loaded {
            Err(mistakes) => Err((FailureKind::Source, mistakes).into()),
            Ok(()) => self.run(request, &graph, &mut logs),
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
                diagnostics,
                subject,
                inputs: Inputs { modules, absent },
                logs,
            }),
        }
    }

    fn run(
        &self,
        request: &EvaluateRequest,
        graph: &Rc<RefCell<ModuleGraph>>,
        logs: &mut Vec<LogLine>,
    ) -> Result<Value, Failed> {
        let _entered = self.reactor.enter();
        let loader = Rc::new(WorkspaceLoader::new(Rc::clone(graph)));
        let mut runtime = runtime::create(loader.clone(), request.limits.heap_bytes, self.startup)
            .map_err(engine_failure)?;
        let host = runtime::lock_down(&mut runtime, request.context, &request.execution_context)
            .map_err(engine_failure)?;

        let stop = Arc::new(Stop::default());
        let guards = arm(&mut runtime, request, &stop);
        let result = self
            .reactor
            .block_on(run_module(&mut runtime, request, &host, &self.figures));
        let result = match result {
            Ok(_) if request.call.is_some() => read_results(&mut runtime, &host),
            Ok(module) => {
                let graph = graph.borrow();
                let source = graph
                    .get(&request.entry)
                    .map_or("", |module| &module.source);
                read_default(&mut runtime, module, &request.entry, source)
            }
            Err(Ended::Js(error)) => Err(describe(&error, &loader, &graph.borrow())),
            Err(Ended::Engine(message)) => Err(engine_failure(message)),
        };
        // Disarmed before the runtime goes: nobody terminates what no longer exists.
        drop(guards);
        *logs = host.logs(&mut runtime);
        let result = match stop.cause() {
            None => result,
            Some(cause) => Err(stopped(cause, &request.entry, request.limits)),
        };
        result.map_err(|(kind, diagnostics)| {
            let subject = host.current(&mut runtime);
            let subject = Some(subject).filter(|subject| !subject.is_empty());
            let subject = subject.map(String::into_boxed_str);
            Failed {
                kind,
                diagnostics,
                subject,
            }
        })
    }
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

/// Why a script was stopped: the first cause counts.
#[derive(Default)]
struct Stop {
    cause: AtomicU8,
}

impl Stop {
    fn set(&self, cause: FailureKind) {
        let code = match cause {
            FailureKind::Memory => 1,
            FailureKind::Timeout => 2,
            FailureKind::CpuTime => 3,
            _ => 4,
        };
        // Relaxed: the isolate's termination orders the write before the evaluator's read; the
        // value itself is all that is communicated.
        let _ = self
            .cause
            .compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn cause(&self) -> Option<FailureKind> {
        match self.cause.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(FailureKind::Memory),
            2 => Some(FailureKind::Timeout),
            3 => Some(FailureKind::CpuTime),
            _ => Some(FailureKind::Cancelled),
        }
    }
}

/// What a script may use beyond its heap limit before it reaches the point where it stops.
const MAX_OVERDRAFT_BYTES: usize = 2 << 30;

/// Arms the heap limit, the time limits and the token; dropping the result disarms all but the first,
/// which dies with the isolate.
fn arm(runtime: &mut JsRuntime, request: &EvaluateRequest, stop: &Arc<Stop>) -> impl Drop + use<> {
    struct Guards {
        _wall: DeadlineGuard,
        _cpu: DeadlineGuard,
        _cancel: super::CancelGuard,
    }
    impl Drop for Guards {
        fn drop(&mut self) {}
    }
    let handle = runtime.v8_isolate().thread_safe_handle();
    let terminate = |cause: FailureKind| {
        let (stop, handle) = (Arc::clone(stop), handle.clone());
        move || {
            stop.set(cause);
            handle.terminate_execution();
        }
    };
    let mut out_of_memory = Some(terminate(FailureKind::Memory));
    runtime.add_near_heap_limit_callback(move |current, initial| {
        if let Some(terminate) = out_of_memory.take() {
            terminate();
        }
        // Room to unwind: V8 ends the process when the limit is reached again before that. Ending
        // it is right when the script cannot be stopped and eats the machine's memory.
        current
            .saturating_mul(2)
            .min(initial.saturating_add(MAX_OVERDRAFT_BYTES))
    });
    let time_is_up = terminate(FailureKind::Timeout);
    Guards {
        _wall: watchdog::after(request.limits.wall, move || {
            time_is_up();
            None
        }),
        _cpu: limit_cpu(request.limits.cpu, terminate(FailureKind::CpuTime)),
        _cancel: request.cancel.on_cancel(terminate(FailureKind::Cancelled)),
    }
}

/// Calls `terminate` when the calling thread has used `limit` more of CPU time than now. What it has
/// left is also the soonest that it can be used up, so that is when to look again.
fn limit_cpu(limit: Duration, terminate: impl Fn() + Send + 'static) -> DeadlineGuard {
    let clock = ThreadClock::of_this_thread();
    let begin = clock.read();
    watchdog::after(limit, move || {
        // Without a clock there is the wall's limit.
        let used = clock.read()?.saturating_sub(begin?);
        let left = limit.saturating_sub(used);
        if left.is_zero() {
            terminate();
            return None;
        }
        Some(left)
    })
}

async fn run_module(
    runtime: &mut JsRuntime,
    request: &EvaluateRequest,
    host: &Host,
    figures: &Figures,
) -> Result<v8::Global<v8::Object>, Ended> {
    let url = url_of_path(&request.entry).map_err(CoreError::from)?;
    let module = runtime.load_main_es_module(&url).await?;
    let evaluated = runtime.mod_evaluate(module);
    settle(runtime, figures).await?;
    evaluated.await?;
    if let Some(call) = &request.call {
        host.invoke(runtime, call).map_err(Ended::Engine)?;
        settle(runtime, figures).await?;
    }
    Ok(runtime.get_module_namespace(module)?)
}

/// Runs the event loop until nothing is left to do.
async fn settle(runtime: &mut JsRuntime, figures: &Figures) -> Result<(), CoreError> {
    poll_fn(|task| {
        figures.polled();
        runtime.poll_event_loop(task, PollEventLoopOptions::default())
    })
    .await
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

/// The `default` property of the namespace as JSON.
fn read_default(
    runtime: &mut JsRuntime,
    namespace: v8::Global<v8::Object>,
    entry: &str,
    source: &str,
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
            .with_help("write: export default { name: target({ … }) };");
        return Err(value_failure(diagnostic));
    };
    to_json(scope, value, "default").map_err(|NotJson { path, what }| {
        let message = format!("`{path}` is {what}: the default export must be plain JSON data");
        let diagnostic = Diagnostic::error(message)
            .with_help("use strings, numbers, booleans, null, lists and plain objects");
        value_failure(diagnostic)
    })
}

fn describe(error: &CoreError, loader: &WorkspaceLoader, graph: &ModuleGraph) -> Failure {
    let late = loader.take_late_mistakes();
    if !late.is_empty() {
        return (FailureKind::Source, late);
    }
    let diagnostic = match error.as_kind() {
        CoreErrorKind::Js(exception) => exception::to_diagnostic(exception, graph),
        other => Diagnostic::error(other.to_string()),
    };
    (FailureKind::Exception, vec![diagnostic])
}

fn stopped(cause: FailureKind, entry: &str, limits: Limits) -> Failure {
    let diagnostic = match cause {
        FailureKind::Memory => Diagnostic::error(format!(
            "{entry} needs more memory than its limit of {} MiB",
            limits.heap_bytes >> 20
        ))
        .with_help("look for a list or string that grows without an end"),
        FailureKind::Timeout => Diagnostic::error(format!(
            "{entry} took longer than its limit of {:?}",
            limits.wall
        ))
        .with_help("look for a loop without an end"),
        FailureKind::CpuTime => Diagnostic::error(format!(
            "{entry} computed for longer than its limit of {:?}",
            limits.cpu
        ))
        .with_help("look for a loop without an end"),
        _ => Diagnostic::error(format!("the evaluation of {entry} was cancelled")),
    };
    (cause, vec![diagnostic])
}
