//! Each thread's free blocks, and the depots where threads trade them.
//!
//! Owns: the free lists, and the count of what is in them.
//! Does not know: which layouts a class is for.
//! Invariants: those of the slab, and: what other threads look at in a magazine (`len`, `spare`, `left`) is atomic, all
//! else is its thread's; a shelf that holds anything stands in [`SHELVES`] until its thread ends.
//!
//! A thread keeps the blocks of every NUMA node apart, on a shelf each, and every node has depots of its own. Without
//! nodes, as on a machine with one, all threads have one shelf and know it: they never look at where a block is.

use super::map::{self, PIECE};
use super::node::{NODES, Node};
use super::{ALIGN, CLASSES, block_size, chunk};
use crate::prefetch;
use std::alloc::Layout;
use std::cell::{Cell, OnceCell};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes carved at once: at first, and once a thread has carved as much of a class before.
const CHUNK: usize = 64 * 1024;
const LARGE_CHUNK: usize = 2 * 1024 * 1024;

/// Lines of a block that are asked for in advance: an actor's cell.
const LINES_AHEAD: usize = 6;

/// The length of a magazine whose shelf is not in [`SHELVES`] yet: longer than any, so that it costs nothing to notice.
const NEW: u32 = u32::MAX;

/// What a free block holds.
struct Free {
    next: *mut Free,
    /// Only in the first block of a batch or of a rest in the depot: what is below it, and the blocks of this one.
    below: *mut Free,
    len: u32,
}

/// Chains of free blocks travelling between threads, one upon the other. They take no memory but their own: a depot that
/// grew on the heap would look like a leak for as long as it grows.
struct Depot {
    top: *mut Free,
    /// What threads that have ended have not taken of their chunks: blocks that lie one behind the other.
    rests: *mut Free,
    /// In all batches and rests.
    blocks: usize,
}

// SAFETY: a depot owns its blocks (invariant 1), which are plain memory.
unsafe impl Send for Depot {}

/// Of every node, for every class.
static DEPOTS: [[Mutex<Depot>; CLASSES]; NODES] = [const {
    [const {
        Mutex::new(Depot {
            top: null_mut(),
            rests: null_mut(),
            blocks: 0,
        })
    }; CLASSES]
}; NODES];

fn depot(node: Node, class: usize) -> MutexGuard<'static, Depot> {
    lock(&DEPOTS[usize::from(node.index())][class])
}

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

    /// Takes over so many blocks, never used, that begin here.
    fn push_rest(&mut self, rest: NonNull<Free>, len: u32) {
        let below = std::mem::replace(&mut self.rests, rest.as_ptr());
        let next = null_mut();
        // SAFETY: the first of them is ours now; it is large and aligned enough.
        unsafe { rest.write(Free { next, below, len }) };
        self.blocks += len as usize;
    }

    /// Where a rest begins, and how many blocks it has.
    fn pop_rest(&mut self) -> Option<(NonNull<Free>, u32)> {
        let rest = NonNull::new(self.rests)?;
        // SAFETY: a rest holds what `push_rest` wrote.
        let first = unsafe { rest.as_ref() };
        self.rests = first.below;
        self.blocks -= first.len as usize;
        Some((rest, first.len))
    }
}

/// Bytes of all chunks that became blocks, or will.
static CARVED: AtomicUsize = AtomicUsize::new(0);

/// The shelves that hold something, of all threads.
static SHELVES: Mutex<Vec<Seen>> = Mutex::new(Vec::new());

/// One thread's shelf, for others to look at.
struct Seen(*const Shelf);

// SAFETY: others look at atomics only, and the thread takes it out of `SHELVES` before they are gone.
unsafe impl Send for Seen {}

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

/// A thread's free blocks of one node.
struct Shelf {
    node: Cell<Node>,
    magazines: [Magazine; CLASSES],
}

