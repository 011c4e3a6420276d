//! Boxes from the slabs of the workers.
//!
//! Owns: [`Pooled`]. Does not know: where blocks come from and go (see `slab`).
//! Invariant: `place` was taken with the layout of `T`, holds a live `T`, and belongs to one `Pooled`.
#![allow(unsafe_code)]

use crate::slab;
use std::alloc::Layout;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// A box whose memory comes from the slab of the calling worker and goes back to that of the worker that
/// drops it: for payloads above a cache line. Once warm, making and dropping one allocates nothing.
///
/// ```
/// use actor_rt::{Actor, Context, Pooled, Reply, System};
///
/// struct Frame { pixels: [u8; 900] }
/// enum Msg { Frame(Pooled<Frame>), Brightness(Reply<u64>) }
///
/// struct Screen { sum: u64 }
/// impl Actor for Screen {
///     type Msg = Msg;
///     fn handle(&mut self, msg: Msg, _ctx: &mut Context<'_, Self>) {
///         match msg {
///             Msg::Frame(frame) => self.sum += frame.pixels.iter().map(|&p| u64::from(p)).sum::<u64>(),
///             Msg::Brightness(reply) => reply.send(self.sum),
///         }
///     }
/// }
///
/// let system = System::new()?;
/// let screen = system.spawn(|| Screen { sum: 0 });
/// screen.tell(Msg::Frame(Pooled::new(Frame { pixels: [2; 900] }))).expect("room");
/// assert_eq!(screen.ask(Msg::Brightness).wait()?, 1800);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pooled<T> {
    place: NonNull<T>,
    owns: PhantomData<T>,
}

// SAFETY: it owns its value, as a box does.
unsafe impl<T: Send> Send for Pooled<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Pooled<T> {}

impl<T> Pooled<T> {
    const LAYOUT: Layout = Layout::new::<T>();

    /// Moves a value into a block of the pool.
    #[inline]
    pub fn new(value: T) -> Self {
        let place = if Self::LAYOUT.size() == 0 {
            NonNull::dangling()
        } else {
            slab::take(Self::LAYOUT).cast::<T>()
        };
        // SAFETY: a fresh block of this layout, or no bytes at all.
        unsafe { place.write(value) };
        Self {
            place,
            owns: PhantomData,
        }
    }

    /// The value; the block goes back to the pool.
    #[inline]
    #[must_use]
    pub fn into_inner(self) -> T {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: live by the invariant, and read once: nothing drops `this`.
        let value = unsafe { this.place.read() };
        // SAFETY: the value has left the block, which nobody else knows.
        unsafe { Self::give_back(this.place) };
        value
    }

    /// The block, whose value nobody drops from now on.
    #[inline]
    pub(crate) fn into_raw(self) -> NonNull<T> {
        std::mem::ManuallyDrop::new(self).place
    }

    /// The box of a block.
    ///
    /// # Safety
    /// It came from [`Self::into_raw`], once, and its value is live.
    #[inline]
    pub(crate) unsafe fn from_raw(place: NonNull<T>) -> Self {
        Self {
            place,
            owns: PhantomData,
        }
    }

    /// # Safety
    /// The value has been dropped or moved, and nobody uses the block any more.
    #[inline]
    unsafe fn give_back(place: NonNull<T>) {
        if Self::LAYOUT.size() != 0 {
            // SAFETY: taken with this layout in `new`.
            unsafe { slab::give(place.cast(), Self::LAYOUT) };
        }
    }
}

impl<T> Drop for Pooled<T> {
    #[inline]
    fn drop(&mut self) {
        /// Gives the block back also when the value's drop panics.
        struct Block<T>(NonNull<T>);
        impl<T> Drop for Block<T> {
            fn drop(&mut self) {
                // SAFETY: the value is gone or beyond use, and the block is ours.
                unsafe { Pooled::give_back(self.0) };
            }
        }
        let block = Block(self.place);
        // SAFETY: live by the invariant, dropped once.
        unsafe { block.0.drop_in_place() };
    }
}

impl<T> Deref for Pooled<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: live by the invariant.
        unsafe { self.place.as_ref() }
    }
}

impl<T> DerefMut for Pooled<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: live by the invariant, and borrowed by us alone.
        unsafe { self.place.as_mut() }
    }
}

impl<T> From<T> for Pooled<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Clone> Clone for Pooled<T> {
    fn clone(&self) -> Self {
        Self::new((**self).clone())
    }
}

impl<T: PartialEq> PartialEq for Pooled<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}
impl<T: Eq> Eq for Pooled<T> {}

impl<T: Default> Default for Pooled<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for Pooled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;

    #[test]
    fn a_value_is_dropped_once_however_its_box_ends() {
        let counted = Rc::new(());
        let boxed = Pooled::new((Rc::clone(&counted), [7_u64; 30]));
        assert_eq!(boxed.1[29], 7);
        let (inner, _) = boxed.into_inner();
        assert_eq!(Rc::strong_count(&counted), 2);
        drop(Pooled::new(inner));
        assert_eq!(Rc::strong_count(&counted), 1);
    }

    #[test]
    fn empty_large_and_strictly_aligned_values_fit() {
        #[repr(align(256))]
        struct Aligned(u8);
        drop(Pooled::new(()));
        assert_eq!(Pooled::new([1_u8; 100_000]).len(), 100_000);
        let mut aligned = Pooled::new(Aligned(1));
        aligned.0 += 1;
        assert_eq!((&raw const *aligned).addr() % 256, 0);
        assert_eq!(aligned.into_inner().0, 2);
    }

    #[test]
    fn a_drop_that_panics_gives_the_block_back() {
        struct Angry([u64; 50]);
        impl Drop for Angry {
            fn drop(&mut self) {
                assert_eq!(self.0[0], 1, "as told");
            }
        }
        let boxed = Pooled::new(Angry([0; 50]));
        let block = (&raw const *boxed).addr();
        assert!(catch_unwind(AssertUnwindSafe(|| drop(boxed))).is_err());
        let next = Pooled::new(Angry([1; 50]));
        assert_eq!((&raw const *next).addr(), block, "the thread's last block");
    }
}
