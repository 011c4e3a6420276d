//! The store through its public handle: many callers, many shards, reopening.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::thread;

use actor_rt::System;
use cas_actor::{
    ActionEntry, ByteRange, Digest, Durability, Export, GetError, PutError, PutOutcome,
    Sha256Digest, Store, StoreConfig, StoreError,
};

fn open(root: &Path, system: &System) -> Store {
    let config = StoreConfig {
        shards: 3,
        mailbox: 16,
        ..StoreConfig::new(root)
    };
    Store::open(config, system).expect("the store opens")
}

fn content(seed: u32, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    bytes.take(size).collect()
}

/// Sizes on both sides of the limits of the memory tier and of mapping.
const SIZES: [usize; 6] = [0, 1, 4096, 65_536, 65_537, 1_000_000];

#[test]
fn what_was_put_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let store = open(directory.path(), &system);
    let mut digests = Vec::new();
    for (seed, size) in SIZES.into_iter().enumerate() {
        let content = content(seed as u32, size);
        digests.push(store.blocking().put(content).unwrap());
    }
    store.blocking().close();
    drop(store);
    let store = open(directory.path(), &system);
    let present = store.blocking().contains(&digests).unwrap();
    assert_eq!(present, vec![true; SIZES.len()]);
    for (seed, digest) in digests.iter().enumerate() {
        let whole = content(seed as u32, SIZES[seed]);
        // From disk, then from memory or the mapping.
        for _ in 0..2 {
            assert_eq!(*store.blocking().get(digest).unwrap(), whole);
        }
        let half = ByteRange::new(digest.size_bytes() / 2, digest.size_bytes().div_ceil(2));
        let part = store.blocking().get_range(digest, half).unwrap();
        assert_eq!(*part, whole[whole.len() / 2..]);
        let outside = ByteRange::new(1, digest.size_bytes());
        let error = store.blocking().get_range(digest, outside).unwrap_err();
        assert!(matches!(error, GetError::OutOfRange(_)), "{error}");
    }
    let stats = store.blocking().stats().unwrap();
    assert_eq!(stats.blobs, SIZES.len() as u64 - 1, "the empty one is free");
    assert_eq!(stats.blob_bytes, SIZES.iter().sum::<usize>() as u64);
    assert_eq!(stats.misses, 0);
    assert!(stats.memory_hits > 0 && stats.disk_hits > 0);
}

#[test]
fn wrong_digest_and_wrong_size_are_refused_and_nothing_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let store = open(directory.path(), &system);
    let right = Digest::of(b"content");
    for wrong in [
        Digest::of(b"Content"),
        Digest::new(*right.hash(), 6),
        Digest::new(*right.hash(), 8),
    ] {
        let refused = store.blocking().put_as(wrong, "content").unwrap_err();
        assert!(
            matches!(refused, PutError::DigestMismatch { expected, actual } if expected == wrong && actual == right),
        );
        let reader = &mut &b"content"[..];
        let refused = store
            .blocking()
            .put_reader(reader, Some(wrong))
            .unwrap_err();
        assert!(matches!(refused, PutError::DigestMismatch { .. }));
    }
    assert_eq!(store.blocking().list().unwrap(), []);
    assert_eq!(
        store.blocking().put_as(right, "content").unwrap(),
        PutOutcome::Stored
    );
}

