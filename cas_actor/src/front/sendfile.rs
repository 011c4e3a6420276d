//! Large blobs on their way to a socket without passing through this process.
//!
//! Owns: [`Sending`], the stream that does it, and [`Outgoing`], how it learns of files.
//! Does not know: HTTP. hyper hands the mapped bytes of an answer to the stream as it would any;
//! where they begin inside a file that was announced, the kernel is told to send that file.
//! Invariants: a file is recognised by the addresses of its mapped bytes, which stay mapped as
//! long as it is known here, so no other bytes can lie there; what is not recognised is written
//! like everything else, so forgetting a file costs time and nothing else.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::blob::FilePart;

/// Answers that one connection may have announced: more than hyper ever writes ahead.
const MOST: usize = 8;
/// More than this is written to a reader on this machine from where it is mapped: the kernel hands a
/// file over in pieces of 64 KiB and wakes such a reader for each, which costs more than the copy.
/// Across a network the copy is what is left to save.
const MOST_BYTES_NEARBY: usize = 128 * 1024;
/// What is handed to the kernel at once, of a file or of mapped bytes, which may have to be read first:
/// others want to be served as well, and tokio sees to that only between such steps.
const AT_ONCE_BYTES: usize = 1024 * 1024;

/// The files that a connection is about to send.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The largest that is sent as a file.
    most_bytes: usize,
    announced: Mutex<VecDeque<Announced>>,
    /// Whether there are any: most connections never send a file.
    any: AtomicBool,
}

#[derive(Debug)]
struct Announced {
    /// Kept, so that the addresses stay taken.
    bytes: Bytes,
    part: FilePart,
}

impl Outgoing {
    /// Of a connection to this peer.
    pub(crate) fn to(peer: IpAddr) -> Self {
        Self {
            most_bytes: match peer.to_canonical().is_loopback() {
                true => MOST_BYTES_NEARBY,
                false => usize::MAX,
            },
            announced: Mutex::default(),
            any: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Announced>> {
        self.announced
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// `bytes` are going to be written, and lie in that file.
    pub(crate) fn announce(&self, bytes: Bytes, part: FilePart) {
        if bytes.len() > self.most_bytes {
            return;
        }
        let mut announced = self.lock();
        // Who announces is the task that writes, so it sees this.
        self.any.store(true, Relaxed);
        if announced.len() >= MOST {
            announced.pop_front();
        }
        announced.push_back(Announced { bytes, part });
    }

    /// The file in which a slice lies.
    fn file_of(&self, slice: &[u8]) -> Option<FilePart> {
        if !self.any.load(Relaxed) || slice.is_empty() {
            return None;
        }
        let mut announced = self.lock();
        let (index, at) = announced.iter().enumerate().find_map(|(index, known)| {
            let at = slice
                .as_ptr()
                .addr()
                .checked_sub(known.bytes.as_ptr().addr())?;
            let is_inside = at.checked_add(slice.len())? <= known.bytes.len();
            is_inside.then_some((index, at))
        })?;
        // Answers go out in order: what was announced before this one has been sent.
        announced.drain(..index);
        let part = &announced.front()?.part;
        Some(FilePart {
            file: Arc::clone(&part.file),
            start: part.start + at as u64,
        })
    }
}

/// A connection that sends announced files by `sendfile`.
#[derive(Debug)]
pub(crate) struct Sending {
    stream: TcpStream,
    outgoing: Arc<Outgoing>,
}

impl Sending {
    pub(crate) fn new(stream: TcpStream, outgoing: Arc<Outgoing>) -> Self {
        Self { stream, outgoing }
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        part: &FilePart,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                let mut start = part.start;
                let count = length.min(AT_ONCE_BYTES);
                let sent = rustix::fs::sendfile(&self.stream, &part.file, Some(&mut start), count);
                Ok(sent?)
            });
            match sent {
                // Somebody has cut the file: its mapped bytes are gone as well.
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl AsyncRead for Sending {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Sending {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.outgoing.file_of(bytes) {
            Some(part) => self.poll_send(cx, &part, bytes.len()),
            None => {
                let bytes = &bytes[..bytes.len().min(AT_ONCE_BYTES)];
                Pin::new(&mut self.stream).poll_write(cx, bytes)
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let alone = slices.iter().enumerate().find_map(|(index, slice)| {
            let part = self.outgoing.file_of(slice);
            (part.is_some() || slice.len() > AT_ONCE_BYTES).then_some((index, part))
        });
        match alone {
            Some((0, Some(part))) => self.poll_send(cx, &part, slices[0].len()),
            Some((0, None)) => {
                Pin::new(&mut self.stream).poll_write(cx, &slices[0][..AT_ONCE_BYTES])
            }
            // First what comes before it, such as the head of the answer.
            Some((index, _)) => {
                Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..index])
            }
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What a reader gets when `memory` is written that was announced as a part of a file, between
    /// words that were not. The mapped bytes differ from the file's on purpose: so it shows which of
    /// them were sent.
    async fn read_of(memory: &Bytes, peer: [u8; 4]) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, vec![b'f'; memory.len() + 1_000_000]).unwrap();
        let file = Arc::new(std::fs::File::open(path).unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let reader = tokio::spawn(async move {
            let mut read = Vec::new();
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_to_end(&mut read).await.unwrap();
            read
        });
        let outgoing = Arc::new(Outgoing::to(peer.into()));
        let stream = TcpStream::connect(address).await.unwrap();
        let mut sending = Sending::new(stream, Arc::clone(&outgoing));
        let start = 1_000_000;
        outgoing.announce(memory.clone(), FilePart { file, start });
        let mut rest = bytes::Buf::chain(&b"head"[..], &memory[..]);
        sending.write_all_buf(&mut rest).await.unwrap();
        sending.write_all(b"tail").await.unwrap();
        drop(sending);
        reader.await.unwrap()
    }

    #[tokio::test]
    async fn no_step_hands_over_more_than_others_can_wait_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let memory = vec![b'm'; 3 * AT_ONCE_BYTES];
        let reader = tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            io::copy(&mut stream, &mut io::sink()).unwrap()
        });
        let (stream, peer) = listener.accept().await.unwrap();
        let mut sending = Sending::new(stream, Arc::new(Outgoing::to(peer.ip())));
        let parts: [&[&[u8]]; 3] = [&[&memory], &[b"head", &memory], &[b"head", b"body"]];
        let mut sent = 0;
        for slices in parts {
            let slices: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
            let step = sending.write_vectored(&slices).await.unwrap();
            assert!((1..=AT_ONCE_BYTES).contains(&step), "{step}");
            sent += step;
        }
        let step = sending.write(&memory).await.unwrap();
        assert!((1..=AT_ONCE_BYTES).contains(&step), "{step}");
        drop(sending);
        assert_eq!(reader.await.unwrap(), (sent + step) as u64);
    }

    #[tokio::test]
    async fn announced_bytes_come_from_the_file_unless_they_are_many_and_the_peer_is_near() {
        let (near, far) = ([127, 0, 0, 1], [192, 0, 2, 1]);
        for (size, peer, from) in [
            (MOST_BYTES_NEARBY, near, b'f'),
            (MOST_BYTES_NEARBY + 1, near, b'm'),
            (3_000_000, far, b'f'),
        ] {
            let memory = Bytes::from(vec![b'm'; size]);
            let read = read_of(&memory, peer).await;
            let (head, rest) = read.split_at(4);
            let (body, tail) = rest.split_at(size);
            assert_eq!((head, tail), (&b"head"[..], &b"tail"[..]));
            assert!(body.iter().all(|byte| *byte == from), "{size}");
        }
    }
}
