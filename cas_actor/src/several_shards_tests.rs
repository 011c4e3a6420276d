//! Two shards of one store under failing syncs: what one makes durable or is told of, and the other.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use crate::action::ActionEntry;
use crate::commit::Durability;
use crate::digest::{Digest, Hasher};
use crate::error::{IoFailure, PutError};
use crate::fs::{Disk, RealFs};
use crate::group::Put;
use crate::power_fs::{PowerFs, random};
use crate::shard::{PutOutcome, Shard};
use crate::shard_set::shard_of;
use crate::shard_tests::{PACKED, damage, get, shard_of_fans};
use crate::staging::Verified;

struct Pair {
    directory: tempfile::TempDir,
    fs: PowerFs,
    shards: [Shard<PowerFs>; 2],
}

fn open(directory: &tempfile::TempDir, fs: &PowerFs) -> [Shard<PowerFs>; 2] {
    let shard = |index, fans| shard_of_fans(directory.path(), fs.clone(), index, fans);
    [shard(0, 0..=127), shard(1, 128..=255)]
}

impl Pair {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Makes the directories that opening a store makes durable.
        drop(shard_of_fans(directory.path(), RealFs, 0, 0..=255));
        let fs = PowerFs::settled(directory.path());
        let shards = open(&directory, &fs);
        Self {
            directory,
            fs,
            shards,
        }
    }

    fn put(&mut self, content: &[u8]) -> PutOutcome {
        let blob = Verified::hash(content.to_vec().into(), Hasher::new());
        let shard = &mut self.shards[shard_of(blob.digest().hash(), 2)];
        let put = Put::Blob(blob, Durability::Relaxed);
        shard.put_group(vec![put]).remove(0).unwrap()
    }

    /// As a store syncs.
    fn sync(&mut self) -> Result<(), IoFailure> {
        for shard in &mut self.shards {
            if shard.commit.flag.load(Relaxed) {
                shard.sync()?;
            }
        }
        Ok(())
    }

    /// As a store puts an entry; it belongs to the first shard.
    fn put_action(&mut self) -> Result<(), PutError> {
        self.sync()?;
        let entry = ActionEntry::new("result").encode(&[1; 32]);
        let put = Put::Action([1; 32], entry.into(), Durability::Durable);
        self.shards[0].put_group(vec![put]).remove(0).map(drop)
    }

    fn cut_power(&mut self) {
        self.fs.cut(self.directory.path(), &mut random(7));
        self.fs = PowerFs::settled(self.directory.path());
        self.shards = open(&self.directory, &self.fs);
    }

    fn assert_is_here(&mut self, content: &[u8]) {
        let digest = Digest::of(content);
        let shard = &mut self.shards[shard_of(digest.hash(), 2)];
        assert_eq!(*get(shard, &digest).unwrap().blob, *content);
    }
}

/// So many different contents that belong to a shard.
fn contents(shard: usize, number: usize, size: usize) -> Vec<Vec<u8>> {
    let all = (0u32..).map(|seed| {
        let mut content = vec![7; size];
        content[..4].copy_from_slice(&seed.to_le_bytes());
        content
    });
    let ours = |content: &Vec<u8>| shard_of(Digest::of(content).hash(), 2) == shard;
    all.filter(ours).take(number).collect()
}

/// One shard synced the file system and was told that a file of the other could not be written; the
/// other synced it after that, was told of nothing, and called its file durable.
#[test]
fn an_error_that_another_shard_has_seen_is_seen_by_this_one_too() {
    for seen_by_shard in [true, false] {
        let mut pair = Pair::new();
        // More than are synced one by one.
        let large = [contents(0, 12, PACKED + 1), contents(1, 12, PACKED + 1)];
        for content in large.iter().flatten() {
            pair.put(content);
        }
        let layout = &pair.shards[1].layout;
        let hit: PathBuf = layout.blob(Digest::of(&large[1][3]).hash());
        pair.fs.fail_in_background(&hit);
        if seen_by_shard {
            assert!(pair.shards[0].sync().is_err());
        } else {
            let stranger = pair.fs.open_root(pair.directory.path()).unwrap();
            assert!(pair.fs.sync_all(&stranger).is_ok(), "opened too late");
        }
        assert!(pair.shards[1].sync().is_err(), "one of its files is lost");
        while pair.put_action().is_err() {}
        pair.cut_power();
        for content in large.iter().flatten() {
            pair.assert_is_here(content);
        }
    }
}

