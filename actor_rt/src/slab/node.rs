//! NUMA nodes, as memory goes by them.
//!
//! Owns: their names, and a place to keep one that several threads look at.
//! Does not know: which thread, worker or chunk is where.

use std::sync::atomic::{AtomicU8, Ordering};

/// So many can be told apart, [`Node::NONE`] included.
pub(super) const NODES: usize = 64;

/// A NUMA node that threads and memory can belong to, or none in particular.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node(u8);

impl Node {
    /// Wherever the kernel puts it: all there is on a machine with one node.
    pub(crate) const NONE: Self = Self(0);

    /// The node that the kernel calls so; none if its number is too large to be told apart, which costs speed.
    pub(crate) fn numbered(number: u32) -> Self {
        match u8::try_from(number) {
            Ok(number) if usize::from(number) + 1 < NODES => Self(number + 1),
            _ => Self::NONE,
        }
    }

    /// What the kernel calls it.
    #[cfg(not(loom))]
    pub(super) fn number(self) -> Option<u8> {
        self.0.checked_sub(1)
    }

    /// Below [`NODES`].
    #[cfg(not(loom))]
    pub(super) fn index(self) -> u8 {
        self.0
    }

    /// The node with this index.
    #[cfg(not(loom))]
    pub(super) fn at(index: u8) -> Self {
        Self(index)
    }
}

/// The node of something that moves. A hint, so it takes no part in any ordering: whoever reads it late takes slower memory.
#[derive(Debug)]
pub(crate) struct Home(AtomicU8);

impl Home {
    #[inline]
    pub(crate) const fn new(node: Node) -> Self {
        Self(AtomicU8::new(node.0))
    }

    #[inline]
    pub(crate) fn get(&self) -> Node {
        Node(self.0.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn set(&self, node: Node) {
        self.0.store(node.0, Ordering::Relaxed);
    }
}
