//! Whether the way of content from the network into the store and back works, found out by using it.
//!
//! Owns: the check. Does not know: who asks, or that there is a network before all this.
#![forbid(unsafe_code)]

use std::sync::Arc;

use bytes::Bytes;

use super::intake::Intake;
use super::listen::Shared;
use crate::{BlobName, ByteRange, Digest, Durability};

const CONTENT: &[u8] = b"zako checks whether what is uploaded can be downloaded in part\n";
const PART: ByteRange = ByteRange::new(5, 6);

/// A handle to check a [`Front`](super::Front).
#[derive(Clone)]
pub struct FrontProbe(pub(crate) Arc<Shared>);

impl std::fmt::Debug for FrontProbe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrontProbe").finish_non_exhaustive()
    }
}

impl FrontProbe {
    /// Uploads a content under its name as clients do, has it verified, and reads a part of it.
    ///
    /// # Errors
    /// What did not work, in words.
    pub async fn check(&self) -> Result<(), String> {
        let store = &self.0.store;
        let digest = Digest::of(CONTENT);
        let mut intake = Intake::new(
            store.upload_as(BlobName::from(digest)),
            self.0.limits.upload_bytes,
        );
        let taken = intake.take(Bytes::from_static(CONTENT)).await;
        taken.map_err(|error| format!("cannot take an upload in: {error}"))?;
        let complete = intake.complete().await;
        let complete = complete.map_err(|error| format!("cannot verify an upload: {error}"))?;
        let stored = complete.store(store, Durability::Volatile).await;
        stored.map_err(|error| format!("cannot store an upload: {error}"))?;
        let part = store.get_range(&digest, PART).await;
        let part = part.map_err(|error| format!("cannot read a part: {error}"))?;
        let (start, end) = (PART.start as usize, (PART.start + PART.length) as usize);
        match part[..] == CONTENT[start..end] {
            true => Ok(()),
            false => Err("a part that was read is not what was uploaded".to_owned()),
        }
    }
}
