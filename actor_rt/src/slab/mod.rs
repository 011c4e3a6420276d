//! Size-classed blocks for actor cells, mailbox pages, reply slots and pooled messages.
//!
//! Owns: which layouts share a class. Each thread keeps one magazine per class and trades whole batches with a
//! depot (`magazine`), so a block freed by the consumer's thread finds its way back to the producer's. Where workers are on
//! several NUMA nodes, each node has depots and chunks of its own, and a block goes back to those of its node (`map`).
//! Does not know: what lives in a block; blocks come uninitialised.
//! Invariants:
//! 1. A block is in exactly one place: handed out, in one thread's magazine, or in one depot batch.
//! 2. A block never changes its class: memory of a class is carved once and never given back.
//! 3. Every block is aligned to 64 bytes, so two actors never share a cache line.
//! 4. Layouts above `LARGEST` bytes or `ALIGN` alignment go to the system allocator, both ways.
//! 5. Which node a block is of is a matter of speed: whoever asks for one of a node may get any.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc as system_alloc, dealloc as system_dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Alignment of every block: one cache line.
const ALIGN: usize = 64;
/// Largest block served from the slabs, in bytes.
const LARGEST: usize = 64 * 1024;

/// Takes a block that fits `layout` (size above zero).
#[inline]
pub(crate) fn take(layout: Layout) -> NonNull<u8> {
    #[cfg(not(loom))]
    if let Some(class) = class_of(layout) {
        return magazine::take(class);
    }
    system_take(layout)
}

/// Takes a block in the memory of `node`; if that is none, in that of the calling thread.
#[inline(always)]
pub(crate) fn take_on(node: Node, layout: Layout) -> NonNull<u8> {
    #[cfg(not(loom))]
    if node != Node::NONE
        && let Some(class) = class_of(layout)
    {
        return magazine::take_on(node, class);
    }
    take(layout)
}

/// The node of the calling thread.
#[inline]
pub(crate) fn here() -> Node {
    #[cfg(not(loom))]
    return magazine::here();
    #[cfg(loom)]
    Node::NONE
}

/// Makes the calling thread, which has had no block yet, one of `node`.
#[cfg(not(loom))]
pub(crate) fn settle(node: Node) {
    magazine::settle(node);
}

/// Gives a block back.
///
/// # Safety
/// `block` came from [`take`] with the same `layout`, and nobody uses it any more.
#[inline]
pub(crate) unsafe fn give(block: NonNull<u8>, layout: Layout) {
    #[cfg(not(loom))]
    if let Some(class) = class_of(layout) {
        // SAFETY: forwarded from the caller; the class is a function of the layout alone.
        return unsafe { magazine::give(block, class) };
    }
    // SAFETY: the same layout took the same way in `take`.
    unsafe { system_dealloc(block.as_ptr(), layout) }
}

/// Bytes of all chunks, and of the blocks that are handed out, in the whole process: exact when nothing moves.
#[cfg(not(loom))]
pub(crate) fn figures() -> (usize, usize) {
    let in_use = magazine::in_use();
    (chunk::reserved(), in_use)
}

