//! Counters of a store: what it holds, how it is used, how long that takes.
//!
//! Owns: the counters that a shard writes and anybody reads, and the snapshot of them.
//! Does not know: who shows them.
//! Invariant: counters other than [`Held`] are only added to; all loads and stores are `Relaxed`, for no other
//! memory hangs on them.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::layout::Kind;
use crate::stripes::Striped;

/// Buckets of a histogram: bucket `i` counts durations below `2^i` µs, the last one the rest.
pub const LATENCY_BUCKETS: usize = 24;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident: $counter:ty,)+) => {
        /// The counters of one shard.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: $counter,)+
            pub(crate) put_latency: LatencyCounters,
            pub(crate) get_latency: LatencyCounters,
            pub(crate) held: Held,
        }

        /// The use of a store since it was opened, and what it holds.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Stats {
            /// Blobs on disk.
            pub blobs: u64,
            /// Bytes of the blobs on disk.
            pub blob_bytes: u64,
            /// Entries of the action cache.
            pub actions: u64,
            /// Bytes of the entries of the action cache.
            pub action_bytes: u64,
            /// Blobs in the memory tier.
            pub memory_blobs: u64,
            /// Bytes of the memory tier, overhead included.
            pub memory_bytes: u64,
            $($(#[doc = $doc])+ pub $name: u64,)+
            /// How long puts took in the shard, in groups as they were made durable.
            pub put_latency: Latency,
            /// How long reads from disk took in the shard.
            pub get_latency: Latency,
        }

        impl Stats {
            pub(crate) fn add_counters(&mut self, counters: &Counters) {
                $(self.$name += counters.$name.load(Relaxed);)+
                self.put_latency.add(&counters.put_latency);
                self.get_latency.add(&counters.get_latency);
            }
        }
    };
}

counters! {
    /// Blobs written.
    puts: AtomicU64,
    /// Bytes of blobs written.
    put_bytes: AtomicU64,
    /// Puts of a blob that was here already.
    puts_present: AtomicU64,
    /// Reads answered from the memory tier.
    memory_hits: Striped,
    /// Reads answered from disk.
    disk_hits: AtomicU64,
    /// Reads of blobs that are not here.
    misses: AtomicU64,
    /// Bytes read, from either tier.
    get_bytes: Striped,
    /// Action entries found.
    action_hits: AtomicU64,
    /// Action entries not found.
    action_misses: AtomicU64,
    /// Calls that make data durable (fdatasync, fsync of a directory, syncfs).
    fsyncs: AtomicU64,
    /// Groups of puts that were made durable together.
    commits: AtomicU64,
    /// Damaged blobs and action entries met.
    corrupt: AtomicU64,
    /// Blobs and entries that the scrubber has read.
    scrubbed: AtomicU64,
    /// Bytes that the scrubber has read.
    scrubbed_bytes: AtomicU64,
    /// Blobs and action entries evicted.
    evicted: AtomicU64,
    /// Bytes evicted.
    evicted_bytes: AtomicU64,
}

/// What a record costs on disk beside its payload: its header and its entry in the index.
pub(crate) const RECORD_OVERHEAD_BYTES: u64 = 100;

/// The bytes that a shard holds on disk. Unlike the counters, they also become fewer.
#[derive(Debug, Default)]
pub(crate) struct Held {
    packed_bytes: AtomicU64,
    /// Of the segments, with what is dead in them.
    segments_bytes: AtomicU64,
    index_bytes: AtomicU64,
    /// Of large blobs, since the store was opened; of all of them once they were measured.
    files_bytes: AtomicI64,
}

impl Held {
    /// What the files on disk take.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.segments() + self.index() + u64::try_from(self.files()).unwrap_or(0)
    }

    pub(crate) fn packed(&self) -> u64 {
        self.packed_bytes.load(Relaxed)
    }

    pub(crate) fn segments(&self) -> u64 {
        self.segments_bytes.load(Relaxed)
    }

    pub(crate) fn index(&self) -> u64 {
        self.index_bytes.load(Relaxed)
    }

    pub(crate) fn files(&self) -> i64 {
        self.files_bytes.load(Relaxed)
    }

    pub(crate) fn set_packed(&self, bytes: u64) {
        self.packed_bytes.store(bytes, Relaxed);
    }

    pub(crate) fn set_segments(&self, bytes: u64) {
        self.segments_bytes.store(bytes, Relaxed);
    }

    pub(crate) fn set_index(&self, bytes: u64) {
        self.index_bytes.store(bytes, Relaxed);
    }

    pub(crate) fn add_files(&self, bytes: u64) {
        self.files_bytes.fetch_add(bytes.cast_signed(), Relaxed);
    }

    pub(crate) fn subtract_files(&self, bytes: u64) {
        self.files_bytes.fetch_sub(bytes.cast_signed(), Relaxed);
    }

    /// Replaces what was known by what was found.
    pub(crate) fn correct_files(&self, known: i64, found: u64) {
        self.files_bytes
            .fetch_add(found.cast_signed() - known, Relaxed);
    }
}

