//! Bringing a blob from the cache behind a store into the store.
//!
//! Owns: what comes of a blob that the upstream has.
//! Does not know: when it is asked, or when it is left alone (`tier`).
//! Invariants: content is hashed before anybody gets it; what fails here is not put to the upstream;
//! where the store cannot keep a blob, it is read through as far as memory allows.
#![forbid(unsafe_code)]

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::timeout;

use super::tier::Inner;
use super::{Pieces, UpstreamError};
use crate::blob::Blob;
use crate::commit::Durability;
use crate::digest::Digest;
use crate::error::PutError;
use crate::ingest::Upload;
use crate::name::BlobName;
use crate::staging::{Expected, Verified};
use crate::stats::count;
use crate::store::Store;

/// A blob that the store cannot keep is read through up to this size,
const READ_THROUGH_UP_TO_BYTES: u64 = 4 * 1024 * 1024;
/// and so many of them at once.
pub(super) const READ_THROUGH_AT_ONCE: usize = 8;

/// A blob that the upstream had.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub(crate) digest: Digest,
    /// The content, where the store could not keep it.
    pub(crate) unkept: Option<Blob>,
}

/// What came of a blob that the upstream had.
#[derive(Debug, Clone)]
pub(super) enum Promoted {
    Kept(Digest),
    /// The store refused it.
    Unkept,
}

/// Why a blob was not kept.
enum KeepError {
    There(UpstreamError),
    Here(PutError),
}

impl From<UpstreamError> for KeepError {
    fn from(error: UpstreamError) -> Self {
        Self::There(error)
    }
}

impl Inner {
    pub(super) async fn promote(&self, store: &Store, name: &BlobName) -> Option<Promoted> {
        // Who missed it just before somebody else brought it finds it here.
        if let Ok(found) = store.locate(&[*name]).await
            && let Some(digest) = found[0]
        {
            return Some(Promoted::Kept(digest));
        }
        let pieces = self.ask(name).await?;
        match self.keep(store, name, pieces).await {
            Ok(digest) => {
                self.count_hit(&digest);
                Some(Promoted::Kept(digest))
            }
            Err(KeepError::Here(error)) => {
                tracing::debug!(%error, %name, "a blob from behind cannot be kept");
                Some(Promoted::Unkept)
            }
            Err(KeepError::There(error)) => self.note(&error),
        }
    }

    fn count_hit(&self, digest: &Digest) {
        count(&self.figures.hits, 1);
        count(&self.figures.fetched_bytes, digest.size_bytes());
    }

    async fn ask(&self, name: &BlobName) -> Option<Pieces> {
        let asked = self.upstream.get(name);
        let found = self.call(self.config.patience, asked).await?;
        if found.is_none() {
            count(&self.figures.misses, 1);
        }
        found
    }

    /// Writes what comes in to the store, which hashes it.
    async fn keep(
        &self,
        store: &Store,
        name: &BlobName,
        mut pieces: Pieces,
    ) -> Result<Digest, KeepError> {
        let mut upload = store.upload_as(*name);
        while let Some(piece) = self.next(name, &mut pieces).await? {
            upload = write(upload, piece)
                .await
                .map_err(|error| self.judge(name, error))?;
        }
        // It can be fetched again: nobody should wait for the disk.
        let relaxed = store.with_durability(Durability::Relaxed);
        let committed = relaxed.commit_local(upload).await;
        committed.map_err(|error| self.judge(name, error))
    }

    /// The next piece of an answer, within the patience.
    async fn next(
        &self,
        name: &BlobName,
        pieces: &mut Pieces,
    ) -> Result<Option<Bytes>, UpstreamError> {
        let next = timeout(self.config.patience, pieces.next()).await;
        let next = next.map_err(|_| self.failure(name, "the answer stopped"))?;
        next.transpose()
    }

    fn failure(&self, name: &BlobName, message: impl std::fmt::Display) -> UpstreamError {
        UpstreamError::new(self.upstream.name(), format!("{name}: {message}"))
    }

    /// Whose failure it is that a blob was not stored: content that is not what was asked for is the
    /// upstream's.
    fn judge(&self, name: &BlobName, error: PutError) -> KeepError {
        match error {
            PutError::DigestMismatch { .. }
            | PutError::Sha256Mismatch { .. }
            | PutError::NameMismatch(_) => KeepError::There(self.failure(name, error)),
            error => KeepError::Here(error),
        }
    }

