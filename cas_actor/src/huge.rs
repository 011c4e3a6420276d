//! Which sizes the huge blobs have that are here: whether a huge file may be one of them.
//!
//! Owns: a note for each size, which is an entry like others.
//! Does not know: how files are taken in (`ingest`).
//! Invariant: a note is a hint. One that is missing costs a copy, one that misleads costs reading
//! the file once more; what is stored follows from hashing alone.
#![forbid(unsafe_code)]

use crate::action::ActionEntry;
use crate::commit::Durability;
use crate::digest::Digest;
use crate::layout::ActionKey;
use crate::store::Store;

/// Up to this size a file is hashed before it is copied, for the store may hold it already. A
/// larger one, which a build seldom makes again, is hashed while it is copied, unless a blob of its
/// size is here.
pub(crate) const LOOK_FIRST_UP_TO_BYTES: u64 = 64 * 1024 * 1024;
/// Notes never collide with the keys of other users of the store's entries.
const DOMAIN: &[u8; 32] = b"zako store: sizes of huge blobs.";

impl Store {
    /// Notes that a blob is here, if it is a huge one.
    pub(crate) async fn note_size(&self, digest: Digest) {
        if digest.size_bytes() <= LOOK_FIRST_UP_TO_BYTES {
            return;
        }
        let note = ActionEntry::default().with_outputs(vec![digest]);
        let volatile = self.with_durability(Durability::Volatile);
        let key = key(digest.size_bytes());
        if let Err(error) = volatile.put_action(&key, note).await {
            tracing::debug!(%error, "the size of a huge blob was not noted");
        }
    }

    /// Whether a huge blob of this size is here.
    pub(crate) async fn holds_size(&self, size_bytes: u64) -> bool {
        let noted = self.get_complete_action(&key(size_bytes)).await;
        noted.is_ok_and(|note| note.is_some())
    }
}

fn key(size_bytes: u64) -> ActionKey {
    *blake3::keyed_hash(DOMAIN, &size_bytes.to_le_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreConfig;
    use std::fs::File;

    #[test]
    fn a_huge_file_that_is_here_is_known_by_its_size() {
        let directory = tempfile::tempdir().unwrap();
        let system = actor_rt::System::new().unwrap();
        let store = Store::open(StoreConfig::new(directory.path().join("store")), &system).unwrap();
        let store = store.with_durability(Durability::Volatile);
        let path = directory.path().join("huge");
        let size = LOOK_FIRST_UP_TO_BYTES + 1;
        // Holes: it takes no room and is read fast.
        File::create(&path).unwrap().set_len(size).unwrap();
        let holds = |size| crate::blocking::block_on(store.holds_size(size));
        assert!(!holds(size));
        let digest = store.blocking().put_file(&path).unwrap();
        assert!(holds(size) && !holds(size + 1));
        assert_eq!(store.blocking().put_file(&path).unwrap(), digest);
        assert!(store.blocking().delete(&digest).unwrap());
        assert!(!holds(size));
    }
}
