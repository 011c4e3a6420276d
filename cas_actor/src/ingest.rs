//! Content on its way from a caller into a verified, unnamed state.
//!
//! Owns: hashing while copying, for streams and for files of the caller.
//! Does not know: shards; a finished upload is handed to the store.
//! Invariants: the stored bytes are the bytes that were hashed, also when the caller's file
//! changes meanwhile; nothing in the store shares an inode with a file of the caller.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;

use bytes::Bytes;

use crate::budget::Reservation;
use crate::digest::{Digest, Hasher};
use crate::error::{During, IoFailure, PutError};
use crate::layout::{PACK_UP_TO_BYTES, is_packed};
use crate::maintain::{hash_file, hash_file_with};
use crate::partial::Slot;
use crate::room::Room;
use crate::sha256::Sha256Digest;
use crate::staging::{Content, Expected, StagedFile, Staging, Verified};

/// Content that will be packed stays in memory until it is committed.
const SPILL_ABOVE_BYTES: usize = PACK_UP_TO_BYTES as usize;
/// Up to this size a file is hashed before it is copied, for the store may hold it already. A
/// larger one, which a build seldom makes again, is hashed while it is copied.
const LOOK_FIRST_UP_TO_BYTES: u64 = 64 * 1024 * 1024;
/// How much is copied at a time.
const PIECE_BYTES: usize = 8 * 1024 * 1024;
/// How much is hashed at a time: it stays in the cache of the core.
const HASH_BYTES_AT_ONCE: usize = 256 * 1024;

/// Content that arrives in pieces. Dropping it leaves nothing behind.
///
/// Commit it with [`Store::commit`](crate::Store::commit).
#[derive(Debug)]
pub struct Upload {
    staging: Arc<Staging>,
    expected: Expected,
    hasher: Hasher,
    written_bytes: u64,
    buffer: Vec<u8>,
    spilled: Option<StagedFile>,
    /// Where a store with a limit has room.
    room: Option<Arc<Room>>,
    reservation: Option<Reservation>,
    /// Where it is kept when it is interrupted, until it has a file there.
    slot: Option<Slot>,
}

impl Upload {
    pub(crate) fn new(
        staging: Arc<Staging>,
        room: Option<Arc<Room>>,
        expected: Expected,
        sha256_names: bool,
    ) -> Self {
        Self {
            staging,
            expected,
            hasher: expected.hasher(sha256_names),
            written_bytes: 0,
            buffer: Vec::new(),
            spilled: None,
            room,
            reservation: None,
            slot: None,
        }
    }

    /// The same, kept there when it is dropped before its end.
    pub(crate) fn in_slot(self, slot: Slot) -> Self {
        Self {
            slot: Some(slot),
            ..self
        }
    }

    /// The same with its beginning, which is read and hashed.
    pub(crate) fn with_beginning(mut self, staged: StagedFile) -> Result<Self, IoFailure> {
        let path = staged.path.as_path();
        self.hasher = hash_file_with(self.hasher, &staged.file).during("read", path)?;
        self.written_bytes = self.hasher.finish().size_bytes();
        self.spilled = Some(staged);
        Ok(self)
    }

    /// Ends it early: what has come can be gone on with, if it has a place for that.
    pub(crate) fn park(mut self) -> Result<(), IoFailure> {
        match self.slot.is_some() {
            true => self.spill().map(drop),
            false => Ok(()),
        }
    }

    /// Bytes taken so far.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// The name of the content so far.
    pub fn digest(&self) -> Digest {
        self.hasher.finish()
    }

    /// The second name of the content so far, if the upload computes it.
    pub fn sha256(&self) -> Option<Sha256Digest> {
        self.hasher.finish_sha256()
    }

    /// Everything taken so far. Reads the disk once the content is large.
    pub(crate) fn content(&self) -> Result<Bytes, IoFailure> {
        let Some(staged) = &self.spilled else {
            return Ok(Bytes::copy_from_slice(&self.buffer));
        };
        let mut content = vec![0; self.written_bytes as usize];
        let read = staged.file.read_exact_at(&mut content, 0);
        read.during("read", staged.path.as_path())?;
        Ok(content.into())
    }

