//! Looking after a whole store: statistics, eviction by hand, scrubbing, listing.
//!
//! Owns: the public operations on all shards at once.
//! Does not know: how a shard lists, evicts or checks.
#![forbid(unsafe_code)]

use std::time::Duration;

use actor_rt::Reply;
use futures_util::future::join_all;

use crate::commit::Durability;
use crate::digest::Digest;
use crate::error::ShardError;
use crate::evict::GcReport;
use crate::group::Put;
use crate::layout::{ActionKey, Kind};
use crate::maintain::{Checked, Listed};
use crate::shard::lock;
use crate::shard_actor::ShardMsg;
use crate::stats::Stats;
use crate::store::Store;
use crate::upkeep_actor::UpkeepMsg;

/// How far [`Store::verify`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Blobs and entries checked.
    pub checked: u64,
    /// Blobs and entries in all.
    pub total: u64,
    /// Bytes read.
    pub checked_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// What [`Store::verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Blobs and entries checked.
    pub checked: u64,
    /// Bytes read.
    pub checked_bytes: u64,
    /// Hashes of damaged blobs, now in quarantine. The size is that of the damaged file.
    pub damaged_blobs: Vec<Digest>,
    /// Keys of damaged action entries, now in quarantine.
    pub damaged_actions: Vec<ActionKey>,
    /// Links from SHA-256 names that were damaged and dropped.
    pub damaged_links: u64,
    /// Keys of action entries that were dropped because a blob that they name is gone.
    pub incomplete_actions: Vec<ActionKey>,
}

impl VerifyReport {
    /// Whether nothing was wrong.
    pub fn is_clean(&self) -> bool {
        self.damaged_blobs.is_empty()
            && self.damaged_actions.is_empty()
            && self.damaged_links == 0
            && self.incomplete_actions.is_empty()
    }
}

impl Store {
    /// The names of all blobs, in no order.
    ///
    /// # Errors
    /// When the disk fails or the store is closed.
    pub async fn list(&self) -> Result<Vec<Digest>, ShardError> {
        let listed = self.list_all().await?;
        Ok(listed.iter().filter_map(as_blob).collect())
    }

    /// The keys of all action entries, in no order.
    ///
    /// # Errors
    /// When the disk fails or the store is closed.
    pub async fn list_actions(&self) -> Result<Vec<ActionKey>, ShardError> {
        let mut listed = self.list_all().await?;
        listed.retain(|listed| listed.kind == Kind::Action);
        Ok(listed.iter().map(|listed| listed.hash).collect())
    }

    async fn list_all(&self) -> Result<Vec<Listed>, ShardError> {
        let asked = self.inner.shards.iter();
        let asked = asked.map(|shard| shard.try_ask(ShardMsg::List));
        let mut all = Vec::new();
        for listed in join_all(asked).await {
            all.extend(listed?);
        }
        Ok(all)
    }

    /// What the store holds and how it was used since it was opened. Walks the directories the
    /// first time.
    ///
    /// # Errors
    /// When the disk fails or the store is closed.
    pub async fn stats(&self) -> Result<Stats, ShardError> {
        let mut stats = Stats::default();
        for shard in &*self.inner.shards {
            let usage = shard.try_ask(ShardMsg::Usage).await?;
            stats.blobs += usage.blobs;
            stats.blob_bytes += usage.blob_bytes;
            stats.actions += usage.actions;
            stats.action_bytes += usage.action_bytes;
            stats.add_counters(&shard.counters);
            let memory = lock(&shard.memory);
            stats.memory_blobs += memory.len() as u64;
            stats.memory_bytes += memory.weight_bytes();
        }
        Ok(stats)
    }

    /// Evicts the least recently used blobs and entries until at most `max_bytes` are left, and has their
    /// files take no more, but for a fiftieth of each segment. What is used while this runs stays, leases do not count. Uses are remembered to the second.
    ///
    /// # Errors
    /// When the disk fails or the store is closed; what was evicted until then stays evicted.
    pub async fn gc(&self, max_bytes: u64) -> Result<GcReport, ShardError> {
        self.gc_sparing(max_bytes, Duration::ZERO).await
    }

    /// [`gc`](Self::gc) that also spares what was used within `spare`, even if more than
    /// `max_bytes` are left then: a client that was told that a blob is here relies on it for a
    /// while.
    ///
    /// # Errors
    /// As that.
    pub async fn gc_sparing(
        &self,
        max_bytes: u64,
        spare: Duration,
    ) -> Result<GcReport, ShardError> {
        let (reply, answer) = Reply::pair();
        let asked = UpkeepMsg::Gc(max_bytes, spare, reply);
        let sent = self.inner.room.upkeep().send(asked).await;
        sent.map_err(|_| ShardError::Closed)?;
        answer.await.map_err(|_| ShardError::Closed)?
    }

    /// Reads and hashes everything. Damaged blobs and entries go to quarantine, entries that
    /// name a missing blob are dropped. Calls `progress` after each file.
    ///
    /// # Errors
    /// When the disk fails or the store is closed.
    pub async fn verify(
        &self,
        mut progress: impl FnMut(VerifyProgress),
    ) -> Result<VerifyReport, ShardError> {
        let mut listed = self.list_all().await?;
        // Blobs first, so that entries are compared with what is left of them.
        listed.sort_unstable_by_key(|file| (file.kind, file.hash));
        let total_bytes = listed.iter().map(|file| file.size_bytes).sum();
        let mut report = VerifyReport::default();
        for file in &listed {
            let shard = self.shard(&file.hash);
            let asked = *file;
            match (
                shard.try_ask(|reply| ShardMsg::Check(asked, reply)).await?,
                file.kind,
            ) {
                (Checked::Damaged, Kind::Blob) => report.damaged_blobs.extend(as_blob(file)),
                (Checked::Damaged, Kind::Action) => report.damaged_actions.push(file.hash),
                (Checked::Intact(_), Kind::Action) => {
                    if self.get_complete_action(&file.hash).await?.is_none()
                        && self.delete_action(&file.hash).await?
                    {
                        report.incomplete_actions.push(file.hash);
                    }
                }
                (Checked::Damaged, Kind::Link) => report.damaged_links += 1,
                (Checked::Intact(Some(name)), Kind::Blob) => {
                    let digest = Digest::new(file.hash, file.size_bytes);
                    let link = Put::Link(name, digest, Durability::Volatile);
                    // Without it the blob has one name, as before.
                    let _ = self.put_one(name.hash(), link).await;
                }
                (Checked::Intact(_) | Checked::Gone, _) => {}
            }
            report.checked += 1;
            report.checked_bytes += file.size_bytes;
            progress(VerifyProgress {
                checked: report.checked,
                total: listed.len() as u64,
                checked_bytes: report.checked_bytes,
                total_bytes,
            });
        }
        Ok(report)
    }
}

fn as_blob(listed: &Listed) -> Option<Digest> {
    let is_blob = listed.kind == Kind::Blob;
    is_blob.then(|| Digest::new(listed.hash, listed.size_bytes))
}
