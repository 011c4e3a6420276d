//! Names of entries in the cache behind this one: how they are called there.
//!
//! Owns: [`EntryName`], and the form in which an entry that is no action travels.
//! Does not know: when the cache is asked (`names`), or how (`upstream`).
//! Invariant: an entry is bound to a blob only after that blob was brought and hashed.
//!
//! The result of an action is called there what its client calls it, so that others who use the
//! same cache find it. Other entries, and actions of a named instance, are results of an action
//! whose hash is their key here: one output file, the blob, and in `stdout_raw` what is kept beside
//! it. Every cache that takes results takes those. A node that is asked for such a result, or given
//! one, by somebody with the right to every space, takes it for the entry.
#![forbid(unsafe_code)]

use prost::Message;

use super::grpc::actions::RESULT_BYTES;
use super::grpc::api::re;
use super::names::Bound;
use crate::digest::{hex, parse_hash};
use crate::upstream::{Encode, Handed};
use crate::{ActionKey, BlobName, Digest, HashFunction, Sha256Digest, Store, Tier};

/// The path of the only output file of such a result.
const CONTENT: &str = "content";
/// The first byte of what is kept beside a blob: the function of its hash.
const BLAKE3: &[u8] = b"b";
const SHA256: &[u8] = b"s";
/// A result that carries an entry is no larger than this.
const CARRIER_UP_TO_BYTES: u64 = 64 * 1024;
/// Caches want a size with a name; for a key any fixed one does.
const KEY_SIZE_BYTES: u64 = 32;

/// The name of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryName {
    /// Here.
    pub(crate) key: ActionKey,
    /// The action whose result it is, if other caches may know it by that.
    pub(crate) action: Option<BlobName>,
    /// Whether the hash of the action may be the key of any entry: the caller has the right to all.
    pub(crate) may_be_key: bool,
}

impl EntryName {
    /// An entry that other caches know by its key only.
    pub(super) fn of(key: ActionKey) -> Self {
        Self {
            key,
            action: None,
            may_be_key: false,
        }
    }

    /// The key of the entry that a node before this one means by the action.
    pub(super) fn meant(&self) -> Option<ActionKey> {
        let action = self.action.filter(|_| self.may_be_key)?;
        Some(*action.hash())
    }

    /// What it is called in other caches.
    fn there(&self) -> BlobName {
        self.action.unwrap_or_else(|| {
            BlobName::new(Some(HashFunction::Sha256), self.key, Some(KEY_SIZE_BYTES))
        })
    }
}

/// Brings an entry and what it points at from the cache behind the store.
pub(super) async fn fetch(store: &Store, tier: &Tier, name: &EntryName) -> Option<Bound> {
    let result = tier.get_action(&name.there()).await?;
    if name.action.is_some() {
        let digest = store.put_from_behind(result).await.ok()?;
        return Some(Bound::now(digest, ::bytes::Bytes::new()));
    }
    let (blob, beside) = decode(result)?;
    let digest = *store.bring(&[blob]).await.ok()?.first()?;
    Bound::of(digest?, &beside)
}

/// Hands an entry on that was bound here.
pub(super) fn hand_on(store: &Store, tier: &Tier, name: &EntryName, bound: &Bound) {
    if !tier.hands_on() {
        return;
    }
    let encode: Encode = match name.action {
        // What came over HTTP may be anything.
        Some(_) if bound.digest.size_bytes() > RESULT_BYTES => return,
        Some(_) => Box::new(|blob, _| blob.read()),
        None => encoder(store, bound),
    };
    tier.offer(Handed::Result {
        action: name.there(),
        blob: bound.digest,
        encode,
    });
}

