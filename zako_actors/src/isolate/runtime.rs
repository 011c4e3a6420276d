//! Making JavaScript runtimes.
//!
//! Owns: the embedded modules, the operations that they may call, the startup snapshot, and the
//! order of steps that ends with a runtime in which user code may run.
//! Does not know: files, limits, results.
//! Invariant: user code runs only after `__zakoStart` (see `js/lockdown.js`) and with code from
//! strings switched off.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::{Once, OnceLock};

use deno_core::{
    Extension, ExtensionFileSource, JsRuntime, JsRuntimeForSnapshot, ModuleLoader, OpState,
    RuntimeOptions, ascii_str_include, op2, v8,
};
use serde_json::Value;

use super::{ContextKind, LogLevel, LogLine};

/// What operations may see.
pub(super) struct HostState {
    /// The evaluation's context.
    pub context: ContextKind,
    /// What the script logged.
    pub logs: Vec<LogLine>,
}

/// Log lines beyond this are dropped.
const MAX_LOG_LINES: usize = 10_000;

#[op2(fast)]
fn op_zako_log(state: &mut OpState, #[string] level: &str, #[string] message: &str) {
    let level = match level {
        "debug" => LogLevel::Debug,
        "warn" => LogLevel::Warn,
        "error" => LogLevel::Error,
        _ => LogLevel::Info,
    };
    if let Some(host) = state.try_borrow_mut::<HostState>()
        && host.logs.len() < MAX_LOG_LINES
    {
        host.logs.push(LogLine {
            level,
            message: message.to_owned(),
        });
    }
}

#[op2]
#[string]
fn op_zako_info(state: &mut OpState, #[string] what: &str) -> String {
    match what {
        "version" => env!("CARGO_PKG_VERSION").to_owned(),
        "engine" => engine_name().to_owned(),
        "context" => state
            .try_borrow::<HostState>()
            .map_or("", |host| host.context.name())
            .to_owned(),
        _ => String::new(),
    }
}

/// `v8` or `quickjs`.
pub fn engine_name() -> &'static str {
    if cfg!(feature = "quickjs") {
        "quickjs"
    } else {
        "v8"
    }
}

fn sources() -> Vec<ExtensionFileSource> {
    macro_rules! embedded {
        ($($specifier:literal = $file:literal),* $(,)?) => {
            vec![$(ExtensionFileSource::new($specifier, ascii_str_include!($file))),*]
        };
    }
    embedded![
        "ext:zako/host.js" = "js/host.js",
        "zako:internal/check" = "js/check.js",
        "zako:semver" = "js/semver.js",
        "zako:console" = "js/console.js",
        "zako:core" = "js/core.js",
        "zako:rt" = "js/rt.js",
        "zako:global" = "js/global.js",
        "zako:internal/targets" = "js/targets.js",
        "zako:build" = "js/build.js",
        "zako:package" = "js/package.js",
        "ext:zako/lockdown.js" = "js/lockdown.js",
        "ext:zako/main.js" = "js/main.js",
    ]
}

fn extension(with_sources: bool) -> Extension {
    Extension {
        name: "zako",
        ops: Cow::Owned(vec![op_zako_log(), op_zako_info()]),
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
            deno_core::v8_set_flags(vec![
                "zako".to_owned(),
                "--no-turboshaft-loop-unrolling".to_owned(),
            ]);
        }
        JsRuntime::init_platform(None);
    });
}

/// The snapshot of a runtime with all embedded modules evaluated, made once per process.
fn snapshot() -> Option<&'static [u8]> {
    static SNAPSHOT: OnceLock<Option<&'static [u8]>> = OnceLock::new();
    *SNAPSHOT.get_or_init(|| {
        if !cfg!(feature = "v8") {
            return None;
        }
        let runtime = JsRuntimeForSnapshot::try_new(RuntimeOptions {
            extensions: vec![extension(true)],
            ..RuntimeOptions::default()
        });
        match runtime {
            Ok(runtime) => Some(Box::leak(runtime.snapshot())),
            Err(error) => {
                tracing::warn!(%error, "no startup snapshot: isolates start slower");
                None
            }
        }
    })
}

/// A runtime before user code.
///
/// # Errors
/// The engine's message.
pub(super) fn create(
    loader: Rc<dyn ModuleLoader>,
    heap_bytes: usize,
    use_snapshot: bool,
) -> Result<JsRuntime, String> {
    // Before the snapshot, whose flags (a fixed random seed, one thread) would hold for all else.
    initialise();
    let snapshot = if use_snapshot { snapshot() } else { None };
    JsRuntime::try_new(RuntimeOptions {
        extensions: vec![extension(snapshot.is_none())],
        startup_snapshot: snapshot,
        module_loader: Some(loader),
        create_params: Some(v8::CreateParams::default().heap_limits(0, heap_bytes)),
        ..RuntimeOptions::default()
    })
    .map_err(|error| error.to_string())
}

/// The last step before user code: gives the context its value and takes everything else away.
///
/// # Errors
/// The engine's message.
pub(super) fn lock_down(
    runtime: &mut JsRuntime,
    host: HostState,
    execution_context: &Value,
) -> Result<(), String> {
    runtime.op_state().borrow_mut().put(host);
    deno_core::scope!(scope, runtime);
    let context = scope.get_current_context();
    let global = context.global(scope);
    let name = v8::String::new(scope, "__zakoStart").ok_or("out of memory")?;
    let start = global
        .get(scope, name.into())
        .and_then(|value| v8::Local::<v8::Function>::try_from(value).ok())
        .ok_or("the embedded modules did not start")?;
    let value = deno_core::serde_v8::to_v8(scope, execution_context)
        .map_err(|error| format!("the execution context cannot be passed: {error}"))?;
    v8::tc_scope!(let scope, scope);
    let receiver = v8::undefined(scope).into();
    if start.call(scope, receiver, &[value]).is_none() {
        let message = scope.exception().map(|e| e.to_rust_string_lossy(scope));
        return Err(message.unwrap_or_else(|| "the embedded modules failed".to_owned()));
    }
    context.set_allow_generation_from_strings(false);
    Ok(())
}
