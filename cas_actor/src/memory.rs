//! The memory tier: recently used small blobs, weighed in bytes, and the open files of large ones.
//!
//! Owns: which blobs stay in memory and for how long.
//! Does not know: the disk, or which blobs exist.
//! Invariants: the weight never exceeds the capacity; an entry is served neither after its time
//! to live nor after its time to idle; the list holds exactly the slots that the map points to.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Release};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::blob::Blob;
use crate::digest::HASH_BYTES;
use crate::layout::Kind;
use crate::open_files::OpenFiles;
use crate::seen::Stamp;
use crate::uses::{Clock, Uses};

/// What an entry costs beside its bytes at most: its slot and its place in the map, both of which
/// may just have doubled, and two allocations for the buffer.
const ENTRY_OVERHEAD_BYTES: u64 = 320;
/// No slot.
const NONE: u32 = u32::MAX;

/// Limits of the memory tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryConfig {
    /// Bytes that the tier may hold, over all shards. 0 switches it off.
    pub capacity_bytes: u64,
    /// Larger blobs are not admitted.
    pub admit_up_to_bytes: u64,
    /// An entry is dropped this long after it came in.
    pub time_to_live: Duration,
    /// An entry is dropped this long after it was last read.
    pub time_to_idle: Duration,
}

/// Digests are uniform already: eight of their bytes are the hash. Not the first eight, whose
/// high bits are the same all over a shard.
#[derive(Default)]
pub(crate) struct DigestBytes(u64);

/// Makes maps whose keys are digests.
pub(crate) type DigestBuild = BuildHasherDefault<DigestBytes>;

impl Hasher for DigestBytes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(Ok(word)) = bytes.get(8..16).map(<[u8; 8]>::try_from) {
            self.0 = u64::from_le_bytes(word);
        }
    }
}

type Key = [u8; HASH_BYTES];

struct Slot {
    key: Key,
    blob: Blob,
    admitted: Instant,
    used: Instant,
    newer: u32,
    older: u32,
}

/// A least-recently-used cache of blobs.
pub(crate) struct MemoryTier {
    config: MemoryConfig,
    map: HashMap<Key, u32, DigestBuild>,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    newest: u32,
    oldest: u32,
    weight_bytes: u64,
    files: OpenFiles,
    removals: Arc<CachePadded<AtomicU64>>,
    /// Where the last use goes of what is dropped.
    uses: Arc<Uses>,
}

impl MemoryTier {
    pub(crate) fn new(config: MemoryConfig) -> Self {
        Self {
            config,
            map: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
            weight_bytes: 0,
            files: OpenFiles::new(config.time_to_idle),
            removals: Arc::default(),
            uses: Arc::default(),
        }
    }

    /// Counts the calls of [`remove`](Self::remove): who keeps what was found here looks at that.
    pub(crate) fn removals(&self) -> Arc<CachePadded<AtomicU64>> {
        Arc::clone(&self.removals)
    }

    /// Uses that the shard does not know.
    pub(crate) fn noted_uses(&self) -> Arc<Uses> {
        Arc::clone(&self.uses)
    }

    /// Bytes held, overhead included.
    pub(crate) fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Blobs held.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether a blob of this size would be taken in.
    pub(crate) fn admits(&self, size_bytes: u64) -> bool {
        size_bytes <= self.config.admit_up_to_bytes
            && size_bytes + ENTRY_OVERHEAD_BYTES <= self.config.capacity_bytes
    }

    /// The blob, if it is here and fresh; it becomes the most recently used.
    pub(crate) fn get(&mut self, key: &Key, now: Instant) -> Option<Blob> {
        let Some(&index) = self.map.get(key) else {
            return self.files.get(key, now);
        };
        let config = self.config;
        let slot = self.slot(index);
        if now.saturating_duration_since(slot.admitted) >= config.time_to_live
            || now.saturating_duration_since(slot.used) >= config.time_to_idle
        {
            self.take_out(key);
            return None;
        }
        slot.used = now;
        let blob = slot.blob.clone();
        if self.newest != index {
            self.unlink(index);
            self.link_newest(index);
        }
        Some(blob)
    }

