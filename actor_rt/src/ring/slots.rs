//! The storage of a ring: a power of two of maybe-initialised cells, addressed by sequence number.
//!
//! Owns: the memory, and the arithmetic from a sequence number to a cell.
//! Does not know: which cells are initialised or who may touch them; that is the protocol of each ring.
//! Therefore every access is `unsafe` and says what the caller must hold, and dropping `Slots` drops no item.
//!
//! Under `cfg(loom)` every access is also reported to the model checker, cell by cell.
#![allow(unsafe_code)]

use crate::prefetch;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

#[cfg(loom)]
use loom::cell::UnsafeCell as Tracked;

/// The largest capacity: a run of slots must fit into the length word of [`super::mpsc`].
pub(super) const MAX_CAPACITY: usize = 1 << 30;

pub struct Slots<T> {
    cells: Box<[UnsafeCell<MaybeUninit<T>>]>,
    mask: u64,
    #[cfg(loom)]
    tracked: Box<[Tracked<()>]>,
}

// SAFETY: `Slots` hands out its cells only through unsafe functions, whose callers (the rings) make sure that
// a cell is reached by one thread at a time; a value then moves between threads, which `T: Send` allows.
// Rings that share `&T` between threads ask for `T: Sync` themselves.
unsafe impl<T: Send> Sync for Slots<T> {}
// SAFETY: owning the cells is owning the values in them.
unsafe impl<T: Send> Send for Slots<T> {}

impl<T> Slots<T> {
    /// `capacity` is rounded up to a power of two.
    ///
    /// # Panics
    /// When `capacity` is zero or above 2^30.
    pub(super) fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a ring needs room for at least one item");
        assert!(
            capacity <= MAX_CAPACITY,
            "a ring of {capacity} slots is above the limit of {MAX_CAPACITY}"
        );
        let capacity = capacity.next_power_of_two();
        Self {
            cells: (0..capacity)
                .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
                .collect(),
            mask: capacity as u64 - 1,
            #[cfg(loom)]
            tracked: (0..capacity).map(|_| Tracked::new(())).collect(),
        }
    }

    #[inline]
    pub(super) fn capacity(&self) -> u64 {
        self.mask + 1
    }

    #[inline]
    pub(super) fn index(&self, seq: u64) -> usize {
        (seq & self.mask) as usize
    }

    /// Where this cell begins. The pointer is good for all the cells, so that runs of them can be made from it.
    #[inline]
    fn cell(&self, seq: u64) -> *mut MaybeUninit<T> {
        let index = self.index(seq);
        debug_assert!(index < self.cells.len());
        // SAFETY: the mask is the length minus one, so that `index` is always in bounds.
        UnsafeCell::raw_get(unsafe { self.cells.as_ptr().add(index) })
    }

    /// Asks for the line of this cell, to be read soon.
    #[inline]
    pub(super) fn prefetch_for_read(&self, seq: u64) {
        prefetch::for_read(self.cell(seq));
    }

    /// Asks for the line of this cell, to be written soon.
    #[inline]
    pub(super) fn prefetch(&self, seq: u64) {
        prefetch::for_write(self.cell(seq));
    }

    #[cfg(loom)]
    fn note_write(&self, seq: u64) {
        self.tracked[self.index(seq)].with_mut(|_| ());
    }

    #[cfg(loom)]
    fn note_read(&self, seq: u64) {
        self.tracked[self.index(seq)].with(|_| ());
    }

    /// # Safety
    /// The caller alone may touch this cell now; a value in it is forgotten.
    #[inline]
    pub(super) unsafe fn write(&self, seq: u64, value: T) {
        #[cfg(loom)]
        self.note_write(seq);
        // SAFETY: exclusive by the caller's promise; the pointer is in bounds and aligned.
        unsafe { self.cell(seq).write(MaybeUninit::new(value)) };
    }

    /// # Safety
    /// The caller alone may touch this cell now, it is initialised, and it is not read again before a write.
    #[inline]
    pub(super) unsafe fn take(&self, seq: u64) -> T {
        #[cfg(loom)]
        self.note_write(seq);
        // SAFETY: exclusive and initialised by the caller's promise.
        let value = unsafe { self.cell(seq).read() };
        // SAFETY: initialised by the caller's promise.
        unsafe { value.assume_init() }
    }

    /// # Safety
    /// The cell is initialised and nobody writes it while the reference lives.
    #[inline]
    pub(super) unsafe fn get(&self, seq: u64) -> &T {
        #[cfg(loom)]
        self.note_read(seq);
        // SAFETY: no writer by the caller's promise.
        let cell = unsafe { &*self.cell(seq) };
        // SAFETY: initialised by the caller's promise.
        unsafe { cell.assume_init_ref() }
    }

    /// The `count` items from `seq` on as two slices, the second empty unless the range wraps.
    ///
    /// # Safety
    /// `count` is at most the capacity, every cell of the range is initialised, and nobody writes them while the
    /// slices live.
    #[inline]
    pub(super) unsafe fn slices(&self, seq: u64, count: u64) -> (&[T], &[T]) {
        #[cfg(loom)]
        (0..count).for_each(|offset| self.note_read(seq.wrapping_add(offset)));
        let (first, second) = self.split(seq, count);
        // SAFETY: `split` keeps the range in bounds; initialised and unwritten by the caller's promise.
        let front = unsafe { std::slice::from_raw_parts(self.cell(seq).cast(), first) };
        // SAFETY: as above; the second part starts at the first cell.
        let back = unsafe { std::slice::from_raw_parts(self.cell(0).cast(), second) };
        (front, back)
    }

    /// The `count` cells from `seq` on as two slices, the second empty unless the range wraps.
    ///
    /// # Safety
    /// `count` is at most the capacity and the caller alone may touch these cells while the slices live.
    #[inline]
    #[allow(clippy::mut_from_ref)] // Exclusive by the claim that the caller holds, as with `UnsafeCell::get`.
    pub(super) unsafe fn uninit(
        &self,
        seq: u64,
        count: u64,
    ) -> (&mut [MaybeUninit<T>], &mut [MaybeUninit<T>]) {
        #[cfg(loom)]
        (0..count).for_each(|offset| self.note_write(seq.wrapping_add(offset)));
        let (first, second) = self.split(seq, count);
        // SAFETY: `split` keeps the range in bounds; exclusive by the caller's promise.
        let front = unsafe { std::slice::from_raw_parts_mut(self.cell(seq), first) };
        // SAFETY: as above, and `count <= capacity` keeps the two parts apart.
        let back = unsafe { std::slice::from_raw_parts_mut(self.cell(0), second) };
        (front, back)
    }

    /// Writes items of `items` into the free cells `from..to`, counting each in `*next` as soon as it is
    /// whole, so that a panic of the iterator leaves `from..*next` initialised and nothing else.
    ///
    /// # Safety
    /// The caller alone may touch the cells `*next..to`, at most a capacity of them.
    #[inline]
    pub(super) unsafe fn fill(&self, next: &mut u64, to: u64, items: impl IntoIterator<Item = T>) {
        let mut items = items.into_iter();
        // SAFETY: the caller's promise.
        let (front, back) = unsafe { self.uninit(*next, to.wrapping_sub(*next)) };
        for part in [front, back] {
            for cell in part {
                let Some(item) = items.next() else { return };
                cell.write(item);
                *next = next.wrapping_add(1);
            }
        }
    }

    /// Takes the items `*next..to` and hands each to `each`. An item is counted in `*next` before it is
    /// handed over, so that a panic of `each` neither repeats nor loses another one.
    ///
    /// # Safety
    /// The caller alone may touch the cells `*next..to`, at most a capacity of them, all initialised.
    #[inline]
    pub(super) unsafe fn drain(&self, next: &mut u64, to: u64, mut each: impl FnMut(T)) {
        // SAFETY: the caller's promise.
        let (front, back) = unsafe { self.uninit(*next, to.wrapping_sub(*next)) };
        for part in [front, back] {
            for cell in part {
                *next = next.wrapping_add(1);
                // SAFETY: initialised by the caller's promise, and counted as taken above.
                each(unsafe { cell.assume_init_read() });
            }
        }
    }

    fn split(&self, seq: u64, count: u64) -> (usize, usize) {
        debug_assert!(count <= self.capacity());
        let first = (self.cells.len() - self.index(seq)).min(count as usize);
        (first, count as usize - first)
    }
}

