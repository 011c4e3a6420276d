//! Files of the caller on their way into a verified, unnamed state.
//!
//! Owns: copying and hashing them, and noticing that a copy is not needed.
//! Does not know: shards; what was copied is handed to the store.
//! Invariants: the stored bytes are the bytes that were hashed, also when the caller's file
//! changes meanwhile; nothing in the store shares an inode with a file of the caller.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Read as _, Seek};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use crate::digest::{Digest, Hasher};
use crate::error::{During, IoFailure, PutError};
use crate::huge::LOOK_FIRST_UP_TO_BYTES;
use crate::layout::is_packed;
use crate::maintain::{hash_file, hash_file_with};
use crate::staging::{Content, StagedFile, Staging, Verified};

/// How much is copied at a time.
const PIECE_BYTES: usize = 8 * 1024 * 1024;
/// How much is hashed at a time: it stays in the cache of the core.
const HASH_BYTES_AT_ONCE: usize = 256 * 1024;

/// What became of a file of the caller.
pub(crate) enum Taken {
    /// The store holds its content already.
    Present(Digest),
    /// A copy that can be committed.
    Copied(Verified),
}

/// What the store holds already.
pub(crate) trait Held {
    /// Whether it holds a huge blob of this size.
    fn size(&self, size_bytes: u64) -> bool;
    /// Whether it holds this blob.
    fn blob(&self, digest: Digest) -> bool;
}

/// Takes a copy of a file of the caller unless the store holds its content. With `durable`, the
/// copy goes to disk while it is hashed.
pub(crate) fn take_file(
    staging: &Staging,
    path: &Path,
    durable: bool,
    hasher: &Hasher,
    held: &impl Held,
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
    let is_huge = size_bytes > LOOK_FIRST_UP_TO_BYTES;
    if !is_huge || held.size(size_bytes) {
        let digest = hash_file(&source.file).map_err(failed)?;
        if held.blob(digest) {
            return Ok(Taken::Present(digest));
        }
    }
    let staged = match source.clone_into(staging)? {
        Some(staged) => staged,
        None if is_huge => {
            let copied = source.copy_hashing(staging, durable, hasher.clone());
            return copied.map(Taken::Copied);
        }
        None => source.copy(staging)?,
    };
    hash_staged(staging, staged, durable, hasher.clone()).map(Taken::Copied)
}

