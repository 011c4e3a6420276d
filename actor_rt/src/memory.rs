//! What actors, their messages and timers take: figures for whoever watches a process.
#![forbid(unsafe_code)]

/// What the slabs hold, see [`System::memory`](crate::System::memory).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Taken from the operating system (where it is no Unix, from the process's allocator). Slabs keep what they have, so this is
    /// what was needed at most, rounded up: 64 KiB for each thread and size of block, 2 MiB where a thread needs many.
    pub reserved_bytes: u64,
    /// Of that, what actors, their messages and timers have now. What is larger
    /// than 64 KiB, the pages of large mailboxes and large payloads, comes from the process's allocator and is in neither.
    pub in_use_bytes: u64,
}

impl MemoryStats {
    /// What a mailbox takes before its first message, in bytes; room for messages comes with the first one.
    ///
    /// ```
    /// assert!(actor_rt::MemoryStats::IDLE_MAILBOX_BYTES <= 64);
    /// ```
    pub const IDLE_MAILBOX_BYTES: usize = crate::mailbox::IDLE_BYTES;
}
