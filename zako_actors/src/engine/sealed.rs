//! Files that are used only when they are exactly what was written.
//!
//! Owns the envelope: magic, format number, length, checksum, then postcard. Does not know what is
//! inside.
//! Invariants: a file that is damaged or of another format is never decoded; replacing is one
//! rename, so a kill leaves the old file or the new one.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

use postcard::Deserializer;
use postcard::de_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Magic, format, length, checksum.
const HEADER_BYTES: usize = 8 + 4 + 8 + 32;

/// What is read and written at a time.
const BLOCK_BYTES: usize = 256 << 10;

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
        let body = self.open(path)?;
        body.map_or_else(|| Ok(T::default()), |mut body| body.take())
    }

    /// The body of the file at `path`; `None` when there is no such file.
    ///
    /// # Errors
    /// When it cannot be read, or is not exactly what was put there.
    pub fn open(&self, path: &Path) -> Result<Option<Body<File>>, SealError> {
        match File::open(path) {
            Ok(file) => self.body(file).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(SealError::Unreadable(error.kind())),
        }
    }

    /// The body of what [`write`](Self::write) wrote. All of it is looked at before anything is decoded, a block at a time:
    /// a large one is never in memory beside what it becomes.
    fn body<R: Read + Seek>(&self, mut from: R) -> Result<Body<R>, SealError> {
        let mut header = [0; HEADER_BYTES];
        from.read_exact(&mut header).map_err(unread)?;
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
        let mut hashed = Hashed::new(io::sink());
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            match from.read(&mut block).map_err(unread)? {
                0 => break,
                read => hashed.write_all(&block[..read]).map_err(unread)?,
            }
        }
        if length != hashed.length.to_le_bytes() || checksum != hashed.hasher.finalize().as_bytes()
        {
            return Err(SealError::Damaged);
        }
        from.seek(SeekFrom::Start(HEADER_BYTES as u64))
            .map_err(unread)?;
        block.clear();
        let blocks = Blocks { from, block, at: 0 };
        Ok(Body(Deserializer::from_flavor(blocks)))
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
        let mut body = BufWriter::with_capacity(BLOCK_BYTES, Hashed::new(to));
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

    /// Reads what [`encode`](Self::encode) made.
    #[cfg(test)]
    pub(super) fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, SealError> {
        self.body(io::Cursor::new(bytes.to_vec()))?.take()
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

fn unread(error: io::Error) -> SealError {
    match error.kind() {
        ErrorKind::UnexpectedEof => SealError::Damaged,
        kind => SealError::Unreadable(kind),
    }
}

/// What an envelope holds: one value after the other.
pub struct Body<R: Read + 'static>(Deserializer<'static, Blocks<R>>);

impl<R: Read> Body<R> {
    /// The next value.
    ///
    /// # Errors
    /// When what follows is damaged, or none.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<T, SealError> {
        T::deserialize(&mut self.0).map_err(|_| SealError::Damaged)
    }
}

/// Reads a block at a time.
struct Blocks<R> {
    from: R,
    block: Vec<u8>,
    /// Where in the block the next value begins.
    at: usize,
}

impl<R: Read> Blocks<R> {
    /// The next bytes.
    fn take(&mut self, count: usize) -> postcard::Result<&[u8]> {
        if self.block.len() - self.at < count {
            self.block.drain(..self.at);
            self.at = 0;
            let missing = count.max(BLOCK_BYTES) - self.block.len();
            let mut some = self.from.by_ref().take(missing as u64);
            some.read_to_end(&mut self.block)
                .map_err(|_| postcard::Error::DeserializeUnexpectedEnd)?;
        }
        let end = self.at.saturating_add(count);
        let taken = self.block.get(self.at..end);
        let taken = taken.ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        self.at = end;
        Ok(taken)
    }
}

impl<'de, R: Read + 'de> Flavor<'de> for Blocks<R> {
    type Remainder = ();
    type Source = ();

    fn pop(&mut self) -> postcard::Result<u8> {
        match self.block.get(self.at) {
            Some(byte) => {
                self.at += 1;
                Ok(*byte)
            }
            None => self.take(1).map(|bytes| bytes[0]),
        }
    }

    fn try_take_n(&mut self, _: usize) -> postcard::Result<&'de [u8]> {
        // Nothing outlives its block, so that nobody may borrow.
        Err(postcard::Error::WontImplement)
    }

    fn try_take_n_temp<'a>(&'a mut self, count: usize) -> postcard::Result<&'a [u8]>
    where
        'de: 'a,
    {
        self.take(count)
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
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

impl<W> Hashed<W> {
    fn new(to: W) -> Self {
        Self {
            to,
            hasher: blake3::Hasher::new(),
            length: 0,
            failed: None,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const SEAL: Seal = Seal {
        magic: b"ZAKOTEST",
        format: 1,
    };

    #[test]
    fn values_of_any_length_are_read_across_blocks() {
        let short = (0..BLOCK_BYTES / 4).map(|number| number.to_string());
        let long = "l".repeat(3 * BLOCK_BYTES);
        let texts: Vec<String> = short.chain([long, "end".to_owned()]).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sealed");
        SEAL.save(&(&texts, 7_u8), &path).unwrap();
        let mut body = SEAL.open(&path).unwrap().unwrap();
        assert_eq!(body.take::<Vec<String>>(), Ok(texts));
        assert_eq!(body.take::<u8>(), Ok(7));
        for _ in 0..2 {
            assert_eq!(body.take::<u8>(), Err(SealError::Damaged));
        }
    }

    #[test]
    fn nothing_is_not_damaged_and_a_part_of_a_header_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sealed");
        assert!(SEAL.open(&path).unwrap().is_none());
        fs::write(&path, b"ZAKOTEST").unwrap();
        assert_eq!(SEAL.load::<u8>(&path), Err(SealError::Damaged));
    }
}