#[test]
fn a_reader_that_fails_midway_leaves_nothing() {
    struct Torn(usize);
    impl std::io::Read for Torn {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(1)
                .ok_or(std::io::ErrorKind::ConnectionReset)?;
            buffer.fill(3);
            Ok(buffer.len())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let store = open(directory.path(), &system);
    let error = store.blocking().put_reader(Torn(5), None).unwrap_err();
    assert!(matches!(error, PutError::Stream(_)), "{error}");
    assert_eq!(store.blocking().list().unwrap(), []);
    assert_eq!(
        fs::read_dir(directory.path().join("tmp")).unwrap().count(),
        0
    );
}

#[test]
fn many_threads_may_put_and_get_the_same_blobs() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let store = open(directory.path(), &system);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for seed in 0..40 {
                    let size = SIZES[seed as usize % SIZES.len()] / 4;
                    let content = content(seed, size);
                    let digest = store.blocking().put(content.clone()).unwrap();
                    assert_eq!(*store.blocking().get(&digest).unwrap(), content);
                }
            });
        }
    });
    let mut names = store.blocking().list().unwrap();
    names.sort_unstable();
    names.dedup();
    let stats = store.blocking().stats().unwrap();
    assert_eq!((stats.blobs, stats.puts), (names.len() as u64, stats.blobs));
    assert!(store.blocking().verify(|_| ()).unwrap().is_clean());
}

#[test]
fn files_come_in_and_go_out_without_sharing_inodes() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let store = open(&directory.path().join("store"), &system);
    let work = directory.path().join("work");
    fs::create_dir(&work).unwrap();
    let mut exports = Vec::new();
    for (seed, size) in SIZES.into_iter().enumerate() {
        let source = work.join(format!("in{seed}"));
        fs::write(&source, content(seed as u32, size)).unwrap();
        let digest = store.blocking().put_file(&source).unwrap();
        // Editing the source afterwards must not reach the store.
        fs::write(&source, "edited").unwrap();
        exports.push(Export {
            digest,
            path: work.join(format!("out/{seed}/file")),
            mode: 0o755,
        });
    }
    store.blocking().export_many(&exports).unwrap();
    for (seed, export) in exports.iter().enumerate() {
        let exported = fs::read(&export.path).unwrap();
        assert_eq!(exported, content(seed as u32, SIZES[seed]));
        // Editing the copy must not reach the store either.
        fs::write(&export.path, "edited").unwrap();
    }
    assert!(store.blocking().verify(|_| ()).unwrap().is_clean());
}

#[test]
fn an_action_whose_outputs_are_gone_is_a_miss() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let store = open(directory.path(), &system).with_durability(Durability::Relaxed);
    let blocking = store.blocking();
    let output = blocking.put("output").unwrap();
    let (key, other) = ([1; 32], [2; 32]);
    let entry = ActionEntry::new("result").with_outputs(vec![output]);
    blocking.put_action(&key, entry.clone()).unwrap();
    blocking
        .put_action(&other, ActionEntry::new("no outputs"))
        .unwrap();
    assert_eq!(
        blocking.get_complete_action(&key).unwrap(),
        Some(entry.clone())
    );

    assert!(blocking.delete(&output).unwrap());
    assert_eq!(blocking.get_action(&key).unwrap(), Some(entry));
    assert_eq!(blocking.get_complete_action(&key).unwrap(), None);
    let report = blocking.verify(|_| ()).unwrap();
    assert_eq!(report.incomplete_actions, [key]);
    assert_eq!(blocking.get_action(&key).unwrap(), None);
    assert!(blocking.delete_action(&other).unwrap());
    assert_eq!(blocking.stats().unwrap().actions, 0);
}

#[test]
fn verify_quarantines_damage_and_drops_what_points_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let store = open(directory.path(), &system);
    let blocking = store.blocking();
    let digests: Vec<Digest> = (0..20)
        .map(|seed| blocking.put(content(seed, 70_000)).unwrap())
        .collect();
    let entry = ActionEntry::new("result").with_outputs(vec![digests[3]]);
    blocking.put_action(&[9; 32], entry).unwrap();
    let hex = digests[3].hex();
    let path = directory
        .path()
        .join("blobs")
        .join(&hex[..2])
        .join(&hex[2..]);
    fs::remove_file(&path).unwrap();
    fs::write(&path, content(99, 70_000)).unwrap();

    let mut seen = 0;
    let report = blocking.verify(|progress| seen = progress.checked).unwrap();
    assert_eq!(seen, 21);
    assert_eq!(report.damaged_blobs, [digests[3]]);
    assert_eq!(report.incomplete_actions, [[9; 32]]);
    assert!(!path.exists() && directory.path().join("quarantine").join(hex).exists());
    assert!(blocking.verify(|_| ()).unwrap().is_clean());
}

