//! The shard's core against damage on disk and a failing disk.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use crate::action::ActionEntry;
use crate::commit::{Committer, Durability, UnsyncedFlag};
use crate::damage_tests::compact;
use crate::digest::{Digest, Hasher};
use crate::error::{GetError, PutError};
use crate::fs::faulty::{Fault, FaultyFs};
use crate::fs::{Fs, RealFs};
use crate::group::Put;
use crate::layout::{Kind, Layout, PACK_UP_TO_BYTES, is_packed};
use crate::maintain::Checked;
use crate::memory::{MemoryConfig, MemoryTier};
use crate::pack::{HEADER_BYTES, seconds};
use crate::shard::{Found, PutOutcome, Shard, VerifyReads, lock};
use crate::staging::{Staging, Verified};
use crate::stats::Counters;

pub(crate) const PACKED: usize = PACK_UP_TO_BYTES as usize;

/// A shard of the whole digest space over `root`, without a lock.
pub(crate) fn shard<F: Fs>(root: &Path, fs: F) -> Shard<F> {
    shard_of_fans(root, fs, 0, 0..=255)
}

/// One of several.
pub(crate) fn shard_of_fans<F: Fs>(
    root: &Path,
    fs: F,
    index: usize,
    fans: RangeInclusive<u8>,
) -> Shard<F> {
    let layout = Arc::new(Layout::new(root.into()));
    fs::create_dir_all(layout.temp()).unwrap();
    fs::create_dir_all(layout.blobs()).unwrap();
    let staging = Staging::new(layout.temp(), fs.clone());
    staging.sweep().unwrap();
    let counters = Arc::new(Counters::default());
    let memory = MemoryTier::new(MemoryConfig {
        capacity_bytes: 2000,
        admit_up_to_bytes: 500,
        time_to_live: Duration::MAX,
        time_to_idle: Duration::MAX,
    });
    let root = Arc::new(fs.open_root(root).unwrap());
    let committer = Committer::new(
        fs,
        Arc::clone(&layout),
        Arc::new(staging),
        Arc::clone(&counters),
        UnsyncedFlag::default(),
        root,
        layout.unsynced(index),
    );
    let memory = Arc::new(Mutex::new(memory));
    let verify = VerifyReads::FirstLarge;
    Shard::new(index, fans, layout, verify, memory, counters, committer)
}

fn blob(content: &[u8]) -> Put {
    let verified = Verified::hash(Bytes::copy_from_slice(content), Hasher::new());
    Put::Blob(verified, Durability::Durable)
}

pub(crate) fn put<F: Fs>(shard: &mut Shard<F>, content: &[u8]) -> Digest {
    let mut answers = shard.put_group(vec![blob(content)]);
    answers.pop().unwrap().unwrap();
    Digest::of(content)
}

/// Reads a blob and checks it, as the actor does.
pub(crate) fn get<F: Fs>(shard: &mut Shard<F>, digest: &Digest) -> Result<Found, GetError> {
    let found = shard.get(digest)?;
    if !found.unchecked {
        return Ok(found);
    }
    let called = found.digest();
    shard.checked(digest, found, called)
}

/// Changes the stored bytes of a blob, as damage does.
pub(crate) fn damage<F: Fs>(shard: &mut Shard<F>, digest: &Digest, change: impl FnOnce(&mut [u8])) {
    let name = (*digest.hash(), Kind::Blob);
    let (path, offset, length) = match is_packed(digest.size_bytes()) {
        false => (shard.layout.blob(digest.hash()), 0, digest.size_bytes()),
        true => {
            let place = shard.open_packs().unwrap().0.find(&name).unwrap();
            let path = shard
                .layout
                .pack(0)
                .join(format!("{:08}.seg", place.segment));
            let offset = u64::from(place.offset) + HEADER_BYTES as u64;
            (path, offset, u64::from(place.length))
        }
    };
    let mut bytes = vec![0; length as usize];
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    file.read_exact_at(&mut bytes, offset).unwrap();
    change(&mut bytes);
    file.write_all_at(&bytes, offset).unwrap();
    // Whoever writes changes the time, but clocks of file systems tick seldom.
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
}

