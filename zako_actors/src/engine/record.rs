//! What is remembered about a finished target: its key, what it read, what it left behind.
//!
//! Owns these shapes and their encoding as an action-cache payload.
//! Does not know where they are kept.
//! Invariants: paths are workspace-relative and sorted; a record describes a success.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::hash::Hash;
use crate::lang::text::Text;

/// One file that a step read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Input {
    /// Workspace-relative path.
    pub path: Text,
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
    pub path: Text,
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
        /// Permission bits: 0644, or 0755 of what may be executed.
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

/// What was left at `path` among `outputs`.
pub fn item_at<'a>(outputs: &'a [OutputItem], path: &str) -> Option<&'a OutputItem> {
    let place = outputs.binary_search_by(|item| (*item.path).cmp(path));
    place.ok().map(|place| &outputs[place])
}

/// Nothing is known to have this hash.
const UNKNOWN: Hash = Hash::new([0; 32]);

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
    /// Whether others write where it does: then its outputs are only what it wrote itself.
    pub shares: bool,
}

impl Record {
    /// Makes it that of no action: what it describes is not to be taken for up to date.
    pub fn forget(&mut self) {
        (self.key, self.recipe) = (UNKNOWN, UNKNOWN);
    }

    /// Whether it is that of no action.
    pub fn is_forgotten(&self) -> bool {
        self.key == UNKNOWN
    }

    /// The paths of what was read, sorted.
    pub fn read(&self) -> Vec<Text> {
        self.inputs.iter().map(|input| input.path.clone()).collect()
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
