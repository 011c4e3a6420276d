//! What a person may set about the front ends; every value has a default.
//!
//! Owns: the `[limits]`, `[dialects]`, `[access]` and `[tls]` tables of the node's configuration, and
//! what makes them unusable.
//! Does not know: where the file lies or which addresses are listened to.
#![forbid(unsafe_code)]

use std::time::Duration;

use serde::Deserialize;

use super::access::{AccessConfig, AccessError};
use super::tls::{TlsConfig, TlsError};
use crate::HashFunction;
use crate::open::memory_bytes;

/// Files that stay free for the store when connections take the rest.
const FILES_FOR_THE_STORE: u64 = 256;
const MOST_CONNECTIONS: u64 = 16_384;
/// What hyper needs to read any head.
const LEAST_HEAD_BYTES: u64 = 8 * 1024;
/// One request of the largest kind needs so much: a message of gRPC, and what it becomes.
const LEAST_IN_FLIGHT_BYTES: u64 = 96 * 1024 * 1024;
/// Longer waits than a year are none that a clock can always be asked for.
const MOST_SECONDS: u64 = 365 * 24 * 60 * 60;
const GIB: u64 = 1024 * 1024 * 1024;

/// The front ends' part of the node's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FrontConfig {
    /// How much anybody may ask for.
    pub limits: LimitsConfig,
    /// How HTTP is answered.
    pub dialects: DialectsConfig,
    /// Who may do what.
    pub access: AccessConfig,
    /// TLS on every address; a socket in the file system never has it.
    pub tls: Option<TlsConfig>,
}

/// The configuration cannot be used. Fix what the message names.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A limit under which nothing would work.
    #[error("[limits] {key} = {value} is too small; at least {least} is needed")]
    Limit {
        /// Its name in the table.
        key: &'static str,
        /// What it is.
        value: u64,
        /// The least that makes sense.
        least: u64,
    },
    /// Credentials that make no sense.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A file of the `[tls]` table that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// How the HTTP dialects answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DialectsConfig {
    /// Refuse what is put at `/ac/` and is no `ActionResult`, with 400. Off, anything may be stored
    /// there, as by clients that use those paths for content of their own.
    pub validate_action_results: bool,
    /// Compress blobs with zstd for clients that accept it, where that makes them smaller.
    pub compress_blobs: bool,
    /// Whether clients of the Remote Execution API, over gRPC and at `/cas/`, may name blobs and actions by
    /// BLAKE3; off, the node says that it knows SHA-256 only, as many caches do.
    pub blake3: bool,
}

impl Default for DialectsConfig {
    fn default() -> Self {
        Self {
            validate_action_results: true,
            compress_blobs: true,
            blake3: true,
        }
    }
}

impl DialectsConfig {
    /// The hash by which all clients may name blobs, ours if they may.
    pub(super) fn function(&self) -> HashFunction {
        match self.blake3 {
            true => HashFunction::Blake3,
            false => HashFunction::Sha256,
        }
    }
}

/// Limits on connections, requests and time. Times of more than a year count as a year.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Open connections; one more is answered 503 and closed.
    pub connections: u64,
    /// Requests that are being answered; one more is answered 503.
    pub requests: u64,
    /// Open connections of one address, or of one /64 network of IPv6; 0 is no limit.
    pub connections_per_peer: u64,
    /// Requests of one credential, or of one address where none is sent, per second; more, after a
    /// burst of two seconds' worth, are answered 429. 0 is no limit.
    pub requests_per_second: u64,
    /// Bytes that all requests together may hold in memory on their way to the store and back; one that
    /// would need more is answered 503.
    pub in_flight_bytes: u64,
    /// Bytes of one uploaded body; more is answered 413.
    pub upload_bytes: u64,
    /// Bytes of a request's head; more is answered 431.
    pub head_bytes: u64,
    /// Seconds that a connection may be open without a request.
    pub idle_seconds: u64,
    /// Seconds from the first byte of a request's head to its last.
    pub head_seconds: u64,
    /// Seconds within which a body has to move, in either direction; of an answer over HTTP/2, a piece
    /// of 32 KiB. Each stream of an HTTP/2 connection counts for itself, but an answer that its client
    /// does not take ends the whole connection. What the node works at meanwhile does not count.
    pub stall_seconds: u64,
    /// Seconds that one request may take, the bodies of it and of its answer included.
    pub request_seconds: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: connections_of_this_machine(),
            requests: 4096,
            connections_per_peer: 0,
            requests_per_second: 0,
            in_flight_bytes: (memory_bytes() / 4).max(LEAST_IN_FLIGHT_BYTES),
            upload_bytes: 16 * GIB,
            head_bytes: 32 * 1024,
            idle_seconds: 300,
            head_seconds: 15,
            stall_seconds: 60,
            request_seconds: 3600,
        }
    }
}

impl LimitsConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (key, value, least) in [
            ("connections", self.connections, 1),
            ("requests", self.requests, 1),
            (
                "in_flight_bytes",
                self.in_flight_bytes,
                LEAST_IN_FLIGHT_BYTES,
            ),
            ("head_bytes", self.head_bytes, LEAST_HEAD_BYTES),
            ("idle_seconds", self.idle_seconds, 1),
            ("head_seconds", self.head_seconds, 1),
            ("stall_seconds", self.stall_seconds, 1),
            ("request_seconds", self.request_seconds, 1),
        ] {
            if value < least {
                return Err(ConfigError::Limit { key, value, least });
            }
        }
        Ok(())
    }

    pub(super) fn idle(&self) -> Duration {
        seconds(self.idle_seconds)
    }

    pub(super) fn head(&self) -> Duration {
        seconds(self.head_seconds)
    }

    pub(super) fn stall(&self) -> Duration {
        seconds(self.stall_seconds)
    }

    pub(super) fn request(&self) -> Duration {
        seconds(self.request_seconds)
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds.min(MOST_SECONDS))
}

/// As many as this process may have files open, less what the store needs.
fn connections_of_this_machine() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let files = limit.current.unwrap_or(MOST_CONNECTIONS);
    let free = files.saturating_sub(FILES_FOR_THE_STORE).max(files / 2);
    free.min(MOST_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_store() {
        let connections = LimitsConfig::default().connections;
        assert!((1..=MOST_CONNECTIONS).contains(&connections));
    }

    #[test]
    fn the_longest_times_have_an_end() {
        let limits = LimitsConfig {
            idle_seconds: u64::MAX,
            head_seconds: u64::MAX,
            stall_seconds: u64::MAX,
            request_seconds: u64::MAX,
            ..Default::default()
        };
        for limit in [
            limits.idle(),
            limits.head(),
            limits.stall(),
            limits.request(),
        ] {
            assert!(std::time::Instant::now().checked_add(limit).is_some());
        }
    }

    #[test]
    fn a_limit_that_lets_nothing_through_is_named() {
        assert!(LimitsConfig::default().check().is_ok());
        let limits = LimitsConfig {
            head_seconds: 0,
            ..Default::default()
        };
        let said = limits.check().unwrap_err().to_string();
        assert!(said.contains("[limits] head_seconds = 0"), "{said}");
    }
}
