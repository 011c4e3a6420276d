//! A workspace on the disk and evaluations in it.

use serde_json::Value;
use zako_actors::isolate::{ContextKind, EvaluateError, EvaluateRequest, Evaluation, Evaluator};

/// A workspace that is removed when dropped.
pub struct Workspace {
    /// Its root.
    pub root: tempfile::TempDir,
    /// Used for all evaluations.
    pub evaluator: Evaluator,
}

impl Workspace {
    /// A workspace with these files.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self {
            root,
            evaluator: Evaluator::new().unwrap(),
        }
    }

    /// A request for `entry` in the Build context.
    pub fn request(&self, entry: &str) -> EvaluateRequest {
        EvaluateRequest::new(self.root.path(), entry, ContextKind::Build)
    }

    /// Evaluates `entry` in the Build context.
    pub fn evaluate(&mut self, entry: &str) -> Result<Evaluation, EvaluateError> {
        let request = self.request(entry);
        self.evaluator.evaluate(&request)
    }
}

/// The value of a single build file.
#[allow(dead_code, reason = "not every test binary uses it")]
pub fn value(source: &str) -> Value {
    match Workspace::new(&[("BUILD.ts", source)]).evaluate("BUILD.ts") {
        Ok(evaluation) => evaluation.value,
        Err(error) => panic!("{error}"),
    }
}

/// The error of a single build file.
#[allow(dead_code, reason = "not every test binary uses it")]
pub fn error(source: &str) -> EvaluateError {
    match Workspace::new(&[("BUILD.ts", source)]).evaluate("BUILD.ts") {
        Ok(evaluation) => panic!("unexpected success: {}", evaluation.value),
        Err(error) => error,
    }
}

/// The text of the error of a single build file.
#[allow(dead_code, reason = "not every test binary uses it")]
pub fn error_text(source: &str) -> String {
    error(source).to_string()
}
