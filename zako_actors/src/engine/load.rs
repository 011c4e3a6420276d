//! From build files to targets.
//!
//! Owns which files are evaluated, and the memory of what they said: a file is evaluated again only
//! when it, a module it imports, or the manifest changed.
//! Does not know how a file is evaluated: that is behind [`Evaluate`], so that a no-op never starts
//! a JavaScript engine.
//! Invariant: what is remembered names every module that was read.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use rustc_hash::FxHashSet;
use serde_json::Value;

use super::dirs::DirTable;
use super::files::FileTable;
use super::hash::{Hash, KeyWriter};
use super::members;
use super::state::{Evaluated, EvaluatedResult};
use super::workspace::Workspace;
use crate::diagnostic::Diagnostic;
use crate::lang::descriptor::{BuildFile, read_targets};
use crate::lang::scripts;
use crate::lang::target::{EnvValue, Target};
use crate::lang::workspace_file::{PACKAGE_FILE, WorkspaceFile};

/// Which built-in modules a file may import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `zako.ts`.
    Package,
    /// `BUILD.ts`.
    Build,
}

/// One file to evaluate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvaluationJob {
    /// Workspace-relative path.
    pub path: String,
    /// What it may import.
    pub kind: FileKind,
    /// The JSON value that it finds as `executionContext`.
    pub context: Value,
}

/// What evaluating a file gave.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationOutput {
    /// The default export.
    pub value: Value,
    /// Every module that was read, with the hash of its content.
    pub modules: Vec<(String, Hash)>,
    /// Paths that were tried in vain; one that appears could change the result.
    pub absent: Vec<String>,
    /// What the file logged.
    pub logs: Vec<String>,
}

/// Evaluates build files.
pub trait Evaluate {
    /// What the results depend on beside the files: engine and version.
    fn version(&self) -> &str;

    /// Evaluates all `jobs`, in parallel where it can; one answer per job, in order.
    fn evaluate(
        &mut self,
        jobs: Vec<EvaluationJob>,
    ) -> Vec<Result<EvaluationOutput, Vec<Diagnostic>>>;
}

/// Everything the build files said.
#[derive(Debug, Default, PartialEq)]
pub struct Loaded {
    /// All targets, unordered.
    pub targets: Vec<Arc<Target>>,
    /// Variables for every command.
    pub env: BTreeMap<String, EnvValue>,
    /// What the evaluated files logged.
    pub logs: Vec<String>,
    /// How many build files there are.
    pub files: usize,
    /// How many of them were evaluated rather than remembered.
    pub evaluated: usize,
}

/// Why there are no targets.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Mistakes in build files.
    #[error("{} in build files", if .0.len() == 1 { "a mistake" } else { "mistakes" })]
    Mistakes(Vec<Diagnostic>),
    /// A directory could not be searched for build files.
    #[error("cannot look for build files: {0}")]
    Search(#[from] io::Error),
}

/// Loads build files, remembering.
pub struct Loader<'a> {
    /// The workspace.
    pub workspace: &'a Workspace,
    /// Stat cache.
    pub files: &'a FileTable,
    /// Listing cache.
    pub dirs: &'a mut DirTable,
    /// What files said before; brought up to date.
    pub memory: &'a mut BTreeMap<Box<str>, Evaluated>,
    /// Evaluates what is not remembered.
    pub evaluator: &'a mut dyn Evaluate,
}

