//! The few calls on the file system whose failure must not lose data, behind one seam.
//!
//! Owns: [`Disk`], which tests replace to make an fsync fail or a write fall short.
//! Does not know: what is written or in which order (`commit` does).
//! Invariant: whatever is written of content, records and indexes goes through this trait, also into
//! temporary files (`staging`, `take`), and nothing is called durable or gets its name but by it.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The writing half of the file system, and reading back where something may have failed.
pub(crate) trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Creates a file that must not exist yet and writes `content`.
    fn write_new(&self, path: &Path, content: &[u8]) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let mut file = options.open(path)?;
        file.write_all(content)?;
        Ok(file)
    }

    /// Writes `content` at `offset` of a file.
    fn write_at(&self, file: &File, content: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(content, offset)
    }

    /// Has a file share the extents of another, where the file system can do that.
    fn clone_file(&self, from: &File, to: &File) -> io::Result<()> {
        Ok(rustix::fs::ioctl_ficlone(to, from)?)
    }

    /// Copies up to `most` bytes from where one file is read to where the other is written, within
    /// the kernel where it can do that; 0 at the end.
    fn copy_piece(&self, mut from: &File, mut to: &File, most: usize) -> io::Result<usize> {
        match rustix::fs::copy_file_range(from, None, to, None, most) {
            Ok(length) if length > 0 => Ok(length),
            // At the end, or between file systems that cannot: the plain way finds out.
            _ => Ok(io::copy(&mut Read::take(&mut from, most as u64), &mut to)? as usize),
        }
    }

    /// Makes the content of one file durable.
    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Makes the names in one directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    /// Opens a directory for [`sync_all`](Self::sync_all). What fails to be written from here on is told
    /// through it, once; what has failed before may not be.
    fn open_root(&self, path: &Path) -> io::Result<File> {
        File::open(path)
    }

    /// Makes everything on a file system durable: one journal commit for many files.
    fn sync_all(&self, root: &File) -> io::Result<()> {
        Ok(rustix::fs::syncfs(root)?)
    }

    /// Reads back what a failed sync has left in doubt, or what a segment holds that may go.
    fn read_back(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        file.read_exact_at(buffer, offset)
    }

    /// Makes a file take so much space and hold nothing, or leaves it as it was.
    fn allocate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let plain = rustix::fs::FallocateFlags::empty();
        Ok(rustix::fs::fallocate(file, plain, 0, bytes)?)
    }

    /// Bytes that may still be written to the file system of a directory.
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Gives a file its name, replacing what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
}

/// A [`Disk`] that every shard has for itself.
pub(crate) trait Fs: Disk + Clone {}

impl<D: Disk + Clone> Fs for D {}

/// Whether a read failed because what was asked for is not there any more: reading again would not
/// help.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    let bad = rustix::io::Errno::IO.raw_os_error();
    error.kind() == io::ErrorKind::UnexpectedEof || error.raw_os_error() == Some(bad)
}

/// The operating system.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RealFs;

impl Disk for RealFs {}

#[cfg(test)]
pub(crate) mod faulty {
    //! A file system that fails on demand.
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    /// What fails.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Fault {
        /// Half of the content arrives, then the disk is full.
        ShortWrite,
        /// Syncing reports an I/O error.
        Sync,
        /// Renaming reports a full disk.
        Rename,
    }

    /// Lets `countdown` calls of the faulty kind pass, then fails one.
    #[derive(Debug, Clone)]
    pub(crate) struct FaultyFs {
        pub(crate) fault: Fault,
        pub(crate) countdown: Arc<AtomicI64>,
    }

    impl FaultyFs {
        pub(crate) fn new(fault: Fault, after: i64) -> Self {
            Self {
                fault,
                countdown: Arc::new(AtomicI64::new(after)),
            }
        }

        fn strikes(&self, fault: Fault) -> bool {
            self.fault == fault && self.countdown.fetch_sub(1, Ordering::Relaxed) == 0
        }

        fn syncing(&self) -> io::Result<()> {
            match self.strikes(Fault::Sync) {
                true => Err(io::Error::other("injected sync failure")),
                false => Ok(()),
            }
        }
    }

    impl Disk for FaultyFs {
        fn write_new(&self, path: &Path, content: &[u8]) -> io::Result<File> {
            if self.strikes(Fault::ShortWrite) {
                RealFs.write_new(path, &content[..content.len() / 2])?;
                return Err(io::ErrorKind::StorageFull.into());
            }
            RealFs.write_new(path, content)
        }

        fn write_at(&self, file: &File, content: &[u8], offset: u64) -> io::Result<()> {
            if self.strikes(Fault::ShortWrite) {
                RealFs.write_at(file, &content[..content.len() / 2], offset)?;
                return Err(io::ErrorKind::StorageFull.into());
            }
            RealFs.write_at(file, content, offset)
        }

        fn clone_file(&self, _: &File, _: &File) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn copy_piece(&self, from: &File, to: &File, most: usize) -> io::Result<usize> {
            if self.strikes(Fault::ShortWrite) {
                RealFs.copy_piece(from, to, most / 2)?;
                return Err(io::ErrorKind::StorageFull.into());
            }
            RealFs.copy_piece(from, to, most)
        }

        fn sync_file(&self, _: &File) -> io::Result<()> {
            self.syncing()
        }

        fn sync_directory(&self, _: &Path) -> io::Result<()> {
            self.syncing()
        }

        fn sync_all(&self, _: &File) -> io::Result<()> {
            self.syncing()
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            if self.strikes(Fault::Rename) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            RealFs.rename(from, to)
        }
    }
}
