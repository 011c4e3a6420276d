//! From build files to targets.
//!
//! Owns which files are evaluated, and the memory of what they said: a file is evaluated again only
//! when it, a module it imports, or the manifest changed.
//! Does not know how a file is evaluated: that is behind [`Evaluate`], so that a no-op never starts
//! a JavaScript engine.
//! Invariant: what is remembered names every module that was read.

mod evaluated;
mod linked;
mod scripted;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use rustc_hash::FxHashSet;
use serde_json::Value;

use super::analyse::{Analyser, Given, Reading};
use super::dirs::{DirTable, Named};
pub use super::evaluation::{Evaluate, EvaluationFailure, EvaluationJob, EvaluationOutput};
use super::files::FileTable;
use super::flaws::{Broken, Flaws};
use super::hash::{Hash, KeyWriter};
use super::locks::LockMemory;
use super::packages;
use super::state::{EvaluatedResult, Memory};
use super::workspace::Workspace;
use crate::diagnostic::Diagnostic;
use crate::isolate::{ContextKind, rules_digest};
use crate::lang::label::{Label, is_within};
use crate::lang::manifest::MANIFEST;
use crate::lang::packages::fetched_dir;
use crate::lang::rule_use::RuleUse;
use crate::lang::scripts;
use crate::lang::target::{EnvValue, Target};
use crate::lang::workspace_file::{PACKAGE_FILE, WorkspaceFile};
use crate::texts::what_else;

/// Everything the build files said.
#[derive(Debug, Default, PartialEq)]
pub struct Loaded {
    /// All targets, unordered.
    pub targets: Vec<Arc<Target>>,
    /// Variables for every command.
    pub env: BTreeMap<String, EnvValue>,
    /// How many build files were looked at.
    pub files: usize,
    /// How many evaluations of files it took, rules and toolchains included.
    pub evaluated: usize,
    /// Rules whose answers rest on outputs, after those that they depend on.
    pub readings: Vec<Reading>,
    /// What is wrong with build files and uses of rules.
    pub flaws: Flaws,
}

/// What build files and packages say by themselves, before rules are asked: as long as nobody edits them, that stays while
/// rules read what is built.
#[derive(Clone, Debug, Default)]
pub struct Described {
    /// All targets that no rule describes.
    pub(super) targets: Vec<Arc<Target>>,
    /// All uses of rules.
    pub(super) uses: Vec<Arc<RuleUse>>,
    env: BTreeMap<String, EnvValue>,
    flaws: Flaws,
    /// What scripts of packages say of all these targets.
    links: scripts::Links,
}

/// Why there are no targets, or not those that are asked for.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Mistakes in files that everything depends on, or of what is asked for.
    #[error("{} in build files", if .0.len() == 1 { "a mistake" } else { "mistakes" })]
    Mistakes(Vec<Diagnostic>),
    /// A directory could not be searched for build files.
    #[error("cannot look for build files: {0}")]
    Search(#[from] io::Error),
}

/// What build files are read with, and rules are asked with.
pub struct LoadEnv<'a> {
    /// The workspace.
    pub workspace: &'a Workspace,
    /// Stat cache.
    pub files: &'a FileTable,
    /// Listing cache.
    pub dirs: &'a mut DirTable,
    /// What files and rules said before; brought up to date.
    pub memory: &'a mut Memory,
    /// Evaluates what is not remembered.
    pub evaluator: &'a mut dyn Evaluate,
    /// PATH.
    pub search: &'a str,
    /// Whether the rule of the first target may read outputs of the second one: they are up to date.
    pub may_read: &'a dyn Fn(&Label, &Label) -> bool,
    /// Whether zako wrote a file of the workspace.
    pub wrote: &'a dyn Fn(&str) -> bool,
    /// Whether there may be files of zako's in the workspace that none of these targets left.
    pub has_left: &'a dyn Fn(&FxHashSet<&Label>) -> bool,
    /// Targets with a mistake: their rules are not asked.
    pub mistaken: &'a FxHashSet<Label>,
    /// Packages from elsewhere that could not be brought, with what is wrong.
    pub missing: &'a [(String, Diagnostic)],
    /// What lock files said.
    pub locks: &'a LockMemory,
}

/// So many files are evaluated before what they said is read: as JSON it takes several times the memory of the targets.
const EVALUATED_AT_ONCE: usize = 32;

/// Loads build files, remembering.
pub struct Loader<'a> {
    /// What they are read with.
    pub env: LoadEnv<'a>,
    /// Options that were set.
    pub given: &'a Given,
    /// Build files that describe another directory than their own.
    described: BTreeMap<String, String>,
}

impl<'a> Loader<'a> {
    /// A loader with these options.
    pub fn new(env: LoadEnv<'a>, given: &'a Given) -> Self {
        Self {
            env,
            given,
            described: BTreeMap::new(),
        }
    }

