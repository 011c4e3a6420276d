//! Space on disk that is given up where there is no other, so that more can always be freed.
//!
//! Owns: the file that takes it.
//! Does not know: what is freed by it, or when a disk is full (`upkeep_actor`).
//! Invariants: it is no larger than what rewriting one segment may take, rounded up, and is only kept beside a store to
//! which that is little; it is made of space that nobody waits for.
//!
//! What is evicted of small blobs comes free when their segment is rewritten: its copy comes before it goes.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::budget::Budget;
use crate::fs::Disk;
use crate::pack::SEGMENT_BYTES;
use crate::shard_set::ShardHandle;

/// It takes at most one in so many bytes of a limit.
const LIMIT_SHARE: u64 = 16;
/// It is made where so many times its space is free.
const FREE_FACTOR: u64 = 2;

/// An index counts as so many bytes, or a multiple: it grows with each checkpoint, and the reserve need not.
const INDEX_STEP_BYTES: u64 = 16 * 1024 * 1024;

/// The reserve of one store.
pub(crate) struct Reserve {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    budget: Arc<Budget>,
}

impl Reserve {
    /// With what an earlier process has kept.
    pub(crate) fn new(path: PathBuf, disk: Arc<dyn Disk>, budget: Arc<Budget>) -> Self {
        let kept_bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        budget.kept_bytes.store(kept_bytes, Relaxed);
        Self { path, disk, budget }
    }

    /// Makes it as large as these shards may need, if that can be spared.
    pub(crate) fn keep(&self, shards: &[ShardHandle]) {
        self.give_up_surplus();
        let held = shards.iter().map(|shard| &shard.counters.held);
        let full = held.filter(|held| held.segments() >= u64::from(SEGMENT_BYTES));
        if let Some(index_bytes) = full.map(|held| held.index()).max() {
            self.keep_bytes(wanted_bytes(index_bytes));
        }
    }

    /// Makes it this large. Where there is no room for that, the smaller one stays: a disk becomes full when
    /// much is written, and then the index grows as well.
    fn keep_bytes(&self, bytes: u64) {
        let kept_bytes = self.budget.kept_bytes.load(Relaxed);
        if bytes <= kept_bytes || bytes > self.most_bytes() {
            return;
        }
        let free_bytes = self.path.parent().map(|root| self.disk.free_bytes(root));
        let is_free = free_bytes.is_some_and(|free| {
            free.is_ok_and(|free| free.saturating_add(kept_bytes) >= FREE_FACTOR * bytes)
        });
        if !is_free {
            return;
        }
        match self.disk.allocate(&self.path, bytes) {
            Ok(()) => self.budget.kept_bytes.store(bytes, Relaxed),
            Err(error) => tracing::debug!(%error, "the reserve for a full disk does not grow"),
        }
    }

    /// Gives it up where it is too large for the limit, which an earlier process may not have had.
    pub(crate) fn give_up_surplus(&self) {
        if self.budget.kept_bytes.load(Relaxed) > self.most_bytes() {
            self.give_up();
        }
    }

    fn most_bytes(&self) -> u64 {
        self.budget.limit_bytes().unwrap_or(u64::MAX) / LIMIT_SHARE
    }

    /// Gives the space back.
    pub(crate) fn give_up(&self) {
        // There may be none, and one that stays is as good the next time.
        let _ = fs::remove_file(&self.path);
        self.budget.kept_bytes.store(0, Relaxed);
    }
}

/// What rewriting one segment may take.
fn wanted_bytes(index_bytes: u64) -> u64 {
    u64::from(SEGMENT_BYTES) + index_bytes.next_multiple_of(INDEX_STEP_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io;
    use std::path::Path;
    use std::sync::atomic::AtomicU64;

    const MIB: u64 = 1024 * 1024;

    /// A disk with so much room.
    #[derive(Debug, Default)]
    struct NearlyFull(AtomicU64);

    impl Disk for NearlyFull {
        fn allocate(&self, path: &Path, bytes: u64) -> io::Result<()> {
            File::create(path)?.set_len(bytes)
        }

        fn free_bytes(&self, _: &Path) -> io::Result<u64> {
            Ok(self.0.load(Relaxed))
        }
    }

    /// The index had grown by an entry, and the reserve was given up before anybody had asked whether there
    /// was room for a larger one.
    #[test]
    fn a_reserve_that_cannot_grow_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let (path, disk) = (
            directory.path().join("reserve"),
            Arc::new(NearlyFull::default()),
        );
        let budget = Budget::new(None, Vec::new());
        let reserve = Reserve::new(path.clone(), disk.clone(), budget);
        let kept = |free_bytes: u64, index_bytes: u64| {
            disk.0.store(free_bytes, Relaxed);
            reserve.keep_bytes(wanted_bytes(index_bytes));
            fs::metadata(&path).map_or(0, |metadata| metadata.len() / MIB)
        };
        assert_eq!(kept(100 * MIB, 10 * MIB), 0);
        assert_eq!(kept(160 * MIB, 10 * MIB), 80);
        assert_eq!(kept(0, 16 * MIB), 80, "no larger than it was rounded to");
        assert_eq!(kept(111 * MIB, 17 * MIB), 80);
        assert_eq!(kept(112 * MIB, 17 * MIB), 96, "its own room counts");
    }

    /// It took what the limit leaves for blobs, which were evicted for it.
    #[test]
    fn a_reserve_that_is_too_large_for_the_limit_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("reserve");
        for (limit_bytes, stays) in [(1280 * MIB, true), (1279 * MIB, false)] {
            File::create(&path).unwrap().set_len(80 * MIB).unwrap();
            let budget = Budget::new(Some(limit_bytes), Vec::new());
            let disk = Arc::new(NearlyFull::default());
            let reserve = Reserve::new(path.clone(), disk, Arc::clone(&budget));
            reserve.give_up_surplus();
            assert_eq!(path.exists(), stays);
            assert_eq!(budget.kept_bytes.load(Relaxed) > 0, stays);
        }
    }
}
