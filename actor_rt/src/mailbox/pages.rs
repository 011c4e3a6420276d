//! Ring storage: a base with the first page inline, further pages attached as positions reach them.
//!
//! Owns: the slot layout and the attaching and freeing of pages.
//! Does not know: cursors, epochs, who may touch which slot when (see `mailbox`).
//! Invariants:
//! 1. A directory entry goes from null to a page once per life of the base, by compare-exchange.
//! 2. A page is attached with every slot `EMPTY`.
//! 3. Page `k` (from zero) holds ring indices `first << k .. first << (k + 1)`; the inline page holds
//!    `0 .. first`.
#![allow(unsafe_code)]

use crate::slab::{self, Node};
use crate::sync::{AtomicPtr, AtomicU8, Ordering, UnsafeCell};
use std::alloc::Layout;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::{NonNull, null_mut};

/// Nothing to read: not claimed, or claimed and not yet published.
pub(super) const EMPTY: u8 = 0;
/// Holds a message.
pub(super) const FULL: u8 = 1;
/// Its producer panicked between claim and publish: skip it.
pub(super) const TOMBSTONE: u8 = 2;
/// Holds a message from a thread that runs no actors.
pub(super) const FROM_OUTSIDE: u8 = 3;

/// One message place.
pub(super) struct Slot<M> {
    pub(super) state: AtomicU8,
    pub(super) message: UnsafeCell<MaybeUninit<M>>,
}

impl<M> Slot<M> {
    fn empty() -> Self {
        Self {
            state: AtomicU8::new(EMPTY),
            message: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }
}

/// log2 of the inline page's slots: so many that a base with its directory is a block of at most 1 KiB (larger blocks
/// are powers of two), at least four, at most sixteen.
#[inline(always)]
const fn first_log2<M>() -> u32 {
    match size_of::<Slot<M>>() {
        0..=56 => 4,
        57..=112 => 3,
        _ => 2,
    }
}

/// The shape of a mailbox's ring: a function of the message type and of log2 of the ring's capacity.
pub(super) struct Ring<M> {
    first: u32,
    directory: u32,
    message: PhantomData<fn(M)>,
}

impl<M> Clone for Ring<M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M> Copy for Ring<M> {}

impl<M> Ring<M> {
    #[inline(always)]
    pub(super) const fn new(capacity_log2: u32) -> Self {
        let first = if first_log2::<M>() < capacity_log2 {
            first_log2::<M>()
        } else {
            capacity_log2
        };
        Self {
            first,
            directory: capacity_log2 - first,
            message: PhantomData,
        }
    }

    /// Slots of the inline page.
    #[inline(always)]
    pub(super) const fn first_page(self) -> u32 {
        1 << self.first
    }

    #[inline(always)]
    const fn directory_offset(self) -> usize {
        size_of::<Slot<M>>() << self.first
    }

    fn base_layout(self) -> Layout {
        let slots = Layout::array::<Slot<M>>(1 << self.first);
        let directory = Layout::array::<AtomicPtr<Slot<M>>>(self.directory as usize);
        match (slots, directory) {
            // A slot's size is a multiple of its alignment, but that may be less than a pointer's.
            (Ok(slots), Ok(directory)) => match slots.extend(directory) {
                Ok((layout, _)) => layout.pad_to_align(),
                Err(_) => unreachable!("a base is at most a few KiB"),
            },
            _ => unreachable!("a base is at most a few KiB"),
        }
    }

    #[inline(always)]
    fn directory_entry(self, base: NonNull<u8>, page: u32) -> *const AtomicPtr<Slot<M>> {
        debug_assert!(page < self.directory);
        let align = align_of::<AtomicPtr<Slot<M>>>();
        let offset = self.directory_offset().next_multiple_of(align);
        // SAFETY: `base_layout` places `directory` pointers behind the inline slots.
        unsafe {
            base.as_ptr()
                .add(offset)
                .cast::<AtomicPtr<Slot<M>>>()
                .add(page as usize)
        }
    }

    fn page_layout(self, page: u32) -> Layout {
        let Ok(layout) = Layout::array::<Slot<M>>(1 << (self.first + page)) else {
            unreachable!("the builder bounds the mailbox")
        };
        layout
    }

    /// A new base with empty slots and an empty directory, in the memory of `node`.
    #[cold]
    #[inline(never)]
    pub(super) fn new_base(self, node: Node) -> NonNull<u8> {
        let base = slab::take_on(node, self.base_layout());
        for index in 0..1usize << self.first {
            // SAFETY: inside the block just taken, see `base_layout`.
            unsafe { base.cast::<Slot<M>>().add(index).write(Slot::empty()) };
        }
        for page in 0..self.directory {
            let entry = self.directory_entry(base, page).cast_mut();
            // SAFETY: inside the block just taken, see `base_layout`.
            unsafe { entry.write(AtomicPtr::new(null_mut())) };
        }
        base
    }

