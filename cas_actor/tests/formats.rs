//! Stores that earlier versions have written.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use actor_rt::System;
use cas_actor::{Digest, Sha256Digest, Store, StoreConfig};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn small(format: u32, number: usize) -> Vec<u8> {
    format!("blob {number} of a store of format {format}\n")
        .repeat(1 + number)
        .into_bytes()
}

fn check(store: &Store, format: u32, behind: &[u8]) {
    let blocking = store.blocking();
    let large = format!("large blob of a store of format {format}\n").repeat(2000);
    let large = large.into_bytes();
    let held = (0..20).filter(|number| *number != 3);
    let held = held.map(|number| small(format, number));
    for content in held.chain([large.clone(), behind.to_vec()]) {
        assert_eq!(*blocking.get(&Digest::of(&content)).unwrap(), content);
        let second = Sha256Digest::of(&content).into();
        let (digest, _) = blocking.get_named(&second).unwrap().unwrap();
        assert_eq!(digest, Digest::of(&content));
    }
    assert_eq!(
        blocking.contains(&[Digest::of(&small(format, 3))]).unwrap(),
        [false],
        "it was deleted"
    );
    let entry = blocking.get_action(&[7; 32]).unwrap().unwrap();
    assert_eq!(&entry.payload[..], b"result of an action\n");
    assert_eq!(entry.outputs, [Digest::of(&large)]);
    assert!(blocking.verify(|_| ()).unwrap().is_clean());
    assert_eq!(blocking.stats().unwrap().blobs, 21);
}

/// `data/format1` was written by commit 6884ddb, the last of that format: twenty small blobs of which
/// one was deleted, a large one and the result of an action, closed; then one more blob and the end
/// of the process, so it lies behind the index. Everything has both names. That it writes an index for
/// so little was forced (`LEAVE_BYTES = 0` in `pack/mod.rs`).
#[test]
fn a_store_of_format_1_is_taken_over() {
    is_taken_over(1);
}

/// `data/format2` was written by commit 8666d2f, one of the last of that format, in the same way; its index is
/// there because a hundred blobs were put and deleted before and `gc` has given their room back.
#[test]
fn a_store_of_format_2_is_taken_over() {
    is_taken_over(2);
}

fn is_taken_over(format: u32) {
    let (directory, system) = (tempfile::tempdir().unwrap(), System::new().unwrap());
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/format{format}"));
    copy(&data, directory.path());
    // Empty, so not under version control.
    fs::create_dir_all(directory.path().join("tmp")).unwrap();
    let tables = |magic: &str| {
        let shards = fs::read_dir(directory.path().join("packs")).unwrap();
        let tables = shards.map(|shard| fs::read(shard.unwrap().path().join("index")));
        tables
            .filter(|table| table.as_ref().unwrap().starts_with(magic.as_bytes()))
            .count()
    };
    assert_eq!(tables(&format!("ZKI{format}")), 2);
    let version = directory.path().join("VERSION");
    let says = |format: u32| {
        let version = fs::read_to_string(&version).unwrap();
        version.starts_with(&format!("zako-store {format} "))
    };
    assert!(says(format));
    let added = b"added by this version\n".to_vec();
    for round in 0..3 {
        let mut config = StoreConfig::new(directory.path());
        // Everything is read from disk.
        config.memory.capacity_bytes = 0;
        config.wait_for_lock = true;
        let store = Store::open(config, &system).unwrap();
        check(&store, format, b"behind the index\n");
        assert!(says(3));
        if round == 1 {
            store.blocking().put(added.clone()).unwrap();
            assert!(store.blocking().delete(&Digest::of(&added)).unwrap());
        }
        store.blocking().close();
    }
}
