//! Actions: what a step would do, as a key of content.
//!
//! Owns the clean environment, the lookup of tools, and what goes into a key.
//! Does not know whether the action has a result already, nor how it runs.
//! Invariants: equal keys mean equal commands on equal inputs with equal tools in equal
//! environments; the recipe never contains a path of this machine except PATH and tools, which
//! decide what runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustc_hash::FxHashMap;

use super::cause::{RecipeParts, short};
use super::files::{FactError, FileTable};
use super::hash::{Hash, KeyWriter};
use super::record::{Input, InputContent};
use crate::lang::label::Label;
use crate::lang::pattern::Pattern;
use crate::lang::suggest::did_you_mean;
use crate::lang::target::{Command, Output, Target, Transpile, Work};

/// Raised when the same action would be run in another way than before.
const RECIPE_FORMAT: u64 = 1;

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
    env: BTreeMap<String, String>,
    tools: Mutex<FxHashMap<(String, String), Option<PathBuf>>>,
    transpiler: String,
}

/// A described action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Everything but the inputs.
    pub recipe: Hash,
    /// Recipe and inputs.
    pub key: Hash,
    /// Sorted by path.
    pub inputs: Vec<Input>,
    /// The program of a command.
    pub tool: Option<Tool>,
}

impl Describer {
    /// With the PATH of this process, the workspace's variables, and the transpiler's version.
    pub fn new(path: String, env: BTreeMap<String, String>, transpiler: String) -> Self {
        Self {
            path,
            env,
            tools: Mutex::default(),
            transpiler,
        }
    }

    /// The declared environment of a command: PATH and locale, the workspace's variables, its own.
    pub fn environment(&self, command: &Command) -> BTreeMap<String, String> {
        let mut env = BTreeMap::from([
            ("PATH".to_owned(), self.path.clone()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ]);
        env.extend(self.env.clone());
        env.extend(command.env.clone());
        env
    }

    /// Describes the action of `target` on its sources and the outputs of its dependencies.
    ///
    /// # Errors
    /// When a source or the tool cannot be read.
    pub fn describe<'a>(
        &self,
        target: &Target,
        sources: &[String],
        dep_outputs: impl Iterator<Item = &'a [super::record::OutputItem]>,
        files: &FileTable,
    ) -> Result<Action, ActionError> {
        let mut inputs = Vec::with_capacity(sources.len());
        for path in sources {
            let fact = files.fact(path).map_err(|source| ActionError::Source {
                path: path.clone(),
                source,
            })?;
            inputs.push(Input {
                path: path.as_str().into(),
                content: InputContent::File {
                    hash: fact.hash,
                    executable: fact.stamp.is_executable(),
                },
            });
        }
        for outputs in dep_outputs {
            inputs.extend(outputs.iter().map(super::record::OutputItem::as_input));
        }
        inputs.sort_unstable();
        inputs.dedup_by(|a, b| a.path == b.path);
        let (recipe, tool) = match &target.work {
            Work::Command(command) => {
                let tool = self.tool(&target.label, command, &inputs, files)?;
                (
                    self.command_recipe(&target.label, command, &tool),
                    Some(tool),
                )
            }
            Work::Transpile(transpile) => (self.transpile_recipe(transpile), None),
        };
        let mut key = KeyWriter::new("zako action");
        key.hash(&recipe).number(inputs.len() as u64);
        for input in &inputs {
            write_input(&mut key, input);
        }
        Ok(Action {
            recipe,
            key: key.finish(),
            inputs,
            tool,
        })
    }

    fn command_recipe(&self, label: &Label, command: &Command, tool: &Tool) -> Hash {
        let mut key = recipe("command");
        key.text(label.dir());
        key.texts(command.argv.iter().map(String::as_str));
        match &tool.hash {
            Some(hash) => key.number(1).hash(hash),
            None => key.number(0),
        };
        let env = self.environment(command);
        key.number(env.len() as u64);
        for (name, value) in &env {
            key.text(name).text(value);
        }
        key.number(command.outs.len() as u64);
        for out in &command.outs {
            match out {
                Output::File(path) => key.number(0).text(path),
                Output::Tree(path) => key.number(1).text(path),
                Output::Glob(pattern) => key.number(2).text(pattern.as_str()),
            };
        }
        key.finish()
    }

    /// The recipe of `target` by its parts, for [`changed_parts`](super::cause::changed_parts).
    pub fn parts(&self, target: &Target, tool: Option<&Tool>) -> RecipeParts {
        let mut parts = RecipeParts::new();
        let mut add = |name: String, value: &str| drop(parts.insert(name.into(), value.into()));
        add("the version of zako".into(), env!("CARGO_PKG_VERSION"));
        match &target.work {
            Work::Command(command) => {
                for (index, word) in command.argv.iter().enumerate() {
                    add(format!("cmd[{index}]"), word);
                }
                for out in &command.outs {
                    add(format!("output {}", out.show()), "declared");
                }
                for (name, value) in self.environment(command) {
                    add(format!("env.{name}"), &short(&Hash::of(value.as_bytes())));
                }
                if let Some(Tool {
                    program,
                    hash: Some(hash),
                }) = tool
                {
                    add(format!("tool {}", program.display()), &short(hash));
                }
            }
            Work::Transpile(step) => {
                add("the transpiler".into(), &self.transpiler);
                add("root".into(), &step.root);
                add("out".into(), &step.out);
                for pattern in &step.include {
                    add(format!("include {}", pattern.as_str()), "declared");
                }
                add("options".into(), &format!("{:?}", step.options));
            }
        }
        parts
    }

