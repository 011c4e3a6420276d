//! The messages of a call, counted as they come in.
//!
//! Owns: where a message of gRPC begins and ends in a body.
//! Does not know: what a message means, what its entries weigh (`weight`), or what else a call holds.
//! Invariant: a call is counted with the largest message that it has sent so far, as that will be once it
//! is decoded; bytes that would break the limit are not handed on.
#![forbid(unsafe_code)]

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tonic::Status;

use super::call::Call;
use super::failure::failed;
use super::weight::Scale;
use crate::front::held::Share;
use crate::front::stall::{Coming, ComingError};

/// Whether a message is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// The body of a call.
#[derive(Debug)]
pub(super) struct Counted {
    body: Coming,
    share: Arc<Share>,
    messages: Messages,
    /// Of a message in memory, what the share has room for.
    held_bytes: u64,
}

/// Follows the messages of a body.
#[derive(Debug)]
struct Messages {
    call: Call,
    prefix: Vec<u8>,
    /// What is left of the message that is coming in, and what has come of it.
    left_bytes: u64,
    come_bytes: u64,
    scale: Scale,
}

impl Messages {
    fn new(call: Call) -> Self {
        Self {
            call,
            prefix: Vec::new(),
            left_bytes: 0,
            come_bytes: 0,
            scale: Scale::new(call.kind, 0),
        }
    }

    /// The most that one message is in memory, once these bytes have come.
    fn take(&mut self, mut bytes: &[u8]) -> u64 {
        let mut most = 0;
        while !bytes.is_empty() {
            if self.left_bytes == 0 {
                let length = bytes.len().min(PREFIX_BYTES - self.prefix.len());
                let (prefix, rest) = bytes.split_at(length);
                self.prefix.extend_from_slice(prefix);
                bytes = rest;
                if let &[_, a, b, c, d] = &self.prefix[..] {
                    self.left_bytes = u32::from_be_bytes([a, b, c, d]).into();
                    self.come_bytes = 0;
                    self.scale = Scale::new(self.call.kind, self.left_bytes);
                    self.prefix.clear();
                }
                continue;
            }
            let length = self.left_bytes.min(bytes.len() as u64);
            let (come, rest) = bytes.split_at(length as usize);
            self.left_bytes -= length;
            self.come_bytes += length;
            self.scale.take(come);
            most = most.max(self.call.factor * self.come_bytes + self.scale.weight);
            bytes = rest;
        }
        most
    }
}

impl Counted {
    pub(super) fn new(body: Coming, share: Arc<Share>, call: Call) -> Self {
        Self {
            body,
            share,
            messages: Messages::new(call),
            held_bytes: 0,
        }
    }

    fn count(&mut self, bytes: &[u8]) -> Result<(), Status> {
        let more = self.messages.take(bytes).saturating_sub(self.held_bytes);
        if more == 0 {
            return Ok(());
        }
        self.share.add(more).map_err(failed)?;
        self.held_bytes += more;
        Ok(())
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let Some(frame) = frame.transpose().map_err(interrupted)? else {
            return Poll::Ready(None);
        };
        if let Some(bytes) = frame.data_ref() {
            self.count(bytes)?;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The rest of a call does not come.
fn interrupted(error: ComingError) -> Status {
    match error {
        ComingError::Broken(error) => Status::from_error(Box::new(error)),
        ComingError::Late | ComingError::Stalled(_) => Status::deadline_exceeded(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn messages_are_found_however_they_are_cut(
            lengths in proptest::collection::vec(0..300_usize, 1..8),
            cut in 1..400_usize,
        ) {
            let body: Vec<u8> = lengths
                .iter()
                .flat_map(|length| {
                    let prefix = (*length as u32).to_be_bytes();
                    [&[0][..], &prefix, &vec![9; *length]].concat()
                })
                .collect();
            let call = Call::at("/no.such.Service/Call");
            let mut messages = Messages::new(call);
            let most = body.chunks(cut).map(|bytes| messages.take(bytes)).max();
            let longest = lengths.iter().max().map(|most| *most as u64);
            prop_assert_eq!(most, longest.map(|longest| call.factor * longest));
            prop_assert_eq!(messages.left_bytes, 0);
        }
    }
}
