//! `zako node`: the long-running process.
//!
//! Owns its settings, the order of starting and stopping, and the wait for a signal. Does not know
//! HTTP (`cas_actor::front`), nor what the figures mean (`metrics`, `health`).
//! Invariants: an address is printed once it answers; after SIGTERM or SIGINT no connection is
//! taken, those that are open finish within [`DRAIN`], then the store is closed.

mod health;
mod metrics;
mod pages;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actor_rt::{StartError, System};
use cas_actor::front::{AccessConfig, AccessError, Front, FrontConfig, FrontFigures, LimitsConfig};
use cas_actor::{Store, StoreConfig, StoreError};
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};

/// How long open connections may take to finish.
const DRAIN: Duration = Duration::from_secs(5);
/// Where HTTP is answered unless told otherwise: this machine only.
const DEFAULT_HTTP: &str = "127.0.0.1:7471";

/// What a person may set, by flag or in the configuration file.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Directory of the store.
    pub data_dir: Option<PathBuf>,
    /// Address of HTTP.
    pub http: Option<SocketAddr>,
    /// A second address, for gRPC. Both addresses speak both.
    pub grpc: Option<SocketAddr>,
    /// Configuration file.
    pub config: Option<PathBuf>,
}

/// The configuration file. Every value has a default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Config {
    data_dir: Option<PathBuf>,
    http: Option<SocketAddr>,
    grpc: Option<SocketAddr>,
    #[serde(default)]
    limits: LimitsConfig,
    #[serde(default)]
    access: AccessConfig,
}

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
    /// The credentials of the configuration make no sense.
    #[error("{error}")]
    Access {
        /// What is wrong with them.
        #[from]
        error: AccessError,
    },
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
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
    /// When it started.
    begin: Instant,
    /// What its front ends did; set before the first request.
    front: OnceLock<FrontFigures>,
}

/// Runs a node until a signal ends it.
///
/// # Errors
/// When it cannot start.
pub fn run(settings: &Settings) -> Result<(), NodeError> {
    let config = read_config(settings.config.as_deref())?;
    let data = match settings.data_dir.clone().or(config.data_dir) {
        Some(dir) => dir,
        None => default_data_dir().ok_or(NodeError::NoDataDir)?,
    };
    let default: Option<SocketAddr> = DEFAULT_HTTP.parse().ok();
    let address = settings
        .http
        .or(config.http)
        .or(default)
        .unwrap_or(([127, 0, 0, 1], 0).into());
    let grpc = settings.grpc.or(config.grpc);
    let system = System::builder().name("zako-node").build()?;
    // Connections are tasks, many and short: on threads of their own, so that they neither wait
    // for actors nor hold them up.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("front")
        .enable_all()
        .build()?;
    let front = FrontConfig {
        limits: config.limits,
        access: config.access,
    };
    let outcome = runtime.block_on(start(&system, &data, address, grpc, &front));
    // What a cut-off upload still writes is of no use to anybody.
    runtime.shutdown_background();
    if let Err(error) = system.shutdown(DRAIN) {
        tracing::warn!("{error}");
    }
    outcome
}

async fn start(
    system: &System,
    data: &Path,
    address: SocketAddr,
    grpc: Option<SocketAddr>,
    config: &FrontConfig,
) -> Result<(), NodeError> {
    // Before the address is said, so that nobody's signal is lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let store = Store::open(StoreConfig::new(data.join("store")), system)?;
    let node = Arc::new(Node {
        system: system.clone(),
        store: store.clone(),
        begin: Instant::now(),
        front: OnceLock::new(),
    });
    let pages = pages::NodePages(Arc::clone(&node));
    let front = Front::with_pages(store.clone(), config, Some(Arc::new(pages)))?;
    node.front.get_or_init(|| front.figures());
    let listen = |address| {
        let listening = front.listen(address);
        listening.map_err(|source| NodeError::Listen { address, source })
    };
    let listening = listen(address)?;
    let grpc = grpc.map(listen).transpose()?.unwrap_or(listening);
    say(&format!("store  {}", data.join("store").display()))?;
    say(&format!("http   http://{listening}"))?;
    say(&format!("grpc   grpc://{grpc}"))?;
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
    Ok(())
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn read_config(path: Option<&Path>) -> Result<Config, NodeError> {
    let Some(path) = path else {
        return Ok(Config::default());
    };
    let wrong = |message: String| NodeError::Config {
        path: path.to_owned(),
        message,
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    toml::from_str(&text).map_err(|error| wrong(error.to_string()))
}

fn default_data_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = set("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".local/share")))?;
    Some(base.join("zako"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_setting_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, "htpp = \"127.0.0.1:1\"\n").unwrap();
        let error = read_config(Some(&path)).unwrap_err().to_string();
        assert!(
            error.contains("node.toml") && error.contains("htpp"),
            "{error}"
        );
        std::fs::write(&path, "http = \"127.0.0.1:1\"\ndata-dir = \"/d\"\n").unwrap();
        assert_eq!(
            read_config(Some(&path)).unwrap().data_dir,
            Some("/d".into())
        );
    }
}
