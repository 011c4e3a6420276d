//! Failures of the store as gRPC status.
//!
//! Owns: which code each failure gets.
#![forbid(unsafe_code)]

use std::io;

use ::bytes::Bytes;
use tonic::Status;

use crate::front::held::NoRoom;
use crate::front::intake::IntakeError;
use crate::{Blob, GetError, PutError, ShardError};

/// A failure that has a status.
pub(super) trait Failure {
    fn status(self) -> Status;
}

/// For `map_err`.
pub(super) fn failed(error: impl Failure) -> Status {
    error.status()
}

/// All of a blob.
pub(super) fn whole(blob: Blob) -> Result<Bytes, Status> {
    blob.read().map_err(failed)
}

fn closing() -> Status {
    Status::unavailable("the store is closing or restarting")
}

/// A failure of our own: told to the log as well.
fn internal(error: &dyn std::error::Error) -> Status {
    tracing::warn!(%error, "a call failed");
    Status::internal(error.to_string())
}

impl Failure for NoRoom {
    fn status(self) -> Status {
        Status::resource_exhausted(self.to_string())
    }
}

/// A file that cannot be read, or was cut off.
impl Failure for io::Error {
    fn status(self) -> Status {
        internal(&self)
    }
}

impl Failure for ShardError {
    fn status(self) -> Status {
        match self {
            Self::Closed => closing(),
            Self::Io(_) => internal(&self),
        }
    }
}

impl Failure for GetError {
    fn status(self) -> Status {
        match &self {
            Self::NotFound(_) | Self::Corrupt { .. } => Status::not_found(self.to_string()),
            Self::OutOfRange(_) => Status::out_of_range(self.to_string()),
            Self::Closed => closing(),
            Self::Io(_) => internal(&self),
        }
    }
}

impl Failure for PutError {
    fn status(self) -> Status {
        match &self {
            Self::NoSpace(_) | Self::OverBudget { .. } => {
                Status::resource_exhausted(self.to_string())
            }
            Self::EntryTooLarge { .. } | Self::NameMismatch(_) => {
                Status::invalid_argument(self.to_string())
            }
            Self::Closed => closing(),
            _ => internal(&self),
        }
    }
}

impl Failure for IntakeError {
    fn status(self) -> Status {
        match self {
            Self::TooLarge { .. } | Self::Compression(_) => {
                Status::invalid_argument(self.to_string())
            }
            Self::Put(error) => error.status(),
            Self::Stopping => Status::unavailable("the node is shutting down"),
        }
    }
}