    /// Takes the next piece. Blocks on the disk once the content is large.
    ///
    /// # Errors
    /// When there is more than the expected digest says, when the store has no room for it, or the
    /// disk fails; the upload is useless then.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), PutError> {
        let written = self.take(piece);
        if let (Err(_), Some(staged)) = (&written, &mut self.spilled) {
            staged.path.discard();
        }
        written
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), PutError> {
        self.written_bytes += piece.len() as u64;
        self.hasher.update(piece);
        if let Some(size_bytes) = self.expected.size_bytes()
            && self.written_bytes > size_bytes
        {
            let so_far = Content::Bytes(Bytes::new());
            return Verified::hashed(&self.hasher, so_far)
                .expect(self.expected)
                .map(drop);
        }
        if self.spilled.is_none() && self.buffer.len() + piece.len() <= SPILL_ABOVE_BYTES {
            self.buffer.extend_from_slice(piece);
            return Ok(());
        }
        let (bytes, exact) = match self.expected.size_bytes() {
            Some(size_bytes) => (size_bytes, true),
            None => (self.written_bytes, false),
        };
        if let Some(room) = &self.room {
            room.extend(&mut self.reservation, bytes, exact)?;
        }
        self.spill()?.append(piece)?;
        Ok(())
    }

    /// From now on the content is in a file.
    fn spill(&mut self) -> Result<&mut StagedFile, IoFailure> {
        let staged = match (&mut self.spilled, self.slot.take()) {
            (Some(staged), _) => staged,
            (none, Some(slot)) => none.insert(slot.create()?),
            (none, None) => none.insert(self.staging.create()?),
        };
        if !self.buffer.is_empty() {
            let first = std::mem::take(&mut self.buffer);
            staged.append(&first)?;
        }
        Ok(staged)
    }

    /// Checks the content against the expected digest.
    pub(crate) fn finish(self) -> Result<Verified, PutError> {
        let content = match self.spilled {
            Some(mut staged) => {
                staged.path.discard();
                Content::Staged(staged)
            }
            None => Content::Bytes(Bytes::from(self.buffer)),
        };
        let verified = Verified::hashed(&self.hasher, content).with_room(self.reservation);
        verified.expect(self.expected)
    }
}

/// What became of a file of the caller.
pub(crate) enum Taken {
    /// The store holds its content already.
    Present(Digest),
    /// A copy that can be committed.
    Copied(Verified),
}

/// Takes a copy of a file of the caller unless `is_here` says that the store holds its content.
/// With `durable`, the copy goes to disk while it is hashed.
pub(crate) fn take_file(
    staging: &Staging,
    path: &Path,
    durable: bool,
    hasher: &Hasher,
    is_here: impl Fn(Digest) -> bool,
) -> Result<Taken, PutError> {
    let failed = |error| PutError::Source(IoFailure::new("read", path, error));
    let mut file = File::open(path).map_err(failed)?;
    let size_bytes = file.metadata().map_err(failed)?.len();
    if is_packed(size_bytes) {
        let mut content = Vec::with_capacity(size_bytes as usize + 1);
        file.read_to_end(&mut content).map_err(failed)?;
        return Ok(Taken::Copied(Verified::hash(
            content.into(),
            hasher.clone(),
        )));
    }
    let source = Source { path, file };
    if size_bytes <= LOOK_FIRST_UP_TO_BYTES {
        let digest = hash_file(&source.file).map_err(failed)?;
        if is_here(digest) {
            return Ok(Taken::Present(digest));
        }
        let staged = match source.clone_into(staging)? {
            Some(staged) => staged,
            None => source.copy(staging.create()?)?,
        };
        return Ok(Taken::Copied(hash_staged(staged, durable, hasher.clone())?));
    }
    Ok(Taken::Copied(match source.clone_into(staging)? {
        Some(staged) => hash_staged(staged, durable, hasher.clone())?,
        None => source.copy_hashing(staging.create()?, durable, hasher.clone())?,
    }))
}

