//! Memory for the length of one batch.
//!
//! Owns: the bump arena of a turn: taken from the thread at its first use, reset and given back when the
//! turn's context goes.
//! Does not know: what is put into it. Nothing in it is dropped, only forgotten.
//! Invariant: an arena belongs to one context at a time, so what a handler borrows from it cannot be reset
//! under its hands, not even if turns nest.

use bumpalo::Bump;
use std::cell::{Cell, OnceCell};

/// Most bytes that a thread keeps between batches.
const KEPT_BYTES: usize = 1 << 20;

thread_local! {
    static SPARE: Cell<Option<Box<Bump>>> = const { Cell::new(None) };
}

/// A place for a batch's arena.
#[derive(Default)]
pub(crate) struct Arena(OnceCell<Box<Bump>>);

impl Arena {
    pub(crate) fn get(&self) -> &Bump {
        self.0.get_or_init(|| SPARE.take().unwrap_or_default())
    }
}

impl Drop for Arena {
    #[inline]
    fn drop(&mut self) {
        if let Some(bump) = self.0.take() {
            give_back(bump);
        }
    }
}

#[cold]
fn give_back(mut bump: Box<Bump>) {
    bump.reset();
    if bump.allocated_bytes() <= KEPT_BYTES {
        // A thread that ends has no more use for it.
        let _ = SPARE.try_with(|spare| spare.set(Some(bump)));
    }
}
