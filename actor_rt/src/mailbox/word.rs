//! The mailbox word: claim cursor and scheduling edge in one value.
//!
//! Owns: the packing `[position:32 | epoch:28 | flags:4]`. The position sits on top so that it wraps
//! by itself.
//! Does not know: atomics; this is arithmetic on copies.

/// Nobody runs or has queued the actor: whoever clears this bit must schedule it.
pub(crate) const IDLE: u64 = 1;
/// The system lane has something for the actor.
pub(crate) const SIGNAL: u64 = 1 << 1;
/// Senders wait for space.
pub(crate) const WAITERS: u64 = 1 << 2;
/// No message is accepted any more.
pub(crate) const CLOSED: u64 = 1 << 3;

/// In a tail: the owner keeps its distance behind busy senders (rule 11 of the mailbox).
pub(crate) const DISTANT: u64 = 1;

const EPOCH_SHIFT: u32 = 4;
const EPOCH_MASK: u32 = (1 << 28) - 1;
const POSITION_SHIFT: u32 = 32;

/// One observed value of a mailbox word, or (without flags) a tagged position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    /// A fresh mailbox: open, nothing claimed, owned by its maker.
    pub(crate) const FRESH: Self = Self(0);

    #[inline(always)]
    pub(crate) const fn position(self) -> u32 {
        (self.0 >> POSITION_SHIFT) as u32
    }

    #[inline(always)]
    pub(crate) const fn epoch(self) -> u32 {
        (self.0 >> EPOCH_SHIFT) as u32 & EPOCH_MASK
    }

    #[inline(always)]
    pub(crate) const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    #[inline(always)]
    pub(crate) const fn with(self, flags: u64) -> Self {
        Self(self.0 | flags)
    }

    #[inline(always)]
    pub(crate) const fn without(self, flags: u64) -> Self {
        Self(self.0 & !flags)
    }

    /// Claims `count` further positions and takes the scheduling edge.
    #[inline(always)]
    pub(crate) const fn claim(self, count: u32) -> Self {
        Self(self.0.wrapping_add((count as u64) << POSITION_SHIFT) & !IDLE)
    }

    /// Starts epoch `epoch` at position zero, flags kept.
    #[inline(always)]
    pub(crate) const fn flipped(self, epoch: u32) -> Self {
        Self(self.0 & 0xF | ((epoch & EPOCH_MASK) as u64) << EPOCH_SHIFT)
    }

    /// A position tagged with its epoch, for the tail.
    #[inline(always)]
    pub(crate) const fn tag(position: u32, epoch: u32) -> Self {
        Self((position as u64) << POSITION_SHIFT | ((epoch & EPOCH_MASK) as u64) << EPOCH_SHIFT)
    }

    /// The position that this tail stands for while the word is in `epoch`: a tail of another epoch
    /// counts as zero, because an epoch ends only with everything consumed.
    #[inline(always)]
    pub(crate) const fn tail_in(self, epoch: u32) -> u32 {
        if self.epoch() == epoch {
            self.position()
        } else {
            0
        }
    }

    /// The epoch `step` after this one. An even step keeps the ring base, an odd one changes it.
    #[inline(always)]
    pub(crate) const fn epoch_after(self, step: u32) -> u32 {
        (self.epoch() + step) & EPOCH_MASK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claiming_wraps_off_the_top_and_keeps_the_epoch() {
        let word = Word::tag(u32::MAX, 7).with(IDLE | WAITERS);
        let claimed = word.claim(2);
        assert_eq!(claimed.position(), 1);
        assert_eq!(claimed.epoch(), 7);
        assert!(!claimed.has(IDLE));
        assert!(claimed.has(WAITERS));
    }

    #[test]
    fn the_last_epoch_wraps_to_zero_and_keeps_parity() {
        let last = Word::tag(5, EPOCH_MASK).with(CLOSED);
        let next = last.flipped(last.epoch_after(1));
        assert_eq!((next.epoch(), next.position()), (0, 0));
        assert!(next.has(CLOSED));
        assert_eq!(last.epoch_after(2) & 1, last.epoch() & 1);
    }

    #[test]
    fn a_tail_of_another_epoch_counts_as_zero() {
        let tail = Word::tag(9, 3);
        assert_eq!(tail.tail_in(3), 9);
        assert_eq!(tail.tail_in(4), 0);
    }
}
