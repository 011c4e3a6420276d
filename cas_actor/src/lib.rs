//! A content-addressed store and an action cache whose shards are actors.
//!
//! A [`Store`] keeps blobs under the BLAKE3 hash of their content ([`Digest`]) and small action
//! entries under the hash of whatever decided them ([`ActionKey`]). The first bits of a hash
//! choose a shard; a shard is an actor on its own thread and the only owner of its files, so that
//! presence, reading and eviction of a blob are one serial decision.
//!
//! What it promises:
//! - **Nothing acknowledged is lost.** A put is answered after its content and its name are on
//!   disk ([`Durability`] loosens that); puts that wait together are made durable together.
//! - **Nothing wrong is served.** Content is checked when it comes in and when it is read, large blobs
//!   as [`VerifyReads`] says; damaged files go to quarantine and count as missing.
//! - **No scan at the start.** Small blobs are found in an index on disk, a large one under its name.
//!
//! ```
//! use cas_actor::{ActionEntry, Store, StoreConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let root = directory.path();
//! let system = actor_rt::System::new()?;
//! let store = Store::open(StoreConfig::new(root), &system)?;
//! let store = store.blocking(); // or `.await` the same methods of `Store`
//!
//! let output = store.put("int main() {}")?;
//! assert_eq!(&*store.get(&output)?, b"int main() {}");
//!
//! let key = [7; 32];
//! store.put_action(&key, ActionEntry::new("exit 0").with_outputs(vec![output]))?;
//! let entry = store.get_complete_action(&key)?.expect("just stored");
//! assert_eq!(entry.payload, "exit 0");
//! # store.close();
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]

mod action;
mod ages;
mod behind;
mod blob;
mod blocking;
mod budget;
mod chunks;
mod commit;
#[cfg(test)]
mod compaction_tests;
#[cfg(test)]
mod damage_tests;
mod digest;
#[cfg(test)]
mod disk_fault_tests;
#[cfg(test)]
mod doubt_tests;
mod error;
mod evict;
mod export;
pub mod front;
mod fs;
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod huge;
mod ingest;
mod layout;
mod locate;
mod lookup;
mod maintain;
mod mapped;
mod memory;
mod name;
mod name_cache;
mod open;
mod open_files;
mod pack;
mod partial;
#[cfg(test)]
mod power_fs;
#[cfg(test)]
mod power_tests;
mod put;
mod reserve;
mod room;
mod scrub;
mod seen;
#[cfg(test)]
mod several_shards_tests;
mod sha256;
mod shard;
mod shard_actor;
#[cfg(test)]
mod shard_model_tests;
mod shard_set;
#[cfg(test)]
mod shard_tests;
mod staging;
mod stats;
mod store;
mod stripes;
mod take;
mod transfer;
mod upkeep;
mod upkeep_actor;
mod upstream;
mod uses;

pub use action::{ActionEntry, EntryError};
pub use blob::{Blob, ByteRange, RangeError};
pub use blocking::Blocking;
pub use chunks::{Chunk, ChunkError, Chunking};
pub use commit::Durability;
pub use digest::{Digest, DigestParseError, HASH_BYTES, Hasher};
pub use error::{ExportError, GetError, IoFailure, NameMismatch, PutError, ShardError, StoreError};
pub use evict::GcReport;
pub use export::Export;
pub use ingest::Upload;
pub use layout::ActionKey;
pub use memory::MemoryConfig;
pub use name::{BlobName, HashFunction};
pub use open::StoreConfig;
pub use partial::PartialConfig;
pub use sha256::Sha256Digest;
pub use shard::{PutOutcome, VerifyReads};
pub use stats::{LATENCY_BUCKETS, Latency, Stats};
pub use store::Store;
pub use transfer::Transfer;
pub use upkeep::{VerifyProgress, VerifyReport};
pub use upstream::{
    Connection, HttpUpstream, Pieces, S3Config, Tier, TierConfig, TierStats, Upstream,
    UpstreamConfig, UpstreamConfigError, UpstreamError, WriteThrough, without_credentials,
};
