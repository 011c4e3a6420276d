//! One blob, two hashes: whichever a client asks by, with or without the size.
#![forbid(unsafe_code)]

use actor_rt::System;
use cas_actor::{BlobName, Digest, HashFunction, PutError, Sha256Digest, Store, StoreConfig};

const SIZES: [usize; 5] = [0, 1, 3_000, 65_536, 200_000];

fn content(seed: u8, size: usize) -> Vec<u8> {
    (0..size).map(|at| seed ^ (at % 251) as u8).collect()
}

fn open(root: &std::path::Path, system: &System, sha256_names: bool) -> Store {
    let config = StoreConfig {
        shards: 3,
        sha256_names,
        ..StoreConfig::new(root)
    };
    Store::open(config, system).unwrap()
}

/// Every way to name a content.
fn names(content: &[u8]) -> Vec<BlobName> {
    let (digest, sha256) = (Digest::of(content), Sha256Digest::of(content));
    vec![
        digest.into(),
        sha256.into(),
        BlobName::from_hex(&digest.hex()).unwrap(),
        BlobName::from_hex(&sha256.hex()).unwrap(),
        BlobName::new(Some(HashFunction::Blake3), *digest.hash(), None),
        BlobName::new(Some(HashFunction::Sha256), *sha256.hash(), None),
        BlobName::new(None, *digest.hash(), Some(digest.size_bytes())),
        BlobName::new(None, *sha256.hash(), Some(digest.size_bytes())),
    ]
}

#[test]
fn what_is_put_by_one_name_is_read_by_every_name() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let mut seed = 0;
    let mut all = Vec::new();
    let store = open(directory.path(), &system, true);
    for size in SIZES {
        for put_by in 0..names(b"").len() {
            seed += 1;
            let content = content(seed, size);
            let mut upload = store.upload_as(names(&content)[put_by]);
            upload.write(&content).unwrap();
            assert_eq!(upload.sha256(), Some(Sha256Digest::of(&content)));
            let (digest, _) = store.blocking().commit(upload).unwrap();
            assert_eq!(digest, Digest::of(&content));
            all.push(content);
        }
    }
    let check = |store: &Store| {
        for content in &all {
            let (digest, names) = (Digest::of(content), names(content));
            let located = store.blocking().locate(&names).unwrap();
            assert_eq!(located, vec![Some(digest); names.len()]);
            for name in names {
                assert_eq!(store.lead_of(&name), Some(digest), "{name}");
                let (found, blob) = store.blocking().get_named(&name).unwrap().unwrap();
                assert_eq!((found, &*blob), (digest, &content[..]));
            }
        }
    };
    check(&store);
    store.blocking().close();
    drop(store);
    // Without the switch, what has two names keeps them.
    check(&open(directory.path(), &system, false));
}

#[test]
fn a_name_of_the_wrong_function_or_size_is_no_name() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let store = open(directory.path(), &system, true);
    let digest = store.blocking().put("content").unwrap();
    let sha256 = Sha256Digest::of(b"content");
    // Fills the cache of names; none of the lies may be answered from it.
    store.blocking().locate(&names(b"content")).unwrap();
    let lies = [
        BlobName::new(Some(HashFunction::Sha256), *digest.hash(), None),
        BlobName::new(Some(HashFunction::Blake3), *sha256.hash(), None),
        Sha256Digest::new(*sha256.hash(), 8).into(),
        BlobName::new(None, *digest.hash(), Some(8)),
        BlobName::new(None, [7; 32], None),
    ];
    assert_eq!(store.blocking().locate(&lies).unwrap(), [None; 5]);
    for lie in lies {
        assert_eq!(store.blocking().get_named(&lie).unwrap(), None, "{lie}");
    }
}

#[test]
fn content_that_is_not_what_its_name_says_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let store = open(directory.path(), &system, false);
    for name in names(b"promised") {
        let mut upload = store.upload_as(name);
        upload.write(b"othertxt").unwrap();
        let refused = store.blocking().commit(upload).unwrap_err();
        let told = matches!(&refused, PutError::NameMismatch(told) if told.expected == name);
        assert!(told, "{refused}");
    }
    assert_eq!(store.blocking().stats().unwrap().blobs, 0);
}

#[test]
fn a_name_outlives_its_blob_and_finds_it_again() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let store = open(directory.path(), &system, true);
    let name = BlobName::from(Sha256Digest::of(b"content"));
    let digest = store.blocking().put("content").unwrap();
    assert!(store.blocking().delete(&digest).unwrap());
    assert_eq!(store.blocking().get_named(&name).unwrap(), None);
    assert_eq!(store.blocking().locate(&[name]).unwrap(), [None]);
    store.blocking().put("content").unwrap();
    assert_eq!(store.blocking().locate(&[name]).unwrap(), [Some(digest)]);
}

#[test]
fn a_build_output_without_a_second_name_gets_one_by_being_put_by_it() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let store = open(directory.path(), &system, false);
    let digest = store.blocking().put("output").unwrap();
    let sha256 = Sha256Digest::of(b"output");
    assert_eq!(store.blocking().resolve(&[sha256]).unwrap(), [None]);
    let put = store.blocking().put_as_sha256(sha256, "output").unwrap();
    assert_eq!(put, digest);
    assert_eq!(store.blocking().resolve(&[sha256]).unwrap(), [Some(digest)]);
}
