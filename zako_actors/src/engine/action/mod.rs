//! Actions: what a step would do, as a key of content.
//!
//! Owns what goes into a key; the environment, tools and recipes are in files of their own.
//! Does not know whether the action has a result already, nor how it runs.
//! Invariants: equal keys mean equal commands on equal inputs with equal tools in equal
//! environments; the recipe never contains a path of this machine except PATH and tools, which
//! decide what runs.

mod environment;
mod recipe;
mod tool;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use super::files::{FactError, FileTable};
use super::hash::{Hash, KeyWriter};
use super::record::{Input, InputContent, OutputItem, Record};
use crate::lang::target::{EnvValue, Target, Work};
use crate::lang::text::Text;
pub use environment::Outer;
use recipe::recipe;
pub use recipe::write_input;
use tool::Tools;
pub use tool::{find_program, resolve};

/// A program and what it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Absolute, or relative to the working directory for a program among the inputs.
    pub program: PathBuf,
    /// Content; `None` when the program is an input and counted there.
    pub hash: Option<Hash>,
}

/// Why a step cannot even be described; its target fails.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// `argv[0]` is nowhere on PATH.
    #[error(
        "program `{program}` was not found on PATH ({path}){hint}; install it, or set PATH in the target's `env`"
    )]
    NoTool {
        /// `argv[0]`.
        program: String,
        /// Where it was looked for.
        path: String,
        /// A program of similar name.
        hint: String,
    },
    /// `argv[0]` is an absolute path of something that cannot be run.
    #[error("program `{program}` {what}")]
    NoProgram {
        /// `argv[0]`.
        program: String,
        /// What it is instead, and what to do.
        what: &'static str,
    },
    /// `argv[0]` is a path that is no input.
    #[error(
        "program `{program}` is not among the inputs; add it to `srcs`, or the target that writes it to `deps`"
    )]
    ToolNotDeclared {
        /// `argv[0]`.
        program: String,
    },
    /// A tool cannot be read.
    #[error("program {}: {source}", program.display())]
    ToolUnreadable {
        /// Its path.
        program: PathBuf,
        /// Why.
        source: FactError,
    },
    /// A source was removed or made unreadable since the plan was made.
    #[error("source {path}: {source}")]
    Source {
        /// Workspace-relative.
        path: String,
        /// Why.
        source: FactError,
    },
}

/// Describes actions; one per build.
#[derive(Debug)]
pub struct Describer {
    path: String,
    env: BTreeMap<String, EnvValue>,
    outer: Outer,
    /// What commands without variables of their own are given.
    common: OnceLock<BTreeMap<String, String>>,
    tools: Mutex<Tools>,
    transpiler: String,
}

/// What is known of an action before it is described.
#[derive(Clone, Copy, Debug, Default)]
pub struct Before<'a> {
    /// The inputs that a command with a depfile read the last time: only their content counts.
    pub read: Option<&'a [Text]>,
    /// What is remembered of the target.
    pub record: Option<&'a Record>,
}

/// A described action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Everything but the inputs.
    pub recipe: Hash,
    /// Recipe and inputs.
    pub key: Hash,
    /// Everything that it may read, sorted by path.
    pub inputs: Vec<Input>,
    /// What it read the last time, by its depfile; sorted by path.
    pub read: Option<Vec<Input>>,
    /// Recipe and names of inputs, where a depfile tells which of them count.
    pub names: Option<Hash>,
    /// The program of a command.
    pub tool: Option<Arc<Tool>>,
}

impl Describer {
    /// With the PATH of this process, the workspace's variables, and the transpiler's version.
    pub fn new(path: String, env: BTreeMap<String, EnvValue>, transpiler: String) -> Self {
        Self {
            path,
            env,
            outer: Outer::default(),
            common: OnceLock::new(),
            tools: Mutex::default(),
            transpiler,
        }
    }

    /// With what the workspace passes on of the environment that zako was started in.
    #[must_use]
    pub fn with_outer(self, outer: Outer) -> Self {
        Self {
            outer,
            common: OnceLock::new(),
            ..self
        }
    }

