//! Build files, evaluated hermetically.
//!
//! Owns: evaluating one entry file to JSON: a fresh JavaScript context per evaluation, limits,
//! termination, errors in terms of the sources. This folder is the only one that imports
//! deno_core.
//! Does not know: what the JSON means, the build graph, caching.
//!
//! Invariants:
//! 1. A result depends on the listed modules, the context kind and the execution context only.
//! 2. No script reaches the file system, the network, the clock, or the engine's internals.
//! 3. A script cannot outlive its limits, nor harm the evaluation after it. Evaluations have a
//!    runtime of their own, because a module could leave something for the next one; so do the targets that
//!    one call of a rule is about. Calls of functions in modules that provably keep nothing once they are frozen
//!    share one, see `live`.

mod actor;
mod compile;
mod embedded;
mod evaluate;
mod exception;
mod figures;
mod kinds;
mod limits;
mod live;
mod loader;
mod modules;
mod runtime;
mod snapshot;
mod value;
mod watchdog;
mod workspace;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::diagnostic::Diagnostic;

pub use actor::{Isolate, IsolatePool};
pub use actor_rt::{CancelGuard, CancelToken};
pub use embedded::digest as rules_digest;
pub use evaluate::Evaluator;
pub use figures::IsolateFigures;
pub use kinds::{ContextKind, FileKind};
pub use runtime::{Startup, engine_name, engine_version};
pub use snapshot::keep_in as keep_snapshot_in;

/// What a script may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Size of the JavaScript heap in bytes.
    pub heap_bytes: usize,
    /// Wall-clock time of the evaluation.
    pub wall: Duration,
    /// CPU time of the evaluation, which a busy machine does not use up (Linux).
    pub cpu: Duration,
    /// CPU time to come to an end in, once a limit is reached: what the engine does in one step cannot be stopped meanwhile. Who
    /// needs longer ends the process.
    pub to_stop: Duration,
}

/// Three times what the engine takes to list the characters of the longest text that it can have.
const TO_STOP: Duration = Duration::from_secs(30);

/// Time by the clock for each second of computing: a busy machine, or a compiler that a toolchain asks for
/// its version, is no fault of the script.
const WALL_PER_CPU: u32 = 4;

impl Limits {
    /// The usual memory, `cpu` of computing, and by the clock four times as much.
    pub fn computing(cpu: Duration) -> Self {
        Self {
            heap_bytes: 256 << 20,
            wall: cpu.saturating_mul(WALL_PER_CPU),
            cpu,
            to_stop: TO_STOP,
        }
    }

    /// How much text a call may hand to a script, in bytes: the heap holds it several times, as the call, as its values, and as what
    /// the script makes of it; and escaped it is shorter than the longest text that an engine has.
    pub fn text_bytes(&self) -> u64 {
        (self.heap_bytes as u64 / TEXT_PER_HEAP).min(MAX_TEXT_BYTES)
    }
}

/// The heap for each byte of text that a script is handed.
const TEXT_PER_HEAP: u64 = 16;
/// As JSON it may be six times as long, and V8 has no text of more than 512 MiB.
const MAX_TEXT_BYTES: u64 = 64 << 20;

impl Default for Limits {
    /// 256 MiB, 30 seconds of computing, 120 seconds by the clock.
    fn default() -> Self {
        Self::computing(Duration::from_secs(30))
    }
}

/// One evaluation.
#[derive(Debug, Clone)]
pub struct EvaluateRequest {
    /// Root of the workspace; nothing outside it is read.
    pub root: PathBuf,
    /// The entry file, relative to the root, separated by `/`.
    pub entry: String,
    /// What the entry is.
    pub context: ContextKind,
    /// The value of the global `executionContext`.
    pub execution_context: Value,
    /// A question to what the entry defines (rules, toolchains, options); without one the answer is
    /// the entry's default export.
    pub call: Option<Value>,
    /// What the script may use.
    pub limits: Limits,
    /// Ends the evaluation from another thread.
    pub cancel: CancelToken,
}

impl EvaluateRequest {
    /// A request with default limits, an empty execution context, and a token of its own.
    pub fn new(root: impl Into<PathBuf>, entry: impl Into<String>, context: ContextKind) -> Self {
        Self {
            root: root.into(),
            entry: entry.into(),
            context,
            execution_context: Value::Object(serde_json::Map::new()),
            call: None,
            limits: Limits::default(),
            cancel: CancelToken::new(),
        }
    }
}

/// A file that an evaluation read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedModule {
    /// Path relative to the workspace root.
    pub path: String,
    /// BLAKE3 of its bytes, in hexadecimal.
    pub digest: String,
}

/// Importance of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// For finding mistakes.
    Debug,
    /// Normal.
    Info,
    /// Worth a look.
    Warn,
    /// Something is wrong.
    Error,
}

/// What a script wrote with `log` or `console`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Importance.
    pub level: LogLevel,
    /// The text.
    pub message: String,
}

/// The files that an evaluation depended on, successful or not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// Every file read, the entry included.
    pub modules: Vec<LoadedModule>,
    /// Paths tried in vain; creating one of them could change the result.
    pub absent: Vec<String>,
}

/// A successful evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The entry's default export, or the answers to the call.
    pub value: Value,
    /// Every file read, the entry included.
    pub modules: Vec<LoadedModule>,
    /// Paths tried in vain; creating one of them could change the result.
    pub absent: Vec<String>,
    /// What the scripts wrote.
    pub logs: Vec<LogLine>,
}

/// What ended an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// A mistake in a source file: syntax, a forbidden or unknown import, an unreadable file.
    Source,
    /// An exception.
    Exception,
    /// The default export is missing or has no JSON form.
    Value,
    /// The heap limit was reached.
    Memory,
    /// The wall-clock limit was reached.
    Timeout,
    /// The limit of CPU time was reached.
    CpuTime,
    /// The token was cancelled.
    Cancelled,
    /// The engine failed; a bug of Zako.
    Engine,
}

/// A failed evaluation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", render(.diagnostics))]
pub struct EvaluateError {
    /// What ended it.
    pub kind: FailureKind,
    /// At least one.
    pub diagnostics: Vec<Diagnostic>,
    /// What was being described (a label, or the name of a toolchain or option), when a call failed.
    pub subject: Option<Box<str>>,
    /// What was read until then.
    pub inputs: Inputs,
    /// Whether there is something at a path that was tried, and it could not be read: no input tells when it can.
    pub is_unread: bool,
    /// What the scripts wrote until then.
    pub logs: Vec<LogLine>,
}

impl EvaluateError {
    /// The first diagnostic.
    pub fn diagnostic(&self) -> Option<&Diagnostic> {
        self.diagnostics.first()
    }
}

fn render(diagnostics: &[Diagnostic]) -> String {
    let all: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    all.join("\n\n")
}
