//! Typed targets.
//!
//! Owns the shapes and what they say about themselves. Does not know how they are written
//! (`descriptor`), nor the graph.
//! Invariants: every path is workspace-relative, normalised, and inside the target's directory;
//! every output specification is unique within its target.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::gitignore::Ignored;
use super::label::{Label, is_within};
use super::locate::At;
use super::pattern::Pattern;
use super::rare::{Rare, Usual};
use super::text::Text;
use crate::transpile::TranspileOptions;

/// One target of the workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Its name.
    pub label: Label,
    /// Where it is defined.
    pub at: At,
    /// What it reads from the source tree.
    pub srcs: Vec<Source>,
    /// What must be built before; their outputs are inputs.
    pub deps: Vec<Label>,
    /// How it is made.
    pub work: Work,
    /// Whether wildcards leave it out: it is built when it is named or needed.
    pub manual: bool,
    /// The rule that described it, when one did. Its `srcs` then name all that it reads, outputs of
    /// its dependencies included, and it reads nothing else of theirs.
    pub rule: Option<Box<str>>,
}

/// How a target is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Work {
    /// A child process.
    Command(Command),
    /// In-process TypeScript compilation, file by file.
    Transpile(Box<Transpile>),
    /// Nothing is run: what it reads, under one name.
    Group,
    /// Nobody knows: its rule has not said everything.
    Unfinished {
        /// Whether it is going to be a test.
        test: bool,
    },
}

/// A command step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments; the program is looked up on PATH.
    pub argv: Vec<String>,
    /// The directory that it runs in, workspace-relative.
    pub dir: Text,
    /// What it must leave behind.
    pub outs: Vec<Output>,
    /// Variables beyond the clean environment.
    pub env: BTreeMap<String, EnvValue>,
    /// What few commands say.
    pub special: Rare<Special>,
    /// `Some` runs it in the workspace itself, as a script of `package.json` expects.
    pub in_place: Option<Box<InPlace>>,
}

/// What few commands say of themselves: there may be a hundred thousand others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Special {
    /// Programs beyond the first word whose content is part of the key; absolute paths.
    pub tools: Vec<String>,
    /// Where it writes which of its inputs it read, as make would have it; workspace-relative.
    pub depfile: Option<String>,
    /// Killed after this many milliseconds.
    pub timeout_ms: Option<u64>,
    /// `Some` makes it a test, tried again this many times when it fails.
    pub test_retries: Option<u32>,
    /// What it takes of the machine while it runs.
    pub uses: Uses,
    /// Whether a strict sandbox lets it use the network.
    pub network: bool,
    /// `Some` has a worker process, started by `argv`, do it when asked with these arguments.
    pub worker: Option<Vec<String>>,
    /// `Some` lets several requests be under way at one worker process.
    pub multiplex: Option<Multiplex>,
}

impl Usual for Special {
    fn usual() -> &'static Self {
        static USUAL: Special = Special {
            tools: Vec::new(),
            depfile: None,
            timeout_ms: None,
            test_retries: None,
            uses: Uses::usual(),
            network: false,
            worker: None,
            multiplex: None,
        };
        &USUAL
    }
}

/// What a worker process can do that does several things at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Multiplex {
    /// Requests that may be under way at a time.
    pub requests: u32,
    /// Whether it can give up a request.
    pub cancel: bool,
}

/// The value of a variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnvValue {
    /// As written.
    Text(String),
    /// That of the environment that zako was started in.
    Pass {
        /// Its name there; with `*` at the end all that begin so, under their own names.
        name: String,
        /// When it is not set there; without one the step does not have it either.
        default: Option<String>,
    },
}

impl EnvValue {
    /// The value that variable `name` has outside.
    pub fn pass(name: &str) -> Self {
        Self::Pass {
            name: name.to_owned(),
            default: None,
        }
    }

    /// Reads an `env` object of a descriptor.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn read_all(value: &Value) -> Result<BTreeMap<String, Self>, &'static str> {
        const EXPECTED: &str = "an object of names and strings, or env(\"NAME\")";
        let entries = value.as_object().ok_or(EXPECTED)?;
        entries
            .iter()
            .map(|(name, value)| {
                if name.is_empty() || name.contains(['=', '\0']) {
                    return Err(EXPECTED);
                }
                let text = |value: &Value| {
                    let text = value.as_str().filter(|text| !text.contains('\0'));
                    text.map(str::to_owned).ok_or(EXPECTED)
                };
                let value = match value.get("$env") {
                    None => Self::Text(text(value)?),
                    Some(outer) => Self::Pass {
                        name: text(outer)?,
                        default: value.get("default").map(text).transpose()?,
                    },
                };
                Ok((name.clone(), value))
            })
            .collect()
    }
}

/// What a step takes of the machine while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uses {
    /// Thousandths of a job.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Units of resources that `zako.toml` names, in thousandths.
    pub named_milli: BTreeMap<String, u64>,
}

impl Uses {
    /// One job, nothing else worth counting.
    pub const fn usual() -> Self {
        Self {
            cpu_milli: 1000,
            memory_bytes: 0,
            named_milli: BTreeMap::new(),
        }
    }
}

impl Default for Uses {
    /// The usual.
    fn default() -> Self {
        Self::usual()
    }
}

