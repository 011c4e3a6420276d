//! The shard's core under power cuts: what was not synced may be lost, cut short, or garbage.
//!
//! Killing a process leaves the page cache alone, so it cannot show a missing sync. [`PowerFs`] can.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fmt::Display;
use std::fs;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;

use crate::action::ActionEntry;
use crate::commit::{Durability, notes};
use crate::digest::{Digest, Hasher};
use crate::error::GetError;
use crate::fs::RealFs;
use crate::group::Put;
use crate::power_fs::{PowerFs, random};
use crate::shard::Shard;
use crate::shard_tests::{PACKED, damage, get, shard};
use crate::staging::Verified;

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Put(Vec<u8>, Durability),
    PutAction(u8),
    Delete(u8),
    Sync,
    Checkpoint,
    Compact,
    Close,
    Reopen,
    /// So many syncs from now, one fails.
    FailSync(u64),
    /// With this seed.
    PowerCut(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let name = 0u8..16;
    let durability = prop_oneof![Just(Durability::Durable), Just(Durability::Relaxed)];
    prop_oneof![
        6 => (prop::collection::vec(name.clone(), 1..12), durability)
            .prop_map(|(names, durability)| Op::Put(names, durability)),
        2 => name.clone().prop_map(Op::PutAction),
        1 => name.prop_map(Op::Delete),
        1 => Just(Op::Sync),
        1 => Just(Op::Checkpoint),
        1 => Just(Op::Compact),
        1 => Just(Op::Close),
        1 => Just(Op::Reopen),
        2 => (0u64..6).prop_map(Op::FailSync),
        2 => any::<u64>().prop_map(Op::PowerCut),
    ]
}

/// Half of the names are large blobs.
pub(crate) fn content(name: u8) -> Vec<u8> {
    vec![name; 500 * usize::from(name) + PACKED * usize::from(name % 2)]
}

fn key(name: u8) -> [u8; 32] {
    [name; 32]
}

/// What the store owes its callers.
#[derive(Default)]
pub(crate) struct Promises {
    /// Acknowledged, and due after a power cut.
    pub(crate) durable: HashSet<u8>,
    /// Acknowledged, and due after the next entry or sync.
    pub(crate) relaxed: HashSet<u8>,
    actions: HashSet<u8>,
    /// Refused, so here or not.
    refused: HashSet<u8>,
}

impl Promises {
    fn settle(&mut self) {
        self.durable.extend(self.relaxed.drain());
    }
}

