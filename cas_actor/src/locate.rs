//! Blobs by whatever name a client has for them.
//!
//! Owns: the operations of a store on [`BlobName`]s, and the cache of where names lead.
//! Does not know: how a shard finds a name (`lookup`).
//! Invariants: whether a blob is here is decided by the shard that owns it, a name only leads
//! there; a blob that was put with both hashes is found by each of them, with or without its size.
#![forbid(unsafe_code)]

use std::time::SystemTime;

use futures_util::future::join_all;

use crate::blob::Blob;
use crate::digest::{Digest, HASH_BYTES};
use crate::error::{GetError, ShardError};
use crate::ingest::Upload;
use crate::layout::Kind;
use crate::lookup::Lead;
use crate::name::BlobName;
use crate::pack::seconds;
use crate::sha256::Sha256Digest;
use crate::shard_actor::ShardMsg;
use crate::shard_set::ShardHandle;
use crate::staging::Expected;
use crate::store::Store;

impl Store {
    /// The blobs of these names that are here, in the order asked; counts as a use of them.
    ///
    /// A SHA-256 name is known if the blob was put by it, or was put while
    /// [`sha256_names`](crate::StoreConfig::sha256_names) was on, or was met since by
    /// [`verify`](Self::verify) or the scrubber with that switch on.
    ///
    /// # Errors
    /// When the disk fails or the store is closed.
    pub async fn locate(&self, names: &[BlobName]) -> Result<Vec<Option<Digest>>, ShardError> {
        let now = seconds(SystemTime::now());
        let known = names.iter().map(|name| self.lead_at(name, || now));
        let mut found: Vec<Option<Digest>> = known.collect();
        // What is certain to be here needs not be asked for again.
        let mut certain = vec![false; names.len()];
        let open = (0..names.len()).filter(|index| found[*index].is_none());
        let open: Vec<(usize, BlobName)> = open.map(|index| (index, names[index])).collect();
        for (index, lead) in self.look_up(&open).await? {
            (found[index], certain[index]) = match lead {
                Lead::Nowhere => (None, false),
                Lead::Here(digest) => (Some(digest), true),
                Lead::To(digest) => (Some(digest), false),
            };
            if let Some(digest) = found[index] {
                self.inner.names.insert(names[index].hash(), digest);
            }
        }
        let doubtful: Vec<usize> = (0..names.len())
            .filter(|index| found[*index].is_some() && !certain[*index])
            .collect();
        let digests: Vec<Digest> = doubtful.iter().filter_map(|index| found[*index]).collect();
        for (index, present) in doubtful.iter().zip(self.contains(&digests).await?) {
            if !present {
                found[*index] = None;
            }
        }
        Ok(found)
    }

    async fn look_up(&self, open: &[(usize, BlobName)]) -> Result<Vec<(usize, Lead)>, ShardError> {
        let parts = self.by_shard(open, |(_, name)| name.hash());
        let asked = parts.into_iter().map(async |(shard, _, part)| {
            let (indices, names): (Vec<usize>, Vec<BlobName>) = part.into_iter().unzip();
            let leads = shard.try_ask(|reply| ShardMsg::LookUp(names, reply)).await;
            Ok::<_, ShardError>(indices.into_iter().zip(leads?))
        });
        let mut all = Vec::with_capacity(open.len());
        for leads in join_all(asked).await {
            all.extend(leads?);
        }
        Ok(all)
    }

    /// The blobs that have these second names and are here, in the order asked; counts as a use
    /// of them.
    ///
    /// # Errors
    /// When the disk fails or the store is closed.
    pub async fn resolve(&self, names: &[Sha256Digest]) -> Result<Vec<Option<Digest>>, ShardError> {
        let names: Vec<BlobName> = names.iter().copied().map(BlobName::from).collect();
        self.locate(&names).await
    }

    /// The store's own name of the blob that has this one, if it follows from it or was looked up
    /// lately; never waits. Whether the blob is here is another question.
    pub fn lead_of(&self, name: &BlobName) -> Option<Digest> {
        self.lead_at(name, || seconds(SystemTime::now()))
    }

    fn lead_at(&self, name: &BlobName, second: impl FnOnce() -> u32) -> Option<Digest> {
        let digest = match name.digest() {
            Some(digest) => digest,
            None => self.known_lead(name.hash(), second())?,
        };
        (name.may_lead_to(&digest) || digest.is_empty_blob()).then_some(digest)
    }

    /// A link that is followed here is used, though its shard does not see it.
    fn known_lead(&self, hash: &[u8; HASH_BYTES], second: u32) -> Option<Digest> {
        let (digest, is_news) = self.inner.names.get(hash, second)?;
        if is_news && digest.hash() != hash {
            self.note_use((*hash, Kind::Link), second);
        }
        Some(digest)
    }

    /// The blob of a name and its content; `None` when it is not here.
    ///
    /// # Errors
    /// When the disk fails, the store is closed, or what it holds is damaged; see [`GetError`].
    pub async fn get_named(&self, name: &BlobName) -> Result<Option<(Digest, Blob)>, GetError> {
        let mut lead = self.lead_of(name);
        if lead.is_none() {
            lead = self.locate(&[*name]).await?[0];
        }
        if let Some(digest) = lead {
            match self.get_here(&digest).await {
                Ok(blob) => return Ok(Some((digest, blob))),
                Err(GetError::NotFound(_)) => {}
                Err(GetError::Corrupt { .. }) if self.upstream().is_some() => {}
                Err(error) => return Err(error),
            }
        }
        let Some(tier) = self.upstream() else {
            return Ok(None);
        };
        match tier.fetch(self, name).await {
            Some(fetched) => Ok(Some((fetched.digest, self.get_fetched(fetched).await?))),
            None => Ok(None),
        }
    }

    /// Starts an upload in pieces of what `name` says; anything else is refused at its end. It
    /// gets both names, unless the name is one of BLAKE3 and
    /// [`sha256_names`](crate::StoreConfig::sha256_names) is off.
    pub fn upload_as(&self, name: BlobName) -> Upload {
        self.start_upload(Expected::Named(name))
    }

    /// Sorts names by their shards, each with its place in `names`.
    pub(crate) fn by_shard<N: Copy>(
        &self,
        names: &[N],
        hash: impl Fn(&N) -> &[u8; HASH_BYTES],
    ) -> Vec<(&ShardHandle, Vec<usize>, Vec<N>)> {
        let shards = self.inner.shards.iter();
        let mut parts: Vec<_> = shards
            .map(|shard| (shard, Vec::new(), Vec::new()))
            .collect();
        for (index, name) in names.iter().enumerate() {
            let part = &mut parts[self.shard_index(hash(name))];
            part.1.push(index);
            part.2.push(*name);
        }
        parts.retain(|part| !part.1.is_empty());
        parts
    }
}
