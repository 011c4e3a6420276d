//! The bytes that requests hold in memory, and their limit.
//!
//! Owns: [`Share`], what one request holds, and what each way of holding costs.
//! Does not know: who sends what.
//! Invariants: all shares together stay within the limit; a request that would go beyond it is refused at
//! once and waits for nobody, so requests that hold a part of what they need cannot wait for one another.
//!
//! What lies in the memory tier or in mapped files is not counted here: it is there anyway.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::connection::STREAM_WINDOW_BYTES;
use super::counters::Counters;
use super::listen::Shared;
use super::{compress, intake};

/// A frame of the network that has come and is not yet taken.
const FRAME_BYTES: u64 = 64 * 1024;

/// Requests hold as much as they may. Try again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the requests at this node hold as many bytes as they may; try again in a second")]
pub(crate) struct NoRoom;

/// What one request holds.
#[derive(Debug)]
pub(crate) struct Share {
    counters: Arc<Counters>,
    limit_bytes: u64,
    bytes: AtomicU64,
}

impl Share {
    pub(crate) fn new(shared: &Shared) -> Arc<Self> {
        Arc::new(Self {
            counters: Arc::clone(&shared.counters),
            limit_bytes: shared.limits.in_flight_bytes,
            bytes: AtomicU64::new(0),
        })
    }

    /// Holds so many bytes more, until the request ends; one that finds no room is refused, and counted.
    pub(crate) fn add(&self, bytes: u64) -> Result<(), NoRoom> {
        let added = self.try_add(bytes);
        if added.is_err() {
            self.counters.overloaded.fetch_add(1, Relaxed);
        }
        added
    }

    /// The same for a request that goes on without that room.
    pub(crate) fn try_add(&self, bytes: u64) -> Result<(), NoRoom> {
        let held = &self.counters.held_bytes;
        let fits = |held: u64| {
            held.checked_add(bytes)
                .filter(|sum| *sum <= self.limit_bytes)
        };
        if held.fetch_update(Relaxed, Relaxed, fits).is_err() {
            return Err(NoRoom);
        }
        self.bytes.fetch_add(bytes, Relaxed);
        Ok(())
    }

    /// A call has ended with this status.
    pub(crate) fn ended(&self, grpc_status: u16) {
        self.counters.grpc_errors.note(grpc_status);
    }

    /// Gives back some of what was added.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Relaxed);
        self.counters.held_bytes.fetch_sub(bytes, Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.counters.held_bytes.fetch_sub(bytes, Relaxed);
    }
}

/// What an upload of at most `size_bytes` holds on its way into the store, and one that inflates to at most
/// so many.
pub(crate) fn upload_bytes(size_bytes: u64, is_multiplexed: bool, inflated: Option<u64>) -> u64 {
    // What has come on a stream of HTTP/2 while the disk is slow.
    let window = u64::from(STREAM_WINDOW_BYTES);
    let waiting = intake::PIECE_BYTES as u64 + if is_multiplexed { window } else { 0 };
    let inflating = inflated.map_or(0, |bytes| {
        bytes.min(intake::WINDOW_BYTES) + intake::DECODER_BYTES
    });
    size_bytes.min(waiting) + inflating + FRAME_BYTES
}

/// What an answer holds that is compressed on its way.
pub(crate) fn compressed_bytes(size_bytes: u64) -> u64 {
    size_bytes.min(compress::STREAM_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_refused_is_counted_as_such() {
        let counters: Arc<Counters> = Arc::default();
        let share = Share {
            counters: Arc::clone(&counters),
            limit_bytes: 10,
            bytes: AtomicU64::new(0),
        };
        assert_eq!(share.try_add(11), Err(NoRoom));
        assert_eq!(counters.snapshot().overloaded, 0);
        assert_eq!(share.add(11), Err(NoRoom));
        assert_eq!(counters.snapshot().overloaded, 1);
        assert_eq!(share.try_add(10), Ok(()));
        assert_eq!(counters.snapshot().held_bytes, 10);
        drop(share);
        assert_eq!(counters.snapshot().held_bytes, 0);
    }
}
