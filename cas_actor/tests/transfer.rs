//! A store written to plain files and read back into another.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use actor_rt::System;
use cas_actor::{ActionEntry, Digest, PutError, Sha256Digest, Store, StoreConfig};

fn open(root: &Path, system: &System) -> Store {
    let config = StoreConfig {
        shards: 2,
        ..StoreConfig::new(root)
    };
    Store::open(config, system).unwrap()
}

#[test]
fn everything_comes_back_and_what_was_changed_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let store = open(&directory.path().join("one"), &system);
    let contents = [vec![1; 10], vec![2; 70_000], vec![3; 500]];
    let digests = contents.clone().map(|c| store.blocking().put(c).unwrap());
    let entry = ActionEntry::new("result").with_outputs(digests.to_vec());
    store
        .blocking()
        .put_action(&[7; 32], entry.clone())
        .unwrap();
    store
        .blocking()
        .put_action(&[8; 32], ActionEntry::new("other"))
        .unwrap();

    let out = directory.path().join("out");
    let went = store.blocking().export_all(&out).unwrap();
    assert_eq!((went.blobs, went.blob_bytes, went.actions), (3, 70_510, 2));
    assert_eq!(
        fs::read(out.join("cas").join(digests[1].hex())).unwrap(),
        contents[1]
    );

    // As another tool names them, one that was changed, and a stranger.
    let sha256 = Sha256Digest::of(&contents[2]).hex();
    let cas = out.join("cas");
    fs::rename(cas.join(digests[2].hex()), cas.join(&sha256)).unwrap();
    fs::write(cas.join(digests[0].hex()), "changed").unwrap();
    fs::write(cas.join("README"), "no blob").unwrap();
    let key = out.join("ac").join("08".repeat(32));
    let mut bytes = fs::read(&key).unwrap();
    bytes[25] ^= 1;
    fs::write(&key, bytes).unwrap();

    let other = open(&directory.path().join("two"), &system);
    let came = other.blocking().import_all(&out).unwrap();
    assert_eq!((came.blobs, came.blob_bytes, came.actions), (2, 70_500, 1));
    let left_out: Vec<_> = came.left_out.iter().map(|(path, _)| path.clone()).collect();
    let changed = cas.join(digests[0].hex());
    let mut expected = vec![changed, cas.join("README"), key];
    expected[..2].sort_unstable();
    assert_eq!(left_out, expected);
    assert_eq!(
        other.blocking().contains(&digests).unwrap(),
        [false, true, true]
    );
    assert_eq!(other.blocking().get_action(&[7; 32]).unwrap(), Some(entry));
    let digest = Digest::of(&contents[2]);
    let name = Sha256Digest::of(&contents[2]);
    assert_eq!(other.blocking().resolve(&[name]).unwrap(), [Some(digest)]);
}

#[test]
fn a_missing_directory_is_empty_and_a_file_in_its_place_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let store = open(&directory.path().join("store"), &system);
    let none = store.blocking().import_all(&directory.path().join("none"));
    assert_eq!(none.unwrap(), cas_actor::Transfer::default());
    fs::write(directory.path().join("cas"), "a file").unwrap();
    let error = store.blocking().import_all(directory.path()).unwrap_err();
    assert!(matches!(error, PutError::Source(_)), "{error}");
}
