//! Figures that are not one number: sizes of chunks, and errors by their codes.
//!
//! Owns: the counters and the snapshots of them.
//! Does not know: who shows them.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upper bounds of the buckets of [`SizeStats`], in bytes; the last bucket has none.
pub const SIZE_BOUNDS_BYTES: [u64; 7] = [
    1 << 10,
    1 << 12,
    1 << 14,
    1 << 16,
    1 << 18,
    1 << 20,
    1 << 22,
];

/// Counts sizes.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    buckets: [AtomicU64; SIZE_BOUNDS_BYTES.len() + 1],
    sum_bytes: AtomicU64,
}

/// Sizes of chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SizeStats {
    /// How many were within each of [`SIZE_BOUNDS_BYTES`] and above the one before it.
    pub buckets: [u64; SIZE_BOUNDS_BYTES.len() + 1],
    /// All of them together.
    pub sum_bytes: u64,
}

impl Sizes {
    pub(crate) fn note(&self, bytes: usize) {
        let bytes = bytes as u64;
        let bucket = SIZE_BOUNDS_BYTES.partition_point(|bound| *bound < bytes);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> SizeStats {
        SizeStats {
            buckets: self.buckets.each_ref().map(|bucket| bucket.load(Relaxed)),
            sum_bytes: self.sum_bytes.load(Relaxed),
        }
    }
}

/// Counts codes from `FIRST` on.
#[derive(Debug)]
pub(crate) struct Codes<const FIRST: u16, const COUNT: usize>([AtomicU64; COUNT]);

/// Status codes of HTTP that refuse or fail.
pub(crate) type HttpErrors = Codes<400, 200>;
/// Status codes of gRPC but for OK.
pub(crate) type GrpcErrors = Codes<1, 16>;

impl<const FIRST: u16, const COUNT: usize> Default for Codes<FIRST, COUNT> {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; COUNT])
    }
}

impl<const FIRST: u16, const COUNT: usize> Codes<FIRST, COUNT> {
    /// Counts a code; others than these are no errors.
    pub(crate) fn note(&self, code: u16) {
        let index = code.checked_sub(FIRST).map(usize::from);
        if let Some(counter) = index.and_then(|index| self.0.get(index)) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Those that were seen by any of several counters, and how often.
    pub(crate) fn sum<'c>(all: impl IntoIterator<Item = &'c Self>) -> Vec<(u16, u64)> {
        let mut sums = [0; COUNT];
        for codes in all {
            for (sum, counter) in sums.iter_mut().zip(&codes.0) {
                *sum += counter.load(Relaxed);
            }
        }
        let seen = (FIRST..).zip(sums);
        seen.filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_codes_are_counted_where_they_belong() {
        let sizes = Sizes::default();
        for size in [0, 1024, 1025, 1 << 22, (1 << 22) + 1] {
            sizes.note(size);
        }
        let stats = sizes.snapshot();
        assert_eq!(stats.buckets, [2, 1, 0, 0, 0, 0, 1, 1]);
        assert_eq!(stats.sum_bytes, 2050 + (1 << 23));
        let codes = HttpErrors::default();
        for code in [200, 399, 400, 404, 404, 599, 600] {
            codes.note(code);
        }
        let others = HttpErrors::default();
        others.note(404);
        let sum = HttpErrors::sum([&codes, &others]);
        assert_eq!(sum, [(400, 1), (404, 3), (599, 1)]);
        let codes = GrpcErrors::default();
        for code in [0, 1, 16, 17] {
            codes.note(code);
        }
        assert_eq!(GrpcErrors::sum([&codes]), [(1, 1), (16, 1)]);
    }
}
