//! Making JavaScript runtimes.
//!
//! Owns: the embedded modules, the startup snapshot, the object shared with them, and the order of
//! steps that ends with a runtime in which user code may run.
//! Does not know: files, limits, results.
//! Invariant: user code runs only after `__zakoStart` (see `js/lockdown.js`) and with code from
//! strings switched off.

use std::borrow::Cow;
#[cfg(feature = "v8")]
use std::fs::File;
#[cfg(feature = "v8")]
use std::io::Read as _;
use std::rc::Rc;
use std::sync::{Once, OnceLock};

use deno_core::{
    Extension, ExtensionFileSource, JsRuntime, JsRuntimeForSnapshot, ModuleLoader, RuntimeOptions,
    ascii_str_include, v8,
};
use serde_json::Value;

use super::{ContextKind, Limits, LogLine, snapshot};

/// The module that freezes what outlives a call.
pub(super) const HARDEN: &str = "zako:internal/harden";

/// `v8` or `quickjs`.
pub fn engine_name() -> &'static str {
    if cfg!(feature = "quickjs") {
        "quickjs"
    } else {
        "v8"
    }
}

/// The engine with its version, for people.
#[cfg(not(feature = "quickjs"))]
pub fn engine_version() -> String {
    let version = v8::VERSION_STRING;
    let short: Vec<&str> = version.split(['.', '-']).take(3).collect();
    format!("V8 {}", short.join("."))
}

/// The engine, for people.
#[cfg(feature = "quickjs")]
pub fn engine_version() -> String {
    "QuickJS-ng".to_owned()
}

fn sources() -> Vec<ExtensionFileSource> {
    macro_rules! embedded {
        ($($specifier:literal = $file:literal),* $(,)?) => {
            vec![$(ExtensionFileSource::new($specifier, ascii_str_include!($file))),*]
        };
    }
    let host = include_str!("js/host.js")
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@ENGINE@", engine_name());
    let mut sources = embedded![
        "zako:internal/harden" = "js/harden.js",
        "zako:internal/check" = "js/check.js",
        "zako:semver" = "js/semver.js",
        "zako:console" = "js/console.js",
        "zako:core" = "js/core.js",
        "zako:rt" = "js/rt.js",
        "zako:global" = "js/global.js",
        "zako:internal/targets" = "js/targets.js",
        "zako:internal/files" = "js/files.js",
        "zako:internal/attributes" = "js/attributes.js",
        "zako:internal/context" = "js/context.js",
        "zako:internal/rules" = "js/rules.js",
        "zako:build" = "js/build.js",
        "zako:package" = "js/package.js",
        "ext:zako/lockdown.js" = "js/lockdown.js",
        "ext:zako/main.js" = "js/main.js",
    ];
    sources.insert(
        0,
        ExtensionFileSource::new_computed("ext:zako/host.js", host.into()),
    );
    sources
}

fn extension(with_sources: bool) -> Extension {
    Extension {
        name: "zako",
        esm_files: Cow::Owned(if with_sources { sources() } else { Vec::new() }),
        esm_entry_point: with_sources.then_some("ext:zako/main.js"),
        ..Extension::default()
    }
}

/// Initialises the engine, once per process.
fn initialise() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if cfg!(feature = "v8") {
            // V8 150 may drop the interrupt check of an endless loop that contains a small counted
            // one (LoopStackCheckElisionReducer, `while (true) list.push(new Array(1000))`): such
            // a script could not be stopped.
            let mut flags = vec![
                "zako".to_owned(),
                "--no-turboshaft-loop-unrolling".to_owned(),
                // The lock-down takes it away; so it is not set up at each start.
                "--no-expose-wasm".to_owned(),
                // What collects a script's garbage counts as its computing; other threads would not.
                "--single-threaded-gc".to_owned(),
            ];
            if crate::backtrace::is_wanted() {
                flags.push("--stack-trace-limit=1000".to_owned());
            }
            deno_core::v8_set_flags(flags);
        }
        #[cfg(feature = "v8")]
        v8::V8::set_entropy_source(entropy);
        JsRuntime::init_platform(None);
    });
}

/// Fills `bytes` with randomness from the kernel. Each isolate asks for some bytes three times; left to itself, V8
/// opens the device each time and reads a page of it.
#[cfg(feature = "v8")]
fn entropy(bytes: &mut [u8]) -> bool {
    static DEVICE: OnceLock<Option<File>> = OnceLock::new();
    let device = DEVICE.get_or_init(|| File::open("/dev/urandom").ok());
    device
        .as_ref()
        .is_some_and(|mut device| device.read_exact(bytes).is_ok())
}

