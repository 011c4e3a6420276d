//! Content on its way into the store: verified, not yet named.
//!
//! Owns: temporary files, their names and their removal; the proof that content was hashed.
//! Does not know: when a temporary file gets its name (`commit` does that).
//! Invariants: a staged file that is not committed is removed when dropped, unless somebody may go
//! on with it (`partial`); those of a killed process are removed at the next open, under the lock;
//! [`Verified`] can only be made by hashing its content.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;

use crate::budget::Reservation;
use crate::digest::{Digest, Hasher};
use crate::error::{During, IoFailure, NameMismatch, PutError};
use crate::fs::Disk;
use crate::name::{BlobName, HashFunction};
use crate::pack::deflate;
use crate::partial::Slot;
use crate::sha256::Sha256Digest;

/// Hands out temporary files in one directory.
#[derive(Debug)]
pub(crate) struct Staging {
    directory: PathBuf,
    next: AtomicU64,
    /// What writes to them.
    pub(crate) disk: Arc<dyn Disk>,
}

impl Staging {
    pub(crate) fn new(directory: PathBuf, disk: impl Disk) -> Self {
        Self {
            directory,
            next: AtomicU64::new(0),
            disk: Arc::new(disk),
        }
    }

    /// Removes what an earlier process left behind. Only under the lock of the store.
    pub(crate) fn sweep(&self) -> Result<u64, IoFailure> {
        let mut swept = 0;
        for entry in fs::read_dir(&self.directory).during("list", &self.directory)? {
            let path = entry.during("list", &self.directory)?.path();
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(IoFailure::new("remove", &path, error));
                }
                _ => swept += 1,
            }
        }
        Ok(swept)
    }

    /// A path that no other temporary file has.
    pub(crate) fn path(&self) -> TempPath {
        let number = self.next.fetch_add(1, Relaxed);
        TempPath {
            path: self.directory.join(number.to_string()),
            named: false,
            slot: None,
        }
    }

    /// A new temporary file, open for reading and writing.
    pub(crate) fn create(&self) -> Result<StagedFile, IoFailure> {
        let path = self.path();
        let file = self.disk.write_new(path.as_path(), &[]);
        let file = file.during("create", path.as_path())?;
        Ok(StagedFile { path, file })
    }

    /// Writes a piece of a content to its file.
    pub(crate) fn write(
        &self,
        staged: &StagedFile,
        piece: &[u8],
        offset: u64,
    ) -> Result<(), IoFailure> {
        let written = self.disk.write_at(&staged.file, piece, offset);
        written.during("write", staged.path.as_path())
    }
}

/// The path of a temporary file, which is removed on drop unless it was given its name.
#[derive(Debug)]
pub(crate) struct TempPath {
    path: PathBuf,
    named: bool,
    /// The place of an upload that may be gone on with.
    slot: Option<Slot>,
}

impl TempPath {
    pub(crate) fn as_path(&self) -> &Path {
        &self.path
    }

    /// The file was renamed: there is nothing to remove.
    pub(crate) fn named(mut self) {
        self.named = true;
    }

    /// Whatever becomes of the file, nobody goes on with it.
    pub(crate) fn discard(&mut self) {
        if let Some(slot) = &mut self.slot {
            slot.discard();
        }
    }
}

impl Drop for TempPath {
    fn drop(&mut self) {
        if self.named {
            return;
        }
        match self.slot.take() {
            Some(slot) if slot.keeps() => slot.put_back(),
            _ => {
                // A leftover costs space only until the next open.
                let _ = fs::remove_file(&self.path);
            }
        }
    }
}

/// A complete temporary file.
#[derive(Debug)]
pub(crate) struct StagedFile {
    pub(crate) path: TempPath,
    pub(crate) file: File,
}

impl StagedFile {
    /// A file of an upload that may be gone on with.
    pub(crate) fn in_slot(slot: Slot, file: File) -> Self {
        let path = TempPath {
            path: slot.path(),
            named: false,
            slot: Some(slot),
        };
        Self { path, file }
    }
}

/// Where verified content lies.
#[derive(Debug)]
pub(crate) enum Content {
    /// In memory.
    Bytes(Bytes),
    /// In a temporary file of the store.
    Staged(StagedFile),
}

/// What content must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Anything,
    Blake3(Digest),
    Sha256(Sha256Digest),
    /// Either hash, with or without the size.
    Named(BlobName),
}

impl Expected {
    pub(crate) fn size_bytes(&self) -> Option<u64> {
        match self {
            Self::Anything => None,
            Self::Blake3(digest) => Some(digest.size_bytes()),
            Self::Sha256(digest) => Some(digest.size_bytes()),
            Self::Named(name) => name.size_bytes(),
        }
    }