/// Hashes a copy: whatever happens to the source meanwhile, the digest is that of what is stored.
fn hash_staged(
    staging: &Staging,
    staged: StagedFile,
    durable: bool,
    fresh: Hasher,
) -> Result<Verified, PutError> {
    let path = staged.path.as_path();
    let file = &staged.file;
    let (hasher, synced) = thread::scope(|scope| {
        // To start early. What fails is told here: the sync of the commit would not be told again.
        let syncing = durable.then(|| scope.spawn(|| staging.disk.sync_file(file)));
        let hasher = hash_file_with(fresh.clone(), file);
        let synced = syncing.map_or(Ok(Ok(())), thread::ScopedJoinHandle::join);
        (
            hasher,
            synced.unwrap_or_else(|_| Err(io::Error::other("syncing failed"))),
        )
    });
    synced.during("sync", path)?;
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
        let cloned = staging.disk.clone_file(&self.file, &staged.file);
        Ok(cloned.is_ok().then_some(staged))
    }

    /// Copies in the kernel, without a buffer of ours, where it can do that.
    fn copy(&self, staging: &Staging) -> Result<StagedFile, PutError> {
        let staged = staging.create()?;
        let copy = || {
            (&self.file).rewind()?;
            while staging
                .disk
                .copy_piece(&self.file, &staged.file, PIECE_BYTES)?
                > 0
            {}
            Ok(())
        };
        copy().map_err(|error| self.copy_failure(&staged, error))?;
        Ok(staged)
    }

    /// Copies and hashes in one pass, each on its own thread: what is hashed is read back from the
    /// copy while that is still in memory. With `durable`, the disk is set to work meanwhile.
    fn copy_hashing(
        &self,
        staging: &Staging,
        durable: bool,
        mut hasher: Hasher,
    ) -> Result<Verified, PutError> {
        let staged = staging.create()?;
        // It may have been read to its end.
        let rewound = (&self.file).rewind();
        rewound.map_err(|error| self.copy_failure(&staged, error))?;
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
                let length = staging.disk.copy_piece(&self.file, copy, PIECE_BYTES)?;
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
pub(crate) mod tests {
    use super::*;
    use crate::fs::RealFs;
    use proptest::prelude::*;

    /// A store that holds no blob, and before it says so does this.
    struct Nothing<F>(F);

    impl<F: Fn()> Held for Nothing<F> {
        fn size(&self, _: u64) -> bool {
            false
        }

        fn blob(&self, _: Digest) -> bool {
            self.0();
            false
        }
    }

    /// A store that holds blobs of this size, and this one blob.
    struct Holds(Digest);

    impl Held for Holds {
        fn size(&self, size_bytes: u64) -> bool {
            size_bytes == self.0.size_bytes()
        }

        fn blob(&self, digest: Digest) -> bool {
            digest == self.0
        }
    }

    #[test]
    fn a_huge_file_of_a_known_size_is_looked_for_before_it_is_copied() {
        let directory = tempfile::tempdir().unwrap();
        let staging = Staging::new(directory.path().into(), RealFs);
        let path = directory.path().join("huge");
        let size = LOOK_FIRST_UP_TO_BYTES + 1;
        // Holes: it takes no room and is read fast.
        File::create(&path).unwrap().set_len(size).unwrap();
        let digest = hash_file(&File::open(&path).unwrap()).unwrap();
        let take = |held: &Holds| take_file(&staging, &path, false, &Hasher::new(), held).unwrap();
        assert!(matches!(take(&Holds(digest)), Taken::Present(found) if found == digest));
        // Another blob of that size.
        let other = Digest::new([7; 32], size);
        let Taken::Copied(copy) = take(&Holds(other)) else {
            panic!("it is not here");
        };
        assert_eq!(copy.digest(), digest);
    }

    pub(crate) fn content_of(verified: Verified) -> Vec<u8> {
        match verified.into_content() {
            Content::Bytes(bytes) => bytes.to_vec(),
            Content::Staged(staged) => fs::read(staged.path.as_path()).unwrap(),
        }
    }

    #[test]
    fn a_missing_source_is_the_callers_error() {
        let directory = tempfile::tempdir().unwrap();
        let staging = Staging::new(directory.path().into(), RealFs);
        let missing = directory.path().join("none");
        let error = take_file(&staging, &missing, true, &Hasher::new(), &Nothing(|| ()))
            .err()
            .unwrap();
        assert!(matches!(error, PutError::Source(_)), "{error}");
    }

    #[test]
    fn a_source_that_changes_while_it_is_stored_is_stored_as_it_was_copied() {
        let directory = tempfile::tempdir().unwrap();
        let staging = Staging::new(directory.path().into(), RealFs);
        let path = directory.path().join("source");
        for changed in [vec![2; 200_000], vec![3; 10]] {
            fs::write(&path, vec![1; 100_000]).unwrap();
            // Between looking and copying.
            let change = Nothing(|| fs::write(&path, &changed).unwrap());
            let taken = take_file(&staging, &path, false, &Hasher::new(), &change).unwrap();
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
        let staging = Staging::new(directory.path().into(), RealFs);
        let path = directory.path().join("source");
        for size in [10, 2 * PIECE_BYTES, 7 * PIECE_BYTES + 13] {
            let content: Vec<u8> = (0..size).map(|at| (at / 1000) as u8).collect();
            fs::write(&path, &content).unwrap();
            let source = Source {
                path: &path,
                file: File::open(&path).unwrap(),
            };
            let verified = source.copy_hashing(&staging, true, Hasher::new());
            let verified = verified.unwrap();
            assert_eq!(verified.digest(), Digest::of(&content));
            assert_eq!(content_of(verified), content);
        }
    }

    #[test]
    fn what_is_here_is_not_copied() {
        let directory = tempfile::tempdir().unwrap();
        let staging = Staging::new(directory.path().join("tmp"), RealFs);
        fs::create_dir(directory.path().join("tmp")).unwrap();
        let path = directory.path().join("source");
        let content = vec![1; 100_000];
        fs::write(&path, &content).unwrap();
        let holds = Holds(Digest::of(&content));
        let taken = take_file(&staging, &path, true, &Hasher::new(), &holds).unwrap();
        assert!(matches!(taken, Taken::Present(digest) if digest == Digest::of(&content)));
        assert_eq!(
            fs::read_dir(directory.path().join("tmp")).unwrap().count(),
            0
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn files_come_in_whole(
            size in 0usize..300_000, seed in any::<u8>(), durable in any::<bool>(),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let staging = Staging::new(directory.path().into(), RealFs);
            let whole: Vec<u8> = (0..size).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect();
            let path = directory.path().join("source");
            fs::write(&path, &whole).unwrap();
            let taken = take_file(&staging, &path, durable, &Hasher::new(), &Nothing(|| ()));
            let Taken::Copied(verified) = taken.unwrap() else {
                panic!("nothing is here");
            };
            prop_assert_eq!(verified.digest(), Digest::of(&whole));
            prop_assert_eq!(content_of(verified), whole);
        }
    }
}
