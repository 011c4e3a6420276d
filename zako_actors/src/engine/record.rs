//! What is remembered about a finished target: its key, what it read, what it left behind.
//!
//! Owns these shapes and their encoding as an action-cache payload.
//! Does not know where they are kept.
//! Invariants: paths are workspace-relative and sorted; a record describes a success.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::hash::Hash;

/// One file that a step read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Input {
    /// Workspace-relative path.
    pub path: Box<str>,
    /// Its content.
    pub content: InputContent,
}

/// What stands at an input's path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum InputContent {
    /// A file.
    File {
        /// Hash of the content.
        hash: Hash,
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symbolic link (outputs of dependencies only; links among the sources are followed).
    Link(Box<str>),
    /// An empty directory.
    Directory,
}

/// One thing that a step left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputItem {
    /// Workspace-relative path.
    pub path: Box<str>,
    /// What it is.
    pub kind: OutputKind,
}

/// The kinds of output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputKind {
    /// A file whose content is in the store.
    File {
        /// Hash of the content.
        hash: Hash,
        /// Size of the content in bytes.
        size_bytes: u64,
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link.
    Link(Box<str>),
    /// A directory that is empty.
    Directory,
}

impl OutputItem {
    /// This output as an input of a dependant.
    pub fn as_input(&self) -> Input {
        Input {
            path: self.path.clone(),
            content: match &self.kind {
                OutputKind::File { hash, mode, .. } => InputContent::File {
                    hash: *hash,
                    executable: mode & 0o100 != 0,
                },
                OutputKind::Link(to) => InputContent::Link(to.clone()),
                OutputKind::Directory => InputContent::Directory,
            },
        }
    }
}

/// The memory of one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The action key that produced `outputs`.
    pub key: Hash,
    /// The part of the key that is not inputs: command, environment, tool.
    pub recipe: Hash,
    /// Everything that was read.
    pub inputs: Vec<Input>,
    /// Everything that was left behind. Shared: a no-op hands thousands of these around.
    pub outputs: Arc<[OutputItem]>,
    /// How long it took when it really ran, µs.
    pub duration_us: u64,
}

/// Why a target is run, for `-v` and later `zako why`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Never built here.
    New,
    /// The command, its environment or its tool.
    Recipe,
    /// The content of this file.
    Changed(Box<str>),
    /// This file was not an input before.
    Added(Box<str>),
    /// This file is no longer an input.
    Removed(Box<str>),
    /// An output is gone or was edited.
    Output(Box<str>),
    /// A person asked for it.
    Forced,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::New => f.write_str("never built here"),
            Self::Recipe => f.write_str("its command, environment or tool changed"),
            Self::Changed(path) => write!(f, "{path} changed"),
            Self::Added(path) => write!(f, "{path} is a new input"),
            Self::Removed(path) => write!(f, "{path} is no longer an input"),
            Self::Forced => f.write_str("forced"),
            Self::Output(path) => write!(f, "output {path} is missing or was edited"),
        }
    }
}

impl Record {
    /// The first difference between this record's inputs and `now`, both sorted by path.
    pub fn cause(&self, recipe: &Hash, now: &[Input]) -> Option<Cause> {
        if self.recipe != *recipe {
            return Some(Cause::Recipe);
        }
        let (mut old, mut new) = (self.inputs.iter().peekable(), now.iter().peekable());
        loop {
            match (old.peek(), new.peek()) {
                (None, None) => return None,
                (Some(gone), None) => return Some(Cause::Removed(gone.path.clone())),
                (None, Some(added)) => return Some(Cause::Added(added.path.clone())),
                (Some(a), Some(b)) if a.path < b.path => {
                    return Some(Cause::Removed(a.path.clone()));
                }
                (Some(a), Some(b)) if a.path > b.path => return Some(Cause::Added(b.path.clone())),
                (Some(a), Some(b)) if a.content != b.content => {
                    return Some(Cause::Changed(b.path.clone()));
                }
                _ => {
                    old.next();
                    new.next();
                }
            }
        }
    }
}

/// The payload of an action-cache entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionResult {
    /// What the action left behind.
    pub outputs: Arc<[OutputItem]>,
    /// How long it took when it really ran, µs.
    pub duration_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(path: &str, content: &str) -> Input {
        let hash = Hash::of(content.as_bytes());
        let content = InputContent::File {
            hash,
            executable: false,
        };
        Input {
            path: path.into(),
            content,
        }
    }

    #[test]
    fn the_cause_names_the_first_difference() {
        let recipe = Hash::of(b"r");
        let record = Record {
            key: recipe,
            recipe,
            inputs: vec![input("a", "1"), input("c", "1")],
            outputs: Arc::default(),
            duration_us: 0,
        };
        let cause = |now: &[Input]| record.cause(&recipe, now);
        assert_eq!(cause(&record.inputs.clone()), None);
        assert_eq!(
            cause(&[input("a", "2"), input("c", "1")]),
            Some(Cause::Changed("a".into()))
        );
        assert_eq!(
            cause(&[input("a", "1"), input("b", "1")]),
            Some(Cause::Added("b".into()))
        );
        assert_eq!(cause(&[input("a", "1")]), Some(Cause::Removed("c".into())));
        assert_eq!(cause(&[input("c", "1")]), Some(Cause::Removed("a".into())));
        assert_eq!(record.cause(&Hash::of(b"x"), &[]), Some(Cause::Recipe));
    }
}
