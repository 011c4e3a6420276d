//! The persisted state: what lets a cold process answer a no-op.
//!
//! Owns what is kept and the number of its format; the envelope is in `sealed`.
//! Does not know what the parts mean.
//! Invariants: a state that is not exactly what was written is never used; saving replaces the
//! file in one step, so a kill leaves the old state or the new one. Nothing in here is needed for
//! correctness: without it everything is checked again.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::dirs::SavedDirs;
use super::files::SavedFiles;
use super::hash::Hash;
use super::record::Record;
use super::sealed::{Seal, SealError};
use crate::lang::label::Label;
use crate::lang::target::Target;
use crate::lang::workspace_file::WorkspaceFile;

const SEAL: Seal = Seal {
    magic: b"ZAKOSTAT",
    format: 4,
};

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

impl State {
    /// The state in `path`; an empty one when there is none.
    ///
    /// # Errors
    /// When there is one that cannot be used.
    pub fn load(path: &Path) -> Result<Self, SealError> {
        SEAL.load(path)
    }

    /// Replaces the state in `path`.
    ///
    /// # Errors
    /// When the disk refuses; the old state stays then.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        SEAL.save(self, path)
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
        let mut bytes = SEAL.encode(&sample()).unwrap();
        bytes[8] = 99;
        assert_eq!(
            SEAL.decode::<State>(&bytes).unwrap_err(),
            SealError::Format {
                found: 99,
                expected: SEAL.format
            }
        );
    }

    proptest! {
        #[test]
        fn any_damage_is_noticed(at in any::<prop::sample::Index>(), flip in 1u8.., cut in any::<bool>()) {
            let mut bytes = SEAL.encode(&sample()).unwrap();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= flip }
            prop_assert!(SEAL.decode::<State>(&bytes).is_err());
        }
    }
}