    /// Fetches a blob into memory, for who has asked.
    pub(super) async fn read_through(&self, name: &BlobName) -> Option<Fetched> {
        let is_large = |size_bytes| size_bytes > READ_THROUGH_UP_TO_BYTES;
        if name.size_bytes().is_some_and(is_large) {
            return None;
        }
        let Ok(_permit) = self.reading_through.try_acquire() else {
            return None;
        };
        let mut pieces = self.ask(name).await?;
        let mut content = Vec::new();
        loop {
            match self.next(name, &mut pieces).await {
                Err(error) => return self.note(&error),
                Ok(None) => break,
                Ok(Some(piece)) => content.extend_from_slice(&piece),
            }
            if content.len() as u64 > READ_THROUGH_UP_TO_BYTES {
                return None;
            }
        }
        let expected = Expected::Named(*name);
        let content = Bytes::from(content);
        let verified = Verified::hash(content.clone(), expected.hasher(false)).expect(expected);
        match verified {
            Err(error) => self.note(&self.failure(name, error)),
            Ok(verified) => {
                self.count_hit(&verified.digest());
                Some(Fetched {
                    digest: verified.digest(),
                    unkept: Some(content.into()),
                })
            }
        }
    }
}

/// Writes on a thread that may wait for the disk.
async fn write(mut upload: Upload, piece: Bytes) -> Result<Upload, PutError> {
    let written = tokio::task::spawn_blocking(move || upload.write(&piece).map(|()| upload));
    written.await.unwrap_or(Err(PutError::Closed))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::time::Duration;

    use actor_rt::System;
    use futures_util::future::BoxFuture;
    use futures_util::{FutureExt, stream};
    use tokio::runtime::Handle;

    use super::*;
    use crate::sha256::Sha256Digest;
    use crate::{StoreConfig, Tier, TierConfig, Upstream};

    /// Has one blob, whatever is asked for; counts how often it is.
    struct Has(Bytes, Arc<AtomicU32>);

    type Answer<'u, T> = BoxFuture<'u, Result<T, UpstreamError>>;

    impl Upstream for Has {
        fn name(&self) -> &str {
            "has"
        }

        fn get<'u>(&'u self, _: &'u BlobName) -> Answer<'u, Option<Pieces>> {
            self.1.fetch_add(1, Relaxed);
            let piece = Ok(self.0.clone());
            async { Ok(Some(stream::iter([piece]).boxed())) }.boxed()
        }

        fn put<'u>(
            &'u self,
            _: &'u Digest,
            _: Option<&'u Sha256Digest>,
            _: Blob,
        ) -> Answer<'u, ()> {
            async { Ok(()) }.boxed()
        }

        fn get_action<'u>(&'u self, _: &'u BlobName) -> Answer<'u, Option<Bytes>> {
            async { Ok(None) }.boxed()
        }

        fn put_action<'u>(&'u self, _: &'u BlobName, _: Bytes) -> Answer<'u, ()> {
            async { Ok(()) }.boxed()
        }
    }

    /// Three puts that our own full store refused were taken for a server that is down.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_full_store_is_read_through_and_not_put_to_the_upstream() {
        for size in [1_000, 100_000, READ_THROUGH_UP_TO_BYTES as usize + 1] {
            let (directory, system) = (tempfile::tempdir().unwrap(), System::new().unwrap());
            let config = StoreConfig {
                max_bytes: Some(1_000_000),
                lease: Duration::from_secs(3600),
                ..StoreConfig::new(directory.path())
            };
            let here = Store::open(config, &system).unwrap();
            let mut seed = 0u8;
            while here.put(vec![seed; 100_000]).await.is_ok() {
                seed += 1;
            }
            let content = vec![77; size];
            let digest = Digest::of(&content);
            let asked = Arc::new(AtomicU32::new(0));
            let upstream = Box::new(Has(content.clone().into(), Arc::clone(&asked)));
            let tier = Tier::new(upstream, TierConfig::default(), Handle::current());
            here.set_upstream(tier.clone());
            for _ in 0..5 {
                let got = here.get(&digest).await.ok();
                let named = here.get_named(&digest.into()).await.unwrap();
                match size as u64 <= READ_THROUGH_UP_TO_BYTES {
                    true => {
                        assert_eq!(*got.unwrap(), content);
                        assert_eq!(*named.unwrap().1, content);
                    }
                    false => assert_eq!((got, named), (None, None), "too much for memory"),
                }
            }
            assert_eq!((tier.stats().failures, tier.is_down()), (0, false));
            assert_eq!(here.contains(&[digest]).await.unwrap(), [false]);
            asked.store(0, Relaxed);
            assert_eq!(here.bring(&[digest.into()]).await.unwrap(), [None]);
            assert_eq!(asked.load(Relaxed), 1, "nobody wants to read it");
            let got = here.get(&digest).await.is_ok();
            let asked = asked.load(Relaxed) - 1;
            assert_eq!(asked, 1 + u32::from(got), "not read if it is too much");
        }
    }
}
