//! The scrubber: finds damage that nobody has asked for, and gives blobs their second name.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use actor_rt::System;
use cas_actor::{Digest, Sha256Digest, Stats, Store, StoreConfig};

fn open(root: &Path, system: &System, scrub: Option<u64>, sha256_names: bool) -> Store {
    let config = StoreConfig {
        shards: 2,
        sha256_names,
        scrub_bytes_per_second: scrub,
        ..StoreConfig::new(root)
    };
    Store::open(config, system).unwrap()
}

fn content(seed: u8, size: usize) -> Vec<u8> {
    (0..size).map(|at| seed ^ (at % 253) as u8).collect()
}

/// Waits until the statistics say so.
fn wait_until(store: &Store, is_so: impl Fn(&Stats) -> bool) {
    let started = Instant::now();
    loop {
        let stats = store.blocking().stats().unwrap();
        if is_so(&stats) {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{stats:?}");
        thread::yield_now();
    }
}

#[test]
fn damage_is_found_without_being_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let store = open(directory.path(), &system, None, false);
    let small: Vec<Digest> = (0..200)
        .map(|seed| store.blocking().put(content(seed, 100)).unwrap())
        .collect();
    let large: Vec<Digest> = (0..4)
        .map(|seed| store.blocking().put(content(seed, 700_000)).unwrap())
        .collect();
    store.blocking().close();
    drop(store);

    let hex = large[2].hex();
    let path = directory
        .path()
        .join("blobs")
        .join(&hex[..2])
        .join(&hex[2..]);
    fs::remove_file(&path).unwrap();
    fs::write(&path, content(9, 700_000)).unwrap();
    let segment = directory.path().join("packs/0/00000001.seg");
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();

    let store = open(directory.path(), &system, Some(1 << 40), false);
    // It counts a blob before its shard looks at it.
    wait_until(&store, |stats| stats.scrubbed >= 203 && stats.corrupt >= 2);
    let stats = store.blocking().stats().unwrap();
    assert_eq!(stats.corrupt, 2, "{stats:?}");
    let present = |digests: &[Digest]| {
        let present = store.blocking().contains(digests).unwrap();
        present.into_iter().filter(|present| *present).count()
    };
    assert_eq!((present(&small), present(&large)), (199, 3));
    assert!(directory.path().join("quarantine").join(hex).exists());
    assert!(store.blocking().verify(|_| ()).unwrap().is_clean());
}

#[test]
fn blobs_from_before_the_switch_get_their_second_name() {
    for by_hand in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let system = System::new().unwrap();
        let store = open(directory.path(), &system, None, false);
        let contents: Vec<Vec<u8>> = [10, 70_000]
            .into_iter()
            .map(|size| content(7, size))
            .collect();
        for content in &contents {
            store.blocking().put(content.clone()).unwrap();
        }
        let names: Vec<Sha256Digest> = contents.iter().map(|c| Sha256Digest::of(c)).collect();
        assert_eq!(store.blocking().resolve(&names).unwrap(), [None, None]);
        store.blocking().close();
        drop(store);

        let scrub = (!by_hand).then_some(1 << 40);
        let store = open(directory.path(), &system, scrub, true);
        match by_hand {
            true => assert!(store.blocking().verify(|_| ()).unwrap().is_clean()),
            false => wait_until(&store, |stats| stats.scrubbed >= 2),
        }
        let digests: Vec<_> = contents.iter().map(|c| Some(Digest::of(c))).collect();
        // The scrubber counts a blob before it names it.
        let started = Instant::now();
        while store.blocking().resolve(&names).unwrap() != digests {
            assert!(!by_hand && started.elapsed() < Duration::from_secs(60));
            thread::yield_now();
        }
    }
}

#[test]
fn a_store_closes_while_it_is_scrubbed() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let store = open(directory.path(), &system, Some(1), false);
    store.blocking().put(content(1, 700_000)).unwrap();
    store.blocking().close();
    drop(store);
    open(directory.path(), &system, Some(1 << 40), false);
}
