//! Size-classed blocks for actor cells, mailbox pages, reply slots and pooled messages.
//!
//! Owns: the free lists. Each thread keeps one magazine per class and trades whole batches with a
//! global depot, so a block freed by the consumer's thread finds its way back to the producer's.
//! Does not know: what lives in a block; blocks come uninitialised.
//! Invariants:
//! 1. A block is in exactly one place: handed out, in one thread's magazine, or in one depot batch.
//! 2. A block never changes its class: memory of a class is carved once and never given back.
//! 3. Every block is aligned to 64 bytes, so two actors never share a cache line.
//! 4. Layouts above `LARGEST` bytes or `ALIGN` alignment go to the system allocator, both ways.
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
mod magazine {
    use super::{ALIGN, CLASSES, block_size, handle_alloc_error, system_alloc};
    use crate::prefetch;
    use std::alloc::Layout;
    use std::cell::UnsafeCell;
    use std::ptr::{NonNull, null_mut};
    use std::sync::Mutex;

    /// Bytes carved from the system allocator at once: at first, and once a thread has carved as much of a
    /// class before.
    const CHUNK: usize = 64 * 1024;
    const LARGE_CHUNK: usize = 2 * 1024 * 1024;

    /// Lines of a block that are asked for in advance: an actor's cell.
    const LINES_AHEAD: usize = 6;

    /// A free block holds the link to the next one in its first word.
    struct Free {
        next: *mut Free,
    }

    /// A chain of free blocks travelling between a thread and the depot.
    struct Batch {
        head: *mut Free,
        len: u32,
    }

    // SAFETY: a batch owns its blocks (invariant 1), which are plain memory.
    unsafe impl Send for Batch {}

    static DEPOT: [Mutex<Vec<Batch>>; CLASSES] = [const { Mutex::new(Vec::new()) }; CLASSES];

    struct Magazine {
        head: *mut Free,
        len: u32,
        /// A second full chain, so that a thread that frees and takes around the edge of a batch
        /// does not visit the depot each time.
        spare: *mut Free,
        bump: *mut u8,
        end: *mut u8,
        /// Bytes that the thread has carved for this class.
        carved: usize,
    }

    struct Magazines(UnsafeCell<[Magazine; CLASSES]>);

    impl Drop for Magazines {
        fn drop(&mut self) {
            for (class, magazine) in self.0.get_mut().iter_mut().enumerate() {
                let loose = std::mem::replace(&mut magazine.head, null_mut());
                let spare = std::mem::replace(&mut magazine.spare, null_mut());
                let mut depot = DEPOT[class]
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                if !loose.is_null() {
                    depot.push(Batch {
                        head: loose,
                        len: magazine.len,
                    });
                }
                if !spare.is_null() {
                    depot.push(Batch {
                        head: spare,
                        len: batch_len(class),
                    });
                }
                magazine.len = 0;
                // What is left of the thread's last chunk stays unused: at most one chunk per class
                // and thread.
            }
        }
    }

    thread_local! {
        static MAGAZINES: Magazines = const {
            Magazines(UnsafeCell::new([const {
                Magazine {
                    head: null_mut(), len: 0, spare: null_mut(), bump: null_mut(), end: null_mut(),
                    carved: 0,
                }
            }; CLASSES]))
        };
    }

    /// Blocks per batch: about 16 KiB.
    const fn batch_len(class: usize) -> u32 {
        let len = 16 * 1024 / block_size(class);
        if len < 1 { 1 } else { len as u32 }
    }

    #[inline]
    pub(super) fn take(class: usize) -> NonNull<u8> {
        MAGAZINES
            .try_with(|all| {
                // SAFETY: thread-local and never re-entered: nothing below calls user code.
                let magazine = unsafe { &mut (&mut *all.0.get())[class] };
                if let Some(block) = NonNull::new(magazine.head) {
                    // SAFETY: a block in a magazine holds its link (invariant 1).
                    magazine.head = unsafe { block.as_ref().next };
                    magazine.len -= 1;
                    ask_for(magazine.head, class);
                    return block.cast();
                }
                refill(magazine, class)
            })
            .unwrap_or_else(|_| carve_one(class))
    }

