//! One record of a segment: a header that proves itself, then the payload.
//!
//! Owns: the format of records, and finding them in the bytes of a segment.
//! Does not know: files or the index.
//! Invariants: scanning arbitrary bytes never panics; a record is reported only if its header
//! proves itself, its payload is complete, and the payload matches its name; nothing is looked for in the
//! payload of a record that was cut off while it was written: whoever may put a blob chooses what lies there.
//!
//! Format: `ZKR1`, kind (1 byte; one of them is a blob whose payload is compressed, see `deflated`), three zero bytes, length of the payload (u32, little endian),
//! hash or key (32 bytes), the first 8 bytes of BLAKE3 over all of that, the payload.
#![forbid(unsafe_code)]

use std::borrow::Cow;

use bytes::Bytes;

use super::{Name, SEGMENT_BYTES, deflated};
use crate::action::ActionEntry;
use crate::digest::{Digest, HASH_BYTES};
use crate::layout::{Kind, is_packed};
use crate::sha256::follow_link;

/// What every record begins with, and so every segment.
pub(crate) const MAGIC: &[u8; 4] = b"ZKR1";
const LENGTH_AT: usize = 8;
const HASH_AT: usize = 12;
const CHECK_AT: usize = HASH_AT + HASH_BYTES;
const CHECK_BYTES: usize = 8;
/// The kind of a blob whose payload is compressed.
const DEFLATED: u8 = 7;
/// Behind a gap, so many bytes are hashed at most for headers that prove nothing: those in one blob take less than
/// half.
const PATIENCE_BYTES: usize = 4 * SEGMENT_BYTES as usize;
/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = CHECK_AT + CHECK_BYTES;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// The name is gone from here on; there is no payload.
    pub(crate) deleted: bool,
    pub(crate) hash: [u8; HASH_BYTES],
    /// Bytes of the payload.
    pub(crate) length: u32,
    /// Whether the payload is the content compressed; blobs only.
    pub(crate) deflated: bool,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..MAGIC.len()].copy_from_slice(MAGIC);
        out[MAGIC.len()] = match (self.kind, self.deleted) {
            (Kind::Blob, false) if self.deflated => DEFLATED,
            (Kind::Blob, false) => 1,
            (Kind::Action, false) => 2,
            (Kind::Blob, true) => 3,
            (Kind::Action, true) => 4,
            (Kind::Link, false) => 5,
            (Kind::Link, true) => 6,
        };
        out[LENGTH_AT..HASH_AT].copy_from_slice(&self.length.to_le_bytes());
        out[HASH_AT..CHECK_AT].copy_from_slice(&self.hash);
        let check = check(&out[..CHECK_AT]);
        out[CHECK_AT..].copy_from_slice(&check);
        out
    }

    /// The header at the start of `bytes`, if there is one that proves itself.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEADER_BYTES>()?;
        if !bytes.starts_with(MAGIC) || bytes[CHECK_AT..] != check(&bytes[..CHECK_AT]) {
            return None;
        }
        let (kind, deleted) = match bytes[MAGIC.len()] {
            1 | DEFLATED => (Kind::Blob, false),
            2 => (Kind::Action, false),
            3 => (Kind::Blob, true),
            4 => (Kind::Action, true),
            5 => (Kind::Link, false),
            6 => (Kind::Link, true),
            _ => return None,
        };
        Some(Self {
            kind,
            deleted,
            hash: bytes[HASH_AT..CHECK_AT].try_into().ok()?,
            length: u32::from_le_bytes(bytes[LENGTH_AT..HASH_AT].try_into().ok()?),
            deflated: bytes[MAGIC.len()] == DEFLATED,
        })
    }

    /// The header at the start of `bytes`, if it is that of a record of this name and length.
    pub(crate) fn of(bytes: &[u8], name: &Name, length: u32) -> Option<Self> {
        Self::decode(bytes).filter(|header| {
            let named = (header.hash, header.kind) == *name && !header.deleted;
            named && header.length == length
        })
    }

    /// Bytes of the whole record.
    pub(crate) fn record_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.length)
    }

    /// Whether a payload that matches proves the whole record, wherever it was found: nobody can make another
    /// of that name.
    pub(crate) fn is_proven_by_its_hash(&self) -> bool {
        self.kind == Kind::Blob && !self.deleted
    }

    /// Whether there may be such a record. Only entries are longer than a blob that is packed.
    fn is_likely(&self, patience_bytes: usize) -> bool {
        let may_be_long = self.kind == Kind::Action && patience_bytes > 0;
        may_be_long || is_packed(u64::from(self.length))
    }

    /// Bytes of the content that `payload` holds, without proof.
    pub(crate) fn content_bytes(&self, payload: &[u8]) -> u32 {
        match self.deflated {
            true => deflated::size_of(payload).unwrap_or(0),
            false => self.length,
        }
    }

    /// The content, if `payload` holds what the header names.
    pub(crate) fn content<'p>(&self, payload: &'p [u8]) -> Option<Cow<'p, [u8]>> {
        let content = match self.deflated {
            true => Cow::Owned(deflated::inflate(payload)?),
            false => Cow::Borrowed(payload),
        };
        let matches = match (self.deleted, self.kind) {
            (true, _) => content.is_empty(),
            (false, Kind::Blob) => *Digest::of(&content).hash() == self.hash,
            (false, Kind::Action) => {
                ActionEntry::decode(&self.hash, &Bytes::copy_from_slice(&content)).is_ok()
            }
            (false, Kind::Link) => follow_link(&self.hash, &content).is_some(),
        };
        matches.then_some(content)
    }
}

