//! A store with a cache behind it.
//!
//! Owns: when the tier is asked, and that what it brings is read like everything else.
//! Does not know: how the tier gets a blob (`upstream`).
//! Invariant: the tier is asked only for what is not here.
#![forbid(unsafe_code)]

use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::future::join_all;

use crate::blob::Blob;
use crate::digest::Digest;
use crate::error::{GetError, PutError, ShardError};
use crate::ingest::Upload;
use crate::name::BlobName;
use crate::staging::{Expected, Verified};
use crate::store::{Inner, Store};
use crate::upstream::{AsyncReadBlob, Fetched, Tier};

/// Blobs that are fetched at once for one caller.
const FETCH_AT_ONCE: usize = 32;

impl Store {
    /// Puts a cache behind the store: [`get`](Self::get), [`get_named`](Self::get_named) and
    /// [`bring`](Self::bring) look there for what is not here and keep what they find; what a full
    /// store cannot keep is read all the same, up to 4 MiB, but not brought. A second
    /// call changes nothing; says whether this one did.
    pub fn set_upstream(&self, tier: Tier) -> bool {
        tier.serve(Reader(Arc::downgrade(&self.inner), self.durability()));
        self.inner.tier.set(tier).is_ok()
    }

    /// The cache behind the store.
    pub fn upstream(&self) -> Option<&Tier> {
        self.inner.tier.get()
    }

    /// [`locate`](Self::locate), and what is not here is brought from the cache behind the store,
    /// if there is one and it has it.
    ///
    /// # Errors
    /// When the disk fails or the store is closed; a failing upstream is a miss.
    pub async fn bring(&self, names: &[BlobName]) -> Result<Vec<Option<Digest>>, ShardError> {
        let mut found = self.locate(names).await?;
        let Some(tier) = self.upstream() else {
            return Ok(found);
        };
        let missing = (0..names.len()).filter(|index| found[*index].is_none());
        let missing: Vec<usize> = missing.collect();
        for some in missing.chunks(FETCH_AT_ONCE) {
            let fetches = some.iter().map(|index| tier.bring(self, &names[*index]));
            for (index, kept) in some.iter().zip(join_all(fetches).await) {
                found[*index] = kept;
            }
        }
        Ok(found)
    }

    /// The content of a blob that the cache behind the store had.
    pub(crate) async fn get_fetched(&self, fetched: Fetched) -> Result<Blob, GetError> {
        match fetched.unkept {
            Some(content) => Ok(content),
            None => self.get_here(&fetched.digest).await,
        }
    }

    /// Keeps what came from the cache behind the store: it is not handed back.
    pub(crate) async fn put_from_behind(&self, content: Bytes) -> Result<Digest, PutError> {
        let hasher = Expected::Anything.hasher(self.config().sha256_names);
        let verified = Verified::hash(content, hasher);
        let digest = verified.digest();
        self.put_local(verified).await?;
        Ok(digest)
    }

    /// Commits what came from the cache behind the store: it is not handed back.
    pub(crate) async fn commit_local(&self, upload: Upload) -> Result<Digest, PutError> {
        let verified = upload.finish()?;
        let digest = verified.digest();
        self.put_local(verified).await?;
        Ok(digest)
    }
}

/// Reads blobs of a store as long as it is open.
struct Reader(Weak<Inner>, crate::Durability);

impl AsyncReadBlob for Reader {
    async fn read(&self, digest: Digest) -> Option<Blob> {
        let store = Store::from_inner(self.0.upgrade()?, self.1);
        match store.peek(&digest) {
            Some(blob) => Some(blob),
            None => Some(store.find(&digest).await.ok()?.blob),
        }
    }
}
