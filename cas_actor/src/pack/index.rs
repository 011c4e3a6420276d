//! The checkpoint of a pack's index: a sorted table on disk.
//!
//! Owns: the format of the table.
//! Does not know: files, and how one is searched (`table`); the segments' content.
//! Invariants: a table is written once and never changed; a table of which any bit is wrong is no table
//! when it is opened. Damage that comes later can mislead a search until somebody asks whether the table
//! [is intact](super::table::Table::is_intact), but the record that it leads to proves itself, so it is never
//! believed.
//!
//! Format, all numbers little endian: `ZKI3`, number of segments (u32), number of entries (u64),
//! covered segment (u32), covered end (u32), blobs, their bytes, action entries, their bytes, links,
//! their bytes (u64 each), 16 bytes of BLAKE3 over the entries, 16 bytes of BLAKE3 over all that and the segments; each segment: number (u32), end (u32),
//! live bytes (u64); each entry, sorted by hash and kind: hash (32 bytes), segment, offset, length
//! of the payload with the kind in the top two bits, second of last use, size of the content (u32 each).
#![forbid(unsafe_code)]

use crate::digest::HASH_BYTES;
use crate::layout::Kind;
use crate::stats::Usage;

const MAGIC: &[u8; 4] = b"ZKI3";
const OLDER_MAGICS: [&[u8; 4]; 2] = [b"ZKI1", b"ZKI2"];
const USAGE_AT: usize = 24;
const ENTRIES_CHECK_AT: usize = USAGE_AT + 48;
const CHECK_AT: usize = ENTRIES_CHECK_AT + CHECK_BYTES;
const CHECK_BYTES: usize = 16;
pub(super) const HEADER_BYTES: usize = CHECK_AT + CHECK_BYTES;
const SEGMENT_BYTES: usize = 16;
/// Bytes of an entry.
pub(crate) const ENTRY_BYTES: usize = HASH_BYTES + 20;
const ACTION_BIT: u32 = 1 << 31;
const LINK_BIT: u32 = 1 << 30;

/// An entry as it lies on disk.
pub(super) type Entry = [u8; ENTRY_BYTES];

/// The name of a record.
pub(crate) type Name = ([u8; HASH_BYTES], Kind);

/// Where a record lies, and when it was last used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    /// Bytes of the payload, below 2^30.
    pub(crate) length: u32,
    /// Seconds since 1970.
    pub(crate) used: u32,
    /// Bytes of the content, which may be compressed in the payload.
    pub(crate) size: u32,
}

/// What is known of a segment without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentState {
    pub(crate) number: u32,
    /// End of its last record.
    pub(crate) end: u32,
    /// Bytes of records that the index points to.
    pub(crate) live_bytes: u64,
}

impl SegmentState {
    pub(crate) fn empty(number: u32) -> Self {
        Self {
            number,
            end: 0,
            live_bytes: 0,
        }
    }
}

/// Up to where a checkpoint covers the segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Covered {
    pub(crate) segment: u32,
    pub(crate) end: u32,
}

/// Whether bytes are a table of a format before this one.
pub(crate) fn is_older(bytes: &[u8]) -> bool {
    OLDER_MAGICS.iter().any(|magic| bytes.starts_with(*magic))
}

/// Makes any bytes a table: with the right magic, number of entries and checksums, once the entries were
/// changed. `None` if there are too few of them.
pub(crate) fn seal(mut bytes: Vec<u8>, change: impl FnOnce(&mut [Entry])) -> Option<Vec<u8>> {
    let most_segments = bytes.len().checked_sub(HEADER_BYTES)? / SEGMENT_BYTES;
    let segments = (u32_at(&bytes, 4) as usize).min(most_segments);
    let entries_at = HEADER_BYTES + segments * SEGMENT_BYTES;
    let entries = (bytes.len() - entries_at) / ENTRY_BYTES;
    bytes.truncate(entries_at + entries * ENTRY_BYTES);
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..8].copy_from_slice(&u32::try_from(segments).ok()?.to_le_bytes());
    bytes[8..16].copy_from_slice(&(entries as u64).to_le_bytes());
    change(bytes[entries_at..].as_chunks_mut().0);
    let entries_check = first_bytes(blake3::Hasher::new().update(&bytes[entries_at..]));
    bytes[ENTRIES_CHECK_AT..CHECK_AT].copy_from_slice(&entries_check);
    let check = check(&bytes[..CHECK_AT], &bytes[HEADER_BYTES..entries_at]);
    bytes[CHECK_AT..HEADER_BYTES].copy_from_slice(&check);
    Some(bytes)
}

/// What the head of a table says: its header, and its segments.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) covered: Covered,
    pub(super) usage: Usage,
    pub(super) segments: Vec<SegmentState>,
    pub(super) entries_at: usize,
    pub(super) entries: usize,
    pub(super) entries_check: [u8; CHECK_BYTES],
}