pub(crate) fn temp_files<F>(shard: &Shard<F>) -> usize {
    fs::read_dir(shard.layout.temp()).unwrap().count()
}

#[test]
fn damaged_blobs_are_reported_once_and_healed_by_a_put() {
    let directory = tempfile::tempdir().unwrap();
    for content in [vec![1; 10], vec![2; PACKED], vec![3; PACKED + 1]] {
        let mut shard = shard(directory.path(), RealFs);
        let digest = put(&mut shard, &content);
        lock(&shard.memory).remove(digest.hash());
        damage(&mut shard, &digest, |bytes| bytes[7] ^= 1);

        let error = get(&mut shard, &digest).unwrap_err();
        let GetError::Corrupt { quarantined, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(fs::read(quarantined).unwrap().len(), content.len());
        let again = get(&mut shard, &digest).unwrap_err();
        assert!(matches!(again, GetError::NotFound(_)), "{again}");
        assert!(!shard.contains(&digest));

        put(&mut shard, &content);
        lock(&shard.memory).remove(digest.hash());
        assert_eq!(*get(&mut shard, &digest).unwrap().blob, content);
    }
}

#[test]
fn a_cut_file_or_segment_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    for content in [vec![1; 1000], vec![3; PACKED + 1]] {
        let mut shard = shard(directory.path(), RealFs);
        let digest = put(&mut shard, &content);
        lock(&shard.memory).remove(digest.hash());
        let segment = shard.layout.pack(0).join("00000001.seg");
        let path = match is_packed(digest.size_bytes()) {
            true => segment,
            false => shard.layout.blob(digest.hash()),
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(500).unwrap();
        let error = get(&mut shard, &digest).unwrap_err();
        assert!(matches!(error, GetError::Corrupt { .. }), "{error}");
        assert!(!shard.contains(&digest));
    }
}

#[test]
fn a_wrong_size_in_the_question_is_not_damage() {
    let directory = tempfile::tempdir().unwrap();
    let mut shard = shard(directory.path(), RealFs);
    for size in [7, PACKED + 1] {
        let digest = put(&mut shard, &vec![4; size]);
        for wrong_size in [5, PACKED + 2, PACKED + 3] {
            let wrong = Digest::new(*digest.hash(), wrong_size as u64);
            assert!(!shard.contains(&wrong));
            let error = get(&mut shard, &wrong).unwrap_err();
            assert!(matches!(error, GetError::NotFound(_)), "{error}");
        }
        assert!(get(&mut shard, &digest).is_ok());
    }
}

/// Each such question hashed the whole file, and the shard served nobody meanwhile.
#[test]
fn questions_with_a_wrong_size_have_a_file_hashed_once_and_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    for verify_reads in [VerifyReads::FirstLarge, VerifyReads::Always] {
        let mut shard = shard(directory.path(), RealFs);
        shard.verify_reads = verify_reads;
        let digest = put(&mut shard, &vec![4; PACKED + 1]);
        for wrong_size in 2..6 {
            let wrong = Digest::new(*digest.hash(), (PACKED + wrong_size) as u64);
            match shard.get(&wrong) {
                Err(error) => assert!(matches!(error, GetError::NotFound(_)) && wrong_size > 2),
                Ok(found) => {
                    assert!(found.unchecked && wrong_size == 2);
                    let called = found.digest();
                    assert!(shard.checked(&wrong, found, called).is_err());
                }
            }
        }
        assert!(get(&mut shard, &digest).is_ok());
    }
}

#[test]
fn the_empty_blob_is_always_here() {
    let directory = tempfile::tempdir().unwrap();
    let mut shard = shard(directory.path(), RealFs);
    let empty = Digest::of(b"");
    assert!(shard.contains(&empty));
    assert!(get(&mut shard, &empty).unwrap().blob.is_empty());
    let answers = shard.put_group(vec![blob(b"")]);
    assert!(matches!(answers[..], [Ok(PutOutcome::Present)]));
}

