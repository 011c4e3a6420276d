//! The shards of an open store, as the handle sees them.
//!
//! Owns: starting the shards, which of them owns a hash, and asking one.
//! Does not know: what is asked.
//! Invariants: every hash has exactly one owner; the lock of the store is held by the shards, so
//! until the last of them has stopped.
#![forbid(unsafe_code)]

use std::fs::File;
use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering::Acquire};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actor_rt::{ActorRef, Reply, System};
use crossbeam_utils::CachePadded;

use crate::commit::{Committer, UnsyncedFlag, notes};
use crate::digest::{Digest, HASH_BYTES};
use crate::error::{During, IoFailure, ShardError};
use crate::fs::Fs;
use crate::layout::Layout;
use crate::memory::{MemoryConfig, MemoryTier};
use crate::open::{LockFile, OpenedRoot, StoreConfig};
use crate::shard::{Shard, VerifyReads};
use crate::shard_actor::{ShardActor, ShardMsg};
use crate::staging::Staging;
use crate::stats::Counters;
use crate::uses::Uses;

/// First bytes of hashes.
pub(crate) const FANS: usize = 256;

/// One shard.
pub(crate) struct ShardHandle {
    pub(crate) actor: ActorRef<ShardMsg>,
    pub(crate) memory: Arc<Mutex<MemoryTier>>,
    /// Blobs removed from that memory.
    pub(crate) removals: Arc<CachePadded<AtomicU64>>,
    pub(crate) counters: Arc<Counters>,
    /// Uses that it has not seen.
    pub(crate) uses: Arc<Uses>,
    /// Whether it has acknowledged something that is not durable.
    pub(crate) unsynced: UnsyncedFlag,
}

impl ShardHandle {
    /// Counts a read of a blob that was answered from memory.
    pub(crate) fn count_memory_hit(&self, digest: &Digest) {
        self.counters.memory_hits.add(1);
        self.counters.get_bytes.add(digest.size_bytes());
    }

    /// How many blobs were removed here: as long as that stays, what was found in memory is not gone.
    pub(crate) fn removals(&self) -> u64 {
        // Pairs with the addition in `MemoryTier::remove`.
        self.removals.load(Acquire)
    }

    /// Sends a question, waiting for room in the mailbox, and waits for the answer. `None` when
    /// the shard is gone or was restarted meanwhile.
    pub(crate) async fn ask<R: Send + 'static>(
        &self,
        message: impl FnOnce(Reply<R>) -> ShardMsg,
    ) -> Option<R> {
        let (reply, answer) = Reply::pair();
        // Not `ActorRef::ask`, which is refused when the mailbox is full: who puts faster than
        // the disk takes it has to wait.
        self.actor.send(message(reply)).await.ok()?;
        answer.await.ok()
    }

    /// [`try_ask`](Self::try_ask) for threads that may wait.
    pub(crate) fn wait_for<R: Send + 'static, E: Send + 'static>(
        &self,
        message: impl FnOnce(Reply<Result<R, E>>) -> ShardMsg,
    ) -> Result<R, ShardError>
    where
        ShardError: From<E>,
    {
        let (reply, answer) = Reply::pair();
        let sent = self.actor.send_blocking(message(reply));
        sent.map_err(|_| ShardError::Closed)?;
        Ok(answer.wait().map_err(|_| ShardError::Closed)??)
    }

    /// [`ask`](Self::ask) for answers that may be errors of the disk.
    pub(crate) fn try_ask<R: Send + 'static, E: Send + 'static>(
        &self,
        message: impl FnOnce(Reply<Result<R, E>>) -> ShardMsg,
    ) -> impl Future<Output = Result<R, ShardError>>
    where
        ShardError: From<E>,
    {
        let asked = self.ask(message);
        async { Ok(asked.await.ok_or(ShardError::Closed)??) }
    }
}

/// Everything that a shard is made of, kept to make it again when it has panicked: it starts from
/// what is on disk.
struct Blueprint<F> {
    fs: F,
    /// Outlives a shard that has panicked: what could not be written meanwhile is told through it.
    root: Arc<File>,
    index: usize,
    fans: RangeInclusive<u8>,
    layout: Arc<Layout>,
    staging: Arc<Staging>,
    lock: Arc<LockFile>,
    memory: Arc<Mutex<MemoryTier>>,
    counters: Arc<Counters>,
    unsynced: UnsyncedFlag,
    verify_reads: VerifyReads,
    recheck_large_after: Duration,
    sha256_names: bool,
}

