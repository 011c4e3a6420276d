//! The second name of a blob: its SHA-256, for clients that know no BLAKE3.
//!
//! Owns: that name, and the record that leads from it to the blob.
//! Does not know: where blobs or records lie.
//! Invariants: a link is written only for content of which both hashes were computed in one pass;
//! a damaged link is noticed and never followed.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::blob::Blob;
use crate::digest::{Digest, DigestParseError, HASH_BYTES, parse_hash, push_hex};

/// What is read of a blob at a time.
const PIECE_BYTES: usize = 256 * 1024;
const CHECK_BYTES: usize = 8;
const LINK_BYTES: usize = HASH_BYTES + 8 + CHECK_BYTES;

/// The name of a blob for clients that use SHA-256: that hash of its content, and its size.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256Digest {
    hash: [u8; HASH_BYTES],
    size_bytes: u64,
}

impl Sha256Digest {
    /// The name of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self::new(Sha256::digest(content).into(), content.len() as u64)
    }

    /// The name of a blob, which is read in pieces. May take long.
    ///
    /// # Errors
    /// When its file cannot be read, or is shorter now.
    pub(crate) fn of_blob(blob: Blob) -> io::Result<Self> {
        let size_bytes = blob.len() as u64;
        let (mut rest, mut hasher) = (blob, Sha256::new());
        while !rest.is_empty() {
            hasher.update(rest.take_piece(PIECE_BYTES)?);
        }
        Ok(Self::new(hasher.finalize().into(), size_bytes))
    }

    /// A name from its parts, as they come from the wire.
    pub const fn new(hash: [u8; HASH_BYTES], size_bytes: u64) -> Self {
        Self { hash, size_bytes }
    }

    /// A name from a hash of 64 hex characters (either case) and a size.
    ///
    /// # Errors
    /// When `hex` is not exactly 64 hex characters.
    pub fn from_hex(hex: &str, size_bytes: u64) -> Result<Self, DigestParseError> {
        Ok(Self::new(parse_hash(hex)?, size_bytes))
    }

    /// The SHA-256 hash.
    pub const fn hash(&self) -> &[u8; HASH_BYTES] {
        &self.hash
    }

    /// The size of the content in bytes.
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The hash as 64 lower-case hex characters.
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(2 * HASH_BYTES);
        push_hex(&mut text, &self.hash);
        text
    }

    /// The payload of the record that leads from this name to `digest`.
    pub(crate) fn link_to(&self, digest: &Digest) -> Bytes {
        let mut link = Vec::with_capacity(LINK_BYTES);
        link.extend_from_slice(digest.hash());
        link.extend_from_slice(&digest.size_bytes().to_le_bytes());
        let check = check(&self.hash, &link);
        link.extend_from_slice(&check);
        link.into()
    }
}

/// `sha256:hex/size`.
impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}/{}", self.hex(), self.size_bytes)
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256Digest({self})")
    }
}

/// Where a link leads; `None` when it is damaged or belongs to another name.
pub(crate) fn follow_link(hash: &[u8; HASH_BYTES], link: &[u8]) -> Option<Digest> {
    let link: &[u8; LINK_BYTES] = link.try_into().ok()?;
    let (target, promised) = link.split_at(HASH_BYTES + 8);
    if promised != check(hash, target) {
        return None;
    }
    let (target_hash, size_bytes) = target.split_first_chunk::<HASH_BYTES>()?;
    let size_bytes = u64::from_le_bytes(size_bytes.try_into().ok()?);
    Some(Digest::new(*target_hash, size_bytes))
}

fn check(hash: &[u8; HASH_BYTES], target: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(hash).update(target);
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..CHECK_BYTES]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_the_published_vector() {
        // FIPS 180-4, the one-block message sample.
        assert_eq!(
            Sha256Digest::of(b"abc").hex(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    proptest! {
        #[test]
        fn a_link_leads_to_its_blob_or_nowhere(
            name in any::<[u8; 32]>(), hash in any::<[u8; 32]>(), size in any::<u64>(),
            at in 0..LINK_BYTES, bit in 0u8..8,
        ) {
            let (name, digest) = (Sha256Digest::new(name, size), Digest::new(hash, size));
            let mut link = name.link_to(&digest).to_vec();
            prop_assert_eq!(follow_link(name.hash(), &link), Some(digest));
            let mut other = *name.hash();
            other[0] ^= 1;
            prop_assert_eq!(follow_link(&other, &link), None);
            link[at] ^= 1 << bit;
            prop_assert_eq!(follow_link(name.hash(), &link), None);
            prop_assert_eq!(follow_link(name.hash(), &link[1..]), None);
        }
    }
}
