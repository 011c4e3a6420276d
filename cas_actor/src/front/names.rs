//! Keys from the network to blobs: a name space and a key become an entry that points at a blob.
//! Blobs under their own hashes are the store's affair ([`BlobName`](crate::BlobName)).
//!
//! Owns: the entries of names in the store, and a cache of them.
//! Does not know: what a name means in its dialect.
//! Invariants: whether a blob is here is decided by the store alone, a name is a hint; a name that
//! was bound or unbound is never answered from before that.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use crossbeam_utils::CachePadded;

use super::behind::{self, EntryName};
use crate::pack::seconds;
use crate::{
    ActionEntry, ActionKey, Digest, Durability, HashFunction, PutError, ShardError, Store,
};

/// Names never collide with the keys of other users of the store's entries.
const DOMAIN: &[u8; 32] = b"zako front: names of entries, v1";
const STRIPES: usize = 64;
/// Names of one stripe's younger half; about 30 MB for all of them when full.
const NAMES_OF_A_HALF: usize = 1024;
const SECONDS_BYTES: usize = 8;

/// What a name points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bound {
    /// The blob.
    pub(crate) digest: Digest,
    /// When it was bound, in seconds since 1970.
    pub(crate) stored_unix_s: u64,
    /// What the dialect keeps beside the blob; usually nothing.
    pub(crate) note: Bytes,
}

impl Bound {
    /// Points at `digest` from now on.
    pub(crate) fn now(digest: Digest, note: Bytes) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            digest,
            stored_unix_s: now.map_or(0, |since| since.as_secs()),
            note,
        }
    }

    /// What is kept beside the blob's name.
    pub(crate) fn beside(&self) -> Vec<u8> {
        let mut beside = Vec::with_capacity(SECONDS_BYTES + self.note.len());
        beside.extend_from_slice(&self.stored_unix_s.to_le_bytes());
        beside.extend_from_slice(&self.note);
        beside
    }

    /// Puts together what was kept apart; `None` for what is nothing of the kind.
    pub(crate) fn of(digest: Digest, beside: &Bytes) -> Option<Self> {
        let seconds = beside.first_chunk::<SECONDS_BYTES>()?;
        Some(Self {
            digest,
            stored_unix_s: u64::from_le_bytes(*seconds),
            note: beside.slice(SECONDS_BYTES..),
        })
    }

    fn encode(&self) -> ActionEntry {
        ActionEntry::new(self.beside()).with_outputs(vec![self.digest])
    }

    fn decode(entry: &ActionEntry) -> Option<Self> {
        Self::of(*entry.outputs.first()?, &entry.payload)
    }
}

