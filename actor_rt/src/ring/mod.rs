//! Bounded lock-free rings: the storage under mailboxes, usable by themselves.
//!
//! | module | writers | readers | an item goes to |
//! | --- | --- | --- | --- |
//! | [`spsc`] | one | one | the reader |
//! | [`mpsc`] | many | one | the reader |
//! | [`mpmc`] | many | many | exactly one of the readers |
//! | [`broadcast`] | one | many | every reader, in the order of their dependencies |
//!
//! Owns: the protocols that move items between threads, and the errors they share.
//! Does not know: actors, scheduling, wake-ups of tasks.
//!
//! What all rings have in common (each with its test in `common_tests`; what differs is in the rules of each module):
//! * The capacity is a power of two (what is asked for is rounded up) and never grows. Zero, and more than 2^30, are
//!   mistakes and panic.
//! * `try_send` and `try_recv` never wait; `send` and `recv` wait by the ring's [`Wait`] strategy.
//! * The calls are the same: every writing end is a [`Writer`], every reading end but that of [`broadcast`] a [`Reader`].
//!   A module holds its ring's protocol alone: how slots are claimed and published, found and given up.
//! * Batches are claimed and published as a whole: [`Writer::claim`] gives a *write chunk* that is filled
//!   and published when dropped; [`Reader::read`] gives a *read chunk* that hands its slots back when dropped. One
//!   publication for a batch instead of one per item is what makes batches several times faster.
//! * A panic while a chunk is being filled never leaves a gap that readers would wait on. A claim shows nothing before
//!   it is published. A claim of no slots, or of more than there are, is a mistake and panics.
//! * Every item is dropped exactly once, also if it has no size; over-aligned items lie where they must.
//! * Writers and readers live 128 bytes apart (two cache lines: the prefetcher of x86 fetches pairs).
//!
//! ```
//! use actor_rt::ring::spsc;
//!
//! let (mut producer, mut consumer) = spsc::channel::<u64>(8);
//! let writer = std::thread::spawn(move || (0..1000).for_each(|n| producer.send(n).unwrap()));
//! let mut sum = 0;
//! while let Ok(n) = consumer.recv() {
//!     sum += n;
//! }
//! writer.join().unwrap();
//! assert_eq!(sum, 499_500);
//! ```

use std::fmt;

pub mod broadcast;
pub mod mpmc;
pub mod mpsc;
mod read;
mod slots;
pub mod spsc;
mod wait;
mod write;

#[cfg(all(test, not(loom)))]
mod common_tests;
#[cfg(all(test, not(loom)))]
mod model_tests;
#[cfg(all(test, not(loom)))]
mod test_items;

pub use read::{ReadChunk, Reader};
pub use wait::{Block, BusySpin, SpinThenYield, Wait, Yield};
pub use write::{WriteChunk, Writer};

/// Why an item was not accepted; it comes back to the caller.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<T> {
    /// Every slot is taken: try again when the reader has made room.
    #[error("the ring is full")]
    Full(T),
    /// Nobody will ever read it: give up.
    #[error("the ring has no reader any more")]
    Disconnected(T),
}

impl<T> TrySendError<T> {
    /// The item that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(item) | Self::Disconnected(item) => item,
        }
    }
}

// By hand, so that `unwrap` works for items that are not `Debug`.
impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Disconnected(_) => "Disconnected(..)",
        })
    }
}

/// Every reader is gone; the item comes back to the caller.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ring has no reader any more")]
pub struct SendError<T>(pub T);

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

/// Why there was nothing to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TryRecvError {
    /// Nothing published right now: try again later.
    #[error("the ring is empty")]
    Empty,
    /// Everything was received and every writer is gone: give up.
    #[error("the ring is empty and has no writer any more")]
    Disconnected,
}

/// Everything was received and every writer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ring is empty and has no writer any more")]
pub struct RecvError;

/// Why a batch of slots could not be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Fewer free slots than asked for: try again when the reader has made room.
    #[error("the ring has not enough room")]
    Full,
    /// Nobody will ever read it: give up.
    #[error("the ring has no reader any more")]
    Disconnected,
}