#[test]
fn large_blobs_are_mapped_and_outlive_their_deletion() {
    let directory = tempfile::tempdir().unwrap();
    let mut shard = shard(directory.path(), RealFs);
    let content = vec![9; PACKED + 1];
    let digest = put(&mut shard, &content);
    let found = get(&mut shard, &digest).unwrap();
    assert!(found.blob.is_mapped());
    assert!(shard.delete(&digest).unwrap());
    assert!(!shard.delete(&digest).unwrap());
    assert_eq!(*found.blob, content);
}

#[test]
fn a_damaged_action_entry_is_a_miss() {
    let directory = tempfile::tempdir().unwrap();
    let mut shard = shard(directory.path(), RealFs);
    let key = [7; 32];
    let entry = ActionEntry::new(b"result".to_vec());
    let encoded = Bytes::from(entry.encode(&key));
    let put = |encoded| Put::Action(key, encoded, Durability::Durable);
    shard
        .put_group(vec![put(encoded.clone())])
        .remove(0)
        .unwrap();
    assert_eq!(shard.get_action(&key).unwrap(), Some(entry.clone()));

    let segment = shard.layout.pack(0).join("00000001.seg");
    let mut bytes = fs::read(&segment).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&segment, bytes).unwrap();
    assert_eq!(shard.get_action(&key).unwrap(), None);
    assert_eq!(shard.get_action(&key).unwrap(), None);
    assert_eq!(shard.counters.corrupt.load(Relaxed), 1, "reported once");
    shard.put_group(vec![put(encoded)]).remove(0).unwrap();
    assert_eq!(shard.get_action(&key).unwrap(), Some(entry));
}

#[test]
fn a_group_writes_each_blob_once_and_syncs_it_together() {
    let directory = tempfile::tempdir().unwrap();
    let mut shard = shard(directory.path(), RealFs);
    put(&mut shard, b"before");
    let before = shard.counters.fsyncs.load(Relaxed);
    let group = (0..50u8).map(|n| blob(&[n % 40]));
    let outcomes: Vec<_> = shard
        .put_group(group.collect())
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let stored = outcomes
        .iter()
        .filter(|outcome| **outcome == PutOutcome::Stored);
    assert_eq!(stored.count(), 40);
    let after = shard.counters.fsyncs.load(Relaxed);
    assert_eq!(after - before, 1, "one sync for the whole group");
    let large = (0..16u8).map(|n| blob(&vec![n; PACKED + 1])).collect();
    let answers = shard.put_group(large);
    assert!(answers.iter().all(Result::is_ok));
    let both = shard.counters.fsyncs.load(Relaxed) - after;
    assert_eq!(both, 2, "once for contents, once for names");
}

