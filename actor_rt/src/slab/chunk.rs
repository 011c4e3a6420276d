//! Where slabs get their memory: chunks that are never given back.
//!
//! Owns: how they are had, how much, and of which NUMA node's memory they are.
//! Does not know: blocks.
//! Straight from the kernel, where that can be: the process's allocator may first have to tidy up what others have freed, and
//! held a worker up for 30 ms that way (glibc's `malloc_consolidate`, for 64 KiB, in the arena of a thread that had ended).

use super::map;
use super::node::Node;
use std::alloc::{Layout, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

static RESERVED: AtomicUsize = AtomicUsize::new(0);

/// Bytes of all chunks.
pub(super) fn reserved() -> usize {
    RESERVED.load(Ordering::Relaxed)
}

/// A chunk of `layout`, whose size is a multiple of 4 KiB; that of a node consists of whole pieces of the map.
pub(super) fn take(node: Node, layout: Layout) -> NonNull<u8> {
    RESERVED.fetch_add(layout.size(), Ordering::Relaxed);
    let chunk = memory(layout).unwrap_or_else(|| handle_alloc_error(layout));
    if let Some(number) = node.number() {
        prefer(chunk, layout.size(), number);
        map::enter(chunk, layout.size(), node);
    }
    chunk
}

/// A chunk that the kernel may back by one huge page, if it is aligned to one: one page fault instead of 512.
pub(super) fn take_large(node: Node, layout: Layout) -> NonNull<u8> {
    let chunk = take(node, layout);
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        let start = chunk.as_ptr().cast();
        // SAFETY: the range was just allocated and holds nothing yet. A refusal costs speed only.
        unsafe { libc::madvise(start, layout.size(), libc::MADV_HUGEPAGE) };
    }
    chunk
}

/// Asks for memory of the node with this number, for as long as it has some.
#[cfg(all(target_os = "linux", not(miri)))]
fn prefer(chunk: NonNull<u8>, bytes: usize, number: u8) {
    static SAID: std::sync::Once = std::sync::Once::new();
    let nodes = 1_u64 << number;
    // The kernel reads one bit less than it is told. Each argument fills a register, whatever lay there.
    let bits = libc::c_ulong::from(u64::BITS + 1);
    let (preferred, no_flags) = (libc::c_long::from(libc::MPOL_PREFERRED), 0 as libc::c_long);
    let start = chunk.as_ptr();
    // SAFETY: the range was just mapped and holds nothing yet; the kernel reads the bits of `nodes`.
    let refused = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            start,
            bytes,
            preferred,
            &raw const nodes,
            bits,
            no_flags,
        )
    };
    if refused != 0 {
        let error = std::io::Error::last_os_error();
        SAID.call_once(|| {
            tracing::debug!(node = number, %error, "cannot choose the NUMA node of memory; it will be where it is touched first");
        });
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn prefer(_chunk: NonNull<u8>, _bytes: usize, _number: u8) {}

#[cfg(all(unix, not(miri)))]
fn memory(layout: Layout) -> Option<NonNull<u8>> {
    /// What the kernel aligns to by itself, on every machine.
    const PAGE: usize = 4096;
    debug_assert!(layout.size().is_multiple_of(PAGE));
    let size = layout.size();
    let spare = if layout.align() > PAGE {
        layout.align()
    } else {
        0
    };
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: fresh memory anywhere; what is mapped already stays as it is.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), size + spare, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return None;
    }
    let before = start.cast::<u8>().align_offset(layout.align());
    // SAFETY: `before` is at most `spare`.
    let chunk = unsafe { start.cast::<u8>().add(before) };
    // SAFETY: the chunk's end, at most one past that of the mapping.
    let end = unsafe { chunk.add(size) };
    for (edge, length) in [(start, before), (end.cast(), spare - before)] {
        if length > 0 {
            // SAFETY: a part of the mapping outside the chunk, whole pages, that nobody has seen.
            unsafe { libc::munmap(edge, length) };
        }
    }
    NonNull::new(chunk)
}

#[cfg(not(all(unix, not(miri))))]
fn memory(layout: Layout) -> Option<NonNull<u8>> {
    // SAFETY: chunks are never empty.
    NonNull::new(unsafe { std::alloc::alloc(layout) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_aligned_and_hold_what_is_written() {
        for (size, align) in [
            (64 << 10, 64),
            (2 << 20, 2 << 20),
            (4 << 10, 64),
            (64 << 10, 2 << 20),
        ] {
            let layout = Layout::from_size_align(size, align).expect("valid");
            let chunks: Vec<_> = (0..4_u8).map(|_| take_large(Node::NONE, layout)).collect();
            for (number, chunk) in chunks.iter().enumerate() {
                assert!(chunk.addr().get().is_multiple_of(align));
                // SAFETY: just taken, of this size.
                unsafe { chunk.write_bytes(number as u8, size) };
            }
            for (number, chunk) in chunks.iter().enumerate() {
                for at in [0, size / 2, size - 1] {
                    // SAFETY: inside the chunk, written above.
                    assert_eq!(unsafe { chunk.add(at).read() }, number as u8);
                }
            }
        }
    }
}
