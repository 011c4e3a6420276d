//! The bytes that a store may take on disk, and who has spoken for them.
//!
//! Owns: reserving before writing, and the water levels between which eviction works.
//! Does not know: what is evicted (`evict`), or who asks for it (`room`).
//! Invariants: what the files of the store take, with what is dead in them, and what is reserved together stay
//! within the limit, but for what a rewrite copies before it removes the old: a segment, or an index; a
//! reservation is given back when it is dropped, whatever became of the content.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::stats::{Counters, Held};

/// Eviction starts by itself above this share of the limit,
const HIGH_PERCENT: u64 = 90;
/// and goes down to this one.
const LOW_PERCENT: u64 = 80;

/// Of the segments of a shard, so much may be dead before they are rewritten unasked: so many times what is
/// alive, and so many bytes. Once rewritten, less is.
const DEAD_FACTOR: u64 = 2;
const DEAD_BYTES: u64 = 64 * 1024 * 1024;

/// The budget of one store. Loads and stores are `Relaxed`: only numbers are exchanged.
#[derive(Debug)]
pub(crate) struct Budget {
    limit_bytes: Option<u64>,
    /// Counters of the shards, which know what they hold.
    shards: Vec<Arc<Counters>>,
    reserved_bytes: AtomicU64,
    /// What is kept for a full disk.
    pub(crate) kept_bytes: AtomicU64,
    /// Whether eviction was asked for and has not begun.
    pub(crate) asked: AtomicBool,
}

/// Bytes that somebody may write.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.reserved_bytes.fetch_sub(self.bytes, Relaxed);
    }
}

impl Reservation {
    /// Bytes reserved.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds another one to this.
    pub(crate) fn join(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Budget {
    pub(crate) fn new(limit_bytes: Option<u64>, shards: Vec<Arc<Counters>>) -> Arc<Self> {
        Arc::new(Self {
            limit_bytes,
            shards,
            reserved_bytes: AtomicU64::new(0),
            kept_bytes: AtomicU64::new(0),
            asked: AtomicBool::new(false),
        })
    }

    /// The most that the store may hold.
    pub(crate) fn limit_bytes(&self) -> Option<u64> {
        self.limit_bytes
    }

    /// What the files of the store take; too little until it was measured.
    pub(crate) fn held_bytes(&self) -> u64 {
        let shards = self.shards.iter().map(|shard| shard.held.disk_bytes());
        shards.sum::<u64>() + self.kept_bytes.load(Relaxed)
    }

    pub(crate) fn reserved_bytes(&self) -> u64 {
        self.reserved_bytes.load(Relaxed)
    }

    /// Speaks for `bytes`, if there is room for them.
    pub(crate) fn try_reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        let reserved = match self.limit_bytes {
            None => 0,
            Some(limit) => {
                let held = self.held_bytes();
                let fits = |reserved: u64| {
                    let sum = reserved.checked_add(bytes)?;
                    (held.checked_add(sum)? <= limit).then_some(sum)
                };
                let taken = self.reserved_bytes.fetch_update(Relaxed, Relaxed, fits);
                taken.ok()?;
                bytes
            }
        };
        Some(Reservation {
            budget: Arc::clone(self),
            bytes: reserved,
        })
    }

    /// Whether eviction has to start, or at least what it does at its end: giving back the space of what
    /// is gone.
    pub(crate) fn is_high(&self) -> bool {
        let is_above = self.limit_bytes.is_some_and(|limit| {
            self.held_bytes().saturating_add(self.reserved_bytes()) > percent(limit, HIGH_PERCENT)
        });
        is_above || self.shards.iter().any(|shard| is_wasteful(&shard.held))
    }

    /// Down to what eviction goes, so that `more` bytes have room as well.
    pub(crate) fn low_bytes(&self, more: u64) -> u64 {
        let limit = self.limit_bytes.unwrap_or(u64::MAX);
        let low_bytes = percent(limit, LOW_PERCENT);
        let low_bytes = low_bytes.saturating_sub(self.kept_bytes.load(Relaxed));
        low_bytes.min(self.most_bytes(more))
    }

    /// What the files of the store may take at most, so that `more` bytes have room as well.
    pub(crate) fn most_bytes(&self, more: u64) -> u64 {
        let spoken_for = self.reserved_bytes().saturating_add(more);
        let spoken_for = spoken_for.saturating_add(self.kept_bytes.load(Relaxed));
        self.limit_bytes
            .unwrap_or(u64::MAX)
            .saturating_sub(spoken_for)
    }
}

fn is_wasteful(held: &Held) -> bool {
    let may_be_dead = (DEAD_FACTOR * held.packed()).saturating_add(DEAD_BYTES);
    held.segments() > held.packed().saturating_add(may_be_dead)
}

fn percent(bytes: u64, percent: u64) -> u64 {
    bytes / 100 * percent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_and_holdings_share_the_limit() {
        let shard = Arc::new(Counters::default());
        let budget = Budget::new(Some(1000), vec![Arc::clone(&shard)]);
        let mut first = budget.try_reserve(600).unwrap();
        assert!(budget.try_reserve(401).is_none());
        let second = budget.try_reserve(400).unwrap();
        assert!(budget.is_high() && budget.try_reserve(1).is_none());
        assert_eq!(budget.low_bytes(100), 0);
        first.join(second);
        assert_eq!((first.bytes(), budget.reserved_bytes()), (1000, 1000));
        drop(first);
        assert_eq!(budget.reserved_bytes(), 0);
        shard.held.set_segments(800);
        shard.held.add_files(150);
        assert!(budget.is_high() && budget.try_reserve(51).is_none());
        shard.held.subtract_files(100);
        assert!(!budget.is_high());
        assert_eq!(budget.low_bytes(0), 800);
        assert!(budget.try_reserve(u64::MAX).is_none());
    }

    /// Entries that were put again and again took the whole disk: what is dead was never counted.
    #[test]
    fn much_that_is_dead_is_given_back_below_the_limit() {
        for limit in [None, Some(1 << 40)] {
            let shard = Arc::new(Counters::default());
            let budget = Budget::new(limit, vec![Arc::clone(&shard)]);
            shard.held.set_packed(1000);
            shard.held.set_segments(3000 + DEAD_BYTES);
            assert!(!budget.is_high());
            shard.held.set_segments(3001 + DEAD_BYTES);
            assert!(budget.is_high());
        }
    }

    #[test]
    fn without_a_limit_there_is_always_room() {
        let budget = Budget::new(None, vec![Arc::default()]);
        let reservation = budget.try_reserve(u64::MAX).unwrap();
        assert_eq!((reservation.bytes(), budget.is_high()), (0, false));
    }
}
