//! How many bytes were last used when: what eviction decides by.
//!
//! Owns: the histogram, and finding how far back eviction has to reach.
//! Does not know: blobs.
//! Invariant: memory is bounded, whatever number of blobs is added: the histogram gets coarser
//! instead of larger.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

/// Buckets before neighbours are joined.
const BUCKETS: usize = 16 * 1024;

/// Bytes by the second of their last use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ages {
    /// Seconds that one bucket covers, a power of two.
    granule: u32,
    buckets: BTreeMap<u32, u64>,
    total_bytes: u64,
}

impl Default for Ages {
    fn default() -> Self {
        Self {
            granule: 1,
            buckets: BTreeMap::new(),
            total_bytes: 0,
        }
    }
}

/// How far back eviction reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Everything last used before this second goes.
    pub(crate) all_before: u32,
    /// Of what was last used after that and before this second, as much as is needed.
    pub(crate) some_before: u32,
}

impl Ages {
    pub(crate) fn add(&mut self, used: u32, bytes: u64) {
        *self.buckets.entry(used / self.granule).or_default() += bytes;
        self.total_bytes += bytes;
        if self.buckets.len() > BUCKETS {
            self.coarsen();
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        while self.granule < other.granule {
            self.coarsen();
        }
        for (bucket, bytes) in &other.buckets {
            self.add(bucket * other.granule, *bytes);
        }
    }

    /// All bytes added.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Bytes last used before that second, or in one bucket with such.
    pub(crate) fn before_bytes(&self, second: u32) -> u64 {
        let buckets = self.buckets.range(..second.div_ceil(self.granule));
        buckets.map(|(_, bytes)| bytes).sum()
    }

    /// What has to go so that `bytes` go, the least recently used first.
    pub(crate) fn cut(&self, bytes: u64) -> Cut {
        let mut sum = 0;
        for (bucket, held) in &self.buckets {
            sum += held;
            if sum >= bytes {
                return Cut {
                    all_before: bucket * self.granule,
                    some_before: bucket.saturating_add(1).saturating_mul(self.granule),
                };
            }
        }
        Cut {
            all_before: u32::MAX,
            some_before: u32::MAX,
        }
    }

    fn coarsen(&mut self) {
        self.granule *= 2;
        let mut joined = BTreeMap::new();
        for (bucket, bytes) in &self.buckets {
            *joined.entry(bucket / 2).or_default() += bytes;
        }
        self.buckets = joined;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stays_small_and_still_tells_old_from_new() {
        let mut ages = Ages::default();
        for second in 0..200_000 {
            ages.add(1_000_000 + second, 10);
        }
        assert!(ages.buckets.len() <= BUCKETS);
        assert_eq!(ages.total_bytes(), 2_000_000);
        let cut = ages.cut(1_000_000);
        let wanted = 1_100_000;
        assert!(
            cut.all_before <= wanted && wanted <= cut.some_before,
            "{cut:?}"
        );
        assert!(cut.some_before - cut.all_before <= 32, "{cut:?}");
    }

    proptest! {
        #[test]
        fn cuts_where_a_sorted_list_is_cut(
            uses in prop::collection::vec((0u32..50, 1u64..100), 1..60),
            more in prop::collection::vec((0u32..50, 1u64..100), 0..60), need in 1u64..4000,
        ) {
            let mut ages = Ages::default();
            uses.iter().for_each(|(used, bytes)| ages.add(*used, *bytes));
            let mut others = Ages::default();
            more.iter().for_each(|(used, bytes)| others.add(*used, *bytes));
            ages.merge(&others);
            let mut sorted = [uses, more].concat();
            sorted.sort_unstable();
            let cut = ages.cut(need);
            let before = |second: u32| -> u64 {
                sorted.iter().filter(|entry| entry.0 < second).map(|entry| entry.1).sum()
            };
            prop_assert!(before(cut.some_before) >= need || before(u32::MAX) < need);
            prop_assert!(before(cut.all_before) < need);
            prop_assert_eq!(ages.before_bytes(25), before(25));
        }
    }
}