    /// Every target of the workspace. Build files are looked at unless it is `known` what they say; afterwards it is, where
    /// rules may be asked again. A build file that cannot be read is a flaw, and so is a mistake with one use of a rule.
    ///
    /// # Errors
    /// The mistakes that nothing can be known beside.
    pub fn load(mut self, known: &mut Option<Described>) -> Result<Loaded, LoadError> {
        let mut loaded = Loaded::default();
        let (described, is_new) = match known.take() {
            Some(described) => (described, false),
            None => (self.describe(&mut loaded)?, true),
        };
        let Described {
            targets,
            uses,
            env,
            flaws,
            links,
        } = if described.uses.is_empty() {
            described
        } else {
            known.insert(described).clone()
        };
        (loaded.targets, loaded.env) = (targets, env);
        loaded.flaws = flaws;
        self.add_uses(&uses, &mut loaded)?;
        let unknown = linked::link(&mut loaded.targets, &links, &loaded.flaws.broken);
        if is_new {
            self.env.evaluator.tell(unknown);
        }
        Ok(loaded)
    }

    /// Looks at all build files, and evaluates those that changed.
    fn describe(&mut self, loaded: &mut Loaded) -> Result<Described, LoadError> {
        let mut package = WorkspaceFile::default();
        let place = self.env.workspace.root.join(PACKAGE_FILE);
        if place.is_file() {
            let paths = vec![PACKAGE_FILE.to_owned()];
            let (results, mut broken) = self.results(paths, ContextKind::Package, loaded)?;
            if let Some(broken) = broken.pop() {
                return Err(LoadError::Mistakes(of_everything(broken.mistakes)));
            }
            if let Some(EvaluatedResult::Workspace(file)) = results.into_iter().next() {
                package = file;
            }
        } else if let Some(what) = what_else(&place) {
            return Err(LoadError::Mistakes(vec![no_file(PACKAGE_FILE, &what)]));
        }
        let builds = &self.env.workspace.manifest.builds;
        let builds = builds.as_ref().unwrap_or(&package.builds);
        // What zako wrote is no build file, whatever its name is. A no-op need not ask: of those that were read before it is known.
        let (memory, wrote) = (&*self.env.memory, self.env.wrote);
        let is_output = |path: &str| {
            let is_named = || builds.iter().any(|pattern| pattern.matches(path));
            !memory.files.contains_key(path) && is_named() && wrote(path)
        };
        let mut found = self.env.dirs.expand_named("", builds, &is_output)?;
        found.files.retain(|path| path != PACKAGE_FILE);
        let (described, undescribed) = packages::described(self.env.workspace, &found.files);
        self.described = described;
        // One mistake is enough for each.
        let mut missing: BTreeMap<String, Diagnostic> = undescribed.into_iter().collect();
        missing.extend(self.env.missing.iter().cloned());
        self.described
            .retain(|_, dir| !missing.keys().any(|name| *dir == fetched_dir(name)));
        found.files.extend(self.described.keys().cloned());
        let is_missing = |name: &str| missing.contains_key(name);
        packages::add_build_files(self.env.workspace, self.env.dirs, &mut found, &is_missing)?;
        let Named {
            files: mut paths,
            others,
        } = found;
        paths.sort_unstable();
        let wanted: Vec<String> = paths.clone();
        let mut uses = std::mem::take(&mut package.exports.uses);
        let mut targets = Vec::new();
        let (results, mut broken) = self.results(paths, ContextKind::Build, loaded)?;
        for (path, what) in &others {
            let found = Broken::new(path, dir_of(path), vec![no_file(path, what)], false);
            broken.push(found.map_err(LoadError::Mistakes)?);
        }
        for (name, mistake) in &missing {
            let dir = fetched_dir(name);
            let absent = Broken::below(name, MANIFEST, &dir, vec![mistake.clone()]);
            broken.push(absent.map_err(LoadError::Mistakes)?);
        }
        for result in results {
            if let EvaluatedResult::Exports(exports) = result {
                targets.extend(exports.targets);
                uses.extend(exports.uses);
            }
        }
        self.env.memory.files.retain(|path, _| {
            **path == *PACKAGE_FILE || wanted.binary_search_by(|w| (**w).cmp(path)).is_ok()
        });
        targets.append(&mut package.exports.targets);
        let (scripts, unread) = self.scripts(&targets, &uses, &broken)?;
        targets.extend(scripts.targets);
        broken.extend(unread);
        let elsewhere = &self.described;
        let is_described = |dir: &str| {
            let mut all = wanted.iter().chain(others.iter().map(|(path, _)| path));
            let place = |path| elsewhere.get(path).map_or(dir_of(path), String::as_str);
            missing.keys().any(|name| fetched_dir(name) == dir)
                || all.any(|path: &String| is_within(place(path), dir))
        };
        let bare = packages::without_build_file(self.env.workspace, self.env.dirs, &is_described)?;
        // A script may have that name.
        let is_free = |used: &RuleUse| targets.iter().all(|target| target.label != used.label);
        uses.extend(bare.into_iter().filter(is_free).map(Arc::new));
        Ok(Described {
            targets,
            uses,
            env: package.env,
            flaws: Flaws {
                broken,
                mistakes: scripts.mistakes,
            },
            links: scripts.links,
        })
    }