impl<F: Fs> Blueprint<F> {
    fn make(&self) -> ShardActor<F> {
        let committer = Committer::new(
            self.fs.clone(),
            Arc::clone(&self.layout),
            Arc::clone(&self.staging),
            Arc::clone(&self.counters),
            Arc::clone(&self.unsynced),
            Arc::clone(&self.root),
            self.layout.unsynced(self.index),
        );
        let mut shard = Shard::new(
            self.index,
            self.fans.clone(),
            Arc::clone(&self.layout),
            self.verify_reads,
            Arc::clone(&self.memory),
            Arc::clone(&self.counters),
            committer,
        );
        shard.sha256_names = self.sha256_names;
        shard.seen.trusted_for = self.recheck_large_after;
        ShardActor::new(shard, Arc::clone(&self.lock))
    }
}

/// Starts the shards of an opened directory, which together keep at most `memory_bytes` in
/// memory; also returns where uploads are staged.
pub(crate) fn start<F: Fs>(
    system: &System,
    config: &StoreConfig,
    memory_bytes: u64,
    opened: OpenedRoot,
    fs: &F,
) -> Result<(Arc<[ShardHandle]>, Arc<Staging>), IoFailure> {
    let number = opened.shards;
    let (layout, lock) = (Arc::new(opened.layout), Arc::new(opened.lock));
    let staging = Arc::new(opened.staging);
    let share = MemoryConfig {
        capacity_bytes: memory_bytes / number as u64,
        ..config.memory
    };
    let start_one = |index| {
        let root = fs.open_root(layout.root());
        let root = Arc::new(root.during("open", layout.root())?);
        let tier = MemoryTier::new(share);
        let (removals, uses) = (tier.removals(), tier.noted_uses());
        let blueprint = Blueprint {
            fs: fs.clone(),
            root,
            index,
            fans: fans_of(index, number),
            layout: Arc::clone(&layout),
            staging: Arc::clone(&staging),
            lock: Arc::clone(&lock),
            memory: Arc::new(Mutex::new(tier)),
            counters: Arc::default(),
            // Known before the shard runs: entries may be put at once.
            unsynced: Arc::new(notes::are_left(&layout.unsynced(index)).into()),
            verify_reads: config.verify_reads,
            recheck_large_after: config.recheck_large_after,
            sha256_names: config.sha256_names,
        };
        let (memory, counters) = (
            Arc::clone(&blueprint.memory),
            Arc::clone(&blueprint.counters),
        );
        let unsynced = Arc::clone(&blueprint.unsynced);
        let actor = system
            .actor(move || blueprint.make())
            .name(format!("store {} shard {index}", config.root.display()))
            .mailbox(config.mailbox)
            .spawn_dedicated();
        Ok(ShardHandle {
            actor,
            removals,
            uses,
            memory,
            counters,
            unsynced,
        })
    };
    let shards: Result<_, IoFailure> = (0..number).map(start_one).collect();
    Ok((shards?, staging))
}

/// The owner of a hash: ranges of the first byte.
pub(crate) fn shard_of(hash: &[u8; HASH_BYTES], number: usize) -> usize {
    shard_of_fan(hash[0], number)
}

/// The owner of all hashes that begin with this byte.
pub(crate) fn shard_of_fan(first: u8, number: usize) -> usize {
    usize::from(first) * number / FANS
}

/// The first bytes that one shard owns.
fn fans_of(index: usize, number: usize) -> RangeInclusive<u8> {
    let start = (index * FANS).div_ceil(number);
    let end = ((index + 1) * FANS).div_ceil(number) - 1;
    start as u8..=end as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hash_has_one_owner() {
        for number in 1..=8 {
            for first in 0..=255u8 {
                let mut hash = [0; 32];
                hash[0] = first;
                let owner = shard_of(&hash, number);
                for index in 0..number {
                    let owned = fans_of(index, number).contains(&first);
                    assert_eq!(owned, index == owner, "{first} of {number}");
                }
            }
        }
    }
}