fn check(header: &[u8]) -> [u8; CHECK_BYTES] {
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&blake3::hash(header).as_bytes()[..CHECK_BYTES]);
    check
}

/// What a scan met.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Met<'b> {
    /// An intact record.
    Record(Header, &'b [u8]),
    /// A record whose payload was damaged.
    Damaged(Header, &'b [u8]),
    /// Bytes between records that are no record.
    Gap(&'b [u8]),
}

/// Walks the records of `bytes` from `start`, reporting each with its offset, and returns the end
/// of the last one: what follows is an unfinished write.
///
/// Behind a gap nothing tells where a record begins: a header that is found may lie in the payload of the one
/// that was lost, and says nothing of where the next begins unless its payload is intact. Once the patience is
/// over, only short ones are looked at, each once: what one of them hides is no longer than a blob.
pub(crate) fn scan<'b>(
    bytes: &'b [u8],
    start: usize,
    mut meet: impl FnMut(usize, Met<'b>),
) -> usize {
    let mut end = start.min(bytes.len());
    let (mut from, mut is_chain) = (end, true);
    let mut patience_bytes = PATIENCE_BYTES;
    while let Some((offset, header)) = next_header(bytes, from, is_chain) {
        is_chain &= offset == end;
        if !is_chain && !header.is_likely(patience_bytes) {
            from = offset + 1;
            continue;
        }
        let body = offset + HEADER_BYTES;
        let payload = &bytes[body..body + header.length as usize];
        let is_intact = header.content(payload).is_some();
        if !is_intact && !is_chain && patience_bytes > 0 {
            patience_bytes = patience_bytes.saturating_sub(payload.len());
            from = offset + 1;
            continue;
        }
        if offset > end {
            meet(end, Met::Gap(&bytes[end..offset]));
        }
        end = body + payload.len();
        from = end;
        match is_intact {
            true => meet(offset, Met::Record(header, payload)),
            false => meet(offset, Met::Damaged(header, payload)),
        }
    }
    end
}

/// The next header at or after `from` whose payload is complete. In a chain none where a record that begins
/// right there is cut off, for then all that follows is its payload.
fn next_header(bytes: &[u8], from: usize, is_chain: bool) -> Option<(usize, Header)> {
    let mut at = from;
    loop {
        let rest = bytes.get(at..)?;
        if let Some(header) = Header::decode(rest) {
            if header.record_bytes() <= rest.len() as u64 {
                return Some((at, header));
            }
            if at == from && is_chain {
                return None;
            }
        }
        let rest = rest.get(1..)?;
        at += 1 + rest.windows(MAGIC.len()).position(|found| found == MAGIC)?;
    }
}

/// Makes any bytes a chain of records with right headers, as far as they reach, and returns how many there
/// are: kinds and lengths are those that the bytes say, shortened to what is there. Every other blob has the
/// hash of its payload, so that some are intact.
pub(crate) fn seal(bytes: &mut [u8]) -> usize {
    let (mut rest, mut records) = (bytes, 0);
    while let Some((head, body)) = rest.split_first_chunk_mut::<HEADER_BYTES>() {
        // One that kind is none of ours would be met as a gap.
        head[MAGIC.len()] = head[MAGIC.len()] % DEFLATED + 1;
        head[..MAGIC.len()].copy_from_slice(MAGIC);
        let said = u16::from_le_bytes([head[LENGTH_AT], head[LENGTH_AT + 1]]);
        let length = usize::from(said).min(body.len());
        head[LENGTH_AT..HASH_AT].copy_from_slice(&(length as u32).to_le_bytes());
        let (payload, behind) = body.split_at_mut(length);
        if head[HASH_AT].is_multiple_of(2) {
            head[HASH_AT..CHECK_AT].copy_from_slice(Digest::of(payload).hash());
        }
        let check = check(&head[..CHECK_AT]);
        head[CHECK_AT..].copy_from_slice(&check);
        (rest, records) = (behind, records + 1);
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sha256::Sha256Digest;
    use proptest::prelude::*;

    fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        let hash = *Digest::of(content).hash();
        let deflated = (kind % 8 == 4)
            .then(|| deflated::deflate(content, 1))
            .flatten();
        let is_deflated = deflated.is_some();
        let (kind, deleted, payload) = match kind % 4 {
            0 => (
                Kind::Blob,
                false,
                deflated.map_or(content.to_vec(), Into::into),
            ),
            1 => (
                Kind::Action,
                false,
                ActionEntry::new(content.to_vec()).encode(&hash),
            ),
            2 => {
                let link = Sha256Digest::new(hash, 0).link_to(&Digest::of(content));
                (Kind::Link, false, link.to_vec())
            }
            _ => (Kind::Blob, true, Vec::new()),
        };
        let header = Header {
            kind,
            deleted,
            hash,
            length: payload.len() as u32,
            deflated: is_deflated,
        };
        [header.encode().to_vec(), payload].concat()
    }

    fn content() -> impl Strategy<Value = Vec<u8>> {
        let repeated = (any::<[u8; 3]>(), 0usize..300).prop_map(|(part, times)| part.repeat(times));
        prop_oneof![any::<Vec<u8>>(), repeated]
    }

    /// Offsets of the intact records, whether anything else was met, and the end.
    fn scanned(bytes: &[u8], start: usize) -> (Vec<usize>, bool, usize) {
        let (mut offsets, mut harmed) = (Vec::new(), false);
        let end = scan(bytes, start, |offset, met| match met {
            Met::Record(..) => offsets.push(offset),
            Met::Damaged(..) | Met::Gap(_) => harmed = true,
        });
        (offsets, harmed, end)
    }

    /// A blob of records was half written when the process was killed, and the next one believed them: who
    /// may put blobs, and nothing else, had put an entry.
    #[test]
    fn the_records_in_a_blob_that_is_cut_off_are_no_records() {
        let whole = record(0, b"before");
        let forged = record(1, b"whatever somebody likes");
        let outer = record(0, &forged.repeat(20));
        for cut in [1, outer.len() / 2, outer.len() - HEADER_BYTES] {
            let bytes = [&whole[..], &outer[..outer.len() - cut]].concat();
            assert_eq!(scanned(&bytes, 0), (vec![0], false, whole.len()));
        }
    }

    /// In the payload of a record whose header is lost lay headers of long records, and what they spanned was
    /// never looked at: of who may put a blob, and everything behind it.
    #[test]
    fn headers_in_the_payload_of_a_lost_record_hide_nothing() {
        let forged = |length| {
            let header = Header {
                kind: Kind::Blob,
                deleted: false,
                hash: [9; HASH_BYTES],
                length,
                deflated: false,
            };
            header.encode()
        };
        let nested = record(0, b"nested");
        for forged in [forged(500), forged(1 << 30)] {
            let before = record(0, b"before");
            // Behind an intact record, and behind none.
            let outer = record(0, &[&forged[..], &nested, &forged].concat());
            let behind = record(0, &[7; 300]);
            let mut bytes = [&before[..], &outer, &behind, &behind].concat();
            bytes[before.len()] ^= 1;
            let (found, harmed, end) = scanned(&bytes, 0);
            assert!(harmed);
            let first = before.len() + outer.len();
            for offset in [0, first, first + behind.len()] {
                assert!(found.contains(&offset), "{offset} {found:?}");
            }
            assert_eq!(end, bytes.len());
        }
    }

    /// Many of them took the patience with what they spanned, and the next one hid half of the segment: longer than
    /// any blob that is packed, or of an entry, which may be that long.
    #[test]
    fn many_headers_in_the_payload_of_a_lost_record_hide_nothing() {
        for (kind, number, reach) in [(Kind::Blob, 800, 1 << 22), (Kind::Action, 80, 1 << 22)] {
            let forged = |index: usize| {
                let header = Header {
                    kind,
                    deleted: false,
                    hash: [9; HASH_BYTES],
                    length: ((number - index) * HEADER_BYTES + reach) as u32,
                    deflated: false,
                };
                // What only its checksum shows to be no entry.
                [&header.encode()[..], b"ZKA1", &[0; 20]].concat()
            };
            let forged: Vec<u8> = (0..number).flat_map(forged).collect();
            let before = record(0, b"before");
            let outer = record(0, &forged);
            let behind = record(0, &[7; 1 << 16]);
            let behind = behind.repeat((reach >> 16) + 2);
            let mut bytes = [&before[..], &outer, &behind].concat();
            bytes[before.len()] ^= 1;
            let (found, harmed, end) = scanned(&bytes, 0);
            assert!(harmed && end == bytes.len());
            assert_eq!(found.len(), 1 + (reach >> 16) + 2, "{kind:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_scan_without_a_panic(bytes in any::<Vec<u8>>(), start in 0usize..300) {
            let (_, _, end) = scanned(&bytes, start);
            prop_assert!(end <= bytes.len());
        }

        #[test]
        fn a_flipped_bit_costs_one_record_and_a_cut_only_the_tail(
            contents in prop::collection::vec((any::<u8>(), content()), 1..8),
            at in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            let mut bytes = Vec::new();
            let mut offsets = Vec::new();
            for (kind, content) in &contents {
                offsets.push(bytes.len());
                bytes.extend(record(*kind, content));
            }
            prop_assert_eq!(scanned(&bytes, 0), (offsets.clone(), false, bytes.len()));
            let at = at.index(bytes.len());
            let hit = offsets.iter().rposition(|offset| *offset <= at).unwrap();

            let (found, harmed, end) = scanned(&bytes[..at], 0);
            prop_assert_eq!((&found[..], harmed, end), (&offsets[..hit], false, offsets[hit]));

            // Compressed, there are bits that nobody looks at: then the content proves itself.
            let start = offsets[hit];
            let is_deflated = bytes[start + MAGIC.len()] == DEFLATED;
            let may_be_kept = is_deflated && at >= start + HEADER_BYTES;
            bytes[at] ^= 1 << bit;
            let (found, _, _) = scanned(&bytes, 0);
            if !(may_be_kept && found.contains(&start)) {
                offsets.remove(hit);
            }
            prop_assert_eq!(found, offsets);
        }
    }
}
