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
use crate::lang::target::{Command, EnvValue, Output, Target, Transpile, Work};

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
    env: BTreeMap<String, EnvValue>,
    outer: Outer,
    tools: Mutex<FxHashMap<(String, String), Option<PathBuf>>>,
    transpiler: String,
}

/// The environment that zako was started in, and what steps see of it.
#[derive(Clone, Debug, Default)]
pub struct Outer {
    /// All of it.
    pub variables: BTreeMap<String, String>,
    /// Names (`*` at the end: all that begin so) that every step is given, part of its key.
    pub tracked: Vec<String>,
    /// Names that every step is given, no part of its key.
    pub untracked: Vec<String>,
}

impl Outer {
    /// Adds variable `name` with the value of `outer`, or everything that `outer` means.
    fn pass(
        &self,
        name: &str,
        outer: &str,
        default: Option<&str>,
        env: &mut BTreeMap<String, String>,
    ) {
        if let Some(stem) = outer.strip_suffix('*') {
            let found = self
                .variables
                .iter()
                .filter(|(key, _)| key.starts_with(stem));
            env.extend(found.map(|(key, value)| (key.clone(), value.clone())));
            return;
        }
        let value = self.variables.get(outer).map(String::as_str).or(default);
        if let Some(value) = value {
            env.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// What a script of a package is given as a package manager would: who asks, and how the network is
/// reached. None of it may decide what it writes.
const IN_PLACE_ENV: [&str; 19] = [
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TZ",
    "XDG_*",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "npm_config_*",
    "NPM_CONFIG_*",
    "COREPACK_*",
];

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
    pub fn new(path: String, env: BTreeMap<String, EnvValue>, transpiler: String) -> Self {
        Self {
            path,
            env,
            outer: Outer::default(),
            tools: Mutex::default(),
            transpiler,
        }
    }

    /// With what the workspace passes on of the environment that zako was started in.
    #[must_use]
    pub fn with_outer(self, outer: Outer) -> Self {
        Self { outer, ..self }
    }

    /// The declared environment of a command: PATH and locale, what the workspace passes on, the
    /// workspace's variables, its own. All of it is part of the key.
    pub fn environment(&self, command: &Command) -> BTreeMap<String, String> {
        let mut env = BTreeMap::from([
            ("PATH".to_owned(), self.path.clone()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ]);
        for name in &self.outer.tracked {
            self.outer.pass(name, name, None, &mut env);
        }
        for (name, value) in self.env.iter().chain(&command.env) {
            match value {
                EnvValue::Text(text) => drop(env.insert(name.clone(), text.clone())),
                EnvValue::Pass {
                    name: outer,
                    default,
                } => self.outer.pass(name, outer, default.as_deref(), &mut env),
            }
        }
        env
    }

    /// What a command is given beyond its [`environment`](Self::environment), no part of its key.
    pub fn untracked(&self, command: &Command) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        let own = command.in_place.iter().flat_map(|step| {
            let usual = IN_PLACE_ENV.iter().copied();
            usual.chain(step.open_env.iter().map(String::as_str))
        });
        for name in self.outer.untracked.iter().map(String::as_str).chain(own) {
            self.outer.pass(name, name, None, &mut env);
        }
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
        if let Some(arguments) = &command.worker {
            key.text("worker")
                .texts(arguments.iter().map(String::as_str));
        }
        if let Some(step) = &command.in_place {
            key.text("in place")
                .texts(step.bins.iter().map(String::as_str))
                .texts(step.out_exclude.iter().map(Pattern::as_str));
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
                for (index, word) in command.worker.iter().flatten().enumerate() {
                    add(format!("worker[{index}]"), word);
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
            // One worker serves all packages, so it stands in none of them.
            let dir = command.worker.as_ref().map_or(label.dir(), |_| "");
            let declared = resolve(dir, name).is_some_and(|path| {
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
        let own = world
            .action(json!({"$zako": "command", "cmd": ["./a.c"]}), &["a.c"])
            .unwrap();
        assert_eq!(own.tool.unwrap().hash, None);
    }
}
