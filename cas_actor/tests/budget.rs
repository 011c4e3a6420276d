//! A store with a limit: it stays within it by itself, and spares what is in use.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::thread;
use std::time::{Duration, SystemTime};

use actor_rt::System;
use cas_actor::{ActionEntry, Digest, Durability, PutError, PutOutcome, Store, StoreConfig};

const LARGE: usize = 100_000;

fn content(seed: u32, size: usize) -> Vec<u8> {
    let mut content = vec![(seed % 251) as u8; size];
    content[..4].copy_from_slice(&seed.to_le_bytes());
    content
}

fn open(root: &Path, system: &System, max_bytes: u64, lease: Duration) -> Store {
    let config = StoreConfig {
        shards: 2,
        max_bytes: Some(max_bytes),
        lease,
        durability: Durability::Volatile,
        ..StoreConfig::new(root)
    };
    Store::open(config, system).unwrap()
}

/// Bytes of large blobs.
fn disk_bytes(root: &Path) -> u64 {
    bytes_below(vec![root.join("blobs"), root.join("tmp")])
}

fn bytes_below(mut open: Vec<PathBuf>) -> u64 {
    let mut sum = 0;
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let entry = entry.unwrap();
            // Evicted since it was listed.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            match metadata.is_dir() {
                true => open.push(entry.path()),
                false => sum += metadata.len(),
            }
        }
    }
    sum
}

