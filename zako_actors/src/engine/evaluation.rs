//! What evaluating a build file is asked for and gives.
//!
//! Owns the interface between those who read build files and those who run them. Does not know either.

use serde_json::Value;

use super::hash::Hash;
use super::state::Sources;
use crate::diagnostic::Diagnostic;
use crate::isolate::{ContextKind, Limits};

/// One file to evaluate.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationJob {
    /// Workspace-relative path.
    pub path: String,
    /// What it may import.
    pub kind: ContextKind,
    /// The JSON value that it finds as `executionContext`.
    pub context: Value,
    /// A question to the rules, toolchains or options that it defines.
    pub call: Option<Value>,
}

/// What evaluating a file gave.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationOutput {
    /// The default export, or the answers to the call.
    pub value: Value,
    /// Every module that was read, with the hash of its content.
    pub modules: Vec<(String, Hash)>,
    /// Paths that were tried in vain; one that appears could change the result.
    pub absent: Vec<String>,
    /// What the file logged.
    pub logs: Vec<String>,
}

impl EvaluationOutput {
    /// What was read.
    pub fn sources(&self) -> Sources {
        sources(&self.modules, &self.absent)
    }
}

/// What an evaluation read.
pub fn sources(modules: &[(String, Hash)], absent: &[String]) -> Sources {
    let modules = modules.iter();
    Sources {
        modules: modules
            .map(|(path, hash)| (path.as_str().into(), *hash))
            .collect(),
        absent: absent.iter().map(|path| path.as_str().into()).collect(),
    }
}

/// An evaluation that gave nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationFailure {
    /// At least one mistake.
    pub diagnostics: Vec<Diagnostic>,
    /// What a call was about when it failed: a label, a toolchain, an option.
    pub subject: Option<Box<str>>,
    /// What was logged until then.
    pub logs: Vec<String>,
    /// What was read until then, where doing it again is of no use as long as that does not change.
    pub read: Option<Sources>,
    /// Whether it was stopped at a limit: that may go otherwise the next time.
    pub is_stopped: bool,
}

impl From<Diagnostic> for EvaluationFailure {
    fn from(mistake: Diagnostic) -> Self {
        Self {
            diagnostics: vec![mistake],
            subject: None,
            logs: Vec::new(),
            read: None,
            is_stopped: false,
        }
    }
}

/// Evaluates build files.
pub trait Evaluate {
    /// What the results depend on beside the files: engine and version.
    fn version(&self) -> &str;

    /// So many bytes of text one call may be told.
    fn most_text_bytes(&self) -> u64 {
        Limits::default().text_bytes()
    }

    /// Is told that so many files are going to be evaluated.
    fn expect(&mut self, files: usize) {
        // Of interest only to whoever shows it.
        let _ = files;
    }

    /// Evaluates all `jobs`, in parallel where it can; one answer per job, in order.
    fn evaluate(
        &mut self,
        jobs: Vec<EvaluationJob>,
    ) -> Vec<Result<EvaluationOutput, EvaluationFailure>>;

    /// Keeps what is to be told to a person, such as what a file logged.
    fn tell(&mut self, lines: Vec<String>);
}
