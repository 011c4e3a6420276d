//! Whether the way of content from the network into the store and back works, found out by using it.
//!
//! Owns: the checks, and how often they are made.
//! Does not know: who asks, or that there is a network before all this.
//! Invariants: what a check stores has no second name, is not handed on to a cache behind the store, and is
//! deleted however the check ends; however many ask, a check is made once a second at most.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use blake3::Hasher;
use bytes::Bytes;
use tokio::sync::Mutex;

use super::intake::{Intake, IntakeError};
use super::listen::Shared;
use crate::staging::{Expected, Verified};
use crate::{ByteRange, Digest, Durability, PutError, Store, Upload};

/// More than the store keeps in a segment, which stays open: a file has to be made, so that a disk or a
/// directory that fails is noticed.
const FILE_BYTES: usize = 80 * 1024;
/// What the store keeps in a segment.
const PACKED_BYTES: usize = 1024;
/// How long what was found out holds.
const FRESH: Duration = Duration::from_secs(1);

type Outcome = Result<(), String>;

/// What the checks have found out.
#[derive(Debug, Default)]
pub(crate) struct Probed {
    transport: Recent,
    store: Recent,
}

/// What a check has found out last, and when.
#[derive(Debug, Default)]
struct Recent(Arc<Mutex<Option<(Instant, Outcome)>>>);

impl Recent {
    /// What `check` finds out, or has found out just now.
    async fn or<C>(&self, check: impl FnOnce() -> C) -> Outcome
    where
        C: Future<Output = Outcome> + Send + 'static,
    {
        let mut last = Arc::clone(&self.0).lock_owned().await;
        if let Some((when, outcome)) = &*last
            && when.elapsed() < FRESH
        {
            return outcome.clone();
        }
        let check = check();
        // A task of its own comes to its end, and deletes what it has stored, although whoever asked may
        // have gone.
        let checked = tokio::spawn(async move {
            let outcome = check.await;
            if let Err(error) = &outcome {
                tracing::warn!(error, "the store fails");
            }
            *last = Some((Instant::now(), outcome.clone()));
            outcome
        });
        let checked = checked.await;
        checked.unwrap_or_else(|_| Err("the check did not come to its end".to_owned()))
    }
}

/// A handle to check a [`Front`](super::Front).
#[derive(Clone)]
pub struct FrontProbe(pub(crate) Arc<Shared>);

impl std::fmt::Debug for FrontProbe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrontProbe").finish_non_exhaustive()
    }
}

impl FrontProbe {
    /// Uploads a new content as clients do, has it verified, reads a part of it, and deletes it. A full store,
    /// which has no room for it, works: it goes on answering. The answer may be a second old.
    ///
    /// # Errors
    /// What did not work, in words.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn check(&self) -> Result<(), String> {
        let shared = Arc::clone(&self.0);
        let check = || async move {
            let content = content(FILE_BYTES);
            let stored = upload(&shared, &content).await;
            read_and_delete(&shared.store, stored, &content).await
        };
        self.0.probed.transport.or(check).await
    }

    /// The same for the store alone, which is given the whole content at once.
    ///
    /// # Errors
    /// What did not work, in words.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn check_store(&self) -> Result<(), String> {
        let shared = Arc::clone(&self.0);
        let check = || async move {
            let content = content(PACKED_BYTES);
            let store = shared.store.with_durability(Durability::Volatile);
            let hasher = Expected::Anything.hasher(false);
            let verified = Verified::hash(content.clone(), hasher);
            let stored = store.put_local(verified).await;
            let stored = stored.map(drop).map_err(IntakeError::Put);
            read_and_delete(&store, stored, &content).await
        };
        self.0.probed.store.or(check).await
    }
}

/// Takes a content in as from a client.
async fn upload(shared: &Shared, content: &Bytes) -> Result<(), IntakeError> {
    let store = shared.store.with_durability(Durability::Volatile);
    let room = store.config().max_bytes;
    let room = room.map(|_| Arc::clone(&store.inner.room));
    let expected = Expected::Blake3(Digest::of(content));
    let upload = Upload::new(Arc::clone(&store.inner.staging), room, expected, false);
    let mut intake = Intake::new(upload, content.len() as u64);
    intake.take(content.clone()).await?;
    let complete = intake.complete().await?;
    complete.store_local(&store).await
}

