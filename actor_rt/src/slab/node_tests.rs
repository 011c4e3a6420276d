//! Nodes that no machine here has: what goes by a node's number is all there, only the memory is the same.
//!
//! Every test has nodes of its own, so that no other test takes what it looks for.

use super::tests::COUNTING;
use super::*;
use std::collections::HashSet;

/// Blocks on their way to another thread.
struct Blocks(Vec<NonNull<u8>>);
// SAFETY: whoever holds them owns them.
unsafe impl Send for Blocks {}

impl Blocks {
    fn take(layout: Layout, count: usize) -> Self {
        Self((0..count).map(|_| take(layout)).collect())
    }

    fn give(self, layout: Layout) {
        for block in self.0 {
            // SAFETY: taken with the same layout, used by nobody else.
            unsafe { give(block, layout) };
        }
    }

    fn are_of(&self, node: Node) -> bool {
        self.0.iter().all(|&block| node_of(block) == node)
    }

    fn addresses(&self) -> HashSet<usize> {
        self.0.iter().map(|block| block.addr().get()).collect()
    }
}

/// What `work` returns on a new thread of `node`.
fn on<T: Send>(node: Node, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            settle(node);
            assert_eq!(here(), node);
            work()
        });
        thread.join().expect("no panic")
    })
}

const SIZES: [usize; 3] = [64, 960, LARGEST];
const COUNT: usize = if cfg!(miri) { 40 } else { 600 };

fn layout_of(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("valid")
}

#[test]
fn a_block_that_is_freed_on_another_node_goes_home() {
    let (near, far) = (Node::numbered(20), Node::numbered(21));
    for layout in SIZES.map(layout_of) {
        let blocks = on(near, || Blocks::take(layout, COUNT));
        assert!(blocks.are_of(near));
        let freed = blocks.addresses();
        let taken = on(far, || {
            blocks.give(layout);
            Blocks::take(layout, COUNT)
        });
        assert!(taken.are_of(far), "what was freed there stays away");
        let again = on(near, || Blocks::take(layout, COUNT));
        assert!(again.are_of(near));
        assert_eq!(again.addresses(), freed, "found again at home");
        again.give(layout);
        taken.give(layout);
    }
}

#[test]
fn a_thread_without_a_node_sends_blocks_home_too() {
    let node = Node::numbered(22);
    let layout = layout_of(320);
    let blocks = on(node, || Blocks::take(layout, COUNT));
    let freed = blocks.addresses();
    on(Node::NONE, || blocks.give(layout));
    let again = on(node, || Blocks::take(layout, COUNT));
    assert_eq!(again.addresses(), freed);
    again.give(layout);
}

#[test]
fn a_block_is_of_the_node_that_it_is_asked_for() {
    let (here, there) = (Node::numbered(23), Node::numbered(24));
    let layout = layout_of(1024);
    let blocks = on(here, || {
        let far = Blocks((0..COUNT).map(|_| take_on(there, layout)).collect());
        assert!(far.are_of(there));
        let own = Blocks((0..COUNT).map(|_| take_on(Node::NONE, layout)).collect());
        assert!(own.are_of(here), "nobody in particular is oneself");
        own.give(layout);
        far
    });
    let freed = blocks.addresses();
    on(here, || blocks.give(layout));
    let again = on(there, || Blocks::take(layout, COUNT));
    assert_eq!(again.addresses(), freed);
    again.give(layout);
}

#[test]
fn what_lies_on_the_shelf_of_another_node_is_not_in_use() {
    let _alone = COUNTING.lock();
    let layout = layout_of(LARGEST);
    let count = if cfg!(miri) { 20 } else { 4000 };
    let least = LARGEST * count / 2;
    let before = figures().1;
    let blocks = on(Node::numbered(25), || Blocks::take(layout, count));
    assert!(figures().1 >= before + least);
    let after = on(Node::numbered(26), || {
        blocks.give(layout);
        figures().1
    });
    assert!(after < before + least, "{after} after {before}");
}

#[test]
fn a_node_too_many_is_none() {
    assert_ne!(Node::numbered(62), Node::NONE);
    for number in [63, 255, 256, u32::MAX] {
        assert_eq!(Node::numbered(number), Node::NONE);
    }
    let distinct: HashSet<_> = (0..63).map(|n| Node::numbered(n).number()).collect();
    assert_eq!(distinct.len(), 63);
    let layout = layout_of(64);
    on(Node::numbered(63), || {
        Blocks::take(layout, COUNT).give(layout);
    });
}

#[test]
fn who_has_held_blocks_stays_where_it_was() {
    let layout = layout_of(64);
    on(Node::NONE, || {
        Blocks::take(layout, 1).give(layout);
        settle(Node::numbered(27));
        assert_eq!(here(), Node::NONE);
    });
}

#[test]
fn what_a_thread_leaves_of_its_chunk_is_the_next_ones() {
    const THREADS: usize = 30;
    let node = Node::numbered(28);
    // Of 64 KiB, and where a thread needs many, of 2 MiB.
    let many = if cfg!(miri) { 2 } else { 130 };
    for (size, count) in [(704, 1), (16 * 1024, many)] {
        let layout = layout_of(size);
        let threads = (0..THREADS).map(|_| on(node, || Blocks::take(layout, count)));
        // They are all kept, so none of them is used again.
        let threads: Vec<_> = threads.collect();
        let blocks: HashSet<_> = threads.iter().flat_map(Blocks::addresses).collect();
        assert_eq!(blocks.len(), THREADS * count);
        let pieces: HashSet<_> = blocks.iter().map(|address| address / map::PIECE).collect();
        // As many as they fill, and the ends of chunks.
        let filled = (blocks.len() * size).div_ceil(map::PIECE);
        assert!(
            pieces.len() <= 2 * filled,
            "{} pieces for {filled}",
            pieces.len()
        );
        threads.into_iter().for_each(|blocks| blocks.give(layout));
    }
}
