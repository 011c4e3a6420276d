//! The shard's core against a model: any sequence of operations, damage and reopenings.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use proptest::prelude::*;

use crate::action::ActionEntry;
use crate::commit::Durability;
use crate::digest::{Digest, Hasher};
use crate::error::GetError;
use crate::fs::RealFs;
use crate::group::Put;
use crate::pack::deflate;
use crate::shard::{PutOutcome, Shard, VerifyReads, lock};
use crate::shard_tests::{PACKED, damage, get, shard, temp_files};
use crate::staging::Verified;

const LEVEL: i32 = 1;

#[derive(Debug, Clone)]
enum Op {
    /// Which blobs, and whether they come compressed.
    Put(Vec<u8>, Durability, bool),
    Get(u8),
    Contains(u8),
    Delete(u8),
    PutAction(u8, u8),
    GetAction(u8),
    Damage(u8),
    Usage,
    Checkpoint,
    Compact,
    Reopen,
    ReopenAfterClose,
}

/// Few distinct contents, of sizes on both sides of every limit.
fn content(n: u8) -> Vec<u8> {
    let sizes = [0, 1, 400, 501, 9000, PACKED - 1, PACKED, PACKED + 1, 70_000];
    vec![n; sizes[n as usize % sizes.len()]]
}

fn op() -> impl Strategy<Value = Op> {
    let name = 0u8..12;
    let durability = prop_oneof![
        Just(Durability::Durable),
        Just(Durability::Relaxed),
        Just(Durability::Volatile)
    ];
    prop_oneof![
        4 => (prop::collection::vec(name.clone(), 1..5), durability, any::<bool>())
            .prop_map(|(n, d, deflated)| Op::Put(n, d, deflated)),
        4 => name.clone().prop_map(Op::Get),
        2 => name.clone().prop_map(Op::Contains),
        1 => name.clone().prop_map(Op::Delete),
        1 => (name.clone(), any::<u8>()).prop_map(|(k, v)| Op::PutAction(k, v)),
        1 => name.clone().prop_map(Op::GetAction),
        1 => name.prop_map(Op::Damage),
        1 => Just(Op::Usage),
        1 => Just(Op::Checkpoint),
        1 => Just(Op::Compact),
        1 => Just(Op::Reopen),
        1 => Just(Op::ReopenAfterClose),
    ]
}

/// What a blob takes on disk.
fn stored_bytes(name: u8, deflated: bool) -> usize {
    let content = content(name);
    let smaller = deflated.then(|| deflate(&content, LEVEL)).flatten();
    smaller.map_or(content.len(), |payload| payload.len())
}

#[derive(Default)]
struct Model {
    /// Whether each blob is intact on disk.
    blobs: HashMap<u8, bool>,
    /// How many bytes each of them takes.
    stored: HashMap<u8, usize>,
    actions: HashMap<u8, u8>,
}

