//! Content from the network on its way into the store, with bounded memory.
//!
//! Owns: gathering pieces, inflating, and keeping hashing and the disk away from the threads that
//! serve connections.
//! Does not know: HTTP or gRPC.
//! Invariants: at most one piece of [`PIECE_BYTES`] and one frame of the network wait in memory, however
//! small the frames are;
//! more than the limit is refused before it is written; dropping an intake leaves nothing behind
//! but what can be gone on with.
#![forbid(unsafe_code)]

use std::io::{self, Write};

use bytes::Bytes;

use crate::{Digest, Durability, PutError, Store, Upload};

/// Written and hashed at once, on a thread that may wait.
pub(super) const PIECE_BYTES: usize = 256 * 1024;
/// What comes in less than this at a time is copied together: a frame that waits holds the buffer in which it
/// came.
const SMALL_BYTES: usize = 16 * 1024;
/// Content up to this size is hashed where it is: cheaper than a change of threads.
const INLINE_BYTES: u64 = 64 * 1024;
/// The largest window that a compressed upload may ask for: 8 MiB, what `zstd -19` uses.
const WINDOW_LOG: u32 = 23;
pub(super) const WINDOW_BYTES: u64 = 1 << WINDOW_LOG;
/// What a decoder takes besides its window.
pub(super) const DECODER_BYTES: u64 = 512 * 1024;

/// Why content was not taken in. Nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    /// More than the limit.
    #[error("the content is larger than the limit of {limit_bytes} bytes")]
    TooLarge { limit_bytes: u64 },
    /// It cannot be inflated.
    #[error("the content is not a valid zstd stream: {0}")]
    Compression(io::Error),
    /// The store refused it.
    #[error(transparent)]
    Put(#[from] PutError),
    /// The process is going down.
    #[error("the node is shutting down")]
    Stopping,
}

/// Hashes and keeps what is written to it.
struct Sink {
    upload: Upload,
    limit_bytes: u64,
    /// Why the last write failed: `io::Write` has no room for it.
    failure: Option<IntakeError>,
}

impl Sink {
    fn take(&mut self, piece: &[u8]) -> Result<(), IntakeError> {
        let limit_bytes = self.limit_bytes;
        if self.upload.written_bytes() + piece.len() as u64 > limit_bytes {
            return Err(IntakeError::TooLarge { limit_bytes });
        }
        Ok(self.upload.write(piece)?)
    }
}

