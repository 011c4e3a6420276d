//! Making large blobs durable, also after that has failed.
//!
//! Owns: the syncs of a shard, and what a failed one has left in doubt.
//! Does not know: what is written, or who waits.
//! Invariants: the file system is synced through one descriptor that is as old as the store, for a new
//! one is not told of an error that somebody else has seen
//! (`an_error_that_another_shard_has_seen_is_seen_by_this_one_too`); what one sync has made durable is
//! not in doubt because a later one fails; what cannot be read back keeps nothing else from becoming
//! durable.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;

use super::{Committer, Durability, Ready, SYNC_EACH_UP_TO};
use crate::digest::{Digest, HASH_BYTES, Hasher};
use crate::error::{During, IoFailure};
use crate::fs::{Fs, is_unreadable};
use crate::pack::Packs;
use crate::staging::StagedFile;
use crate::stats::count;

/// What is copied of a file at a time.
const COPY_BYTES: usize = 1024 * 1024;

impl<F: Fs> Committer<F> {
    /// Makes everything durable that this shard has acknowledged. What is lost is told once, and
    /// everything else is durable then.
    pub(crate) fn sync(&mut self, packs: &mut Packs<F>) -> Result<(), IoFailure> {
        let settled = self.settle(packs);
        self.raise_flag(packs);
        settled
    }

    /// The same; what is noted stays noted.
    pub(super) fn settle(&mut self, packs: &mut Packs<F>) -> Result<(), IoFailure> {
        let told = self.lost.len();
        self.rewrite_doubtful()?;
        let outcome = match self.lost.get(told) {
            None => Ok(()),
            Some(hash) => {
                let lost = io::Error::other("its content was lost after a failed sync");
                Err(IoFailure::new("keep", &self.layout.blob(hash), lost))
            }
        };
        self.sync_files()?;
        if packs.is_unsynced() {
            packs.sync()?;
        }
        outcome
    }

    /// No sync tells any more of what this one should have made durable.
    fn distrust(&mut self) {
        let known = self.doubtful.len();
        self.doubtful.extend(&self.unsynced);
        let blobs = self.doubtful.len() - known;
        if blobs > 0 {
            tracing::warn!(blobs, "a sync has failed; large blobs are written anew");
        }
    }

    fn rewrite_doubtful(&mut self) -> Result<(), IoFailure> {
        for hash in self.doubtful.iter().copied().collect::<Vec<_>>() {
            if !self.rewrite(&hash)? {
                self.unsynced.remove(&hash);
                self.lost.push(hash);
            }
            self.doubtful.remove(&hash);
        }
        Ok(())
    }

    /// Gives a large blob a new file with the same content, whose pages the kernel does not take for
    /// written. Says whether the content could be read back.
    fn rewrite(&mut self, hash: &[u8; HASH_BYTES]) -> Result<bool, IoFailure> {
        let path = self.layout.blob(hash);
        let file = match File::open(&path) {
            // Deleted since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            opened => opened.during("open", &path)?,
        };
        let temp = self.staging.path();
        let copied = self.copy(&file, temp.as_path());
        let copied = copied.during("write anew", &path)?;
        let intact = copied.filter(|(_, found)| found.hash() == hash);
        let Some((copy, _)) = intact else {
            return Ok(false);
        };
        // Before it takes the place of a file that may be durable after all.
        count(&self.counters.fsyncs, 1);
        self.fs.sync_file(&copy).during("sync", temp.as_path())?;
        let staged = StagedFile {
            path: temp,
            file: copy,
        };
        self.name(Ready {
            index: 0,
            staged,
            durability: Durability::Durable,
            hash: *hash,
        })?;
        Ok(true)
    }

    /// Copies a file, and says what its content was; `None` when it cannot be read.
    fn copy(&self, from: &File, to: &Path) -> io::Result<Option<(File, Digest)>> {
        let copy = self.fs.write_new(to, &[])?;
        let (mut hasher, mut offset, end) = (Hasher::new(), 0, from.metadata()?.len());
        let mut piece = vec![0; COPY_BYTES];
        while offset < end {
            let length = (end - offset).min(COPY_BYTES as u64) as usize;
            match self.fs.read_back(from, &mut piece[..length], offset) {
                Err(error) if is_unreadable(&error) => return Ok(None),
                read => read?,
            }
            hasher.update(&piece[..length]);
            self.fs.write_at(&copy, &piece[..length], offset)?;
            offset += length as u64;
        }
        Ok(Some((copy, hasher.finish())))
    }

    /// Makes contents and names of the large blobs durable that are not.
    fn sync_files(&mut self) -> Result<(), IoFailure> {
        let hashes: Vec<_> = self.unsynced.iter().copied().collect();
        if self.all_unsynced || hashes.len() > SYNC_EACH_UP_TO {
            self.sync_everything()?;
            self.all_unsynced = false;
        } else {
            let mut synced = Ok(());
            for hash in &hashes {
                if let Err(failure) = self.sync_named(hash) {
                    self.doubtful.insert(*hash);
                    synced = synced.and(Err(failure));
                }
            }
            synced?;
            self.sync_names(&hashes)?;
        }
        self.unsynced.clear();
        Ok(())
    }

    /// Makes the content of a large blob durable; costs little when it is.
    fn sync_named(&self, hash: &[u8; HASH_BYTES]) -> Result<(), IoFailure> {
        let path = self.layout.blob(hash);
        let file = match File::open(&path) {
            // Deleted since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.during("open", &path)?,
        };
        count(&self.counters.fsyncs, 1);
        self.fs.sync_file(&file).during("sync", &path)
    }

    /// Makes the names of large blobs durable.
    pub(super) fn sync_names(&mut self, hashes: &[[u8; HASH_BYTES]]) -> Result<(), IoFailure> {
        if hashes.is_empty() {
            return Ok(());
        }
        let fans: BTreeSet<u8> = hashes.iter().map(|hash| hash[0]).collect();
        if fans.len() > SYNC_EACH_UP_TO {
            return self.sync_everything();
        }
        for first in fans {
            self.sync_directory(&self.layout.fan(first))?;
        }
        if self.unsynced_fans {
            self.sync_directory(&self.layout.blobs())?;
        }
        self.unsynced_fans = false;
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> Result<(), IoFailure> {
        count(&self.counters.fsyncs, 1);
        self.fs.sync_directory(path).during("sync", path)
    }

    /// Makes contents and names of everything durable.
    pub(super) fn sync_everything(&mut self) -> Result<(), IoFailure> {
        count(&self.counters.fsyncs, 1);
        let synced = self.fs.sync_all(&self.root);
        match &synced {
            Ok(()) => self.unsynced_fans = false,
            Err(_) => self.distrust(),
        }
        synced.during("sync", self.layout.root())
    }
}