/// Blobs and entries of a shard on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) blobs: u64,
    pub(crate) blob_bytes: u64,
    pub(crate) actions: u64,
    pub(crate) action_bytes: u64,
    pub(crate) links: u64,
    pub(crate) link_bytes: u64,
}

impl Usage {
    fn of(&mut self, kind: Kind) -> (&mut u64, &mut u64) {
        match kind {
            Kind::Blob => (&mut self.blobs, &mut self.blob_bytes),
            Kind::Action => (&mut self.actions, &mut self.action_bytes),
            Kind::Link => (&mut self.links, &mut self.link_bytes),
        }
    }

    /// How many there are.
    pub(crate) fn records(&self) -> u64 {
        self.blobs + self.actions + self.links
    }

    /// What records of these numbers and sizes cost on disk.
    pub(crate) fn record_bytes(&self) -> u64 {
        let payloads = self.blob_bytes + self.action_bytes + self.link_bytes;
        payloads + self.records() * RECORD_OVERHEAD_BYTES
    }

    pub(crate) fn add(&mut self, kind: Kind, size_bytes: u64) {
        let (number, bytes) = self.of(kind);
        *number += 1;
        *bytes += size_bytes;
    }

    pub(crate) fn subtract(&mut self, kind: Kind, size_bytes: u64) {
        let (number, bytes) = self.of(kind);
        *number = number.saturating_sub(1);
        *bytes = bytes.saturating_sub(size_bytes);
    }
}

/// A histogram that many threads may read while one writes.
#[derive(Debug, Default)]
pub(crate) struct LatencyCounters {
    buckets: [AtomicU64; LATENCY_BUCKETS],
    sum_ns: AtomicU64,
}

impl LatencyCounters {
    pub(crate) fn record(&self, took: Duration) {
        let bucket = bucket_of(took);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_ns
            .fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}

fn bucket_of(took: Duration) -> usize {
    let micros = took.as_micros();
    let bits = u128::BITS - micros.leading_zeros();
    (bits as usize).min(LATENCY_BUCKETS - 1)
}

/// A histogram of durations with buckets that double.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latency {
    /// `buckets[i]` counts durations below `2^i` µs and not below the bucket before; the last
    /// bucket counts all longer ones.
    pub buckets: [u64; LATENCY_BUCKETS],
    /// Sum of all durations in ns.
    pub sum_ns: u64,
}

impl Latency {
    fn add(&mut self, counters: &LatencyCounters) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&counters.buckets) {
            *sum += bucket.load(Relaxed);
        }
        self.sum_ns += counters.sum_ns.load(Relaxed);
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// An upper bound of the given quantile (0 to 1), exact to a factor of two.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let wanted = (self.count() as f64 * quantile.clamp(0.0, 1.0)).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen > 0 && seen >= wanted {
                return Some(Duration::from_micros(1 << index));
            }
        }
        None
    }
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_come_from_the_right_bucket() {
        let counters = LatencyCounters::default();
        for _ in 0..99 {
            counters.record(Duration::from_nanos(500));
        }
        counters.record(Duration::from_micros(700));
        let mut latency = Latency::default();
        latency.add(&counters);
        assert_eq!(latency.count(), 100);
        assert_eq!(latency.quantile(0.5), Some(Duration::from_micros(1)));
        assert_eq!(latency.quantile(1.0), Some(Duration::from_micros(1024)));
        assert_eq!(latency.sum_ns, 99 * 500 + 700_000);
        assert_eq!(Latency::default().quantile(0.5), None);
        assert_eq!(bucket_of(Duration::from_secs(1 << 40)), LATENCY_BUCKETS - 1);
    }
}
