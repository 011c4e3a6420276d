//! Who may do what: bearer and basic credentials with a right per name space.
//!
//! Owns: reading the `Authorization` header and the decision.
//! Does not know: requests beyond that header, or how the refusal is worded in a dialect.
//! Invariants: without any configured credential everybody may write; with one, who names none
//! may do what `anonymous` says, by default nothing; secrets are kept and compared as hashes, so
//! that no comparison tells how much of a guess was right.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::Space;
use super::token::Tokens;

/// Clients disagree about padding.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
/// Bazel encodes basic credentials like this.
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);

/// What somebody may do with a name space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Nothing.
    #[default]
    None,
    /// Read entries.
    Read,
    /// Read, store and delete entries.
    Write,
}

/// The `[access]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessConfig {
    /// What a client without credentials may do. By default everything while there are no
    /// credentials, and nothing once there are.
    pub anonymous: Option<Right>,
    /// `[[access.credential]]`: who is known.
    pub credential: Vec<CredentialConfig>,
}

/// One `[[access.credential]]`: a bearer token, or a user with a password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CredentialConfig {
    /// For messages; never compared with anything that comes over the network.
    pub name: String,
    /// The token of `Authorization: Bearer`.
    pub bearer: Option<String>,
    /// The user of `Authorization: Basic`.
    pub user: Option<String>,
    /// The password of `Authorization: Basic`.
    pub password: Option<String>,
    /// The right to every name space that `spaces` does not list.
    pub right: Right,
    /// Rights to single name spaces: `spaces = { ccache = "write", bazel = "read" }`.
    pub spaces: BTreeMap<Space, Right>,
}

/// The configured credentials make no sense. Fix the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Neither a token nor a user with a password, or both.
    #[error(
        "credential {number} (`{name}`) in [[access.credential]] needs either `bearer`, or `user` \
         and `password`"
    )]
    Incomplete {
        /// Its place in the file, from 1.
        number: usize,
        /// Its name.
        name: String,
    },
    /// Two entries have the same secret, so which right counts?
    #[error("credentials `{0}` and `{1}` in [[access.credential]] are the same secret")]
    Twice(String, String),
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Who are you? Unknown or missing credentials.
    Unknown,
    /// Known, but this is more than the right allows.
    Forbidden,
}

type Secret = [u8; 32];

/// One who is known, and the rights.
#[derive(Debug)]
struct Known {
    name: String,
    rights: [Right; Space::ALL.len()],
}

/// The configured credentials, ready to be asked.
#[derive(Debug)]
pub(crate) struct Access {
    anonymous: Right,
    known: Vec<Known>,
    by_secret: HashMap<Secret, u32>,
    tokens: Tokens,
}

impl Access {
    pub(crate) fn new(config: &AccessConfig) -> Result<Self, AccessError> {
        let mut known: Vec<Known> = Vec::new();
        let mut by_secret = HashMap::new();
        for (index, credential) in config.credential.iter().enumerate() {
            let secret = secret_of(credential).ok_or_else(|| AccessError::Incomplete {
                number: index + 1,
                name: credential.name.clone(),
            })?;
            let rights = Space::ALL.map(|space| {
                let own = credential.spaces.get(&space).copied();
                own.unwrap_or(credential.right)
            });
            let name = credential.name.clone();
            let at = u32::try_from(index).unwrap_or(u32::MAX);
            if let Some(other) = by_secret.insert(secret, at) {
                let other = known[other as usize].name.clone();
                return Err(AccessError::Twice(other, name));
            }
            known.push(Known { name, rights });
        }
        let open = if known.is_empty() {
            Right::Write
        } else {
            Right::None
        };
        Ok(Self {
            anonymous: config.anonymous.unwrap_or(open),
            known,
            by_secret,
            tokens: Tokens::default(),
        })
    }

    /// Whether everybody may do everything.
    pub(crate) fn is_open(&self) -> bool {
        self.anonymous == Right::Write
    }

    /// Whether one needs no credentials for this.
    pub(crate) fn lets_anybody(&self, wanted: Right) -> bool {
        self.anonymous >= wanted
    }

    /// Who sent this `Authorization` header: a credential, by its place in the configuration.
    pub(crate) fn who(&self, authorization: Option<&[u8]>) -> Option<u32> {
        let header = authorization?;
        if let Some(token) = bearer_in(header)
            && let Some(who) = self.tokens.who(token, SystemTime::now())
        {
            return Some(who);
        }
        self.by_secret.get(&secret_in(header)?).copied()
    }

    /// A token with which the caller may do the same as with this header, until then; `None` for
    /// one who needs none.
    pub(crate) fn token(
        &self,
        authorization: Option<&[u8]>,
        expires_unix_s: u64,
    ) -> Option<String> {
        let who = self.who(authorization)?;
        Some(self.tokens.issue(who, expires_unix_s))
    }

    /// Whether whoever sent this `Authorization` header has `wanted` on every space.
    pub(crate) fn check_all(&self, authorization: Option<&[u8]>, wanted: Right) -> bool {
        let mut spaces = Space::ALL.into_iter();
        spaces.all(|space| self.check(authorization, space, wanted).is_ok())
    }