/// A process put a small blob and ended; the next was asked to put it again, wrote nothing, and took
/// it for durable when it put the entry that names it.
#[test]
fn a_small_blob_of_an_earlier_process_is_made_durable_by_the_next_entry() {
    let mut pair = Pair::new();
    let small = contents(1, 1, 100).remove(0);
    pair.put(&small);
    pair.shards = open(&pair.directory, &pair.fs);
    assert_eq!(pair.put(&small), PutOutcome::Present);
    pair.put_action().unwrap();
    pair.cut_power();
    pair.assert_is_here(&small);
}

/// The next process, or a shard that was started again, did not know of it and synced nothing.
#[test]
fn what_an_earlier_process_left_unsynced_is_made_durable_by_the_next_entry() {
    for (shard, size) in [(0, PACKED + 1), (1, PACKED + 1), (0, 100), (1, 100)] {
        let mut pair = Pair::new();
        let left = contents(shard, 12, size);
        for content in &left {
            pair.put(content);
        }
        pair.shards = open(&pair.directory, &pair.fs);
        // One that fails, to begin with.
        pair.fs.fail_after(0);
        assert!(pair.put_action().is_err());
        pair.put_action().unwrap();
        let flags = pair.shards.iter();
        let flags = flags.map(|shard| shard.commit.flag.load(Relaxed));
        assert_eq!(flags.collect::<Vec<_>>(), [false, false]);
        pair.cut_power();
        for content in &left {
            pair.assert_is_here(content);
        }
    }
}

/// A sync of the packs failed behind those of the large blobs, and all were written anew.
#[test]
fn what_is_synced_is_not_written_anew_when_a_later_sync_fails() {
    for number in [3, 12] {
        let mut pair = Pair::new();
        let large = contents(0, number, PACKED + 1);
        let inodes = |pair: &Pair| -> Vec<u64> {
            let layout = &pair.shards[0].layout;
            let paths = large
                .iter()
                .map(|content| layout.blob(Digest::of(content).hash()));
            paths
                .map(|path| fs::metadata(path).unwrap().ino())
                .collect()
        };
        for content in &large {
            pair.put(content);
        }
        pair.put(&contents(0, 1, 100)[0]);
        let before = inodes(&pair);
        pair.fs
            .fail_in_background(&pair.shards[0].layout.pack(0).join("00000001.seg"));
        if number > 8 {
            // Of that, the root is told first.
            let root = std::sync::Arc::clone(&pair.shards[0].commit.root);
            assert!(pair.fs.sync_all(&root).is_err());
        }
        assert!(pair.sync().is_err(), "that of the packs");
        pair.sync().unwrap();
        assert_eq!(inodes(&pair), before);
    }
}

/// The first of the lost ones ended the sync, and the next one began with all the others.
#[test]
fn all_that_is_lost_is_told_by_one_sync() {
    let mut pair = Pair::new();
    let large = contents(0, 12, PACKED + 1);
    for content in &large {
        pair.put(content);
    }
    let path = |pair: &Pair, index: usize| {
        let layout = &pair.shards[0].layout;
        layout.blob(Digest::of(&large[index]).hash())
    };
    pair.fs.fail_in_background(&path(&pair, 0));
    assert!(pair.sync().is_err());
    let digests: Vec<Digest> = large.iter().map(|content| Digest::of(content)).collect();
    for lost in &digests[3..6] {
        damage(&mut pair.shards[0], lost, |bytes| bytes.fill(0));
    }
    let failure = pair.sync().unwrap_err();
    assert!(failure.to_string().contains("lost"), "{failure}");
    pair.sync().unwrap();
    for (index, digest) in digests.iter().enumerate() {
        let is_lost = (3..6).contains(&index);
        assert_eq!(pair.shards[0].contains(digest), !is_lost);
    }
}
