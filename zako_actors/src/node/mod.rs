//! `zako node`: the long-running process.
//!
//! Owns the order of starting and stopping, and the wait for a signal. Does not know HTTP
//! (`cas_actor::front`), its settings (`config`), nor what the figures mean (`metrics`, `health`).
//! Invariants: an address is printed once it answers; after SIGTERM or SIGINT no connection is
//! taken, those that are open finish within [`DRAIN`], then the store is closed.

mod alerts;
mod config;
mod engine;
mod health;
mod metrics;
#[cfg(not(feature = "otel"))]
mod no_spans;
mod pages;
mod prometheus;
mod room;
#[cfg(feature = "otel")]
mod spans;
mod store;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actor_rt::{StartError, System};
use cas_actor::front::{Attached, ConfigError, Front, FrontFigures, FrontProbe};
use cas_actor::{Store, StoreConfig, StoreError, UpstreamConfigError, WriteThrough};
use tokio::signal::unix::{SignalKind, signal};

use self::config::Config;
pub use self::config::Settings;
use self::engine::Engine;
#[cfg(not(feature = "otel"))]
use self::no_spans as spans;

use crate::engine::open_files;
use crate::machine::Machine;

/// How long open connections may take to finish.
const DRAIN: Duration = Duration::from_secs(5);
/// Why a node did not run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration file cannot be used.
    #[error("{}: {message}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// There is no place for the store.
    #[error("no HOME and no --data-dir: say where the store may be")]
    NoDataDir,
    /// Somebody who vouches for clients, and no TLS in which they could say who they are.
    #[error(
        "--tls-client-ca needs --tls-cert and --tls-key, or a [tls] table in the configuration"
    )]
    ClientCaAlone,
    /// The configuration can be read, and cannot be used.
    #[error("{}{error}", path.as_ref().map(|path| format!("{}: ", path.display())).unwrap_or_default())]
    Unusable {
        /// The file, if there is one.
        path: Option<PathBuf>,
        /// What is wrong.
        error: ConfigError,
    },
    /// The cache behind the node cannot be used.
    #[error("{}{error}", path.as_ref().map(|path| format!("{}: ", path.display())).unwrap_or_default())]
    Upstream {
        /// The file, if there is one.
        path: Option<PathBuf>,
        /// What is wrong.
        error: UpstreamConfigError,
    },
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error("cannot listen at {}: {source}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Spans cannot go there.
    #[error("--otel: {0}")]
    Otel(String),
    /// No threads.
    #[error("cannot start the actor system: {0}")]
    System(#[from] StartError),
    /// No store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system refuses signals or output.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A running node.
pub struct Node {
    /// All its actors.
    system: System,
    /// Its blobs and results.
    store: Store,
    /// What evaluates and transpiles.
    engine: Engine,
    /// When it started.
    begin: Instant,
    /// Its front ends; set before the first request.
    front: OnceLock<NodeFront>,
    /// What was found out about its components.
    health: health::Last,
}

/// What is asked of the front ends.
struct NodeFront {
    figures: FrontFigures,
    probe: FrontProbe,
}

/// Runs a node until a signal ends it.
///
/// # Errors
/// When it cannot start.
pub fn run(settings: &Settings) -> Result<(), NodeError> {
    // Before the configuration is read: connections may take what the limit on open files leaves.
    open_files::raise();
    let config = config::read(settings)?;
    let system = System::builder().name("zako-node").build()?;
    // Connections are tasks, many and short: on threads of their own, so that they neither wait
    // for actors nor hold them up.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("front")
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(start(&system, &config));
    // What a cut-off upload still writes is of no use to anybody.
    runtime.shutdown_background();
    if let Err(error) = system.shutdown(DRAIN) {
        tracing::warn!("{error}");
    }
    outcome
}

async fn start(system: &System, config: &Config) -> Result<(), NodeError> {
    // Before the address is said, so that nobody's signal is lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let max_bytes = room::limit_bytes(config.max_bytes, &config.data)?;
    let opened = StoreConfig {
        max_bytes,
        ..config.store.clone()
    };
    let store = Store::open(opened, system)?;
    if let Some(upstream) = &config.upstream {
        let tier = upstream.tier(tokio::runtime::Handle::current());
        store.set_upstream(tier.map_err(|error| NodeError::Upstream {
            path: config.path.clone(),
            error,
        })?);
    }
    let node = Arc::new(Node {
        system: system.clone(),
        store: store.clone(),
        engine: Engine::new(
            system,
            Machine::look().defaults().pool,
            config.data.join("check"),
        ),
        begin: Instant::now(),
        front: OnceLock::new(),
        health: health::Last::default(),
    });
    let pages = pages::NodePages(Arc::clone(&node));
    let spans = config.otel.as_deref().map(spans::start).transpose();
    let (watcher, spans) = spans.map_err(NodeError::Otel)?.unzip();
    let attached = Attached {
        pages: Some(Arc::new(pages)),
        watcher,
    };
    let front = Front::with(store.clone(), &config.front, attached);
    let front = front.map_err(|error| NodeError::Unusable {
        path: config.path.clone(),
        error,
    })?;
    node.front.get_or_init(|| NodeFront {
        figures: front.figures(),
        probe: front.probe(),
    });
    let listen = |address| {
        let listening = front.listen(address);
        listening.map_err(|source| NodeError::Listen { address, source })
    };
    let listening = listen(config.http)?;
    let grpc = config.grpc.map(listen).transpose()?.unwrap_or(listening);
    if let Some(path) = &config.unix {
        front
            .listen_unix(path)
            .map_err(|source| NodeError::Socket {
                path: path.clone(),
                source,
            })?;
    }
    alerts::watch(&node, config.alerts.clone());
    let secure = if front.has_tls() { "s" } else { "" };
    let root = config.store.root.display();
    match max_bytes {
        Some(bytes) => say(&format!("store  {root}, at most {:.1} GiB", gib(bytes)))?,
        None => say(&format!("store  {root}, as large as the disk"))?,
    }
    if let Some(path) = &config.unix {
        say(&format!("unix   {}", path.display()))?;
    }
    say(&format!("grpc   grpc{secure}://{grpc}"))?;
    say(&format!("http   http{secure}://{listening}"))?;
    if let Some(upstream) = &config.upstream {
        let use_of_it = match upstream.write {
            WriteThrough::Never => "read",
            WriteThrough::Background => "read and written to",
        };
        say(&format!("behind {} ({use_of_it})", upstream.address))?;
    }
    if front.is_open() && !(listening.ip().is_loopback() && grpc.ip().is_loopback()) {
        say("note   everybody who reaches this address may read and write; see [access]")?;
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    if !front.drain(DRAIN).await {
        tracing::warn!("connections were still open after {DRAIN:?}");
    }
    drop(node);
    store.close().await;
    if let Some(spans) = spans {
        spans.end(DRAIN).await;
    }
    Ok(())
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
