//! Small blobs compressed at rest: nobody who reads them can tell.
#![forbid(unsafe_code)]

use std::path::Path;

use actor_rt::System;
use cas_actor::{ByteRange, Digest, Sha256Digest, Store, StoreConfig};

fn open(root: &Path, system: &System, zstd_level: Option<i32>) -> Store {
    let mut config = StoreConfig {
        shards: 2,
        sha256_names: true,
        zstd_level,
        ..StoreConfig::new(root)
    };
    // Everything is read from disk.
    config.memory.capacity_bytes = 0;
    config.wait_for_lock = true;
    Store::open(config, system).unwrap()
}

/// Text, noise and what is too large for a segment.
fn contents() -> Vec<Vec<u8>> {
    let text =
        |size: usize| b"int main(void) { return 0; }\n".repeat(size / 29 + 1)[..size].to_vec();
    let mut noise = vec![0; 20_000];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    vec![text(100), text(3_000), text(65_536), text(200_000), noise]
}

#[test]
fn compressed_blobs_are_read_whole_in_part_and_by_either_name() {
    let (directory, system) = (tempfile::tempdir().unwrap(), System::new().unwrap());
    let contents = contents();
    let digests: Vec<Digest> = contents.iter().map(|content| Digest::of(content)).collect();
    // With the switch on, off and on again: it decides about what comes in only.
    for level in [Some(3), None, Some(19)] {
        let store = open(directory.path(), &system, level);
        let blocking = store.blocking();
        for content in &contents {
            blocking.put(content.clone()).unwrap();
        }
        assert_eq!(
            blocking.contains(&digests).unwrap(),
            vec![true; digests.len()]
        );
        let wrong_size = Digest::new(*digests[1].hash(), 1000);
        assert_eq!(blocking.contains(&[wrong_size]).unwrap(), [false]);
        for (content, digest) in contents.iter().zip(&digests) {
            assert_eq!(*blocking.get(digest).unwrap(), content[..]);
            let part = blocking.get_range(digest, ByteRange::new(17, 50)).unwrap();
            assert_eq!(*part, content[17..67]);
            let second = Sha256Digest::of(content).into();
            let (found, blob) = blocking.get_named(&second).unwrap().unwrap();
            assert_eq!((&found, &*blob), (digest, &content[..]));
        }
        let mut listed = blocking.list().unwrap();
        let mut expected = digests.clone();
        listed.sort();
        expected.sort();
        assert_eq!(listed, expected);
        assert!(blocking.verify(|_| ()).unwrap().is_clean());
        let stats = blocking.stats().unwrap();
        let size: usize = contents.iter().map(Vec::len).sum();
        // All of the two that pay, of which next to nothing is left.
        assert!(stats.blob_bytes < (size - 68_000) as u64, "{stats:?}");
        blocking.close();
    }
}