    /// When a blob was last read here, or came in; not a use.
    pub(crate) fn last_use(&self, key: &Key) -> Option<Instant> {
        match self.map.get(key) {
            Some(index) => Some(self.slots[*index as usize].as_ref()?.used),
            None => self
                .files
                .uses()
                .find(|(open, _)| open == key)
                .map(|use_| use_.1),
        }
    }

    /// The same of all small blobs.
    pub(crate) fn uses(&self) -> impl Iterator<Item = (Key, Instant)> {
        let slots = self.slots.iter().flatten();
        slots.map(|slot| (slot.key, slot.used))
    }

    /// The same of all large ones.
    pub(crate) fn file_uses(&self) -> impl Iterator<Item = (Key, Instant)> {
        self.files.uses()
    }

    /// Keeps the file of a large blob open as long as its stamp is this one, and until then, unless the tier
    /// is off.
    pub(crate) fn keep_open(
        &mut self,
        key: &Key,
        blob: Blob,
        stamp: Option<Stamp>,
        until: Option<Instant>,
        now: Instant,
    ) {
        if self.config.capacity_bytes > 0 {
            // One of them may be closed.
            for (open, used) in self.files.uses() {
                self.note_use(open, used);
            }
            self.files.keep(key, blob, stamp, until, now);
        }
    }

    /// The store itself has changed the stamp of a file.
    pub(crate) fn restamp(&mut self, key: &Key, before: Stamp, after: Stamp) {
        self.files.restamp(key, before, after);
    }