pub(crate) struct Rig {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) fs: PowerFs,
    pub(crate) shard: Shard<PowerFs>,
    pub(crate) promises: Promises,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Makes the directories that opening a store makes durable.
        drop(shard(directory.path(), RealFs));
        let fs = PowerFs::settled(directory.path());
        Self {
            shard: shard(directory.path(), fs.clone()),
            directory,
            fs,
            promises: Promises::default(),
        }
    }

    pub(crate) fn apply(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Put(names, durability) => {
                let blob = |name: &u8| Verified::hash(content(*name).into(), Hasher::new());
                let puts = names.iter().map(|name| Put::Blob(blob(name), durability));
                let answers = self.shard.put_group(puts.collect());
                let failed = self.fs.take_failed();
                for (name, answer) in names.into_iter().zip(answers) {
                    let promises = match (answer, durability) {
                        (Ok(_), Durability::Durable) => &mut self.promises.durable,
                        (Ok(_), _) => &mut self.promises.relaxed,
                        (Err(error), _) => {
                            prop_assert!(failed, "{}", error);
                            &mut self.promises.refused
                        }
                    };
                    promises.insert(name);
                }
            }
            Op::PutAction(name) => {
                let entry = ActionEntry::new(vec![name]).encode(&key(name));
                let put = Put::Action(key(name), entry.into(), Durability::Durable);
                let answer = self.shard.put_group(vec![put]).remove(0);
                if self.succeeded(answer)? {
                    self.promises.settle();
                    self.promises.actions.insert(name);
                }
            }
            Op::Delete(name) => {
                self.shard.delete(&Digest::of(&content(name))).unwrap();
                self.promises.durable.remove(&name);
                self.promises.relaxed.remove(&name);
            }
            Op::Sync => {
                let answer = self.shard.sync();
                if self.succeeded(answer)? {
                    self.promises.settle();
                }
            }
            Op::Checkpoint => {
                let answer = self.shard.open_packs().unwrap().0.checkpoint();
                self.succeeded(answer)?;
            }
            Op::Compact => {
                let answer = self.shard.open_packs().unwrap().0.compact(90, u64::MAX);
                self.succeeded(answer)?;
            }
            Op::Close => self.shard.close(),
            Op::Reopen => {
                self.fs.fail_never();
                self.shard.close();
                self.reopen();
            }
            Op::FailSync(syncs) => self.fs.fail_after(syncs),
            Op::PowerCut(seed) => self.cut(seed)?,
        }
        Ok(())
    }

    /// Another process goes on with what this one has left.
    pub(crate) fn reopen(&mut self) {
        self.shard = shard(self.directory.path(), self.fs.clone());
    }

    /// What fails, fails because a sync did.
    fn succeeded<T, E: Display>(&self, answer: Result<T, E>) -> Result<bool, TestCaseError> {
        let failed = self.fs.take_failed();
        if let Err(error) = &answer {
            prop_assert!(failed, "{}", error);
        }
        Ok(answer.is_ok())
    }

    fn cut(&mut self, seed: u64) -> Result<(), TestCaseError> {
        let root = self.directory.path();
        self.fs.cut(root, &mut random(seed));
        self.fs = PowerFs::settled(root);
        self.shard = shard(root, self.fs.clone());
        let mut lost = self.promises.relaxed.drain().collect::<HashSet<_>>();
        lost.extend(self.promises.refused.drain());
        lost.retain(|name| !self.promises.durable.contains(name));
        for name in 0..16 {
            let digest = Digest::of(&content(name));
            match get(&mut self.shard, &digest) {
                Ok(found) => prop_assert_eq!(&*found.blob, content(name)),
                Err(GetError::NotFound(_)) => {
                    prop_assert!(!self.promises.durable.contains(&name), "lost {}", name);
                }
                Err(GetError::Corrupt { .. }) => {
                    prop_assert!(lost.contains(&name), "damaged {}", name);
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
            let entry = self.shard.get_action(&key(name)).unwrap();
            let owed = self.promises.actions.contains(&name);
            prop_assert!(entry.is_some() || !owed, "lost entry {}", name);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_power_cut_takes_nothing_that_was_promised(ops in prop::collection::vec(op(), 1..40), seed in any::<u64>()) {
        let mut rig = Rig::new();
        for op in ops {
            rig.apply(op)?;
        }
        rig.apply(Op::PowerCut(seed))?;
    }
}

/// What a group noted of a large blob went with the sync before its own entry, or was never noted because
/// the first of two puts promised less: the next process did not know of it.
#[test]
fn a_large_blob_that_one_process_left_unsynced_is_made_durable_by_the_next() {
    use Durability::{Durable, Relaxed, Volatile};
    let blob = |durability| {
        let blob = Verified::hash(content(3).into(), Hasher::new());
        Put::Blob(blob, durability)
    };
    let entry = || {
        let entry = ActionEntry::new(vec![2]).encode(&key(2));
        Put::Action(key(2), entry.into(), Durable)
    };
    for seed in 0..8 {
        let own_entry = vec![blob(Relaxed), entry()];
        let twice = vec![blob(Volatile), blob(Relaxed)];
        for group in [own_entry, twice] {
            let mut rig = Rig::new();
            let answers = rig.shard.put_group(group);
            assert!(answers.iter().all(Result::is_ok));
            rig.promises.relaxed.insert(3);
            rig.reopen();
            rig.apply(Op::PutAction(4)).unwrap();
            assert!(rig.promises.durable.contains(&3));
            rig.apply(Op::PowerCut(seed)).unwrap();
        }
    }
}

/// Notes that could not be read were taken for none: what they named was not made durable.
#[test]
fn what_was_noted_where_it_cannot_be_read_is_made_durable() {
    for seed in 0..8 {
        let mut rig = Rig::new();
        rig.apply(Op::Put(vec![3, 5, 2], Durability::Relaxed))
            .unwrap();
        let notes = rig.shard.layout.unsynced(0);
        assert!(notes::are_left(&notes));
        fs::remove_file(&notes).unwrap();
        std::os::unix::fs::symlink("0", &notes).unwrap();
        assert!(fs::read(&notes).is_err() && notes::are_left(&notes));
        rig.reopen();
        let corrupt = rig.shard.counters.corrupt.load(Relaxed);
        assert_eq!(corrupt, 1, "it is told");
        if seed % 2 == 0 {
            rig.apply(Op::PutAction(4)).unwrap();
            assert!(rig.promises.durable.contains(&3));
            assert!(!notes::are_left(&notes), "nothing is noted any more");
        } else {
            // Nothing can be noted before all is durable that may have been; then it is again.
            rig.apply(Op::Put(vec![7], Durability::Relaxed)).unwrap();
            rig.promises.durable.extend([3, 5, 2]);
            let before = rig.shard.counters.fsyncs.load(Relaxed);
            rig.apply(Op::Put(vec![9], Durability::Relaxed)).unwrap();
            assert_eq!(rig.shard.counters.fsyncs.load(Relaxed), before);
        }
        rig.apply(Op::PowerCut(seed)).unwrap();
    }
}

/// The kernel tells of an error once: the retry of a put was acknowledged though its pages were lost.
#[test]
fn a_failed_sync_is_not_made_good_by_another() {
    for relaxed_first in [false, true] {
        for name in [2, 3] {
            let mut rig = Rig::new();
            if relaxed_first {
                rig.apply(Op::Put(vec![name], Durability::Relaxed)).unwrap();
            }
            let promise = |rig: &mut Rig| match relaxed_first {
                true => rig.apply(Op::PutAction(name)).unwrap(),
                false => rig.apply(Op::Put(vec![name], Durability::Durable)).unwrap(),
            };
            rig.fs.fail_after(0);
            promise(&mut rig);
            assert!(rig.promises.durable.is_empty() && rig.promises.actions.is_empty());
            promise(&mut rig);
            assert!(rig.promises.durable.contains(&name));
            rig.apply(Op::PowerCut(7)).unwrap();
        }
    }
}

/// With a segment given up, a sync had nothing to do and said that all was well.
#[test]
fn records_of_a_segment_that_was_given_up_are_not_durable() {
    let mut rig = Rig::new();
    rig.apply(Op::Put(vec![2], Durability::Relaxed)).unwrap();
    rig.fs.fail_after(0);
    rig.apply(Op::Put(vec![4], Durability::Durable)).unwrap();
    rig.apply(Op::Checkpoint).unwrap();
    rig.apply(Op::Sync).unwrap();
    assert!(rig.promises.durable.contains(&2));
    rig.apply(Op::PowerCut(7)).unwrap();
}

/// What cannot be read back is told once, and can be put again.
#[test]
fn what_a_failed_sync_has_lost_is_told_and_healed_by_a_put() {
    for name in [2, 3] {
        let mut rig = Rig::new();
        rig.apply(Op::Put(vec![name], Durability::Relaxed)).unwrap();
        rig.fs.fail_after(0);
        rig.apply(Op::Sync).unwrap();
        let digest = Digest::of(&content(name));
        damage(&mut rig.shard, &digest, |bytes| bytes.fill(0));
        assert!(rig.shard.sync().is_err(), "it is lost");
        assert!(!rig.shard.contains(&digest));
        assert!(rig.shard.sync().is_ok());
        rig.apply(Op::Put(vec![name], Durability::Durable)).unwrap();
        rig.apply(Op::PowerCut(7)).unwrap();
    }
}
