//! The cache behind a store: fetching what is missing, and handing on what was put.
//!
//! Owns: single flight, time limits, the breaker, promotion into the store, and the queue of what
//! is handed on.
//! Does not know: the protocol (`Upstream`), or when the store asks.
//! Invariants: one blob is fetched once, however many ask for it meanwhile; nobody waits for a
//! server that makes no progress longer than the patience; whatever fails there is a miss here.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::breaker::Breaker;
use super::{Pieces, Upstream, UpstreamError};
use crate::blob::Blob;
use crate::digest::Digest;
use crate::ingest::Upload;
use crate::name::BlobName;
use crate::sha256::Sha256Digest;
use crate::stats::count;
use crate::store::Store;

/// Whether what is put here is handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriteThrough {
    /// The upstream is only read.
    #[default]
    Never,
    /// In the background, as far as the queue holds it; a put never waits for the upstream.
    Background,
}

/// How a store uses the cache behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierConfig {
    /// How long a call may take until it is answered, and then each piece of the answer.
    pub patience: Duration,
    /// What is handed on.
    pub write_through: WriteThrough,
    /// Blobs that wait to be handed on; more are not.
    pub queue: usize,
}

impl Default for TierConfig {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(5),
            write_through: WriteThrough::Never,
            queue: 4096,
        }
    }
}

/// What went through a tier since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TierStats {
    /// Blobs found there and kept here.
    pub hits: u64,
    /// Blobs that are not there either.
    pub misses: u64,
    /// Calls that failed or took too long.
    pub failures: u64,
    /// Calls that were not made because the upstream is down.
    pub skipped: u64,
    /// Bytes of the blobs found.
    pub fetched_bytes: u64,
    /// Blobs handed on.
    pub handed_on: u64,
    /// Blobs that were not handed on because too many wait, or the upstream did not take them.
    pub not_handed_on: u64,
}

#[derive(Debug, Default)]
struct Figures {
    hits: AtomicU64,
    misses: AtomicU64,
    failures: AtomicU64,
    skipped: AtomicU64,
    fetched_bytes: AtomicU64,
    handed_on: AtomicU64,
    not_handed_on: AtomicU64,
}

type Flight = Shared<BoxFuture<'static, Option<Digest>>>;
type Handed = (Digest, Option<Sha256Digest>);

/// The cache behind a store. Clones share it.
#[derive(Clone)]
pub struct Tier {
    inner: Arc<Inner>,
}

struct Inner {
    upstream: Box<dyn Upstream>,
    config: TierConfig,
    runtime: Handle,
    breaker: Breaker,
    flights: Mutex<HashMap<BlobName, Flight>>,
    figures: Figures,
    /// Where blobs wait to be handed on; the other end goes to the store.
    queue: mpsc::Sender<Handed>,
    waiting: Mutex<Option<mpsc::Receiver<Handed>>>,
}

impl fmt::Debug for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tier")
            .field("upstream", &self.inner.upstream.name())
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

impl Tier {
    /// A tier that works on `runtime`.
    pub fn new(upstream: Box<dyn Upstream>, config: TierConfig, runtime: Handle) -> Self {
        let (queue, waiting) = mpsc::channel(config.queue.max(1));
        Self {
            inner: Arc::new(Inner {
                upstream,
                config,
                runtime,
                breaker: Breaker::default(),
                flights: Mutex::default(),
                figures: Figures::default(),
                queue,
                waiting: Mutex::new(Some(waiting)),
            }),
        }
    }

    /// What went through.
    pub fn stats(&self) -> TierStats {
        let figures = &self.inner.figures;
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        TierStats {
            hits: read(&figures.hits),
            misses: read(&figures.misses),
            failures: read(&figures.failures),
            skipped: read(&figures.skipped),
            fetched_bytes: read(&figures.fetched_bytes),
            handed_on: read(&figures.handed_on),
            not_handed_on: read(&figures.not_handed_on),
        }
    }

    /// Whether the upstream is left alone for now because it does not answer.
    pub fn is_down(&self) -> bool {
        self.inner.breaker.is_open()
    }

    /// The encoded result of an action; a miss when the upstream does not answer.
    pub async fn get_action(&self, action: &BlobName) -> Option<Bytes> {
        let asked = self.inner.upstream.get_action(action);
        self.inner.call(asked).await.flatten()
    }

    /// Hands the result of an action on; says whether the upstream has taken it.
    pub async fn put_action(&self, action: &BlobName, result: Bytes) -> bool {
        let put = self.inner.upstream.put_action(action, result);
        self.inner.call(put).await.is_some()
    }

