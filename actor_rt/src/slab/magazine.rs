//! Each thread's free blocks, and the depot where threads trade them.
//!
//! Owns: the free lists, and the count of what is in them.
//! Does not know: which layouts a class is for.
//! Invariants: those of the slab, and: what other threads look at in a magazine (`len`, `spare`, `left`) is atomic, all
//! else is its thread's; a thread whose magazines hold anything stands in [`THREADS`] until it ends.

use super::{ALIGN, CLASSES, block_size, chunk};
use crate::prefetch;
use std::alloc::Layout;
use std::cell::Cell;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes carved at once: at first, and once a thread has carved as much of a class before.
const CHUNK: usize = 64 * 1024;
const LARGE_CHUNK: usize = 2 * 1024 * 1024;

/// Lines of a block that are asked for in advance: an actor's cell.
const LINES_AHEAD: usize = 6;

/// The length of a magazine whose thread is not in [`THREADS`] yet: longer than any, so that it costs nothing to notice.
const NEW: u32 = u32::MAX;

/// What a free block holds.
struct Free {
    next: *mut Free,
    /// Only in the first block of a batch in the depot: the batch below it, and the blocks of this one.
    below: *mut Free,
    len: u32,
}

/// Chains of free blocks travelling between threads, one upon the other. They take no memory but their own: a depot that
/// grew on the heap would look like a leak for as long as it grows.
struct Depot {
    top: *mut Free,
    /// In all batches.
    blocks: usize,
}

// SAFETY: a depot owns its blocks (invariant 1), which are plain memory.
unsafe impl Send for Depot {}

static DEPOT: [Mutex<Depot>; CLASSES] = [const {
    Mutex::new(Depot {
        top: null_mut(),
        blocks: 0,
    })
}; CLASSES];

impl Depot {
    /// Takes over the chain of so many blocks that begins with this one.
    fn push(&mut self, batch: NonNull<Free>, len: u32) {
        let first = batch.as_ptr();
        let below = std::mem::replace(&mut self.top, first);
        // SAFETY: a free block that is ours now; it is large and aligned enough.
        unsafe { (*first).below = below };
        // SAFETY: as above.
        unsafe { (*first).len = len };
        self.blocks += len as usize;
    }

    /// A chain and its length.
    fn pop(&mut self) -> Option<(NonNull<Free>, u32)> {
        let batch = NonNull::new(self.top)?;
        // SAFETY: a block in the depot holds what `push` wrote.
        let first = unsafe { batch.as_ref() };
        self.top = first.below;
        self.blocks -= first.len as usize;
        Some((batch, first.len))
    }
}

/// Bytes of all chunks that became blocks, or will.
static CARVED: AtomicUsize = AtomicUsize::new(0);

/// Threads whose magazines hold something.
static THREADS: Mutex<Vec<Shelf>> = Mutex::new(Vec::new());

/// One thread's magazines, for others to look at.
struct Shelf(*const [Magazine; CLASSES]);

// SAFETY: others look at atomics only, and the thread takes it out of `THREADS` before they are gone.
unsafe impl Send for Shelf {}

/// Only its thread writes it.
struct Magazine {
    head: Cell<*mut Free>,
    /// Blocks behind `head`; [`NEW`] at first.
    len: AtomicU32,
    /// A second full chain, so that a thread that frees and takes around the edge of a batch
    /// does not visit the depot each time.
    spare: AtomicPtr<Free>,
    /// The next block of its chunk that was never taken, and the bytes from there to the chunk's end.
    bump: Cell<*mut u8>,
    left: AtomicUsize,
    /// Bytes that the thread has carved for this class.
    carved: Cell<usize>,
}

struct Magazines([Magazine; CLASSES]);

impl Drop for Magazines {
    fn drop(&mut self) {
        if self.0[0].len() == NEW {
            return;
        }
        lock(&THREADS).retain(|shelf| !std::ptr::eq(shelf.0, &raw const self.0));
        for (class, magazine) in self.0.iter().enumerate() {
            // What is left of the thread's last chunk is lost, at most one chunk per class, and counts as in use.
            let loose = NonNull::new(magazine.head.replace(null_mut()));
            let spare = NonNull::new(magazine.swap_spare(null_mut()));
            let mut depot = lock(&DEPOT[class]);
            for (batch, len) in [(loose, magazine.len()), (spare, batch_len(class))] {
                if let Some(batch) = batch {
                    depot.push(batch, len);
                }
            }
        }
    }
}

thread_local! {
    static MAGAZINES: Magazines = const {
        Magazines([const {
            Magazine {
                head: Cell::new(null_mut()),
                len: AtomicU32::new(NEW),
                spare: AtomicPtr::new(null_mut()),
                bump: Cell::new(null_mut()),
                left: AtomicUsize::new(0),
                carved: Cell::new(0),
            }
        }; CLASSES])
    };
}

