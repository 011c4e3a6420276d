//! One entry of the action cache, in memory and on disk.
//!
//! Owns: the format of an entry and its checksum.
//! Does not know: what the payload means, or where entries lie.
//! Invariants: decoding never panics and never returns a payload that was not stored under the
//! same key; the checksum covers key, outputs and payload.
//!
//! Format: `ZKA1`, 16 bytes of BLAKE3 over key and the rest, the number of outputs (u32, little
//! endian), each output (32 bytes of hash, u64 size), the payload up to the end.
#![forbid(unsafe_code)]

use bytes::Bytes;

use crate::digest::{Digest, HASH_BYTES};
use crate::layout::ActionKey;

const MAGIC: &[u8; 4] = b"ZKA1";
const CHECKSUM_BYTES: usize = 16;
const COUNT_BYTES: usize = 4;
const SIZE_BYTES: usize = 8;
const OUTPUT_BYTES: usize = HASH_BYTES + SIZE_BYTES;
const HEADER_BYTES: usize = MAGIC.len() + CHECKSUM_BYTES + COUNT_BYTES;

/// What the action cache keeps for one key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActionEntry {
    /// The result, in whatever form the caller gives it.
    pub payload: Bytes,
    /// The blobs that the result points to. An entry whose outputs are gone is worth nothing;
    /// [`Store::get_complete_action`](crate::Store::get_complete_action) treats it as a miss.
    pub outputs: Vec<Digest>,
}

impl ActionEntry {
    /// An entry that points to no blobs.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: payload.into(),
            outputs: Vec::new(),
        }
    }

    /// Names the blobs that the result points to.
    #[must_use]
    pub fn with_outputs(mut self, outputs: Vec<Digest>) -> Self {
        self.outputs = outputs;
        self
    }

    /// The entry as it is stored under `key`.
    pub fn encode(&self, key: &ActionKey) -> Vec<u8> {
        let size = HEADER_BYTES + self.outputs.len() * OUTPUT_BYTES + self.payload.len();
        let mut out = Vec::with_capacity(size);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[0; CHECKSUM_BYTES]);
        let count = u32::try_from(self.outputs.len()).expect("fewer than 2^32 outputs");
        out.extend_from_slice(&count.to_le_bytes());
        for output in &self.outputs {
            out.extend_from_slice(output.hash());
            out.extend_from_slice(&output.size_bytes().to_le_bytes());
        }
        out.extend_from_slice(&self.payload);
        let checksum = checksum(key, &out[MAGIC.len() + CHECKSUM_BYTES..]);
        out[MAGIC.len()..MAGIC.len() + CHECKSUM_BYTES].copy_from_slice(&checksum);
        out
    }

    /// Reads what [`encode`](Self::encode) wrote under the same key.
    ///
    /// # Errors
    /// When the bytes are anything else.
    pub fn decode(key: &ActionKey, stored: &Bytes) -> Result<Self, EntryError> {
        let rest = stored.strip_prefix(MAGIC).ok_or(EntryError::Magic)?;
        let (promised, rest) = rest
            .split_at_checked(CHECKSUM_BYTES)
            .ok_or(EntryError::Truncated)?;
        if promised != checksum(key, rest) {
            return Err(EntryError::Checksum);
        }
        let (count, rest) = rest
            .split_first_chunk::<COUNT_BYTES>()
            .ok_or(EntryError::Truncated)?;
        let size = (u32::from_le_bytes(*count) as usize)
            .checked_mul(OUTPUT_BYTES)
            .ok_or(EntryError::Truncated)?;
        let (outputs, payload) = rest.split_at_checked(size).ok_or(EntryError::Truncated)?;
        Ok(Self {
            payload: stored.slice_ref(payload),
            outputs: outputs
                .chunks_exact(OUTPUT_BYTES)
                .map(decode_output)
                .collect(),
        })
    }
}

impl From<Bytes> for ActionEntry {
    fn from(payload: Bytes) -> Self {
        Self::new(payload)
    }
}

impl From<Vec<u8>> for ActionEntry {
    fn from(payload: Vec<u8>) -> Self {
        Self::new(payload)
    }
}

fn decode_output(record: &[u8]) -> Digest {
    let mut hash = [0; HASH_BYTES];
    let mut size = [0; SIZE_BYTES];
    hash.copy_from_slice(&record[..HASH_BYTES]);
    size.copy_from_slice(&record[HASH_BYTES..]);
    Digest::new(hash, u64::from_le_bytes(size))
}

fn checksum(key: &ActionKey, rest: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key).update(rest);
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM_BYTES]);
    checksum
}

/// Why stored bytes are not an entry. Drop them: the action has to run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// It does not start like an entry.
    #[error("not an action entry of this format")]
    Magic,
    /// It ends too early.
    #[error("the action entry is cut off")]
    Truncated,
    /// It was damaged, or belongs to another key.
    #[error("the checksum of the action entry does not match")]
    Checksum,
}

/// Makes any bytes an entry as far as its checksum tells.
pub(crate) fn seal(key: &ActionKey, content: &[u8]) -> Vec<u8> {
    [MAGIC, &checksum(key, content)[..], content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> impl Strategy<Value = ActionEntry> {
        let output = (any::<[u8; 32]>(), any::<u64>()).prop_map(|(h, s)| Digest::new(h, s));
        let outputs = prop::collection::vec(output, 0..5);
        (any::<Vec<u8>>(), outputs).prop_map(|(p, o)| ActionEntry::new(p).with_outputs(o))
    }

    proptest! {
        #[test]
        fn round_trips(entry in entry(), key in any::<[u8; 32]>()) {
            let stored = Bytes::from(entry.encode(&key));
            prop_assert_eq!(ActionEntry::decode(&key, &stored), Ok(entry));
        }

        #[test]
        fn any_flipped_bit_or_cut_is_noticed(
            entry in entry(), key in any::<[u8; 32]>(),
            at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>(),
        ) {
            let mut stored = entry.encode(&key);
            let index = at.index(stored.len());
            if cut {
                stored.truncate(index);
            } else {
                stored[index] ^= 1 << bit;
            }
            prop_assert!(ActionEntry::decode(&key, &stored.into()).is_err());
        }

        #[test]
        fn an_entry_is_bound_to_its_key(entry in entry(), key in any::<[u8; 32]>()) {
            let mut other = key;
            other[31] ^= 1;
            let stored = Bytes::from(entry.encode(&key));
            prop_assert_eq!(ActionEntry::decode(&other, &stored), Err(EntryError::Checksum));
        }

        #[test]
        fn any_bytes_decode_or_err(bytes in any::<Vec<u8>>(), key in any::<[u8; 32]>()) {
            let _ = ActionEntry::decode(&key, &bytes.into());
        }
    }
}
