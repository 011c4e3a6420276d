//! What can go wrong, one small enum per operation; each variant says what the caller can do.
//!
//! Owns: the error types of the store's operations and the classification of I/O failures.
//! Does not know: how an operation works.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::blob::RangeError;
use crate::digest::Digest;
use crate::name::BlobName;
use crate::sha256::Sha256Digest;

/// A call to the operating system that failed. Cheap to clone: one failing fsync answers a
/// whole group of puts.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct IoFailure {
    /// What was attempted, as a verb: "write", "read", "rename".
    pub action: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: Arc<io::Error>,
}

impl IoFailure {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            action,
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }

    /// The kind of the operating system's error.
    pub fn kind(&self) -> ErrorKind {
        self.source.kind()
    }

    fn is_out_of_space(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
        )
    }

    /// Whether removing something would help.
    pub(crate) fn is_full(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded
        )
    }

    fn is_read_only(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied
        )
    }
}

/// Attaches what was attempted to an [`io::Result`].
pub(crate) trait During<T> {
    fn during(self, action: &'static str, path: &Path) -> Result<T, IoFailure>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, action: &'static str, path: &Path) -> Result<T, IoFailure> {
        self.map_err(|source| IoFailure::new(action, path, source))
    }
}

/// A content and a name that is not its.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the content does not match its name: expected {expected}, got blake3:{actual}{}",
    sha256.map(|sha256| format!(" and {sha256}")).unwrap_or_default()
)]
pub struct NameMismatch {
    /// The name that was promised.
    pub expected: BlobName,
    /// The name of what came.
    pub actual: Digest,
    /// Its second name, where that was computed.
    pub sha256: Option<Sha256Digest>,
}

/// Why nothing was stored. Whatever was stored before is untouched.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PutError {
    /// The content is not what the digest names. Fix the input.
    #[error("the content does not match its digest: expected {expected}, got {actual}")]
    DigestMismatch {
        /// The digest that was promised.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// The content is not what the SHA-256 name says. Fix the input.
    #[error("the content does not match its name: expected {expected}, got {actual}")]
    Sha256Mismatch {
        /// The name that was promised.
        expected: Sha256Digest,
        /// The name of what came.
        actual: Sha256Digest,
    },
    /// The content is not what the name says. Fix the input.
    #[error(transparent)]
    NameMismatch(Box<NameMismatch>),
    /// The disk, a quota or a file-size limit is full. Free space or run `gc`, then retry.
    #[error("{0}; free some space or shrink the store, then try again")]
    NoSpace(IoFailure),
    /// The store has reached its own limit, and what it holds is in use or on its way in. Retry
    /// when leases have ended, raise the limit, or do without.
    #[error(
        "no room for {needed_bytes} bytes in a store of at most {limit_bytes} bytes: everything \
         in it was used lately; raise the limit or try again later"
    )]
    OverBudget {
        /// What was to be stored, in bytes.
        needed_bytes: u64,
        /// The limit of the store in bytes.
        limit_bytes: u64,
    },
    /// The store may not be written. Fix the permissions or choose another directory.
    #[error("{0}; the store must be writable")]
    ReadOnly(IoFailure),
    /// The caller's file could not be read. Fix the input.
    #[error("{0}")]
    Source(IoFailure),
    /// The action entry is larger than the store takes. Put the bulk of it into a blob.
    #[error("an action entry of {size_bytes} bytes is too large, the limit is {limit_bytes}")]
    EntryTooLarge {
        /// Its size in bytes as it would be stored.
        size_bytes: u64,
        /// What the store takes.
        limit_bytes: u64,
    },
    /// The caller's reader failed. Nothing was stored; send the content again.
    #[error("the content could not be read to its end: {0}")]
    Stream(Arc<io::Error>),
    /// Another failure of the disk. Look at the machine; a retry may work.
    #[error("{0}")]
    Io(IoFailure),
    /// The store was closed, or its shard failed while it worked on this. Reopen or retry.
    #[error("the store is closed or its shard was restarted")]
    Closed,
}

