//! Where names lead, as lately seen.
//!
//! Owns: a bounded cache from a hash, by either function, to the blob's own name.
//! Does not know: whether a blob is here. That is decided by its shard alone.
//! Invariants: an entry is a fact about hashes and is true for ever, so nothing has to be taken
//! out when a blob goes; the number of entries stays within the bound.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::digest::{Digest, HASH_BYTES};
use crate::memory::DigestBuild;

const STRIPES: usize = 64;
/// What an entry costs: hash, digest, and the free part of a table that has just grown.
pub(crate) const ENTRY_BYTES: u64 = 186;

/// Where a name leads, and the second of the last use that was told on.
#[derive(Debug, Clone, Copy)]
struct Known {
    digest: Digest,
    told: u32,
}

type Half = HashMap<[u8; HASH_BYTES], Known, DigestBuild>;

/// Two halves: the younger becomes the older one when it is full, and what was in the older one
/// and not used since is forgotten.
#[derive(Debug, Default)]
struct Stripe {
    young: Half,
    old: Half,
}

impl Stripe {
    fn get(
        &mut self,
        hash: &[u8; HASH_BYTES],
        second: u32,
        limit: usize,
    ) -> Option<(Digest, bool)> {
        if !self.young.contains_key(hash) {
            let known = self.old.remove(hash)?;
            self.insert(hash, known, limit);
        }
        let known = self.young.get_mut(hash)?;
        let is_news = known.told < second;
        known.told = known.told.max(second);
        Some((known.digest, is_news))
    }

    fn insert(&mut self, hash: &[u8; HASH_BYTES], known: Known, limit: usize) {
        if self.young.len() >= limit {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(*hash, known);
    }
}

/// The cache of one store.
#[derive(Debug)]
pub(crate) struct NameCache {
    stripes: Box<[Mutex<Stripe>]>,
    /// Entries of one half of a stripe.
    limit: usize,
}

impl NameCache {
    /// A cache that takes at most `capacity_bytes` when it is full.
    pub(crate) fn new(capacity_bytes: u64) -> Self {
        let entries = capacity_bytes / ENTRY_BYTES / (2 * STRIPES as u64);
        Self {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            limit: usize::try_from(entries).unwrap_or(usize::MAX),
        }
    }

    fn stripe(&self, hash: &[u8; HASH_BYTES]) -> MutexGuard<'_, Stripe> {
        let stripe = &self.stripes[usize::from(hash[HASH_BYTES - 1]) % STRIPES];
        // A panic between two steps of a change loses an entry at worst.
        stripe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a name leads that is used in this second, and whether that is the first use in it.
    pub(crate) fn get(&self, hash: &[u8; HASH_BYTES], second: u32) -> Option<(Digest, bool)> {
        self.stripe(hash).get(hash, second, self.limit)
    }

    pub(crate) fn insert(&self, hash: &[u8; HASH_BYTES], digest: Digest) {
        if self.limit > 0 {
            let known = Known { digest, told: 0 };
            self.stripe(hash).insert(hash, known, self.limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: usize) -> [u8; HASH_BYTES] {
        *Digest::of(&number.to_le_bytes()).hash()
    }

    #[test]
    fn stays_within_its_bound_and_keeps_what_is_used() {
        let bound = 100_000;
        let cache = NameCache::new(bound);
        for number in 0..10_000 {
            cache.insert(&hash(number), Digest::new(hash(number), 7));
            assert!(cache.get(&hash(0), 1).is_some(), "used all the time");
        }
        let stripes = cache.stripes.iter().map(|stripe| stripe.lock().unwrap());
        let held: usize = stripes
            .map(|stripe| stripe.young.len() + stripe.old.len())
            .sum();
        assert!(held as u64 * ENTRY_BYTES <= bound, "{held} entries");
        assert!(held > 100, "{held} entries");
        assert_eq!(cache.get(&hash(1), 1), None, "not used since");
        let last = Digest::new(hash(9_999), 7);
        for (second, is_news) in [(5, true), (5, false), (4, false), (6, true)] {
            assert_eq!(cache.get(&hash(9_999), second), Some((last, is_news)));
        }
    }

    #[test]
    fn holds_nothing_when_it_is_off() {
        let cache = NameCache::new(0);
        cache.insert(&hash(1), Digest::of(b"x"));
        assert_eq!(cache.get(&hash(1), 1), None);
    }
}
