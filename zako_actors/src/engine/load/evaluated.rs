//! What single build files say.
//!
//! Owns which of them are evaluated again, and the memory of what they said, mistakes included. Does not know what follows from it.

use std::collections::BTreeMap;

use super::{
    EVALUATED_AT_ONCE, EvaluationFailure, EvaluationJob, EvaluationOutput, LoadError, Loaded,
    Loader, context_hash, dir_of,
};
use crate::backtrace;
use crate::diagnostic::Diagnostic;
use crate::engine::flaws::Broken;
use crate::engine::hash::Hash;
use crate::engine::state::{Evaluated, EvaluatedResult};
use crate::isolate::ContextKind;
use crate::lang::descriptor::{BuildFile, read_exports};
use crate::lang::packages::Packages;
use crate::lang::text::sharing;
use crate::lang::workspace_file::WorkspaceFile;
use crate::texts::read_text;

impl Loader<'_> {
    /// What the files at `paths` say, and which of them cannot be read.
    pub(super) fn results(
        &mut self,
        paths: Vec<String>,
        kind: ContextKind,
        loaded: &mut Loaded,
    ) -> Result<(Vec<EvaluatedResult>, Vec<Broken>), LoadError> {
        let context = self.context(kind);
        let context_hash = context_hash(self.env.workspace, self.env.evaluator.version(), &context);
        loaded.files += paths.len();
        let stale: Vec<EvaluationJob> = paths
            .iter()
            .filter(|path| !self.is_remembered(path, &context_hash))
            .map(|path| EvaluationJob {
                path: path.clone(),
                kind,
                context: context.clone(),
                call: None,
            })
            .collect();
        let mut mistakes: BTreeMap<String, Vec<Diagnostic>> = BTreeMap::new();
        if !stale.is_empty() {
            loaded.evaluated += stale.len();
            self.env.evaluator.expect(stale.len());
            let mut stale = stale.into_iter().peekable();
            sharing(|| {
                while stale.peek().is_some() {
                    let some = stale.by_ref().take(EVALUATED_AT_ONCE).collect();
                    self.evaluate(some, kind, context_hash, &mut mistakes);
                }
            });
        }
        let (mut results, mut broken) = (Vec::new(), Vec::new());
        for path in &paths {
            let known = self.env.memory.files.get(path.as_str());
            let known = known.map(|known| &known.result);
            let (mistakes, was_stopped) = match (mistakes.remove(path), known) {
                (Some(mistakes), _) => (mistakes, false),
                (
                    None,
                    Some(EvaluatedResult::Broken {
                        mistakes,
                        is_stopped,
                    }),
                ) => (
                    serde_json::from_str(mistakes).unwrap_or_default(),
                    *is_stopped,
                ),
                (None, result) => {
                    results.extend(result.cloned());
                    continue;
                }
            };
            let dir = self.dir_of(path);
            let found = Broken::new(path, dir, mistakes, was_stopped);
            broken.push(found.map_err(LoadError::Mistakes)?);
        }
        Ok((results, broken))
    }

    /// The directory that the build file at `path` describes.
    fn dir_of<'p>(&'p self, path: &'p str) -> &'p str {
        let own = dir_of(path);
        self.described.get(path).map_or(own, String::as_str)
    }

    /// Evaluates these and remembers what they say, or not any more.
    fn evaluate(
        &mut self,
        jobs: Vec<EvaluationJob>,
        kind: ContextKind,
        context: Hash,
        mistakes: &mut BTreeMap<String, Vec<Diagnostic>>,
    ) {
        let names: Vec<String> = jobs.iter().map(|job| job.path.clone()).collect();
        for (path, answer) in names.into_iter().zip(self.env.evaluator.evaluate(jobs)) {
            let answer = answer.and_then(|mut output| {
                self.env.evaluator.tell(std::mem::take(&mut output.logs));
                let read = self.read(&path, kind, &output);
                let read = read.map_err(|mistake| EvaluationFailure {
                    read: Some(output.sources()),
                    ..mistake.into()
                });
                Ok((output.sources(), read?))
            });
            let (sources, result) = match answer {
                Ok((sources, result)) => (Some(sources), result),
                Err(failure) => {
                    self.env.evaluator.tell(failure.logs);
                    let text = serde_json::to_string(&failure.diagnostics).unwrap_or_default();
                    mistakes.insert(path.clone(), failure.diagnostics);
                    let broken = EvaluatedResult::Broken {
                        mistakes: text.into(),
                        is_stopped: failure.is_stopped,
                    };
                    let read = failure.read.filter(|_| !backtrace::is_wanted());
                    (read, broken)
                }
            };
            let evaluated = sources.map(|sources| Evaluated {
                context,
                sources,
                result,
            });
            match evaluated {
                Some(evaluated) => drop(self.env.memory.files.insert(path.into(), evaluated)),
                None => drop(self.env.memory.files.remove(path.as_str())),
            }
        }
    }

    fn read(
        &self,
        path: &str,
        kind: ContextKind,
        output: &EvaluationOutput,
    ) -> Result<EvaluatedResult, Diagnostic> {
        let text = read_text(&self.env.workspace.root.join(path)).unwrap_or_default();
        let packages = Packages::new(&self.env.workspace.manifest.dependencies);
        let file = BuildFile {
            path,
            dir: self.dir_of(path),
            text: &text,
            packages: &packages,
        };
        Ok(if kind == ContextKind::Package {
            EvaluatedResult::Workspace(WorkspaceFile::read(&output.value, file)?)
        } else {
            let mut exports = read_exports(&output.value, file)?;
            // As the graph wants them: all of them together are sorted soon then.
            exports.targets.sort_by(|a, b| a.label.cmp(&b.label));
            EvaluatedResult::Exports(exports)
        })
    }

    fn is_remembered(&self, path: &str, context: &Hash) -> bool {
        self.env.memory.files.get(path).is_some_and(|known| {
            // What is remembered of a mistake has no whole stack.
            let is_broken = matches!(known.result, EvaluatedResult::Broken { .. });
            known.context == *context
                && !(is_broken && backtrace::is_wanted())
                && known.sources.is_unchanged(self.env.files)
        })
    }
}
