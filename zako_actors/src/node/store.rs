//! The `[store]` table of the configuration.
//!
//! Owns its keys and their defaults, which are those of the store, but for the scrubber: a node runs it.
//! Does not know what the store makes of them (`cas_actor`).

use std::path::PathBuf;
use std::time::Duration;

use cas_actor::{MemoryConfig, StoreConfig, VerifyReads};
use serde::Deserialize;

/// What the scrubber of a node reads in a second: 340 GB a day.
const SCRUB_BYTES_PER_SECOND: u64 = 4 * 1024 * 1024;

/// `[store]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StoreTable {
    /// The memory tier; 0 switches it off.
    memory_bytes: u64,
    /// Larger blobs do not come into the memory tier.
    admit_up_to_bytes: u64,
    /// How long a blob stays in the memory tier,
    time_to_live_seconds: u64,
    /// and how long since it was read.
    time_to_idle_seconds: u64,
    /// What was used within this time is never evicted.
    lease_seconds: u64,
    verify_reads: Verify,
    /// With `first_large`, how long the check of a large blob counts.
    recheck_large_seconds: u64,
    /// What is read again in the background; 0 switches that off.
    scrub_bytes_per_second: u64,
}

/// When content is checked against its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verify {
    FirstLarge,
    Always,
    SmallOnly,
}

impl Default for StoreTable {
    fn default() -> Self {
        let store = StoreConfig::new("");
        Self {
            memory_bytes: store.memory.capacity_bytes,
            admit_up_to_bytes: store.memory.admit_up_to_bytes,
            time_to_live_seconds: store.memory.time_to_live.as_secs(),
            time_to_idle_seconds: store.memory.time_to_idle.as_secs(),
            lease_seconds: store.lease.as_secs(),
            verify_reads: Verify::FirstLarge,
            recheck_large_seconds: store.recheck_large_after.as_secs(),
            scrub_bytes_per_second: SCRUB_BYTES_PER_SECOND,
        }
    }
}

impl StoreTable {
    /// How the store of a node at `root` is opened.
    pub(super) fn config(&self, root: PathBuf) -> StoreConfig {
        StoreConfig {
            // What one client brings under either hash, others find under the other.
            sha256_names: true,
            memory: MemoryConfig {
                capacity_bytes: self.memory_bytes,
                admit_up_to_bytes: self.admit_up_to_bytes,
                time_to_live: Duration::from_secs(self.time_to_live_seconds),
                time_to_idle: Duration::from_secs(self.time_to_idle_seconds),
            },
            lease: Duration::from_secs(self.lease_seconds),
            verify_reads: match self.verify_reads {
                Verify::FirstLarge => VerifyReads::FirstLarge,
                Verify::Always => VerifyReads::Always,
                Verify::SmallOnly => VerifyReads::SmallOnly,
            },
            recheck_large_after: Duration::from_secs(self.recheck_large_seconds),
            scrub_bytes_per_second: Some(self.scrub_bytes_per_second).filter(|bytes| *bytes > 0),
            ..StoreConfig::new(root)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_reaches_the_store() {
        let table: StoreTable = toml::from_str(
            "memory_bytes = 1\nadmit_up_to_bytes = 2\ntime_to_live_seconds = 3\ntime_to_idle_seconds = 4\n\
             lease_seconds = 5\nverify_reads = \"always\"\nscrub_bytes_per_second = 6\n\
             recheck_large_seconds = 7\n",
        )
        .unwrap();
        let config = table.config("/s".into());
        let memory = MemoryConfig {
            capacity_bytes: 1,
            admit_up_to_bytes: 2,
            time_to_live: Duration::from_secs(3),
            time_to_idle: Duration::from_secs(4),
        };
        let expected = StoreConfig {
            sha256_names: true,
            memory,
            lease: Duration::from_secs(5),
            verify_reads: VerifyReads::Always,
            recheck_large_after: Duration::from_secs(7),
            scrub_bytes_per_second: Some(6),
            ..StoreConfig::new("/s")
        };
        assert_eq!(config, expected);
        let off: StoreTable = toml::from_str("scrub_bytes_per_second = 0\n").unwrap();
        assert_eq!(off.config("/s".into()).scrub_bytes_per_second, None);
    }
}