    /// Checks that whoever sent this `Authorization` header has `wanted` on `space`.
    pub(crate) fn check(
        &self,
        authorization: Option<&[u8]>,
        space: Space,
        wanted: Right,
    ) -> Result<(), Refusal> {
        if self.lets_anybody(wanted) {
            return Ok(());
        }
        let who = self.who(authorization).ok_or(Refusal::Unknown)?;
        let known = self.known.get(who as usize).ok_or(Refusal::Unknown)?;
        if known.rights[space as usize] >= wanted {
            return Ok(());
        }
        Err(Refusal::Forbidden)
    }
}

fn secret_of(credential: &CredentialConfig) -> Option<Secret> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let bearer = given(&credential.bearer);
    match (bearer, given(&credential.user), given(&credential.password)) {
        (Some(token), None, None) => Some(hash("bearer", token.as_bytes())),
        (None, Some(user), Some(password)) => {
            Some(hash("basic", format!("{user}:{password}").as_bytes()))
        }
        _ => None,
    }
}

/// The token of `Authorization: Bearer`.
fn bearer_in(header: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = header.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| rest.trim_ascii())
}

/// The secret in a header; `None` when it is in no form that we know.
fn secret_in(header: &[u8]) -> Option<Secret> {
    let space = header.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = header.split_at(space);
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(hash("bearer", rest));
    }
    if scheme.eq_ignore_ascii_case(b"basic") {
        let pair = STANDARD.decode(rest).or_else(|_| URL_SAFE.decode(rest));
        return Some(hash("basic", &pair.ok()?));
    }
    None
}

fn hash(kind: &str, secret: &[u8]) -> Secret {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind.as_bytes()).update(b"\0").update(secret);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn access() -> Access {
        let bearer = CredentialConfig {
            name: "ci".into(),
            bearer: Some("s3cret".into()),
            right: Right::Write,
            ..Default::default()
        };
        let user = CredentialConfig {
            name: "people".into(),
            user: Some("ada".into()),
            password: Some("\u{ff}?>:x".into()),
            right: Right::Read,
            spaces: [(Space::Ccache, Right::Write), (Space::Nx, Right::None)].into(),
            ..Default::default()
        };
        Access::new(&AccessConfig {
            anonymous: None,
            credential: vec![bearer, user],
        })
        .unwrap()
    }

    #[test]
    fn rights_differ_by_name_space() {
        let access = access();
        let basic = format!("Basic {}", STANDARD.encode("ada:\u{ff}?>:x"));
        let check = |space, right| access.check(Some(basic.as_bytes()), space, right);
        assert_eq!(check(Space::Ccache, Right::Write), Ok(()));
        assert_eq!(check(Space::Bazel, Right::Read), Ok(()));
        assert_eq!(check(Space::Bazel, Right::Write), Err(Refusal::Forbidden));
        assert_eq!(check(Space::Nx, Right::Read), Err(Refusal::Forbidden));
        let bearer = access.check(Some(b"bearer s3cret"), Space::Nx, Right::Write);
        assert_eq!(bearer, Ok(()));
    }

    #[test]
    fn basic_credentials_may_be_in_either_alphabet_with_and_without_padding() {
        let access = access();
        let standard = STANDARD.encode("ada:\u{ff}?>:x");
        let url_safe = URL_SAFE.encode("ada:\u{ff}?>:x");
        assert_ne!(standard, url_safe);
        for encoded in [&*standard, &*url_safe, url_safe.trim_end_matches('=')] {
            let header = format!("Basic {encoded}");
            let found = access.check(Some(header.as_bytes()), Space::Bazel, Right::Read);
            assert_eq!(found, Ok(()), "{header}");
        }
    }

    #[test]
    fn strangers_are_unknown_and_an_open_node_asks_nobody() {
        for header in [
            None,
            Some(&b"Bearer s3cre"[..]),
            Some(b"Basic !"),
            Some(b"x"),
        ] {
            let found = access().check(header, Space::Bazel, Right::Read);
            assert_eq!(found, Err(Refusal::Unknown));
        }
        let open = Access::new(&AccessConfig::default()).unwrap();
        assert!(open.is_open());
        assert_eq!(open.check(None, Space::Nx, Right::Write), Ok(()));
    }

    #[test]
    fn half_credentials_are_named() {
        let credential = CredentialConfig {
            name: "x".into(),
            user: Some("u".into()),
            ..Default::default()
        };
        let config = AccessConfig {
            anonymous: None,
            credential: vec![credential],
        };
        let said = Access::new(&config).unwrap_err().to_string();
        assert!(said.contains("credential 1 (`x`)"), "{said}");
    }

    proptest! {
        #[test]
        fn any_header_is_judged(header in any::<Vec<u8>>()) {
            let found = access().check(Some(&header), Space::Bazel, Right::Read);
            prop_assert_eq!(found, Err(Refusal::Unknown));
        }
    }
}
