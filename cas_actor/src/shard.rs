//! One shard: the only owner of its part of the digest space, on disk and in memory.
//!
//! Owns: presence, reading, verification, quarantine and deletion of its blobs and entries.
//! Does not know: mailboxes, replies or other shards (`shard_actor`, `store`).
//! Invariants: the size in a digest decides whether a blob is a record in the packs or a file of
//! its own, so presence is one fact in one place; bytes that do not match their digest are never
//! served; what is damaged loses its name before the error is answered.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;

use crate::action::ActionEntry;
use crate::blob::Blob;
use crate::commit::Committer;
use crate::digest::{Digest, HASH_BYTES, Hasher};
use crate::error::{During, GetError, IoFailure};
use crate::fs::Fs;
use crate::layout::{ActionKey, Kind, Layout, is_packed};
use crate::mapped;
use crate::memory::MemoryTier;
use crate::pack::{Name, Packs, Read};
use crate::seen::{Seen, Stamp};
use crate::stats::{Counters, Usage, count};
use crate::uses::Uses;

/// When reads check content against its digest. Blobs in the memory tier were checked when they
/// came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyReads {
    /// Every read of a small blob. A large one when it is read for the first time since the store was
    /// opened, again whenever its file was written to or replaced since it was checked, and when it is read
    /// [`recheck_large_after`](crate::StoreConfig::recheck_large_after) that. What decays on the disk between,
    /// without anybody writing, is found by the scrubber or by [`Store::verify`](crate::Store::verify); until
    /// then it is served.
    FirstLarge,
    /// Every read from disk: what is damaged is never served, and a large blob costs its hash each
    /// time.
    Always,
    /// Small blobs only; large ones are left to [`Store::verify`](crate::Store::verify).
    SmallOnly,
}

/// Whether a put had to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PutOutcome {
    /// The blob was new.
    Stored,
    /// The store held it already.
    Present,
}

/// What is read of a file at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// A blob that was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) blob: Blob,
    /// The file of a large blob.
    pub(crate) file: Option<Arc<File>>,
    /// The content must be checked against the digest before anybody gets it; the outcome goes
    /// to [`Shard::checked`].
    pub(crate) unchecked: bool,
}

impl Found {
    pub(crate) fn in_memory(blob: Blob) -> Self {
        Self {
            blob,
            file: None,
            unchecked: false,
        }
    }

    /// What the content is called. A file is read, not touched where it is mapped: it may be cut off, and
    /// then has another name. Its position stays, for who copies it.
    pub(crate) fn digest(&self) -> io::Result<Digest> {
        let (mut rest, mut hasher) = (self.blob.clone(), Hasher::new());
        while !rest.is_empty() {
            match rest.take_piece(PIECE_BYTES) {
                Ok(piece) => hasher.update(&piece),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            }
        }
        Ok(hasher.finish())
    }

    /// The same blob for another reader. Not the file: its position cannot be shared.
    pub(crate) fn share(&self) -> Self {
        Self::in_memory(self.blob.clone())
    }
}

/// The synchronous core of a shard actor.
pub(crate) struct Shard<F> {
    pub(crate) index: usize,
    /// First bytes of the hashes that this shard owns.
    pub(crate) fans: RangeInclusive<u8>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) counters: Arc<Counters>,
    /// Large blobs, once they were counted.
    pub(crate) files: Option<Usage>,
    pub(crate) memory: Arc<Mutex<MemoryTier>>,
    /// Uses of what others have answered.
    pub(crate) uses: Arc<Uses>,
    pub(crate) commit: Committer<F>,
    /// Opened at the first use: a program that asks little opens little.
    pub(crate) packs: Option<Packs<F>>,
    pub(crate) verify_reads: VerifyReads,
    /// Whether blobs that are met get their second name.
    pub(crate) sha256_names: bool,
    /// Large blobs that were checked since the store was opened.
    pub(crate) seen: Seen,
}

