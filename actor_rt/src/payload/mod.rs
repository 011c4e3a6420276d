//! What a message carries, by size: inline, pooled, on the heap, or as a view of bytes.
//!
//! Owns: the classes and their limits.
//! Does not know: mailboxes. A message type chooses its class by what its author puts into it; nothing is
//! decided behind the author's back.
//!
//! | class | size of the data | how it travels |
//! | --- | --- | --- |
//! | inline | up to 64 B | as it is: it lies in the mailbox's slot |
//! | pooled | up to 1 KiB | as a [`Pooled`]: one pointer, memory from the worker's slab |
//! | heap | above | as a `Box`, `Vec` or `String`, allocated and freed per message |
//! | bytes | any | as [`Bytes`](bytes::Bytes) from a [`BytePool`]: a view, shared and sliced without copying |

mod byte_pool;
mod job;
mod pooled;
mod shared;

pub use byte_pool::BytePool;
pub(crate) use job::{Due, Job};
pub use pooled::Pooled;
pub(crate) use shared::Shared;

/// How a value of some type had best travel in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageClass {
    /// Up to [`MessageClass::INLINE_BYTES`]: as it is.
    Inline,
    /// Up to [`MessageClass::POOLED_BYTES`]: in a [`Pooled`].
    Pooled,
    /// Above: in a `Box`, `Vec`, `Arc`, or as [`Bytes`](bytes::Bytes).
    Heap,
}

impl MessageClass {
    /// Most bytes of a message that had best lie in the mailbox itself: one cache line.
    pub const INLINE_BYTES: usize = 64;
    /// Most bytes of a payload that had best be pooled.
    pub const POOLED_BYTES: usize = 1024;

    /// The class of `T`, known when compiling, so that a message type can be held to one:
    ///
    /// ```
    /// use actor_rt::{MessageClass, Pooled};
    /// struct Reading { samples: [u32; 100] }
    /// enum Msg { Reading(Pooled<Reading>), Flush }
    /// const _: () = assert!(matches!(MessageClass::of::<Msg>(), MessageClass::Inline));
    /// assert_eq!(MessageClass::of::<Reading>(), MessageClass::Pooled);
    /// # let _ = (Msg::Flush, Msg::Reading(Pooled::new(Reading { samples: [0; 100] })));
    /// ```
    #[must_use]
    pub const fn of<T>() -> Self {
        match size_of::<T>() {
            0..=Self::INLINE_BYTES => Self::Inline,
            size if size <= Self::POOLED_BYTES => Self::Pooled,
            _ => Self::Heap,
        }
    }
}
