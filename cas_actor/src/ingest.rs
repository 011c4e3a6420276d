//! Content on its way from a caller into a verified, unnamed state.
//!
//! Owns: hashing while copying, for streams and for files of the caller.
//! Does not know: shards; a finished upload is handed to the store.
//! Invariants: the stored bytes are the bytes that were hashed, also when the caller's file
//! changes meanwhile; nothing in the store shares an inode with a file of the caller.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::digest::{Digest, Hasher};
use crate::error::{During, IoFailure, PutError};
use crate::layout::{PACK_UP_TO_BYTES, is_packed};
use crate::maintain::hash_file;
use crate::staging::{Content, StagedFile, Staging, Verified};

/// Content that will be packed stays in memory until it is committed.
const SPILL_ABOVE_BYTES: usize = PACK_UP_TO_BYTES as usize;
/// How much is read from a file at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// Content that arrives in pieces. Dropping it leaves nothing behind.
///
/// Commit it with [`Store::commit`](crate::Store::commit).
#[derive(Debug)]
pub struct Upload {
    staging: Arc<Staging>,
    expected: Option<Digest>,
    hasher: Hasher,
    written_bytes: u64,
    buffer: Vec<u8>,
    spilled: Option<StagedFile>,
}

impl Upload {
    pub(crate) fn new(staging: Arc<Staging>, expected: Option<Digest>) -> Self {
        Self {
            staging,
            expected,
            hasher: Hasher::new(),
            written_bytes: 0,
            buffer: Vec::new(),
            spilled: None,
        }
    }

    /// Bytes taken so far.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Takes the next piece. Blocks on the disk once the content is large.
    ///
    /// # Errors
    /// When there is more than the expected digest says, or the disk fails; the upload is
    /// useless then.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), PutError> {
        self.written_bytes += piece.len() as u64;
        self.hasher.update(piece);
        if let Some(expected) = self.expected
            && self.written_bytes > expected.size_bytes()
        {
            return Err(PutError::DigestMismatch {
                expected,
                actual: self.hasher.finish(),
            });
        }
        if self.spilled.is_none() && self.buffer.len() + piece.len() <= SPILL_ABOVE_BYTES {
            self.buffer.extend_from_slice(piece);
            return Ok(());
        }
        let staged = match &mut self.spilled {
            Some(staged) => staged,
            None => self.spilled.insert(self.staging.create()?),
        };
        if !self.buffer.is_empty() {
            let first = std::mem::take(&mut self.buffer);
            append(staged, &first)?;
        }
        append(staged, piece)?;
        Ok(())
    }

    /// Checks the content against the expected digest.
    pub(crate) fn finish(self) -> Result<Verified, PutError> {
        let content = match self.spilled {
            Some(staged) => Content::Staged(staged),
            None => Content::Bytes(Bytes::from(self.buffer)),
        };
        Verified::hashed(self.hasher.finish(), content).expect(self.expected)
    }
}

fn append(staged: &mut StagedFile, piece: &[u8]) -> Result<(), IoFailure> {
    staged
        .file
        .write_all(piece)
        .during("write", staged.path.as_path())
}

/// Takes a copy of a file of the caller, hashing it on the way.
pub(crate) fn copy_in(staging: &Arc<Staging>, path: &Path) -> Result<Verified, PutError> {
    let source = |error| PutError::Source(IoFailure::new("read", path, error));
    let mut file = File::open(path).map_err(source)?;
    let size_bytes = file.metadata().map_err(source)?.len();
    if size_bytes <= SPILL_ABOVE_BYTES as u64 {
        let mut content = Vec::with_capacity(size_bytes as usize + 1);
        file.read_to_end(&mut content).map_err(source)?;
        return Ok(Verified::hash(content.into()));
    }
    if let Some(verified) = clone_in(staging, &file)? {
        return Ok(verified);
    }
    let mut upload = Upload::new(Arc::clone(staging), None);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece).map_err(source)? {
            0 => return upload.finish(),
            length => upload.write(&piece[..length])?,
        }
    }
}

/// Shares the extents of the file where the file system can, then hashes the private clone:
/// whatever happens to the original, the clone stays.
fn clone_in(staging: &Staging, source: &File) -> Result<Option<Verified>, PutError> {
    let staged = staging.create()?;
    if rustix::fs::ioctl_ficlone(&staged.file, source).is_err() {
        return Ok(None);
    }
    let path = staged.path.as_path();
    let digest = hash_file(&staged.file).during("read", path)?;
    if is_packed(digest.size_bytes()) {
        // It shrank while it was opened.
        let content = fs::read(path).during("read", path)?;
        return Ok(Some(Verified::hash(content.into())));
    }
    Ok(Some(Verified::hashed(digest, Content::Staged(staged))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    fn content_of(verified: Verified) -> Vec<u8> {
        match verified.into_content() {
            Content::Bytes(bytes) => bytes.to_vec(),
            Content::Staged(staged) => fs::read(staged.path.as_path()).unwrap(),
        }
    }

    #[test]
    fn an_upload_larger_than_promised_stops_early() {
        let directory = tempfile::tempdir().unwrap();
        let staging = Arc::new(Staging::new(directory.path().into()));
        let mut upload = Upload::new(Arc::clone(&staging), Some(Digest::of(b"ab")));
        upload.write(b"a").unwrap();
        assert!(matches!(
            upload.write(b"bc"),
            Err(PutError::DigestMismatch { .. })
        ));
        let short = Upload::new(staging, Some(Digest::of(b"ab")));
        assert!(matches!(
            short.finish(),
            Err(PutError::DigestMismatch { .. })
        ));
    }

    #[test]
    fn a_missing_source_is_the_callers_error() {
        let directory = tempfile::tempdir().unwrap();
        let staging = Arc::new(Staging::new(directory.path().into()));
        let error = copy_in(&staging, &directory.path().join("none")).unwrap_err();
        assert!(matches!(error, PutError::Source(_)), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn pieces_and_files_come_in_whole(
            sizes in prop::collection::vec(0usize..90_000, 0..5), seed in any::<u8>(),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let staging = Arc::new(Staging::new(directory.path().into()));
            let mut upload = Upload::new(Arc::clone(&staging), None);
            let mut whole = Vec::new();
            for size in sizes {
                let piece: Vec<u8> = (0..size).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect();
                upload.write(&piece).unwrap();
                whole.extend(piece);
            }
            let verified = upload.finish().unwrap();
            prop_assert_eq!(verified.digest(), Digest::of(&whole));
            prop_assert_eq!(content_of(verified), whole.clone());

            let path = directory.path().join("source");
            fs::write(&path, &whole).unwrap();
            let verified = copy_in(&staging, &path).unwrap();
            prop_assert_eq!(verified.digest(), Digest::of(&whole));
            prop_assert_eq!(content_of(verified), whole);
        }
    }
}
