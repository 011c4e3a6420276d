//! What fuzzing reaches of segments and indexes.
//!
//! Owns: what must hold of any bytes as either.
//! Does not know: who chooses them (`fuzzing` of the crate).
#![forbid(unsafe_code)]

use super::record::{self, Met};
use super::{Name, index};
use crate::digest::HASH_BYTES;
use crate::layout::Kind;

/// Scans bytes as a segment; returns how many records were met.
///
/// # Panics
/// When what was met does not lie within the bytes, in its order and without a hole.
pub(crate) fn scan_segment(bytes: &[u8]) -> usize {
    let (mut at, mut records) = (0, 0);
    let end = record::scan(bytes, 0, |offset, met| {
        assert_eq!(offset, at);
        at += match met {
            Met::Gap(gap) => gap.len(),
            Met::Record(header, payload) | Met::Damaged(header, payload) => {
                records += 1;
                assert_eq!(header.length as usize, payload.len());
                record::HEADER_BYTES + payload.len()
            }
        };
    });
    assert!(end == at && end <= bytes.len());
    records
}

/// The same with headers that are right, which no fuzzer would find by itself.
///
/// # Panics
/// When a record is not met.
pub(crate) fn scan_sealed_segment(mut bytes: Vec<u8>) {
    let records = record::seal(&mut bytes);
    assert_eq!(scan_segment(&bytes), records);
}

/// Searches bytes as an index, also with a header that is right.
pub(crate) fn search_index(bytes: &[u8], hash: &[u8; HASH_BYTES]) {
    let name: Name = (*hash, Kind::Blob);
    let _ = index::search_bytes(bytes, &name);
    if let Some(sealed) = index::seal(bytes.to_vec()) {
        let _ = index::search_bytes(&sealed, &name);
    }
}