#[test]
fn every_fault_leaves_the_old_state_or_the_new_one() {
    for fault in [Fault::ShortWrite, Fault::Sync, Fault::Rename] {
        for after in 0..8 {
            let directory = tempfile::tempdir().unwrap();
            let mut faulty = shard(directory.path(), FaultyFs::new(fault, after));
            let size = |n| 100 + PACKED * usize::from(n % 2);
            let contents: Vec<Vec<u8>> = (0..6u8).map(|n| vec![n; size(n)]).collect();
            let mut acknowledged = HashSet::new();
            for group in contents.chunks(2) {
                let puts = group.iter().map(|content| blob(content)).collect();
                for (content, answer) in group.iter().zip(faulty.put_group(puts)) {
                    match answer {
                        Ok(_) => drop(acknowledged.insert(content)),
                        Err(PutError::NoSpace(_) | PutError::Io(_)) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            }
            assert_eq!(temp_files(&faulty), 0, "{fault:?} after {after}");
            let mut reopened = shard(directory.path(), RealFs);
            for content in &contents {
                let digest = Digest::of(content);
                match get(&mut reopened, &digest) {
                    Ok(found) => assert_eq!(*found.blob, **content),
                    Err(GetError::NotFound(_)) => assert!(!acknowledged.contains(content)),
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }
}

#[test]
fn a_failing_sync_names_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut shard = shard(directory.path(), FaultyFs::new(Fault::Sync, 0));
    let answers = shard.put_group(vec![blob(b"a"), blob(b"b")]);
    assert!(answers.iter().all(Result::is_err));
    assert!(!shard.contains(&Digest::of(b"a")) && !shard.contains(&Digest::of(b"b")));
}

#[test]
fn an_action_entry_makes_earlier_relaxed_blobs_durable() {
    for size in [10, PACKED + 1] {
        let directory = tempfile::tempdir().unwrap();
        let fs = FaultyFs::new(Fault::Sync, i64::MAX);
        let countdown = Arc::clone(&fs.countdown);
        let mut shard = shard(directory.path(), fs);
        let relaxed = Put::Blob(
            Verified::hash(vec![1; size].into(), Hasher::new()),
            Durability::Relaxed,
        );
        shard.put_group(vec![relaxed]).remove(0).unwrap();
        assert_eq!(
            countdown.load(Relaxed),
            i64::MAX,
            "relaxed waits for nothing"
        );
        // The next sync fails: so must the entry, for its blob may be lost.
        countdown.store(0, Relaxed);
        let entry = || Put::Action([1; 32], Bytes::from_static(b"x"), Durability::Durable);
        assert!(shard.put_group(vec![entry()]).remove(0).is_err());
        assert!(shard.put_group(vec![entry()]).remove(0).is_ok());
        // Nothing is owed any more: one sync for one more entry.
        let before = countdown.load(Relaxed);
        assert!(shard.put_group(vec![entry()]).remove(0).is_ok());
        assert_eq!(before - countdown.load(Relaxed), 1);
    }
}

#[test]
fn a_durable_put_of_a_relaxed_blob_waits_for_the_disk() {
    for size in [10, PACKED + 1] {
        let directory = tempfile::tempdir().unwrap();
        let fs = FaultyFs::new(Fault::Sync, i64::MAX);
        let countdown = Arc::clone(&fs.countdown);
        let mut shard = shard(directory.path(), fs);
        let put = |durability| {
            Put::Blob(
                Verified::hash(vec![1; size].into(), Hasher::new()),
                durability,
            )
        };
        let relaxed = shard.put_group(vec![put(Durability::Relaxed)]).remove(0);
        assert_eq!(relaxed.unwrap(), PutOutcome::Stored);
        countdown.store(0, Relaxed);
        let durable = |shard: &mut Shard<_>| shard.put_group(vec![put(Durability::Durable)]);
        assert!(durable(&mut shard).remove(0).is_err());
        assert_eq!(durable(&mut shard).remove(0).unwrap(), PutOutcome::Present);
    }
}

#[test]
fn eviction_spares_what_was_used_since_it_was_planned() {
    let directory = tempfile::tempdir().unwrap();
    let mut shard = shard(directory.path(), RealFs);
    for size in [10, PACKED + 1] {
        let (old, used) = (
            put(&mut shard, &vec![1; size]),
            put(&mut shard, &vec![2; size]),
        );
        let plan = shard.list().unwrap();
        // As if the plan was made a while after the blobs came, and one was used since.
        let started = seconds(std::time::SystemTime::now()) + 10;
        for listed in &plan {
            let started = match listed.hash == *used.hash() {
                true => listed.used,
                false => started,
            };
            shard.evict(listed, started).unwrap();
        }
        assert!(shard.contains(&used) && !shard.contains(&old));
        assert_eq!(shard.usage().unwrap().blob_bytes, size as u64);
        assert!(shard.delete(&used).unwrap());
    }
}

#[test]
fn what_is_read_from_memory_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let mut shard = shard(directory.path(), RealFs);
    let after = |seconds| Duration::from_secs(seconds);
    let second_after = |time| seconds(std::time::SystemTime::now() + time);
    for size in [10, PACKED + 1] {
        let read = put(&mut shard, &vec![1; size]);
        let left = put(&mut shard, &vec![2; size]);
        get(&mut shard, &read).unwrap();
        let plan = shard.list().unwrap();
        let read_after = |shard: &Shard<RealFs>, time| {
            let found = lock(&shard.memory).get(read.hash(), std::time::Instant::now() + time);
            assert!(found.is_some(), "small blobs and files of large ones");
        };
        read_after(&shard, after(100));
        for listed in &plan {
            shard.evict(listed, second_after(after(50))).unwrap();
        }
        assert!(shard.contains(&read) && !shard.contains(&left));
        // It is not even chosen, once the shard was asked for what it holds.
        read_after(&shard, after(200));
        let old = second_after(after(150));
        let is_old = |shard: &mut Shard<RealFs>| shard.list().unwrap()[0].used < old;
        assert!(is_old(&mut shard));
        shard.ages().unwrap();
        assert!(!is_old(&mut shard));
        assert!(shard.delete(&read).unwrap());
        assert_eq!(lock(&shard.memory).last_use(read.hash()), None);
    }
}

#[test]
fn eviction_gives_the_space_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut shard = shard(directory.path(), RealFs);
    let digests: Vec<Digest> = (0..100u8).map(|n| put(&mut shard, &[n; 5000])).collect();
    for digest in &digests[..80] {
        assert!(shard.delete(digest).unwrap());
    }
    assert!(compact(&mut shard) > 80 * 5000);
    let left: u64 = fs::read_dir(shard.layout.pack(0))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(left < 25 * 5000, "{left}");
    for mut shard in [shard, self::shard(directory.path(), RealFs)] {
        for (n, digest) in digests.iter().enumerate() {
            assert_eq!(shard.contains(digest), n >= 80);
            assert_eq!(get(&mut shard, digest).is_ok(), n >= 80);
        }
        assert_eq!(shard.usage().unwrap().blobs, 20);
    }
}

#[test]
fn a_lost_or_damaged_index_is_built_anew() {
    let directory = tempfile::tempdir().unwrap();
    let mut shard = shard(directory.path(), RealFs);
    let digests: Vec<Digest> = (0..50u8).map(|n| put(&mut shard, &[n; 500])).collect();
    shard.open_packs().unwrap().0.checkpoint().unwrap();
    let index = shard.layout.pack(0).join("index");
    let good = fs::read(&index).unwrap();
    let mut flipped = good.clone();
    flipped[30] ^= 4;
    for bytes in [Vec::new(), good[..good.len() - 1].to_vec(), flipped, good] {
        // Replaced, not overwritten: the open shard has it mapped.
        let other = index.with_extension("other");
        fs::write(&other, bytes).unwrap();
        fs::rename(&other, &index).unwrap();
        let mut reopened = self::shard(directory.path(), RealFs);
        assert!(
            digests
                .iter()
                .all(|digest| get(&mut reopened, digest).is_ok())
        );
        assert_eq!(reopened.usage().unwrap().blobs, 50);
    }
}

/// A deletion at the end of a segment was covered by the index, but not counted as its end: what
/// was put after reopening was not found after the next.
#[test]
fn a_put_behind_a_covered_deletion_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let mut shard = shard(directory.path(), RealFs);
    let deleted = put(&mut shard, b"deleted");
    shard.delete(&deleted).unwrap();
    shard.open_packs().unwrap().0.checkpoint().unwrap();
    let mut shard = self::shard(directory.path(), RealFs);
    let later = put(&mut shard, b"later");
    let mut shard = self::shard(directory.path(), RealFs);
    assert!(shard.contains(&later) && !shard.contains(&deleted));
}

#[test]
fn a_torn_group_at_the_end_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let mut shard = shard(directory.path(), RealFs);
    let kept = put(&mut shard, b"kept");
    let torn = put(&mut shard, &[5; 3000]);
    let segment = shard.layout.pack(0).join("00000001.seg");
    let size = fs::metadata(&segment).unwrap().len();
    fs::OpenOptions::new()
        .write(true)
        .open(&segment)
        .unwrap()
        .set_len(size - 1)
        .unwrap();
    let mut reopened = self::shard(directory.path(), RealFs);
    assert!(reopened.contains(&kept) && !reopened.contains(&torn));
    let later = put(&mut reopened, b"later");
    let mut again = self::shard(directory.path(), RealFs);
    assert!(get(&mut again, &kept).is_ok() && get(&mut again, &later).is_ok());
    assert_eq!(again.counters.corrupt.load(Relaxed), 0);
}

