//! The remote cache: results of other machines, and ours for them.
//!
//! Owns how a result is written there and by which names its files go, what is fetched and what is
//! handed on. Does not know the protocols, nor when a server counts as down: that is the store's
//! tier; nor how long look-ups wait in all (`allowance`).
//! Invariants: a server that is down, slow or wrong costs a bounded wait and no correctness: whatever
//! comes from there is hashed, and whatever does not come, or cannot be what its step left, is built; that it is not there is said once in a build; a result is handed on after
//! its files; nobody waits for it any more once the build is cancelled.

mod allowance;

use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cas_actor::{
    Blob, BlobName, Digest, HashFunction, Sha256Digest, Store, Tier, TierConfig, Upstream,
    UpstreamConfig, UpstreamConfigError, without_credentials,
};
use futures_util::future::{Either, select};
use prost::Message;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use allowance::{Allowance, Lookup};

use super::cancel::Cancel;
use super::hash::Hash;
use super::record::{ActionResult, OutputKind};
use crate::machine::Machine;

/// How long one call may take before the build goes on without its answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the end of a build waits for results that are still on their way there.
const FAREWELL: Duration = Duration::from_secs(10);
/// An upload may take the patience and, on top of it, a second for so many bytes.
const SLOWEST_UPLOAD_BYTES_PER_SECOND: u64 = 256 * 1024;
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
    /// By which hash it names things. What is known is not asked again: an answer from memory would
    /// make the tier believe that the server answers.
    function: Arc<OnceLock<HashFunction>>,
    allowance: Arc<Allowance>,
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
            announces: false,
            ..TierConfig::default()
        };
        let wrong = |error: UpstreamConfigError| RemoteError {
            address: without_credentials(&server.address),
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
            function: Arc::default(),
            allowance: Arc::new(Allowance::new(without_credentials(&server.address))),
            on_their_way: Mutex::default(),
            uploads: Arc::new(Semaphore::new(Machine::look().defaults().network_jobs)),
        })
    }

    /// The result of action `key`, with all its files in the store, unless it has a `flaw`. Blocks, until `cancel` at the latest.
    pub fn fetch(
        &self,
        key: &Hash,
        cancel: &Cancel,
        flaw: impl Fn(&ActionResult) -> Option<String>,
    ) -> Option<ActionResult> {
        self.wait(cancel, async |lookup| {
            let (wrapped, function) = self.entry(key).await?;
            let result = postcard::from_bytes(&wrapped.stdout_raw);
            let result: ActionResult = self.understood(result)?;
            if let Some(flaw) = flaw(&result) {
                let why = "has results that their steps cannot have left";
                let matter = format!("{why} ({flaw}); such results are not used");
                self.allowance.warn(&matter);
                return None;
            }
            lookup.found(&result);
            self.bring(&wrapped, function, &files(&result)).await?;
            Some(result)
        })
    }

    /// What was kept under `key` with [`keep_note`](Self::keep_note). Blocks as [`fetch`](Self::fetch).
    pub fn note(&self, key: &Hash, cancel: &Cancel) -> Option<Vec<u8>> {
        self.wait(cancel, async |_| Some(self.entry(key).await?.0.stdout_raw))
    }

    /// Waits for an answer as long as the build may.
    fn wait<T>(
        &self,
        cancel: &Cancel,
        ask: impl AsyncFnOnce(&Lookup<'_>) -> Option<T>,
    ) -> Option<T> {
        let lookup = self.allowance.lookup()?;
        let answer = self.runtime.block_on(async {
            let (over, cancelled) = (pin!(lookup.over()), pin!(cancel.token().cancelled()));
            match select(pin!(ask(&lookup)), select(over, cancelled)).await {
                Either::Left((answer, _)) => answer,
                Either::Right(_) => None,
            }
        });
        if answer.is_none() {
            self.tell();
        }
        lookup.end(answer.is_some());
        answer
    }

    /// Says that the server has never answered, or does so no more.
    fn tell(&self) {
        let is_there = self.function.get().is_some() && !self.tier.is_down();
        if let Some(error) = self.tier.trouble().filter(|_| !is_there) {
            let why = format!(
                "does not answer: {}{}; this build goes on without it",
                error.message,
                credentials_hint(&error.message)
            );
            self.allowance.warn(&why);
        }
    }

    /// What there is under `key`, and the hash by which the server names files.
    async fn entry(&self, key: &Hash) -> Option<(Wrapped, HashFunction)> {
        let function = known(&self.function, &self.tier).await?;
        let bytes = self.tier.get_action(&name_of(key, function)).await?;
        Some((self.understood(Wrapped::decode(bytes))?, function))
    }

    /// An answer, unless it is none; then whoever builds is told.
    fn understood<T, E>(&self, answer: Result<T, E>) -> Option<T> {
        if answer.is_err() {
            let why = "answers with what is no result of a step; such answers are not used (is a build cache there?)";
            self.allowance.warn(why);
        }
        answer.ok()
    }

    /// Has all `files` in the store.
    async fn bring(&self, from: &Wrapped, function: HashFunction, files: &[Digest]) -> Option<()> {
        let here = self.store.contains(files).await.ok()?;
        let names: Vec<BlobName> = match function {
            HashFunction::Blake3 => files.iter().copied().map(BlobName::from).collect(),
            HashFunction::Sha256 => {
                let names = from.output_files.iter().map(OutputFile::name);
                names.collect::<Option<_>>()?
            }
        };
        if names.len() != files.len() {
            return None;
        }
        let missing = names.into_iter().zip(files).zip(here);
        let (names, files): (Vec<BlobName>, Vec<Digest>) = missing
            .filter_map(|((name, file), here)| (!here).then_some((name, *file)))
            .unzip();
        let brought = self.store.bring(&names).await.ok()?;
        let wanted = files.into_iter().map(Some);
        brought.into_iter().eq(wanted).then_some(())
    }

    /// Hands a result and its files on, under each of `keys`, in the background.
    pub fn hand_on(&self, keys: &[Hash], result: &ActionResult) {
        if let Ok(stdout_raw) = postcard::to_stdvec(result) {
            self.send(keys, stdout_raw, files(result));
        }
    }

    /// Keeps something small under `key` there, in the background.
    pub fn keep_note(&self, key: &Hash, note: Vec<u8>) {
        self.send(&[*key], note, Vec::new());
    }

    fn send(&self, keys: &[Hash], stdout_raw: Vec<u8>, files: Vec<Digest>) {
        if self.tier.is_down() {
            return;
        }
        let keys = keys.to_vec();
        let (store, upstream, tier) = (
            self.store.clone(),
            Arc::clone(&self.upstream),
            self.tier.clone(),
        );
        let (uploads, function) = (Arc::clone(&self.uploads), Arc::clone(&self.function));
        let allowance = Arc::clone(&self.allowance);
        let task = self.runtime.spawn(async move {
            let _turn = uploads.acquire().await;
            let Some(function) = known(&function, &tier).await else {
                return;
            };
            let mut output_files = Vec::new();
            for digest in files {
                let Ok(blob) = store.get(&digest).await else {
                    return;
                };
                let sha256 = second_name(function, &blob).await;
                output_files.extend(sha256.map(|name| OutputFile::new(&digest, &name)));
                let seconds = digest.size_bytes() / SLOWEST_UPLOAD_BYTES_PER_SECOND;
                let limit = PATIENCE + Duration::from_secs(seconds);
                match timeout(limit, upstream.put(&digest, sha256.as_ref(), blob)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) if is_refusal(&error.message) => {
                        let why = &error.message;
                        let hint = credentials_hint(why);
                        allowance.warn(&format!(
                            "takes no results: {why}{hint}; what this build makes is shared with nobody"
                        ));
                        return;
                    }
                    Ok(Err(error)) => {
                        tracing::debug!("a result was not handed on: {error}");
                        return;
                    }
                    Err(_) => {
                        tracing::debug!("a result was not handed on in time");
                        return;
                    }
                }
            }
            let wrapped = Wrapped {
                output_files,
                stdout_raw,
            };
            let action = Bytes::from(wrapped.encode_to_vec());
            for key in keys {
                tier.put_action(&name_of(&key, function), action.clone())
                    .await;
            }
        });
        let mut tasks = self
            .on_their_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    /// Waits for what is on its way there, up to a bound, and not for a server that is down or
    /// once the build is cancelled. Blocks.
    pub fn finish(&self, cancel: &Cancel) {
        let tasks = std::mem::take(
            &mut *self
                .on_their_way
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        if self.tier.is_down() {
            return self.tell();
        }
        let all = futures_util::future::join_all(tasks);
        let waited = self.runtime.block_on(async {
            let all = pin!(timeout(FAREWELL, all));
            match select(all, pin!(cancel.token().cancelled())).await {
                Either::Left((waited, _)) => waited.is_ok(),
                Either::Right(_) => true,
            }
        });
        if !waited {
            self.allowance
                .warn("is slow: some results were not handed on");
        }
        self.tell();
    }
}

/// What servers say to whoever may not do something: numbers of HTTP, words of gRPC.
const REFUSALS: [&str; 6] = [
    "401",
    "403",
    "405",
    "permission",
    "authenticated",
    "not allowed",
];

/// Whether a server that said this will say it again.
fn is_refusal(said: &str) -> bool {
    let said = said.to_lowercase();
    REFUSALS.iter().any(|word| said.contains(word))
}

/// What to do about a server that wants to know who asks.
fn credentials_hint(said: &str) -> &'static str {
    let said = said.to_lowercase();
    match said.contains("401") || said.contains("authenticat") {
        true => {
            " (it takes a token from ZAKO_REMOTE_TOKEN, or ZAKO_REMOTE_USER and ZAKO_REMOTE_PASSWORD)"
        }
        false => "",
    }
}

/// The hash by which the server names things; it is asked until it has answered once.
async fn known(cell: &OnceLock<HashFunction>, tier: &Tier) -> Option<HashFunction> {
    if let Some(function) = cell.get() {
        return Some(*function);
    }
    // All who do not know it ask at once: one after another, they would wait for a silent server in turn.
    let function = tier.function().await?;
    Some(*cell.get_or_init(|| function))
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