impl From<IoFailure> for PutError {
    fn from(failure: IoFailure) -> Self {
        if failure.is_out_of_space() {
            Self::NoSpace(failure)
        } else if failure.is_read_only() {
            Self::ReadOnly(failure)
        } else {
            Self::Io(failure)
        }
    }
}

/// Why a blob was not served.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GetError {
    /// The store does not hold it. Produce it or fetch it elsewhere.
    #[error("no blob {0} in the store")]
    NotFound(Digest),
    /// The range reaches past the end. Fix the range.
    #[error(transparent)]
    OutOfRange(#[from] RangeError),
    /// The stored bytes were damaged. They are out of the way now, so the next answer is
    /// `NotFound` and a new put heals the store.
    #[error("blob {digest} was damaged on disk; moved to {}", quarantined.display())]
    Corrupt {
        /// The blob.
        digest: Digest,
        /// Where the damaged bytes lie now.
        quarantined: PathBuf,
    },
    /// The disk failed. Look at the machine; a retry may work.
    #[error("{0}")]
    Io(#[from] IoFailure),
    /// The store was closed, or its shard failed while it worked on this. Reopen or retry.
    #[error("the store is closed or its shard was restarted")]
    Closed,
}

/// Why a blob was not written to the caller's path.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExportError {
    /// The blob could not be read.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The destination could not be written. Fix the path or free space there.
    #[error("{0}")]
    Destination(IoFailure),
}

/// Why something other than a put or a get did not happen.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ShardError {
    /// The disk failed. Look at the machine; a retry may work.
    #[error("{0}")]
    Io(#[from] IoFailure),
    /// The store was closed, or its shard failed while it worked on this. Reopen or retry.
    #[error("the store is closed or its shard was restarted")]
    Closed,
}

impl From<ShardError> for GetError {
    fn from(error: ShardError) -> Self {
        match error {
            ShardError::Io(failure) => failure.into(),
            ShardError::Closed => Self::Closed,
        }
    }
}

impl From<ShardError> for PutError {
    fn from(error: ShardError) -> Self {
        match error {
            ShardError::Io(failure) => failure.into(),
            ShardError::Closed => Self::Closed,
        }
    }
}

/// Why a store did not open.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the store open. Wait for it, or use another directory.
    #[error("the store {} is in use by {}", root.display(), describe_holder(*pid))]
    Locked {
        /// The root of the store.
        root: PathBuf,
        /// The process that holds it, when it could be told.
        pid: Option<u32>,
    },
    /// The directory holds something that this version cannot read.
    #[error(
        "{} is in format `{found}`, this program reads `{expected}`; \
         use the program that wrote it, or another directory, or delete the store",
        path.display()
    )]
    Version {
        /// The version file.
        path: PathBuf,
        /// The first line of that file.
        found: String,
        /// What it should start with.
        expected: &'static str,
    },
    /// The version file names no format at all, and nothing else shows that the directory holds a store.
    #[error(
        "{} names no format of a store, and no records lie beside it; if {} was a store, delete it, \
         and otherwise use another directory",
        path.display(),
        root.display()
    )]
    Damaged {
        /// The version file.
        path: PathBuf,
        /// The root of the store.
        root: PathBuf,
    },
    /// The directory cannot be made, read or written.
    #[error("{0}")]
    Io(#[from] IoFailure),
}

fn describe_holder(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_sorted_by_what_the_caller_can_do() {
        let put = |kind: ErrorKind| {
            PutError::from(IoFailure::new("write", Path::new("/s/x"), kind.into()))
        };
        assert!(matches!(put(ErrorKind::StorageFull), PutError::NoSpace(_)));
        assert!(matches!(put(ErrorKind::FileTooLarge), PutError::NoSpace(_)));
        assert!(matches!(
            put(ErrorKind::ReadOnlyFilesystem),
            PutError::ReadOnly(_)
        ));
        assert!(matches!(put(ErrorKind::NotFound), PutError::Io(_)));
        let said = put(ErrorKind::StorageFull).to_string();
        assert!(said.starts_with("cannot write /s/x: "), "{said}");
    }
}