// Relaxed, all of it: others only look, and what they see is exact when nothing moves.
impl Magazine {
    #[inline(always)]
    fn len(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn set_len(&self, len: u32) {
        self.len.store(len, Ordering::Relaxed);
    }

    fn spare(&self) -> *mut Free {
        self.spare.load(Ordering::Relaxed)
    }

    fn swap_spare(&self, spare: *mut Free) -> *mut Free {
        let before = self.spare();
        self.spare.store(spare, Ordering::Relaxed);
        before
    }

    /// Bytes of its chunk that were never taken.
    fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    fn set_left(&self, bytes: usize) {
        self.left.store(bytes, Ordering::Relaxed);
    }
}

/// Blocks per batch: about 16 KiB.
const fn batch_len(class: usize) -> u32 {
    let len = 16 * 1024 / block_size(class);
    if len < 1 { 1 } else { len as u32 }
}

/// Bytes of blocks that are handed out or lost, in the whole process.
pub(super) fn in_use() -> usize {
    let threads = lock(&THREADS);
    let mut free = 0;
    for (class, depot) in DEPOT.iter().enumerate() {
        let mut blocks = lock(depot).blocks;
        for shelf in threads.iter() {
            // SAFETY: alive while it stands there, and the lock is held; only atomics are read.
            let magazine = unsafe { &(*shelf.0)[class] };
            blocks += magazine.len() as usize;
            if !magazine.spare().is_null() {
                blocks += batch_len(class) as usize;
            }
            free += magazine.left();
        }
        free += blocks * block_size(class);
    }
    CARVED.load(Ordering::Relaxed).saturating_sub(free)
}

#[inline]
pub(super) fn take(class: usize) -> NonNull<u8> {
    MAGAZINES
        .try_with(|all| {
            let magazine = &all.0[class];
            if let Some(block) = NonNull::new(magazine.head.get()) {
                // SAFETY: a block in a magazine holds its link (invariant 1).
                let next = unsafe { (*block.as_ptr()).next };
                magazine.head.set(next);
                magazine.set_len(magazine.len() - 1);
                ask_for(next, class);
                return block.cast();
            }
            refill(all, class)
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
    let free = block.cast::<Free>();
    let kept = MAGAZINES.try_with(|all| {
        let magazine = &all.0[class];
        if magazine.len() >= batch_len(class) {
            spill(all, class);
        }
        // SAFETY: the caller handed the block over; it is large and aligned enough for a link.
        unsafe { (*free.as_ptr()).next = magazine.head.get() };
        magazine.head.set(free.as_ptr());
        magazine.set_len(magazine.len() + 1);
    });
    if kept.is_err() {
        // The thread is ending: straight to the depot.
        // SAFETY: as above.
        unsafe { (*free.as_ptr()).next = null_mut() };
        lock(&DEPOT[class]).push(free, 1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's first block of all.
fn join(all: &Magazines) {
    all.0.iter().for_each(|magazine| magazine.set_len(0));
    lock(&THREADS).push(Shelf(&raw const all.0));
}

#[cold]
#[inline(never)]
fn spill(all: &Magazines, class: usize) {
    let magazine = &all.0[class];
    if magazine.len() == NEW {
        return join(all);
    }
    let full = magazine.head.replace(null_mut());
    if let Some(older) = NonNull::new(magazine.swap_spare(full)) {
        lock(&DEPOT[class]).push(older, batch_len(class));
    }
    magazine.set_len(0);
}

#[cold]
#[inline(never)]
fn refill(all: &Magazines, class: usize) -> NonNull<u8> {
    let magazine = &all.0[class];
    if magazine.len() == NEW {
        join(all);
    }
    let batch = match NonNull::new(magazine.swap_spare(null_mut())) {
        Some(spare) => Some((spare, batch_len(class))),
        None if magazine.left() == 0 => lock(&DEPOT[class]).pop(),
        None => None,
    };
    if let Some((block, len)) = batch {
        // SAFETY: a batch holds linked blocks that it owns.
        magazine.head.set(unsafe { (*block.as_ptr()).next });
        magazine.set_len(len - 1);
        return block.cast();
    }
    carve(magazine, class)
}

/// A block that was never used, from the thread's chunk or a new one.
fn carve(magazine: &Magazine, class: usize) -> NonNull<u8> {
    let size = block_size(class);
    if magazine.left() == 0 {
        let (chunk, bytes) = if magazine.carved.get() < LARGE_CHUNK {
            (chunk::take(of(CHUNK, ALIGN)), CHUNK)
        } else {
            (chunk::take_large(of(LARGE_CHUNK, LARGE_CHUNK)), LARGE_CHUNK)
        };
        magazine.carved.set(magazine.carved.get() + bytes);
        let usable = bytes / size * size;
        CARVED.fetch_add(usable, Ordering::Relaxed);
        magazine.bump.set(chunk.as_ptr());
        magazine.set_left(usable);
    }
    let block = magazine.bump.get();
    // SAFETY: something is left, and what is left is a multiple of `size`.
    magazine.bump.set(unsafe { block.add(size) });
    magazine.set_left(magazine.left() - size);
    NonNull::new(block).expect("a chunk starts above address zero")
}

/// A block for a thread that is ending: of the depot, or a chunk by itself.
#[cold]
fn carve_one(class: usize) -> NonNull<u8> {
    /// What a chunk is made of.
    const LEAST: usize = 4096;
    let mut depot = lock(&DEPOT[class]);
    if let Some((block, len)) = depot.pop() {
        // SAFETY: a batch holds linked blocks that it owns.
        if let Some(rest) = NonNull::new(unsafe { (*block.as_ptr()).next }) {
            depot.push(rest, len - 1);
        }
        return block.cast();
    }
    let size = block_size(class);
    CARVED.fetch_add(size, Ordering::Relaxed);
    chunk::take(of(size.next_multiple_of(LEAST), ALIGN))
}

fn of(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a chunk has a valid layout")
}