    /// Takes a blob in, if it is small enough, and makes room by dropping the least recently used.
    pub(crate) fn admit(&mut self, key: &Key, blob: Blob, now: Instant) {
        let size_bytes = blob.len() as u64;
        if !self.admits(size_bytes) {
            return;
        }
        self.take_out(key);
        self.weight_bytes += size_bytes + ENTRY_OVERHEAD_BYTES;
        while self.weight_bytes > self.config.capacity_bytes && self.oldest != NONE {
            self.drop_oldest();
        }
        let slot = Slot {
            key: *key,
            blob,
            admitted: now,
            used: now,
            newer: NONE,
            older: NONE,
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.slots[index as usize] = Some(slot);
        self.map.insert(*key, index);
        self.link_newest(index);
    }

    /// Forgets a blob; says whether it was here.
    pub(crate) fn remove(&mut self, key: &Key) -> bool {
        // Pairs with the load in `ShardHandle::removals`.
        self.removals.fetch_add(1, Release);
        self.take_out(key)
    }

    fn take_out(&mut self, key: &Key) -> bool {
        let Some(index) = self.map.remove(key) else {
            return self.files.remove(key);
        };
        self.unlink(index);
        if let Some(slot) = self.slots[index as usize].take() {
            self.weight_bytes -= slot.blob.len() as u64 + ENTRY_OVERHEAD_BYTES;
        }
        self.free.push(index);
        true
    }

    fn drop_oldest(&mut self) {
        let Slot {
            key,
            admitted,
            used,
            ..
        } = *self.slot(self.oldest);
        if used > admitted {
            self.note_use(key, used);
        }
        self.take_out(&key);
    }

    fn note_use(&self, key: Key, used: Instant) {
        // Asking the shard to take it is left to others: it admits what it has read, and looks then.
        let _ = self
            .uses
            .note((key, Kind::Blob), Clock::now().second_of(used));
    }

    fn slot(&mut self, index: u32) -> &mut Slot {
        self.slots[index as usize]
            .as_mut()
            .expect("the map and the list point to filled slots only")
    }

    fn link_newest(&mut self, index: u32) {
        let second = self.newest;
        let slot = self.slot(index);
        slot.newer = NONE;
        slot.older = second;
        match second {
            NONE => self.oldest = index,
            _ => self.slot(second).newer = index,
        }
        self.newest = index;
    }

    fn unlink(&mut self, index: u32) {
        let slot = self.slot(index);
        let (newer, older) = (slot.newer, slot.older);
        match newer {
            NONE => self.newest = older,
            _ => self.slot(newer).older = older,
        }
        match older {
            NONE => self.oldest = newer,
            _ => self.slot(older).newer = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn tier(capacity_bytes: u64) -> MemoryTier {
        MemoryTier::new(MemoryConfig {
            capacity_bytes,
            admit_up_to_bytes: 1000,
            time_to_live: Duration::from_secs(100),
            time_to_idle: Duration::from_secs(10),
        })
    }

    fn blob(size: usize) -> Blob {
        Blob::from(Bytes::from(vec![7; size]))
    }

    #[test]
    fn expires_by_age_and_by_idleness() {
        let mut tier = tier(10_000);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        tier.admit(&[1; 32], blob(10), at(0));
        assert!(tier.get(&[1; 32], at(9)).is_some());
        assert!(tier.get(&[1; 32], at(18)).is_some(), "a read keeps it");
        assert!(tier.get(&[1; 32], at(28)).is_none(), "idle for ten seconds");
        assert_eq!((tier.len(), tier.weight_bytes()), (0, 0));

        tier.admit(&[1; 32], blob(10), at(0));
        for second in 1..100 {
            assert!(tier.get(&[1; 32], at(second)).is_some());
        }
        assert!(tier.get(&[1; 32], at(100)).is_none(), "older than its life");
    }

    #[test]
    fn refuses_large_blobs_and_everything_when_off() {
        let mut small = tier(10_000);
        small.admit(&[1; 32], blob(1001), Instant::now());
        assert_eq!(small.len(), 0);
        let mut off = tier(0);
        off.admit(&[1; 32], blob(0), Instant::now());
        assert_eq!(off.len(), 0);
    }

    #[test]
    fn the_last_use_of_what_is_dropped_is_told() {
        let mut tier = tier(1500);
        let start = Instant::now();
        let later = start + Duration::from_secs(5);
        for name in 0..3 {
            tier.admit(&[name; 32], blob(10), start);
        }
        assert!(tier.get(&[1; 32], later).is_some());
        for name in 3..10 {
            tier.admit(&[name; 32], blob(10), later);
        }
        let told = tier.noted_uses().take();
        assert_eq!(told.len(), 1, "nobody has read the others: {told:?}");
        let (second, expected) = (told[&([1; 32], Kind::Blob)], Clock::now().second_of(later));
        assert!(second.abs_diff(expected) <= 1, "{second} {expected}");
    }

    proptest! {
        /// Against a model that keeps entries in a plain vector, most recent last.
        #[test]
        fn is_a_weighted_lru(ops in prop::collection::vec((0u8..12, 0usize..400, any::<bool>()), 1..200)) {
            let capacity = 1500;
            let mut tier = tier(capacity);
            let mut model: Vec<(u8, usize)> = Vec::new();
            let now = Instant::now();
            let weight = |size: usize| size as u64 + ENTRY_OVERHEAD_BYTES;
            for (name, size, put) in ops {
                let found = model.iter().position(|entry| entry.0 == name);
                if put {
                    found.map(|index| model.remove(index));
                    tier.admit(&[name; 32], blob(size), now);
                    model.push((name, size));
                    while model.iter().map(|entry| weight(entry.1)).sum::<u64>() > capacity {
                        model.remove(0);
                    }
                } else {
                    let expected = found.map(|index| {
                        let entry = model.remove(index);
                        model.push(entry);
                        entry.1
                    });
                    prop_assert_eq!(tier.get(&[name; 32], now).map(|blob| blob.len()), expected);
                }
                prop_assert_eq!(tier.len(), model.len());
                prop_assert_eq!(tier.weight_bytes(), model.iter().map(|entry| weight(entry.1)).sum::<u64>());
            }
        }
    }
}
