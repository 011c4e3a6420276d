//! Blobs cut into chunks and put together again.
#![forbid(unsafe_code)]

use actor_rt::System;
use cas_actor::{
    ChunkError, Chunking, Digest, GetError, PutError, Sha256Digest, Store, StoreConfig,
};

fn content(size: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..size).map(next).collect()
}

#[test]
fn a_blob_is_cut_once_and_put_together_elsewhere() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let system = System::new().unwrap();
    for sha256_names in [false, true] {
        let open = |root: &std::path::Path| {
            let config = StoreConfig {
                shards: 2,
                sha256_names,
                ..StoreConfig::new(root.join(sha256_names.to_string()))
            };
            Store::open(config, &system).unwrap()
        };
        let (here, there) = (open(first.path()), open(second.path()));
        let content = content(3_000_000);
        let chunking = Chunking::with_average(64 * 1024).unwrap();
        let digest = here.blocking().put(content.clone()).unwrap();
        let chunks = here.blocking().split(&digest, chunking).unwrap();
        assert!(chunks.len() > 20, "{}", chunks.len());
        let puts = here.blocking().stats().unwrap().puts;
        assert_eq!(here.blocking().split(&digest, chunking).unwrap(), chunks);
        assert_eq!(here.blocking().stats().unwrap().puts, puts, "remembered");

        let mut digests = Vec::new();
        for chunk in &chunks {
            let bytes = here.blocking().get(&chunk.digest).unwrap().into_bytes();
            let sha256 = sha256_names.then(|| Sha256Digest::of(&bytes));
            assert_eq!(chunk.sha256, sha256);
            digests.push(there.blocking().put(bytes).unwrap());
        }
        let name = Sha256Digest::of(&content).into();
        assert_eq!(there.blocking().splice(name, &digests).unwrap(), digest);
        assert_eq!(*there.blocking().get(&digest).unwrap(), content);

        digests.swap(0, 1);
        let refused = there.blocking().splice(name, &digests).unwrap_err();
        assert!(
            matches!(
                refused,
                ChunkError::Put(PutError::NameMismatch(_) | PutError::Sha256Mismatch { .. })
            ),
            "{refused}"
        );
        digests.push(Digest::of(b"nowhere"));
        let refused = there.blocking().splice(name, &digests).unwrap_err();
        let told = matches!(
            refused,
            ChunkError::Get(GetError::NotFound(_)) | ChunkError::Put(_)
        );
        assert!(told, "{refused}");

        assert!(here.blocking().delete(&chunks[3].digest).unwrap());
        assert_eq!(
            here.blocking().split(&digest, chunking).unwrap(),
            chunks,
            "cut again"
        );
    }
}
