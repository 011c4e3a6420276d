//! The handle of a store: finds the shard of a digest, asks it, and waits.
//!
//! Owns: the public operations on blobs and action entries, and the memory tier's fast path.
//! Does not know: what a shard does with a message.
//! Invariant: content is hashed by the caller before a shard hears of it.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use actor_rt::{ActorRef, System};
use bytes::Bytes;
use futures_util::future::join_all;

use crate::action::ActionEntry;
use crate::blob::{Blob, ByteRange};
use crate::blocking::Blocking;
use crate::commit::Durability;
use crate::digest::Digest;
use crate::error::{GetError, PutError, ShardError, StoreError};
use crate::evict::Evictor;
use crate::fs::{Fs, RealFs};
use crate::group::Put;
use crate::ingest::Upload;
use crate::layout::{ActionKey, Layout};
use crate::name_cache::NameCache;
use crate::open::{StoreConfig, open_root};
use crate::partial::Partials;
use crate::room::Room;
use crate::scrub::{self, ScrubMsg};
use crate::sha256::Sha256Digest;
use crate::shard::{Found, PutOutcome, lock};
use crate::shard_actor::ShardMsg;
use crate::shard_set::{self, ShardHandle, shard_of};
use crate::staging::{Expected, Staging, Verified};
use crate::upkeep_actor;
use crate::upstream::Tier;

/// Entries are read whole and packed; larger results belong into blobs.
const ENTRY_UP_TO_BYTES: u64 = 16 * 1024 * 1024;
/// The share of the memory tier's capacity that remembers where names lead: one in so many.
const NAMES_SHARE: u64 = 16;

/// An open store. Clones share it; it closes when the last one is dropped.
///
/// Methods are asynchronous and run on any executor; [`blocking`](Self::blocking) has the same
/// for threads that may wait.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    durability: Durability,
}

pub(crate) struct Inner {
    pub(crate) shards: Arc<[ShardHandle]>,
    pub(crate) staging: Arc<Staging>,
    /// Where puts get their room on disk from.
    pub(crate) room: Arc<Room>,
    /// Uploads that can be gone on with.
    pub(crate) partials: Arc<Partials>,
    scrubber: Option<ActorRef<ScrubMsg>>,
    /// Tells the upkeep and the scrubber to stop what they do.
    closing: Arc<AtomicBool>,
    pub(crate) names: NameCache,
    /// The cache behind this one.
    pub(crate) tier: OnceLock<Tier>,
    config: StoreConfig,
}

impl Inner {
    fn drain(&self) {
        self.closing.store(true, Relaxed);
        self.room.upkeep().drain();
        if let Some(scrubber) = &self.scrubber {
            scrubber.stop();
        }
        for shard in &*self.shards {
            shard.actor.drain();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.drain();
    }
}

impl Store {
    /// Whether a store lies at `root`; nothing is made.
    pub fn is_at(root: &Path) -> bool {
        Layout::new(root.to_owned()).version().exists()
    }

    /// Opens the store at `config.root`, making it when there is none. Reads no blobs.
    ///
    /// # Errors
    /// When another process has it open, when it has another format, or when the directory
    /// cannot be used.
    pub fn open(config: StoreConfig, system: &System) -> Result<Self, StoreError> {
        Self::open_on(RealFs, config, system)
    }

    /// The same where everything is written by `fs`.
    pub(crate) fn open_on<F: Fs>(
        fs: F,
        config: StoreConfig,
        system: &System,
    ) -> Result<Self, StoreError> {
        let opened = open_root(&config, fs.clone())?;
        let names_bytes = config.memory.capacity_bytes / NAMES_SHARE;
        let blob_bytes = config.memory.capacity_bytes - names_bytes;
        let layout = opened.layout.clone();
        let partials = Partials::open(layout.clone(), config.partial)?;
        let (shards, staging) = shard_set::start(system, &config, blob_bytes, opened, &fs)?;
        let closing = Arc::new(AtomicBool::new(false));
        let scrubber = scrub::start(system, &config, &layout, &shards, &closing);
        let evictor = Evictor {
            shards: Arc::clone(&shards),
            layout,
            disk: Arc::clone(&staging.disk),
            closing: Arc::clone(&closing),
        };
        let room = upkeep_actor::start(system, &config, evictor, &partials);
        Ok(Self {
            durability: config.durability,
            inner: Arc::new(Inner {
                shards,
                staging,
                room,
                partials,
                scrubber,
                closing,
                names: NameCache::new(names_bytes),
                tier: OnceLock::new(),
                config,
            }),
        })
    }

    pub(crate) fn from_inner(inner: Arc<Inner>, durability: Durability) -> Self {
        Self { inner, durability }
    }

    /// How the store was opened.
    pub fn config(&self) -> &StoreConfig {
        &self.inner.config
    }