/// Hashes a copy: whatever happens to the source meanwhile, the digest is that of what is stored.
fn hash_staged(staged: StagedFile, durable: bool, fresh: Hasher) -> Result<Verified, PutError> {
    let path = staged.path.as_path();
    let file = &staged.file;
    let hasher = thread::scope(|scope| {
        if durable {
            // Only to start early: the commit syncs again, and reports what fails.
            scope.spawn(move || drop(file.sync_data()));
        }
        hash_file_with(fresh.clone(), file)
    });
    let hasher = hasher.during("read", path)?;
    if is_packed(hasher.finish().size_bytes()) {
        // It shrank since it was opened.
        let content = fs::read(path).during("read", path)?;
        return Ok(Verified::hash(content.into(), fresh));
    }
    Ok(Verified::hashed(&hasher, Content::Staged(staged)))
}

/// Has the kernel start writing a part of a file to disk, without waiting for it. Only to start
/// early: the commit syncs, and reports what fails.
fn start_writing(file: &File, start: u64, length: usize) {
    // "Not needed" makes dirty pages be written; they stay in memory until they are.
    let _ = rustix::fs::fadvise(
        file,
        start,
        NonZeroU64::new(length as u64),
        rustix::fs::Advice::DontNeed,
    );
}

/// A file of the caller.
struct Source<'p> {
    path: &'p Path,
    file: File,
}

