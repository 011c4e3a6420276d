//! What fuzzing reaches of segments and indexes.
//!
//! Owns: what must hold of any bytes as either.
//! Does not know: who chooses them (`fuzzing` of the crate).
#![forbid(unsafe_code)]

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};

use super::record::{self, Met};
use super::table::Table;
use super::{Name, Place, index};
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

/// Opens bytes as an index and searches it, also with checksums that are right, which no fuzzer would find by
/// itself, and with its entries in their order.
///
/// # Panics
/// When what is found is not what lies there.
pub(crate) fn search_index(bytes: &[u8], hash: &[u8; HASH_BYTES]) {
    let name: Name = (*hash, Kind::Blob);
    if let Some(table) = table(bytes) {
        search(table, &name);
    }
    let Some(sealed) = index::seal(bytes.to_vec(), |_| ()) else {
        return;
    };
    let any = table(&sealed).expect("it was sealed");
    let names = any.entries_from(0).map(|(name, _)| name);
    let names: Vec<Name> = names.chain([name]).collect();
    assert_eq!(any.len() + 1, names.len());
    search(any, &name);
    let in_order = index::seal(sealed, |entries| {
        entries.sort_unstable_by_key(|entry| index::decode_entry(entry).0);
    });
    let mut in_order = in_order
        .and_then(|bytes| table(&bytes))
        .expect("it was sealed");
    let entries: Vec<(Name, Place)> = in_order.entries_from(0).collect();
    for name in &names {
        let first = entries.partition_point(|entry| entry.0 < *name);
        let behind = entries.partition_point(|entry| entry.0 <= *name);
        assert_eq!(in_order.first_after(Some(name)), behind);
        let found = in_order.find(name);
        assert_eq!(found.is_some(), first < behind);
        assert!(found.is_none_or(|found| entries[first..behind].contains(&(*name, found))));
    }
    if let Some(place) = in_order.touch(&name, u32::MAX) {
        assert!(entries.contains(&(name, place)));
        assert_eq!(in_order.find(&name).map(|place| place.used), Some(u32::MAX));
    }
}

/// In a table of which nothing is known but that it is one, what is found has the name at least.
fn search(mut table: Table, name: &Name) {
    let found = table.find(name);
    assert_eq!(table.touch(name, 0), found);
    assert!(table.first_after(Some(name)) <= table.len());
    assert!(found.is_none_or(|found| table.entries_from(0).any(|entry| entry == (*name, found))));
    assert!(table.is_intact() && !table.is_harmed());
}

/// A table is searched where it lies, here in a file that is in memory only.
fn table(bytes: &[u8]) -> Option<Table> {
    let file = memfd_create("index", MemfdFlags::CLOEXEC).expect("there is memory");
    let file = File::from(file);
    file.write_all_at(bytes, 0).expect("there is memory");
    Table::open(file)
}