#[test]
fn gc_keeps_what_was_used_last() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let store = open(directory.path(), &system);
    let blocking = store.blocking();
    let digests: Vec<Digest> = (0..10)
        .map(|seed| blocking.put(content(seed, 100_000)).unwrap())
        .collect();
    // Hours apart, in the order of `digests`.
    for (age, digest) in digests.iter().rev().enumerate() {
        let hex = digest.hex();
        let path = directory
            .path()
            .join("blobs")
            .join(&hex[..2])
            .join(&hex[2..]);
        let used =
            std::time::SystemTime::now() - std::time::Duration::from_secs(3600 * (age as u64 + 1));
        fs::File::open(path).unwrap().set_modified(used).unwrap();
    }
    let day = std::time::Duration::from_secs(86_400);
    let spared = blocking.gc_sparing(350_000, day).unwrap();
    assert_eq!(spared.evicted, 0, "all were used within a day");
    let report = blocking.gc(350_000).unwrap();
    assert_eq!(
        (report.before_bytes, report.freed_bytes, report.evicted),
        (1_000_000, 700_000, 7)
    );
    let present = blocking.contains(&digests).unwrap();
    assert_eq!(present, [vec![false; 7], vec![true; 3]].concat());
    for digest in &digests[..7] {
        let error = blocking.get(digest).unwrap_err();
        assert!(matches!(error, GetError::NotFound(_)), "{error}");
    }
    assert_eq!(blocking.gc(u64::MAX).unwrap().evicted, 0);
}

#[test]
fn a_closed_store_says_so_and_lets_go_of_its_lock() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let store = open(directory.path(), &system);
    let config = StoreConfig::new(directory.path());
    let error = Store::open(config, &system).unwrap_err();
    assert!(
        matches!(error, StoreError::Locked { pid: Some(_), .. }),
        "{error}"
    );
    let handle = store.clone();
    store.blocking().close();
    assert!(matches!(handle.blocking().put("x"), Err(PutError::Closed)));
    let absent = Digest::of(b"x");
    assert!(matches!(
        handle.blocking().get(&absent),
        Err(GetError::Closed)
    ));
    open(directory.path(), &system);
}

#[test]
fn a_large_blob_is_checked_once_for_all_who_ask() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let store = open(directory.path(), &system);
    let large = content(5, 6_000_000);
    let digest = store.blocking().put(large.clone()).unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(*store.blocking().get(&digest).unwrap(), large));
        }
    });
    store.blocking().close();
    drop(store);

    let hex = digest.hex();
    let path = directory
        .path()
        .join("blobs")
        .join(&hex[..2])
        .join(&hex[2..]);
    fs::remove_file(&path).unwrap();
    fs::write(&path, content(6, 6_000_000)).unwrap();
    let store = open(directory.path(), &system);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let error = store.blocking().get(&digest).unwrap_err();
                assert!(
                    matches!(error, GetError::Corrupt { .. } | GetError::NotFound(_)),
                    "{error}"
                );
            });
        }
    });
    assert_eq!(store.blocking().stats().unwrap().corrupt, 1);
    assert_eq!(store.blocking().put(large.clone()).unwrap(), digest);
    assert_eq!(*store.blocking().get(&digest).unwrap(), large);
}

