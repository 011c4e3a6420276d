//! Maps large blobs into memory. The one place with `unsafe` in this crate.
//!
//! Owns: the argument why mapping is sound here.
//! Does not know: which files are mapped, or when.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use memmap2::Mmap;

/// Maps a whole file of the store for reading.
pub(crate) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the bytes must not change while they are mapped. The store never writes to a file
    // that has got its name: commits rename finished files, deletion and quarantine only unlink
    // or rename, all of which leave the mapped inode alone; `LOCK` keeps other processes of ours
    // out. A stranger who edits the store's files breaks this, as with every mapping.
    unsafe { Mmap::map(file) }
}
