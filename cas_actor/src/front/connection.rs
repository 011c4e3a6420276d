//! The life of a connection.
//!
//! Owns: what kinds of stream there are, the handshake of TLS, and the settings of hyper.
//! Does not know: listening (`listen`), or what a request means (`http`).
//! Invariants: a peer has the time of a request's head for its handshake; while draining, a
//! request that runs is finished, and an idle connection is closed.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::fmt::Display;
use std::future::{poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;

use super::drain::{Draining, drained};
use super::http::{Http, Line};
use super::pulse::Pulse;
use super::rate::Peer;
use super::sendfile::{Outgoing, Sending};
use super::stall::Streams;
use super::timed::{Patience, Timed};

/// Fair to all streams of an HTTP/2 connection, and no more of them than this.
const STREAMS_PER_CONNECTION: u32 = 1000;
/// Flow control windows of HTTP/2: uploads are not slowed down on a fast network.
pub(super) const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// How an HTTP/2 connection begins (RFC 9113, 3.4); no request of HTTP/1 does.
pub(super) const HTTP2_WORDS: &[u8] = b"PRI ";

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http1,
    /// Either; hyper reads the first words.
    ToBeSeen,
}

/// A connection that came in.
pub(crate) enum Stream {
    /// From an address.
    Plain(TcpStream),
    /// From an address, with TLS still to be agreed on.
    Tls(TcpStream, TlsAcceptor),
    /// From a socket in the file system.
    Local(UnixStream),
}

/// Serves a connection until it ends.
pub(crate) async fn serve(
    stream: Stream,
    peer: Peer,
    http: Arc<Http>,
    draining: watch::Receiver<bool>,
) {
    let is_secure = matches!(stream, Stream::Tls(..));
    let line = |outgoing| Line {
        peer,
        is_secure,
        pulse: Arc::new(Pulse::new(Arc::clone(&http.shared().counters))),
        outgoing,
    };
    match stream {
        Stream::Plain(stream) => {
            // Answers are written whole; waiting to join them only makes the next request late.
            let _ = stream.set_nodelay(true);
            let patience = http.shared().limits.idle();
            let Some(version) = first_words(&stream, patience, draining.clone()).await else {
                return;
            };
            let Ok(address) = stream.peer_addr() else {
                return;
            };
            let outgoing = Arc::new(Outgoing::to(address.ip()));
            let stream = Sending::new(stream, Arc::clone(&outgoing));
            requests(stream, version, line(Some(outgoing)), http, draining).await;
        }
        Stream::Tls(stream, tls) => {
            let _ = stream.set_nodelay(true);
            let patience = http.shared().limits.head();
            match shake_hands(stream, &tls, patience, draining.clone()).await {
                // Boxed: most connections should not carry the state of TLS.
                Some(stream) => {
                    let version = Version::ToBeSeen;
                    Box::pin(requests(stream, version, line(None), http, draining)).await;
                }
                None => tracing::debug!(?peer, "no TLS was agreed on"),
            }
        }
        Stream::Local(stream) => {
            let version = Version::ToBeSeen;
            Box::pin(requests(stream, version, line(None), http, draining)).await;
        }
    }
}

/// Looks at what a peer says first, without taking it; `None` when it says nothing in time. Who finds
/// out by reading keeps a buffer of twice the size for as long as the connection lives.
async fn first_words(
    stream: &TcpStream,
    patience: Duration,
    mut draining: watch::Receiver<bool>,
) -> Option<Version> {
    let mut words = [0; HTTP2_WORDS.len()];
    let peeked = tokio::time::timeout(patience, stream.peek(&mut words));
    let length = tokio::select! {
        peeked = peeked => peeked.ok()?.ok()?,
        () = drained(&mut draining) => return None,
    };
    match &words[..length] {
        [] => None,
        words if HTTP2_WORDS.starts_with(words) => Some(Version::ToBeSeen),
        _ => Some(Version::Http1),
    }
}

async fn shake_hands(
    stream: TcpStream,
    tls: &TlsAcceptor,
    patience: Duration,
    mut draining: watch::Receiver<bool>,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    let shaken = tokio::time::timeout(patience, tls.accept(stream));
    tokio::select! {
        shaken = shaken => match shaken.ok()? {
            Ok(stream) => Some(stream),
            Err(error) => {
                tracing::debug!(%error, "a client was refused by TLS");
                None
            }
        },
        () = drained(&mut draining) => None,
    }
}

async fn requests<S>(
    stream: S,
    version: Version,
    line: Line,
    http: Arc<Http>,
    draining: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &http.shared().limits;
    let patience = Patience {
        idle: limits.idle(),
        head: limits.head(),
        stall: limits.stall(),
        request: limits.request(),
    };
    let stream = Timed::new(stream, Arc::clone(&line.pulse), patience);
    let head_bytes = usize::try_from(limits.head_bytes).unwrap_or(usize::MAX);

    let context = Arc::new((http, line));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (http, line) = &*context;
        match http.begin(&mut request, line) {
            Ok(answer) => Either::Left(ready(Ok::<_, Infallible>(answer))),
            // Boxed: most requests should not carry the state of those that wait.
            Err(busy) => {
                let context = Arc::clone(&context);
                Either::Right(Box::pin(async move {
                    let (http, line) = &*context;
                    Ok(http.answer(request, busy, line).await)
                }))
            }
        }
    });
    let stream = TokioIo::new(stream);
    if version == Version::Http1 {
        let mut builder = http1::Builder::new();
        builder
            .max_buf_size(head_bytes)
            // `Timed` watches over heads, and tells idle connections from slow ones.
            .header_read_timeout(None);
        let connection = builder.serve_connection(stream, service);
        return to_its_end(connection, |it| it.graceful_shutdown(), draining).await;
    }
    let given_up: Arc<Notify> = Arc::default();
    let mut builder = auto::Builder::new(Streams {
        stall: patience.stall,
        request: patience.request,
        given_up: Arc::clone(&given_up),
    });
    builder
        .http1()
        .max_buf_size(head_bytes)
        .header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(u32::try_from(head_bytes).unwrap_or(u32::MAX));
    let connection = builder.serve_connection(stream, service);
    tokio::select! {
        () = to_its_end(connection, |it| it.graceful_shutdown(), draining) => {}
        () = given_up.notified() => tracing::debug!("a client did not take its answer"),
    }
}

/// Drives a connection; has it end after what runs once the node drains.
async fn to_its_end<C, E>(
    connection: C,
    shut_down: impl Fn(Pin<&mut C>),
    draining: watch::Receiver<bool>,
) where
    C: Future<Output = Result<(), E>>,
    E: Display,
{
    let mut connection = pin!(connection);
    let mut draining = Draining::new(draining);
    let ended = poll_fn(|cx| {
        if draining.begins(cx) {
            shut_down(connection.as_mut());
        }
        connection.as_mut().poll(cx)
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "a connection ended early");
    }
}
