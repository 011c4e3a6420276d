//! Figures of the front ends, per name space.
//!
//! Owns: the counters and the snapshot of them.
//! Does not know: who shows them.
//! Invariants: all accesses are `Relaxed`, for no other memory hangs on a counter; what every
//! request counts is counted on a cache line of the thread's own, which other threads only read.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

use super::Space;
use super::tallies::{Codes, GrpcErrors, HttpErrors, SizeStats, Sizes};
use crate::stripes::{self, STRIPES};

/// A handle to the figures of a [`Front`](super::Front).
#[derive(Debug, Clone)]
pub struct FrontFigures(pub(crate) Arc<Counters>);

impl FrontFigures {
    /// The figures now.
    pub fn read(&self) -> FrontStats {
        self.0.snapshot()
    }
}

/// Counts while requests run.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Connections that are open now.
    pub(crate) connections: AtomicU64,
    /// Connections and requests that were answered 503 because of a limit.
    pub(crate) overloaded: AtomicU64,
    /// Bytes that requests hold now.
    pub(crate) held_bytes: AtomicU64,
    pub(crate) transport: TransportCounters,
    /// Chunks that came and went over gRPC.
    pub(crate) upload_chunks: Sizes,
    pub(crate) download_chunks: Sizes,
    pub(crate) grpc_errors: GrpcErrors,
    stripes: [CachePadded<Stripe>; STRIPES],
}

/// What one thread counts.
#[derive(Debug, Default)]
struct Stripe {
    /// Requests that have begun here and are being answered now.
    requests: AtomicU64,
    /// A miss is one of them, so they are many.
    http_errors: HttpErrors,
    spaces: [SpaceCounters; Space::ALL.len()],
}

macro_rules! transport {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        #[derive(Debug, Default)]
        pub(crate) struct TransportCounters {
            $(pub(crate) $name: AtomicU64,)+
        }

        /// The use of Zako's own services.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct TransportStats {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl TransportCounters {
            fn snapshot(&self) -> TransportStats {
                TransportStats {
                    $($name: self.$name.load(Relaxed),)+
                }
            }
        }
    };
}

transport! {
    /// Digests that clients asked about.
    negotiated,
    /// Of those, the ones that were missing.
    negotiated_missing,
    /// Calls for the details of the transport.
    details,
    /// Of those, the ones that failed.
    details_failed,
    /// Uploads over gRPC that went on where an earlier one was interrupted.
    uploads_resumed,
    /// Uploads that ended.
    uploads,
    /// Of those, the ones that were not needed.
    uploads_present,
    /// Of those, the ones that failed.
    uploads_failed,
    /// Bytes of the uploads that were stored.
    upload_bytes,
    /// Downloads that began.
    downloads,
    /// Downloads that were refused.
    downloads_failed,
    /// Bytes of the parts that downloads asked for.
    download_bytes,
}

#[derive(Debug, Default)]
pub(crate) struct SpaceCounters {
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) stored: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) read_bytes: AtomicU64,
    pub(crate) stored_bytes: AtomicU64,
}

/// What the front ends have done since they were made, and are doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontStats {
    /// Connections that are open now.
    pub connections: u64,
    /// Requests that are being answered now.
    pub requests: u64,
    /// Connections and requests that were answered 503 because of a limit.
    pub overloaded: u64,
    /// Bytes that requests hold in memory now, as far as `in_flight_bytes` limits them.
    pub held_bytes: u64,
    /// Zako's own services.
    pub transport: TransportStats,
    /// Chunks of uploads over gRPC.
    pub upload_chunks: SizeStats,
    /// Chunks of downloads over gRPC.
    pub download_chunks: SizeStats,
    /// Answers over HTTP that refused or failed, by their status from 400 on.
    pub http_errors: Vec<(u16, u64)>,
    /// Calls over gRPC that failed, by the number of their status.
    pub grpc_errors: Vec<(u16, u64)>,
    /// Per name space, in the order of [`Space::ALL`].
    pub spaces: [(Space, SpaceStats); Space::ALL.len()],
}

/// What clients of one name space did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpaceStats {
    /// Reads that were answered with an entry.
    pub hits: u64,
    /// Reads of entries that are not here.
    pub misses: u64,
    /// Entries stored.
    pub stored: u64,
    /// Requests refused: credentials, limits, wrong digests.
    pub refused: u64,
    /// Bytes of entries read.
    pub read_bytes: u64,
    /// Bytes of entries stored.
    pub stored_bytes: u64,
}

impl Counters {
    /// This thread's counters of a name space.
    pub(crate) fn space(&self, space: Space) -> &SpaceCounters {
        &self.stripes[stripes::own()].spaces[space as usize]
    }

    /// This thread's counters of answers that refuse or fail.
    pub(crate) fn http_errors(&self) -> &HttpErrors {
        &self.stripes[stripes::own()].http_errors
    }

    /// A request begins; [`end`](Self::end) takes the number.
    pub(crate) fn begin(&self) -> usize {
        let stripe = stripes::own();
        self.stripes[stripe].requests.fetch_add(1, Relaxed);
        stripe
    }

    pub(crate) fn end(&self, stripe: usize) {
        self.stripes[stripe].requests.fetch_sub(1, Relaxed);
    }

    /// Whether more requests than this are being answered. Threads that have less than their share
    /// do not look at the others, so for a moment it may be said too late.
    pub(crate) fn has_more_requests_than(&self, limit: u64) -> bool {
        let own = &self.stripes[stripes::own()];
        own.requests.load(Relaxed) > limit / STRIPES as u64 && self.requests() > limit
    }

    fn requests(&self) -> u64 {
        let running = self.stripes.iter();
        running.map(|stripe| stripe.requests.load(Relaxed)).sum()
    }

    pub(crate) fn snapshot(&self) -> FrontStats {
        let load = |counter: &AtomicU64| counter.load(Relaxed);
        FrontStats {
            connections: load(&self.connections),
            requests: self.requests(),
            overloaded: load(&self.overloaded),
            held_bytes: load(&self.held_bytes),
            transport: self.transport.snapshot(),
            upload_chunks: self.upload_chunks.snapshot(),
            download_chunks: self.download_chunks.snapshot(),
            http_errors: Codes::sum(self.stripes.iter().map(|stripe| &stripe.http_errors)),
            grpc_errors: Codes::sum([&self.grpc_errors]),
            spaces: Space::ALL.map(|space| {
                let sum = |counter: fn(&SpaceCounters) -> &AtomicU64| {
                    let stripes = self.stripes.iter();
                    let counters = stripes.map(|stripe| counter(&stripe.spaces[space as usize]));
                    counters.map(load).sum()
                };
                let stats = SpaceStats {
                    hits: sum(|space| &space.hits),
                    misses: sum(|space| &space.misses),
                    stored: sum(|space| &space.stored),
                    refused: sum(|space| &space.refused),
                    read_bytes: sum(|space| &space.read_bytes),
                    stored_bytes: sum(|space| &space.stored_bytes),
                };
                (space, stats)
            }),
        }
    }
}

impl SpaceCounters {
    pub(crate) fn hit(&self, size_bytes: u64) {
        self.hits.fetch_add(1, Relaxed);
        self.read_bytes.fetch_add(size_bytes, Relaxed);
    }

    pub(crate) fn miss(&self) {
        self.misses.fetch_add(1, Relaxed);
    }

    pub(crate) fn store(&self, size_bytes: u64) {
        self.stored.fetch_add(1, Relaxed);
        self.stored_bytes.fetch_add(size_bytes, Relaxed);
    }

    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
    }
}