#[test]
fn a_scrub_finds_damage_and_is_not_a_use() {
    let directory = tempfile::tempdir().unwrap();
    let mut shard = shard(directory.path(), RealFs);
    for size in [10, PACKED + 1] {
        let (good, bad) = (
            put(&mut shard, &vec![1; size]),
            put(&mut shard, &vec![2; size]),
        );
        damage(&mut shard, &bad, |bytes| bytes[0] = 9);
        let before = shard.list().unwrap();
        for file in &before {
            let expected = match file.hash == *good.hash() {
                true => Checked::Intact(None),
                false => Checked::Damaged,
            };
            assert_eq!(shard.check(file).unwrap(), expected);
        }
        let after = shard.list().unwrap();
        assert_eq!(after.len(), 1);
        let used = before
            .iter()
            .find(|file| file.hash == *good.hash())
            .unwrap()
            .used;
        assert_eq!(after[0].used, used);
        assert!(shard.delete(&good).unwrap());
    }
}

/// After a pause, each old record that was used had the whole index written anew by the next put.
#[test]
fn uses_after_a_pause_cost_one_index_a_day() {
    let directory = tempfile::tempdir().unwrap();
    let mut shard = shard(directory.path(), RealFs);
    let digest = put(&mut shard, b"old");
    shard.open_packs().unwrap().0.checkpoint().unwrap();
    let index = shard.layout.pack(0).join("index");
    let day = Duration::from_secs(24 * 3600);
    let now = std::time::SystemTime::now();
    for (ahead, age, is_written) in [
        (2, Duration::ZERO, false),
        (4, day / 2, false),
        (6, 2 * day, true),
        (8, Duration::ZERO, false),
    ] {
        let file = fs::File::open(&index).unwrap();
        file.set_modified(now - age).unwrap();
        // Held open, so that no other file gets its number.
        let before = file.metadata().unwrap().ino();
        let packs = shard.open_packs().unwrap().0;
        let used = seconds(now + ahead * day);
        packs.touch_at(&(*digest.hash(), Kind::Blob), used).unwrap();
        put(&mut shard, &[ahead as u8]);
        let after = fs::metadata(&index).unwrap().ino();
        assert_eq!(after != before, is_written, "after {ahead} days");
    }
}

/// An index of an older format on a full disk: the packs did not open, not even to delete.
#[test]
fn packs_without_an_index_open_on_a_full_disk() {
    let directory = tempfile::tempdir().unwrap();
    let mut before = shard(directory.path(), RealFs);
    let contents = (0..140u8).map(|n| vec![n; PACKED]);
    let puts = contents.map(|content| blob(&content)).collect();
    let answers = before.put_group(puts);
    assert!(answers.iter().all(Result::is_ok));
    let mut full = shard(directory.path(), FaultyFs::new(Fault::ShortWrite, 0));
    let digest = Digest::of(&[7; PACKED]);
    assert!(get(&mut full, &digest).is_ok());
    assert_eq!(full.commit.fs.countdown.load(Relaxed), -1, "it was full");
    assert!(full.delete(&digest).unwrap() && !full.contains(&digest));
    assert_eq!(full.usage().unwrap().blobs, 139);
}
