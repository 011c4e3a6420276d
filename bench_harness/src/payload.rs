//! What travels through a ring: a number of words, all of them derived from a sequence number and all of them read.
#![forbid(unsafe_code)]

/// An item of a known size that can be made and checked.
pub trait Payload: Copy + Default + Send + Sync + Unpin + 'static {
    /// The item number `seq`, every word of it different.
    fn new(seq: u64) -> Self;
    /// Reads every word.
    fn sum(&self) -> u64;
    /// What the items `0..count` add up to, by a formula: none of them is made.
    fn total(count: u64) -> u64;
}

/// Bytes that an item may have.
pub const SIZES: [usize; 6] = [8, 16, 64, 256, 1024, 4096];

/// The sum of all words of `count` items with `words` each, where word `w` of item `i` is `i + w`.
pub fn total(count: u64, words: u64) -> u64 {
    let below = |number: u64| u128::from(number) * u128::from(number.saturating_sub(1)) / 2;
    let sum = u128::from(words) * below(count) + u128::from(count) * below(words);
    // Sums wrap at 64 bits.
    sum as u64
}

/// `N` words of eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words<const N: usize>([u64; N]);

impl<const N: usize> Words<N> {
    /// The words themselves.
    pub fn words(&self) -> &[u64; N] {
        &self.0
    }
}

impl<const N: usize> Default for Words<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Payload for Words<N> {
    #[inline]
    fn new(seq: u64) -> Self {
        Self(std::array::from_fn(|word| seq.wrapping_add(word as u64)))
    }

    #[inline]
    fn sum(&self) -> u64 {
        self.0.iter().fold(0, |sum, word| sum.wrapping_add(*word))
    }

    fn total(count: u64) -> u64 {
        total(count, N as u64)
    }
}

/// Calls a generic function with the payload type of the size that the load asks for, one of [`SIZES`].
#[macro_export]
macro_rules! with_payload {
    ($bytes:expr, $P:ident => $body:expr) => {
        match $bytes {
            ..=8 => {
                type $P = $crate::payload::Words<1>;
                $body
            }
            9..=16 => {
                type $P = $crate::payload::Words<2>;
                $body
            }
            17..=64 => {
                type $P = $crate::payload::Words<8>;
                $body
            }
            65..=256 => {
                type $P = $crate::payload::Words<32>;
                $body
            }
            257..=1024 => {
                type $P = $crate::payload::Words<128>;
                $body
            }
            _ => {
                type $P = $crate::payload::Words<512>;
                $body
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_that_of_the_items() {
        fn made<P: Payload>(count: u64) -> u64 {
            (0..count).map(|seq| P::new(seq).sum()).sum()
        }
        assert_eq!(Words::<1>::total(100), made::<Words<1>>(100));
        assert_eq!(Words::<128>::total(77), made::<Words<128>>(77));
        assert_eq!(Words::<8>::total(0), 0);
    }
}