/// Bytes of the head of a table with so many segments.
pub(super) fn head_bytes_of(segments: usize) -> usize {
    HEADER_BYTES + segments * SEGMENT_BYTES
}

/// Bytes of the head, if this is a header of a table.
pub(super) fn head_bytes(header: &[u8]) -> Option<usize> {
    if header.len() < HEADER_BYTES || !header.starts_with(MAGIC) {
        return None;
    }
    let segments = u32_at(header, 4) as usize;
    HEADER_BYTES.checked_add(segments.checked_mul(SEGMENT_BYTES)?)
}

/// Reads the head of a table of so many bytes, and checks that the entries are all there.
pub(super) fn parse(bytes: &[u8], size_bytes: u64) -> Option<Parsed> {
    let entries_at = head_bytes(bytes)?;
    let entries = usize::try_from(u64_at(bytes, 8)).ok()?;
    let end = entries_at.checked_add(entries.checked_mul(ENTRY_BYTES)?)?;
    if end as u64 != size_bytes || bytes.len() < entries_at {
        return None;
    }
    let check = check(&bytes[..CHECK_AT], &bytes[HEADER_BYTES..entries_at]);
    if bytes[CHECK_AT..HEADER_BYTES] != check {
        return None;
    }
    let segments = bytes[HEADER_BYTES..entries_at].chunks_exact(SEGMENT_BYTES);
    let mut entries_check = [0; CHECK_BYTES];
    entries_check.copy_from_slice(&bytes[ENTRIES_CHECK_AT..CHECK_AT]);
    Some(Parsed {
        entries_check,
        covered: Covered {
            segment: u32_at(bytes, 16),
            end: u32_at(bytes, 20),
        },
        usage: Usage {
            blobs: u64_at(bytes, USAGE_AT),
            blob_bytes: u64_at(bytes, USAGE_AT + 8),
            actions: u64_at(bytes, USAGE_AT + 16),
            action_bytes: u64_at(bytes, USAGE_AT + 24),
            links: u64_at(bytes, USAGE_AT + 32),
            link_bytes: u64_at(bytes, USAGE_AT + 40),
        },
        segments: segments
            .map(|segment| SegmentState {
                number: u32_at(segment, 0),
                end: u32_at(segment, 4),
                live_bytes: u64_at(segment, 8),
            })
            .collect(),
        entries_at,
        entries,
    })
}

impl Parsed {
    /// The head as it lies on disk.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.entries_at);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&(self.segments.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.entries as u64).to_le_bytes());
        out.extend_from_slice(&self.covered.segment.to_le_bytes());
        out.extend_from_slice(&self.covered.end.to_le_bytes());
        let usage = &self.usage;
        for number in [
            usage.blobs,
            usage.blob_bytes,
            usage.actions,
            usage.action_bytes,
            usage.links,
            usage.link_bytes,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.entries_check);
        out.extend_from_slice(&[0; CHECK_BYTES]);
        for segment in &self.segments {
            out.extend_from_slice(&segment.number.to_le_bytes());
            out.extend_from_slice(&segment.end.to_le_bytes());
            out.extend_from_slice(&segment.live_bytes.to_le_bytes());
        }
        let check = check(&out[..CHECK_AT], &out[HEADER_BYTES..]);
        out[CHECK_AT..HEADER_BYTES].copy_from_slice(&check);
        out
    }
}

/// An entry as it lies on disk.
pub(super) fn encode_entry((hash, kind): &Name, place: &Place) -> Entry {
    let kind = match kind {
        Kind::Blob => 0,
        Kind::Action => ACTION_BIT,
        Kind::Link => LINK_BIT,
    };
    let length = place.length | kind;
    let numbers = [place.segment, place.offset, length, place.used, place.size];
    let mut entry = [0; ENTRY_BYTES];
    entry[..HASH_BYTES].copy_from_slice(hash);
    let rest = entry[HASH_BYTES..].chunks_exact_mut(4);
    for (bytes, number) in rest.zip(numbers) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    entry
}

fn check(header: &[u8], segments: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hasher = blake3::Hasher::new();
    first_bytes(hasher.update(header).update(segments))
}

pub(super) fn first_bytes(hasher: &blake3::Hasher) -> [u8; CHECK_BYTES] {
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..CHECK_BYTES]);
    check
}

pub(super) fn decode_entry(entry: &Entry) -> (Name, Place) {
    let mut hash = [0; HASH_BYTES];
    hash.copy_from_slice(&entry[..HASH_BYTES]);
    let length = u32_at(entry, HASH_BYTES + 8);
    let kind = match (length & ACTION_BIT, length & LINK_BIT) {
        (0, 0) => Kind::Blob,
        (0, _) => Kind::Link,
        _ => Kind::Action,
    };
    let place = Place {
        segment: u32_at(entry, HASH_BYTES),
        offset: u32_at(entry, HASH_BYTES + 4),
        length: length & !(ACTION_BIT | LINK_BIT),
        used: u32_at(entry, HASH_BYTES + 12),
        size: u32_at(entry, HASH_BYTES + 16),
    };
    ((hash, kind), place)
}

