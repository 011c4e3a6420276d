//! An allocator that counts: how often something allocates, and how much is alive, now and at most.
//!
//! Owns: the counters. Does not know: who allocates. While counting is off it adds one relaxed load to each call.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counts what goes through the system's allocator.
pub struct Counting;

static ON: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Allocations.
    pub allocations: u64,
    /// Bytes allocated in all.
    pub bytes: u64,
    /// Most bytes alive at a time, of those allocated while counting.
    pub peak_bytes: u64,
}

/// Counts while `body` runs, on all threads. Zero unless the program installed [`Counting`].
pub fn count<T>(body: impl FnOnce() -> T) -> (Counts, T) {
    let watch = Watch::begin();
    let value = body();
    drop(watch);
    let counts = Counts {
        allocations: COUNT.load(Ordering::Relaxed),
        bytes: BYTES.load(Ordering::Relaxed),
        peak_bytes: PEAK.load(Ordering::Relaxed),
    };
    (counts, value)
}

/// Allocations since counting began; none while nobody counts, or unless the program installed [`Counting`].
pub fn so_far() -> Option<u64> {
    let count = COUNT.load(Ordering::Relaxed);
    (ON.load(Ordering::Relaxed) && count > 0).then_some(count)
}

/// Counting that goes on until this is dropped.
pub struct Watch(());

impl Watch {
    /// Begins to count from zero.
    pub fn begin() -> Self {
        for counter in [&COUNT, &BYTES, &FREED, &PEAK] {
            counter.store(0, Ordering::Relaxed);
        }
        ON.store(true, Ordering::SeqCst);
        Self(())
    }

    /// Bytes allocated and not freed since then; negative when older ones were freed. `None` unless the program
    /// installed [`Counting`].
    pub fn live_bytes(&self) -> Option<i64> {
        let taken = BYTES.load(Ordering::Relaxed);
        (taken > 0).then(|| {
            taken
                .wrapping_sub(FREED.load(Ordering::Relaxed))
                .cast_signed()
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        ON.store(false, Ordering::SeqCst);
    }
}

fn took(bytes: usize) {
    if ON.load(Ordering::Relaxed) {
        COUNT.fetch_add(1, Ordering::Relaxed);
        let total = BYTES.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        PEAK.fetch_max(
            total.saturating_sub(FREED.load(Ordering::Relaxed)),
            Ordering::Relaxed,
        );
    }
}

fn gave(bytes: usize) {
    if ON.load(Ordering::Relaxed) {
        FREED.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        gave(layout.size());
        took(size);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        gave(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) };
    }
}
