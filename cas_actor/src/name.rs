//! The names by which clients ask for a blob: one of two hashes, with or without the size.
//!
//! Owns: [`BlobName`] and what can be said of it without looking anything up.
//! Does not know: which names the store holds (`lookup`, `locate`).
//! Invariant: two names of one blob never name two blobs, for both hashes are collision free.
#![forbid(unsafe_code)]

use std::fmt;

use crate::digest::{Digest, DigestParseError, EMPTY_BLAKE3, HASH_BYTES, parse_hash, push_hex};
use crate::sha256::Sha256Digest;

/// SHA-256 of no bytes (FIPS 180-4).
const EMPTY_SHA256: [u8; HASH_BYTES] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// The function that made a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HashFunction {
    /// What the store itself names blobs by.
    Blake3,
    /// What most build tools name blobs by.
    Sha256,
}

/// A blob as a client names it.
///
/// ```
/// use cas_actor::{BlobName, Digest, Sha256Digest};
/// // A URL such as `/cas/<hash>` says neither the function nor the size.
/// let name = BlobName::from_hex(&Sha256Digest::of(b"hello").hex())?;
/// assert_eq!(name.function(), None);
/// let name = BlobName::from(Digest::of(b"hello"));
/// assert_eq!(name.size_bytes(), Some(5));
/// # Ok::<(), cas_actor::DigestParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlobName {
    hash: [u8; HASH_BYTES],
    function: Option<HashFunction>,
    size_bytes: Option<u64>,
}

impl BlobName {
    /// A name from its parts. `None` for what the client does not say: either function is tried
    /// then, and any size will do.
    pub const fn new(
        function: Option<HashFunction>,
        hash: [u8; HASH_BYTES],
        size_bytes: Option<u64>,
    ) -> Self {
        Self {
            hash,
            function,
            size_bytes,
        }
    }

    /// A name of 64 hex characters (either case) and nothing else.
    ///
    /// # Errors
    /// When `hex` is not exactly 64 hex characters.
    pub fn from_hex(hex: &str) -> Result<Self, DigestParseError> {
        Ok(Self::new(None, parse_hash(hex)?, None))
    }

    /// The hash.
    pub const fn hash(&self) -> &[u8; HASH_BYTES] {
        &self.hash
    }

    /// The function of the hash, where the name says it.
    pub const fn function(&self) -> Option<HashFunction> {
        self.function
    }

    /// The size of the content in bytes, where the name says it.
    pub const fn size_bytes(&self) -> Option<u64> {
        self.size_bytes
    }

    /// The store's own name of the blob, where it follows from this one.
    pub fn digest(&self) -> Option<Digest> {
        if self.is_empty_blob() {
            return Some(Digest::new(EMPTY_BLAKE3, 0));
        }
        match (self.function, self.size_bytes) {
            (Some(HashFunction::Blake3), Some(size)) => Some(Digest::new(self.hash, size)),
            _ => None,
        }
    }

    /// Whether a blob with these two names, the second where it is known, has this one.
    pub fn names(&self, digest: &Digest, sha256: Option<&Sha256Digest>) -> bool {
        let blake3 = *digest.hash() == self.hash;
        let sha256 = sha256.is_some_and(|name| *name.hash() == self.hash);
        let hash = match self.function {
            Some(HashFunction::Blake3) => blake3,
            Some(HashFunction::Sha256) => sha256,
            None => blake3 || sha256,
        };
        hash && self.fits(digest)
    }

    /// Whether this name may lead to that blob, as far as can be told without its second name.
    pub(crate) fn may_lead_to(&self, digest: &Digest) -> bool {
        let is_blake3 = *digest.hash() == self.hash;
        let function = match self.function {
            Some(HashFunction::Blake3) => is_blake3,
            // One hash is not made by both functions; no content of bytes is named apart.
            Some(HashFunction::Sha256) => !is_blake3,
            None => true,
        };
        function && self.fits(digest)
    }

    /// Whether the size of the name, if it says one, is that of the blob.
    pub(crate) fn fits(&self, digest: &Digest) -> bool {
        self.size_bytes
            .is_none_or(|size_bytes| size_bytes == digest.size_bytes())
    }

    /// Whether a hash of this function may be meant.
    pub(crate) fn may_be(&self, function: HashFunction) -> bool {
        self.function.is_none_or(|said| said == function)
    }

    fn is_empty_blob(&self) -> bool {
        let blake3 = self.may_be(HashFunction::Blake3) && self.hash == EMPTY_BLAKE3;
        let sha256 = self.may_be(HashFunction::Sha256) && self.hash == EMPTY_SHA256;
        self.size_bytes.unwrap_or(0) == 0 && (blake3 || sha256)
    }
}

impl From<Digest> for BlobName {
    fn from(digest: Digest) -> Self {
        Self::new(
            Some(HashFunction::Blake3),
            *digest.hash(),
            Some(digest.size_bytes()),
        )
    }
}

impl From<Sha256Digest> for BlobName {
    fn from(name: Sha256Digest) -> Self {
        Self::new(
            Some(HashFunction::Sha256),
            *name.hash(),
            Some(name.size_bytes()),
        )
    }
}

/// `[function:]hex[/size]`.
impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let function = match self.function {
            Some(HashFunction::Blake3) => "blake3:",
            Some(HashFunction::Sha256) => "sha256:",
            None => "",
        };
        let mut hex = String::with_capacity(2 * HASH_BYTES);
        push_hex(&mut hex, &self.hash);
        write!(f, "{function}{hex}")?;
        self.size_bytes.map_or(Ok(()), |size| write!(f, "/{size}"))
    }
}

impl fmt::Debug for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobName({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_blob_is_known_by_all_its_names() {
        let empty = Some(Digest::of(b""));
        let sha256 = Sha256Digest::of(b"");
        assert_eq!(BlobName::from(sha256).digest(), empty);
        assert_eq!(BlobName::from_hex(&sha256.hex()).unwrap().digest(), empty);
        let blake3 = Digest::of(b"").hex();
        assert_eq!(BlobName::from_hex(&blake3).unwrap().digest(), empty);
        let lie = Sha256Digest::new(EMPTY_SHA256, 1);
        assert_eq!(BlobName::from(lie).digest(), None);
    }

    #[test]
    fn a_name_fits_its_content_only() {
        let (digest, sha256) = (Digest::of(b"x"), Sha256Digest::of(b"x"));
        let both = |name: BlobName| name.names(&digest, Some(&sha256));
        assert!(both(digest.into()) && both(sha256.into()));
        assert!(both(BlobName::from_hex(&sha256.hex()).unwrap()));
        assert!(both(BlobName::from_hex(&digest.hex()).unwrap()));
        assert!(!both(Sha256Digest::new(*sha256.hash(), 2).into()));
        assert!(!both(BlobName::new(
            Some(HashFunction::Sha256),
            *digest.hash(),
            None
        )));
        assert!(!BlobName::from(sha256).names(&digest, None));
    }

    #[test]
    fn reads_like_what_it_says() {
        let digest = Digest::of(b"x");
        let hex = digest.hex();
        assert_eq!(
            BlobName::from(digest).to_string(),
            format!("blake3:{hex}/1")
        );
        assert_eq!(BlobName::from_hex(&hex).unwrap().to_string(), hex);
    }
}
