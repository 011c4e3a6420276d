//! The cache behind a store: fetching what is missing, and handing on what was put.
//!
//! Owns: time limits, when the breaker opens, and the figures.
//! Does not know: the protocol (`Upstream`), how a blob gets into the store (`promote`), or when the
//! store asks.
//! Invariants: one blob is fetched once, however many ask for it meanwhile; nobody waits for a
//! server that makes no progress longer than the patience; whatever fails there is a miss here.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::breaker::Breaker;
use super::flights::Flights;
use super::hand_on::{AsyncReadBlob, Encode, Handed, hand_on};
use super::promote::{Fetched, Promoted, READ_THROUGH_AT_ONCE};
use super::{Upstream, UpstreamError};
use crate::blob::Blob;
use crate::digest::Digest;
use crate::name::{BlobName, HashFunction};
use crate::stats::count;
use crate::store::Store;

/// An upload may take the patience and, on top of it, a second for so many bytes.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 * 1024;

/// Whether what is put here is handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
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
    /// How long a call may take until it is answered, and then each piece of the answer. An upload
    /// may take longer by a second for each 256 KiB.
    pub patience: Duration,
    /// What is handed on.
    pub write_through: WriteThrough,
    /// Blobs and results that wait to be handed on; more are not.
    pub queue: usize,
    /// Whether the log says when the upstream is down; otherwise the owner tells [`Tier::trouble`].
    pub announces: bool,
}

impl Default for TierConfig {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(5),
            write_through: WriteThrough::Never,
            queue: 4096,
            announces: true,
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
    /// Results of actions found there.
    pub action_hits: u64,
    /// Results of actions that are not there either.
    pub action_misses: u64,
    /// Calls that failed or took too long.
    pub failures: u64,
    /// Calls that were not made because the upstream is down.
    pub skipped: u64,
    /// Bytes of the blobs found.
    pub fetched_bytes: u64,
    /// Blobs and results handed on.
    pub handed_on: u64,
    /// Blobs and results that were not handed on because too many wait, or the upstream did not
    /// take them.
    pub not_handed_on: u64,
}

#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    action_hits: AtomicU64,
    action_misses: AtomicU64,
    failures: AtomicU64,
    skipped: AtomicU64,
    pub(super) fetched_bytes: AtomicU64,
    handed_on: AtomicU64,
    not_handed_on: AtomicU64,
}

