//! The content of a blob as readers get it, and ranges of it.
//!
//! Owns: [`Blob`] and [`ByteRange`].
//! Does not know: where the bytes came from beyond "memory" or "a mapped file".
//! Invariant: a clone or a slice of a blob never copies its bytes.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::Mmap;

/// The content of a blob: small ones lie in memory, large ones are a mapped file.
///
/// Clones and slices share the bytes. A blob stays readable after the store has deleted or
/// evicted it. Who cuts off a file of the store while somebody reads its mapped bytes ends that process; what
/// the front ends send is read from the file instead.
#[derive(Clone)]
pub struct Blob {
    bytes: Bytes,
    mapped: Option<FilePart>,
}

/// Where the bytes of a mapped blob lie.
#[derive(Debug, Clone)]
pub(crate) struct FilePart {
    pub(crate) file: Arc<File>,
    pub(crate) start: u64,
}

impl PartialEq for Blob {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Blob {}

impl Blob {
    /// A blob of a mapped file.
    pub(crate) fn from_map(map: Mmap, file: Arc<File>) -> Self {
        Self {
            bytes: Bytes::from_owner(map),
            mapped: Some(FilePart { file, start: 0 }),
        }
    }

    /// The file that is mapped, and where in it the bytes begin.
    pub(crate) fn file(&self) -> Option<&FilePart> {
        self.mapped.as_ref()
    }

    /// Whether the bytes are a mapped file rather than memory of the process.
    pub fn is_mapped(&self) -> bool {
        self.mapped.is_some()
    }

    /// The part of the blob that `range` names, sharing its bytes.
    ///
    /// # Errors
    /// When the range reaches past the end.
    pub fn slice(&self, range: ByteRange) -> Result<Self, RangeError> {
        let within = range.within(self.bytes.len() as u64)?;
        Ok(Self {
            bytes: self.bytes.slice(within),
            mapped: self.mapped.as_ref().map(|part| FilePart {
                file: Arc::clone(&part.file),
                start: part.start + range.start,
            }),
        })
    }

    /// Takes up to `most` bytes from the front, for a reader who may need long for the rest. Those of a
    /// file are read, not touched where they are mapped: where somebody has cut the file off meanwhile, that
    /// would be the end of the process.
    ///
    /// # Errors
    /// When the file cannot be read, or is shorter now.
    pub(crate) fn take_piece(&mut self, most: usize) -> io::Result<Bytes> {
        let mapped = self.bytes.split_to(most.min(self.bytes.len()));
        let Some(part) = &mut self.mapped else {
            return Ok(mapped);
        };
        let mut piece = vec![0; mapped.len()];
        part.file.read_exact_at(&mut piece, part.start)?;
        part.start += piece.len() as u64;
        Ok(piece.into())
    }

    /// All bytes, read in the same way.
    ///
    /// # Errors
    /// As for [`take_piece`](Self::take_piece).
    pub(crate) fn read(mut self) -> io::Result<Bytes> {
        self.take_piece(usize::MAX)
    }

    /// The bytes in the form that network libraries take, still shared.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

/// Reads a blob as [`Blob::take_piece`] does.
pub(crate) struct Reader(pub(crate) Blob);

impl io::Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.0.take_piece(buffer.len())?;
        buffer[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

impl Deref for Blob {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        Self {
            bytes,
            mapped: None,
        }
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob")
            .field("size_bytes", &self.bytes.len())
            .field("mapped", &self.is_mapped())
            .finish()
    }
}

/// A part of a blob: `length` bytes from `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange {
    /// First byte, from 0.
    pub start: u64,
    /// How many bytes.
    pub length: u64,
}

impl ByteRange {
    /// `length` bytes from `start`.
    pub const fn new(start: u64, length: u64) -> Self {
        Self { start, length }
    }

    /// The range as indices into `size_bytes` bytes. A range of no bytes at the very end is valid.
    ///
    /// # Errors
    /// When the range reaches past the end.
    pub fn within(self, size_bytes: u64) -> Result<Range<usize>, RangeError> {
        let error = RangeError {
            range: self,
            size_bytes,
        };
        let end = self.start.checked_add(self.length).ok_or(error)?;
        if end > size_bytes {
            return Err(error);
        }
        let index = |at: u64| usize::try_from(at).map_err(|_| error);
        Ok(index(self.start)?..index(end)?)
    }
}

/// A range reaches past the end of the blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "range of {} bytes from {} reaches past the end of a blob of {size_bytes} bytes",
    range.length,
    range.start
)]
pub struct RangeError {
    /// What was asked for.
    pub range: ByteRange,
    /// The size of the blob in bytes.
    pub size_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_ranges_outside() {
        let blob = Blob::from(Bytes::from_static(b"0123456789"));
        let slice = |start, length| blob.slice(ByteRange::new(start, length));
        assert_eq!(&*slice(2, 3).unwrap(), b"234");
        assert_eq!(&*slice(10, 0).unwrap(), b"");
        assert_eq!(slice(0, 11).unwrap_err().size_bytes, 10);
        assert!(slice(11, 0).is_err());
        assert!(slice(u64::MAX, 2).is_err());
        let said = slice(8, 5).unwrap_err().to_string();
        assert_eq!(
            said,
            "range of 5 bytes from 8 reaches past the end of a blob of 10 bytes"
        );
    }

    #[test]
    fn pieces_of_a_file_are_read_and_one_that_was_cut_off_is_an_error() {
        let content: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&content, 0).unwrap();
        let map = crate::mapped::map(&file).unwrap();
        let file = Arc::new(file);
        let mut blob = Blob::from_map(map, Arc::clone(&file));
        let part = blob.slice(ByteRange::new(500, 1000)).unwrap();
        assert_eq!(part.read().unwrap(), content[500..1500]);
        assert_eq!(blob.take_piece(40_000).unwrap(), content[..40_000]);
        file.set_len(50_000).unwrap();
        assert_eq!(blob.take_piece(9_000).unwrap(), content[40_000..49_000]);
        assert!(blob.clone().take_piece(9_000).is_err());
        assert!(blob.read().is_err());
        let mut small = Blob::from(Bytes::from_static(b"0123456789"));
        assert_eq!(&small.take_piece(4).unwrap()[..], b"0123");
        assert_eq!(&small.read().unwrap()[..], b"456789");
    }

    proptest! {
        #[test]
        fn slices_agree_with_the_standard_library(
            content in any::<Vec<u8>>(), start in 0u64..80, length in 0u64..80,
        ) {
            let expected = content.get(start as usize..(start + length) as usize);
            let blob = Blob::from(Bytes::from(content.clone()));
            let found = blob.slice(ByteRange::new(start, length)).ok();
            prop_assert_eq!(found.as_deref(), expected);
        }
    }
}