/// The end of a check: a part of what was stored is read, if it was, and nothing is left of it.
async fn read_and_delete(
    store: &Store,
    stored: Result<(), IntakeError>,
    content: &Bytes,
) -> Outcome {
    let digest = Digest::of(content);
    let part = ByteRange::new(content.len() as u64 / 2, content.len() as u64 / 4);
    let read = match &stored {
        Ok(()) => Some(store.get_here(&digest).await),
        Err(_) => None,
    };
    // Also after a failure: what was told to have failed may be there all the same.
    let deleted = store.delete(&digest).await;
    match stored {
        Err(IntakeError::Put(PutError::OverBudget { .. })) => return Ok(()),
        stored => stored.map_err(|error| format!("cannot store a content: {error}"))?,
    }
    let cannot_read = |error: &dyn std::fmt::Display| format!("cannot read a part: {error}");
    if let Some(blob) = read {
        let blob = blob.map_err(|error| cannot_read(&error))?;
        let part_read = blob.slice(part).map_err(|error| cannot_read(&error))?;
        let (start, end) = (part.start as usize, (part.start + part.length) as usize);
        if part_read[..] != content[start..end] {
            return Err("a part that was read is not what was stored".to_owned());
        }
    }
    deleted.map_err(|error| format!("cannot delete a blob: {error}"))?;
    Ok(())
}

/// A content that no store has: one that is there would not have to be written.
fn content(size_bytes: usize) -> Bytes {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut hasher = Hasher::new();
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    hasher.update(&since.unwrap_or_default().as_nanos().to_le_bytes());
    hasher.update(&std::process::id().to_le_bytes());
    hasher.update(&NEXT.fetch_add(1, Relaxed).to_le_bytes());
    let mut content = vec![0; size_bytes];
    hasher.finalize_xof().fill(&mut content);
    content.into()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::{Front, FrontConfig};
    use super::*;
    use crate::StoreConfig;

    /// A front over a store with names of SHA-256.
    fn front(max_bytes: Option<u64>) -> (tempfile::TempDir, actor_rt::System, Front) {
        let directory = tempfile::tempdir().unwrap();
        let system = actor_rt::System::new().unwrap();
        let config = StoreConfig {
            sha256_names: true,
            max_bytes,
            ..StoreConfig::new(directory.path())
        };
        let store = Store::open(config, &system).unwrap();
        let front = Front::new(store, &FrontConfig::default()).unwrap();
        (directory, system, front)
    }

    #[tokio::test]
    async fn checks_leave_nothing_behind() {
        let (_directory, _system, front) = front(None);
        let probe = front.probe();
        assert_eq!(probe.check().await, Ok(()));
        assert_eq!(probe.check_store().await, Ok(()));
        let left = probe.0.store.blocking().verify(|_| ()).unwrap();
        assert_eq!(left.checked, 0);
        assert_eq!(probe.0.store.stats().await.unwrap().blobs, 0);
    }

    #[tokio::test]
    async fn a_check_that_nobody_waits_for_comes_to_its_end() {
        let (_directory, _system, front) = front(None);
        let probe = front.probe();
        assert_eq!(probe.check().now_or_never(), None);
        // Whoever asks next waits for that one.
        let last = probe.0.probed.transport.0.lock().await.clone();
        assert_eq!(last.map(|(_, outcome)| outcome), Some(Ok(())));
        assert_eq!(probe.0.store.stats().await.unwrap().blobs, 0);
    }

    #[tokio::test]
    async fn a_full_store_works() {
        let (_directory, _system, front) = front(Some(500));
        let probe = front.probe();
        let full = probe.0.store.put(content(FILE_BYTES)).await;
        assert!(matches!(full, Err(PutError::OverBudget { .. })), "{full:?}");
        assert_eq!(probe.check().await, Ok(()));
        assert_eq!(probe.check_store().await, Ok(()));
    }

    #[tokio::test]
    async fn what_was_found_out_holds_for_everybody_who_asks_soon() {
        let recent = Recent::default();
        let now = Instant::now();
        *recent.0.lock().await = Some((now, Err("broken".to_owned())));
        let asked = async || recent.or(|| async { Ok(()) }).await;
        let (answer, elapsed) = (asked().await, now.elapsed());
        assert!(answer.is_err() || elapsed >= FRESH);
        *recent.0.lock().await = now
            .checked_sub(FRESH)
            .map(|then| (then, Err(String::new())));
        assert_eq!(asked().await, Ok(()));
    }
}
