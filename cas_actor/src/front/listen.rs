//! Listening: addresses, sockets in the file system, and the end of both.
//!
//! Owns: [`Front`], its listeners, the limits on connections, and draining.
//! Does not know: what a connection carries (`connection`) or a request means (`http`).
//! Invariants: a connection over a limit is answered 503 and closed at once (without a word where
//! TLS is spoken); while draining, no connection is taken in, a request that runs is finished, and
//! an idle connection is closed.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::access::Access;
use super::config::{ConfigError, DialectsConfig, FrontConfig, LimitsConfig};
use super::connection::{Stream, serve};
use super::counters::{Counters, FrontFigures, FrontStats};
use super::drain::drained;
use super::http::{Http, Pages};
use super::names::Names;
use super::probe::{FrontProbe, Probed};
use super::rate::{Crowd, Peer, Rate};
use super::unix;
use super::watch::Watcher;
use crate::Store;

/// Waiting connections that the kernel keeps while we take others in.
const BACKLOG: u32 = 1024;
/// How long the acceptor rests when the process has no free file for another connection.
const REST: Duration = Duration::from_millis(50);

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
    pub(crate) dialects: DialectsConfig,
    pub(crate) rate: Option<Rate>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) pages: Option<Arc<dyn Pages>>,
    pub(crate) watcher: Option<Arc<dyn Watcher>>,
    pub(crate) probed: Probed,
    /// Whether the end has begun.
    pub(crate) draining: watch::Receiver<bool>,
}

/// What belongs to whoever serves a store, beside the store.
#[derive(Clone, Default)]
pub struct Attached {
    /// Pages at paths that no build tool uses.
    pub pages: Option<Arc<dyn Pages>>,
    /// Is told about every request.
    pub watcher: Option<Arc<dyn Watcher>>,
}

impl std::fmt::Debug for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attached")
            .field("pages", &self.pages.is_some())
            .field("watcher", &self.watcher.is_some())
            .finish()
    }
}

/// The front ends of one store, listening on any number of addresses. Every address speaks all
/// protocols.
///
/// Dropping it stops listening and closes every connection once its request is answered.
pub struct Front {
    http: Arc<Http>,
    tls: Option<TlsAcceptor>,
    crowd: Arc<Crowd>,
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
    /// When the configuration cannot be used: limits, credentials, files of TLS.
    pub fn new(store: Store, config: &FrontConfig) -> Result<Self, ConfigError> {
        Self::with(store, config, Attached::default())
    }

    /// The same, with pages of the caller and somebody who is told about requests.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with(
        store: Store,
        config: &FrontConfig,
        attached: Attached,
    ) -> Result<Self, ConfigError> {
        config.limits.check()?;
        let tls = config.tls.as_ref().map(|tls| tls.acceptor()).transpose()?;
        let draining = watch::Sender::new(false);
        let shared = Shared {
            names: Arc::new(Names::new(store.clone(), config.dialects.function())),
            store,
            access: Access::new(&config.access)?,
            rate: Rate::new(config.limits.requests_per_second),
            limits: config.limits.clone(),
            dialects: config.dialects.clone(),
            counters: Arc::default(),
            pages: attached.pages,
            watcher: attached.watcher,
            probed: Probed::default(),
            draining: draining.subscribe(),
        };
        Ok(Self {
            http: Arc::new(Http::new(Arc::new(shared))),
            tls,
            crowd: Arc::default(),
            draining,
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
        tokio::spawn(accept(Tcp(listener, self.tls.clone()), self.gate()));
        Ok(address)
    }

    /// Listens on a socket in the file system, which only this user may open, and serves it on the
    /// current tokio runtime. A socket that a killed node has left there is replaced.
    ///
    /// # Errors
    /// When a node listens there, when something else lies there, or when the directory cannot be
    /// written.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn listen_unix(&self, path: &Path) -> io::Result<()> {
        let listener = unix::bind(path)?;
        tokio::spawn(accept(Unix(listener, path.to_owned()), self.gate()));
        Ok(())
    }

    /// Whether addresses speak TLS.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    fn gate(&self) -> Gate {
        Gate {
            http: Arc::clone(&self.http),
            crowd: Arc::clone(&self.crowd),
            draining: self.draining.subscribe(),
            open: self.open.subscribe(),
        }
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

    /// A handle to check from elsewhere whether uploads and downloads work.
    pub fn probe(&self) -> FrontProbe {
        FrontProbe(Arc::clone(self.http.shared()))
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

/// A place where connections come in.
trait Door: Send + 'static {
    /// The next connection, and whose it is.
    fn accept(&self) -> impl Future<Output = io::Result<(Stream, Peer)>> + Send;
}

struct Tcp(TcpListener, Option<TlsAcceptor>);

impl Door for Tcp {
    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        let (stream, address) = self.0.accept().await?;
        let peer = Peer::from(address.ip());
        Ok(match &self.1 {
            None => (Stream::Plain(stream), peer),
            Some(tls) => (Stream::Tls(stream, tls.clone()), peer),
        })
    }
}

struct Unix(UnixListener, PathBuf);

impl Door for Unix {
    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        let (stream, _) = self.0.accept().await?;
        Ok((Stream::Local(stream), Peer::Local))
    }
}

impl Drop for Unix {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = std::fs::remove_file(&self.1);
    }
}

/// What every acceptor has.
struct Gate {
    http: Arc<Http>,
    crowd: Arc<Crowd>,
    draining: watch::Receiver<bool>,
    open: watch::Receiver<()>,
}

impl Gate {
    /// Counts a connection; `None` when there is no room for it.
    fn enter(&self, peer: Peer) -> Option<Open> {
        let shared = self.http.shared();
        let limits = &shared.limits;
        let mut open = Open {
            counters: Arc::clone(&shared.counters),
            crowd: None,
            _open: self.open.clone(),
        };
        let before = shared.counters.connections.fetch_add(1, Relaxed);
        let mut is_welcome = before < limits.connections;
        if limits.connections_per_peer > 0 {
            open.crowd = Some((Arc::clone(&self.crowd), peer));
            is_welcome &= self.crowd.enter(peer) <= limits.connections_per_peer;
        }
        if !is_welcome {
            shared.counters.overloaded.fetch_add(1, Relaxed);
        }
        is_welcome.then_some(open)
    }
}

async fn accept(door: impl Door, mut gate: Gate) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = drained(&mut gate.draining) => return,
            accepted = door.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // The peer has gone already, or there is no free file: others will be closed.
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let Some(open) = gate.enter(peer) else {
            if let Stream::Plain(stream) = stream {
                turn_away(&stream);
            }
            continue;
        };
        let http = Arc::clone(&gate.http);
        let draining = gate.draining.clone();
        tokio::spawn(async move {
            let _open = open;
            serve(stream, peer, http, draining).await;
        });
    }
}

/// An open connection, as it is counted.
struct Open {
    counters: Arc<Counters>,
    crowd: Option<(Arc<Crowd>, Peer)>,
    /// Its drop tells.
    _open: watch::Receiver<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counters.connections.fetch_sub(1, Relaxed);
        if let Some((crowd, peer)) = &self.crowd {
            crowd.leave(*peer);
        }
    }
}

/// Costs nothing but this one write into an empty socket buffer.
fn turn_away(stream: &TcpStream) {
    // Who is gone already needs no answer.
    let _ = stream.try_write(BUSY);
}
