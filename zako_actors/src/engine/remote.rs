//! The remote cache: results of other machines, and ours for them.
//!
//! Owns how a result is written there, what is fetched and what is handed on, and the bound on waiting
//! for it. Does not know the protocols, nor when a server counts as down: that is the store's
//! tier.
//! Invariants: a server that is down, slow or wrong costs a bounded wait and no correctness: whatever
//! comes from there is hashed, and whatever does not come is built; a result is handed on after
//! its files.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cas_actor::{
    BlobName, Digest, Store, Tier, TierConfig, Upstream, UpstreamConfig, UpstreamConfigError,
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

/// An action result of the remote execution API, as far as it carries ours: other clients see a
/// result without outputs.
#[derive(Clone, PartialEq, Message)]
struct Wrapped {
    #[prost(bytes = "vec", tag = "5")]
    stdout_raw: Vec<u8>,
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
    /// Puts `server` behind `store`: `http[s]://…` speaks as Bazel does to an HTTP
    /// cache, `grpc[s]://…` the remote execution API with BLAKE3.
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
            let bytes = self.tier.get_action(&name_of(key)).await?;
            let wrapped = Wrapped::decode(bytes).ok()?;
            let result: ActionResult = postcard::from_bytes(&wrapped.stdout_raw).ok()?;
            let names: Vec<BlobName> = files(&result).into_iter().map(BlobName::from).collect();
            let brought = self.store.bring(&names).await.ok()?;
            brought.iter().all(Option::is_some).then_some(result)
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
        let (name, files) = (name_of(key), files(result));
        let action = Bytes::from(Wrapped { stdout_raw }.encode_to_vec());
        let (store, upstream, tier) = (
            self.store.clone(),
            Arc::clone(&self.upstream),
            self.tier.clone(),
        );
        let uploads = Arc::clone(&self.uploads);
        let task = self.runtime.spawn(async move {
            let _turn = uploads.acquire().await;
            for digest in files {
                let Ok(blob) = store.get(&digest).await else {
                    return;
                };
                if let Err(error) = upstream.put(&digest, None, blob).await {
                    tracing::debug!("a result was not handed on: {error}");
                    return;
                }
            }
            tier.put_action(&name, action).await;
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

fn name_of(key: &Hash) -> BlobName {
    BlobName::from(Digest::new(*key.bytes(), ACTION_SIZE_BYTES))
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
