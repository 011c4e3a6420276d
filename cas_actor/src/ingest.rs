//! Content on its way from a caller into a verified, unnamed state.
//!
//! Owns: hashing what arrives in pieces.
//! Does not know: shards; a finished upload is handed to the store. Files of the caller (`take`).
//! Invariant: the stored bytes are the bytes that were hashed.
#![forbid(unsafe_code)]

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use crate::budget::Reservation;
use crate::digest::{Digest, Hasher};
use crate::error::{During, IoFailure, PutError};
use crate::layout::PACK_UP_TO_BYTES;
use crate::maintain::hash_file_with;
use crate::partial::Slot;
use crate::room::Room;
use crate::sha256::Sha256Digest;
use crate::staging::{Content, Expected, StagedFile, Staging, Verified};

/// Content that will be packed stays in memory until it is committed.
const SPILL_ABOVE_BYTES: usize = PACK_UP_TO_BYTES as usize;

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
            true => self.spill(),
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
        if let Some(room) = &self.room {
            let said_bytes = self.expected.size_bytes();
            room.extend(&mut self.reservation, self.written_bytes, said_bytes)?;
        }
        self.spill()?;
        let start = self.written_bytes - piece.len() as u64;
        self.write_staged(piece, start)?;
        Ok(())
    }

    /// Writes to the file; once more where the disk was full and eviction has made room.
    fn write_staged(&self, piece: &[u8], offset: u64) -> Result<(), IoFailure> {
        let Some(staged) = &self.spilled else {
            return Ok(());
        };
        let written = self.staging.write(staged, piece, offset);
        match (&written, &self.room) {
            (Err(failure), Some(room)) if failure.is_full() => {
                // More than this piece is to come; what came before has its room.
                let expected = self.expected.size_bytes().unwrap_or(0);
                let to_come = expected.saturating_sub(offset);
                match room.relieve_waiting(piece.len() as u64, to_come) {
                    true => self.staging.write(staged, piece, offset),
                    false => written,
                }
            }
            _ => written,
        }
    }

    /// From now on the content is in a file.
    fn spill(&mut self) -> Result<(), IoFailure> {
        if self.spilled.is_none() {
            let staged = match self.slot.take() {
                Some(slot) => slot.create(),
                None => self.staging.create(),
            };
            self.spilled = Some(staged?);
        }
        let first = std::mem::take(&mut self.buffer);
        match first.is_empty() {
            true => Ok(()),
            false => self.write_staged(&first, 0),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::RealFs;
    use crate::take::tests::content_of;
    use proptest::prelude::*;

    #[test]
    fn an_upload_larger_than_promised_stops_early() {
        let directory = tempfile::tempdir().unwrap();
        let staging = Arc::new(Staging::new(directory.path().into(), RealFs));
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn pieces_come_in_whole(
            sizes in prop::collection::vec(0usize..90_000, 0..5), seed in any::<u8>(),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let staging = Arc::new(Staging::new(directory.path().into(), RealFs));
            let mut upload = Upload::new(Arc::clone(&staging), None, Expected::Anything, false);
            let mut whole = Vec::new();
            for size in sizes {
                let piece: Vec<u8> = (0..size).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect();
                upload.write(&piece).unwrap();
                whole.extend(piece);
            }
            let verified = upload.finish().unwrap();
            prop_assert_eq!(verified.digest(), Digest::of(&whole));
            prop_assert_eq!(content_of(verified), whole);
        }
    }
}
