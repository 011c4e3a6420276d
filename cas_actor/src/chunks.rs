//! Large blobs as sequences of smaller ones, cut where their content says so.
//!
//! Owns: where a blob is cut (FastCDC of 2020), the chunks, and remembering them.
//! Does not know: the protocol that asks for it.
//! Invariants: the chunks of a blob, one after another, are the blob; what is spliced is hashed
//! like everything that is put; chunks are blobs like others, so they may be evicted, and then the
//! blob is cut again.
//!
//! The parameters are those of the Remote Execution API: chunks of a quarter of the average to four
//! times the average, normalisation 2, seed 0.
#![forbid(unsafe_code)]

use std::io;

use bytes::Bytes;
use fastcdc::v2020::{Error, FastCDC, Normalization, StreamCDC};

use crate::action::ActionEntry;
use crate::blob::{Blob, Reader};
use crate::blocking::Blocking;
use crate::commit::Durability;
use crate::digest::{Digest, HASH_BYTES};
use crate::error::{GetError, IoFailure, PutError, ShardError};
use crate::layout::{ActionKey, Layout};
use crate::name::BlobName;
use crate::sha256::Sha256Digest;
use crate::staging::{Expected, Verified};
use crate::store::Store;

/// The average that the Remote Execution API suggests.
const AVERAGE_BYTES: u32 = 512 * 1024;
const SMALLEST_AVERAGE_BYTES: u32 = 1024;
const LARGEST_AVERAGE_BYTES: u32 = 1024 * 1024;
/// What is read of a chunk at a time.
const PIECE_BYTES: usize = 256 * 1024;
/// Recipes never collide with the keys of other users of the store's entries.
const DOMAIN: &[u8; 32] = b"zako store: chunks of blobs, v1.";

/// How large the chunks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chunking {
    average_bytes: u32,
}

impl Default for Chunking {
    /// 512 KiB on average.
    fn default() -> Self {
        Self {
            average_bytes: AVERAGE_BYTES,
        }
    }
}

impl Chunking {
    /// Chunks of so many bytes on average; `None` unless that is a multiple of eight between 1 KiB
    /// and 1 MiB.
    pub fn with_average(average_bytes: u32) -> Option<Self> {
        let range = SMALLEST_AVERAGE_BYTES..=LARGEST_AVERAGE_BYTES;
        // The algorithm takes two bytes at a time, so a quarter of it has to be even.
        let is_good = range.contains(&average_bytes) && average_bytes.is_multiple_of(8);
        is_good.then_some(Self { average_bytes })
    }

    /// Bytes of a chunk on average.
    pub const fn average_bytes(self) -> u32 {
        self.average_bytes
    }

    /// The least bytes of a chunk that is not the last.
    pub const fn min_bytes(self) -> u32 {
        self.average_bytes / 4
    }

    /// The most bytes of a chunk.
    pub const fn max_bytes(self) -> u32 {
        self.average_bytes * 4
    }

    /// The chunks of a blob, in their order: read, not mapped, for somebody may cut its file off meanwhile.
    pub(crate) fn read(self, blob: Blob) -> impl Iterator<Item = Result<Bytes, Error>> {
        let cutter = StreamCDC::with_level_and_seed(
            Reader(blob),
            self.min_bytes() as usize,
            self.average_bytes as usize,
            self.max_bytes() as usize,
            Normalization::Level2,
            0,
        );
        cutter.map(|chunk| Ok(chunk?.data.into()))
    }

    /// The lengths of the chunks of a content, in their order.
    pub fn cut(self, content: &[u8]) -> impl Iterator<Item = usize> + '_ {
        let cutter = FastCDC::with_level_and_seed(
            content,
            self.min_bytes() as usize,
            self.average_bytes as usize,
            self.max_bytes() as usize,
            Normalization::Level2,
            0,
        );
        cutter.map(|chunk| chunk.length)
    }
}

/// One chunk of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chunk {
    /// Its name.
    pub digest: Digest,
    /// Its second name, if the store computes those.
    pub sha256: Option<Sha256Digest>,
}

