//! Bodies of answers.
//!
//! Owns: the one body type of everything that is answered, gRPC included, and of its pieces.
//! Does not know: what the bytes are.
//! Invariants: a blob is handed on as it is, mapped or in memory, where the kernel copies it, and read from
//! its file where we would: bytes of a map are never touched; the request counts
//! as being answered until its body is gone; who watches is told when the last piece has been written,
//! which of a large blob is long after hyper has taken it.
#![forbid(unsafe_code)]

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::HeaderMap;

use super::held::Share;
use super::pulse::Busy;
use super::stall;
use super::watch::{GRPC_STATUS, Watched};
use crate::Blob;
use crate::blob::FilePart;

/// What a stream of HTTP/2 is given at once: the next piece waits until the client has made room, which
/// is how a client that takes nothing is found out.
const PIECE_BYTES: usize = 32 * 1024;
/// Of a longer piece the last byte goes alone: a stream with room for something is given a whole piece, so
/// the request would end while most of the last one still waits.
const SHORT_BYTES: usize = 1024;

/// Any error of a body.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The status of a call, in its trailers or, where there is no more to say, in its headers.
pub(crate) fn grpc_status(headers: &HeaderMap) -> u16 {
    let status = headers.get(GRPC_STATUS).and_then(|it| it.to_str().ok());
    status.and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// The body of an answer.
pub(crate) struct Answer {
    content: Content,
    /// Whether the connection has other streams, and the answer goes out in pieces.
    is_multiplexed: bool,
    /// What is left of a frame of the content that goes out in pieces.
    rest: Bytes,
    /// The blob, if its bytes lie in a file.
    file: Option<Blob>,
    /// Ends with the body.
    busy: Option<Busy>,
    /// What the request holds.
    share: Option<Arc<Share>>,
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
    /// One that lies in a file and is read in pieces.
    File(Blob),
    Stream(Pin<Box<dyn Body<Data = Bytes, Error = BodyError> + Send>>),
}

impl Content {
    fn is_end(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::File(blob) => blob.is_empty(),
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
            is_multiplexed: false,
            rest: Bytes::new(),
            file: None,
            busy: None,
            share: None,
            watched: None,
        }
    }

    /// A blob.
    pub(crate) fn blob(blob: Blob) -> Self {
        let file = blob.is_mapped().then(|| blob.clone());
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
            ..Self::empty()
        }
    }

    /// What the request holds, it holds until the answer is gone.
    pub(crate) fn hold(&mut self, share: Arc<Share>) {
        self.share = Some(share);
    }

    /// The answer goes out on a stream of HTTP/2.
    pub(crate) fn multiplex(&mut self) {
        self.is_multiplexed = true;
        self.read_out();
    }

    /// The bytes are copied before they go out, as where they are encrypted: those of a file are read, not
    /// touched where they are mapped.
    pub(crate) fn read_out(&mut self) {
        if let Some(blob) = self.file.take() {
            self.content = Content::File(blob);
        }
    }

    /// The bytes, if they lie in a file, and where.
    pub(crate) fn take_file(&mut self) -> Option<(Bytes, FilePart)> {
        match &self.content {
            Content::Bytes(bytes) => {
                let part = self.file.take()?.file()?.clone();
                Some((bytes.clone(), part))
            }
            Content::File(_) | Content::Stream(_) => None,
        }
    }

    /// Keeps the request that this answers running until it is gone.
    pub(crate) fn keep(&mut self, mut busy: Busy) {
        self.watched = busy.watched.take();
        self.busy = Some(busy);
    }

    /// These bytes, on their way; the last of them with what somebody will be told.
    fn piece(&mut self, bytes: Bytes) -> Piece {
        if self.is_end_stream() {
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
        if let (Some(share), Some(trailers)) = (&self.share, trailers) {
            share.ended(grpc_status(trailers));
        }
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
        let is_multiplexed = self.is_multiplexed;
        if is_multiplexed {
            stall::ours();
        }
        let frame = ready!(self.poll_content(cx))?;
        if is_multiplexed {
            stall::theirs();
        }
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
        self.rest.is_empty() && self.content.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Bytes(bytes) => {
                SizeHint::with_exact(bytes.len() as u64 + self.rest.len() as u64)
            }
            Content::File(blob) => SizeHint::with_exact(blob.len() as u64),
            Content::Stream(body) => body.size_hint(),
        }
    }
}

impl Answer {
    /// The next frame, and of a stream of HTTP/2 the next piece.
    fn poll_content(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, BodyError>> {
        if let Content::File(blob) = &mut self.content
            && !blob.is_empty()
        {
            let piece = blob.take_piece(piece_bytes(blob.len()))?;
            return Poll::Ready(Ok(Some(Frame::data(piece))));
        }
        if self.rest.is_empty() {
            let frame = match &mut self.content {
                Content::Bytes(bytes) if bytes.is_empty() => None,
                Content::File(_) => None,
                Content::Bytes(bytes) => Some(Frame::data(std::mem::take(bytes))),
                Content::Stream(body) => ready!(body.as_mut().poll_frame(cx)).transpose()?,
            };
            match frame.map(Frame::into_data) {
                Some(Ok(bytes)) if self.is_multiplexed => self.rest = bytes,
                Some(Ok(bytes)) => return Poll::Ready(Ok(Some(Frame::data(bytes)))),
                Some(Err(trailers)) => return Poll::Ready(Ok(Some(trailers))),
                None => return Poll::Ready(Ok(None)),
            }
        }
        let length = piece_bytes(self.rest.len());
        Poll::Ready(Ok(Some(Frame::data(self.rest.split_to(length)))))
    }
}

/// How much of what is left goes out next.
fn piece_bytes(left: usize) -> usize {
    match left {
        short @ ..=SHORT_BYTES => short,
        long => PIECE_BYTES.min(long - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::fs::File;

    /// The body of a large blob, and its file.
    fn body(size: usize) -> (Answer, Arc<File>) {
        let content: Vec<u8> = (0..=255).cycle().take(size).collect();
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &content).unwrap();
        let map = crate::mapped::map(&file).unwrap();
        let file = Arc::new(file);
        let blob = Blob::from_map(map, Arc::clone(&file));
        (Answer::blob(blob), file)
    }

    async fn next(body: &mut Answer) -> Option<Result<usize, BodyError>> {
        let frame = body.frame().await?;
        Some(frame.map(|frame| frame.data_ref().map_or(0, Buf::remaining)))
    }

    #[tokio::test]
    async fn what_is_read_out_comes_whole_in_pieces() {
        let size = 3 * PIECE_BYTES + 77;
        let (mut read, _file) = body(size);
        read.multiplex();
        assert_eq!(read.size_hint().exact(), Some(size as u64));
        let whole = read.collect().await.unwrap().to_bytes();
        let expected: Vec<u8> = (0..=255).cycle().take(size).collect();
        assert!(whole == expected);
    }

    /// The bytes were those of the map, and touching them ended the process.
    #[tokio::test]
    async fn a_file_that_is_cut_off_while_it_is_sent_ends_the_body_with_an_error() {
        for read_out in [Answer::multiplex, Answer::read_out] {
            let (mut read, file) = body(10 * PIECE_BYTES);
            read_out(&mut read);
            let first = next(&mut read).await;
            assert!(matches!(first, Some(Ok(PIECE_BYTES))), "{first:?}");
            file.set_len(0).unwrap();
            let second = next(&mut read).await;
            assert!(matches!(second, Some(Err(_))), "{second:?}");
        }
    }
}