impl Write for Sink {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        match self.take(piece) {
            Ok(()) => Ok(piece.len()),
            Err(error) => {
                self.failure = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Pipe {
    Plain(Box<Sink>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Sink>>),
}

impl Pipe {
    fn write(&mut self, pieces: &[Bytes]) -> Result<(), IntakeError> {
        for piece in pieces {
            match self {
                Self::Plain(sink) => sink.take(piece)?,
                Self::Zstd(decoder) => {
                    let written = decoder.write_all(piece);
                    written.map_err(|error| failure_of(decoder.get_mut(), error))?;
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Upload, IntakeError> {
        let sink = match self {
            Self::Plain(sink) => *sink,
            Self::Zstd(mut decoder) => {
                let flushed = decoder.flush();
                flushed.map_err(|error| failure_of(decoder.get_mut(), error))?;
                decoder.into_inner()
            }
        };
        Ok(sink.upload)
    }
}

fn failure_of(sink: &mut Sink, error: io::Error) -> IntakeError {
    let failure = sink.failure.take();
    failure.unwrap_or(IntakeError::Compression(error))
}

/// What has come and is not written yet.
#[derive(Default)]
struct Waiting {
    pieces: Vec<Bytes>,
    /// What came in small frames behind those.
    small: Vec<u8>,
    bytes: usize,
}

impl Waiting {
    fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        if frame.len() < SMALL_BYTES {
            self.small.extend_from_slice(&frame);
            return;
        }
        self.join_small();
        self.pieces.push(frame);
    }

    fn join_small(&mut self) {
        if !self.small.is_empty() {
            let small = std::mem::take(&mut self.small);
            self.pieces.push(small.into());
        }
    }

    fn into_pieces(mut self) -> Vec<Bytes> {
        self.join_small();
        self.pieces
    }
}

/// One content that is coming in.
pub(crate) struct Intake {
    pipe: Option<Pipe>,
    waiting: Waiting,
    taken_bytes: u64,
}

/// A content that is complete and hashed, and not yet in the store.
#[derive(Debug)]
pub(crate) struct Complete(Upload);

impl Intake {
    /// An intake into `upload` of at most `limit_bytes`, counted after inflating.
    pub(crate) fn new(upload: Upload, limit_bytes: u64) -> Self {
        let sink = Sink {
            upload,
            limit_bytes,
            failure: None,
        };
        Self {
            pipe: Some(Pipe::Plain(Box::new(sink))),
            waiting: Waiting::default(),
            taken_bytes: 0,
        }
    }

    /// The same for content that comes compressed with zstd.
    ///
    /// # Errors
    /// When there is no memory for the decoder.
    pub(crate) fn inflating(upload: Upload, limit_bytes: u64) -> Result<Self, IntakeError> {
        let mut intake = Self::new(upload, limit_bytes);
        if let Some(Pipe::Plain(sink)) = intake.pipe.take() {
            let mut decoder =
                zstd::stream::write::Decoder::new(*sink).map_err(IntakeError::Compression)?;
            let limited = decoder.window_log_max(WINDOW_LOG);
            limited.map_err(IntakeError::Compression)?;
            intake.pipe = Some(Pipe::Zstd(Box::new(decoder)));
        }
        Ok(intake)
    }

    /// Bytes taken from the network so far.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }

    /// Takes the next bytes; waits for the disk when enough have gathered.
    pub(crate) async fn take(&mut self, bytes: Bytes) -> Result<(), IntakeError> {
        self.taken_bytes += bytes.len() as u64;
        self.waiting.push(bytes);
        if self.waiting.bytes < PIECE_BYTES {
            return Ok(());
        }
        let mut pipe = self.pipe.take().ok_or(IntakeError::Stopping)?;
        let pieces = std::mem::take(&mut self.waiting).into_pieces();
        let written = tokio::task::spawn_blocking(move || {
            pipe.write(&pieces)?;
            Ok::<_, IntakeError>(pipe)
        });
        self.pipe = Some(written.await.map_err(|_| IntakeError::Stopping)??);
        Ok(())
    }

    /// The client has gone: what has come can be gone on with, if the upload has a place for that.
    pub(crate) async fn park(self) {
        let Some(mut pipe) = self.pipe else { return };
        let pieces = self.waiting.into_pieces();
        let parked = tokio::task::spawn_blocking(move || {
            pipe.write(&pieces)?;
            Ok::<_, IntakeError>(pipe.finish()?.park().map_err(PutError::from)?)
        });
        if let Ok(Err(error)) = parked.await {
            tracing::debug!(%error, "an interrupted upload was not kept");
        }
    }

    /// The end of the content.
    pub(crate) async fn complete(self) -> Result<Complete, IntakeError> {
        let mut pipe = self.pipe.ok_or(IntakeError::Stopping)?;
        // A few compressed bytes may be many inflated ones.
        let inline = self.taken_bytes <= INLINE_BYTES && matches!(pipe, Pipe::Plain(_));
        let pieces = self.waiting.into_pieces();
        let rest = move || {
            pipe.write(&pieces)?;
            Ok(Complete(pipe.finish()?))
        };
        if inline {
            return rest();
        }
        let rest = tokio::task::spawn_blocking(rest);
        rest.await.map_err(|_| IntakeError::Stopping)?
    }
}

impl Complete {
    /// What the content is called.
    pub(crate) fn digest(&self) -> Digest {
        self.0.digest()
    }

    /// The content; for small ones.
    pub(crate) fn content(&self) -> Result<Bytes, IntakeError> {
        Ok(self.0.content().map_err(PutError::from)?)
    }

    /// Stores the content, if it is what the upload was started for.
    pub(crate) async fn store(
        self,
        store: &Store,
        durability: Durability,
    ) -> Result<Digest, IntakeError> {
        let store = store.with_durability(durability);
        let (digest, _) = store.commit(self.0).await?;
        Ok(digest)
    }

    /// The same, without handing it on to a cache behind the store.
    pub(crate) async fn store_local(self, store: &Store) -> Result<(), IntakeError> {
        store.commit_local(self.0).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A buffer of the network.
    struct Buffer {
        bytes: Vec<u8>,
        _alive: Arc<()>,
    }

    impl AsRef<[u8]> for Buffer {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    /// Each held the buffer in which it came until enough of them had gathered.
    #[test]
    fn small_frames_hold_no_buffers() {
        let alive = Arc::new(());
        let mut waiting = Waiting::default();
        let mut expected = Vec::new();
        for number in 0..1000 {
            let length = if number % 100 == 7 { SMALL_BYTES } else { 1 };
            let buffer = Buffer {
                bytes: vec![number as u8; 2 * SMALL_BYTES],
                _alive: Arc::clone(&alive),
            };
            waiting.push(Bytes::from_owner(buffer).slice(..length));
            expected.extend(vec![number as u8; length]);
        }
        assert_eq!(Arc::strong_count(&alive), 1 + 10, "the large ones");
        assert_eq!(waiting.bytes, expected.len());
        assert_eq!(waiting.into_pieces().concat(), expected);
    }
}