    /// Whether it says of every target what `other` says, as long as files stay.
    pub fn describes_like(&self, other: &Self) -> bool {
        self.path == other.path
            && self.env == other.env
            && self.outer == other.outer
            && self.transpiler == other.transpiler
    }

    /// Describes the action of `target` on its sources and the outputs of its dependencies.
    ///
    /// # Errors
    /// When a source or the tool cannot be read.
    pub fn describe<'a>(
        &self,
        target: &Target,
        sources: &[Text],
        dep_outputs: impl Iterator<Item = &'a [OutputItem]>,
        before: Before<'_>,
        files: &FileTable,
    ) -> Result<Action, ActionError> {
        let inputs = inputs(target, sources, dep_outputs, files)?;
        let (recipe, tool) = match &target.work {
            Work::Command(command) => {
                let env = self.environment(command);
                let tool = self.tool(command, &env, &inputs, files)?;
                let recipe = self.command_recipe(command, &env, &tool, files)?;
                (recipe, Some(self.share(tool)))
            }
            Work::Transpile(transpile) => (self.transpile_recipe(transpile), None),
            Work::Group | Work::Unfinished { .. } => (recipe("group").finish(), None),
        };
        let has_depfile = target
            .command()
            .is_some_and(|c| c.special.depfile.is_some());
        let names = has_depfile.then(|| names(&recipe, &inputs));
        let read = before
            .read
            .filter(|_| has_depfile)
            .map(|read| narrow(&inputs, read));
        // Equal recipes and equal inputs make equal keys.
        let same = before
            .record
            .filter(|it| !has_depfile && it.recipe == recipe && it.inputs == inputs);
        let key = same.map_or_else(
            || {
                let counted = read.as_ref().unwrap_or(&inputs);
                key(names.as_ref().unwrap_or(&recipe), counted, read.is_some())
            },
            |record| record.key,
        );
        Ok(Action {
            recipe,
            key,
            inputs,
            read,
            names,
            tool,
        })
    }
}

impl Action {
    /// The same by what its command read: nothing else counts by content. Itself when it writes no depfile.
    pub fn narrowed(self, read: &[Text]) -> Self {
        let read = narrow(&self.inputs, read);
        self.with_read(read)
    }

    /// The same as one that read everything: for a result of which is not known what it read.
    pub fn widened(self) -> Self {
        let read = self.inputs.clone();
        self.with_read(read)
    }

    fn with_read(mut self, read: Vec<Input>) -> Self {
        if let Some(names) = &self.names {
            self.key = key(names, &read, true);
            self.read = Some(read);
        }
        self
    }

    /// The inputs whose content decides: what was read where that is known, else all.
    pub fn counted(&self) -> &[Input] {
        self.read.as_deref().unwrap_or(&self.inputs)
    }

    /// The key by everything that it may read, where `key` holds only what it did read: the one that
    /// is known to whoever has not run it yet.
    pub fn whole_key(&self) -> Option<Hash> {
        let names = self.names.filter(|_| self.read.is_some())?;
        Some(key(&names, &self.inputs, false))
    }
}

fn key(recipe: &Hash, inputs: &[Input], is_narrowed: bool) -> Hash {
    let mut key = KeyWriter::new(if is_narrowed {
        "zako action read"
    } else {
        "zako action"
    });
    key.hash(recipe).number(inputs.len() as u64);
    for input in inputs {
        write_input(&mut key, input);
    }
    key.finish()
}

fn inputs<'a>(
    target: &Target,
    sources: &[Text],
    dep_outputs: impl Iterator<Item = &'a [OutputItem]>,
    files: &FileTable,
) -> Result<Vec<Input>, ActionError> {
    let mut inputs = Vec::with_capacity(sources.len());
    for path in sources {
        let fact = files.fact(path).map_err(|source| ActionError::Source {
            path: path.into(),
            source,
        })?;
        inputs.push(Input {
            path: path.clone(),
            content: InputContent::File {
                hash: fact.hash,
                executable: fact.stamp.is_executable(),
            },
        });
    }
    for outputs in dep_outputs {
        let taken = outputs.iter().filter(|item| target.takes(&item.path));
        inputs.extend(taken.map(OutputItem::as_input));
    }
    inputs.sort_unstable();
    inputs.dedup_by(|a, b| a.path == b.path);
    Ok(inputs)
}

