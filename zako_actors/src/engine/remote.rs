//! The remote cache: results of other machines, and ours for them.
//!
//! Owns how a result is written there and by which names its files go, what is fetched and what is
//! handed on, and the bound on waiting for it. Does not know the protocols, nor when a server counts as down: that is the store's
//! tier.
//! Invariants: a server that is down, slow or wrong costs a bounded wait and no correctness: whatever
//! comes from there is hashed, and whatever does not come is built; a result is handed on after
//! its files.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cas_actor::{
    Blob, BlobName, Digest, HashFunction, Sha256Digest, Store, Tier, TierConfig, Upstream,
    UpstreamConfig, UpstreamConfigError,
};
use prost::Message;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::hash::Hash;
use super::record::{ActionResult, OutputKind};
use crate::machine::Machine;

/// How long one call may take before the build goes on without its answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the end of a build waits for results that are still on their way there.
const FAREWELL: Duration = Duration::from_secs(10);
/// Caches want a size with a name; for an action any fixed one does.
const ACTION_SIZE_BYTES: u64 = 32;

/// Why an address is no remote cache.
#[derive(Debug, thiserror::Error)]
#[error("remote cache `{address}` {why}")]
pub struct RemoteError {
    address: String,
    why: String,
}

/// An action result of the remote execution API, as far as it carries ours.
#[derive(Clone, PartialEq, Message)]
struct Wrapped {
    /// The names of its files, in our order, for a server that does not know those in our result.
    #[prost(message, repeated, tag = "2")]
    output_files: Vec<OutputFile>,
    #[prost(bytes = "vec", tag = "5")]
    stdout_raw: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct OutputFile {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(message, optional, tag = "2")]
    digest: Option<FileDigest>,
}

#[derive(Clone, PartialEq, Message)]
struct FileDigest {
    #[prost(string, tag = "1")]
    hash: String,
    #[prost(int64, tag = "2")]
    size_bytes: i64,
}

impl OutputFile {
    fn new(digest: &Digest, sha256: &Sha256Digest) -> Self {
        Self {
            path: digest.hex(),
            digest: Some(FileDigest {
                hash: sha256.hex(),
                size_bytes: i64::try_from(sha256.size_bytes()).unwrap_or(i64::MAX),
            }),
        }
    }

    fn name(&self) -> Option<BlobName> {
        let digest = self.digest.as_ref()?;
        let size_bytes = u64::try_from(digest.size_bytes).ok()?;
        let sha256 = Sha256Digest::from_hex(&digest.hash, size_bytes).ok()?;
        Some(sha256.into())
    }
}

/// A cache on another machine.
pub struct Remote {
    store: Store,
    tier: Tier,
    upstream: Arc<dyn Upstream>,
    runtime: Handle,
    on_their_way: Mutex<Vec<JoinHandle<()>>>,
    /// Bounds how many are handed on at a time.
    uploads: Arc<Semaphore>,
}

