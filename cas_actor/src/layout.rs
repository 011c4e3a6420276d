//! Where everything of a store lies on disk. The one place that turns a digest into a path.
//!
//! Owns: the names of directories and files below the root, and reading them back.
//! Does not know: what the files contain.
//! Invariant: writers and readers get a path from the same function, so a blob is looked up
//! where it was written.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::digest::{HASH_BYTES, parse_hash, push_hex};

/// A key of the action cache: the hash of everything that decides the action's result.
pub type ActionKey = [u8; HASH_BYTES];

/// What a named file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A blob, named by its hash.
    Blob,
    /// An entry of the action cache, named by its key.
    Action,
}

impl Kind {
    const fn directory(self) -> &'static str {
        match self {
            Self::Blob => "blobs",
            Self::Action => "actions",
        }
    }
}

/// The paths below one root.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// `root/KIND/aa/rest`.
    pub(crate) fn path(&self, kind: Kind, hash: &[u8; HASH_BYTES]) -> PathBuf {
        let mut name = String::with_capacity(2 * HASH_BYTES + 1);
        push_hex(&mut name, &hash[..1]);
        name.push('/');
        push_hex(&mut name, &hash[1..]);
        self.kind(kind).join(name)
    }

    /// `root/KIND/aa`.
    pub(crate) fn fan(&self, kind: Kind, first: u8) -> PathBuf {
        let mut name = String::with_capacity(2);
        push_hex(&mut name, &[first]);
        self.kind(kind).join(name)
    }

    /// `root/KIND`.
    pub(crate) fn kind(&self, kind: Kind) -> PathBuf {
        self.root.join(kind.directory())
    }

    /// The hash of a file found in `root/KIND/aa`; `None` for anything that no store wrote.
    pub(crate) fn hash_of(first: u8, file_name: &OsStr) -> Option<[u8; HASH_BYTES]> {
        let mut hex = String::with_capacity(2 * HASH_BYTES);
        push_hex(&mut hex, &[first]);
        hex.push_str(file_name.to_str()?);
        parse_hash(&hex).ok()
    }

    /// Where files are written before they get their name.
    pub(crate) fn temp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Where damaged files go, to be looked at by a person.
    pub(crate) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// Locked for as long as a process has the store open.
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("LOCK")
    }

    /// Says which format the store has.
    pub(crate) fn version(&self) -> PathBuf {
        self.root.join("VERSION")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_path_leads_back_to_its_hash(hash in any::<[u8; 32]>()) {
            let layout = Layout::new("/store".into());
            for kind in [Kind::Blob, Kind::Action] {
                let path = layout.path(kind, &hash);
                prop_assert_eq!(path.parent().unwrap(), layout.fan(kind, hash[0]));
                prop_assert_eq!(Layout::hash_of(hash[0], path.file_name().unwrap()), Some(hash));
            }
        }
    }

    #[test]
    fn strangers_in_the_tree_have_no_hash() {
        for name in ["", "x", "..", &"0".repeat(61), &"0".repeat(63)] {
            assert_eq!(Layout::hash_of(0, OsStr::new(name)), None, "{name}");
        }
    }
}
