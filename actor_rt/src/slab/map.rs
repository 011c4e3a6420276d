//! Which memory is which node's: a table of two levels, of which only what nodes' chunks lie in is ever written.
//!
//! Owns: the table.
//! Does not know: who takes chunks, and how they come to be in a node's memory.
//! Invariant: chunks are never given back, so an entry is written once, before the first block of its chunk is handed out. Who
//! has a block therefore sees its node, however the block came to it.

use super::node::Node;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};

/// Chunks that belong to a node begin at a multiple of this, and consist of such pieces.
pub(super) const PIECE: usize = 64 * 1024;

/// Pieces of 4 GiB.
const LEAF: usize = 1 << 16;
/// Leaves of 256 TiB: all addresses that a process has. What lies beyond belongs to no node.
const LEAVES: usize = 1 << 16;

type Leaf = [AtomicU8; LEAF];

static ROOT: [AtomicPtr<Leaf>; LEAVES] = [const { AtomicPtr::new(null_mut()) }; LEAVES];

/// Whether anything was or will be entered.
static IN_USE: AtomicBool = AtomicBool::new(false);

/// From now on memory may belong to a node.
pub(super) fn begin() {
    IN_USE.store(true, Ordering::Relaxed);
}

/// Whether memory may belong to a node.
pub(super) fn in_use() -> bool {
    IN_USE.load(Ordering::Relaxed)
}

/// Leaf and piece of an address.
fn place(address: usize) -> (usize, usize) {
    let piece = address / PIECE;
    (piece / LEAF, piece % LEAF)
}

/// Enters that so many bytes from here belong to `node`.
pub(super) fn enter(chunk: NonNull<u8>, bytes: usize, node: Node) {
    let first = chunk.addr().get();
    debug_assert!(first.is_multiple_of(PIECE) && bytes.is_multiple_of(PIECE));
    for address in (first..first + bytes).step_by(PIECE) {
        let (leaf, piece) = place(address);
        if let Some(root) = ROOT.get(leaf) {
            grown(root)[piece].store(node.index(), Ordering::Relaxed);
        }
    }
}

/// The leaf, made if there is none yet.
fn grown(root: &AtomicPtr<Leaf>) -> &'static Leaf {
    // Acquire pairs with the Release below: the leaf's zeros are seen.
    if root.load(Ordering::Acquire).is_null() {
        // Not by way of the stack, which may be small.
        let fresh = Box::<Leaf>::new_zeroed();
        // SAFETY: zeros are a leaf.
        let fresh = Box::into_raw(unsafe { fresh.assume_init() });
        let won = root.compare_exchange(null_mut(), fresh, Ordering::Release, Ordering::Relaxed);
        if won.is_err() {
            // SAFETY: nobody saw it.
            drop(unsafe { Box::from_raw(fresh) });
        }
    }
    // SAFETY: not null any more, and never given back.
    unsafe { &*root.load(Ordering::Acquire) }
}

/// Whose memory a block lies in.
pub(crate) fn node_of(block: NonNull<u8>) -> Node {
    let (leaf, piece) = place(block.addr().get());
    // Acquire as above.
    let leaf = ROOT.get(leaf).map(|root| root.load(Ordering::Acquire));
    // SAFETY: null, or a leaf, which is never given back.
    let leaf = leaf.and_then(|leaf| unsafe { leaf.as_ref() });
    leaf.map_or(Node::NONE, |leaf| {
        Node::at(leaf[piece].load(Ordering::Relaxed))
    })
}