/// The recipe with the names of all inputs: what a command can find, whatever it then reads.
fn names(recipe: &Hash, inputs: &[Input]) -> Hash {
    let mut key = KeyWriter::new("zako action names");
    key.hash(recipe);
    key.texts(inputs.iter().map(|input| &*input.path));
    key.finish()
}

fn narrow(inputs: &[Input], read: &[Text]) -> Vec<Input> {
    let of = |path: &str| {
        let at = inputs.binary_search_by(|input| (*input.path).cmp(path));
        at.ok().map(|at| inputs[at].clone())
    };
    read.iter().filter_map(|path| of(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::files::SavedFiles;
    use super::*;
    use crate::lang::descriptor::{BuildFile, read_exports};
    use crate::lang::target::Special;
    use serde_json::{Value, json};
    use std::fs;

    const FILE: BuildFile<'static> = BuildFile {
        path: "BUILD.ts",
        dir: "",
        text: "",
        packages: &crate::lang::packages::Packages::NONE,
    };

    struct World {
        dir: tempfile::TempDir,
        files: FileTable,
        describer: Describer,
    }

    fn world() -> World {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.c"), "int a;").unwrap();
        let files = FileTable::new(dir.path().into(), SavedFiles::default());
        let describer = Describer::new("/usr/bin:/bin".into(), BTreeMap::new(), "t".into());
        World {
            dir,
            files,
            describer,
        }
    }

    impl World {
        fn action(&self, value: Value, sources: &[&str]) -> Result<Action, ActionError> {
            self.described(&value, sources, Before::default())
        }

        fn action_before(&self, value: &Value, record: &Record) -> Action {
            let before = Before {
                read: None,
                record: Some(record),
            };
            self.described(value, &["a.c"], before).unwrap()
        }

        fn described(
            &self,
            value: &Value,
            sources: &[&str],
            before: Before<'_>,
        ) -> Result<Action, ActionError> {
            let exports = read_exports(&json!({ "t": value }), FILE).unwrap();
            let target = &exports.targets[0];
            let sources: Vec<Text> = sources.iter().map(|path| (*path).into()).collect();
            self.describer
                .describe(target, &sources, std::iter::empty(), before, &self.files)
        }

        fn key(&self, value: Value) -> Hash {
            self.action(value, &["a.c"]).unwrap().key
        }
    }

    #[test]
    fn every_part_of_an_action_reaches_its_key() {
        let world = world();
        let base = world.key(json!({"$zako": "command", "cmd": ["sh", "x"], "outs": ["o"]}));
        for other in [
            json!({"$zako": "command", "cmd": ["sh", "y"], "outs": ["o"]}),
            json!({"$zako": "command", "cmd": ["cat", "x"], "outs": ["o"]}),
            json!({"$zako": "command", "cmd": ["sh", "x"], "outs": ["o/"]}),
            json!({"$zako": "command", "cmd": ["sh", "x"], "outs": ["o"], "env": {"A": ""}}),
        ] {
            assert_ne!(world.key(other.clone()), base, "{other}");
        }
        let timed =
            json!({"$zako": "command", "cmd": ["sh", "x"], "outs": ["o"], "timeoutSeconds": 5});
        assert_eq!(
            world.key(timed),
            base,
            "a time limit does not change a result"
        );
        fs::write(world.dir.path().join("a.c"), "int b;").unwrap();
        assert_ne!(
            world.key(json!({"$zako": "command", "cmd": ["sh", "x"], "outs": ["o"]})),
            base
        );
    }

    #[test]
    fn what_is_remembered_does_not_change_a_key() {
        let world = world();
        let value = json!({"$zako": "command", "cmd": ["sh", "x"], "outs": ["o"]});
        let action = world.action(value.clone(), &["a.c"]).unwrap();
        // Another key than the inputs have, to see when it is taken over.
        let mut record = Record::of_nothing(action.recipe, action.inputs.clone());
        record.key = Hash::of(b"remembered");
        let key = |record: &Record| world.action_before(&value, record).key;
        assert_eq!(key(&record), record.key, "the same recipe and inputs");
        record.recipe = Hash::of(b"another");
        assert_eq!(key(&record), action.key);
        record.recipe = action.recipe;
        record.inputs.clear();
        assert_eq!(key(&record), action.key);
    }

    #[test]
    fn only_what_a_depfile_names_counts_by_content() {
        let world = world();
        fs::write(world.dir.path().join("b.h"), "1").unwrap();
        let target = json!({"$zako": "command", "cmd": ["sh"]});
        let exports = read_exports(&json!({ "t": target }), FILE).unwrap();
        let mut target = (*exports.targets[0]).clone();
        if let Work::Command(command) = &mut target.work {
            let depfile = Some("a.d".into());
            command.special = Special {
                depfile,
                ..Special::default()
            }
            .into();
        }
        let key = |read: &[&str]| {
            let sources = ["a.c", "b.h"].map(Text::from);
            let read: Vec<Text> = read.iter().map(|path| (*path).into()).collect();
            let describer = &world.describer;
            let none = std::iter::empty();
            let before = Before {
                read: Some(&read),
                record: None,
            };
            let action = describer.describe(&target, &sources, none, before, &world.files);
            action.unwrap().key
        };
        let (narrow, all) = (key(&["a.c"]), key(&["a.c", "b.h"]));
        fs::write(world.dir.path().join("b.h"), "2").unwrap();
        assert_eq!(key(&["a.c"]), narrow);
        assert_ne!(key(&["a.c", "b.h"]), all);
    }

    #[test]
    fn outer_variables_reach_the_key_unless_untracked() {
        let key = |variables: &[(&str, &str)]| {
            let mut world = world();
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            world.describer = world.describer.with_outer(Outer {
                variables: variables
                    .iter()
                    .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                    .collect(),
                tracked: names(&["APP_*"]),
                untracked: names(&["http_proxy"]),
            });
            world.key(json!({"$zako": "command", "cmd": ["sh"], "env": {
                "MODE": {"$env": "NODE_ENV", "default": "test"}}}))
        };
        let base = key(&[]);
        assert_eq!(key(&[("http_proxy", "p"), ("OTHER", "x")]), base);
        assert_eq!(key(&[("NODE_ENV", "test")]), base);
        assert_ne!(key(&[("NODE_ENV", "production")]), base);
        assert_ne!(key(&[("APP_KEY", "1")]), base);
    }

    #[test]
    fn tools_are_found_or_named() {
        let world = world();
        let error = |cmd: &str| {
            world
                .action(json!({"$zako": "command", "cmd": [cmd]}), &["a.c"])
                .unwrap_err()
                .to_string()
        };
        assert!(error("no-such-program-at-all").contains("was not found on PATH (/usr/bin:/bin)"));
        assert!(error("./build.sh").contains("not among the inputs; add it to `srcs`"));
        let dir = world.dir.path().to_str().unwrap();
        assert!(error(dir).contains("is a directory; name the program in it"));
        assert!(error(&format!("{dir}/a.c")).contains("is not executable; chmod +x"));
        assert!(error("/no/such/program").contains("does not exist"));
        fs::create_dir(world.dir.path().join("tools")).unwrap();
        fs::write(world.dir.path().join("tools/x"), "").unwrap();
        let tools = world.action(
            json!({"$zako": "command", "cmd": ["./tools"]}),
            &["tools/x"],
        );
        let tools = tools.unwrap_err().to_string();
        assert!(
            tools.contains("`./tools` is a directory; name the program in it"),
            "{tools}"
        );
        let own = world
            .action(json!({"$zako": "command", "cmd": ["./a.c"]}), &["a.c"])
            .unwrap();
        assert_eq!(own.tool.unwrap().hash, None);
    }
}