#[cold]
fn system_take(layout: Layout) -> NonNull<u8> {
    debug_assert!(layout.size() > 0);
    // SAFETY: no caller asks for zero bytes (see `take`).
    let block = unsafe { system_alloc(layout) };
    NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Multiples of 64 bytes up to 1 KiB, then powers of two.
#[cfg(not(loom))]
const CLASSES: usize = 22;

#[cfg(not(loom))]
#[inline]
const fn class_of(layout: Layout) -> Option<usize> {
    if layout.align() > ALIGN || layout.size() > LARGEST || layout.size() == 0 {
        return None;
    }
    Some(match layout.size() {
        0..=1024 => (layout.size() - 1) / ALIGN,
        size => 16 + (size - 1).ilog2() as usize - 10,
    })
}

#[cfg(not(loom))]
const fn block_size(class: usize) -> usize {
    if class < 16 {
        (class + 1) * ALIGN
    } else {
        2048 << (class - 16)
    }
}

#[cfg(not(loom))]
mod chunk;
#[cfg(not(loom))]
mod magazine;
#[cfg(not(loom))]
mod map;
mod node;

pub(crate) use node::{Home, Node};

/// Whose memory a block lies in.
#[cfg(all(test, not(loom)))]
pub(crate) use map::node_of;

#[cfg(all(test, not(loom)))]
mod node_tests;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn classes_cover_their_layouts() {
        for size in (1..=LARGEST).step_by(if cfg!(miri) { 611 } else { 1 }) {
            let layout = Layout::from_size_align(size, 8).expect("valid");
            let class = class_of(layout).expect("served from the slabs");
            assert!(block_size(class) >= size);
        }
        assert!(class_of(Layout::from_size_align(LARGEST + 1, 8).expect("valid")).is_none());
        assert!(class_of(Layout::from_size_align(64, 128).expect("valid")).is_none());
    }

    #[test]
    fn blocks_are_distinct_and_aligned_and_come_back() {
        let count = if cfg!(miri) { 40 } else { 700 };
        for size in [1, 64, 65, 500, 1024, 1025, 8192, 20_000, 70_000] {
            let layout = Layout::from_size_align(size, 8).expect("valid");
            let blocks: Vec<_> = (0..count).map(|_| take(layout)).collect();
            let distinct: HashSet<_> = blocks.iter().map(|block| block.addr()).collect();
            assert_eq!(distinct.len(), blocks.len());
            if size <= LARGEST {
                assert!(
                    blocks
                        .iter()
                        .all(|block| block.addr().get().is_multiple_of(ALIGN))
                );
            }
            for block in blocks {
                // SAFETY: taken above with the same layout, used by nobody else.
                unsafe { give(block, layout) };
            }
        }
    }

    /// For those that count: other tests of the process take and give meanwhile, but not that much.
    pub(super) static COUNTING: std::sync::Mutex<()> = std::sync::Mutex::new(());

    #[test]
    fn what_is_handed_out_is_counted() {
        let _alone = COUNTING.lock();
        let layout = Layout::from_size_align(LARGEST, 8).expect("valid");
        let count = if cfg!(miri) { 20 } else { 4000 };
        let least = LARGEST * count / 2;
        let blocks: Vec<_> = (0..count).map(|_| take(layout)).collect();
        let (reserved, in_use) = figures();
        assert!(
            reserved >= in_use && in_use >= least,
            "{in_use} of {reserved}"
        );
        for block in blocks {
            // SAFETY: taken above with the same layout, used by nobody else.
            unsafe { give(block, layout) };
        }
        let (still_reserved, now_in_use) = figures();
        assert!(still_reserved >= reserved, "nothing is given back");
        assert!(in_use - now_in_use >= least, "{now_in_use} after {in_use}");
    }

    #[test]
    fn blocks_of_a_thread_that_has_ended_are_not_in_use() {
        let _alone = COUNTING.lock();
        let layout = Layout::from_size_align(LARGEST, 8).expect("valid");
        let count = if cfg!(miri) { 20 } else { 4000 };
        let before = figures().1;
        let other = std::thread::spawn(move || {
            let blocks: Vec<_> = (0..count).map(|_| take(layout)).collect();
            for block in blocks {
                // SAFETY: taken above with the same layout, used by nobody else.
                unsafe { give(block, layout) };
            }
        });
        other.join().expect("no panic");
        let after = figures().1;
        let least = LARGEST * count / 2;
        assert!(after < before + least, "{after} after {before}");
    }

    #[test]
    fn a_block_freed_on_another_thread_is_found_again() {
        /// A block on its way to another thread.
        struct Block(NonNull<u8>);
        // SAFETY: whoever holds it owns the block.
        unsafe impl Send for Block {}

        let layout = Layout::from_size_align(960, 8).expect("valid");
        let count = if cfg!(miri) { 300 } else { 50_000 };
        let (sender, receiver) = std::sync::mpsc::sync_channel::<Block>(16);
        let consumer = std::thread::spawn(move || {
            for block in receiver {
                // SAFETY: the producer handed the block over.
                unsafe { give(block.0, layout) };
            }
        });
        let mut seen = HashSet::new();
        for _ in 0..count {
            let block = take(layout);
            seen.insert(block.addr());
            sender.send(Block(block)).expect("the consumer lives");
        }
        drop(sender);
        consumer.join().expect("no panic");
        assert!(
            seen.len() < count / 2,
            "{} distinct blocks: nothing was reused",
            seen.len()
        );
    }
}
