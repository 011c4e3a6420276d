//! What writing an index down takes of the heap, whatever number of blobs there is. One test, for the
//! allocator counts the whole process.

use std::alloc::{GlobalAlloc, Layout, System as Malloc};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use actor_rt::System;
use cas_actor::{Durability, Store, StoreConfig};

/// Blobs. Their table is 12 MB.
const BLOBS: u32 = 230_000;
/// Four bytes for the last use of each, a reference to each change since the last table, pieces of both
/// tables.
const MOST_BYTES: usize = 3 * 1024 * 1024;

/// Counts what is in use, and the most that was since the count was made.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = IN_USE.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(now, Relaxed);
        // SAFETY: upheld by the caller.
        unsafe { Malloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: upheld by the caller.
        unsafe { Malloc.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The whole table was built in memory, beside a copy of all changes.
#[test]
fn writing_an_index_down_takes_little_memory() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let mut config = StoreConfig {
        shards: 1,
        durability: Durability::Volatile,
        ..StoreConfig::new(directory.path())
    };
    config.memory.capacity_bytes = 0;
    let open = || Store::open(config.clone(), &system).unwrap();
    let store = open();
    thread::scope(|scope| {
        for writer in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for number in (writer..BLOBS).step_by(4) {
                    store.blocking().put(number.to_le_bytes().to_vec()).unwrap();
                }
            });
        }
    });
    let index = directory.path().join("packs/0/index");
    let index_bytes = || std::fs::metadata(&index).unwrap().len();
    let before = index_bytes();
    let in_use = IN_USE.load(Relaxed);
    MOST.store(in_use, Relaxed);
    store.blocking().close();
    let most = MOST.load(Relaxed) - in_use;
    assert!(before < index_bytes() && index_bytes() > u64::from(BLOBS) * 52);
    assert!(most <= MOST_BYTES, "{most} bytes");
    let stats = open().blocking().stats().unwrap();
    assert_eq!(stats.blobs, u64::from(BLOBS));
}
