//! Uploads that can be gone on with, as the services of gRPC know them.
//!
//! Owns: what an upload is called in the store, and the status when it cannot be gone on with.
//! Does not know: where and for how long an interrupted one is kept (`crate::partial`).
#![forbid(unsafe_code)]

use tonic::Status;

use super::failure::{Failure, failed};
use super::{Api, Name};
use crate::partial::ResumeError;
use crate::{ActionKey, Upload};

impl Api {
    /// A new upload, or one that goes on at `offset`, counted in bytes of the content.
    pub(super) async fn begin(
        &self,
        called: &str,
        name: &Name,
        offset: u64,
    ) -> Result<Upload, Status> {
        let store = self.shared.store.clone();
        let (id, name) = (id_of(called), name.blob());
        if offset == 0 {
            return Ok(store.begin_partial(id, name));
        }
        // Reads what there is.
        let resumed = tokio::task::spawn_blocking(move || store.resume_partial(id, name, offset));
        let resumed = resumed.await;
        let resumed = resumed.map_err(|_| Status::unavailable("the node is shutting down"))?;
        resumed.map_err(failed)
    }

    /// How many bytes of the content are here of an upload that has not ended.
    pub(super) fn committed_bytes(&self, called: &str) -> Result<u64, Status> {
        let bytes = self.shared.store.partial_bytes(&id_of(called));
        bytes.ok_or_else(|| ResumeError::Unknown.status())
    }
}

fn id_of(called: &str) -> ActionKey {
    *blake3::hash(called.as_bytes()).as_bytes()
}

impl Failure for ResumeError {
    fn status(self) -> Status {
        let said = self.to_string();
        match self {
            Self::Unknown => Status::not_found(said),
            Self::Busy => Status::unavailable(said),
            Self::Ahead { .. } => Status::out_of_range(said),
            Self::Io(_) => Status::internal(said),
        }
    }
}