/// Calls `step`, which takes and drops one item, until it answers `false`: also after a panic, so that every
/// item is dropped exactly once when a `Drop` unwinds. A second panic aborts, as with `Vec`.
///
/// `step` must count an item as gone before it drops it.
pub(super) fn drop_all(step: impl FnMut() -> bool) {
    struct Rest<F: FnMut() -> bool>(F);
    impl<F: FnMut() -> bool> Drop for Rest<F> {
        fn drop(&mut self) {
            while (self.0)() {}
        }
    }
    let mut rest = Rest(step);
    while (rest.0)() {}
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn capacities_are_powers_of_two() {
        assert_eq!(Slots::<u8>::new(1).capacity(), 1);
        assert_eq!(Slots::<u8>::new(5).capacity(), 8);
        assert_eq!(Slots::<u8>::new(64).capacity(), 64);
    }

    #[test]
    #[should_panic(expected = "at least one item")]
    fn zero_capacity_is_refused() {
        Slots::<u8>::new(0);
    }

    #[test]
    fn a_range_wraps_into_two_slices() {
        let slots = Slots::new(4);
        let start = u64::MAX - 1;
        for offset in 0..4 {
            // SAFETY: one thread, empty cells.
            unsafe { slots.write(start.wrapping_add(offset), offset) };
        }
        // SAFETY: all four were written above.
        let (front, back) = unsafe { slots.slices(start, 4) };
        assert_eq!((front, back), (&[0, 1][..], &[2, 3][..]));
    }
}