/// The cache behind a store. Clones share it.
#[derive(Clone)]
pub struct Tier {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) upstream: Box<dyn Upstream>,
    pub(super) config: TierConfig,
    runtime: Handle,
    breaker: Breaker,
    /// Why the last call that failed did.
    trouble: Mutex<Option<UpstreamError>>,
    blobs: Flights<BlobName, Promoted>,
    /// Blobs that are read through.
    reads: Flights<BlobName, Fetched>,
    results: Flights<BlobName, Bytes>,
    pub(super) figures: Figures,
    /// Who may read through to memory.
    pub(super) reading_through: Semaphore,
    /// Where blobs and results wait to be handed on; the other end goes to the store.
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
                trouble: Mutex::default(),
                blobs: Flights::default(),
                reads: Flights::default(),
                results: Flights::default(),
                figures: Figures::default(),
                reading_through: Semaphore::new(READ_THROUGH_AT_ONCE),
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
            action_hits: read(&figures.action_hits),
            action_misses: read(&figures.action_misses),
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

    /// Why the last call that failed did.
    pub fn trouble(&self) -> Option<UpstreamError> {
        lock(&self.inner.trouble).clone()
    }

    /// The address of the upstream.
    pub fn name(&self) -> &str {
        self.inner.upstream.name()
    }

    /// The hash by which the upstream names what it is given; `None` when it does not answer.
    pub async fn function(&self) -> Option<HashFunction> {
        let asked = self.inner.upstream.function();
        self.inner.call(self.inner.config.patience, asked).await
    }

    /// The encoded result of an action; a miss when the upstream does not answer.
    pub async fn get_action(&self, action: &BlobName) -> Option<Bytes> {
        let (inner, action) = (&self.inner, *action);
        let ask = || {
            let inner = Arc::clone(inner);
            async move { inner.result(&action).await }
        };
        inner.results.join(&inner.runtime, action, ask).await
    }

    /// Hands the result of an action on; says whether the upstream has taken it.
    pub async fn put_action(&self, action: &BlobName, result: Bytes) -> bool {
        let put = self.inner.upstream.put_action(action, result);
        self.inner
            .call(self.inner.config.patience, put)
            .await
            .is_some()
    }

    /// Brings a blob into the store; `None` when it cannot be had or kept.
    pub(crate) async fn bring(&self, store: &Store, name: &BlobName) -> Option<Digest> {
        match self.promote(store, name).await? {
            Promoted::Kept(digest) => Some(digest),
            Promoted::Unkept => None,
        }
    }

    /// Brings a blob into the store, or only here where the store cannot keep it; `None` when it
    /// cannot be had.
    pub(crate) async fn fetch(&self, store: &Store, name: &BlobName) -> Option<Fetched> {
        let (inner, name) = (&self.inner, *name);
        let read = || {
            let inner = Arc::clone(inner);
            async move { inner.read_through(&name).await }
        };
        match self.promote(store, &name).await? {
            Promoted::Kept(digest) => Some(Fetched {
                digest,
                unkept: None,
            }),
            Promoted::Unkept => inner.reads.join(&inner.runtime, name, read).await,
        }
    }

    async fn promote(&self, store: &Store, name: &BlobName) -> Option<Promoted> {
        let (inner, name) = (&self.inner, *name);
        let promote = || {
            let (inner, store) = (Arc::clone(inner), store.clone());
            async move { inner.promote(&store, &name).await }
        };
        inner.blobs.join(&inner.runtime, name, promote).await
    }

    /// Whether what is put here is handed on.
    pub(crate) fn hands_on(&self) -> bool {
        self.inner.config.write_through == WriteThrough::Background
    }

    /// Takes note of what was put.
    pub(crate) fn offer(&self, handed: Handed) {
        if self.hands_on() && self.inner.queue.try_send(handed).is_err() {
            count(&self.inner.figures.not_handed_on, 1);
        }
    }

    /// Starts handing on what is put into a store; ends when the store has closed.
    pub(crate) fn serve(&self, read: impl AsyncReadBlob) {
        let Some(waiting) = lock(&self.inner.waiting).take() else {
            return;
        };
        let (inner, read) = (Arc::downgrade(&self.inner), Arc::new(read));
        let send = move |handed: Handed| {
            let (inner, read) = (inner.upgrade(), Arc::clone(&read));
            async move {
                // Evicted meanwhile, or the store has closed.
                if let (Some(inner), Some(content)) = (inner, read.read(handed.blob()).await) {
                    inner.send(handed, content).await;
                }
            }
        };
        self.inner.runtime.spawn(hand_on(waiting, send));
    }
}

impl Inner {
    async fn result(&self, action: &BlobName) -> Option<Bytes> {
        let asked = self.upstream.get_action(action);
        let result = self.call(self.config.patience, asked).await?;
        let counter = match &result {
            Some(_) => &self.figures.action_hits,
            None => &self.figures.action_misses,
        };
        count(counter, 1);
        result
    }

    async fn send(&self, handed: Handed, content: Blob) {
        let seconds = content.len() as u64 / SLOWEST_BYTES_PER_SECOND;
        let limit = self.config.patience + Duration::from_secs(seconds);
        let sent = match handed {
            Handed::Blob(digest, sha256) => {
                let put = self.upstream.put(&digest, sha256.as_ref(), content);
                self.call(limit, put).await
            }
            Handed::Result { action, encode, .. } => {
                let function = self.call(limit, self.upstream.function()).await;
                match encoded(encode, content, function).await {
                    Some(result) => {
                        let put = self.upstream.put_action(&action, result);
                        self.call(limit, put).await
                    }
                    None => None,
                }
            }
        };
        let counter = match sent {
            Some(()) => &self.figures.handed_on,
            None => &self.figures.not_handed_on,
        };
        count(counter, 1);
    }

    /// Makes a call, unless the upstream is down.
    pub(super) async fn call<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, UpstreamError>>,
    ) -> Option<T> {
        if !self.breaker.allows(Instant::now()) {
            count(&self.figures.skipped, 1);
            return None;
        }
        match timeout(limit, call).await {
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

    pub(super) fn note<T>(&self, error: &UpstreamError) -> Option<T> {
        count(&self.figures.failures, 1);
        *lock(&self.trouble) = Some(error.clone());
        match self.breaker.failed(Instant::now()) && self.config.announces {
            true => tracing::warn!(%error, "upstream is down; going on without it"),
            false => tracing::debug!(%error, "upstream failed"),
        }
        None
    }
}

/// Encodes on a thread that may take long: it may have to hash the content.
async fn encoded(encode: Encode, content: Blob, function: Option<HashFunction>) -> Option<Bytes> {
    let function = function?;
    let encoded = tokio::task::spawn_blocking(move || encode(content, function));
    encoded.await.ok()?.ok()
}

/// What is guarded stays whole: it is changed by single calls only.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
