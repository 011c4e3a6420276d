//! Which large blobs are known to be what their names say.
//!
//! Owns: what of a file tells that somebody has written to it, and the stamps of use, which change that.
//! Does not know: hashing, or who reads.
//! Invariants: a file that is another one than was checked, or of another size or other times, is not
//! known; a stamp of use that we set ourselves does not count as a change; what is remembered is bounded.
//!
//! A bit that flips on the disk changes none of that. It is found by the first read a day after the last
//! check (`StoreConfig::recheck_large_after`), by the scrubber, by [`Store::verify`](crate::Store::verify), or by who reads
//! with [`VerifyReads::Always`](crate::VerifyReads).
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use crate::digest::HASH_BYTES;
use crate::fs::Fs;
use crate::memory::DigestBuild;
use crate::pack::seconds;
use crate::shard::{Shard, lock};

/// A use is written down (as the file's modification time) at most this often.
const USE_GRANULARITY: Duration = Duration::from_secs(1);
/// A file that is read so long after it was checked is checked again, unless the store is told otherwise.
pub(crate) const TRUSTED_FOR: Duration = Duration::from_secs(24 * 3600);
/// Large blobs that are remembered; then all are forgotten, and checked once more.
const REMEMBERED: usize = 64 * 1024;

/// What is not the same after somebody has written to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    size_bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size_bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// That of an open file as it is now.
    pub(crate) fn of_file(file: &File) -> Option<Self> {
        file.metadata().ok().as_ref().map(Self::of)
    }
}

#[derive(Debug)]
struct Watched {
    stamp: Stamp,
    checked: Option<Instant>,
}

/// The large blobs of a shard that were read since it was opened.
#[derive(Debug)]
pub(crate) struct Seen {
    files: HashMap<[u8; HASH_BYTES], Watched, DigestBuild>,
    /// How long a check counts.
    pub(crate) trusted_for: Duration,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            files: HashMap::default(),
            trusted_for: TRUSTED_FOR,
        }
    }
}

impl Seen {
    /// When the file was checked as it is, if that still counts. From here on it is watched.
    pub(crate) fn checked_at(&mut self, hash: &[u8; HASH_BYTES], stamp: Stamp) -> Option<Instant> {
        if self.files.len() >= REMEMBERED && !self.files.contains_key(hash) {
            self.files.clear();
        }
        let fresh = || Watched {
            stamp,
            checked: None,
        };
        let known = self.files.entry(*hash).or_insert_with(fresh);
        if known.stamp != stamp {
            *known = fresh();
        }
        let checked = known.checked;
        checked.filter(|checked| checked.elapsed() < self.trusted_for)
    }

    /// Until when a check counts; `None` for always.
    pub(crate) fn trusted_until(&self, checked: Instant) -> Option<Instant> {
        checked.checked_add(self.trusted_for)
    }

    /// The content was found to be right. Says whether the file is as it was when that began.
    pub(crate) fn passed(&mut self, hash: &[u8; HASH_BYTES], stamp: Stamp) -> bool {
        let known = self.files.get_mut(hash);
        let known = known.filter(|known| known.stamp == stamp);
        known
            .map(|known| known.checked = Some(Instant::now()))
            .is_some()
    }

    /// The store itself has changed the stamp of a file.
    pub(crate) fn restamp(&mut self, hash: &[u8; HASH_BYTES], before: Stamp, after: Stamp) {
        if let Some(known) = self.files.get_mut(hash)
            && known.stamp == before
        {
            known.stamp = after;
        }
    }

    pub(crate) fn forget(&mut self, hash: &[u8; HASH_BYTES]) {
        self.files.remove(hash);
    }
}

impl<F: Fs> Shard<F> {
    /// Notes the use of a file for eviction. Failing to (a read-only disk) does no harm.
    pub(crate) fn mark_used(&mut self, hash: &[u8; HASH_BYTES], metadata: &Metadata) {
        let fresh = metadata.modified().is_ok_and(|used| {
            SystemTime::now().duration_since(used).unwrap_or_default() < USE_GRANULARITY
        });
        if !fresh {
            self.stamp(hash, metadata, 0, UTIME_NOW);
        }
    }

    /// Notes a use in that second, if none is noted since.
    pub(crate) fn mark_used_at(&mut self, hash: &[u8; HASH_BYTES], second: u32) {
        let Ok(metadata) = fs::metadata(self.layout.blob(hash)) else {
            return;
        };
        if metadata
            .modified()
            .is_ok_and(|noted| seconds(noted) < second)
        {
            self.stamp(hash, &metadata, i64::from(second), 0);
        }
    }

    fn stamp(&mut self, hash: &[u8; HASH_BYTES], before: &Metadata, seconds: i64, nanos: i64) {
        let path = self.layout.blob(hash);
        let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
        let times = Timestamps {
            last_access: time(0, UTIME_OMIT),
            last_modification: time(seconds, nanos),
        };
        let _ = rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty());
        let Ok(after) = fs::metadata(&path) else {
            return;
        };
        let (before, after) = (Stamp::of(before), Stamp::of(&after));
        self.seen.restamp(hash, before, after);
        lock(&self.memory).restamp(hash, before, after);
    }
}