impl Loader<'_> {
    /// Every target of the workspace.
    ///
    /// # Errors
    /// The mistakes of every broken build file, not only of the first.
    pub fn load(mut self) -> Result<Loaded, LoadError> {
        let mut loaded = Loaded::default();
        let mut package = WorkspaceFile::default();
        if self.workspace.root.join(PACKAGE_FILE).is_file() {
            let paths = vec![PACKAGE_FILE.to_owned()];
            let results = self.results(paths, FileKind::Package, &mut loaded)?;
            if let Some(EvaluatedResult::Workspace(file)) = results.into_iter().next() {
                package = file;
            }
        }
        let builds = self
            .workspace
            .manifest
            .builds
            .as_ref()
            .unwrap_or(&package.builds);
        // Nothing is known about outputs yet; build files are written by people.
        let mut paths = self.dirs.expand("", builds, &[], &|_| false)?;
        paths.retain(|path| path != PACKAGE_FILE);
        let wanted: Vec<String> = paths.clone();
        for result in self.results(paths, FileKind::Build, &mut loaded)? {
            if let EvaluatedResult::Targets(targets) = result {
                loaded.targets.extend(targets);
            }
        }
        self.memory
            .retain(|path, _| **path == *PACKAGE_FILE || wanted.iter().any(|w| **w == **path));
        loaded.targets.append(&mut package.targets);
        self.add_scripts(&wanted, &mut loaded)?;
        loaded.env = package.env;
        Ok(loaded)
    }

    /// Adds the scripts of packages whose directory has no build file.
    fn add_scripts(&mut self, builds: &[String], loaded: &mut Loaded) -> Result<(), LoadError> {
        let Some(members) = members::read(self.workspace, self.dirs)? else {
            return Ok(());
        };
        let described: FxHashSet<&str> = builds
            .iter()
            .map(|path| path.rsplit_once('/').map_or("", |(dir, _)| dir))
            .collect();
        let mut scripts = scripts::targets(&members);
        scripts.retain(|target| !described.contains(target.label.dir()));
        loaded.targets.append(&mut scripts);
        Ok(())
    }

    fn results(
        &mut self,
        paths: Vec<String>,
        kind: FileKind,
        loaded: &mut Loaded,
    ) -> Result<Vec<EvaluatedResult>, LoadError> {
        let context = self.context(kind);
        let context_hash = self.context_hash(&context);
        loaded.files += paths.len();
        let stale: Vec<EvaluationJob> = paths
            .iter()
            .filter(|path| !self.is_remembered(path, &context_hash))
            .map(|path| EvaluationJob {
                path: path.clone(),
                kind,
                context: context.clone(),
            })
            .collect();
        if !stale.is_empty() {
            loaded.evaluated += stale.len();
            let names: Vec<String> = stale.iter().map(|job| job.path.clone()).collect();
            let mut mistakes = Vec::new();
            for (path, answer) in names.into_iter().zip(self.evaluator.evaluate(stale)) {
                let answer = answer.and_then(|mut output| {
                    loaded.logs.append(&mut output.logs);
                    self.read(&path, kind, output, context_hash)
                        .map_err(|mistake| vec![mistake])
                });
                match answer {
                    Ok(evaluated) => {
                        self.memory.insert(path.into(), evaluated);
                    }
                    Err(found) => {
                        self.memory.remove(path.as_str());
                        mistakes.extend(found);
                    }
                }
            }
            // Files that import one broken module have one mistake, not many.
            let mut seen = Vec::new();
            mistakes.retain(|mistake| {
                let new = !seen.contains(mistake);
                if new {
                    seen.push(mistake.clone());
                }
                new
            });
            if !mistakes.is_empty() {
                return Err(LoadError::Mistakes(mistakes));
            }
        }
        Ok(paths
            .iter()
            .filter_map(|path| Some(self.memory.get(path.as_str())?.result.clone()))
            .collect())
    }

    fn read(
        &self,
        path: &str,
        kind: FileKind,
        output: EvaluationOutput,
        context: Hash,
    ) -> Result<Evaluated, Diagnostic> {
        let text = std::fs::read_to_string(self.workspace.root.join(path)).unwrap_or_default();
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        let file = BuildFile {
            path,
            dir,
            text: &text,
        };
        Ok(Evaluated {
            context,
            modules: output
                .modules
                .into_iter()
                .map(|(path, hash)| (path.into(), hash))
                .collect(),
            absent: output.absent.into_iter().map(Into::into).collect(),
            result: match kind {
                FileKind::Package => {
                    EvaluatedResult::Workspace(WorkspaceFile::read(&output.value, file)?)
                }
                FileKind::Build => {
                    let targets = read_targets(&output.value, file)?;
                    EvaluatedResult::Targets(targets.into_iter().map(Arc::new).collect())
                }
            },
        })
    }

    fn is_remembered(&self, path: &str, context: &Hash) -> bool {
        self.memory.get(path).is_some_and(|known| {
            known.context == *context
                && !known.modules.is_empty()
                && known
                    .modules
                    .iter()
                    .all(|(path, hash)| self.files.fact(path).is_ok_and(|f| f.hash == *hash))
                && !known
                    .absent
                    .iter()
                    .any(|path| self.workspace.root.join(&**path).exists())
        })
    }

    fn context(&self, kind: FileKind) -> Value {
        let manifest = &self.workspace.manifest;
        serde_json::json!({
            "context": match kind { FileKind::Package => "package", FileKind::Build => "build" },
            "package": {
                "group": manifest.group,
                "artifact": manifest.artifact,
                "version": manifest.version,
            },
        })
    }

    fn context_hash(&self, context: &Value) -> Hash {
        KeyWriter::new("zako evaluation")
            .text(env!("CARGO_PKG_VERSION"))
            .text(self.evaluator.version())
            .hash(&self.workspace.manifest_hash)
            .text(&context.to_string())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::dirs::SavedDirs;
    use super::super::files::SavedFiles;
    use super::*;
    use std::fs;

    /// Takes each file's text for the JSON that it exports.
    struct Fake<'a> {
        root: &'a std::path::Path,
        asked: Vec<String>,
    }

    impl Evaluate for Fake<'_> {
        fn version(&self) -> &str {
            "fake 1"
        }

        fn evaluate(
            &mut self,
            jobs: Vec<EvaluationJob>,
        ) -> Vec<Result<EvaluationOutput, Vec<Diagnostic>>> {
            jobs.into_iter()
                .map(|job| {
                    self.asked.push(job.path.clone());
                    let text = fs::read_to_string(self.root.join(&job.path)).unwrap();
                    let hash = Hash::of(text.as_bytes());
                    match serde_json::from_str(&text) {
                        Ok(value) => Ok(EvaluationOutput {
                            value,
                            modules: vec![(job.path, hash)],
                            absent: Vec::new(),
                            logs: Vec::new(),
                        }),
                        Err(error) => {
                            Err(vec![Diagnostic::error(format!("{}: {error}", job.path))])
                        }
                    }
                })
                .collect()
        }
    }

    struct World {
        dir: tempfile::TempDir,
        memory: BTreeMap<Box<str>, Evaluated>,
    }

    impl World {
        fn new() -> Self {
            let world = Self {
                dir: tempfile::tempdir().unwrap(),
                memory: BTreeMap::new(),
            };
            world.write(
                "zako.toml",
                "group = \"g\"\nartifact = \"a\"\nversion = \"1.0.0\"\n",
            );
            world
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn load(&mut self) -> (Vec<String>, Result<Vec<String>, LoadError>) {
            let workspace = Workspace::find(self.dir.path()).unwrap();
            let files = FileTable::new(workspace.root.clone(), SavedFiles::default());
            let mut dirs = DirTable::new(workspace.root.clone(), SavedDirs::default());
            let mut evaluator = Fake {
                root: &workspace.root,
                asked: Vec::new(),
            };
            let loaded = Loader {
                workspace: &workspace,
                files: &files,
                dirs: &mut dirs,
                memory: &mut self.memory,
                evaluator: &mut evaluator,
            }
            .load();
            let labels = loaded.map(|l| l.targets.iter().map(|t| t.label.to_string()).collect());
            (evaluator.asked, labels)
        }
    }

    const TARGET: &str = r#"{"t": {"$zako": "command", "cmd": ["true"]}}"#;

    #[test]
    fn only_what_changed_is_evaluated_again() {
        let mut world = World::new();
        world.write("a/BUILD.ts", TARGET);
        world.write("b/BUILD.ts", TARGET);
        world.write(
            "zako.ts",
            r#"{"$zako": "workspace", "targets": {"r": {"$zako": "command", "cmd": ["true"]}}}"#,
        );
        let (asked, labels) = world.load();
        assert_eq!(asked, ["zako.ts", "a/BUILD.ts", "b/BUILD.ts"]);
        assert_eq!(labels.unwrap(), ["//a:t", "//b:t", "//:r"]);
        assert_eq!(world.load().0, Vec::<String>::new());
        world.write("b/BUILD.ts", &TARGET.replace("\"t\"", "\"u\""));
        let (asked, labels) = world.load();
        assert_eq!(asked, ["b/BUILD.ts"]);
        assert_eq!(labels.unwrap(), ["//a:t", "//b:u", "//:r"]);
        fs::remove_file(world.dir.path().join("a/BUILD.ts")).unwrap();
        assert_eq!(world.load().1.unwrap(), ["//b:u", "//:r"]);
    }

    #[test]
    fn every_broken_file_is_named_and_forgotten() {
        let mut world = World::new();
        world.write("a/BUILD.ts", "{");
        world.write("b/BUILD.ts", "[1]");
        let Err(LoadError::Mistakes(mistakes)) = world.load().1 else {
            panic!("no mistakes")
        };
        assert_eq!(mistakes.len(), 2);
        assert_eq!(world.load().0.len(), 2, "a failure is not remembered");
    }
}
