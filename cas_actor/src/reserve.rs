//! Space on disk that is given up where there is no other, so that more can always be freed.
//!
//! Owns: the file that takes it.
//! Does not know: what is freed by it, or when a disk is full (`upkeep_actor`).
//! Invariants: it is no larger than what rewriting one segment may take, and is only kept beside a store to
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
        let held = shards.iter().map(|shard| &shard.counters.held);
        let full = held.filter(|held| held.segments() >= u64::from(SEGMENT_BYTES));
        let Some(index_bytes) = full.map(|held| held.index()).max() else {
            return;
        };
        let bytes = u64::from(SEGMENT_BYTES) + index_bytes;
        let limit_bytes = self.budget.limit_bytes().unwrap_or(u64::MAX);
        if bytes <= self.budget.kept_bytes.load(Relaxed) && bytes <= limit_bytes / LIMIT_SHARE {
            return;
        }
        self.give_up();
        let free_bytes = self.path.parent().map(|root| self.disk.free_bytes(root));
        let is_free =
            free_bytes.is_some_and(|free| free.is_ok_and(|free| free >= FREE_FACTOR * bytes));
        if !is_free || bytes > limit_bytes / LIMIT_SHARE {
            return;
        }
        match self.disk.allocate(&self.path, bytes) {
            Ok(()) => self.budget.kept_bytes.store(bytes, Relaxed),
            Err(error) => {
                tracing::debug!(%error, "no reserve for a full disk");
                self.give_up();
            }
        }
    }

    /// Gives the space back.
    pub(crate) fn give_up(&self) {
        // There may be none, and one that stays is as good the next time.
        let _ = fs::remove_file(&self.path);
        self.budget.kept_bytes.store(0, Relaxed);
    }
}