    /// The slot of ring index `index`, or null while its page is not attached; with it the number of
    /// slots from there to the end of the page.
    ///
    /// # Safety
    /// `base` is a live base of this shape and `index` is below the ring's capacity.
    #[inline(always)]
    pub(super) unsafe fn slot(self, base: NonNull<u8>, index: u32) -> (*mut Slot<M>, u32) {
        if index >> self.first == 0 {
            // SAFETY: the inline page holds `0 .. first`.
            let slot = unsafe { base.cast::<Slot<M>>().as_ptr().add(index as usize) };
            return (slot, self.first_page() - index);
        }
        let page = index.ilog2() - self.first;
        // SAFETY: `index` is below the capacity, so the directory has that page. Acquire pairs with
        // the Release of `attach`.
        let start = unsafe { (*self.directory_entry(base, page)).load(Ordering::Acquire) };
        let length = 1u32 << (self.first + page);
        let offset = index - length;
        if start.is_null() {
            return (start, length - offset);
        }
        // SAFETY: `offset < length`, the page's slots.
        (unsafe { start.add(offset as usize) }, length - offset)
    }

    /// Attaches the page of ring index `index`, in the memory of `node`, unless somebody else does first.
    ///
    /// # Safety
    /// As [`Ring::slot`]; the caller holds a claim in this base, so that nobody frees it.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn attach(self, base: NonNull<u8>, index: u32, node: Node) {
        let page = index.ilog2() - self.first;
        let layout = self.page_layout(page);
        let fresh = slab::take_on(node, layout).cast::<Slot<M>>();
        for offset in 0..1usize << (self.first + page) {
            // SAFETY: inside the block just taken.
            unsafe { fresh.add(offset).write(Slot::empty()) };
        }
        // SAFETY: the caller keeps the base alive.
        let entry = unsafe { &*self.directory_entry(base, page) };
        // Release pairs with the Acquire of `slot`: whoever sees the page sees its empty slots.
        let won = entry.compare_exchange(
            null_mut(),
            fresh.as_ptr(),
            Ordering::Release,
            Ordering::Relaxed,
        );
        if won.is_err() {
            // SAFETY: nobody saw the block.
            unsafe { slab::give(fresh.cast(), layout) };
        }
    }

    /// Whether the slot of ring index `index` holds something.
    ///
    /// # Safety
    /// As [`Ring::slot`]; nobody frees the base meanwhile.
    #[inline]
    pub(super) unsafe fn is_published(self, base: NonNull<u8>, index: u32) -> bool {
        // SAFETY: the caller's.
        let (slot, _) = unsafe { self.slot(base, index) };
        // SAFETY: null or a slot of a live page. Acquire pairs with the Release that published it.
        unsafe { slot.as_ref() }.is_some_and(|slot| slot.state.load(Ordering::Acquire) != EMPTY)
    }

    /// Frees a base and its pages.
    ///
    /// # Safety
    /// `base` is a live base of this shape, nobody else can reach it, and every slot is empty.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn free(self, base: NonNull<u8>) {
        for page in 0..self.directory {
            // SAFETY: exclusively ours. Acquire pairs with the Release of `attach`.
            let start = unsafe { (*self.directory_entry(base, page)).load(Ordering::Acquire) };
            if let Some(start) = NonNull::new(start) {
                // SAFETY: taken in `attach` with this layout.
                unsafe { slab::give(start.cast(), self.page_layout(page)) };
            }
        }
        // SAFETY: taken in `new_base` with this layout.
        unsafe { slab::give(base, self.base_layout()) };
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Bytes of a base for messages of `N` words, in a mailbox of 65,536.
    fn base_bytes<const N: usize>() -> usize {
        Ring::<[u64; N]>::new(16).base_layout().size()
    }

    #[test]
    fn a_base_is_a_block_of_a_kib_at_most() {
        let up_to_inline = [base_bytes::<1>(), base_bytes::<7>(), base_bytes::<8>()];
        let beyond = [base_bytes::<13>(), base_bytes::<25>()];
        for bytes in up_to_inline.into_iter().chain(beyond) {
            assert!(bytes <= 1024, "{bytes}");
        }
    }

    #[test]
    fn pages_are_of_the_node_that_is_named() {
        let node = Node::numbered(30);
        let ring = Ring::<u64>::new(10);
        let base = ring.new_base(node);
        assert_eq!(slab::node_of(base), node);
        for index in [16, 32, 512] {
            // SAFETY: a live base of this shape, and nobody else has it.
            let slot = unsafe {
                ring.attach(base, index, node);
                ring.slot(base, index).0
            };
            let slot = NonNull::new(slot).expect("just attached");
            assert_eq!(slab::node_of(slot.cast()), node, "page of {index}");
        }
        // SAFETY: as above, and nothing was written.
        unsafe { ring.free(base) };
    }
}
