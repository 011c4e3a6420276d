//! Whether the way of content from the network into the store and back works, found out by using it.
//!
//! Owns: the check. Does not know: who asks, or that there is a network before all this.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use blake3::Hasher;
use bytes::Bytes;

use super::intake::Intake;
use super::listen::Shared;
use crate::{BlobName, ByteRange, Digest, Durability};

/// More than the store keeps in a segment, which stays open: a file has to be made, so that a disk or a
/// directory that fails is noticed.
const CONTENT_BYTES: usize = 80 * 1024;
const PART: ByteRange = ByteRange::new(70_000, 6_000);

/// A handle to check a [`Front`](super::Front).
#[derive(Clone)]
pub struct FrontProbe(pub(crate) Arc<Shared>);

impl std::fmt::Debug for FrontProbe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrontProbe").finish_non_exhaustive()
    }
}

impl FrontProbe {
    /// Uploads a new content under its name as clients do, has it verified, reads a part of it, and deletes
    /// it.
    ///
    /// # Errors
    /// What did not work, in words.
    pub async fn check(&self) -> Result<(), String> {
        let store = &self.0.store;
        let content = content();
        let digest = Digest::of(&content);
        let mut intake = Intake::new(
            store.upload_as(BlobName::from(digest)),
            self.0.limits.upload_bytes.max(CONTENT_BYTES as u64),
        );
        let taken = intake.take(content.clone()).await;
        taken.map_err(|error| format!("cannot take an upload in: {error}"))?;
        let complete = intake.complete().await;
        let complete = complete.map_err(|error| format!("cannot verify an upload: {error}"))?;
        let stored = complete.store(store, Durability::Volatile).await;
        stored.map_err(|error| format!("cannot store an upload: {error}"))?;
        let part = store.get_range(&digest, PART).await;
        let part = part.map_err(|error| format!("cannot read a part: {error}"));
        let deleted = store.delete(&digest).await;
        deleted.map_err(|error| format!("cannot delete a blob: {error}"))?;
        let (start, end) = (PART.start as usize, (PART.start + PART.length) as usize);
        match part?[..] == content[start..end] {
            true => Ok(()),
            false => Err("a part that was read is not what was uploaded".to_owned()),
        }
    }
}

/// A content that no store has: one that is there would not have to be written.
fn content() -> Bytes {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut hasher = Hasher::new();
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    hasher.update(&since.unwrap_or_default().as_nanos().to_le_bytes());
    hasher.update(&std::process::id().to_le_bytes());
    hasher.update(&NEXT.fetch_add(1, Relaxed).to_le_bytes());
    let mut content = vec![0; CONTENT_BYTES];
    hasher.finalize_xof().fill(&mut content);
    content.into()
}