/// Finds an entry among sorted ones.
pub(super) fn search(entries: &[Entry], name: &Name) -> Option<usize> {
    let found = entries.binary_search_by(|entry| decode_entry(entry).0.cmp(name));
    found.ok()
}

/// The first eight bytes as a number that sorts like them.
pub(super) fn prefix(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&bytes[..8]);
    u64::from_be_bytes(first)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::super::table::{Table, Writer};
    use super::*;
    use crate::fs::RealFs;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::ops::Bound;
    use std::os::unix::fs::FileExt;

    fn table(bytes: &[u8]) -> Option<Table> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Table::open(file)
    }

    /// As it is written, and as it is opened.
    fn encode(
        covered: Covered,
        usage: &Usage,
        segments: &[SegmentState],
        entries: &BTreeMap<Name, Place>,
    ) -> (Table, Vec<u8>) {
        let file = tempfile::tempfile().unwrap();
        let mut writer = Writer::new(&RealFs, file.try_clone().unwrap(), segments.len());
        for (name, place) in entries {
            writer.push(name, place).unwrap();
        }
        let table = writer.finish(covered, usage, segments).unwrap();
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        (table, bytes)
    }

    fn entries() -> impl Strategy<Value = BTreeMap<Name, Place>> {
        // Few distinct first bytes, so that neighbours and equal prefixes occur.
        let name = (0u8..4, 0u8..4, any::<u8>(), 0u8..3).prop_map(|(a, b, c, kind)| {
            let mut hash = [a; HASH_BYTES];
            hash[7] = b;
            hash[31] = c;
            (hash, [Kind::Blob, Kind::Action, Kind::Link][kind as usize])
        });
        let place =
            (any::<[u32; 4]>(), 0..LINK_BIT).prop_map(|([segment, offset, used, size], length)| {
                Place {
                    segment,
                    offset,
                    length,
                    used,
                    size,
                }
            });
        prop::collection::btree_map(name, place, 0..300)
    }

    proptest! {
        #[test]
        fn finds_what_is_there_and_nothing_else(entries in entries(), others in entries()) {
            let covered = Covered { segment: 3, end: 99 };
            let segments = [SegmentState { number: 3, end: 99, live_bytes: 5 }];
            let usage = Usage {
                blobs: 1,
                blob_bytes: 2,
                actions: 3,
                action_bytes: 4,
                links: 5,
                link_bytes: 6,
            };
            let (written, bytes) = encode(covered, &usage, &segments, &entries);
            for table in [written, table(&bytes).unwrap()] {
                prop_assert_eq!((table.covered(), table.usage()), (covered, usage));
                prop_assert_eq!(table.segments(), &segments[..]);
                let mut met = table.entries_from(0);
                prop_assert_eq!(met.by_ref().collect::<BTreeMap<_, _>>(), entries.clone());
                prop_assert!(met.is_intact());
                for name in entries.keys().chain(others.keys()) {
                    let behind = table.entries_from(table.first_after(Some(name))).next();
                    let expected = entries.range((Bound::Excluded(*name), Bound::Unbounded)).next();
                    prop_assert_eq!(behind, expected.map(|(name, place)| (*name, *place)));
                    prop_assert_eq!(table.find(name), entries.get(name).copied());
                }
            }
        }

        #[test]
        fn uses_are_kept_beside_the_table(entries in entries(), at in any::<prop::sample::Index>(), now: u32) {
            prop_assume!(!entries.is_empty());
            let (_, bytes) = encode(Covered::default(), &Usage::default(), &[], &entries);
            let mut table = table(&bytes).unwrap();
            let (name, place) = entries.iter().nth(at.index(entries.len())).unwrap();
            prop_assert_eq!(table.touch(name, now), Some(*place));
            let used = Place { used: place.used.max(now), ..*place };
            let mut expected = entries.clone();
            expected.insert(*name, used);
            prop_assert_eq!(table.entries_from(0).collect::<BTreeMap<_, _>>(), expected);
            prop_assert_eq!(table.find(name), Some(used));
        }

        #[test]
        fn any_bytes_parse_or_not(mut bytes in any::<Vec<u8>>(), magic in any::<bool>()) {
            if magic && bytes.len() > 4 {
                bytes[..4].copy_from_slice(MAGIC);
            }
            prop_assert!(table(&bytes).is_none());
            if let Some(sealed) = seal(bytes, |_| ()) {
                prop_assert!(table(&sealed).is_some());
            }
        }

        #[test]
        fn any_flipped_bit_is_noticed(
            entries in entries(), at in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            let segments = [SegmentState { number: 3, end: 99, live_bytes: 5 }];
            let (_, mut bytes) = encode(Covered::default(), &Usage::default(), &segments, &entries);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(table(&bytes).is_none());
        }
    }
}