impl Model {
    fn apply(&mut self, shard: &mut Shard<RealFs>, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Put(names, durability, deflated) => {
                let puts = names.iter().map(|n| {
                    let mut verified = Verified::hash(content(*n).into(), Hasher::new());
                    if deflated {
                        verified.deflate(LEVEL);
                    }
                    verified
                });
                let puts = puts.map(|verified| Put::Blob(verified, durability));
                for (name, answer) in names.iter().zip(shard.put_group(puts.collect())) {
                    let expected = match content(*name).is_empty() || self.blobs.contains_key(name)
                    {
                        true => PutOutcome::Present,
                        false => PutOutcome::Stored,
                    };
                    prop_assert_eq!(answer.unwrap(), expected);
                    if expected == PutOutcome::Stored {
                        self.blobs.insert(*name, true);
                        self.stored.insert(*name, stored_bytes(*name, deflated));
                    }
                }
            }
            Op::Get(name) => self.get(shard, name)?,
            Op::Contains(name) => {
                let expected = content(name).is_empty() || self.blobs.contains_key(&name);
                prop_assert_eq!(shard.contains(&Digest::of(&content(name))), expected);
            }
            Op::Delete(name) => {
                let was = shard.delete(&Digest::of(&content(name))).unwrap();
                prop_assert_eq!(was, self.blobs.remove(&name).is_some());
            }
            Op::PutAction(key, value) => {
                let encoded = ActionEntry::new(vec![value]).encode(&[key; 32]);
                let put = Put::Action([key; 32], encoded.into(), Durability::Durable);
                shard.put_group(vec![put]).remove(0).unwrap();
                self.actions.insert(key, value);
            }
            Op::GetAction(key) => {
                let found = shard.get_action(&[key; 32]).unwrap();
                let expected = self
                    .actions
                    .get(&key)
                    .map(|value| ActionEntry::new(vec![*value]));
                prop_assert_eq!(found, expected);
            }
            Op::Damage(name) => {
                if let Some(intact) = self.blobs.get_mut(&name) {
                    // Of the same size: presence cannot tell it, reading must.
                    let digest = Digest::of(&content(name));
                    if std::mem::take(intact) {
                        damage(shard, &digest, |bytes| bytes[0] ^= 1);
                    }
                }
            }
            Op::Usage => {
                let usage = shard.usage().unwrap();
                let bytes: usize = self.blobs.keys().map(|name| self.stored[name]).sum();
                prop_assert_eq!(usage.blobs, self.blobs.len() as u64);
                prop_assert_eq!(usage.blob_bytes, bytes as u64);
                prop_assert_eq!(usage.actions, self.actions.len() as u64);
            }
            Op::Checkpoint => shard.open_packs().unwrap().0.checkpoint().unwrap(),
            Op::Compact => {
                shard.open_packs().unwrap().0.compact(90, u64::MAX).unwrap();
                self.forget_damaged(shard);
            }
            Op::Reopen => self.reopen(shard),
            Op::ReopenAfterClose => {
                shard.close();
                self.reopen(shard);
            }
        }
        Ok(())
    }

    fn reopen(&mut self, shard: &mut Shard<RealFs>) {
        let verify_reads = shard.verify_reads;
        *shard = crate::shard_tests::shard(shard.layout.root(), RealFs);
        shard.verify_reads = verify_reads;
        self.forget_damaged(shard);
    }

    /// Damaged records may be gone: recovery skips those that the index did not know yet, and a compaction
    /// copies none.
    fn forget_damaged(&mut self, shard: &mut Shard<RealFs>) {
        self.blobs
            .retain(|name, intact| *intact || shard.contains(&Digest::of(&content(*name))));
    }

    fn get(&mut self, shard: &mut Shard<RealFs>, name: u8) -> Result<(), TestCaseError> {
        let digest = Digest::of(&content(name));
        let peeked = lock(&shard.memory).get(digest.hash(), std::time::Instant::now());
        if let Some(blob) = peeked {
            prop_assert_eq!(&*blob, content(name));
        }
        match (get(shard, &digest), self.blobs.get(&name)) {
            (Ok(found), _) if content(name).is_empty() => prop_assert!(found.blob.is_empty()),
            (Ok(found), Some(true)) => prop_assert_eq!(&*found.blob, content(name)),
            (Err(GetError::Corrupt { .. }), Some(false)) => drop(self.blobs.remove(&name)),
            (Err(GetError::NotFound(_)), None) => {}
            (got, model) => prop_assert!(false, "{got:?} where the model has {model:?}"),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_like_the_model(ops in prop::collection::vec(op(), 1..60), always in any::<bool>()) {
        let directory = tempfile::tempdir().unwrap();
        let mut shard = shard(directory.path(), RealFs);
        if always {
            shard.verify_reads = VerifyReads::Always;
        }
        let mut model = Model::default();
        for op in ops {
            model.apply(&mut shard, op)?;
            prop_assert_eq!(temp_files(&shard), 0);
        }
    }
}