impl Shelf {
    const fn new(node: Node) -> Self {
        Self {
            node: Cell::new(node),
            magazines: [const {
                Magazine {
                    head: Cell::new(null_mut()),
                    len: AtomicU32::new(NEW),
                    spare: AtomicPtr::new(null_mut()),
                    bump: Cell::new(null_mut()),
                    left: AtomicUsize::new(0),
                    carved: Cell::new(0),
                }
            }; CLASSES],
        }
    }

    /// Whether it never held anything.
    fn is_new(&self) -> bool {
        self.magazines[0].len() == NEW
    }

    /// Before its first block.
    fn join(&self) {
        self.magazines
            .iter()
            .for_each(|magazine| magazine.set_len(0));
        lock(&SHELVES).push(Seen(self));
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        if self.is_new() {
            return;
        }
        lock(&SHELVES).retain(|seen| !std::ptr::eq(seen.0, self));
        for (class, magazine) in self.magazines.iter().enumerate() {
            let loose = NonNull::new(magazine.head.replace(null_mut()));
            let spare = NonNull::new(magazine.swap_spare(null_mut()));
            let mut depot = depot(self.node.get(), class);
            for (batch, len) in [(loose, magazine.len()), (spare, batch_len(class))] {
                if let Some(batch) = batch {
                    depot.push(batch, len);
                }
            }
            if let Some(rest) = NonNull::new(magazine.bump.get())
                && magazine.left() > 0
            {
                // As many as a chunk has at most.
                let blocks = magazine.left() / block_size(class);
                depot.push_rest(rest.cast(), blocks as u32);
            }
        }
    }
}

/// What a thread has.
struct Own {
    /// The blocks of the thread's own node. Those of a thread without one may be of any: it looks at blocks only once there are nodes.
    shelf: Shelf,
    /// Whether the thread looks at where blocks are that it frees: until it knows that there are no nodes.
    sorts: Cell<bool>,
    /// Blocks of other nodes, made when the first one comes.
    others: [OnceCell<Box<Shelf>>; NODES],
}

thread_local! {
    /// The node of `OWN`, for who asks for nothing else: it has no end that would have to be looked out for.
    static HERE: Cell<Node> = const { Cell::new(Node::NONE) };

    static OWN: Own = const {
        Own {
            shelf: Shelf::new(Node::NONE),
            sorts: Cell::new(true),
            others: [const { OnceCell::new() }; NODES],
        }
    };
}

impl Own {
    /// The shelf of a node, for a thread that may have several.
    #[cold]
    #[inline(never)]
    fn shelf_of(&self, node: Node) -> &Shelf {
        if node == self.shelf.node.get() {
            return &self.shelf;
        }
        let other = &self.others[usize::from(node.index())];
        other.get_or_init(|| Box::new(Shelf::new(node)))
    }

    /// On the rare ways: takes note of whether there are nodes by now.
    fn look_up(&self) {
        self.sorts.set(map::in_use());
    }
}

/// Makes the calling thread one of `node`, whose memory it takes from now on. A thread that has held blocks already stays
/// what it is, which costs speed.
pub(super) fn settle(node: Node) {
    let _ = OWN.try_with(|own| {
        if own.shelf.is_new() && node != Node::NONE {
            map::begin();
            own.shelf.node.set(node);
            HERE.set(node);
        }
    });
}

