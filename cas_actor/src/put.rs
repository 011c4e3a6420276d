//! Storing through the handle of a store.
//!
//! Owns: room for what comes in, both of its names, and another try where the disk was full.
//! Does not know: what a shard writes, or what is evicted.
//! Invariant: what is put is put at most twice, and the second time only where the first found no space.
#![forbid(unsafe_code)]

use futures_util::future::join;

use crate::budget::Reservation;
use crate::digest::{Digest, HASH_BYTES};
use crate::error::{PutError, ShardError};
use crate::group::Put;
use crate::shard::PutOutcome;
use crate::shard_actor::ShardMsg;
use crate::staging::Verified;
use crate::store::Store;
use crate::upstream::Handed;

impl Store {
    pub(crate) async fn put_verified(&self, verified: Verified) -> Result<PutOutcome, PutError> {
        let (digest, second) = (verified.digest(), verified.sha256());
        let outcome = self.put_local(verified).await?;
        if let (Some(tier), PutOutcome::Stored) = (self.upstream(), outcome) {
            tier.offer(Handed::Blob(digest, second));
        }
        Ok(outcome)
    }

    /// Stores without handing on.
    pub(crate) async fn put_local(&self, mut verified: Verified) -> Result<PutOutcome, PutError> {
        let digest = verified.digest();
        // Held until the shard has counted the blob.
        let _room = match verified.take_room() {
            Some(room) => room,
            None => match self.room_for(&digest).await? {
                Some(room) => room,
                None => return Ok(PutOutcome::Present),
            },
        };
        let second = verified.sha256();
        if let Some(level) = self.config().zstd_level {
            verified.deflate(level);
        }
        let put = self.put_one(digest.hash(), Put::Blob(verified, self.durability()));
        let Some(name) = second else {
            let outcome = put.await?;
            self.note_size(digest).await;
            return Ok(outcome);
        };
        // Both at once: a name whose blob did not get here leads to a blob that is not here.
        let link = Put::Link(name, digest, self.durability());
        let (outcome, linked) = join(put, self.put_one(name.hash(), link)).await;
        let outcome = outcome?;
        linked?;
        self.inner.names.insert(name.hash(), digest);
        self.note_size(digest).await;
        Ok(outcome)
    }

    /// Room for a blob; `None` when it is here already and nothing would have to go for it.
    async fn room_for(&self, digest: &Digest) -> Result<Option<Reservation>, PutError> {
        let room = &self.inner.room;
        if let Ok(Some(reserved)) = room.try_reserve(digest.size_bytes()) {
            return Ok(Some(reserved));
        }
        match self.keep(*digest).await? {
            true => Ok(None),
            false => room.reserve(digest.size_bytes()).await.map(Some),
        }
    }

    /// Has a shard store something. Where the disk is full, what eviction may take makes room, and it
    /// is tried once more, unless the content streamed in: then there is no other copy of it.
    pub(crate) async fn put_one(
        &self,
        hash: &[u8; HASH_BYTES],
        put: Put,
    ) -> Result<PutOutcome, PutError> {
        let again = put.again();
        match (self.ask_to_put(hash, put).await, again) {
            (Err(PutError::NoSpace(failure)), Some(again)) if failure.is_full() => {
                match self.inner.room.relieve(again.size_bytes()).await {
                    true => self.ask_to_put(hash, again).await,
                    false => Err(PutError::NoSpace(failure)),
                }
            }
            (answer, _) => answer,
        }
    }

    async fn ask_to_put(&self, hash: &[u8; HASH_BYTES], put: Put) -> Result<PutOutcome, PutError> {
        let shard = self.shard(hash);
        let answer = shard.ask(|reply| ShardMsg::Put(put, reply)).await;
        answer.unwrap_or(Err(PutError::Closed))
    }

    /// Whether a blob is here, and as durable as a put by this handle would make it.
    pub(crate) async fn keep(&self, digest: Digest) -> Result<bool, ShardError> {
        let durability = self.durability();
        let shard = self.shard(digest.hash());
        shard
            .try_ask(|reply| ShardMsg::Keep(digest, durability, reply))
            .await
    }
}
