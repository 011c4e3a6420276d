//! Looking after a shard: counting, eviction, scrubbing.
//!
//! Owns: walking the files of a shard, and what is decided about each.
//! Does not know: the order over shards (`upkeep`) or how a blob is read.
//! Invariant: nothing that was used since an eviction was planned is evicted by it.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Read};
use std::time::SystemTime;

use crate::action::ActionEntry;
use crate::digest::{Digest, HASH_BYTES, Hasher};
use crate::error::{During, IoFailure};
use crate::fs::Fs;
use crate::layout::{Kind, Layout};
use crate::shard::{Shard, Usage};
use crate::stats::count;

/// One file of a shard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed {
    pub(crate) kind: Kind,
    pub(crate) hash: [u8; HASH_BYTES],
    pub(crate) size_bytes: u64,
    pub(crate) used: SystemTime,
}

/// What a check of one blob found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    Intact,
    Damaged,
    /// Deleted or evicted meanwhile.
    Gone,
}

impl<F: Fs> Shard<F> {
    /// Every blob and entry, in no order.
    pub(crate) fn list(&mut self) -> Result<Vec<Listed>, IoFailure> {
        let mut found = Vec::new();
        for kind in [Kind::Blob, Kind::Action] {
            for first in self.fans.clone() {
                self.list_fan(kind, first, &mut found)?;
            }
        }
        let mut usage = Usage::default();
        for listed in &found {
            usage.add(listed.kind, listed.size_bytes);
        }
        self.usage = Some(usage);
        Ok(found)
    }

    fn list_fan(&self, kind: Kind, first: u8, found: &mut Vec<Listed>) -> Result<(), IoFailure> {
        let directory = self.layout.fan(kind, first);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.during("list", &directory)?,
        };
        for entry in entries {
            let entry = entry.during("list", &directory)?;
            let Some(hash) = Layout::hash_of(first, &entry.file_name()) else {
                continue;
            };
            // Gone since it was listed.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            found.push(Listed {
                kind,
                hash,
                size_bytes: metadata.len(),
                used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            });
        }
        Ok(())
    }

    /// What the shard holds; walks the files the first time.
    pub(crate) fn usage(&mut self) -> Result<Usage, IoFailure> {
        if self.usage.is_none() {
            self.list()?;
        }
        Ok(self.usage.unwrap_or_default())
    }

    /// Removes one file unless it was used after `cutoff`; returns the bytes freed.
    pub(crate) fn evict(&mut self, listed: &Listed, cutoff: SystemTime) -> Result<u64, IoFailure> {
        let path = self.layout.path(listed.kind, &listed.hash);
        let Ok(metadata) = fs::metadata(&path) else {
            return Ok(0);
        };
        if metadata.modified().is_ok_and(|used| used > cutoff) {
            return Ok(0);
        }
        let size_bytes = metadata.len();
        if !self.remove(listed.kind, &listed.hash, &path, size_bytes)? {
            return Ok(0);
        }
        count(&self.counters.evicted, 1);
        count(&self.counters.evicted_bytes, size_bytes);
        Ok(size_bytes)
    }

    /// Reads a blob or an entry from disk and quarantines it when it is damaged. Not a use.
    pub(crate) fn check(&mut self, listed: &Listed) -> Result<Checked, IoFailure> {
        let path = self.layout.path(listed.kind, &listed.hash);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Checked::Gone),
            opened => opened.during("open", &path)?,
        };
        let intact = match listed.kind {
            Kind::Blob => {
                let digest = hash_file(&file).during("read", &path)?;
                *digest.hash() == listed.hash
            }
            Kind::Action => {
                let stored = fs::read(&path).during("read", &path)?;
                ActionEntry::decode(&listed.hash, &stored.into()).is_ok()
            }
        };
        if intact {
            return Ok(Checked::Intact);
        }
        self.quarantine(listed.kind, &listed.hash, &path)?;
        Ok(Checked::Damaged)
    }
}

/// The digest of what a file holds now.
pub(crate) fn hash_file(mut file: &File) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut piece = vec![0; 256 * 1024];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finish()),
            length => hasher.update(&piece[..length]),
        }
    }
}