    /// The directory of the store.
    pub fn root(&self) -> &Path {
        &self.inner.config.root
    }

    /// A handle whose puts count as done earlier or later than this one's.
    #[must_use]
    pub fn with_durability(&self, durability: Durability) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            durability,
        }
    }

    /// When puts by this handle count as done.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// The same operations for threads that may wait, and those on the caller's files.
    pub fn blocking(&self) -> Blocking<'_> {
        Blocking::new(self)
    }

    /// Stores `content` and returns its name.
    ///
    /// # Errors
    /// When the disk is full, read-only or failing; see [`PutError`].
    pub async fn put(&self, content: impl Into<Bytes>) -> Result<Digest, PutError> {
        let hasher = Expected::Anything.hasher(self.inner.config.sha256_names);
        let verified = Verified::hash(content.into(), hasher);
        let digest = verified.digest();
        self.put_verified(verified).await?;
        Ok(digest)
    }

    /// Stores `content` if it is what `digest` names.
    ///
    /// # Errors
    /// When it is not, or as for [`put`](Self::put).
    pub async fn put_as(
        &self,
        digest: Digest,
        content: impl Into<Bytes>,
    ) -> Result<PutOutcome, PutError> {
        let expected = Expected::Blake3(digest);
        let hasher = expected.hasher(self.inner.config.sha256_names);
        let verified = Verified::hash(content.into(), hasher).expect(expected)?;
        self.put_verified(verified).await
    }

    /// Stores `content` if it is what `name` says, under both names.
    ///
    /// # Errors
    /// When it is not, or as for [`put`](Self::put).
    pub async fn put_as_sha256(
        &self,
        name: Sha256Digest,
        content: impl Into<Bytes>,
    ) -> Result<Digest, PutError> {
        let expected = Expected::Sha256(name);
        let verified = Verified::hash(content.into(), expected.hasher(true)).expect(expected)?;
        let digest = verified.digest();
        self.put_verified(verified).await?;
        Ok(digest)
    }

    /// Starts an upload in pieces. With `expected`, anything else is refused.
    pub fn upload(&self, expected: Option<Digest>) -> Upload {
        self.start_upload(expected.into())
    }

    /// Starts an upload in pieces of what `expected` names; it gets both names.
    pub fn upload_sha256(&self, expected: Sha256Digest) -> Upload {
        self.start_upload(Expected::Sha256(expected))
    }

    pub(crate) fn start_upload(&self, expected: Expected) -> Upload {
        let sha256_names = self.inner.config.sha256_names;
        let room = Arc::clone(&self.inner.room);
        let staging = Arc::clone(&self.inner.staging);
        Upload::new(staging, Some(room), expected, sha256_names)
    }

    /// Stores what an upload has gathered.
    ///
    /// # Errors
    /// When it is not what was expected, or as for [`put`](Self::put).
    pub async fn commit(&self, upload: Upload) -> Result<(Digest, PutOutcome), PutError> {
        let verified = upload.finish()?;
        let digest = verified.digest();
        Ok((digest, self.put_verified(verified).await?))
    }

    /// The content of a blob.
    ///
    /// # Errors
    /// When the store does not hold it, or what it holds is damaged; see [`GetError`].
    pub async fn get(&self, digest: &Digest) -> Result<Blob, GetError> {
        match (self.get_here(digest).await, self.upstream()) {
            (Err(GetError::NotFound(_) | GetError::Corrupt { .. }), Some(tier)) => {
                match tier.fetch(self, &(*digest).into()).await {
                    Some(fetched) => self.get_fetched(fetched).await,
                    None => self.get_here(digest).await,
                }
            }
            (found, _) => found,
        }
    }

    /// The content of a blob if it is in this store.
    pub(crate) async fn get_here(&self, digest: &Digest) -> Result<Blob, GetError> {
        match self.peek(digest) {
            Some(blob) => Ok(blob),
            None => Ok(self.find(digest).await?.blob),
        }
    }

    /// A part of a blob.
    ///
    /// # Errors
    /// When the range reaches past the end, or as for [`get`](Self::get).
    pub async fn get_range(&self, digest: &Digest, range: ByteRange) -> Result<Blob, GetError> {
        range.within(digest.size_bytes())?;
        Ok(self.get(digest).await?.slice(range)?)
    }

    /// The content of a blob if it is in the memory tier; never waits.
    pub fn peek(&self, digest: &Digest) -> Option<Blob> {
        let shard = self.shard(digest.hash());
        let blob = lock(&shard.memory).get(digest.hash(), Instant::now())?;
        if blob.len() as u64 != digest.size_bytes() {
            return None;
        }
        shard.count_memory_hit(digest);
        Some(blob)
    }

    pub(crate) async fn find(&self, digest: &Digest) -> Result<Found, GetError> {
        let digest = *digest;
        let shard = self.shard(digest.hash());
        let answer = shard.ask(|reply| ShardMsg::Get(digest, reply)).await;
        answer.unwrap_or(Err(GetError::Closed))
    }

    /// Which of the blobs are here, in the order asked; counts as a use of them.
    ///
    /// # Errors
    /// When the store is closed.
    pub async fn contains(&self, digests: &[Digest]) -> Result<Vec<bool>, ShardError> {
        let parts = self.by_shard(digests, Digest::hash);
        let asked = parts.into_iter().map(async |(shard, indices, digests)| {
            let present = shard.ask(|reply| ShardMsg::Contains(digests, reply)).await;
            (indices, present)
        });
        let mut all = vec![false; digests.len()];
        for (indices, present) in join_all(asked).await {
            for (index, present) in indices.into_iter().zip(present.ok_or(ShardError::Closed)?) {
                all[index] = present;
            }
        }
        Ok(all)
    }

    /// Removes a blob; says whether it was here.
    ///
    /// # Errors
    /// When the disk fails or the store is closed.
    pub async fn delete(&self, digest: &Digest) -> Result<bool, ShardError> {
        let digest = *digest;
        let shard = self.shard(digest.hash());
        shard.try_ask(|reply| ShardMsg::Delete(digest, reply)).await
    }

    /// Keeps the result of an action. Unless the handle is volatile, it is durable on return, and
    /// so is everything that was put before with less.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub async fn put_action(
        &self,
        key: &ActionKey,
        entry: impl Into<ActionEntry>,
    ) -> Result<(), PutError> {
        let durability = match self.durability {
            Durability::Volatile => Durability::Volatile,
            Durability::Durable | Durability::Relaxed => Durability::Durable,
        };
        if durability == Durability::Durable {
            // What was acknowledged with less, wherever it lies: blobs before what names them.
            self.sync().await?;
        }
        let encoded = Bytes::from(entry.into().encode(key));
        if encoded.len() as u64 > ENTRY_UP_TO_BYTES {
            return Err(PutError::EntryTooLarge {
                size_bytes: encoded.len() as u64,
                limit_bytes: ENTRY_UP_TO_BYTES,
            });
        }
        let _room = self.inner.room.reserve(encoded.len() as u64).await?;
        let put = Put::Action(*key, encoded, durability);
        self.put_one(key, put).await.map(drop)
    }

    /// The result of an action. A damaged entry is reported to the log once, dropped, and a miss.
    ///
    /// # Errors
    /// When the disk fails or the store is closed.
    pub async fn get_action(&self, key: &ActionKey) -> Result<Option<ActionEntry>, ShardError> {
        let wanted = *key;
        let shard = self.shard(key);
        shard
            .try_ask(|reply| ShardMsg::GetAction(wanted, reply))
            .await
    }

    /// The result of an action if all blobs that it names are here.
    ///
    /// # Errors
    /// When the disk fails or the store is closed.
    pub async fn get_complete_action(
        &self,
        key: &ActionKey,
    ) -> Result<Option<ActionEntry>, ShardError> {
        let Some(entry) = self.get_action(key).await? else {
            return Ok(None);
        };
        let present = self.contains(&entry.outputs).await?;
        Ok(present.iter().all(|present| *present).then_some(entry))
    }

    /// Forgets the result of an action; says whether there was one.
    ///
    /// # Errors
    /// When the disk fails or the store is closed.
    pub async fn delete_action(&self, key: &ActionKey) -> Result<bool, ShardError> {
        let wanted = *key;
        let shard = self.shard(key);
        shard
            .try_ask(|reply| ShardMsg::DeleteAction(wanted, reply))
            .await
    }

    /// Makes everything durable that was put with [`Durability::Relaxed`].
    ///
    /// # Errors
    /// When the disk fails or the store is closed.
    pub async fn sync(&self) -> Result<(), ShardError> {
        let asked = self.inner.shards.iter();
        let asked = asked
            .filter(|shard| shard.unsynced.load(Relaxed))
            .map(|shard| shard.try_ask(ShardMsg::Sync));
        join_all(asked).await.into_iter().collect()
    }

    /// Finishes what was asked, stops the shards and lets go of the lock. Other handles answer
    /// `Closed` from then on.
    pub async fn close(self) {
        self.inner.drain();
        for shard in &*self.inner.shards {
            shard.actor.closed().await;
        }
        self.inner.room.upkeep().closed().await;
        if let Some(scrubber) = &self.inner.scrubber {
            scrubber.closed().await;
        }
    }

    pub(crate) fn shard_index(&self, hash: &[u8; 32]) -> usize {
        shard_of(hash, self.inner.shards.len())
    }

    pub(crate) fn shard(&self, hash: &[u8; 32]) -> &ShardHandle {
        &self.inner.shards[self.shard_index(hash)]
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("root", &self.root())
            .field("shards", &self.inner.shards.len())
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}
