//! What travels through a ring: a number of words, all of them derived from a sequence number and all of them read.
#![forbid(unsafe_code)]

/// An item of a known size that can be made and checked.
pub trait Payload: Copy + Default + Send + Sync + Unpin + 'static {
    /// The item number `seq`, every word of it different.
    fn new(seq: u64) -> Self;
    /// Reads every word.
    fn sum(&self) -> u64;
}

/// `N` words of eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words<const N: usize>([u64; N]);

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
}

/// Calls a generic function with the payload type of the size that the load asks for.
#[macro_export]
macro_rules! with_payload {
    ($bytes:expr, $P:ident => $body:expr) => {
        match $bytes {
            ..=8 => {
                type $P = $crate::payload::Words<1>;
                $body
            }
            9..=64 => {
                type $P = $crate::payload::Words<8>;
                $body
            }
            _ => {
                type $P = $crate::payload::Words<128>;
                $body
            }
        }
    };
}
