//! Digests of files that come from elsewhere, as the web writes them: `sha256-…`, `sha512-…`.
//!
//! Owns their text and the hashing. Does not know whose digest it is.
//! Invariant: equal values mean the same function and the same bytes, however they were written.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// A function that a digest may be of, the strongest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    /// 32 bytes.
    Sha256,
    /// 48 bytes.
    Sha384,
    /// 64 bytes.
    Sha512,
}

impl Function {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// The digest of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Integrity {
    function: Function,
    hash: Vec<u8>,
}

impl Integrity {
    /// Reads `sha512-BASE64`, or the same in hex; of several with spaces between, as npm writes them,
    /// the strongest.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let known = text.split_whitespace().filter_map(Self::one);
        known.max().ok_or_else(|| {
            format!(
                "`{text}` is no digest; write sha256- or sha512- and the digest in base64 or hex, as \
                 `openssl dgst -sha256 -binary FILE | base64` or `sha256sum FILE` prints it"
            )
        })
    }

    fn one(text: &str) -> Option<Self> {
        let (name, value) = text.split_once(['-', ':'])?;
        // What may follow a digest of the web are options, which nobody uses.
        let value = value.split('?').next().unwrap_or(value);
        let function = Function::ALL.into_iter().find(|f| f.name() == name)?;
        let hash = match value.len() == 2 * function.bytes() {
            true => from_hex(value)?,
            false => STANDARD.decode(value).ok()?,
        };
        (hash.len() == function.bytes()).then_some(Self { function, hash })
    }

    /// Which function it is of.
    pub fn function(&self) -> Function {
        self.function
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = (0..text.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

impl fmt::Display for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}-{}",
            self.function.name(),
            STANDARD.encode(&self.hash)
        )
    }
}

/// Hashes a file as it comes.
#[derive(Clone)]
pub enum Hashing {
    /// With 32 bytes.
    Sha256(Sha256),
    /// With 48 bytes.
    Sha384(Sha384),
    /// With 64 bytes.
    Sha512(Sha512),
}

impl Hashing {
    /// The beginning.
    pub fn new(function: Function) -> Self {
        match function {
            Function::Sha256 => Self::Sha256(Sha256::new()),
            Function::Sha384 => Self::Sha384(Sha384::new()),
            Function::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// The next piece.
    pub fn update(&mut self, piece: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(piece),
            Self::Sha384(hasher) => hasher.update(piece),
            Self::Sha512(hasher) => hasher.update(piece),
        }
    }

    /// The digest of everything.
    pub fn finish(self) -> Integrity {
        let (function, hash) = match self {
            Self::Sha256(hasher) => (Function::Sha256, hasher.finalize().to_vec()),
            Self::Sha384(hasher) => (Function::Sha384, hasher.finalize().to_vec()),
            Self::Sha512(hasher) => (Function::Sha512, hasher.finalize().to_vec()),
        };
        Integrity { function, hash }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of `abc`, as FIPS 180-4 has it.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn both_spellings_of_a_digest_are_the_digest() {
        let mut hashing = Hashing::new(Function::Sha256);
        hashing.update(b"a");
        hashing.update(b"bc");
        let digest = hashing.finish();
        assert_eq!(Integrity::parse(&format!("sha256-{ABC}")).unwrap(), digest);
        assert_eq!(Integrity::parse(&format!("sha256:{ABC}")).unwrap(), digest);
        let text = digest.to_string();
        assert_eq!(text, "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
        assert_eq!(Integrity::parse(&text).unwrap(), digest);
    }

    #[test]
    fn of_several_the_strongest_counts_and_what_is_none_is_refused() {
        let long = Hashing::new(Function::Sha512).finish();
        let short = Hashing::new(Function::Sha256).finish();
        let both = format!("sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk= {short} {long}");
        assert_eq!(Integrity::parse(&both).unwrap(), long);
        for wrong in [
            "",
            "sha256-",
            "sha256-abc",
            "md5-1234",
            "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
            ABC,
            "sha512-€€",
        ] {
            assert!(
                Integrity::parse(wrong)
                    .unwrap_err()
                    .contains("is no digest"),
                "{wrong}"
            );
        }
    }
}
