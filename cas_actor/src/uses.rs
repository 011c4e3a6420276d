//! Uses that no shard has seen: of what caches above it have answered.
//!
//! Owns: noting such uses, and bringing them to the shard that evicts by them.
//! Does not know: the caches (`memory`, `name_cache`, the names of the front ends), or what is evicted.
//! Invariants: before a shard says when something was last used, it has taken what was noted; who
//! notes never waits for a shard; what waits to be taken is bounded.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use crate::error::IoFailure;
use crate::fs::Fs;
use crate::layout::{ActionKey, Kind};
use crate::memory::DigestBuild;
use crate::pack::{Name, seconds};
use crate::shard::{Shard, lock};
use crate::shard_actor::ShardMsg;
use crate::store::Store;

/// The shard is asked to take uses when so many wait.
const MANY: usize = 1024;
/// A use is forgotten when so many wait: the shard has been busy for long.
const MOST: usize = 64 * 1024;

type Noted = HashMap<Name, u32, DigestBuild>;

/// What of a shard was used, and in which second since 1970.
///
/// Accesses to the atomics are `Relaxed`: they only say whether looking is worth the lock.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    noted: Mutex<Noted>,
    waiting: AtomicUsize,
    asked: AtomicBool,
}

impl Uses {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        // A panic between two steps of a change loses a use at worst.
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a use; says whether the shard should be asked to take what waits.
    pub(crate) fn note(&self, name: Name, second: u32) -> bool {
        let mut noted = self.noted();
        if noted.len() < MOST || noted.contains_key(&name) {
            let known = noted.entry(name).or_default();
            *known = second.max(*known);
        }
        let waiting = noted.len();
        self.waiting.store(waiting, Relaxed);
        waiting >= MANY && !self.asked.swap(true, Relaxed)
    }

    /// Whether a shard that is at work should take what waits.
    pub(crate) fn is_due(&self) -> bool {
        self.waiting.load(Relaxed) >= MANY
    }

    pub(crate) fn take(&self) -> Noted {
        if self.waiting.load(Relaxed) == 0 {
            return Noted::default();
        }
        let mut noted = self.noted();
        self.waiting.store(0, Relaxed);
        self.asked.store(false, Relaxed);
        std::mem::take(&mut *noted)
    }
}

/// What the time is by both clocks.
pub(crate) struct Clock {
    instant: Instant,
    time: SystemTime,
}

impl Clock {
    pub(crate) fn now() -> Self {
        Self {
            instant: Instant::now(),
            time: SystemTime::now(),
        }
    }

    /// The second since 1970 of a moment.
    pub(crate) fn second_of(&self, moment: Instant) -> u32 {
        let ago = self.instant.saturating_duration_since(moment);
        let ahead = moment.saturating_duration_since(self.instant);
        let then = (self.time + ahead).checked_sub(ago);
        seconds(then.unwrap_or(SystemTime::UNIX_EPOCH))
    }
}

impl<F: Fs> Shard<F> {
    /// Takes the uses that were noted.
    pub(crate) fn take_uses(&mut self) -> Result<(), IoFailure> {
        let noted = self.uses.take();
        if noted.is_empty() {
            return Ok(());
        }
        let (packs, _) = self.open_packs()?;
        let is_file = |(name, second): &(Name, u32)| {
            packs.touch_at(name, *second).is_none() && name.1 == Kind::Blob
        };
        let files: Vec<(Name, u32)> = noted.into_iter().filter(is_file).collect();
        for ((hash, _), second) in files {
            self.mark_used_at(&hash, second);
        }
        Ok(())
    }

    /// Notes for eviction what was answered from caches, of which nobody tells the shard.
    pub(crate) fn note_reads(&mut self) -> Result<(), IoFailure> {
        self.take_uses()?;
        let (read, files): (Vec<_>, Vec<_>) = {
            let memory = lock(&self.memory);
            (memory.uses().collect(), memory.file_uses().collect())
        };
        let clock = Clock::now();
        for (hash, used) in files {
            self.mark_used_at(&hash, clock.second_of(used));
        }
        let (packs, _) = self.open_packs()?;
        for (hash, used) in read {
            packs.touch_at(&(hash, Kind::Blob), clock.second_of(used));
        }
        Ok(())
    }
}

