//! The persisted state: what lets a cold process answer a no-op.
//!
//! Owns the file's format: magic, format number, length, checksum, then postcard.
//! Does not know what the parts mean.
//! Invariants: a state that is not exactly what was written is never used; saving replaces the
//! file in one step, so a kill leaves the old state or the new one. Nothing in here is needed for
//! correctness: without it everything is checked again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::dirs::SavedDirs;
use super::files::SavedFiles;
use super::hash::Hash;
use super::record::Record;
use crate::lang::label::Label;
use crate::lang::target::Target;
use crate::lang::workspace_file::WorkspaceFile;

const MAGIC: &[u8; 8] = b"ZAKOSTAT";
/// Raised whenever the meaning of the bytes changes.
const FORMAT: u32 = 2;
/// Magic, format, length, checksum.
const HEADER_BYTES: usize = 8 + 4 + 8 + 32;

/// Everything that is remembered between two runs in one workspace.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Stat cache.
    pub files: SavedFiles,
    /// Listing cache.
    pub dirs: SavedDirs,
    /// Build files by path.
    pub evaluations: BTreeMap<Box<str>, Evaluated>,
    /// Finished targets by label.
    pub records: FxHashMap<Label, Record>,
}

/// One evaluated build file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Everything beside file contents that the result depends on.
    pub context: Hash,
    /// Every module that was read, the file itself included.
    pub modules: Vec<(Box<str>, Hash)>,
    /// Paths that were tried in vain; one that appears could change the result.
    pub absent: Vec<Box<str>>,
    /// What the file said.
    pub result: EvaluatedResult,
}

/// What a build file said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EvaluatedResult {
    /// `zako.ts`.
    Workspace(WorkspaceFile),
    /// `BUILD.ts`.
    Targets(Vec<Arc<Target>>),
}

/// Why a stored state is not used; the build starts from nothing then.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StateError {
    /// Cut off, overwritten or never a state.
    #[error("it is damaged")]
    Damaged,
    /// Another version wrote it.
    #[error("another version of zako wrote it (format {0}, this is {FORMAT})")]
    Format(u32),
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(ErrorKind),
}

impl State {
    /// The state in `path`; an empty one when there is none.
    ///
    /// # Errors
    /// When there is one that cannot be used.
    pub fn load(path: &Path) -> Result<Self, StateError> {
        match fs::read(path) {
            Ok(bytes) => Self::decode(&bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(StateError::Unreadable(error.kind())),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let (header, body) = bytes
            .split_at_checked(HEADER_BYTES)
            .ok_or(StateError::Damaged)?;
        let (magic, header) = header.split_at(8);
        let (format, header) = header.split_at(4);
        let (length, checksum) = header.split_at(8);
        if magic != MAGIC {
            return Err(StateError::Damaged);
        }
        let format = u32::from_le_bytes(format.try_into().map_err(|_| StateError::Damaged)?);
        if format != FORMAT {
            return Err(StateError::Format(format));
        }
        let intact = length == (body.len() as u64).to_le_bytes()
            && checksum == blake3::hash(body).as_bytes();
        if !intact {
            return Err(StateError::Damaged);
        }
        postcard::from_bytes(body).map_err(|_| StateError::Damaged)
    }

    fn encode(&self) -> io::Result<Vec<u8>> {
        let body = postcard::to_stdvec(self).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(blake3::hash(&body).as_bytes());
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    /// Replaces the state in `path`.
    ///
    /// # Errors
    /// When the disk refuses; the old state stays then.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let bytes = self.encode()?;
        let temporary = path.with_extension("new");
        let written = File::create(&temporary)
            .and_then(|mut file| file.write_all(&bytes))
            .and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            // A leftover of a full disk is the last thing the disk needs.
            drop(fs::remove_file(&temporary));
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> State {
        let mut state = State::default();
        state.records.insert(
            Label::new("a", "b").unwrap(),
            Record {
                key: Hash::of(b"k"),
                recipe: Hash::of(b"r"),
                inputs: Vec::new(),
                outputs: Arc::default(),
                duration_us: 7,
            },
        );
        state
    }

    #[test]
    fn a_state_is_read_back_and_a_missing_one_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        assert!(State::load(&path).unwrap().records.is_empty());
        sample().save(&path).unwrap();
        assert_eq!(State::load(&path).unwrap().records, sample().records);
    }

    #[test]
    fn another_format_is_named() {
        let mut bytes = sample().encode().unwrap();
        bytes[8] = 99;
        assert_eq!(State::decode(&bytes).unwrap_err(), StateError::Format(99));
    }

    proptest! {
        #[test]
        fn any_damage_is_noticed(at in any::<prop::sample::Index>(), flip in 1u8.., cut in any::<bool>()) {
            let mut bytes = sample().encode().unwrap();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= flip }
            prop_assert!(State::decode(&bytes).is_err());
        }
    }
}