/// Why a blob was not cut or put together.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChunkError {
    /// The blob or one of its chunks could not be read.
    #[error(transparent)]
    Get(#[from] GetError),
    /// A chunk or the blob could not be stored, or the chunks are not the blob.
    #[error(transparent)]
    Put(#[from] PutError),
    /// The disk failed, or the store is closed.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

impl Blocking<'_> {
    /// Cuts a blob into chunks, stores them, and says what they are. What was cut before, and is
    /// all here, is not cut again. Reads and hashes the blob on this thread.
    ///
    /// # Errors
    /// When the blob is not here, or a chunk cannot be stored.
    pub fn split(self, digest: &Digest, chunking: Chunking) -> Result<Vec<Chunk>, ChunkError> {
        if let Some(chunks) = self.kept_chunks(digest, chunking)? {
            return Ok(chunks);
        }
        let blob = self.get(digest)?;
        let relaxed = self.store().with_durability(Durability::Relaxed);
        let sha256_names = relaxed.config().sha256_names;
        let mut chunks = Vec::new();
        for content in chunking.read(blob) {
            let content = content.map_err(io::Error::from);
            let content = content.map_err(|error| self.unreadable(digest, error))?;
            let verified = Verified::hash(content, Expected::Anything.hasher(sha256_names));
            chunks.push(Chunk {
                digest: verified.digest(),
                sha256: verified.sha256(),
            });
            relaxed.blocking().put_verified(verified)?;
        }
        // Makes the chunks durable as well.
        let key = recipe_key(digest, chunking);
        relaxed.blocking().put_action(&key, recipe(&chunks))?;
        Ok(chunks)
    }

    /// The chunks that a blob was cut into before, if all of them are here.
    pub(crate) fn kept_chunks(
        self,
        digest: &Digest,
        chunking: Chunking,
    ) -> Result<Option<Vec<Chunk>>, ShardError> {
        let entry = self.get_complete_action(&recipe_key(digest, chunking))?;
        Ok(entry.and_then(|entry| read_recipe(&entry)))
    }

    /// Puts chunks together to the blob that `name` says, and stores that.
    ///
    /// # Errors
    /// When a chunk is not here, or the chunks are not that blob.
    pub fn splice(self, name: BlobName, chunks: &[Digest]) -> Result<Digest, ChunkError> {
        let mut upload = self.store().upload_as(name);
        for chunk in chunks {
            let mut rest = self.get(chunk)?;
            while !rest.is_empty() {
                let piece = rest.take_piece(PIECE_BYTES);
                upload.write(&piece.map_err(|error| self.unreadable(chunk, error))?)?;
            }
        }
        Ok(self.commit(upload)?.0)
    }

    fn unreadable(self, digest: &Digest, error: io::Error) -> GetError {
        let path = Layout::new(self.store().root().into()).blob(digest.hash());
        IoFailure::new("read", &path, error).into()
    }
}

fn recipe_key(digest: &Digest, chunking: Chunking) -> ActionKey {
    let mut hasher = blake3::Hasher::new_keyed(DOMAIN);
    hasher.update(digest.hash());
    hasher.update(&digest.size_bytes().to_le_bytes());
    hasher.update(&chunking.average_bytes.to_le_bytes());
    *hasher.finalize().as_bytes()
}

/// The chunks are the outputs of the entry, their second names its payload.
fn recipe(chunks: &[Chunk]) -> ActionEntry {
    let second: Option<Vec<[u8; HASH_BYTES]>> = chunks
        .iter()
        .map(|chunk| chunk.sha256.map(|name| *name.hash()))
        .collect();
    ActionEntry::new(second.unwrap_or_default().concat())
        .with_outputs(chunks.iter().map(|chunk| chunk.digest).collect())
}

fn read_recipe(entry: &ActionEntry) -> Option<Vec<Chunk>> {
    let (second, rest) = entry.payload.as_chunks::<HASH_BYTES>();
    let whole = rest.is_empty() && (second.is_empty() || second.len() == entry.outputs.len());
    let chunk = |(index, digest): (usize, &Digest)| Chunk {
        digest: *digest,
        sha256: second
            .get(index)
            .map(|hash| Sha256Digest::new(*hash, digest.size_bytes())),
    };
    whole.then(|| entry.outputs.iter().enumerate().map(chunk).collect())
}

impl Store {
    /// Whether a blob of this size is worth cutting: it would become more than one chunk.
    pub fn is_worth_cutting(size_bytes: u64, chunking: Chunking) -> bool {
        size_bytes > u64::from(chunking.max_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(seed: u64, size: usize) -> Vec<u8> {
        let mut out = vec![0; size];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        hasher.finalize_xof().fill(&mut out);
        out
    }

    #[test]
    fn only_averages_of_the_protocol_are_taken() {
        assert_eq!(Chunking::with_average(1016), None);
        assert_eq!(Chunking::with_average(1028), None, "no multiple of eight");
        assert_eq!(Chunking::with_average(1024 * 1024 + 1), None);
        let chunking = Chunking::default();
        assert_eq!(chunking.min_bytes(), 128 * 1024);
        assert_eq!(chunking.max_bytes(), 2 * 1024 * 1024);
    }

    /// The vectors of the Remote Execution API without a seed: offsets, lengths and SHA-256.
    #[test]
    fn the_published_image_is_cut_where_the_api_says() {
        const CHUNKS: [(usize, usize, &str); 6] = [
            (
                0,
                19186,
                "0f9efa589121d5d9e9e2c4ace91337d77cae866537143f6f15a0ffd525a77c2d",
            ),
            (
                19186,
                19279,
                "c7c86a165573c16448cda35c9169742e85645af42be22889f8b96b8ee0ec7cb0",
            ),
            (
                38465,
                17354,
                "bc88521e28a8b4479cdea5f75aa721a24f3a0a7d0be903aa6d505c574e51e89d",
            ),
            (
                55819,
                16387,
                "4b8dac2652e4685c629d2bb1ae9d4448e676b86f2e67ca0b2fff3d9580184b79",
            ),
            (
                72206,
                19940,
                "c0a7062da6f2386c28e086ee0cedd5732252741269838773cff1ddb05b2df6ed",
            ),
            (
                92146,
                17320,
                "7fa5b12134dc75cd2ac8dc60d3a8f3c8d22f0ee9d4cf74a4aa937e2a0d2d79a5",
            ),
        ];
        let image = include_bytes!("../tests/data/SekienAkashita.jpg");
        let whole = "d9e749d9367fc908876749d6502eb212fee88c9a94892fb07da5ef3ba8bc39ed";
        assert_eq!(Sha256Digest::of(image).hex(), whole);
        let mut start = 0;
        let cut = Chunking::with_average(16 * 1024).unwrap().cut(image);
        let cut = cut.map(|length| {
            start += length;
            let chunk = &image[start - length..start];
            (start - length, length, Sha256Digest::of(chunk).hex())
        });
        let expected = CHUNKS.map(|(at, length, hash)| (at, length, hash.to_owned()));
        assert_eq!(cut.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn content_without_places_to_cut_is_cut_at_the_most() {
        // As in the published vectors: nothing but zeros gives chunks of the largest size.
        let chunking = Chunking::with_average(1024).unwrap();
        let lengths: Vec<usize> = chunking.cut(&[0; 10_000]).collect();
        assert_eq!(lengths, [4096, 4096, 1808]);
    }

    #[test]
    fn an_insertion_changes_the_chunks_around_it_only() {
        let chunking = Chunking::with_average(4096).unwrap();
        let content = noise(1, 1_000_000);
        let mut changed = content.clone();
        changed.splice(500_000..500_000, *b"inserted");
        let digests = |content: &[u8]| -> Vec<Digest> {
            let mut start = 0;
            let cut = chunking.cut(content).map(|length| {
                start += length;
                Digest::of(&content[start - length..start])
            });
            cut.collect()
        };
        let (before, after) = (digests(&content), digests(&changed));
        let shared = after.iter().filter(|chunk| before.contains(chunk)).count();
        assert!(
            after.len() > 100 && after.len() - shared <= 4,
            "{} of {}",
            shared,
            after.len()
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn chunks_are_the_content_and_keep_their_bounds(
            seed: u64, size in 0usize..300_000, average in 128u32..1024,
        ) {
            let chunking = Chunking::with_average(8 * average).unwrap();
            let content = noise(seed, size);
            let lengths: Vec<usize> = chunking.cut(&content).collect();
            prop_assert_eq!(lengths.iter().sum::<usize>(), size);
            let (last, others) = lengths.split_last().unwrap_or((&0, &[]));
            prop_assert!(*last <= chunking.max_bytes() as usize);
            for length in others {
                prop_assert!((chunking.min_bytes()..=chunking.max_bytes()).contains(&(*length as u32)));
            }
        }
    }
}
