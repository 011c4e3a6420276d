//! The name of a blob: its BLAKE3 hash and its size.
//!
//! Owns: the textual forms of a digest and the errors of parsing them, and hashing.
//! Does not know: where a blob lies (`layout`) or which shard owns it (`store`).
//! Invariant: the textual form is lower-case hex, so one blob has one name.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::sha256::Sha256Digest;

/// Bytes in a hash.
pub const HASH_BYTES: usize = 32;
/// Characters of a hash in hex.
const HEX_CHARS: usize = HASH_BYTES * 2;
/// BLAKE3 of no bytes, as in its published test vectors.
pub(crate) const EMPTY_BLAKE3: [u8; HASH_BYTES] = [
    0xaf, 0x13, 0x49, 0xb9, 0xf5, 0xf9, 0xa1, 0xa6, 0xa0, 0x40, 0x4d, 0xea, 0x36, 0xdc, 0xc9, 0x49,
    0x9b, 0xcb, 0x25, 0xc9, 0xad, 0xc1, 0x12, 0xb7, 0xcc, 0x9a, 0x93, 0xca, 0xe4, 0x1f, 0x32, 0x62,
];
const HEX: &[u8; 16] = b"0123456789abcdef";
/// The name of a blob: BLAKE3 of its content, and its size in bytes.
///
/// ```
/// use cas_actor::Digest;
/// let digest = Digest::of(b"hello");
/// assert_eq!(digest.size_bytes(), 5);
/// assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    hash: [u8; HASH_BYTES],
    size_bytes: u64,
}

impl Digest {
    /// The digest of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self {
            hash: *blake3::hash(content).as_bytes(),
            size_bytes: content.len() as u64,
        }
    }

    /// A digest from its parts, as they come from an index or from the wire.
    pub const fn new(hash: [u8; HASH_BYTES], size_bytes: u64) -> Self {
        Self { hash, size_bytes }
    }

    /// A digest from a hash of 64 hex characters (either case) and a size.
    ///
    /// # Errors
    /// When `hex` is not exactly 64 hex characters.
    pub fn from_hex(hex: &str, size_bytes: u64) -> Result<Self, DigestParseError> {
        Ok(Self {
            hash: parse_hash(hex)?,
            size_bytes,
        })
    }

    /// The BLAKE3 hash.
    pub const fn hash(&self) -> &[u8; HASH_BYTES] {
        &self.hash
    }

    /// The size of the content in bytes.
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The hash as 64 lower-case hex characters.
    pub fn hex(&self) -> String {
        hex(&self.hash)
    }

    /// Whether this names the blob of no bytes, which every store holds without storing it.
    pub fn is_empty_blob(&self) -> bool {
        self.size_bytes == 0 && self.hash == EMPTY_BLAKE3
    }
}

/// `hex/size`, the form that [`FromStr`] reads.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.hex(), self.size_bytes)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = DigestParseError;

    /// Reads `hex/size`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (hex, size) = text.split_once('/').ok_or(DigestParseError::NoSize)?;
        let hash = parse_hash(hex)?;
        // `u64::from_str` takes a leading `+`; a name has one spelling only.
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(DigestParseError::Size(size.to_owned()));
        }
        let size_bytes = size
            .parse()
            .map_err(|_| DigestParseError::Size(size.to_owned()))?;
        Ok(Self { hash, size_bytes })
    }
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestParseError {
    /// The hash has another length than 64 characters.
    #[error("a digest has 64 hex characters, this has {found}")]
    Length {
        /// How many characters there were.
        found: usize,
    },
    /// A character is not a hex digit.
    #[error("`{found}` at character {position} is not a hex digit (0-9, a-f)")]
    Character {
        /// The character.
        found: char,
        /// Its place, from 1.
        position: usize,
    },
    /// There is no `/size` after the hash.
    #[error("the size is missing: write the digest as HASH/SIZE")]
    NoSize,
    /// The size is not a number of bytes.
    #[error("`{0}` is not a size in bytes")]
    Size(String),
}

/// Reads 64 hex characters of either case. Loops over places, without an early end: a compiler turns
/// them into a few instructions for many characters at a time, and iterators it does not.
#[allow(clippy::needless_range_loop)]
pub(crate) fn parse_hash(hex: &str) -> Result<[u8; HASH_BYTES], DigestParseError> {
    let Ok(digits) = <&[u8; HEX_CHARS]>::try_from(hex.as_bytes()) else {
        return Err(why_no_hash(hex));
    };
    let (mut nibbles, mut others) = ([0; HEX_CHARS], 0);
    for at in 0..HEX_CHARS {
        let digit = digits[at].wrapping_sub(b'0');
        let letter = (digits[at] | 0x20).wrapping_sub(b'a');
        others |= (u8::from(digit < 10) | u8::from(letter < 6)) ^ 1;
        nibbles[at] = match digit < 10 {
            true => digit,
            false => letter.wrapping_add(10),
        };
    }
    let mut hash = [0; HASH_BYTES];
    for at in 0..HASH_BYTES {
        hash[at] = (nibbles[2 * at] << 4) | nibbles[2 * at + 1];
    }
    match others {
        0 => Ok(hash),
        _ => Err(why_no_hash(hex)),
    }
}