/// An entry of this node in the form in which it travels, as a blob, for clients that know this hash.
pub(super) async fn wrap(store: &Store, entry: &Bound, function: HashFunction) -> Option<Bound> {
    let blob = store.get(&entry.digest).await.ok()?;
    let encode = encoder(store, entry);
    // It may have to hash the content.
    let encoded = tokio::task::spawn_blocking(move || encode(blob, function))
        .await
        .ok()?;
    let digest = store.put_from_behind(encoded.ok()?).await.ok()?;
    Some(Bound::now(digest, ::bytes::Bytes::new()))
}

/// The entry that a result carries whose blob is here; `None` for any other result.
pub(super) async fn unwrap(store: &Store, result: &Digest) -> Option<Bound> {
    if result.size_bytes() > CARRIER_UP_TO_BYTES {
        return None;
    }
    let content = store.get(result).await.ok()?;
    let (blob, beside) = decode(content.read().ok()?)?;
    let digest = *store.bring(&[blob]).await.ok()?.first()?;
    Bound::of(digest?, &beside)
}

/// What makes the travelling form of an entry out of its blob.
fn encoder(store: &Store, bound: &Bound) -> Encode {
    let (bound, sha256_names) = (bound.clone(), store.config().sha256_names);
    // Blobs with a second name are handed on by that.
    Box::new(move |blob, function| match function {
        HashFunction::Blake3 if !sha256_names => Ok(encode(&bound.digest.into(), &bound)),
        _ => Ok(encode(&Sha256Digest::of_blob(blob)?.into(), &bound)),
    })
}

fn encode(blob: &BlobName, bound: &Bound) -> ::bytes::Bytes {
    let function: &[u8] = match blob.function() {
        Some(HashFunction::Blake3) => BLAKE3,
        _ => SHA256,
    };
    let digest = re::Digest {
        hash: hex(blob.hash()),
        size_bytes: i64::try_from(bound.digest.size_bytes()).unwrap_or(i64::MAX),
    };
    let result = re::ActionResult {
        output_files: vec![re::OutputFile {
            path: CONTENT.to_owned(),
            digest: Some(digest),
            ..Default::default()
        }],
        stdout_raw: [function, &bound.beside()].concat().into(),
        ..Default::default()
    };
    result.encode_to_vec().into()
}

/// The blob, and what is kept beside it; `None` for a result that no node has made.
fn decode(result: ::bytes::Bytes) -> Option<(BlobName, ::bytes::Bytes)> {
    if result.len() as u64 > CARRIER_UP_TO_BYTES {
        return None;
    }
    let result = re::ActionResult::decode(result).ok()?;
    let [file] = &result.output_files[..] else {
        return None;
    };
    let digest = file.digest.as_ref()?;
    let (function, beside) = result.stdout_raw.split_first_chunk::<1>()?;
    let function = match &function[..] {
        BLAKE3 => HashFunction::Blake3,
        SHA256 => HashFunction::Sha256,
        _ => return None,
    };
    let size_bytes = u64::try_from(digest.size_bytes).ok()?;
    let hash = parse_hash(&digest.hash).ok()?;
    let blob = BlobName::new(Some(function), hash, Some(size_bytes));
    Some((blob, ::bytes::Bytes::copy_from_slice(beside)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_entry_travels_whole(
            hash in any::<[u8; 32]>(), size in 0..i64::MAX as u64, note in any::<Vec<u8>>(),
            at in any::<u64>(), blake3 in any::<bool>(),
        ) {
            let digest = Digest::new(hash, size);
            let bound = Bound { digest, stored_unix_s: at, note: note.into() };
            let blob = match blake3 {
                true => BlobName::from(digest),
                false => BlobName::from(Sha256Digest::new(hash, size)),
            };
            let (named, beside) = decode(encode(&blob, &bound)).unwrap();
            prop_assert_eq!(named, blob);
            prop_assert_eq!(Bound::of(digest, &beside), Some(bound));
        }

        #[test]
        fn any_bytes_are_an_entry_or_not(bytes in any::<Vec<u8>>()) {
            let _ = decode(bytes.into());
        }
    }
}