/// The key of a name. `space` and `key` are kept apart whatever they contain.
pub(crate) fn name(space: &str, key: &[&str]) -> ActionKey {
    let mut hasher = blake3::Hasher::new_keyed(DOMAIN);
    hasher.update(space.as_bytes());
    for part in key {
        hasher.update(&[0]).update(part.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// A name, and the second of its last use that the store was told of.
#[derive(Debug)]
struct Known {
    bound: Bound,
    told: u32,
}

/// Names that were used lately. Two halves: the younger one becomes the older one when it is
/// full, and what was in the older one and not used since is forgotten.
#[derive(Debug, Default)]
struct Stripe {
    young: HashMap<ActionKey, Known>,
    old: HashMap<ActionKey, Known>,
    /// Counts changes, so that a reader can tell whether what it has read is still so.
    changes: u64,
}

impl Stripe {
    /// What the name points at that is used in this second, and whether that is the first use in it.
    fn get(&mut self, key: &ActionKey, second: u32) -> Option<(Bound, bool)> {
        if !self.young.contains_key(key) {
            let known = self.old.remove(key)?;
            self.insert_known(key, known);
        }
        let known = self.young.get_mut(key)?;
        let is_news = known.told < second;
        known.told = known.told.max(second);
        Some((known.bound.clone(), is_news))
    }

    fn insert(&mut self, key: &ActionKey, bound: Bound) {
        self.insert_known(key, Known { bound, told: 0 });
    }

    fn insert_known(&mut self, key: &ActionKey, known: Known) {
        if self.young.len() >= NAMES_OF_A_HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(*key, known);
    }

    fn forget(&mut self, key: &ActionKey) {
        self.changes += 1;
        self.young.remove(key);
        self.old.remove(key);
    }
}

fn stripe_of(key: &ActionKey) -> usize {
    usize::from(key[31]) % STRIPES
}

/// The names of one store. All changes of names go through one of these.
#[derive(Debug)]
pub(crate) struct Names {
    store: Store,
    /// The hash by which entries that travel name their blobs.
    function: HashFunction,
    stripes: Box<[Mutex<Stripe>]>,
    /// For each stripe the changes of its names, to be looked at without its lock.
    changes: Box<[CachePadded<AtomicU64>]>,
}

impl Names {
    pub(crate) fn new(store: Store, function: HashFunction) -> Self {
        // A name is durable when it is acknowledged, and with it the blob that came before.
        let store = store.with_durability(Durability::Durable);
        Self {
            store,
            function,
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            changes: (0..STRIPES).map(|_| CachePadded::default()).collect(),
        }
    }

    fn stripe(&self, key: &ActionKey) -> std::sync::MutexGuard<'_, Stripe> {
        let stripe = &self.stripes[stripe_of(key)];
        // A panic between two steps of a change loses a hint at worst.
        stripe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, key: &ActionKey) {
        self.stripe(key).forget(key);
        // Pairs with the load in `changes`.
        self.changes[stripe_of(key)].fetch_add(1, Release);
    }

    /// How often names like this one were bound or unbound: as long as that stays, what was known of
    /// it is so.
    pub(crate) fn changes(&self, key: &ActionKey) -> u64 {
        // Pairs with the addition in `forget`.
        self.changes[stripe_of(key)].load(Acquire)
    }

    /// What the name points at, if that was asked lately; never waits.
    pub(crate) fn peek(&self, key: &ActionKey) -> Option<Bound> {
        let second = seconds(SystemTime::now());
        let (bound, is_news) = self.stripe(key).get(key, second)?;
        if is_news {
            self.store.note_action_use(key, second);
        }
        Some(bound)
    }

    /// What the name points at; what is not known here is asked of the cache behind the store.
    pub(crate) async fn resolve(&self, name: &EntryName) -> Result<Option<Bound>, ShardError> {
        let key = &name.key;
        let changes = self.stripe(key).changes;
        if let Some(bound) = self.peek(key) {
            return Ok(Some(bound));
        }
        let found = match self.held(key).await? {
            Some(bound) => Some(bound),
            None => {
                if let Some(bound) = self.carried(name).await? {
                    // Not to be remembered: the entry may change.
                    return Ok(Some(bound));
                }
                self.bring(name, changes).await
            }
        };
        let Some(bound) = found else {
            return Ok(None);
        };
        let mut stripe = self.stripe(key);
        if stripe.changes == changes {
            stripe.insert(key, bound.clone());
        }
        Ok(Some(bound))
    }

    async fn held(&self, key: &ActionKey) -> Result<Option<Bound>, ShardError> {
        let entry = self.store.get_action(key).await?;
        Ok(entry.as_ref().and_then(Bound::decode))
    }

    /// The entry that a node before this one asks for, in the form in which it travels.
    async fn carried(&self, name: &EntryName) -> Result<Option<Bound>, ShardError> {
        let Some(key) = name.meant() else {
            return Ok(None);
        };
        match self.held(&key).await? {
            Some(entry) => Ok(behind::wrap(&self.store, &entry, self.function).await),
            None => Ok(None),
        }
    }

    /// Asks the cache behind the store, and keeps what it says unless the name was changed
    /// meanwhile.
    async fn bring(&self, name: &EntryName, changes: u64) -> Option<Bound> {
        let tier = self.store.upstream()?;
        let bound = behind::fetch(&self.store, tier, name).await?;
        if self.stripe(&name.key).changes == changes {
            // It can be fetched again: nobody should wait for the disk.
            let volatile = self.store.with_durability(Durability::Volatile);
            if let Err(error) = volatile.put_action(&name.key, bound.encode()).await {
                tracing::debug!(%error, "an entry from behind was not kept");
            }
        }
        Some(bound)
    }

    /// Points a name at a blob; durable on return, the blob included.
    pub(crate) async fn bind(&self, name: &EntryName, bound: &Bound) -> Result<(), PutError> {
        let carried = match name.meant() {
            Some(key) => behind::unwrap(&self.store, &bound.digest)
                .await
                .map(|entry| (EntryName::of(key), entry)),
            None => None,
        };
        // From a node before this one: what its client has stored is for ours as well.
        let (name, bound) = carried.unwrap_or_else(|| (*name, bound.clone()));
        self.bind_here(&name.key, &bound).await?;
        if let Some(tier) = self.store.upstream() {
            behind::hand_on(&self.store, tier, &name, &bound);
        }
        Ok(())
    }

    async fn bind_here(&self, key: &ActionKey, bound: &Bound) -> Result<(), PutError> {
        let put = self.store.put_action(key, bound.encode()).await;
        // Also after a failure: what the store holds now is for the next reader to find out.
        self.forget(key);
        put
    }

    /// Forgets a name here; says whether there was one.
    pub(crate) async fn unbind(&self, name: &EntryName) -> Result<bool, ShardError> {
        let deleted = self.store.delete_action(&name.key).await;
        self.forget(&name.key);
        deleted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreConfig;
    use crate::uses::tests::next_second;
    use actor_rt::System;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_cut_at_its_parts() {
        assert_ne!(name("a", &["bc"]), name("ab", &["c"]));
        assert_ne!(name("a", &["b", "c"]), name("a", &["bc"]));
        assert_eq!(name("a", &["b"]), name("a", &["b"]));
    }

    #[test]
    fn the_cache_stays_within_its_bound_and_keeps_what_is_used() {
        let mut stripe = Stripe::default();
        let bound = Bound::now(Digest::of(b"x"), Bytes::new());
        let key = |number: usize| name("t", &[&number.to_string()]);
        stripe.insert(&key(0), bound.clone());
        for number in 1..10 * NAMES_OF_A_HALF {
            stripe.insert(&key(number), bound.clone());
            if number % 100 == 0 {
                assert!(stripe.get(&key(0), 1).is_some(), "used all the time");
            }
        }
        assert!(stripe.young.len() + stripe.old.len() <= 2 * NAMES_OF_A_HALF);
        assert!(stripe.get(&key(1), 1).is_none(), "not used since");
    }

    #[tokio::test]
    async fn a_name_that_is_answered_from_the_cache_is_evicted_last() {
        let (directory, system) = (tempfile::tempdir().unwrap(), System::new().unwrap());
        let store = Store::open(StoreConfig::new(directory.path()), &system).unwrap();
        let names = Names::new(store.clone(), HashFunction::Blake3);
        let bound = Bound::now(store.put("content").await.unwrap(), Bytes::new());
        let entries: Vec<EntryName> = (0..16)
            .map(|number| EntryName::of(name("t", &[&number.to_string()])))
            .collect();
        for entry in &entries {
            names.bind(entry, &bound).await.unwrap();
            names.resolve(entry).await.unwrap();
        }
        next_second();
        for entry in &entries[..4] {
            assert!(names.peek(&entry.key).is_some());
        }
        for entry in &entries[4..8] {
            assert!(names.resolve(entry).await.unwrap().is_some());
        }
        store.get(&bound.digest).await.unwrap();
        next_second();
        let held_bytes = store.gc(u64::MAX).await.unwrap().before_bytes;
        store.gc(held_bytes / 8 * 5).await.unwrap();
        let mut found = Vec::new();
        for entry in &entries {
            found.push(store.get_action(&entry.key).await.unwrap().is_some());
        }
        assert_eq!(found[..8], [true; 8]);
        assert!(found[8..].contains(&false), "{found:?}");
    }

    proptest! {
        #[test]
        fn what_is_bound_is_read_back(
            hash in any::<[u8; 32]>(), size in any::<u64>(), note in any::<Vec<u8>>(), at in any::<u64>(),
        ) {
            let bound = Bound { digest: Digest::new(hash, size), stored_unix_s: at, note: note.into() };
            prop_assert_eq!(Bound::decode(&bound.encode()), Some(bound));
        }
    }
}