/// The node of the calling thread.
#[inline]
pub(super) fn here() -> Node {
    HERE.get()
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
    let shelves = lock(&SHELVES);
    let mut free = 0;
    for class in 0..CLASSES {
        let depots = DEPOTS.iter().map(|depots| lock(&depots[class]).blocks);
        let mut blocks: usize = depots.sum();
        for seen in shelves.iter() {
            // SAFETY: alive while it stands there, and the lock is held; only atomics are read.
            let magazine = unsafe { &(*seen.0).magazines[class] };
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

/// A block of the calling thread's own node.
#[inline]
pub(super) fn take(class: usize) -> NonNull<u8> {
    OWN.try_with(|own| take_from(own, &own.shelf, class))
        .unwrap_or_else(|_| carve_one(class))
}

/// A block of this node.
#[cold]
#[inline(never)]
pub(super) fn take_on(node: Node, class: usize) -> NonNull<u8> {
    map::begin();
    OWN.try_with(|own| take_from(own, own.shelf_of(node), class))
        .unwrap_or_else(|_| carve_one(class))
}

#[inline(always)]
fn take_from(own: &Own, shelf: &Shelf, class: usize) -> NonNull<u8> {
    let magazine = &shelf.magazines[class];
    if let Some(block) = NonNull::new(magazine.head.get()) {
        // SAFETY: a block in a magazine holds its link (invariant 1).
        let next = unsafe { (*block.as_ptr()).next };
        magazine.head.set(next);
        magazine.set_len(magazine.len() - 1);
        ask_for(next, class);
        return block.cast();
    }
    refill(own, shelf, class)
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
    let kept = OWN.try_with(|own| {
        let shelf = if own.sorts.get() {
            own.shelf_of(map::node_of(block))
        } else {
            &own.shelf
        };
        let magazine = &shelf.magazines[class];
        if magazine.len() >= batch_len(class) {
            spill(own, shelf, class);
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
        depot(map::node_of(block), class).push(free, 1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cold]
#[inline(never)]
fn spill(own: &Own, shelf: &Shelf, class: usize) {
    let magazine = &shelf.magazines[class];
    if magazine.len() == NEW {
        own.look_up();
        return shelf.join();
    }
    let full = magazine.head.replace(null_mut());
    if let Some(older) = NonNull::new(magazine.swap_spare(full)) {
        own.look_up();
        depot(shelf.node.get(), class).push(older, batch_len(class));
    }
    magazine.set_len(0);
}

#[cold]
#[inline(never)]
fn refill(own: &Own, shelf: &Shelf, class: usize) -> NonNull<u8> {
    let magazine = &shelf.magazines[class];
    if magazine.len() == NEW {
        own.look_up();
        shelf.join();
    }
    let batch = match NonNull::new(magazine.swap_spare(null_mut())) {
        Some(spare) => Some((spare, batch_len(class))),
        None if magazine.left() == 0 => {
            own.look_up();
            depot(shelf.node.get(), class).pop()
        }
        None => None,
    };
    if let Some((block, len)) = batch {
        // SAFETY: a batch holds linked blocks that it owns.
        magazine.head.set(unsafe { (*block.as_ptr()).next });
        magazine.set_len(len - 1);
        return block.cast();
    }
    carve(magazine, shelf.node.get(), class)
}

/// A block that was never used: of the thread's chunk, of what another thread has left of its, or of a new one.
fn carve(magazine: &Magazine, node: Node, class: usize) -> NonNull<u8> {
    let size = block_size(class);
    let rest = (magazine.left() == 0).then(|| depot(node, class).pop_rest());
    if let Some((rest, blocks)) = rest.flatten() {
        magazine.bump.set(rest.as_ptr().cast());
        magazine.set_left(blocks as usize * size);
    }
    if magazine.left() == 0 {
        let (chunk, bytes) = if magazine.carved.get() < LARGE_CHUNK {
            let align = if node == Node::NONE { ALIGN } else { PIECE };
            (chunk::take(node, of(CHUNK, align)), CHUNK)
        } else {
            let layout = of(LARGE_CHUNK, LARGE_CHUNK);
            (chunk::take_large(node, layout), LARGE_CHUNK)
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

/// A block for a thread that is ending, of any node: of the depot, or a chunk by itself.
#[cold]
fn carve_one(class: usize) -> NonNull<u8> {
    /// What a chunk is made of.
    const LEAST: usize = 4096;
    let mut depot = depot(Node::NONE, class);
    if let Some((block, len)) = depot.pop() {
        // SAFETY: a batch holds linked blocks that it owns.
        if let Some(rest) = NonNull::new(unsafe { (*block.as_ptr()).next }) {
            depot.push(rest, len - 1);
        }
        return block.cast();
    }
    let size = block_size(class);
    CARVED.fetch_add(size, Ordering::Relaxed);
    let layout = of(size.next_multiple_of(LEAST), ALIGN);
    chunk::take(Node::NONE, layout)
}

fn of(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a chunk has a valid layout")
}