impl Source<'_> {
    /// Shares extents where the file system can.
    fn clone_into(&self, staging: &Staging) -> Result<Option<StagedFile>, PutError> {
        let staged = staging.create()?;
        let cloned = rustix::fs::ioctl_ficlone(&staged.file, &self.file);
        Ok(cloned.is_ok().then_some(staged))
    }

    /// Copies in the kernel, without a buffer of ours, where it can do that.
    fn copy(&self, mut staged: StagedFile) -> Result<StagedFile, PutError> {
        let copied = (&self.file)
            .rewind()
            .and_then(|()| io::copy(&mut &self.file, &mut staged.file));
        copied.map_err(|error| self.copy_failure(&staged, error))?;
        Ok(staged)
    }

    /// Copies and hashes in one pass, each on its own thread: what is hashed is read back from the
    /// copy while that is still in memory. With `durable`, the disk is set to work meanwhile.
    fn copy_hashing(
        &self,
        staged: StagedFile,
        durable: bool,
        mut hasher: Hasher,
    ) -> Result<Verified, PutError> {
        let copied = thread::scope(|scope| {
            let (to_hash, ends) = mpsc::channel::<u64>();
            let copy = &staged.file;
            let hashing = scope.spawn(move || {
                let mut piece = vec![0; HASH_BYTES_AT_ONCE];
                let mut start = 0;
                for end in ends {
                    while start < end {
                        let length = piece.len().min((end - start) as usize);
                        copy.read_exact_at(&mut piece[..length], start)?;
                        hasher.update(&piece[..length]);
                        start += length as u64;
                    }
                }
                Ok(hasher)
            });
            let mut end = 0;
            loop {
                let length = self.copy_piece(copy)?;
                if length == 0 {
                    break;
                }
                if durable {
                    start_writing(copy, end, length);
                }
                end += length as u64;
                if to_hash.send(end).is_err() {
                    break;
                }
            }
            drop(to_hash);
            let hashed = hashing.join();
            hashed.map_err(|_| io::Error::other("hashing failed"))?
        });
        let hasher = copied.map_err(|error| self.copy_failure(&staged, error))?;
        if is_packed(hasher.finish().size_bytes()) {
            // It shrank since it was opened.
            let path = staged.path.as_path();
            let content = fs::read(path).during("read", path)?;
            return Ok(Verified::hashed(&hasher, Content::Bytes(content.into())));
        }
        Ok(Verified::hashed(&hasher, Content::Staged(staged)))
    }

    /// Copies the next piece, within the kernel where it can do that; 0 at the end.
    fn copy_piece(&self, mut copy: &File) -> io::Result<usize> {
        match rustix::fs::copy_file_range(&self.file, None, copy, None, PIECE_BYTES) {
            Ok(length) if length > 0 => Ok(length),
            // At the end, or between file systems that cannot: the plain way finds out.
            _ => {
                let piece = io::copy(&mut (&self.file).take(PIECE_BYTES as u64), &mut copy)?;
                Ok(piece as usize)
            }
        }
    }

    /// Whether reading or writing failed does not show in the error: a full or read-only disk is
    /// the store's, anything else is put to the source.
    fn copy_failure(&self, staged: &StagedFile, error: io::Error) -> PutError {
        match PutError::from(IoFailure::new("write", staged.path.as_path(), error)) {
            PutError::Io(failure) => PutError::Source(IoFailure {
                action: "read",
                path: self.path.to_owned(),
                ..failure
            }),
            about_the_store => about_the_store,
        }
    }
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
        let expected = Expected::Blake3(Digest::of(b"ab"));
        let mut upload = Upload::new(Arc::clone(&staging), None, expected, false);
        upload.write(b"a").unwrap();
        assert!(matches!(
            upload.write(b"bc"),
            Err(PutError::DigestMismatch { .. })
        ));
        let short = Upload::new(staging, None, expected, false);
        assert!(matches!(
            short.finish(),
            Err(PutError::DigestMismatch { .. })
        ));
    }

    #[test]
    fn a_missing_source_is_the_callers_error() {
        let directory = tempfile::tempdir().unwrap();
        let staging = Staging::new(directory.path().into());
        let missing = directory.path().join("none");
        let error = take_file(&staging, &missing, true, &Hasher::new(), |_| false)
            .err()
            .unwrap();
        assert!(matches!(error, PutError::Source(_)), "{error}");
    }

    #[test]
    fn a_source_that_changes_while_it_is_stored_is_stored_as_it_was_copied() {
        let directory = tempfile::tempdir().unwrap();
        let staging = Staging::new(directory.path().into());
        let path = directory.path().join("source");
        for changed in [vec![2; 200_000], vec![3; 10]] {
            fs::write(&path, vec![1; 100_000]).unwrap();
            // Between looking and copying.
            let change = |_| fs::write(&path, &changed).is_err();
            let taken = take_file(&staging, &path, false, &Hasher::new(), change).unwrap();
            let Taken::Copied(verified) = taken else {
                panic!("it was written");
            };
            assert_eq!(verified.digest(), Digest::of(&changed));
            assert_eq!(content_of(verified), changed);
        }
    }

    #[test]
    fn one_pass_copies_and_hashes_the_same_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let staging = Staging::new(directory.path().into());
        let path = directory.path().join("source");
        for size in [10, 2 * PIECE_BYTES, 7 * PIECE_BYTES + 13] {
            let content: Vec<u8> = (0..size).map(|at| (at / 1000) as u8).collect();
            fs::write(&path, &content).unwrap();
            let source = Source {
                path: &path,
                file: File::open(&path).unwrap(),
            };
            let staged = staging.create().unwrap();
            let verified = source.copy_hashing(staged, true, Hasher::new()).unwrap();
            assert_eq!(verified.digest(), Digest::of(&content));
            assert_eq!(content_of(verified), content);
        }
    }

    #[test]
    fn what_is_here_is_not_copied() {
        let directory = tempfile::tempdir().unwrap();
        let staging = Staging::new(directory.path().join("tmp"));
        fs::create_dir(directory.path().join("tmp")).unwrap();
        let path = directory.path().join("source");
        let content = vec![1; 100_000];
        fs::write(&path, &content).unwrap();
        let taken = take_file(&staging, &path, true, &Hasher::new(), |_| true).unwrap();
        assert!(matches!(taken, Taken::Present(digest) if digest == Digest::of(&content)));
        assert_eq!(
            fs::read_dir(directory.path().join("tmp")).unwrap().count(),
            0
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn pieces_and_files_come_in_whole(
            sizes in prop::collection::vec(0usize..90_000, 0..5), seed in any::<u8>(),
            durable in any::<bool>(),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let staging = Arc::new(Staging::new(directory.path().into()));
            let mut upload = Upload::new(Arc::clone(&staging), None, Expected::Anything, false);
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
            let taken = take_file(&staging, &path, durable, &Hasher::new(), |_| false).unwrap();
            let Taken::Copied(verified) = taken else {
                panic!("nothing is here");
            };
            prop_assert_eq!(verified.digest(), Digest::of(&whole));
            prop_assert_eq!(content_of(verified), whole);
        }
    }
}