    /// Asks for the lines of the block that will be taken next: it may have been freed on another core.
    #[inline]
    fn ask_for(block: *mut Free, class: usize) {
        for line in 0..(class + 1).min(LINES_AHEAD) {
            prefetch::for_write(block.cast::<u8>().wrapping_add(line * ALIGN));
        }
    }

    #[inline]
    pub(super) unsafe fn give(block: NonNull<u8>, class: usize) {
        let free = block.cast::<Free>().as_ptr();
        let kept = MAGAZINES.try_with(|all| {
            // SAFETY: thread-local and never re-entered.
            let magazine = unsafe { &mut (&mut *all.0.get())[class] };
            if magazine.len >= batch_len(class) {
                spill(magazine, class);
            }
            // SAFETY: the caller handed the block over; it is large and aligned enough for a link.
            unsafe {
                free.write(Free {
                    next: magazine.head,
                })
            };
            magazine.head = free;
            magazine.len += 1;
        });
        if kept.is_err() {
            // The thread is ending: straight to the depot.
            // SAFETY: as above.
            unsafe { free.write(Free { next: null_mut() }) };
            depot(class).push(Batch { head: free, len: 1 });
        }
    }

    fn depot(class: usize) -> std::sync::MutexGuard<'static, Vec<Batch>> {
        DEPOT[class]
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    #[cold]
    #[inline(never)]
    fn spill(magazine: &mut Magazine, class: usize) {
        let full = std::mem::replace(&mut magazine.head, null_mut());
        let older = std::mem::replace(&mut magazine.spare, full);
        if !older.is_null() {
            depot(class).push(Batch {
                head: older,
                len: batch_len(class),
            });
        }
        magazine.len = 0;
    }

    #[cold]
    #[inline(never)]
    fn refill(magazine: &mut Magazine, class: usize) -> NonNull<u8> {
        let spare = std::mem::replace(&mut magazine.spare, null_mut());
        let batch = if spare.is_null() {
            if magazine.bump == magazine.end {
                depot(class).pop()
            } else {
                None
            }
        } else {
            Some(Batch {
                head: spare,
                len: batch_len(class),
            })
        };
        if let Some(batch) = batch
            && let Some(block) = NonNull::new(batch.head)
        {
            // SAFETY: a batch holds linked blocks that it owns.
            magazine.head = unsafe { block.as_ref().next };
            magazine.len = batch.len - 1;
            return block.cast();
        }
        let size = block_size(class);
        if magazine.bump == magazine.end {
            let (chunk, bytes) = if magazine.carved < LARGE_CHUNK {
                (chunk(CHUNK), CHUNK)
            } else {
                (large_chunk(), LARGE_CHUNK)
            };
            magazine.carved += bytes;
            magazine.bump = chunk.as_ptr();
            // SAFETY: inside the chunk just allocated, or one past its end.
            magazine.end = unsafe { chunk.as_ptr().add(bytes / size * size) };
        }
        let block = magazine.bump;
        // SAFETY: `bump < end`, both in one chunk whose length is a multiple of `size`.
        magazine.bump = unsafe { block.add(size) };
        NonNull::new(block).expect("a chunk starts above address zero")
    }

    #[cold]
    fn carve_one(class: usize) -> NonNull<u8> {
        chunk(block_size(class))
    }

    fn chunk(size: usize) -> NonNull<u8> {
        aligned_chunk(size, ALIGN)
    }

    /// A chunk that the kernel may back by one huge page: one page fault instead of 512.
    fn large_chunk() -> NonNull<u8> {
        let chunk = aligned_chunk(LARGE_CHUNK, LARGE_CHUNK);
        #[cfg(all(target_os = "linux", not(miri)))]
        {
            let start = chunk.as_ptr().cast();
            // SAFETY: the range was just allocated and holds nothing yet. A refusal costs speed only.
            unsafe { libc::madvise(start, LARGE_CHUNK, libc::MADV_HUGEPAGE) };
        }
        chunk
    }

    fn aligned_chunk(size: usize, align: usize) -> NonNull<u8> {
        let layout = Layout::from_size_align(size, align).expect("a chunk has a valid layout");
        // SAFETY: chunks are never empty.
        let memory = unsafe { system_alloc(layout) };
        NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
    }
}

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
