//! Where everything of a store lies on disk. The one place that turns a digest into a path.
//!
//! Owns: the names of directories and files below the root, and reading them back.
//! Does not know: what the files contain.
//! Invariant: writers and readers get a path from the same function, so a blob is looked up
//! where it was written.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::digest::{HASH_BYTES, hex, parse_hash, push_hex};

/// A key of the action cache: the hash of everything that decides the action's result.
pub type ActionKey = [u8; HASH_BYTES];

/// What an interrupted upload is called: a hash of whatever its protocol calls it.
pub(crate) type PartialId = [u8; HASH_BYTES];

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A blob, named by its hash.
    Blob,
    /// An entry of the action cache, named by its key.
    Action,
    /// A link from the SHA-256 of a blob to the blob.
    Link,
}

/// Blobs of up to this size are packed into segments; larger ones are files of their own. Part
/// of the format: where a blob lies follows from its digest alone.
pub(crate) const PACK_UP_TO_BYTES: u64 = 64 * 1024;

/// Whether a blob of this size is packed.
pub(crate) fn is_packed(size_bytes: u64) -> bool {
    size_bytes <= PACK_UP_TO_BYTES
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

    /// Where a large blob lies: `root/blobs/aa/rest`.
    pub(crate) fn blob(&self, hash: &[u8; HASH_BYTES]) -> PathBuf {
        let mut name = String::with_capacity(2 * HASH_BYTES + 1);
        push_hex(&mut name, &hash[..1]);
        name.push('/');
        push_hex(&mut name, &hash[1..]);
        self.blobs().join(name)
    }

    /// `root/blobs/aa`.
    pub(crate) fn fan(&self, first: u8) -> PathBuf {
        let mut name = String::with_capacity(2);
        push_hex(&mut name, &[first]);
        self.blobs().join(name)
    }

    /// `root/blobs`.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// The hash of a file found in `root/blobs/aa`; `None` for anything that no store wrote.
    pub(crate) fn hash_of(first: u8, file_name: &OsStr) -> Option<[u8; HASH_BYTES]> {
        let mut hex = String::with_capacity(2 * HASH_BYTES);
        push_hex(&mut hex, &[first]);
        hex.push_str(file_name.to_str()?);
        parse_hash(&hex).ok()
    }

    /// The segments and the index of one shard's small blobs and action entries.
    pub(crate) fn pack(&self, shard: usize) -> PathBuf {
        self.root.join(format!("packs/{shard}"))
    }

    /// Where it is noted what of one shard is not durable.
    pub(crate) fn unsynced(&self, shard: usize) -> PathBuf {
        self.root.join(format!("unsynced/{shard}"))
    }

    /// Where files are written before they get their name.
    pub(crate) fn temp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Where interrupted uploads lie.
    pub(crate) fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    /// Where an interrupted upload lies: `root/partial/hash`.
    pub(crate) fn partial(&self, id: &PartialId) -> PathBuf {
        self.partials().join(hex(id))
    }

    /// The id of a file found in `root/partial`; `None` for anything that no store wrote.
    pub(crate) fn partial_id_of(file_name: &OsStr) -> Option<PartialId> {
        parse_hash(file_name.to_str()?).ok()
    }

    /// Takes the space that is given up on a full disk.
    pub(crate) fn reserve(&self) -> PathBuf {
        self.root.join("reserve")
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
            let path = layout.blob(&hash);
            prop_assert_eq!(path.parent().unwrap(), layout.fan(hash[0]));
            prop_assert_eq!(Layout::hash_of(hash[0], path.file_name().unwrap()), Some(hash));
        }
    }

    #[test]
    fn strangers_in_the_tree_have_no_hash() {
        for name in ["", "x", "..", &"0".repeat(61), &"0".repeat(63)] {
            assert_eq!(Layout::hash_of(0, OsStr::new(name)), None, "{name}");
        }
    }
}
