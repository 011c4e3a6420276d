//! Finding a blob of a shard by any of its names.
//!
//! Owns: what a shard says of a name: the blob is here, or the name leads to one, or neither.
//! Does not know: other shards, which may own what a name leads to (`locate`).
//! Invariant: a damaged link is set aside and leads nowhere.
#![forbid(unsafe_code)]

use std::fs;

use crate::digest::{Digest, HASH_BYTES};
use crate::error::IoFailure;
use crate::fs::Fs;
use crate::layout::{Kind, is_packed};
use crate::name::{BlobName, HashFunction};
use crate::pack::Read;
use crate::sha256::follow_link;
use crate::shard::Shard;

/// Where a name leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lead {
    Nowhere,
    /// The blob is in this shard.
    Here(Digest),
    /// It is the blob of that name, if there is one.
    To(Digest),
}

impl<F: Fs> Shard<F> {
    /// Where these names lead; counts as a use of what is here.
    pub(crate) fn look_up(&mut self, names: &[BlobName]) -> Result<Vec<Lead>, IoFailure> {
        names.iter().map(|name| self.look_up_one(name)).collect()
    }

    fn look_up_one(&mut self, name: &BlobName) -> Result<Lead, IoFailure> {
        let lead = match self.own_blob(name)? {
            Some(digest) => Lead::Here(digest),
            None => self.follow(name)?.map_or(Lead::Nowhere, Lead::To),
        };
        Ok(match lead {
            Lead::Here(digest) | Lead::To(digest) if !name.fits(&digest) => Lead::Nowhere,
            lead => lead,
        })
    }

    /// The blob whose BLAKE3 hash this is.
    fn own_blob(&mut self, name: &BlobName) -> Result<Option<Digest>, IoFailure> {
        if !name.may_be(HashFunction::Blake3) {
            return Ok(None);
        }
        let (packs, _) = self.open_packs()?;
        if let Some(place) = packs.touch(&(*name.hash(), Kind::Blob)) {
            return Ok(Some(Digest::new(*name.hash(), u64::from(place.size))));
        }
        Ok(self.own_file(name.hash()))
    }

    fn own_file(&mut self, hash: &[u8; HASH_BYTES]) -> Option<Digest> {
        let path = self.layout.blob(hash);
        let metadata = fs::metadata(&path).ok()?;
        // A file that is too short for one was cut; who knows its size is told.
        let is_whole = !is_packed(metadata.len());
        is_whole.then(|| self.mark_used(hash, &metadata));
        is_whole.then(|| Digest::new(*hash, metadata.len()))
    }

    /// Where the link from this SHA-256 hash leads.
    fn follow(&mut self, name: &BlobName) -> Result<Option<Digest>, IoFailure> {
        if !name.may_be(HashFunction::Sha256) {
            return Ok(None);
        }
        let (packs, _) = self.open_packs()?;
        let record = (*name.hash(), Kind::Link);
        packs.touch(&record);
        Ok(match packs.read(&record)? {
            Read::Missing => None,
            Read::Intact(link) => follow_link(name.hash(), &link),
            Read::Damaged(bytes) => {
                self.quarantine_record(&record, &bytes);
                None
            }
        })
    }
}