impl Store {
    /// Notes that an entry was used in that second, by who has answered it from a cache.
    pub(crate) fn note_action_use(&self, key: &ActionKey, second: u32) {
        self.note_use((*key, Kind::Action), second);
    }

    /// Notes a use of a record; never waits.
    pub(crate) fn note_use(&self, name: Name, second: u32) {
        let shard = self.shard(&name.0);
        if shard.uses.note(name, second) {
            // Refused where the mailbox is full: a shard that is at work looks by itself.
            let _ = shard.actor.tell(ShardMsg::TakeUses);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fs::RealFs;
    use crate::shard_tests::{get, put, shard};
    use crate::{Digest, Sha256Digest, StoreConfig};
    use actor_rt::System;
    use std::time::Duration;

    /// Uses are remembered to the second: waits for the next one.
    pub(crate) fn next_second() {
        let now = || seconds(SystemTime::now());
        let last = now();
        while now() == last {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_link_that_is_followed_is_evicted_last() {
        let (directory, system) = (tempfile::tempdir().unwrap(), System::new().unwrap());
        let config = StoreConfig {
            shards: 2,
            sha256_names: true,
            wait_for_lock: true,
            ..StoreConfig::new(directory.path())
        };
        let store = Store::open(config.clone(), &system).unwrap();
        let content = |number: usize| format!("{number:04} ").repeat(200);
        let names: Vec<_> = (0..16)
            .map(|number| Sha256Digest::of(content(number).as_bytes()))
            .collect();
        for number in 0..16 {
            store.blocking().put(content(number)).unwrap();
        }
        next_second();
        for name in &names[..8] {
            assert!(
                store
                    .blocking()
                    .get_named(&(*name).into())
                    .unwrap()
                    .is_some()
            );
        }
        next_second();
        let held_bytes = store.blocking().gc(u64::MAX).unwrap().before_bytes;
        store.blocking().gc(held_bytes / 2).unwrap();
        store.blocking().close();
        drop(store);
        // Without what the first process remembers of names.
        let store = Store::open(config, &system).unwrap();
        let found = store.blocking().resolve(&names).unwrap();
        let expected = (0..16).map(|number| {
            let digest = Digest::of(content(number).as_bytes());
            (number < 8).then_some(digest)
        });
        assert_eq!(found, expected.collect::<Vec<_>>());
    }

    #[test]
    fn what_was_read_from_memory_is_known_after_closing() {
        let directory = tempfile::tempdir().unwrap();
        let mut first = shard(directory.path(), RealFs);
        let read = put(&mut first, b"read");
        first.open_packs().unwrap().0.checkpoint().unwrap();
        get(&mut first, &read).unwrap();
        let later = Instant::now() + Duration::from_secs(2 * 3600);
        assert!(lock(&first.memory).get(read.hash(), later).is_some());
        let second = Clock::now().second_of(later);
        first.close();
        let mut again = shard(directory.path(), RealFs);
        let used = again.list().unwrap()[0].used;
        assert!(used + 1 >= second, "{used} {second}");
    }

    #[test]
    fn what_waits_is_bounded_and_asked_for_once() {
        let uses = Uses::default();
        let name = |number: usize| {
            let hash = *blake3::hash(&number.to_le_bytes()).as_bytes();
            (hash, Kind::Action)
        };
        let asked = |range: std::ops::Range<usize>| {
            let asked = range.filter(|number| uses.note(name(*number), 7));
            asked.collect::<Vec<_>>()
        };
        assert_eq!(asked(0..2 * MOST), [MANY - 1]);
        assert!(uses.is_due());
        uses.note(name(0), 9);
        uses.note(name(0), 8);
        let taken = uses.take();
        assert_eq!(
            (taken.len(), taken[&name(0)]),
            (MOST, 9),
            "the last use counts"
        );
        assert!(!uses.is_due() && uses.take().is_empty());
        assert_eq!(asked(0..MANY), [MANY - 1]);
    }
}
