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

use super::analyse::Fact;
use super::dirs::SavedDirs;
use super::files::{FileTable, SavedFiles};
use super::hash::{Hash, KeyWriter};
use super::locks::Locked;
use super::record::Record;
use super::sealed::{Seal, SealError};
use super::stamp::Stamp;
use crate::lang::descriptor::Exports;
use crate::lang::file_ref::FileRef;
use crate::lang::label::Label;
use crate::lang::target::Target;
use crate::lang::text::sharing;
use crate::lang::workspace_file::WorkspaceFile;

const SEAL: Seal = Seal {
    magic: b"ZAKOSTAT",
    format: 14,
};

/// Everything that is remembered between two runs in one workspace.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Stat cache. It comes first: whoever reads it has files looked at while the rest is read.
    pub files: SavedFiles,
    /// Everything else.
    pub rest: Remembered,
}

/// Everything that is remembered beside file contents.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Remembered {
    /// Listing cache.
    pub dirs: SavedDirs,
    /// What scripts said.
    pub memory: Memory,
    /// Finished targets by label.
    pub records: FxHashMap<Label, Arc<Record>>,
    /// The stamp of the list of outputs when everything in it was some target's.
    pub gone_through: Option<Stamp>,
}

/// What scripts said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Build files by path.
    pub files: BTreeMap<Box<str>, Evaluated>,
    /// Toolchain and option files by path.
    pub system: BTreeMap<Box<str>, SystemFile>,
    /// Of which files rule files are made, by path.
    pub rules: BTreeMap<Box<str>, Sources>,
    /// What rules made of their uses.
    pub uses: FxHashMap<Label, Analysed>,
    /// Lock files by path.
    pub locks: BTreeMap<Box<str>, Locked>,
}

/// The files that an evaluation read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sources {
    /// Every module, the entry included.
    pub modules: Vec<(Box<str>, Hash)>,
    /// Paths that were tried in vain; one that appears could change the result.
    pub absent: Vec<Box<str>>,
}

impl Sources {
    /// Whether an evaluation would read the same again.
    pub fn is_unchanged(&self, files: &FileTable) -> bool {
        self.modules
            .iter()
            .all(|(path, hash)| files.fact(path).is_ok_and(|f| f.hash == *hash))
            && !self
                .absent
                .iter()
                .any(|path| files.root().join(&**path).exists())
    }

    /// The modules' names and contents as one hash.
    pub fn digest(&self) -> Hash {
        let mut key = KeyWriter::new("zako sources");
        for (path, hash) in &self.modules {
            key.text(path).hash(hash);
        }
        key.finish()
    }
}

/// One evaluated build file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Everything beside file contents that the result depends on.
    pub context: Hash,
    /// What was read, the file itself included.
    pub sources: Sources,
    /// What the file said.
    pub result: EvaluatedResult,
}

/// What a toolchain or option file said on this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SystemFile {
    /// Everything beside files and facts that the answers depend on.
    pub key: Hash,
    /// What was read.
    pub sources: Sources,
    /// What it asked about the machine.
    pub facts: Vec<Fact>,
    /// What it said, as JSON.
    pub answers: Box<str>,
}

/// What a rule made of one use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Analysed {
    /// Everything that the rule was told.
    pub key: Hash,
    /// The digest of the rule's sources.
    pub code: Hash,
    /// What the rule read while the build ran.
    pub reads: Vec<ReadFact>,
    /// The target and its actions.
    pub targets: Vec<Arc<Target>>,
    /// What dependants read.
    pub files: Vec<FileRef>,
    /// Values of providers, as JSON.
    pub providers: Box<str>,
}

/// A file that a rule read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadFact {
    /// Workspace-relative.
    pub path: Box<str>,
    /// Its content.
    pub hash: Hash,
    /// The target that writes it; none writes a source.
    pub writer: Option<Label>,
    /// How many times the rule had been told something when it asked.
    pub turn: u32,
}

/// What a build file said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EvaluatedResult {
    /// `zako.ts`.
    Workspace(WorkspaceFile),
    /// `BUILD.ts`.
    Exports(Exports),
    /// A `BUILD.ts` that cannot be read.
    Broken {
        /// What is wrong with it, as JSON.
        mistakes: Box<str>,
        /// Whether it was stopped at a limit: that may go otherwise the next time.
        is_stopped: bool,
    },
}

impl State {
    /// The state in `path`; an empty one when there is none. `files` is given the stat cache before
    /// the rest is read.
    ///
    /// # Errors
    /// When there is one that cannot be used.
    pub fn load<F>(
        path: &Path,
        files: impl FnOnce(SavedFiles) -> F,
    ) -> Result<(F, Remembered), SealError> {
        let Some(mut state) = SEAL.open(path)? else {
            return Ok((files(SavedFiles::default()), Remembered::default()));
        };
        sharing(|| {
            let files = files(state.take()?);
            Ok((files, state.take()?))
        })
    }

    /// What tells the state in `path` from any other; `None` when there is none.
    pub fn identity(path: &Path) -> Option<Vec<u8>> {
        SEAL.header(path).ok()
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
        state.rest.records.insert(
            Label::new("a", "b").unwrap(),
            Arc::new(Record {
                key: Hash::of(b"k"),
                recipe: Hash::of(b"r"),
                inputs: Vec::new(),
                outputs: Arc::default(),
                duration_us: 7,
                shares: false,
            }),
        );
        state
    }

    #[test]
    fn a_state_is_read_back_and_a_missing_one_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let load = || State::load(&path, |files| files).unwrap();
        assert!(load().1.records.is_empty());
        let dir = dir.path().to_owned();
        std::fs::write(dir.join("a"), "a").unwrap();
        let files = FileTable::new(dir, SavedFiles::default());
        let fact = files.fact("a").unwrap();
        let sample = State {
            files: files.save(),
            ..sample()
        };
        sample.save(&path).unwrap();
        let (saved, rest) = load();
        assert_eq!(rest.records, sample.rest.records);
        let again = FileTable::new(files.root().to_owned(), saved);
        assert_eq!(again.fact("a").unwrap(), fact);
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