    /// Adds what rules make of their uses.
    fn add_uses(&mut self, uses: &[Arc<RuleUse>], loaded: &mut Loaded) -> Result<(), LoadError> {
        let context = self.context(ContextKind::Rule);
        let context_hash = context_hash(self.env.workspace, self.env.evaluator.version(), &context);
        let analyser = Analyser::new(&mut self.env, context, context_hash);
        let analysis = analyser.analyse(uses, &loaded.targets, &loaded.flaws.broken, self.given);
        let mut analysis = analysis.map_err(|mistaken| LoadError::Mistakes(mistaken.0))?;
        loaded.targets.append(&mut analysis.targets);
        // What a script that cannot be read leaves behind is as little known as of a rule that failed.
        let unread = loaded.flaws.mistakes.iter().filter_map(|mistake| {
            let label = Label::parse(mistake.target.as_deref()?, "").ok()?;
            Some(Reading::given_up(&label))
        });
        loaded.readings = unread.chain(analysis.readings).collect();
        loaded.flaws.mistakes.append(&mut analysis.mistakes);
        loaded.evaluated += analysis.evaluated;
        Ok(())
    }

    fn context(&self, kind: ContextKind) -> Value {
        let manifest = &self.env.workspace.manifest;
        let config = manifest.config.iter();
        let config: serde_json::Map<String, Value> = config
            .map(|(name, option)| (name.clone(), option.to_json()))
            .collect();
        serde_json::json!({
            "context": kind.name(),
            "package": {
                "group": manifest.group,
                "artifact": manifest.artifact,
                "version": manifest.version,
                "config": config,
            },
        })
    }
}

fn dir_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// What is said of a build file that is `what`.
fn no_file(path: &str, what: &str) -> Diagnostic {
    Diagnostic::error(format!("cannot read {path}: it is {what}")).with_help(
        "a build file is a file, or a symbolic link to one; put one there, or remove what is there",
    )
}

/// Says of the mistakes of `zako.ts` whom they concern.
fn of_everything(mut mistakes: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let help = format!(
        "{PACKAGE_FILE} says which files are build files and what is in the environment of every command, so that nothing can \
         be built before it is mended, also with -k"
    );
    if let Some(last) = mistakes.last_mut() {
        last.help = Some(match last.help.take() {
            Some(before) if before.ends_with('?') => format!("{before} {help}"),
            Some(before) => format!("{before}; {help}"),
            None => help,
        });
    }
    mistakes
}

/// Everything beside files that an evaluation depends on.
fn context_hash(workspace: &Workspace, engine: &str, context: &Value) -> Hash {
    KeyWriter::new("zako evaluation")
        .text(env!("CARGO_PKG_VERSION"))
        .text(&rules_digest())
        .text(engine)
        .hash(&workspace.manifest_hash)
        .text(&context.to_string())
        .finish()
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
        ) -> Vec<Result<EvaluationOutput, EvaluationFailure>> {
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
                            Err(Diagnostic::error(format!("{}: {error}", job.path)).into())
                        }
                    }
                })
                .collect()
        }

        fn tell(&mut self, lines: Vec<String>) {
            assert!(lines.is_empty(), "{lines:?}");
        }
    }

    struct World {
        dir: tempfile::TempDir,
        memory: Memory,
    }

    impl World {
        fn new() -> Self {
            let world = Self {
                dir: tempfile::tempdir().unwrap(),
                memory: Memory::default(),
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
            let env = LoadEnv {
                workspace: &workspace,
                files: &files,
                dirs: &mut dirs,
                memory: &mut self.memory,
                evaluator: &mut evaluator,
                search: "",
                may_read: &|_, _| false,
                wrote: &|_| false,
                has_left: &|_| false,
                mistaken: &FxHashSet::default(),
                missing: &[],
                locks: &LockMemory::new(self.dir.path().join("locks")),
            };
            let loaded = Loader::new(env, &Given::default()).load(&mut None);
            let labels = loaded.map(|loaded| {
                let targets = loaded.targets.iter().map(|it| it.label.to_string());
                let broken = loaded.flaws.broken.iter();
                let broken = broken.map(|it| format!("broken {}", it.target.label));
                targets.chain(broken).collect()
            });
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
    fn every_broken_file_is_named_and_forgotten_unless_it_is_known_what_it_read() {
        let mut world = World::new();
        world.write("a/BUILD.ts", "{");
        world.write("b/BUILD.ts", "[1]");
        world.write("c/BUILD.ts", TARGET);
        let broken = ["broken //a:BUILD.ts", "broken //b:BUILD.ts"];
        let (asked, labels) = world.load();
        assert_eq!(asked.len(), 3);
        assert_eq!(labels.unwrap(), ["//c:t", broken[0], broken[1]]);
        let (asked, labels) = world.load();
        assert_eq!(asked, ["a/BUILD.ts"]);
        assert_eq!(labels.unwrap(), ["//c:t", broken[0], broken[1]]);
    }
}
