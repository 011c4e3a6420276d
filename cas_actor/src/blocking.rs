//! The store for threads that may wait.
//!
//! Owns: waiting for a future on this thread, and the operations that read or write files of
//! the caller, which exist only here because they block anyway.
//! Does not know: anything that `store` does not know.
#![forbid(unsafe_code)]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use bytes::Bytes;

use crate::action::ActionEntry;
use crate::blob::{Blob, ByteRange};
use crate::commit::Durability;
use crate::digest::Digest;
use crate::error::{ExportError, GetError, PutError, ShardError};
use crate::evict::GcReport;
use crate::export::{Export, write_out};
use crate::ingest::Upload;
use crate::layout::ActionKey;
use crate::name::BlobName;
use crate::sha256::Sha256Digest;
use crate::shard::{Found, PutOutcome};
use crate::staging::{Expected, Verified};
use crate::stats::Stats;
use crate::store::Store;
use crate::take::{Held, Taken, take_file};
use crate::upkeep::{VerifyProgress, VerifyReport};

/// Blobs that [`Blocking::export_many`] asks for ahead of the one it writes.
const EXPORT_WINDOW: usize = 64;

/// [`Store`] with waiting instead of `await`. Not for threads that run actors or tasks.
#[derive(Debug, Clone, Copy)]
pub struct Blocking<'s> {
    store: &'s Store,
}

macro_rules! twins {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)+) => {
        $(
            #[doc = concat!("Waits for [`Store::", stringify!($name), "`].")]
            ///
            /// # Errors
            /// As that.
            pub fn $name(self, $($argument: $type),*) -> $result {
                block_on(self.store.$name($($argument),*))
            }
        )+
    };
}

impl Held for Blocking<'_> {
    fn size(&self, size_bytes: u64) -> bool {
        block_on(self.store.holds_size(size_bytes))
    }

    fn blob(&self, digest: Digest) -> bool {
        // A failure shows again when the copy is put.
        block_on(self.store.keep(digest)).unwrap_or(false)
    }
}

impl<'s> Blocking<'s> {
    pub(crate) fn new(store: &'s Store) -> Self {
        Self { store }
    }

    pub(crate) fn store(self) -> &'s Store {
        self.store
    }

    pub(crate) fn put_verified(self, verified: Verified) -> Result<PutOutcome, PutError> {
        block_on(self.store.put_verified(verified))
    }

    twins! {
        put(content: impl Into<Bytes>) -> Result<Digest, PutError>;
        put_as(digest: Digest, content: impl Into<Bytes>) -> Result<PutOutcome, PutError>;
        put_as_sha256(name: Sha256Digest, content: impl Into<Bytes>) -> Result<Digest, PutError>;
        resolve(names: &[Sha256Digest]) -> Result<Vec<Option<Digest>>, ShardError>;
        locate(names: &[BlobName]) -> Result<Vec<Option<Digest>>, ShardError>;
        get_named(name: &BlobName) -> Result<Option<(Digest, Blob)>, GetError>;
        commit(upload: Upload) -> Result<(Digest, PutOutcome), PutError>;
        get(digest: &Digest) -> Result<Blob, GetError>;
        get_range(digest: &Digest, range: ByteRange) -> Result<Blob, GetError>;
        contains(digests: &[Digest]) -> Result<Vec<bool>, ShardError>;
        local_path(digest: &Digest) -> Result<Option<PathBuf>, GetError>;
        delete(digest: &Digest) -> Result<bool, ShardError>;
        put_action(key: &ActionKey, entry: impl Into<ActionEntry>) -> Result<(), PutError>;
        get_action(key: &ActionKey) -> Result<Option<ActionEntry>, ShardError>;
        get_complete_action(key: &ActionKey) -> Result<Option<ActionEntry>, ShardError>;
        delete_action(key: &ActionKey) -> Result<bool, ShardError>;
        sync() -> Result<(), ShardError>;
        list() -> Result<Vec<Digest>, ShardError>;
        list_actions() -> Result<Vec<ActionKey>, ShardError>;
        stats() -> Result<Stats, ShardError>;
        gc(max_bytes: u64) -> Result<GcReport, ShardError>;
        gc_sparing(max_bytes: u64, spare: Duration) -> Result<GcReport, ShardError>;
        verify(progress: impl FnMut(VerifyProgress)) -> Result<VerifyReport, ShardError>;
    }

    /// Stores a copy of a file and returns its name. Shares extents where the file system can,
    /// never the inode; it is not copied when the store holds it already.
    ///
    /// # Errors
    /// [`PutError::Source`] when the file cannot be read, or as for [`Store::put`].
    pub fn put_file(self, path: &Path) -> Result<Digest, PutError> {
        let durable = self.store.durability() == Durability::Durable;
        let hasher = Expected::Anything.hasher(self.store.config().sha256_names);
        let take = || take_file(&self.store.inner.staging, path, durable, &hasher, &self);
        let taken = match take() {
            Err(PutError::NoSpace(failure)) if failure.is_full() => {
                let size_bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
                match self
                    .store
                    .inner
                    .room
                    .relieve_waiting(size_bytes, size_bytes)
                {
                    true => take(),
                    false => Err(PutError::NoSpace(failure)),
                }
            }
            taken => taken,
        };
        match taken? {
            Taken::Present(digest) => Ok(digest),
            Taken::Copied(verified) => {
                let digest = verified.digest();
                self.put_verified(verified)?;
                Ok(digest)
            }
        }
    }

    /// Stores everything that a reader yields. With `expected`, anything else is refused.
    ///
    /// # Errors
    /// [`PutError::Stream`] when the reader fails, or as for [`Store::put_as`].
    pub fn put_reader(
        self,
        mut reader: impl std::io::Read,
        expected: Option<Digest>,
    ) -> Result<Digest, PutError> {
        let mut upload = self.store.upload(expected);
        let mut piece = vec![0; 64 * 1024];
        loop {
            match reader.read(&mut piece) {
                Ok(0) => return Ok(self.commit(upload)?.0),
                Ok(length) => upload.write(&piece[..length])?,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(PutError::Stream(Arc::new(error))),
            }
        }
    }

    /// Writes a blob to a path, whole or not at all; see [`Export`].
    ///
    /// # Errors
    /// When the blob cannot be read or the path cannot be written.
    pub fn export(self, digest: &Digest, path: &Path, mode: u32) -> Result<(), ExportError> {
        let found = block_on(self.find(digest))?;
        write_out(&found, path, mode)
    }

    /// Writes many blobs to paths, reading ahead. Stops at the first failure; what was written
    /// until then stays.
    ///
    /// # Errors
    /// As for [`export`](Self::export).
    pub fn export_many(self, exports: &[Export]) -> Result<(), ExportError> {
        for window in exports.chunks(EXPORT_WINDOW) {
            let found = window.iter().map(|export| self.find(&export.digest));
            let found = block_on(futures_util::future::join_all(found));
            for (export, found) in window.iter().zip(found) {
                write_out(&found?, &export.path, export.mode)?;
            }
        }
        Ok(())
    }

    async fn find(self, digest: &Digest) -> Result<Found, GetError> {
        match self.store.peek(digest) {
            // The position of an open file cannot be shared.
            Some(blob) if !blob.is_mapped() => Ok(Found::in_memory(blob)),
            _ => self.store.find(digest).await,
        }
    }

    /// Waits for [`Store::close`].
    pub fn close(self) {
        block_on(self.store.clone().close());
    }
}

/// Wakes a thread that waits in [`block_on`].
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future on this thread until it is done.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        thread::park();
    }
}
