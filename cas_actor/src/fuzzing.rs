//! What fuzzing runs: for each format that comes from outside, what holds of any bytes.
//!
//! Owns: the properties, by the names of the targets in `fuzz/` and of the directories in `fuzz/seeds`.
//! Does not know: who chooses the bytes: a fuzzer, or the test that runs the seeds.
//! Invariant: a target panics where a property does not hold, and nowhere else.
#![forbid(unsafe_code)]

use bytes::Bytes;

use crate::digest::HASH_BYTES;
use crate::{ActionEntry, Digest};

/// A property of any bytes.
pub type Target = fn(&[u8]);

/// All targets.
pub const TARGETS: [(&str, Target); 5] = [
    ("digest", digest),
    ("entry", entry),
    ("index", index),
    ("names", names),
    ("segment", segment),
];

/// Any text is a digest with one spelling, or an error.
pub fn digest(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
    }
}

/// Any bytes are the one encoding of an action entry, or an error; the same behind a right checksum.
pub fn entry(bytes: &[u8]) {
    let key = [7; 32];
    let sealed = crate::action::seal(&key, bytes);
    for stored in [Bytes::copy_from_slice(bytes), sealed.into()] {
        if let Ok(entry) = ActionEntry::decode(&key, &stored) {
            assert_eq!(entry.encode(&key), stored);
        }
    }
}

/// Any bytes can be opened as an index and searched, also with a header that is right. The hash that is
/// searched for comes first.
pub fn index(bytes: &[u8]) {
    if let Some((hash, bytes)) = bytes.split_first_chunk::<HASH_BYTES>() {
        crate::pack::fuzzing::search_index(bytes, hash);
    }
}

/// Any text has an answer as the path of a request, whatever its dialect, as the name of a resource, and as
/// that of a blob; a key stays within its space.
pub fn names(bytes: &[u8]) {
    crate::front::fuzzing::read_names(&String::from_utf8_lossy(bytes));
}

/// Any bytes can be recovered as a segment, whose records lie within them in their order; made a chain of
/// records, whatever they are, all of them are met.
pub fn segment(bytes: &[u8]) {
    crate::pack::fuzzing::scan_segment(bytes);
    crate::pack::fuzzing::scan_sealed_segment(bytes.to_vec());
}