/// How a script of a package runs: where its files lie, with what a package manager gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InPlace {
    /// Directories that stand before PATH, workspace-relative.
    pub bins: Vec<String>,
    /// The directories of other packages that lie in its own, workspace-relative.
    pub inner: Vec<String>,
    /// The directories that other packages lie below, the root included.
    pub above: Arc<[String]>,
    /// What is no output after all.
    pub out_exclude: Vec<Pattern>,
    /// So many of the first of `srcs` are what a person named.
    pub named: usize,
    /// Whether it reads its package as a whole.
    pub reads_usual: bool,
    /// Whether another script of its package may write where its outputs go.
    pub shares: bool,
    /// Variables that every script is given and that are part of its key; see [`EnvValue::Pass`].
    pub shared_env: Vec<String>,
    /// Variables that every script is given and that are no part of its key.
    pub shared_open_env: Vec<String>,
    /// Variables that it is given itself and that are no part of its key; `!` before a name leaves it out of those of every
    /// script, too.
    pub open_env: Vec<String>,
    /// What its package resolves to, by the lock files that say so; others are among its sources.
    pub installed: Vec<Installed>,
    /// Whether its result may be used again.
    pub cached: bool,
    /// Whether it runs until it is stopped.
    pub persistent: bool,
}

/// What a lock file says of all that a package needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The lock file, workspace-relative.
    pub lock: String,
    /// The digest of what it says of that.
    pub digest: [u8; 32],
}

/// A transpile step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transpile {
    /// Stripped from each source's path; workspace-relative, empty for the workspace root.
    pub root: String,
    /// Receives the results; workspace-relative.
    pub out: String,
    /// Only inputs that match are transpiled; empty takes all. From the target's directory.
    pub include: Vec<Pattern>,
    /// Language options. `output_path` is set per file.
    pub options: TranspileOptions,
}

/// What a target reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Source {
    /// One file; it must exist.
    File(Text),
    /// Everything that matches in `dir`.
    Glob {
        /// Workspace-relative directory that the patterns start from.
        dir: Box<str>,
        /// Taken.
        include: Vec<Pattern>,
        /// Left out again.
        exclude: Vec<Pattern>,
        /// What is ignored in directories below, when that is left out as well.
        #[serde(skip)]
        ignored: Option<Arc<Ignored>>,
    },
}

impl Source {
    /// Whether a file at `path` is one of these.
    pub fn takes(&self, path: &str) -> bool {
        match self {
            Self::File(file) => *file == *path,
            Self::Glob {
                dir,
                include,
                exclude,
                ignored,
            } => {
                is_within(path, dir) && {
                    let below = path[dir.len()..].trim_start_matches('/');
                    include.iter().any(|it| it.matches(below))
                        && !exclude.iter().any(|it| it.matches(below))
                        && !ignored.as_ref().is_some_and(|it| it.has(dir, path))
                }
            }
        }
    }
}

/// What a target leaves behind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Output {
    /// One file.
    File(Text),
    /// A directory with everything below it.
    Tree(Text),
    /// What matches; the pattern is workspace-relative.
    Glob(Pattern),
}

/// `dir/name`, or `name` in the root.
pub fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() {
        name.to_owned()
    } else {
        format!("{dir}/{name}")
    }
}

impl Output {
    /// The specification as it is shown to people, workspace-relative.
    pub fn show(&self) -> String {
        match self {
            Self::File(path) => path.into(),
            Self::Tree(path) => format!("{path}/"),
            Self::Glob(pattern) => pattern.to_string(),
        }
    }

    /// Whether a file at `path` falls under this specification.
    pub fn covers(&self, path: &str) -> bool {
        match self {
            Self::File(file) => *file == *path,
            Self::Tree(dir) => path.len() > dir.len() && is_within(path, dir),
            Self::Glob(pattern) => pattern.matches(path),
        }
    }
}

impl Target {
    /// The same without room to grow: there may be a hundred thousand of them.
    #[must_use]
    pub fn without_room(mut self) -> Self {
        self.srcs.shrink_to_fit();
        self.deps.shrink_to_fit();
        if let Work::Command(command) = &mut self.work {
            command.argv.shrink_to_fit();
            command.outs.shrink_to_fit();
        }
        self
    }

    /// The command, unless the target is transpiled in process.
    pub fn command(&self) -> Option<&Command> {
        match &self.work {
            Work::Command(command) => Some(command),
            Work::Transpile(_) | Work::Group | Work::Unfinished { .. } => None,
        }
    }

    /// How it runs in the workspace itself, when it does.
    pub fn in_place(&self) -> Option<&InPlace> {
        self.command()?.in_place.as_deref()
    }

    /// Whether it reads `path` when a dependency writes it.
    pub fn takes(&self, path: &str) -> bool {
        self.rule.is_none()
            || self.srcs.iter().any(|source| match source {
                Source::File(file) => is_within(path, file),
                Source::Glob { .. } => false,
            })
    }

    /// Whether a file at `path` falls under what it leaves behind.
    pub fn declares(&self, path: &str) -> bool {
        match &self.work {
            Work::Command(command) => command.outs.iter().any(|out| out.covers(path)),
            Work::Transpile(step) => is_within(path, &step.out),
            Work::Group | Work::Unfinished { .. } => false,
        }
    }

    /// Whether `zako test` is what runs it.
    pub fn is_test(&self) -> bool {
        match &self.work {
            Work::Command(command) => command.special.test_retries.is_some(),
            Work::Unfinished { test } => *test,
            Work::Transpile(_) | Work::Group => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_cover_what_they_name() {
        assert!(Output::Tree("a/dist".into()).covers("a/dist/x/y"));
        assert!(!Output::Tree("a/dist".into()).covers("a/dist"));
        assert!(!Output::Tree("a/dist".into()).covers("a/dist2/x"));
    }
}