    /// Everything but the sources that decides what a transpile step writes.
    pub fn transpile_recipe(&self, transpile: &Transpile) -> Hash {
        let mut key = recipe("transpile");
        key.text(&self.transpiler)
            .text(&transpile.root)
            .text(&transpile.out);
        // Two equal values have equal texts.
        key.text(&format!("{:?}", transpile.options));
        key.texts(transpile.include.iter().map(Pattern::as_str));
        key.finish()
    }

    fn tool(
        &self,
        label: &Label,
        command: &Command,
        inputs: &[Input],
        files: &FileTable,
    ) -> Result<Tool, ActionError> {
        let name = &command.argv[0];
        if name.contains('/') && !name.starts_with('/') {
            let declared = resolve(label.dir(), name).is_some_and(|path| {
                inputs
                    .binary_search_by(|input| (*input.path).cmp(&path))
                    .is_ok()
            });
            return if declared {
                Ok(Tool {
                    program: name.into(),
                    hash: None,
                })
            } else {
                Err(ActionError::ToolNotDeclared {
                    program: name.clone(),
                })
            };
        }
        let env = self.environment(command);
        let search = env.get("PATH").map_or("", String::as_str);
        let program = self
            .look_up(name, search)
            .ok_or_else(|| ActionError::NoTool {
                program: name.clone(),
                path: search.to_owned(),
                hint: similar_program(name, search),
            })?;
        // The name that the program was found under may be a link; content is what counts.
        let fact = program
            .to_str()
            .map_or(Err(FactError::Missing), |path| files.fact(path));
        match fact {
            Ok(fact) => Ok(Tool {
                hash: Some(fact.hash),
                program,
            }),
            Err(source) => Err(ActionError::ToolUnreadable { program, source }),
        }
    }

    fn look_up(&self, name: &str, search: &str) -> Option<PathBuf> {
        let mut tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        tools
            .entry((name.to_owned(), search.to_owned()))
            .or_insert_with(|| find_program(name, search))
            .clone()
    }
}

/// The program `name` on the search path `search`; an absolute name is itself.
pub fn find_program(name: &str, search: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runnable = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if name.starts_with('/') {
        return Some(PathBuf::from(name)).filter(runnable);
    }
    // A relative entry of PATH would mean another program in every directory.
    search
        .split(':')
        .filter(|dir| dir.starts_with('/'))
        .map(|dir| PathBuf::from(dir).join(name))
        .find(runnable)
}

fn similar_program(name: &str, search: &str) -> String {
    let names: Vec<String> = search
        .split(':')
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= 2)
        .collect();
    if name.len() < 3 {
        return String::new();
    }
    did_you_mean(name, names.iter().map(String::as_str))
}

fn recipe(kind: &str) -> KeyWriter {
    let mut key = KeyWriter::new("zako recipe");
    key.number(RECIPE_FORMAT)
        .text(env!("CARGO_PKG_VERSION"))
        .text(std::env::consts::OS)
        .text(std::env::consts::ARCH)
        .text(kind);
    key
}

/// Adds one input to a key.
pub fn write_input(key: &mut KeyWriter, input: &Input) {
    key.text(&input.path);
    match &input.content {
        InputContent::File { hash, executable } => {
            key.number(u64::from(*executable)).hash(hash);
        }
        InputContent::Link(to) => {
            key.number(2).text(to);
        }
        InputContent::Directory => {
            key.number(3);
        }
    }
}

/// `name` as seen from workspace directory `dir`; `None` when it leaves the workspace.
fn resolve(dir: &str, name: &str) -> Option<String> {
    let mut segments: Vec<&str> = dir.split('/').filter(|s| !s.is_empty()).collect();
    for segment in name.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()?),
            _ => segments.push(segment),
        }
    }
    Some(segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::super::files::SavedFiles;
    use super::*;
    use crate::lang::descriptor::{BuildFile, read_targets};
    use serde_json::{Value, json};
    use std::fs;

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
            let file = BuildFile {
                path: "BUILD.ts",
                dir: "",
                text: "",
            };
            let target = read_targets(&json!({ "t": value }), file)
                .unwrap()
                .remove(0);
            let sources: Vec<String> = sources.iter().map(|s| (*s).to_owned()).collect();
            self.describer
                .describe(&target, &sources, std::iter::empty(), &self.files)
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
        let own = world
            .action(json!({"$zako": "command", "cmd": ["./a.c"]}), &["a.c"])
            .unwrap();
        assert_eq!(own.tool.unwrap().hash, None);
    }
}