/// Uses are remembered to the second, and what is used in this one is spared.
fn next_second() {
    let second = || {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let last = second();
    while second() == last {
        thread::yield_now();
    }
}

fn set_age(root: &Path, digest: &Digest, age: Duration) {
    let hex = digest.hex();
    let path = root.join("blobs").join(&hex[..2]).join(&hex[2..]);
    let used = SystemTime::now() - age;
    fs::File::open(path).unwrap().set_modified(used).unwrap();
}

#[test]
fn writers_never_take_a_store_over_its_limit() {
    let directory = tempfile::tempdir().unwrap();
    let (root, system) = (directory.path(), System::new().unwrap());
    let limit = 40 * LARGE as u64;
    let store = open(root, &system, limit, Duration::ZERO);
    // Shared by who writes; what is there is summed up while nobody does.
    let writing = RwLock::new(());
    thread::scope(|scope| {
        for writer in 0..4 {
            let (store, writing) = (&store, &writing);
            scope.spawn(move || {
                for number in 0..60 {
                    let content = content(writer * 1000 + number, LARGE);
                    let shared = writing.read().unwrap();
                    // Everything may just have come this second, and then nothing may go.
                    let put = match number % 2 {
                        0 => store.blocking().put(content).map(drop),
                        _ => store.blocking().put_reader(&content[..], None).map(drop),
                    };
                    match put {
                        Ok(()) | Err(PutError::OverBudget { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                    drop(shared);
                    let _alone = writing.write().unwrap();
                    assert!(disk_bytes(root) <= limit);
                }
            });
        }
    });
    let stats = store.blocking().stats().unwrap();
    assert!(stats.blob_bytes <= limit && stats.blobs > 0, "{stats:?}");
    assert!(store.blocking().verify(|_| ()).unwrap().is_clean());
}

#[test]
fn a_put_into_a_full_store_evicts_what_was_used_longest_ago() {
    let directory = tempfile::tempdir().unwrap();
    let (root, system) = (directory.path(), System::new().unwrap());
    let limit = 10 * LARGE as u64;
    let store = open(root, &system, u64::MAX, Duration::ZERO);
    let digests: Vec<Digest> = (0..10)
        .map(|seed| store.blocking().put(content(seed, LARGE)).unwrap())
        .collect();
    for (age, digest) in (1..).zip(digests.iter().rev()) {
        set_age(root, digest, Duration::from_secs(3600 * age));
    }
    store.blocking().close();
    drop(store);

    // The next process finds it full and knows nothing of it until it has looked.
    let store = open(root, &system, limit, Duration::from_secs(60));
    let new = store.blocking().put(content(99, LARGE)).unwrap();
    // Answered behind the automatic eviction.
    store.blocking().gc(u64::MAX).unwrap();
    let present = store.blocking().contains(&digests).unwrap();
    let gone = present.iter().filter(|present| !**present).count();
    assert!(gone >= 2, "{present:?}");
    assert!(present.is_sorted(), "the oldest go first: {present:?}");
    assert_eq!(store.blocking().contains(&[new]).unwrap(), [true]);
    assert!(disk_bytes(root) <= limit / 10 * 8 + LARGE as u64);
}

#[test]
fn what_is_leased_is_spared_and_puts_are_refused_instead() {
    let directory = tempfile::tempdir().unwrap();
    let (root, system) = (directory.path(), System::new().unwrap());
    let limit = 10 * LARGE as u64;
    let store = open(root, &system, limit, Duration::from_secs(3600));
    let mut kept = Vec::new();
    let refused = loop {
        match store.blocking().put(content(kept.len() as u32, LARGE)) {
            Ok(digest) => kept.push(digest),
            Err(refused) => break refused,
        }
    };
    let told =
        matches!(&refused, PutError::OverBudget { limit_bytes, .. } if *limit_bytes == limit);
    assert!(told, "{refused}");
    assert_eq!(kept.len(), 10);
    let again = store.blocking().put_as(kept[3], content(3, LARGE)).unwrap();
    assert_eq!(again, PutOutcome::Present, "needs no room");
    let mut upload = store.upload(None);
    let piece = content(77, LARGE);
    assert!(matches!(
        upload.write(&piece),
        Err(PutError::OverBudget { .. })
    ));
    let present = store.blocking().contains(&kept).unwrap();
    assert_eq!(present, vec![true; kept.len()]);

    // The lease of all but one ends.
    for digest in &kept[1..] {
        set_age(root, digest, Duration::from_secs(7200));
    }
    // A pass that freed nothing is not repeated at once; by hand it is.
    let freed = store
        .blocking()
        .gc_sparing(limit / 2, Duration::from_secs(3600));
    assert_eq!(freed.unwrap().evicted, 5);
    assert_eq!(store.blocking().contains(&kept[..1]).unwrap(), [true]);
    store.blocking().put(content(100, LARGE)).unwrap();
}

#[test]
fn small_blobs_and_entries_are_counted_and_evicted_too() {
    let directory = tempfile::tempdir().unwrap();
    let (root, system) = (directory.path(), System::new().unwrap());
    let store = open(root, &system, u64::MAX, Duration::ZERO);
    for seed in 0..300 {
        let digest = store.blocking().put(content(seed, 1000)).unwrap();
        let entry = ActionEntry::new(content(seed, 500)).with_outputs(vec![digest]);
        store.blocking().put_action(digest.hash(), entry).unwrap();
    }
    next_second();
    let report = store.blocking().gc(100_000).unwrap();
    assert!(report.before_bytes > 300 * 1700, "{report:?}");
    assert!(
        report.before_bytes - report.freed_bytes <= 100_000,
        "{report:?}"
    );
    let stats = store.blocking().stats().unwrap();
    assert!(stats.blob_bytes + stats.action_bytes <= 100_000 && stats.blobs > 0);
    assert_eq!(stats.evicted, report.evicted);
}

#[test]
fn a_blob_larger_than_the_limit_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (root, system) = (directory.path(), System::new().unwrap());
    let store = open(root, &system, LARGE as u64, Duration::ZERO);
    let large = content(1, 2 * LARGE);
    assert!(matches!(
        store.blocking().put(large.clone()),
        Err(PutError::OverBudget { .. })
    ));
    let mut upload = store.upload(Some(Digest::of(&large)));
    assert!(matches!(
        upload.write(&large),
        Err(PutError::OverBudget { .. })
    ));
    drop(upload);
    assert_eq!(disk_bytes(root), 0);
    store.blocking().put(content(2, LARGE)).unwrap();
}

/// What it said was to come had everything evicted, and when that was not enough, all others were refused for
/// a while.
#[test]
fn what_is_only_said_to_come_evicts_nothing_and_keeps_nobody_waiting() {
    const MIB: usize = 1 << 20;
    let directory = tempfile::tempdir().unwrap();
    let (root, system) = (directory.path(), System::new().unwrap());
    let store = open(root, &system, 40 * MIB as u64, Duration::from_secs(3600));
    let put = |seed| store.blocking().put(content(seed, 5 * MIB));
    let digests: Vec<Digest> = (0..6).map(|seed| put(seed).unwrap()).collect();
    for digest in &digests[..3] {
        set_age(root, digest, Duration::from_secs(7200));
    }
    let said = content(99, 39 * MIB);
    let mut upload = store.upload(Some(Digest::of(&said)));
    upload.write(&said[..100_000]).unwrap();
    put(6).unwrap();
    let here = store.blocking().contains(&digests).unwrap();
    assert!(here.iter().all(|is_here| *is_here), "{here:?}");
    // As it comes, room is made for it, and where there is none left, it is refused.
    let mut pieces = said[100_000..].chunks(MIB);
    let refused = pieces.find_map(|piece| upload.write(piece).err());
    assert!(matches!(refused, Some(PutError::OverBudget { .. })));
}

/// A blob that was here had others evicted when it was put again.
#[test]
fn what_is_here_is_put_again_without_an_eviction() {
    let directory = tempfile::tempdir().unwrap();
    let (root, system) = (directory.path(), System::new().unwrap());
    let store = open(root, &system, 10 * LARGE as u64, Duration::ZERO);
    let put = |seed, size| store.blocking().put(content(seed, size)).unwrap();
    let mut digests: Vec<Digest> = (0..4).map(|seed| put(seed, LARGE)).collect();
    digests.push(put(4, 4 * LARGE));
    for digest in &digests {
        set_age(root, digest, Duration::from_secs(7200));
    }
    assert_eq!(put(4, 4 * LARGE), digests[4]);
    let here = store.blocking().contains(&digests).unwrap();
    assert!(here.iter().all(|is_here| *is_here), "{here:?}");
}

/// What is dead in segments was not counted: a limit held for a third of what lay on the disk.
#[test]
fn small_blobs_and_entries_take_no_more_of_the_disk_than_the_limit() {
    const LIMIT: usize = 8 << 20;
    // Beside it there may be what is copied before the old goes: no more than what is alive.
    const COPIED: usize = LIMIT;
    let directory = tempfile::tempdir().unwrap();
    let (root, system) = (directory.path(), System::new().unwrap());
    let store = open(root, &system, LIMIT as u64, Duration::ZERO);
    let check = || {
        let taken = bytes_below(vec![root.to_owned()]);
        assert!(taken <= (LIMIT + COPIED) as u64, "{taken}");
    };
    for number in 0..600u32 {
        let entry = ActionEntry::new(content(number, 60_000));
        let key = [(number % 20) as u8; 32];
        store.blocking().put_action(&key, entry).unwrap();
        check();
    }
    let put = |seed| store.blocking().put(content(seed, 5000)).unwrap();
    let old: Vec<Digest> = (1000..1800).map(put).collect();
    next_second();
    // Every other one is used, so that a part of each segment may go.
    for digest in old.iter().step_by(2) {
        store.blocking().get(digest).unwrap();
    }
    next_second();
    for seed in 2000..2600 {
        put(seed);
        check();
    }
    assert!(store.blocking().verify(|_| ()).unwrap().is_clean());
}

fn segments(root: &Path) -> Vec<PathBuf> {
    let shards = (0..2).map(|shard| root.join(format!("packs/{shard}")));
    let files = shards.flat_map(|shard| fs::read_dir(shard).unwrap());
    let mut found: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|is| is == "seg"));
    found.sort();
    found
}

/// A third of the segments was dead, which was made up for with more than half of what was alive.
#[test]
fn what_is_dead_goes_before_more_is_evicted_than_has_to() {
    const SMALL: usize = 5000;
    let directory = tempfile::tempdir().unwrap();
    let (root, system) = (directory.path(), System::new().unwrap());
    let store = open(root, &system, u64::MAX, Duration::ZERO);
    let put = |seed| store.blocking().put(content(seed, SMALL)).unwrap();
    let digests: Vec<Digest> = (0..600).map(put).collect();
    let (dead, alive) = digests.split_at(192);
    for digest in dead {
        assert!(store.blocking().delete(digest).unwrap());
    }
    store.blocking().close();
    drop(store);
    next_second();

    let limit = (alive.len() * SMALL * 100 / 88) as u64;
    let store = open(root, &system, limit, Duration::ZERO);
    // Answered behind the automatic eviction.
    store.blocking().gc(u64::MAX).unwrap();
    let present = store.blocking().contains(alive).unwrap();
    let gone = present.iter().filter(|present| !**present).count();
    assert!((20..120).contains(&gone), "{gone} of {}", alive.len());
    let taken: u64 = bytes_below(vec![root.join("packs")]);
    assert!(taken <= limit / 10 * 8, "{taken} of {limit}");
}

/// All segments were rewritten for a few bytes each time, though there was room.
#[test]
fn what_may_not_go_is_not_rewritten_while_the_store_is_within_its_limit() {
    const SMALL: usize = 5000;
    let directory = tempfile::tempdir().unwrap();
    let (root, system) = (directory.path(), System::new().unwrap());
    let store = open(root, &system, u64::MAX, Duration::ZERO);
    let put = |seed| store.blocking().put(content(seed, SMALL)).unwrap();
    let digests: Vec<Digest> = (0..200).map(put).collect();
    for digest in &digests[..14] {
        assert!(store.blocking().delete(digest).unwrap());
    }
    store.blocking().close();
    drop(store);
    let before = segments(root);

    let limit = bytes_below(vec![root.join("packs")]) * 100 / 93;
    let store = open(root, &system, limit, Duration::from_secs(3600));
    store.blocking().gc(u64::MAX).unwrap();
    assert_eq!(segments(root), before);
    assert_eq!(store.blocking().stats().unwrap().blobs, 186);
}
