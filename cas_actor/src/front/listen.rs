//! Listening, and the life of a connection.
//!
//! Owns: [`Front`], its listeners, the limit on connections, and draining.
//! Does not know: what a request means (`http`).
//! Invariants: a connection over the limit is answered 503 and closed at once; while draining, no
//! connection is taken in, a request that runs is finished, and an idle connection is closed.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::access::{Access, AccessError};
use super::config::{FrontConfig, LimitsConfig};
use super::counters::{Counters, FrontFigures, FrontStats};
use super::http::{Http, Pages};
use super::names::Names;
use super::timed::{Patience, Pulse, Timed};
use crate::Store;

/// Waiting connections that the kernel keeps while we take others in.
const BACKLOG: u32 = 1024;
/// How long the acceptor rests when the process has no free file for another connection.
const REST: Duration = Duration::from_millis(50);
/// Fair to all streams of an HTTP/2 connection, and no more of them than this.
const STREAMS_PER_CONNECTION: u32 = 1000;
/// Flow control windows of HTTP/2: uploads are not slowed down on a fast network.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: text/plain\r\nretry-after: 1\r\nconnection: close\r\n\
    content-length: 57\r\n\r\n\
    too many connections to this node; try again in a second\n";

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) names: Arc<Names>,
    pub(crate) access: Access,
    pub(crate) limits: LimitsConfig,
    pub(crate) counters: Arc<Counters>,
    pub(crate) pages: Option<Arc<dyn Pages>>,
}

/// The front ends of one store, listening on any number of addresses. Every address speaks all
/// protocols.
///
/// Dropping it stops listening and closes every connection once its request is answered.
pub struct Front {
    http: Arc<Http>,
    draining: watch::Sender<bool>,
    /// Every connection holds a receiver of it: when none is left, all are closed.
    open: watch::Sender<()>,
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").finish_non_exhaustive()
    }
}

impl Front {
    /// Front ends of `store`.
    ///
    /// # Errors
    /// When the credentials of the configuration make no sense.
    pub fn new(store: Store, config: &FrontConfig) -> Result<Self, AccessError> {
        Self::with_pages(store, config, None)
    }

    /// The same, with pages of the caller at paths that no build tool uses.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_pages(
        store: Store,
        config: &FrontConfig,
        pages: Option<Arc<dyn Pages>>,
    ) -> Result<Self, AccessError> {
        let shared = Shared {
            names: Arc::new(Names::new(store.clone())),
            store,
            access: Access::new(&config.access)?,
            limits: config.limits.clone(),
            counters: Arc::default(),
            pages,
        };
        Ok(Self {
            http: Arc::new(Http::new(Arc::new(shared))),
            draining: watch::Sender::new(false),
            open: watch::Sender::new(()),
        })
    }

    /// Listens on `address` and serves it on the current tokio runtime. Returns the address with
    /// the port that was found when `address` has port 0.
    ///
    /// # Errors
    /// When the address cannot be listened to: it is in use, or not of this machine.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn listen(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        let socket = match address {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
        };
        // A restarted node gets its port back although old connections linger in the kernel.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let draining = self.draining.subscribe();
        let open = self.open.subscribe();
        tokio::spawn(accept(listener, Arc::clone(&self.http), draining, open));
        Ok(address)
    }

    /// Whether everybody may store and read everything.
    pub fn is_open(&self) -> bool {
        self.http.shared().access.is_open()
    }

    /// What was done so far.
    pub fn stats(&self) -> FrontStats {
        self.figures().read()
    }

    /// A handle to read [`stats`](Self::stats) from elsewhere.
    pub fn figures(&self) -> FrontFigures {
        FrontFigures(Arc::clone(&self.http.shared().counters))
    }

    /// Stops listening, lets running requests end, and closes every connection; what still runs
    /// after `deadline` is cut off. Says whether everything ended in time.
    pub async fn drain(self, deadline: Duration) -> bool {
        self.draining.send_replace(true);
        tokio::time::timeout(deadline, self.open.closed())
            .await
            .is_ok()
    }
}

async fn accept(
    listener: TcpListener,
    http: Arc<Http>,
    mut draining: watch::Receiver<bool>,
    open: watch::Receiver<()>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = drained(&mut draining) => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // The peer has gone already, or there is no free file: others will be closed.
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let shared = http.shared();
        let before = shared.counters.connections.fetch_add(1, Relaxed);
        let connection = Open(Arc::clone(&shared.counters), open.clone());
        if before >= shared.limits.connections {
            shared.counters.overloaded.fetch_add(1, Relaxed);
            turn_away(stream);
            continue;
        }
        let http = Arc::clone(&http);
        let draining = draining.clone();
        tokio::spawn(async move {
            let _connection = connection;
            serve(stream, http, draining).await;
        });
    }
}

/// Waits for the beginning of the end.
async fn drained(draining: &mut watch::Receiver<bool>) {
    // An error means that the front is gone altogether.
    let _ = draining.wait_for(|draining| *draining).await;
}

/// An open connection, as it is counted.
struct Open(
    Arc<Counters>,
    #[expect(dead_code, reason = "its drop tells")] watch::Receiver<()>,
);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

/// Costs nothing but this one write into an empty socket buffer.
fn turn_away(stream: TcpStream) {
    // Who is gone already needs no answer.
    let _ = stream.try_write(BUSY);
}

async fn serve(stream: TcpStream, http: Arc<Http>, mut draining: watch::Receiver<bool>) {
    // Answers are written whole; waiting to join them only makes the next request late.
    let _ = stream.set_nodelay(true);
    let limits = &http.shared().limits;
    let pulse = Arc::new(Pulse::default());
    let patience = Patience {
        idle: limits.idle(),
        head: limits.head(),
        stall: limits.stall(),
    };
    let stream = Timed::new(stream, Arc::clone(&pulse), patience);
    let head_bytes = usize::try_from(limits.head_bytes).unwrap_or(usize::MAX);

    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .max_buf_size(head_bytes.max(8 * 1024))
        .timer(TokioTimer::new())
        // `Timed` watches over heads, and tells idle connections from slow ones.
        .header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(u32::try_from(head_bytes).unwrap_or(u32::MAX));
    let service = {
        let http = Arc::clone(&http);
        service_fn(move |request: Request<Incoming>| {
            let http = Arc::clone(&http);
            let pulse = Arc::clone(&pulse);
            async move { Ok::<_, std::convert::Infallible>(http.answer(request, &pulse).await) }
        })
    };
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drained(&mut draining) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