impl<F: Fs> Shard<F> {
    pub(crate) fn new(
        index: usize,
        fans: RangeInclusive<u8>,
        layout: Arc<Layout>,
        verify_reads: VerifyReads,
        memory: Arc<Mutex<MemoryTier>>,
        counters: Arc<Counters>,
        commit: Committer<F>,
    ) -> Self {
        let uses = lock(&memory).noted_uses();
        Self {
            index,
            fans,
            layout,
            counters,
            files: None,
            uses,
            memory,
            commit,
            packs: None,
            verify_reads,
            sha256_names: false,
            seen: Seen::default(),
        }
    }

    /// The packs, and the committer that writes to them.
    pub(crate) fn open_packs(&mut self) -> Result<(&mut Packs<F>, &mut Committer<F>), IoFailure> {
        let packs = match self.packs.take() {
            Some(packs) => packs,
            None => {
                let packs = Packs::open(
                    self.commit.fs.clone(),
                    self.layout.pack(self.index),
                    Arc::clone(&self.commit.staging),
                    Arc::clone(&self.counters),
                )?;
                self.commit.raise_flag(&packs);
                packs
            }
        };
        Ok((self.packs.insert(packs), &mut self.commit))
    }

    /// Leaves little to do for the next opening.
    pub(crate) fn close(&mut self) {
        let Some(packs) = &self.packs else {
            return;
        };
        if self.commit.is_in_doubt(packs)
            && let Err(failure) = self.sync()
        {
            tracing::warn!(%failure, "what a failed sync has left in doubt stays so");
        }
        let noted = self.note_reads();
        if let Some(packs) = &mut self.packs
            && let Err(failure) = noted.and_then(|()| packs.close())
        {
            tracing::warn!(%failure, "the next opening reads more than it should");
        }
    }