#[test]
fn a_blob_is_found_under_both_names() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let both = |root: &Path| {
        let config = StoreConfig {
            sha256_names: true,
            ..StoreConfig::new(root)
        };
        Store::open(config, &system).unwrap()
    };
    let store = both(directory.path());
    let source = directory.path().join("source");
    let mut names = Vec::new();
    for (seed, size) in SIZES.into_iter().enumerate() {
        let content = content(seed as u32, size);
        let name = Sha256Digest::of(&content);
        let blocking = store.blocking();
        let digest = match seed % 4 {
            0 => blocking.put(content).unwrap(),
            1 => blocking.put_as_sha256(name, content).unwrap(),
            2 => {
                fs::write(&source, content).unwrap();
                blocking.put_file(&source).unwrap()
            }
            _ => {
                let mut upload = store.upload_sha256(name);
                upload.write(&content).unwrap();
                blocking.commit(upload).unwrap().0
            }
        };
        names.push((name, digest));
    }
    store.blocking().close();
    drop(store);
    // Names that are there need no store that computes them.
    let store = open(directory.path(), &system);
    let blocking = store.blocking();
    let (asked, mut expected): (Vec<_>, Vec<_>) = names
        .iter()
        .map(|(name, digest)| (*name, Some(*digest)))
        .unzip();
    assert_eq!(blocking.resolve(&asked).unwrap(), expected);
    let wrong_size = Sha256Digest::new(*asked[2].hash(), 1);
    let stranger = Sha256Digest::of(b"stranger");
    assert_eq!(
        blocking.resolve(&[wrong_size, stranger]).unwrap(),
        [None, None]
    );
    // A link to a blob that is gone leads nowhere.
    assert!(blocking.delete(&names[3].1).unwrap());
    expected[3] = None;
    assert_eq!(blocking.resolve(&asked).unwrap(), expected);
    let refused = blocking.put_as_sha256(stranger, "other").unwrap_err();
    assert!(
        matches!(refused, PutError::Sha256Mismatch { .. }),
        "{refused}"
    );
    assert!(blocking.verify(|_| ()).unwrap().is_clean());
}

#[test]
fn eviction_scrubbing_readers_and_writers_get_along() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let store = open(directory.path(), &system).with_durability(Durability::Volatile);
    thread::scope(|scope| {
        for worker in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..150 {
                    let seed = (worker * 7 + round) % 60;
                    let content = content(seed, SIZES[seed as usize % SIZES.len()] / 8);
                    let digest = store.blocking().put(content.clone()).unwrap();
                    match store.blocking().get(&digest) {
                        Ok(blob) => assert_eq!(*blob, content),
                        Err(GetError::NotFound(_)) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            });
        }
        scope.spawn(|| {
            for round in 0..15 {
                store.blocking().gc(round * 10_000).unwrap();
                assert!(store.blocking().verify(|_| ()).unwrap().is_clean());
            }
        });
    });
}

/// Every operation can run on an executor that moves tasks between threads.
#[test]
fn operations_are_send() {
    fn send<T: Send>(_: T) {}
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let store = open(directory.path(), &system);
    let (digest, name, key) = (Digest::of(b""), Sha256Digest::of(b""), [0; 32]);
    send(store.put("x"));
    send(store.put_as(digest, "x"));
    send(store.put_as_sha256(name, "x"));
    send(store.commit(store.upload(None)));
    send(store.get(&digest));
    send(store.get_range(&digest, ByteRange::new(0, 0)));
    send(store.contains(&[digest]));
    send(store.resolve(&[name]));
    send(store.delete(&digest));
    send(store.put_action(&key, ActionEntry::default()));
    send(store.get_complete_action(&key));
    send(store.delete_action(&key));
    send(store.sync());
    send(store.list());
    send(store.stats());
    send(store.gc(0));
    send(store.verify(|_| ()));
    send(store.close());
}

#[test]
fn a_full_mailbox_makes_writers_wait_and_loses_none() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let config = StoreConfig {
        shards: 1,
        mailbox: 4,
        ..StoreConfig::new(directory.path())
    };
    let store = Store::open(config, &system).unwrap();
    thread::scope(|scope| {
        for worker in 0..48u32 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..20 {
                    store
                        .blocking()
                        .put(content(worker * 100 + round, 300))
                        .unwrap();
                }
            });
        }
    });
    let stats = store.blocking().stats().unwrap();
    assert_eq!((stats.puts, stats.blobs), (48 * 20, 48 * 20));
}
