//! What was acknowledged before it was durable, noted for the next process.
//!
//! Owns: the file of a shard in which that is noted.
//! Does not know: how anything becomes durable.
//! Invariants: a large blob is noted before it gets its name, and that there are records before they are
//! written, so whoever is killed leaves nothing behind that is not noted; what is noted goes only when
//! everything is durable; notes that cannot be read may name anything. Nothing of this is synced: a power cut
//! takes what the notes name as well.
//!
//! Format: hashes of large blobs (32 bytes each), and zeros where there are records: which, the packs know.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::digest::HASH_BYTES;
use crate::error::{During, IoFailure};

/// There are records.
pub(super) const RECORDS: [u8; HASH_BYTES] = [0; HASH_BYTES];

/// Whether an earlier process has left notes, or may have.
pub(crate) fn are_left(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(metadata) => metadata.len() > 0,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// The notes of one shard.
pub(super) struct Notes {
    path: PathBuf,
    /// Open from the first note on.
    file: Option<File>,
    bytes: u64,
    noted: HashSet<[u8; HASH_BYTES]>,
    /// Why it is not known what is noted. Until all is durable nothing is added to that.
    unread: Option<io::Error>,
}

impl Notes {
    /// The notes, and the large blobs that are noted: by an earlier process, or an earlier shard of this one.
    pub(super) fn open(path: PathBuf) -> (Self, Vec<[u8; HASH_BYTES]>) {
        let (left, unread) = match fs::read(&path) {
            Ok(left) => (left, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), None),
            Err(error) => (Vec::new(), Some(error)),
        };
        // Half a note was not followed by what it would have named.
        let left = left.as_chunks().0;
        let notes = Self {
            path,
            file: None,
            bytes: left.as_flattened().len() as u64,
            noted: left.iter().copied().collect(),
            unread,
        };
        let names = notes.noted.iter().filter(|name| **name != RECORDS);
        let names = names.copied().collect();
        (notes, names)
    }

    /// Whether nothing is noted.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0 && self.unread.is_none()
    }

    /// Why what is noted could not be read, if so.
    pub(super) fn unread(&self) -> Option<IoFailure> {
        let error = self.unread.as_ref()?;
        let error = io::Error::new(error.kind(), error.to_string());
        Some(IoFailure::new("read", &self.path, error))
    }

    /// Notes what is going to be acknowledged before it is durable, unless it is noted.
    pub(super) fn add(&mut self, names: &[[u8; HASH_BYTES]]) -> Result<(), IoFailure> {
        let new = names.iter().filter(|name| !self.noted.contains(*name));
        let new: Vec<_> = new.copied().collect();
        if new.is_empty() {
            return Ok(());
        }
        if let Some(failure) = self.unread() {
            return Err(failure);
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => self.create().during("create", &self.path)?,
        };
        let written = file.write_all_at(new.as_flattened(), self.bytes);
        self.file = Some(file);
        written.during("write", &self.path)?;
        self.bytes += new.as_flattened().len() as u64;
        self.noted.extend(new);
        Ok(())
    }

    fn create(&self) -> io::Result<File> {
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        options.open(&self.path)
    }

    /// Everything is durable. A note too many costs the next process a sync.
    pub(super) fn clear(&mut self) {
        if self.is_empty() {
            return;
        }
        let cleared = match &self.file {
            Some(file) => file.set_len(0),
            None => fs::remove_file(&self.path),
        };
        match cleared {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let notes = self.path.display();
                tracing::warn!(%notes, %error, "cannot take back what is noted as unsynced");
            }
            _ => {
                self.bytes = 0;
                self.noted.clear();
                self.unread = None;
            }
        }
    }
}