    /// Whether the blob is here; counts as a use of it.
    pub(crate) fn contains(&mut self, digest: &Digest) -> bool {
        if digest.is_empty_blob() {
            return true;
        }
        if is_packed(digest.size_bytes()) {
            return self.contains_packed(digest);
        }
        let path = self.layout.blob(digest.hash());
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() == digest.size_bytes() => {
                self.mark_used(digest.hash(), &metadata);
                true
            }
            _ => false,
        }
    }

    fn contains_packed(&mut self, digest: &Digest) -> bool {
        let Ok((packs, _)) = self.open_packs() else {
            return false;
        };
        let name = (*digest.hash(), Kind::Blob);
        let place = packs.touch(&name);
        place.is_some_and(|place| {
            u64::from(place.size) == digest.size_bytes() && packs.reaches(&place)
        })
    }

    /// Reads a blob. A large one may still have to be checked, which takes long: the caller says
    /// where.
    pub(crate) fn get(&mut self, digest: &Digest) -> Result<Found, GetError> {
        if digest.is_empty_blob() {
            return Ok(Found::in_memory(Bytes::new().into()));
        }
        let started = Instant::now();
        let found = match is_packed(digest.size_bytes()) {
            true => self.read_packed(digest),
            false => self.read_file(digest),
        };
        self.counters.get_latency.record(started.elapsed());
        match &found {
            Ok(found) => {
                count(&self.counters.disk_hits, 1);
                self.counters.get_bytes.add(found.blob.len() as u64);
            }
            Err(GetError::NotFound(_)) => count(&self.counters.misses, 1),
            Err(_) => {}
        }
        found
    }

    fn read_packed(&mut self, digest: &Digest) -> Result<Found, GetError> {
        let (packs, _) = self.open_packs()?;
        let name = (*digest.hash(), Kind::Blob);
        packs
            .touch(&name)
            .filter(|place| u64::from(place.size) == digest.size_bytes())
            .ok_or(GetError::NotFound(*digest))?;
        match packs.read(&name)? {
            Read::Missing => Err(GetError::NotFound(*digest)),
            Read::Damaged(bytes) => Err(GetError::Corrupt {
                digest: *digest,
                quarantined: self.quarantine_record(&name, &bytes),
            }),
            Read::Intact(bytes) => {
                let blob = Blob::from(bytes);
                lock(&self.memory).admit(digest.hash(), blob.clone(), Instant::now());
                Ok(Found::in_memory(blob))
            }
        }
    }

    /// Reads a large blob, without counting that.
    pub(crate) fn read_file(&mut self, digest: &Digest) -> Result<Found, GetError> {
        let path = self.layout.blob(digest.hash());
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(GetError::NotFound(*digest));
            }
            opened => opened.during("open", &path)?,
        };
        let metadata = file.metadata().during("read", &path)?;
        let has_size = metadata.len() == digest.size_bytes();
        let stamp = Stamp::of_file(&file);
        let checked = stamp.and_then(|stamp| self.seen.checked_at(digest.hash(), stamp));
        let is_seen = checked.is_some();
        if has_size {
            self.mark_used(digest.hash(), &metadata);
        } else if is_seen {
            // The file is intact, so the asker has the wrong size.
            return Err(GetError::NotFound(*digest));
        }
        let map = mapped::map(&file).during("map", &path)?;
        let unchecked = match self.verify_reads {
            // Either the file is damaged, or the asker has the wrong size.
            _ if !has_size => true,
            VerifyReads::Always => true,
            VerifyReads::FirstLarge => !is_seen,
            VerifyReads::SmallOnly => false,
        };
        let file = Arc::new(file);
        let found = Found {
            blob: Blob::from_map(map, Arc::clone(&file)),
            file: Some(file),
            unchecked,
        };
        if !unchecked {
            self.keep_open(digest, &found.blob, stamp, checked);
        }
        Ok(found)
    }

    /// The next reader of a large blob needs not ask the shard as long as the check counts, unless all are to
    /// be checked.
    fn keep_open(
        &self,
        digest: &Digest,
        blob: &Blob,
        stamp: Option<Stamp>,
        checked: Option<Instant>,
    ) {
        let until = match self.verify_reads {
            VerifyReads::Always => return,
            VerifyReads::FirstLarge => checked.and_then(|checked| self.seen.trusted_until(checked)),
            VerifyReads::SmallOnly => None,
        };
        lock(&self.memory).keep_open(digest.hash(), blob.clone(), stamp, until, Instant::now());
    }

    /// Takes the outcome of the check that [`get`](Self::get) asked for: what was found is called that.
    pub(crate) fn checked(
        &mut self,
        digest: &Digest,
        found: Found,
        called: io::Result<Digest>,
    ) -> Result<Found, GetError> {
        let path = self.layout.blob(digest.hash());
        let called = called.during("read", &path)?;
        if called.hash() == digest.hash() {
            let stamp = found.file.as_deref().and_then(Stamp::of_file);
            if stamp.is_some_and(|stamp| self.seen.passed(digest.hash(), stamp)) {
                self.keep_open(digest, &found.blob, stamp, Some(Instant::now()));
            }
            if called != *digest {
                return Err(GetError::NotFound(*digest));
            }
            return Ok(Found {
                unchecked: false,
                ..found
            });
        }
        let is_that_file = match (&found.file, fs::metadata(&path)) {
            (Some(file), Ok(now)) => file.metadata().is_ok_and(|then| then.ino() == now.ino()),
            _ => false,
        };
        if !is_that_file {
            // Deleted, and perhaps put anew, while it was checked.
            return Err(GetError::NotFound(*digest));
        }
        Err(self.damaged(digest, &path))
    }

    fn damaged(&mut self, digest: &Digest, path: &Path) -> GetError {
        match self.quarantine_file(digest.hash(), path) {
            Ok(quarantined) => GetError::Corrupt {
                digest: *digest,
                quarantined,
            },
            Err(failure) => failure.into(),
        }
    }

    /// Moves a damaged file out of the way.
    pub(crate) fn quarantine_file(
        &mut self,
        hash: &[u8; HASH_BYTES],
        path: &Path,
    ) -> Result<PathBuf, IoFailure> {
        count(&self.counters.corrupt, 1);
        let size_bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
        self.forget_file(hash, size_bytes);
        let directory = self.layout.quarantine();
        let target = directory.join(Digest::new(*hash, 0).hex());
        let moved = fs::create_dir_all(&directory).and_then(|()| fs::rename(path, &target));
        if moved.is_err() {
            // Without room for a quarantine the damaged file still must not keep its name.
            fs::remove_file(path).during("remove the damaged", path)?;
        }
        tracing::warn!(file = %path.display(), moved_to = %target.display(), "damaged blob");
        Ok(target)
    }

    /// Takes a damaged record out of the index and keeps its bytes for a person to look at.
    pub(crate) fn quarantine_record(&mut self, name: &Name, bytes: &[u8]) -> PathBuf {
        count(&self.counters.corrupt, 1);
        lock(&self.memory).remove(&name.0);
        if let Some(packs) = &mut self.packs {
            packs.remove(name);
        }
        let hex = Digest::new(name.0, 0).hex();
        let directory = self.layout.quarantine();
        let target = directory.join(match name.1 {
            Kind::Blob => hex,
            Kind::Action => format!("action-{hex}"),
            Kind::Link => format!("link-{hex}"),
        });
        let kept = fs::create_dir_all(&directory).and_then(|()| fs::write(&target, bytes));
        tracing::warn!(moved_to = %target.display(), ?kept, "damaged record");
        target
    }

    /// Removes a blob; says whether it was here.
    pub(crate) fn delete(&mut self, digest: &Digest) -> Result<bool, IoFailure> {
        if is_packed(digest.size_bytes()) {
            self.delete_record(&(*digest.hash(), Kind::Blob))
        } else {
            self.delete_file(digest.hash(), digest.size_bytes())
        }
    }

    pub(crate) fn delete_record(&mut self, name: &Name) -> Result<bool, IoFailure> {
        if name.1 == Kind::Blob {
            lock(&self.memory).remove(&name.0);
        }
        let (packs, _) = self.open_packs()?;
        let removed = packs.remove(name);
        self.note_held();
        Ok(removed)
    }

    pub(crate) fn delete_file(
        &mut self,
        hash: &[u8; HASH_BYTES],
        size_bytes: u64,
    ) -> Result<bool, IoFailure> {
        let path = self.layout.blob(hash);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(IoFailure::new("remove", &path, error)),
            Ok(()) => {
                self.forget_file(hash, size_bytes);
                Ok(true)
            }
        }
    }

    fn forget_file(&mut self, hash: &[u8; HASH_BYTES], size_bytes: u64) {
        self.seen.forget(hash);
        lock(&self.memory).remove(hash);
        self.counters.held.subtract_files(size_bytes);
        if let Some(files) = &mut self.files {
            files.subtract(Kind::Blob, size_bytes);
        }
    }

    /// Reads an action entry. A damaged one is reported once, set aside, and is a miss.
    pub(crate) fn get_action(&mut self, key: &ActionKey) -> Result<Option<ActionEntry>, IoFailure> {
        let (packs, _) = self.open_packs()?;
        let name = (*key, Kind::Action);
        packs.touch(&name);
        let entry = match packs.read(&name)? {
            Read::Missing => None,
            Read::Intact(bytes) => ActionEntry::decode(key, &bytes).ok(),
            Read::Damaged(bytes) => {
                self.quarantine_record(&name, &bytes);
                None
            }
        };
        let counter = match &entry {
            Some(_) => &self.counters.action_hits,
            None => &self.counters.action_misses,
        };
        count(counter, 1);
        Ok(entry)
    }

    /// Removes an action entry; says whether it was here.
    pub(crate) fn delete_action(&mut self, key: &ActionKey) -> Result<bool, IoFailure> {
        self.delete_record(&(*key, Kind::Action))
    }

    /// Makes everything acknowledged as relaxed durable.
    pub(crate) fn sync(&mut self) -> Result<(), IoFailure> {
        let (packs, commit) = self.open_packs()?;
        let synced = commit.sync(packs);
        self.set_lost_aside();
        synced
    }

    /// What a failed sync has taken must not be found any more.
    pub(crate) fn set_lost_aside(&mut self) {
        for hash in std::mem::take(&mut self.commit.lost) {
            let path = self.layout.blob(&hash);
            if let Err(failure) = self.quarantine_file(&hash, &path) {
                tracing::warn!(%failure, "a damaged blob keeps its name");
            }
        }
    }
}

/// A reader that panicked cannot have left the tier half changed in a way that matters more
/// than a lost cache entry.
pub(crate) fn lock(memory: &Mutex<MemoryTier>) -> std::sync::MutexGuard<'_, MemoryTier> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}
