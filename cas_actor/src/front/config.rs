//! What a person may set about the front ends; every value has a default.
//!
//! Owns: the `[limits]` and `[access]` tables of the node's configuration.
//! Does not know: where the file lies or which addresses are listened to.
#![forbid(unsafe_code)]

use std::time::Duration;

use serde::Deserialize;

use super::access::AccessConfig;

/// Files that stay free for the store when connections take the rest.
const FILES_FOR_THE_STORE: u64 = 256;
const MOST_CONNECTIONS: u64 = 16_384;
const GIB: u64 = 1024 * 1024 * 1024;

/// The front ends' part of the node's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FrontConfig {
    /// How much anybody may ask for.
    pub limits: LimitsConfig,
    /// Who may do what.
    pub access: AccessConfig,
}

/// Limits on connections, requests and time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Open connections; one more is answered 503 and closed.
    pub connections: u64,
    /// Requests that are being answered; one more is answered 503.
    pub requests: u64,
    /// Bytes of one uploaded body; more is answered 413.
    pub upload_bytes: u64,
    /// Bytes of a request's head; more is answered 431.
    pub head_bytes: u64,
    /// Seconds that a connection may be open without a request.
    pub idle_seconds: u64,
    /// Seconds from the first byte of a request's head to its last.
    pub head_seconds: u64,
    /// Seconds within which some byte of a body has to move, in either direction.
    pub stall_seconds: u64,
    /// Seconds that one request may take, its body included.
    pub request_seconds: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: connections_of_this_machine(),
            requests: 4096,
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
    pub(super) fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }

    pub(super) fn head(&self) -> Duration {
        Duration::from_secs(self.head_seconds)
    }

    pub(super) fn stall(&self) -> Duration {
        Duration::from_secs(self.stall_seconds)
    }

    pub(super) fn request(&self) -> Duration {
        Duration::from_secs(self.request_seconds)
    }
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
}