fn why_no_hash(text: &str) -> DigestParseError {
    let mut characters = text.chars().enumerate();
    match characters.find(|(_, found)| !found.is_ascii_hexdigit()) {
        Some((index, found)) => DigestParseError::Character {
            found,
            position: index + 1,
        },
        None => DigestParseError::Length { found: text.len() },
    }
}

/// A hash in lower-case hex.
pub(crate) fn hash_hex(hash: &[u8; HASH_BYTES]) -> [u8; HEX_CHARS] {
    let mut text = [0; HEX_CHARS];
    let (pairs, _) = text.as_chunks_mut::<2>();
    for ([high, low], byte) in pairs.iter_mut().zip(hash) {
        *high = HEX[usize::from(byte >> 4)];
        *low = HEX[usize::from(byte & 15)];
    }
    text
}

/// `bytes` in lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    push_hex(&mut text, bytes);
    text
}

/// Appends `bytes` in lower-case hex.
pub(crate) fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push(HEX[usize::from(byte >> 4)] as char);
        text.push(HEX[usize::from(byte & 15)] as char);
    }
}

/// Computes a digest, or both names of a blob in one pass, from content that arrives in pieces.
#[derive(Clone, Default)]
pub struct Hasher {
    blake3: blake3::Hasher,
    sha256: Option<Sha256>,
    size_bytes: u64,
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A hasher that has seen nothing and computes the second name as well.
    pub fn with_sha256() -> Self {
        Self {
            sha256: Some(Sha256::new()),
            ..Self::default()
        }
    }

    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.blake3.update(piece);
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(piece);
        }
        self.size_bytes += piece.len() as u64;
    }

    /// The digest of everything taken so far.
    pub fn finish(&self) -> Digest {
        Digest::new(*self.blake3.finalize().as_bytes(), self.size_bytes)
    }

    /// The second name of everything taken so far, if the hasher computes it.
    pub fn finish_sha256(&self) -> Option<Sha256Digest> {
        let sha256 = self.sha256.clone()?;
        Some(Sha256Digest::new(sha256.finalize().into(), self.size_bytes))
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher")
            .field("size_bytes", &self.size_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_the_published_vector() {
        // The empty input in the BLAKE3 test vectors.
        let digest = Digest::of(b"");
        assert_eq!(
            digest.hex(),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
        assert!(digest.is_empty_blob());
        assert!(!Digest::of(b"x").is_empty_blob());
    }

    #[test]
    fn says_what_is_wrong_with_a_digest() {
        let good = Digest::of(b"x").hex();
        let parse = |text: &str| text.parse::<Digest>().unwrap_err();
        assert_eq!(parse(&good), DigestParseError::NoSize);
        assert_eq!(parse("abc/1"), DigestParseError::Length { found: 3 });
        assert_eq!(
            parse(&format!("{good}0/1")),
            DigestParseError::Length { found: 65 }
        );
        assert_eq!(
            parse(&good.replacen(|_| true, "é", 1).to_string().add_size()),
            DigestParseError::Character {
                found: 'é',
                position: 1
            }
        );
        for size in ["", "-1", "+1", "1x", "99999999999999999999999"] {
            assert_eq!(
                parse(&format!("{good}/{size}")),
                DigestParseError::Size(size.into())
            );
        }
    }

    #[test]
    fn every_byte_is_a_hex_digit_or_none() {
        let mut text = *b"0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789ABCDEF";
        for byte in 0..128 {
            for place in [0, 31, 63] {
                let before = std::mem::replace(&mut text[place], byte);
                let read = parse_hash(std::str::from_utf8(&text).unwrap());
                let value = char::from(byte).to_digit(16);
                let found = read.ok().map(|hash| match place % 2 {
                    0 => u32::from(hash[place / 2] >> 4),
                    _ => u32::from(hash[place / 2] & 15),
                });
                assert_eq!(found, value, "{byte} at {place}");
                text[place] = before;
            }
        }
    }

    trait AddSize {
        fn add_size(&self) -> String;
    }
    impl AddSize for String {
        fn add_size(&self) -> String {
            format!("{self}/1")
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(hash in any::<[u8; 32]>(), size in any::<u64>()) {
            let digest = Digest::new(hash, size);
            prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
            prop_assert_eq!(Digest::from_hex(&digest.hex().to_uppercase(), size), Ok(digest));
        }

        #[test]
        fn any_text_parses_or_errs_and_never_has_two_spellings(text in "\\PC{0,80}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string().to_lowercase().parse::<Digest>(), Ok(digest));
            }
        }

        #[test]
        fn pieces_hash_like_the_whole(content in any::<Vec<u8>>(), cut in any::<prop::sample::Index>()) {
            let cut = cut.index(content.len() + 1);
            for mut hasher in [Hasher::new(), Hasher::with_sha256()] {
                hasher.update(&content[..cut]);
                hasher.update(&content[cut..]);
                prop_assert_eq!(hasher.finish(), Digest::of(&content));
                if let Some(second) = hasher.finish_sha256() {
                    prop_assert_eq!(second, Sha256Digest::of(&content));
                }
            }
        }
    }
}
