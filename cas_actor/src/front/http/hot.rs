//! What this thread has answered lately.
//!
//! Owns: a few small contents for each thread, and how long they are believed.
//! Does not know: where they come from, or what a request is.
//! Invariants: what was removed or bound anew before a request came is not its answer, for then
//! `changes` differs; where the store's memory is to learn what is used, it is asked once a second;
//! the content is a copy of the thread's own.
//!
//! Everything that threads share costs the way of a cache line from one core to another: the locks of
//! names and of the memory tier, the order of use, the counts of references. A request answered from
//! here writes to nothing that is shared.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{Blob, Digest, HASH_BYTES};

/// Contents of one thread.
const PLACES: usize = 64;
/// Larger ones are not copied: then the bytes cost more than the way to them.
const UP_TO_BYTES: u64 = 4096;
/// After so long the store is asked again.
const FRESH: Duration = Duration::from_secs(1);

/// What a content was asked for by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    /// Which of the fronts of this process.
    pub(super) front: u64,
    /// Whether the key is one of an entry, else it is the hash of a blob.
    pub(super) is_entry: bool,
    pub(super) key: [u8; HASH_BYTES],
}

/// How often what the answer hangs on was changed: the name, the blob.
pub(super) type Changes = (u64, u64);

struct Place {
    asked: Asked,
    /// What was found, once it was asked for twice.
    found: Option<Found>,
}

struct Found {
    changes: Changes,
    until: Instant,
    digest: Digest,
    content: Bytes,
}

thread_local! {
    static HOT: RefCell<[Option<Place>; PLACES]> = const { RefCell::new([const { None }; PLACES]) };
}

/// The content, if this thread has it and nothing has changed since.
pub(super) fn get(
    asked: &Asked,
    changes: impl FnOnce(&Digest) -> Changes,
) -> Option<(Digest, Blob)> {
    get_at(Instant::now, asked, changes)
}

fn get_at(
    now: impl FnOnce() -> Instant,
    asked: &Asked,
    changes: impl FnOnce(&Digest) -> Changes,
) -> Option<(Digest, Blob)> {
    HOT.with_borrow(|places| {
        let place = places[index(asked)].as_ref()?;
        let found = place.found.as_ref().filter(|_| place.asked == *asked)?;
        let is_so = found.changes == changes(&found.digest) && now() < found.until;
        is_so.then(|| (found.digest, Blob::from(found.content.clone())))
    })
}

/// Takes note of a content that was found when there were so many changes; keeps it if that is the
/// second time.
pub(super) fn keep(asked: Asked, changes: Changes, digest: Digest, blob: &Blob) {
    if digest.size_bytes() > UP_TO_BYTES {
        return;
    }
    let now = Instant::now();
    HOT.with_borrow_mut(|places| {
        let place = &mut places[index(&asked)];
        match place {
            Some(place) if place.asked == asked => {
                place.found = Some(Found {
                    changes,
                    until: now + FRESH,
                    digest,
                    content: Bytes::copy_from_slice(blob),
                });
            }
            // Something else is asked for more often.
            Some(Place {
                found: Some(found), ..
            }) if now < found.until => {}
            _ => *place = Some(Place { asked, found: None }),
        }
    });
}

/// Hashes are uniform.
fn index(asked: &Asked) -> usize {
    usize::from(asked.key[HASH_BYTES - 2]) % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_and_has_not_changed_is_believed() {
        let content = Blob::from(Bytes::from_static(b"content"));
        let digest = Digest::of(&content);
        let asked = Asked {
            front: u64::MAX,
            is_entry: false,
            key: *digest.hash(),
        };
        // What is kept from now on is fresh at this time, however long the test takes.
        let now = Instant::now();
        let get = |asked: &Asked, changes: fn(&Digest) -> Changes| get_at(|| now, asked, changes);
        for _ in 0..2 {
            assert_eq!(get(&asked, |_| (1, 2)), None);
            keep(asked, (1, 2), digest, &content);
        }
        assert_eq!(get(&asked, |_| (1, 2)), Some((digest, content.clone())));
        // Something else at the same place does not drive it out.
        keep(Asked { front: 7, ..asked }, (1, 2), digest, &content);
        assert!(get(&asked, |_| (1, 2)).is_some());
        assert_eq!(get(&asked, |_| (2, 2)), None);
        assert_eq!(get(&asked, |_| (1, 3)), None);
        for other in [
            Asked { front: 7, ..asked },
            Asked {
                is_entry: true,
                ..asked
            },
            Asked {
                key: [asked.key[0]; HASH_BYTES],
                ..asked
            },
        ] {
            assert_eq!(get(&other, |_| (1, 2)), None, "{other:?}");
        }
    }
}
