//! One shard: the only owner of its part of the digest space, on disk and in memory.
//!
//! Owns: presence, reading, verification, quarantine and deletion of its blobs and entries.
//! Does not know: mailboxes, replies or other shards (`shard_actor`, `store`).
//! Invariants: presence is the file under its name, so "present" and "readable" are one fact;
//! bytes that do not match their digest are never served; a damaged file leaves its name before
//! the error is answered.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use crate::action::ActionEntry;
use crate::blob::Blob;
use crate::commit::Committer;
use crate::digest::{Digest, HASH_BYTES};
use crate::error::{During, GetError, IoFailure};
use crate::fs::Fs;
use crate::layout::{ActionKey, Kind, Layout};
use crate::maintain::hash_file;
use crate::mapped;
use crate::memory::MemoryTier;
use crate::stats::{Counters, count};

/// A use is written down (as the file's modification time) at most this often.
const USE_GRANULARITY: Duration = Duration::from_secs(60);

/// When reads check content against its digest. Blobs in the memory tier were checked when they
/// came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyReads {
    /// Every read of a small blob, and the first read of a large one since the store was opened.
    FirstLarge,
    /// Every read from disk.
    Always,
    /// Small blobs only; large ones are left to [`Store::verify`](crate::Store::verify).
    SmallOnly,
}

/// What a shard needs to know of the configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShardConfig {
    /// Larger blobs are mapped, others are read.
    pub(crate) map_above_bytes: u64,
    pub(crate) verify_reads: VerifyReads,
}

/// Whether a put had to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PutOutcome {
    /// The blob was new.
    Stored,
    /// The store held it already.
    Present,
}

/// A blob that was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) blob: Blob,
    /// The file of a large blob.
    pub(crate) file: Option<File>,
}

/// Blobs and entries of a shard on disk.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) blobs: u64,
    pub(crate) blob_bytes: u64,
    pub(crate) actions: u64,
    pub(crate) action_bytes: u64,
}

impl Usage {
    fn of(&mut self, kind: Kind) -> (&mut u64, &mut u64) {
        match kind {
            Kind::Blob => (&mut self.blobs, &mut self.blob_bytes),
            Kind::Action => (&mut self.actions, &mut self.action_bytes),
        }
    }

    pub(crate) fn add(&mut self, kind: Kind, size_bytes: u64) {
        let (number, bytes) = self.of(kind);
        *number += 1;
        *bytes += size_bytes;
    }

    pub(crate) fn subtract(&mut self, kind: Kind, size_bytes: u64) {
        let (number, bytes) = self.of(kind);
        *number = number.saturating_sub(1);
        *bytes = bytes.saturating_sub(size_bytes);
    }
}

/// The synchronous core of a shard actor.
pub(crate) struct Shard<F> {
    /// First bytes of the hashes that this shard owns.
    pub(crate) fans: RangeInclusive<u8>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) usage: Option<Usage>,
    config: ShardConfig,
    pub(crate) memory: Arc<Mutex<MemoryTier>>,
    pub(crate) commit: Committer<F>,
    /// Large blobs that were checked since the store was opened.
    checked: HashSet<[u8; HASH_BYTES]>,
}

impl<F: Fs> Shard<F> {
    pub(crate) fn new(
        fans: RangeInclusive<u8>,
        layout: Arc<Layout>,
        config: ShardConfig,
        memory: Arc<Mutex<MemoryTier>>,
        counters: Arc<Counters>,
        commit: Committer<F>,
    ) -> Self {
        Self {
            fans,
            layout,
            counters,
            usage: None,
            config,
            memory,
            commit,
            checked: HashSet::new(),
        }
    }

