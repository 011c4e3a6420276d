//! Bodies of answers.
//!
//! Owns: the one body type of everything that is answered, gRPC included, and of its pieces.
//! Does not know: what the bytes are.
//! Invariants: a blob is handed on as it is, mapped or in memory, never copied; the request counts
//! as being answered until its body is gone; who watches is told when the last piece has been written,
//! which of a large blob is long after hyper has taken it.
#![forbid(unsafe_code)]

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::HeaderMap;

use super::pulse::Busy;
use super::watch::Watched;
use crate::Blob;
use crate::blob::FilePart;

/// Any error of a body.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer.
pub(crate) struct Answer {
    content: Content,
    /// Where the bytes lie in a file.
    file: Option<FilePart>,
    /// Ends with the body.
    busy: Option<Busy>,
    /// What somebody will be told; the last piece takes it along.
    watched: Option<Box<Watched>>,
}

/// A piece of a body, on its way through hyper.
pub(crate) struct Piece {
    bytes: Bytes,
    /// Told when the piece has been written, or dropped.
    watched: Option<Box<Watched>>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if let Some(watched) = &mut self.watched {
            watched.sent(count);
            if self.bytes.is_empty() {
                watched.is_whole();
                self.watched = None;
            }
        }
    }
}

enum Content {
    Bytes(Bytes),
    Stream(Pin<Box<dyn Body<Data = Bytes, Error = BodyError> + Send>>),
}

impl Content {
    fn is_end(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }
}

impl Answer {
    /// No bytes.
    pub(crate) fn empty() -> Self {
        Self::bytes(Bytes::new())
    }

    /// These bytes.
    pub(crate) fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self {
            content: Content::Bytes(bytes.into()),
            file: None,
            busy: None,
            watched: None,
        }
    }

    /// A blob.
    pub(crate) fn blob(blob: Blob) -> Self {
        let file = blob.file().cloned();
        Self {
            file,
            ..Self::bytes(blob.into_bytes())
        }
    }

    /// Whatever another body yields.
    pub(crate) fn stream<B>(body: B) -> Self
    where
        B: Body<Data = Bytes, Error = BodyError> + Send + 'static,
    {
        Self {
            content: Content::Stream(Box::pin(body)),
            file: None,
            busy: None,
            watched: None,
        }
    }

    /// The bytes, if they lie in a file, and where.
    pub(crate) fn take_file(&mut self) -> Option<(Bytes, FilePart)> {
        match &self.content {
            Content::Bytes(bytes) => Some((bytes.clone(), self.file.take()?)),
            Content::Stream(_) => None,
        }
    }

    /// Keeps the request that this answers running until it is gone.
    pub(crate) fn keep(&mut self, mut busy: Busy) {
        self.watched = busy.watched.take();
        self.busy = Some(busy);
    }

    /// These bytes, on their way; the last of them with what somebody will be told.
    fn piece(&mut self, bytes: Bytes) -> Piece {
        if self.content.is_end() {
            let watched = self.watched.take();
            let mut piece = Piece { bytes, watched };
            // Nobody writes an empty one.
            piece.advance(0);
            return piece;
        }
        if let Some(watched) = &mut self.watched {
            watched.sent(bytes.len());
        }
        let watched = None;
        Piece { bytes, watched }
    }

    /// There will be no piece any more.
    fn ended(&mut self, trailers: Option<&HeaderMap>) {
        if let Some(watched) = &mut self.watched {
            if let Some(trailers) = trailers {
                watched.take_grpc_status(trailers);
            }
            watched.is_whole();
        }
    }
}

impl Body for Answer {
    type Data = Piece;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, BodyError>>> {
        let frame = match &mut self.content {
            Content::Bytes(bytes) if bytes.is_empty() => None,
            Content::Bytes(bytes) => Some(Frame::data(std::mem::take(bytes))),
            Content::Stream(body) => ready!(body.as_mut().poll_frame(cx)).transpose()?,
        };
        let Some(frame) = frame else {
            self.ended(None);
            return Poll::Ready(None);
        };
        if frame.is_trailers() {
            self.ended(frame.trailers_ref());
        }
        Poll::Ready(Some(Ok(frame.map_data(|bytes| self.piece(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(body) => body.size_hint(),
        }
    }
}