/// How the runtimes of a process start; the first evaluation decides for all.
///
/// When V8 makes a snapshot it moves objects to the read-only heap, which all isolates of a
/// process share: none may exist meanwhile (some crashed), so the snapshot comes first or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Startup {
    /// From a snapshot of the embedded modules (V8 only): 13 ms once, or less when an earlier process
    /// kept it, then a third of the time of a cold start each.
    #[default]
    Snapshot,
    /// Without a snapshot.
    Cold,
}

impl Startup {
    fn snapshot(self) -> Option<&'static [u8]> {
        static SNAPSHOT: OnceLock<Option<&'static [u8]>> = OnceLock::new();
        *SNAPSHOT.get_or_init(|| match self {
            Self::Snapshot if cfg!(feature = "v8") => snapshot::kept_or(make_snapshot),
            Self::Snapshot | Self::Cold => None,
        })
    }
}

/// The snapshot of a runtime with all embedded modules evaluated.
fn make_snapshot() -> Option<Box<[u8]>> {
    let runtime = JsRuntimeForSnapshot::try_new(RuntimeOptions {
        extensions: vec![extension(true)],
        ..RuntimeOptions::default()
    });
    match runtime {
        Ok(runtime) => Some(runtime.snapshot()),
        Err(error) => {
            tracing::warn!(%error, "no startup snapshot: isolates start slower");
            None
        }
    }
}

/// A runtime before user code.
///
/// # Errors
/// The engine's message.
pub(super) fn create(
    loader: Rc<dyn ModuleLoader>,
    heap_bytes: usize,
    startup: Startup,
) -> Result<JsRuntime, String> {
    // Before the snapshot, whose flags (a fixed random seed, one thread) would hold for all else.
    initialise();
    let snapshot = startup.snapshot();
    JsRuntime::try_new(RuntimeOptions {
        extensions: vec![extension(snapshot.is_none())],
        startup_snapshot: snapshot,
        // They are in the snapshot; here no other has any.
        skip_op_registration: snapshot.is_some(),
        module_loader: Some(loader),
        create_params: Some(v8::CreateParams::default().heap_limits(0, heap_bytes)),
        ..RuntimeOptions::default()
    })
    .map_err(|error| error.to_string())
}

/// Has the process keep, from now on, what its isolates share.
///
/// V8 reads that from the snapshot for the first isolate and gives it up with the last: a quarter of the time that
/// making one takes, and again whenever one is made while there is no other. So one stays, in which nothing runs.
pub(super) fn keep_shared(startup: Startup) {
    if !cfg!(feature = "v8") {
        return;
    }
    // It is entered by the thread that makes it and never left, so that thread is one of its own.
    let made = std::thread::Builder::new()
        .name("zako-shared".to_owned())
        .spawn(move || {
            let reactor = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .map_err(|error| error.to_string())?;
            let _entered = reactor.enter();
            let nothing = Rc::new(deno_core::NoopModuleLoader);
            create(nothing, Limits::default().heap_bytes, startup).map(std::mem::forget)
        })
        .map(|thread| thread.join());
    if !matches!(made, Ok(Ok(Ok(())))) {
        tracing::warn!("isolates start slower: what they share was not kept");
    }
}

/// The object that the embedded modules share with the isolate: the log, what is being described,
/// and the way into the definitions of rules.
pub(super) struct Host {
    object: v8::Global<v8::Object>,
    invoke: v8::Global<v8::Function>,
    collect: v8::Global<v8::Function>,
}

/// The last step before user code: gives the context its values and takes everything else away.
///
/// # Errors
/// The engine's message.
pub(super) fn lock_down(
    runtime: &mut JsRuntime,
    context_kind: ContextKind,
    execution_context: &Value,
) -> Result<Host, String> {
    deno_core::scope!(scope, runtime);
    let context = scope.get_current_context();
    // Before the lock-down: QuickJS's stand-in for this puts an `eval` onto the global object.
    context.set_allow_generation_from_strings(false);
    let global = context.global(scope);
    let start = v8::String::new(scope, "__zakoStart")
        .and_then(|name| global.get(scope, name.into()))
        .and_then(|value| v8::Local::<v8::Function>::try_from(value).ok())
        .ok_or("the embedded modules did not start")?;
    let kind = v8::String::new(scope, context_kind.name()).ok_or("out of memory")?;
    let value = deno_core::serde_v8::to_v8(scope, execution_context)
        .map_err(|error| format!("the execution context cannot be passed: {error}"))?;
    v8::tc_scope!(let scope, scope);
    let receiver = v8::undefined(scope).into();
    let host = start.call(scope, receiver, &[kind.into(), value]);
    let Some(host) = host.and_then(|host| v8::Local::<v8::Object>::try_from(host).ok()) else {
        let message = scope.exception().map(|e| e.to_rust_string_lossy(scope));
        return Err(message.unwrap_or_else(|| "the embedded modules failed".to_owned()));
    };
    let invoke = function(scope, host, "invoke").ok_or("the way into rules is closed")?;
    let collect = function(scope, host, "collect").ok_or("the way out of rules is closed")?;
    Ok(Host {
        object: v8::Global::new(scope, host),
        invoke: v8::Global::new(scope, invoke),
        collect: v8::Global::new(scope, collect),
    })
}

