//! Tokens that this node hands out itself, for a while.
//!
//! Owns: their form and the key that proves them ours.
//! Does not know: what whoever holds one may do (`access`).
//! Invariants: the key is random and never leaves the process, so tokens end with it; a token says
//! which credential it stands for and until when, and both are proven.
#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio_rustls::rustls::crypto::ring;

const PREFIX: &str = "zako1.";
/// Who, until when, and the proof.
const WHO: usize = 4;
const SAID: usize = WHO + 8;
const WHOLE: usize = SAID + blake3::OUT_LEN;

/// Issues tokens and recognises them.
pub(crate) struct Tokens {
    key: [u8; blake3::KEY_LEN],
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Default for Tokens {
    fn default() -> Self {
        let mut key = [0; blake3::KEY_LEN];
        // The system's random numbers, which are there from the first process on.
        ring::default_provider()
            .secure_random
            .fill(&mut key)
            .expect("the system has random numbers");
        Self { key }
    }
}

impl Tokens {
    /// A token that stands for a credential until then.
    pub(crate) fn issue(&self, who: u32, expires_unix_s: u64) -> String {
        let mut token = Vec::with_capacity(WHOLE);
        token.extend_from_slice(&who.to_le_bytes());
        token.extend_from_slice(&expires_unix_s.to_le_bytes());
        let proof = blake3::keyed_hash(&self.key, &token);
        token.extend_from_slice(proof.as_bytes());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(token))
    }

    /// For whom a token stands, unless it is not ours or has expired.
    pub(crate) fn who(&self, token: &[u8], now: SystemTime) -> Option<u32> {
        let token = token.strip_prefix(PREFIX.as_bytes())?;
        let token: [u8; WHOLE] = URL_SAFE_NO_PAD.decode(token).ok()?.try_into().ok()?;
        let (said, proof) = token.split_at(SAID);
        // Compared in constant time.
        if blake3::keyed_hash(&self.key, said) != *proof {
            return None;
        }
        let (who, expires) = said.split_at(WHO);
        let expires = Duration::from_secs(u64::from_le_bytes(expires.try_into().ok()?));
        let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        (now < expires).then_some(u32::from_le_bytes(who.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_a_while_and_cannot_be_made_up() {
        let tokens = Tokens::default();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let token = tokens.issue(3, 1000);
        assert_eq!(tokens.who(token.as_bytes(), at(999)), Some(3));
        assert_eq!(tokens.who(token.as_bytes(), at(1000)), None);
        assert_eq!(Tokens::default().who(token.as_bytes(), at(1)), None);
        for index in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[index] ^= 1;
            assert_ne!(tokens.who(&other, at(999)), Some(3), "byte {index}");
        }
    }
}