    /// Brings a blob into the store; `None` when it cannot be had.
    pub(crate) async fn fetch(&self, store: &Store, name: &BlobName) -> Option<Digest> {
        let flight = {
            let mut flights = lock(&self.inner.flights);
            match flights.get(name) {
                Some(flight) => flight.clone(),
                None => {
                    let flight = self.start(store, *name);
                    flights.insert(*name, flight.clone());
                    flight
                }
            }
        };
        flight.await
    }

    /// A task of its own: who asked first may go away.
    fn start(&self, store: &Store, name: BlobName) -> Flight {
        let (inner, store) = (Arc::clone(&self.inner), store.clone());
        let task = self.inner.runtime.spawn(async move {
            let digest = inner.promote(&store, &name).await;
            lock(&inner.flights).remove(&name);
            digest
        });
        task.map(|ended| ended.ok().flatten()).boxed().shared()
    }

    /// Takes note of a blob that was put.
    pub(crate) fn offer(&self, digest: Digest, sha256: Option<Sha256Digest>) {
        if self.inner.config.write_through == WriteThrough::Background
            && self.inner.queue.try_send((digest, sha256)).is_err()
        {
            count(&self.inner.figures.not_handed_on, 1);
        }
    }

    /// Starts handing on what is put into a store; ends when the store has closed.
    pub(crate) fn serve(&self, read: impl AsyncReadBlob) {
        let Some(mut waiting) = lock(&self.inner.waiting).take() else {
            return;
        };
        let inner = Arc::downgrade(&self.inner);
        self.inner.runtime.spawn(async move {
            while let Some((digest, sha256)) = waiting.recv().await {
                let Some(inner) = inner.upgrade() else { return };
                // Evicted meanwhile, or the store has closed.
                let Some(content) = read.read(digest).await else {
                    continue;
                };
                let put = inner.upstream.put(&digest, sha256.as_ref(), content);
                let counter = match inner.call(put).await {
                    Some(()) => &inner.figures.handed_on,
                    None => &inner.figures.not_handed_on,
                };
                count(counter, 1);
            }
        });
    }
}

/// Reads blobs for the tier without keeping the store open.
pub(crate) trait AsyncReadBlob: Send + 'static {
    fn read(&self, digest: Digest) -> impl Future<Output = Option<Blob>> + Send;
}

impl Inner {
    /// Makes a call, unless the upstream is down.
    async fn call<T>(&self, call: impl Future<Output = Result<T, UpstreamError>>) -> Option<T> {
        if !self.breaker.allows(Instant::now()) {
            count(&self.figures.skipped, 1);
            return None;
        }
        match timeout(self.config.patience, call).await {
            Ok(Ok(answer)) => {
                self.breaker.succeeded();
                Some(answer)
            }
            Ok(Err(error)) => self.note(&error),
            Err(_) => self.note(&UpstreamError::new(
                self.upstream.name(),
                "no answer in time",
            )),
        }
    }

    fn note<T>(&self, error: &UpstreamError) -> Option<T> {
        count(&self.figures.failures, 1);
        match self.breaker.failed(Instant::now()) {
            true => tracing::warn!(%error, "upstream is down; going on without it"),
            false => tracing::debug!(%error, "upstream failed"),
        }
        None
    }

    async fn promote(&self, store: &Store, name: &BlobName) -> Option<Digest> {
        let Some(pieces) = self.call(self.upstream.get(name)).await? else {
            count(&self.figures.misses, 1);
            return None;
        };
        let kept = self.keep(store, name, pieces).await;
        match kept {
            Ok(digest) => {
                count(&self.figures.hits, 1);
                count(&self.figures.fetched_bytes, digest.size_bytes());
                Some(digest)
            }
            Err(error) => self.note(&error),
        }
    }

    /// Writes what comes in to the store, which hashes it.
    async fn keep(
        &self,
        store: &Store,
        name: &BlobName,
        mut pieces: Pieces,
    ) -> Result<Digest, UpstreamError> {
        let failed = |message: &dyn fmt::Display| {
            UpstreamError::new(self.upstream.name(), format!("{name}: {message}"))
        };
        let mut upload = store.upload_as(*name);
        while let Some(piece) = timeout(self.config.patience, pieces.next())
            .await
            .map_err(|_| failed(&"the answer stopped"))?
        {
            upload = write(upload, piece?)
                .await
                .map_err(|error| failed(&error))?;
        }
        let committed = store.commit_local(upload).await;
        committed.map_err(|error| failed(&error))
    }
}

/// Writes on a thread that may wait for the disk.
async fn write(mut upload: Upload, piece: Bytes) -> Result<Upload, String> {
    let written = tokio::task::spawn_blocking(move || upload.write(&piece).map(|()| upload));
    let written = written.await.map_err(|error| error.to_string())?;
    written.map_err(|error| error.to_string())
}

/// What is guarded stays whole: it is changed by single calls only.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
