//! A whole store to plain files and back.
//!
//! Owns: the layout of those files: `cas/HASH` is a blob, `ac/KEY` an encoded action entry.
//! Does not know: how blobs are stored.
//! Invariants: what comes in is checked against its file name, by either hash, like everything
//! that is put; a file that is not what its name says is told and left out.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::action::ActionEntry;
use crate::blocking::Blocking;
use crate::digest::{hex, parse_hash};
use crate::error::{During, ExportError, GetError, IoFailure, PutError};
use crate::name::BlobName;

const BLOBS: &str = "cas";
const ACTIONS: &str = "ac";
/// Read at once from a file that comes in.
const PIECE_BYTES: usize = 256 * 1024;

/// What went out or came in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Action entries.
    pub actions: u64,
    /// Files or names that were left out, and why.
    pub left_out: Vec<(PathBuf, String)>,
}

impl Blocking<'_> {
    /// Writes every blob and every action entry to files below `directory`. What is evicted or
    /// found damaged meanwhile is left out.
    ///
    /// # Errors
    /// When the directory cannot be written, or the store cannot be read.
    pub fn export_all(self, directory: &Path) -> Result<Transfer, ExportError> {
        let mut done = Transfer::default();
        let failed = |error| ExportError::Get(GetError::from(error));
        let blobs = directory.join(BLOBS);
        for digest in self.list().map_err(failed)? {
            let path = blobs.join(digest.hex());
            match self.export(&digest, &path, 0o644) {
                Ok(()) => {
                    done.blobs += 1;
                    done.blob_bytes += digest.size_bytes();
                }
                Err(ExportError::Get(error)) => done.left_out.push((path, error.to_string())),
                Err(error) => return Err(error),
            }
        }
        let actions = directory.join(ACTIONS);
        let create = fs::create_dir_all(&actions).during("create", &actions);
        create.map_err(ExportError::Destination)?;
        for key in self.list_actions().map_err(failed)? {
            let Some(entry) = self.get_action(&key).map_err(failed)? else {
                continue;
            };
            let path = actions.join(hex(&key));
            let written = fs::write(&path, entry.encode(&key)).during("write", &path);
            written.map_err(ExportError::Destination)?;
            done.actions += 1;
        }
        Ok(done)
    }

    /// Puts what [`export_all`](Self::export_all) wrote, or any files `cas/HASH` of which the name
    /// is the BLAKE3 or SHA-256 hash of the content.
    ///
    /// # Errors
    /// When the directory cannot be read, or the store does not take more.
    pub fn import_all(self, directory: &Path) -> Result<Transfer, PutError> {
        let mut done = Transfer::default();
        for path in files_in(&directory.join(BLOBS))? {
            match self.import_blob(&path) {
                Ok(size_bytes) => {
                    done.blobs += 1;
                    done.blob_bytes += size_bytes;
                }
                Err(Left::Out(why)) => done.left_out.push((path, why)),
                Err(Left::Failed(error)) => return Err(error),
            }
        }
        // Behind the blobs that they name.
        for path in files_in(&directory.join(ACTIONS))? {
            match self.import_action(&path) {
                Ok(()) => done.actions += 1,
                Err(Left::Out(why)) => done.left_out.push((path, why)),
                Err(Left::Failed(error)) => return Err(error),
            }
        }
        Ok(done)
    }

    fn import_blob(self, path: &Path) -> Result<u64, Left> {
        let name = BlobName::from_hex(file_name(path)).map_err(Left::out)?;
        let mut file = File::open(path).during("open", path).map_err(source)?;
        let mut upload = self.store().upload_as(name);
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let length = io::Read::read(&mut file, &mut piece).during("read", path);
            match length.map_err(source)? {
                0 => break,
                length => upload.write(&piece[..length]).map_err(Left::Failed)?,
            }
        }
        match self.commit(upload) {
            Ok((digest, _)) => Ok(digest.size_bytes()),
            Err(error @ PutError::NameMismatch(_)) => Err(Left::out(error)),
            Err(error) => Err(Left::Failed(error)),
        }
    }

    fn import_action(self, path: &Path) -> Result<(), Left> {
        let key = parse_hash(file_name(path)).map_err(Left::out)?;
        let bytes = fs::read(path).during("read", path).map_err(source)?;
        let entry = ActionEntry::decode(&key, &Bytes::from(bytes)).map_err(Left::out)?;
        self.put_action(&key, entry).map_err(Left::Failed)
    }
}

/// Why a file did not come in.
enum Left {
    /// It is not what its name says; others may be.
    Out(String),
    /// Nothing will go on.
    Failed(PutError),
}

impl Left {
    #[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
    fn out(why: impl ToString) -> Self {
        Self::Out(why.to_string())
    }
}

fn source(failure: IoFailure) -> Left {
    Left::Failed(PutError::Source(failure))
}

fn file_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("")
}

/// The files of a directory in the order of their names; none when there is no directory.
fn files_in(directory: &Path) -> Result<Vec<PathBuf>, PutError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries
            .during("list", directory)
            .map_err(PutError::Source)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.during("list", directory).map_err(PutError::Source)?;
        found.push(entry.path());
    }
    found.sort_unstable();
    Ok(found)
}
