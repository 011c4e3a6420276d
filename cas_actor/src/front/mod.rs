//! The front ends of the store: what build tools say over the network, answered from one store.
//!
//! Owns: listening, limits, credentials, the HTTP dialects ([`http`](self) routes) and their use
//! of the store. `grpc` is the only folder that knows tonic.
//! Does not know: how the store keeps anything, or what the node does beside it.
//! Invariants: a name that came over the network is hashed before the store hears of it, so it
//! never becomes a path; an answer that says "stored" comes after the store's own answer; content
//! that does not match its digest or its announced size leaves nothing behind.
//!
//! ```no_run
//! use cas_actor::front::{Front, FrontConfig};
//!
//! # async fn f(store: cas_actor::Store) -> Result<(), Box<dyn std::error::Error>> {
//! let front = Front::new(store, &FrontConfig::default())?;
//! let address = front.listen("127.0.0.1:7471".parse()?)?; // on the current tokio runtime
//! println!("http://{address}/");
//! front.drain(std::time::Duration::from_secs(10)).await;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod access;
mod behind;
mod body;
mod compress;
mod config;
mod connection;
mod counters;
mod drain;
mod grpc;
mod held;
mod http;
mod intake;
mod listen;
mod names;
mod probe;
mod pulse;
mod rate;
mod sendfile;
mod stall;
mod tallies;
mod timed;
mod tls;
mod token;
mod unix;
mod watch;

pub use grpc::ReapiUpstream;

pub use access::{AccessConfig, AccessError, CredentialConfig, Right};
pub use config::{ConfigError, DialectsConfig, FrontConfig, LimitsConfig};
pub use counters::{FrontFigures, FrontStats, SpaceStats, TransportStats};
pub use http::{Page, Pages};
pub use listen::{Attached, Front};
pub use probe::FrontProbe;
pub use tallies::{SIZE_BOUNDS_BYTES, SizeStats};
pub use tls::{ClientCertificate, TlsConfig, TlsError};
pub use watch::{Served, Watcher};

use serde::Deserialize;

/// The clients' name spaces: what one client stores, another kind never sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// The remote execution API over gRPC, and its HTTP form: `/ac/` and `/cas/`.
    Bazel,
    /// `/ccache/`.
    Ccache,
    /// `/sccache/`, WebDAV.
    Sccache,
    /// `/gradle/`.
    Gradle,
    /// `/v8/artifacts/`.
    Turborepo,
    /// `/v1/cache/`.
    Nx,
}

impl Space {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Bazel,
        Self::Ccache,
        Self::Sccache,
        Self::Gradle,
        Self::Turborepo,
        Self::Nx,
    ];

    /// The name in configuration, figures and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bazel => "bazel",
            Self::Ccache => "ccache",
            Self::Sccache => "sccache",
            Self::Gradle => "gradle",
            Self::Turborepo => "turborepo",
            Self::Nx => "nx",
        }
    }
}

/// What fuzzing reaches.
pub(crate) mod fuzzing {
    use super::http::route::{Route, route};

    /// Reads a text as whatever the front ends take from a request line.
    ///
    /// # Panics
    /// When a key climbs out of its space.
    pub(crate) fn read_names(text: &str) {
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (text, None),
        };
        if let Ok(Route::Entry(entry)) = route(path, query) {
            let mut parts = entry.key.split('/');
            assert!(!parts.any(|part| matches!(part, "" | "." | "..")), "{path}");
            assert!(path.ends_with(entry.key), "{path}");
        }
        let _ = super::grpc::name::resource(text);
        let _ = crate::BlobName::from_hex(text);
    }
}
