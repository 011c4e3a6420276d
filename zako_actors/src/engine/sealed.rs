//! Files that are used only when they are exactly what was written.
//!
//! Owns the envelope: magic, format number, length, checksum, then postcard. Does not know what is
//! inside.
//! Invariants: a file that is damaged or of another format is never decoded; replacing is one
//! rename, so a kill leaves the old file or the new one.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Magic, format, length, checksum.
const HEADER_BYTES: usize = 8 + 4 + 8 + 32;

/// What is written at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// What kind of file it is.
#[derive(Clone, Copy, Debug)]
pub struct Seal {
    /// The first bytes.
    pub magic: &'static [u8; 8],
    /// Raised whenever the meaning of the bytes changes.
    pub format: u32,
}

/// Why a stored file is not used; whoever asks starts from nothing then.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SealError {
    /// Cut off, overwritten or never such a file.
    #[error("it is damaged")]
    Damaged,
    /// Another version wrote it.
    #[error("another version of zako wrote it (format {found}, this is {expected})")]
    Format {
        /// What it says.
        found: u32,
        /// What this version writes.
        expected: u32,
    },
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(ErrorKind),
}

impl Seal {
    /// What `path` holds; the default when there is no such file.
    ///
    /// # Errors
    /// When there is one that cannot be used.
    pub fn load<T: DeserializeOwned + Default>(&self, path: &Path) -> Result<T, SealError> {
        let bytes = self.read(path)?;
        bytes.map_or_else(|| Ok(T::default()), |bytes| self.decode(&bytes))
    }

    /// The bytes in `path`, envelope included; `None` when there is no such file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, SealError> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(SealError::Unreadable(error.kind())),
        }
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, SealError> {
        postcard::from_bytes(self.open(bytes)?).map_err(|_| SealError::Damaged)
    }

    /// What the envelope `bytes` holds, which is exactly what was put there.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn open<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], SealError> {
        let (header, body) = bytes
            .split_at_checked(HEADER_BYTES)
            .ok_or(SealError::Damaged)?;
        let (magic, header) = header.split_at(8);
        let (format, header) = header.split_at(4);
        let (length, checksum) = header.split_at(8);
        if magic != self.magic {
            return Err(SealError::Damaged);
        }
        let found = u32::from_le_bytes(format.try_into().map_err(|_| SealError::Damaged)?);
        if found != self.format {
            return Err(SealError::Format {
                found,
                expected: self.format,
            });
        }
        let intact = length == (body.len() as u64).to_le_bytes()
            && checksum == blake3::hash(body).as_bytes();
        intact.then_some(body).ok_or(SealError::Damaged)
    }

    /// The envelope of what `path` holds; its checksum tells one content from any other.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn header(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut header = vec![0; HEADER_BYTES];
        File::open(path)?.read_exact(&mut header)?;
        Ok(header)
    }

    /// Writes `value` in its envelope to an empty file. The envelope comes last, so that the value need not be in
    /// memory a second time.
    fn write<T: Serialize, W: Write + Seek>(&self, value: &T, mut to: W) -> io::Result<W> {
        to.write_all(&[0; HEADER_BYTES])?;
        let hashed = Hashed {
            to,
            hasher: blake3::Hasher::new(),
            length: 0,
            failed: None,
        };
        let mut body = BufWriter::with_capacity(BUFFER_BYTES, hashed);
        if let Err(error) = postcard::to_io(value, &mut body) {
            let failed = body.get_mut().failed.take();
            return Err(failed.unwrap_or_else(|| io::Error::other(error)));
        }
        let written = body.into_inner().map_err(|error| error.into_error())?;
        let Hashed {
            mut to,
            hasher,
            length,
            ..
        } = written;
        to.seek(SeekFrom::Start(0))?;
        to.write_all(self.magic)?;
        to.write_all(&self.format.to_le_bytes())?;
        to.write_all(&length.to_le_bytes())?;
        to.write_all(hasher.finalize().as_bytes())?;
        Ok(to)
    }

    /// `value` in its envelope.
    #[cfg(test)]
    pub(super) fn encode<T: Serialize>(&self, value: &T) -> io::Result<Vec<u8>> {
        let bytes = self.write(value, io::Cursor::new(Vec::new()))?;
        Ok(bytes.into_inner())
    }

    /// Replaces the file at `path`.
    ///
    /// # Errors
    /// When the disk refuses; the old file stays then.
    pub fn save<T: Serialize>(&self, value: &T, path: &Path) -> io::Result<()> {
        let temporary = path.with_extension("new");
        let written = File::create(&temporary)
            .and_then(|file| self.write(value, file))
            .and_then(|_| fs::rename(&temporary, path));
        if written.is_err() {
            // A leftover of a full disk is the last thing the disk needs.
            drop(fs::remove_file(&temporary));
        }
        written
    }
}

/// Counts and hashes what is written.
struct Hashed<W> {
    to: W,
    hasher: blake3::Hasher,
    length: u64,
    /// What the disk said, which the encoder does not hand on.
    failed: Option<io::Error>,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.to.write(bytes) {
            Ok(written) => {
                self.hasher.update(&bytes[..written]);
                self.length += written as u64;
                Ok(written)
            }
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