impl Remote {
    /// Puts `server` behind `store`: `http[s]://…` speaks as Bazel does to an HTTP cache, `grpc[s]://…`
    /// the remote execution API; both with BLAKE3 where the server knows that and SHA-256 elsewhere.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn attach(
        store: &Store,
        server: &UpstreamConfig,
        runtime: Handle,
    ) -> Result<Self, RemoteError> {
        let _entered = runtime.enter();
        let config = TierConfig {
            patience: PATIENCE,
            ..TierConfig::default()
        };
        let wrong = |error: UpstreamConfigError| RemoteError {
            address: server.address.clone(),
            why: error.problem().to_owned(),
        };
        // One for reading, which the tier owns, and one for handing on: a slow upload must not be
        // taken for a server that does not answer.
        let tier = Tier::new(server.connect().map_err(wrong)?, config, runtime.clone());
        let upstream: Arc<dyn Upstream> = Arc::from(server.connect().map_err(wrong)?);
        store.set_upstream(tier.clone());
        Ok(Self {
            store: store.clone(),
            tier,
            upstream,
            runtime,
            on_their_way: Mutex::default(),
            uploads: Arc::new(Semaphore::new(Machine::look().defaults().network_jobs)),
        })
    }

    /// The result of action `key`, with all its files in the store. Blocks.
    pub fn fetch(&self, key: &Hash) -> Option<ActionResult> {
        self.runtime.block_on(async {
            let function = self.tier.function().await?;
            let bytes = self.tier.get_action(&name_of(key, function)).await?;
            let wrapped = Wrapped::decode(bytes).ok()?;
            let result: ActionResult = postcard::from_bytes(&wrapped.stdout_raw).ok()?;
            let files = files(&result);
            let missing = self.store.contains(&files).await.ok()?;
            let missing = missing.iter().map(|here| !here);
            let names: Vec<BlobName> = match function {
                HashFunction::Blake3 => files.iter().copied().map(BlobName::from).collect(),
                HashFunction::Sha256 => {
                    let names = wrapped.output_files.iter().map(OutputFile::name);
                    names.collect::<Option<_>>()?
                }
            };
            if names.len() != files.len() {
                return None;
            }
            let missing = names.into_iter().zip(files).zip(missing);
            let (names, files): (Vec<BlobName>, Vec<Digest>) = missing
                .filter_map(|(file, missing)| missing.then_some(file))
                .unzip();
            let brought = self.store.bring(&names).await.ok()?;
            let wanted = files.into_iter().map(Some);
            brought.into_iter().eq(wanted).then_some(result)
        })
    }

    /// Hands a result and its files on, in the background.
    pub fn hand_on(&self, key: &Hash, result: &ActionResult) {
        if self.tier.is_down() {
            return;
        }
        let Ok(stdout_raw) = postcard::to_stdvec(result) else {
            return;
        };
        let (key, files) = (*key, files(result));
        let (store, upstream, tier) = (
            self.store.clone(),
            Arc::clone(&self.upstream),
            self.tier.clone(),
        );
        let uploads = Arc::clone(&self.uploads);
        let task = self.runtime.spawn(async move {
            let _turn = uploads.acquire().await;
            let Some(function) = tier.function().await else {
                return;
            };
            let mut output_files = Vec::new();
            for digest in files {
                let Ok(blob) = store.get(&digest).await else {
                    return;
                };
                let sha256 = second_name(function, &blob).await;
                output_files.extend(sha256.map(|name| OutputFile::new(&digest, &name)));
                if let Err(error) = upstream.put(&digest, sha256.as_ref(), blob).await {
                    tracing::debug!("a result was not handed on: {error}");
                    return;
                }
            }
            let wrapped = Wrapped {
                output_files,
                stdout_raw,
            };
            let action = Bytes::from(wrapped.encode_to_vec());
            tier.put_action(&name_of(&key, function), action).await;
        });
        let mut tasks = self
            .on_their_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    /// Waits for what is on its way there, up to a bound. Blocks.
    pub fn finish(&self) {
        let tasks = std::mem::take(
            &mut *self
                .on_their_way
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let all = futures_util::future::join_all(tasks);
        let waited = self
            .runtime
            .block_on(async { timeout(FAREWELL, all).await });
        if waited.is_err() {
            tracing::warn!("the remote cache is slow: some results were not handed on");
        }
    }
}

/// The name of a file where ours is not known.
async fn second_name(function: HashFunction, blob: &Blob) -> Option<Sha256Digest> {
    if function == HashFunction::Blake3 {
        return None;
    }
    let blob = blob.clone();
    tokio::task::spawn_blocking(move || Sha256Digest::of(&blob))
        .await
        .ok()
}

/// A key is no hash of anything that a server has, so it goes as one of whichever function.
fn name_of(key: &Hash, function: HashFunction) -> BlobName {
    BlobName::new(Some(function), *key.bytes(), Some(ACTION_SIZE_BYTES))
}

fn files(result: &ActionResult) -> Vec<Digest> {
    let files = result.outputs.iter().filter_map(|item| match item.kind {
        OutputKind::File {
            hash, size_bytes, ..
        } => Some(Digest::new(*hash.bytes(), size_bytes)),
        _ => None,
    });
    files.collect()
}
