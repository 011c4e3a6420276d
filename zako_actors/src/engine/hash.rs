//! Hashes and keys: the names of contents and of actions.
//!
//! Owns the canonical encoding of a key: every field is tagged and length-prefixed, so that no two
//! different actions write the same bytes. Does not know what the fields mean.
//! Invariant: nothing but content reaches a key: no interner id, no timestamp, no absolute path of
//! the workspace.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// 32 bytes of BLAKE3.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }

    /// A hash from its bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A hash from 64 hex characters.
    pub fn from_hex(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text)
            .ok()
            .map(|hash| Self(*hash.as_bytes()))
    }

    /// Its bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

// As one byte string: as an array, serde would visit every byte, and a no-op reads thousands.
impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Hash;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("32 bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Hash, E> {
                bytes
                    .try_into()
                    .map(Hash)
                    .map_err(|_| E::invalid_length(bytes.len(), &self))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// Writes a key field by field; it is hashed when all of it is there, because a hasher takes longer over
/// each of many short fields than over their bytes.
pub struct KeyWriter(Vec<u8>);

/// Room for the key of a usual step.
const USUAL_KEY_BYTES: usize = 1024;

impl KeyWriter {
    /// A key of the kind `domain`; kinds never collide.
    pub fn new(domain: &str) -> Self {
        let mut writer = Self(Vec::with_capacity(USUAL_KEY_BYTES));
        writer.text(domain);
        writer
    }

    /// One text or byte field.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// One text field.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// One number, also the length that precedes a list.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    /// One hash.
    pub fn hash(&mut self, hash: &Hash) -> &mut Self {
        self.0.extend_from_slice(hash.bytes());
        self
    }

    /// A list of texts.
    pub fn texts<'a>(&mut self, texts: impl ExactSizeIterator<Item = &'a str>) -> &mut Self {
        self.number(texts.len() as u64);
        for text in texts {
            self.text(text);
        }
        self
    }

    /// The key.
    pub fn finish(&self) -> Hash {
        Hash::of(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_together() {
        let key = |fields: &[&str]| {
            let mut writer = KeyWriter::new("t");
            for field in fields {
                writer.text(field);
            }
            writer.finish()
        };
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a"]), key(&["a", ""]));
        assert_ne!(KeyWriter::new("a").finish(), KeyWriter::new("b").finish());
    }

    #[test]
    fn a_hash_survives_its_encoding() {
        let hash = Hash::of(b"x");
        let bytes = postcard::to_stdvec(&hash).unwrap();
        assert_eq!(bytes.len(), 33);
        assert_eq!(postcard::from_bytes::<Hash>(&bytes).unwrap(), hash);
    }
}
