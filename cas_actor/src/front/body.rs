//! Bodies of answers.
//!
//! Owns: the one body type of everything that is answered, gRPC included.
//! Does not know: what the bytes are.
//! Invariants: a blob is handed on as it is, mapped or in memory, never copied; the request counts
//! as being answered until its body is gone.
#![forbid(unsafe_code)]

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::pulse::Busy;
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
    pub(crate) fn keep(&mut self, busy: Busy) {
        self.busy = Some(busy);
    }

    /// Takes note of what goes out, if somebody will be told.
    fn watch(&mut self, polled: &Poll<Option<Result<Frame<Bytes>, BodyError>>>) {
        let Self { content, busy, .. } = self;
        let Some(watched) = busy.as_mut().and_then(|busy| busy.watched.as_mut()) else {
            return;
        };
        let ended = content.is_end();
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    watched.sent(data.len());
                } else if let Some(trailers) = frame.trailers_ref() {
                    watched.take_grpc_status(trailers);
                }
                if ended || frame.is_trailers() {
                    watched.is_whole();
                }
            }
            Poll::Ready(None) => watched.is_whole(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.content {
            Content::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Stream(body) => body.as_mut().poll_frame(cx),
        };
        self.watch(&polled);
        polled
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