    /// Whether the blob is here; counts as a use of it.
    pub(crate) fn contains(&mut self, digest: &Digest) -> bool {
        if digest.is_empty_blob() {
            return true;
        }
        let path = self.layout.path(Kind::Blob, digest.hash());
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() == digest.size_bytes() => {
                mark_used(&path, &metadata);
                true
            }
            _ => false,
        }
    }

    /// Reads a blob.
    pub(crate) fn get(&mut self, digest: &Digest) -> Result<Found, GetError> {
        if digest.is_empty_blob() {
            return Ok(Found {
                blob: Blob::from(Bytes::new()),
                file: None,
            });
        }
        let started = Instant::now();
        let found = self.read(digest);
        self.counters.get_latency.record(started.elapsed());
        match &found {
            Ok(found) => {
                count(&self.counters.disk_hits, 1);
                count(&self.counters.get_bytes, found.blob.len() as u64);
            }
            Err(GetError::NotFound(_)) => count(&self.counters.misses, 1),
            Err(_) => {}
        }
        found
    }

    fn read(&mut self, digest: &Digest) -> Result<Found, GetError> {
        let path = self.layout.path(Kind::Blob, digest.hash());
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(GetError::NotFound(*digest));
            }
            opened => opened.during("open", &path)?,
        };
        let metadata = file.metadata().during("read", &path)?;
        if metadata.len() != digest.size_bytes() {
            return Err(self.judge_size(digest, &path, &file));
        }
        mark_used(&path, &metadata);
        if metadata.len() > self.config.map_above_bytes {
            self.read_large(digest, &path, file)
        } else {
            self.read_small(digest, &path, file)
        }
    }

    fn read_small(
        &mut self,
        digest: &Digest,
        path: &Path,
        mut file: File,
    ) -> Result<Found, GetError> {
        let mut content = Vec::with_capacity(digest.size_bytes() as usize);
        file.read_to_end(&mut content).during("read", path)?;
        if Digest::of(&content) != *digest {
            return Err(self.damaged(digest, path));
        }
        let blob = Blob::from(Bytes::from(content));
        lock(&self.memory).admit(digest.hash(), blob.clone(), Instant::now());
        Ok(Found { blob, file: None })
    }

    fn read_large(&mut self, digest: &Digest, path: &Path, file: File) -> Result<Found, GetError> {
        let map = mapped::map(&file).during("map", path)?;
        let check = match self.config.verify_reads {
            VerifyReads::Always => true,
            VerifyReads::FirstLarge => !self.checked.contains(digest.hash()),
            VerifyReads::SmallOnly => false,
        };
        if check {
            if Digest::of(&map) != *digest {
                return Err(self.damaged(digest, path));
            }
            self.checked.insert(*digest.hash());
        }
        Ok(Found {
            blob: Blob::from_map(map),
            file: Some(file),
        })
    }

    /// The file has another size than the digest says: either the file is damaged, or the asker
    /// has the wrong size.
    fn judge_size(&mut self, digest: &Digest, path: &Path, file: &File) -> GetError {
        match hash_file(file) {
            Err(error) => IoFailure::new("read", path, error).into(),
            Ok(found) if found.hash() == digest.hash() => GetError::NotFound(*digest),
            Ok(_) => self.damaged(digest, path),
        }
    }

    /// Moves a damaged blob out of the way.
    fn damaged(&mut self, digest: &Digest, path: &Path) -> GetError {
        match self.quarantine(Kind::Blob, digest.hash(), path) {
            Ok(quarantined) => GetError::Corrupt {
                digest: *digest,
                quarantined,
            },
            Err(failure) => failure.into(),
        }
    }

    pub(crate) fn quarantine(
        &mut self,
        kind: Kind,
        hash: &[u8; HASH_BYTES],
        path: &Path,
    ) -> Result<PathBuf, IoFailure> {
        count(&self.counters.corrupt, 1);
        self.forget(hash);
        let size_bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
        let directory = self.layout.quarantine();
        let name = match kind {
            Kind::Blob => Digest::new(*hash, 0).hex(),
            Kind::Action => format!("action-{}", Digest::new(*hash, 0).hex()),
        };
        let target = directory.join(name);
        let moved = fs::create_dir_all(&directory).and_then(|()| fs::rename(path, &target));
        if moved.is_err() {
            // Without room for a quarantine the damaged file still must not keep its name.
            fs::remove_file(path).during("remove the damaged", path)?;
        }
        if let Some(usage) = &mut self.usage {
            usage.subtract(kind, size_bytes);
        }
        tracing::warn!(file = %path.display(), moved_to = %target.display(), "damaged file in the store");
        Ok(target)
    }

    /// Removes a blob; says whether it was here.
    pub(crate) fn delete(&mut self, digest: &Digest) -> Result<bool, IoFailure> {
        let path = self.layout.path(Kind::Blob, digest.hash());
        self.remove(Kind::Blob, digest.hash(), &path, digest.size_bytes())
    }

    pub(crate) fn remove(
        &mut self,
        kind: Kind,
        hash: &[u8; HASH_BYTES],
        path: &Path,
        size_bytes: u64,
    ) -> Result<bool, IoFailure> {
        if kind == Kind::Blob {
            self.forget(hash);
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(IoFailure::new("remove", path, error)),
            Ok(()) => {
                if let Some(usage) = &mut self.usage {
                    usage.subtract(kind, size_bytes);
                }
                Ok(true)
            }
        }
    }

    fn forget(&mut self, hash: &[u8; HASH_BYTES]) {
        lock(&self.memory).remove(hash);
        self.checked.remove(hash);
    }

    /// Reads an action entry. A damaged one is reported once, moved away, and is a miss.
    pub(crate) fn get_action(&mut self, key: &ActionKey) -> Result<Option<ActionEntry>, IoFailure> {
        let path = self.layout.path(Kind::Action, key);
        let stored = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                count(&self.counters.action_misses, 1);
                return Ok(None);
            }
            read => Bytes::from(read.during("read", &path)?),
        };
        match ActionEntry::decode(key, &stored) {
            Ok(entry) => {
                count(&self.counters.action_hits, 1);
                if let Ok(metadata) = fs::metadata(&path) {
                    mark_used(&path, &metadata);
                }
                Ok(Some(entry))
            }
            Err(error) => {
                tracing::warn!(%error, "dropping an action entry");
                count(&self.counters.action_misses, 1);
                self.quarantine(Kind::Action, key, &path)?;
                Ok(None)
            }
        }
    }

    /// Removes an action entry; says whether it was here.
    pub(crate) fn delete_action(&mut self, key: &ActionKey) -> Result<bool, IoFailure> {
        let path = self.layout.path(Kind::Action, key);
        let size_bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        self.remove(Kind::Action, key, &path, size_bytes)
    }

    /// Makes everything acknowledged as relaxed durable.
    pub(crate) fn sync(&mut self) -> Result<(), IoFailure> {
        self.commit.sync()
    }
}

/// A reader that panicked cannot have left the tier half changed in a way that matters more
/// than a lost cache entry.
pub(crate) fn lock(memory: &Mutex<MemoryTier>) -> std::sync::MutexGuard<'_, MemoryTier> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes the use of a file for eviction. Failing to (a read-only disk) does no harm.
fn mark_used(path: &Path, metadata: &Metadata) {
    let fresh = metadata.modified().is_ok_and(|used| {
        SystemTime::now().duration_since(used).unwrap_or_default() < USE_GRANULARITY
    });
    if fresh {
        return;
    }
    let stamp = |nanos| Timespec {
        tv_sec: 0,
        tv_nsec: nanos,
    };
    let times = Timestamps {
        last_access: stamp(UTIME_OMIT),
        last_modification: stamp(UTIME_NOW),
    };
    let _ = rustix::fs::utimensat(CWD, path, &times, AtFlags::empty());
}
