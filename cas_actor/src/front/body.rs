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

use super::timed::Busy;

/// Any error of a body.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer.
pub(crate) struct Answer {
    content: Bytes,
    /// Ends with the body.
    busy: Option<Busy>,
}

impl Answer {
    /// No bytes.
    pub(crate) fn empty() -> Self {
        Self::bytes(Bytes::new())
    }

    /// These bytes.
    pub(crate) fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self {
            content: bytes.into(),
            busy: None,
        }
    }

    /// The request that this answers.
    pub(crate) fn of(mut self, busy: Busy) -> Self {
        self.busy = Some(busy);
        self
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.content.is_empty() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.content)))))
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.content.len() as u64)
    }
}