    /// A hasher that computes what is needed to tell.
    pub(crate) fn hasher(&self, sha256_names: bool) -> Hasher {
        match self {
            Self::Sha256(_) => Hasher::with_sha256(),
            Self::Named(name) if name.may_be(HashFunction::Sha256) => Hasher::with_sha256(),
            _ if sha256_names => Hasher::with_sha256(),
            _ => Hasher::new(),
        }
    }
}

impl From<Option<Digest>> for Expected {
    fn from(expected: Option<Digest>) -> Self {
        expected.map_or(Self::Anything, Self::Blake3)
    }
}

/// Content together with the digest that was computed from it.
#[derive(Debug)]
pub(crate) struct Verified {
    digest: Digest,
    sha256: Option<Sha256Digest>,
    content: Content,
    /// The content as it is stored, where that is smaller.
    deflated: Option<Bytes>,
    /// The room that it takes, if somebody has spoken for that.
    reservation: Option<Reservation>,
}

impl Verified {
    /// Hashes content in memory.
    pub(crate) fn hash(content: Bytes, mut hasher: Hasher) -> Self {
        hasher.update(&content);
        Self::hashed(&hasher, Content::Bytes(content))
    }

    /// Content that went through `hasher`, and nothing else did.
    pub(crate) fn hashed(hasher: &Hasher, content: Content) -> Self {
        Self {
            digest: hasher.finish(),
            sha256: hasher.finish_sha256(),
            content,
            deflated: None,
            reservation: None,
        }
    }

    /// Content for which room was reserved.
    pub(crate) fn with_room(self, reservation: Option<Reservation>) -> Self {
        Self {
            reservation,
            ..self
        }
    }

    /// Compresses a small content with zstd, where that pays.
    pub(crate) fn deflate(&mut self, level: i32) {
        if let Content::Bytes(content) = &self.content {
            self.deflated = deflate(content, level);
        }
    }

    /// The same once more, if the content is in memory; without the room that was reserved.
    pub(crate) fn again(&self) -> Option<Self> {
        let Content::Bytes(content) = &self.content else {
            return None;
        };
        Some(Self {
            digest: self.digest,
            sha256: self.sha256,
            content: Content::Bytes(content.clone()),
            deflated: self.deflated.clone(),
            reservation: None,
        })
    }

    /// The compressed content.
    pub(crate) fn take_deflated(&mut self) -> Option<Bytes> {
        self.deflated.take()
    }

    /// The room that was reserved.
    pub(crate) fn take_room(&mut self) -> Option<Reservation> {
        self.reservation.take()
    }

    /// Refuses content that is not what `expected` names.
    pub(crate) fn expect(self, expected: Expected) -> Result<Self, PutError> {
        match (expected, self.sha256) {
            (Expected::Blake3(expected), _) if expected != self.digest => {
                Err(PutError::DigestMismatch {
                    expected,
                    actual: self.digest,
                })
            }
            (Expected::Sha256(expected), Some(actual)) if expected != actual => {
                Err(PutError::Sha256Mismatch { expected, actual })
            }
            (Expected::Named(expected), sha256)
                if !expected.names(&self.digest, sha256.as_ref()) =>
            {
                Err(PutError::NameMismatch(Box::new(NameMismatch {
                    expected,
                    actual: self.digest,
                    sha256,
                })))
            }
            (Expected::Sha256(_), None) => unreachable!("what is expected was computed"),
            _ => Ok(self),
        }
    }

    /// The second name, if it was computed.
    pub(crate) fn sha256(&self) -> Option<Sha256Digest> {
        self.sha256
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    pub(crate) fn into_content(self) -> Content {
        self.content
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::RealFs;

    #[test]
    fn uncommitted_files_vanish_and_leftovers_are_swept() {
        let directory = tempfile::tempdir().unwrap();
        let staging = Staging::new(directory.path().into(), RealFs);
        let staged = staging.create().unwrap();
        let path = staged.path.as_path().to_owned();
        assert!(path.exists());
        drop(staged);
        assert!(!path.exists());

        std::mem::forget(staging.create().unwrap());
        fs::write(directory.path().join("leftover"), "x").unwrap();
        assert_eq!(
            Staging::new(directory.path().into(), RealFs)
                .sweep()
                .unwrap(),
            2
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn content_that_is_not_what_was_promised_is_refused() {
        let other = Digest::of(b"other");
        let content = || Verified::hash(Bytes::from_static(b"content"), Hasher::with_sha256());
        let refused = content().expect(Expected::Sha256(Sha256Digest::of(b"other")));
        assert!(matches!(refused, Err(PutError::Sha256Mismatch { .. })));
        assert!(
            content()
                .expect(Expected::Sha256(Sha256Digest::of(b"content")))
                .is_ok()
        );
        let refused = content().expect(Expected::Blake3(other));
        assert!(matches!(
            refused,
            Err(PutError::DigestMismatch { expected, .. }) if expected == other
        ));
    }
}
