//! Stack for sources of any nesting.
//!
//! Owns how much. Does not know what runs on it.

/// Stack that one byte of source can cost: one level of nesting (measured: 3 KiB unoptimised).
const STACK_BYTES_PER_BYTE: usize = 4096;
/// Stack of a pool's worker: enough for every source, so that none is given one of its own, which costs as much as
/// transpiling a small file (mapping it, touching its pages, taking it away under the eyes of all threads).
pub(super) const WORKER_STACK_BYTES: usize = STACK_BYTES_MAX + (1 << 20);
/// Stack that is taken for granted.
const STACK_BYTES_AT_HAND: usize = 256 << 10;
const STACK_BYTES_MAX: usize = 1 << 30;

/// Runs `work` with a stack on which no nesting of `source` overflows (address space only: pages
/// are touched as far as the nesting really goes).
pub(super) fn with_room<R>(source: &str, work: impl FnOnce() -> R) -> R {
    let wanted = source.len().saturating_mul(STACK_BYTES_PER_BYTE);
    let wanted = wanted.min(STACK_BYTES_MAX);
    let at_hand = stacker::remaining_stack().unwrap_or_default();
    if wanted <= at_hand.max(STACK_BYTES_AT_HAND) {
        return work();
    }
    stacker::grow(wanted, work)
}