/// The function that is called `name` in `host`.
fn function<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: v8::Local<'s, v8::Object>,
    name: &str,
) -> Option<v8::Local<'s, v8::Function>> {
    let name = v8::String::new(scope, name)?;
    v8::Local::try_from(host.get(scope, name.into())?).ok()
}

impl Host {
    /// What was logged, also when the script was stopped.
    pub fn logs(&self, runtime: &mut JsRuntime) -> Vec<LogLine> {
        runtime.v8_isolate().cancel_terminate_execution();
        deno_core::scope!(scope, runtime);
        let lines = self.get(scope, "lines");
        // Most evaluations log nothing.
        lines
            .filter(|lines| {
                let list = v8::Local::<v8::Array>::try_from(*lines);
                list.map_or(true, |list| list.length() > 0)
            })
            .and_then(|lines| deno_core::serde_v8::from_v8(scope, lines).ok())
            .unwrap_or_default()
    }

    /// What was being described when a mistake was found; empty outside of rules.
    pub fn current(&self, runtime: &mut JsRuntime) -> String {
        runtime.v8_isolate().cancel_terminate_execution();
        deno_core::scope!(scope, runtime);
        let current = self.get(scope, "current");
        current
            .and_then(|current| deno_core::serde_v8::from_v8(scope, current).ok())
            .unwrap_or_default()
    }

    fn get<'s>(
        &self,
        scope: &mut v8::PinScope<'s, '_>,
        name: &str,
    ) -> Option<v8::Local<'s, v8::Value>> {
        let host = v8::Local::new(scope, &self.object);
        let name = v8::String::new(scope, name)?;
        host.get(scope, name.into())
    }

    /// Freezes whatever outlives a call, once the modules are evaluated.
    ///
    /// # Errors
    /// When that did not work.
    pub fn freeze(&self, runtime: &mut JsRuntime) -> Result<(), String> {
        deno_core::scope!(scope, runtime);
        let frozen = self.call(scope, "freeze");
        frozen
            .map(drop)
            .ok_or_else(|| "the modules cannot be frozen".to_owned())
    }

    /// Forgets what was logged and described, and takes definitions again.
    pub fn reset(&self, runtime: &mut JsRuntime) {
        deno_core::scope!(scope, runtime);
        // A function of ours that empties a list does not fail.
        let _ = self.call(scope, "reset");
    }

    /// Whether the engine notes where a mistake is made, which scripts may turn off.
    pub fn notes_places(&self, runtime: &mut JsRuntime) -> bool {
        deno_core::scope!(scope, runtime);
        let notes = self.call(scope, "notesPlaces");
        notes.is_some_and(|notes| notes.is_true())
    }

    /// Has the definitions of the loaded modules answer `request`, JSON text; its promises are settled by the
    /// event loop, and [`collect`](Self::collect) gives what came of it.
    ///
    /// # Errors
    /// The engine's message.
    pub fn invoke(&self, runtime: &mut JsRuntime, request: &str) -> Result<(), String> {
        deno_core::scope!(scope, runtime);
        // The engine's own reader makes objects whose properties scripts find sooner than those of objects that are made
        // from outside, and makes them sooner.
        let text = v8::String::new(scope, request).ok_or("the request is too long")?;
        let request = v8::json::parse(scope, text).ok_or("the request cannot be passed")?;
        let host = v8::Local::new(scope, &self.object);
        v8::Local::new(scope, &self.invoke)
            .call(scope, host.into(), &[request])
            .map(drop)
            .ok_or_else(|| "the way into rules is closed".to_owned())
    }

    /// The results of an invocation.
    pub fn collect<'s>(
        &self,
        scope: &mut v8::PinScope<'s, '_>,
    ) -> Option<v8::Local<'s, v8::Value>> {
        let host = v8::Local::new(scope, &self.object);
        v8::Local::new(scope, &self.collect).call(scope, host.into(), &[])
    }

    fn call<'s>(
        &self,
        scope: &mut v8::PinScope<'s, '_>,
        name: &str,
    ) -> Option<v8::Local<'s, v8::Value>> {
        let host = v8::Local::new(scope, &self.object);
        let function = function(scope, host, name)?;
        function.call(scope, host.into(), &[])
    }
}
