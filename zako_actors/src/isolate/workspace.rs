//! The directory that an evaluation may read.
//!
//! Owns: that nothing outside of it is read, symbolic links followed.
//! Does not know: which files an evaluation wants.

use std::cell::OnceCell;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Most build files are shorter, and are read at once.
const USUAL_BYTES: usize = 16 << 10;

/// The root of a workspace.
pub(super) struct Workspace {
    /// As the caller names it.
    root: PathBuf,
    directory: Option<OwnedFd>,
    /// The same without symbolic links. Asking for that takes a system call for each part of a path, so it is done only
    /// when a path has one.
    real: OnceCell<PathBuf>,
}

impl Workspace {
    /// The one at this place, to be opened.
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            directory: None,
            real: OnceCell::new(),
        }
    }

    /// Opens the directory.
    ///
    /// # Errors
    /// When it is not there, is none, or may not be read.
    pub fn open(&mut self) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.directory = Some(rustix::fs::open(&self.root, flags, Mode::empty())?);
        Ok(())
    }

    /// Where a path of the workspace is on the disk.
    pub fn join(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Where the file is that a path of the workspace leads to.
    ///
    /// # Errors
    /// When it leads nowhere, or out of the workspace.
    pub fn real_path(&self, path: &str) -> io::Result<PathBuf> {
        let root = match self.real.get() {
            Some(root) => root,
            None => {
                let root = fs::canonicalize(&self.root)?;
                self.real.get_or_init(|| root)
            }
        };
        let real = fs::canonicalize(self.join(path))?;
        if real.starts_with(root) {
            Ok(real)
        } else {
            Err(io::Error::other(
                "it is a symbolic link that leaves the workspace",
            ))
        }
    }

    /// Reads the bytes of a file into `bytes`, in place of what is there.
    ///
    /// # Errors
    /// When it cannot be read, or is outside of the workspace.
    pub fn read(&self, path: &str, bytes: &mut Vec<u8>) -> io::Result<()> {
        // Without symbolic links and `..` a path stays inside, which the kernel sees to in one call. All else, also what
        // goes wrong, and kernels that have no such call, take the long way.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let directory = self.directory.as_ref();
        let opened = directory.and_then(|directory| {
            rustix::fs::openat2(directory, path, flags, Mode::empty(), inside).ok()
        });
        match opened {
            Some(file) => read_all(&file, bytes),
            None => {
                let file = fs::File::open(self.real_path(path)?)?;
                read_all(&OwnedFd::from(file), bytes)
            }
        }
    }
}

fn read_all(file: &OwnedFd, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.clear();
    loop {
        bytes.reserve(USUAL_BYTES);
        match rustix::io::read(file, rustix::buffer::spare_capacity(bytes)) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_is_inside_is_read_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a")).unwrap();
        let long = "x".repeat(3 * USUAL_BYTES + 1);
        for (path, text) in [
            ("a/b.ts", "b"),
            ("empty.ts", ""),
            ("long.ts", long.as_str()),
        ] {
            fs::write(root.join(path), text).unwrap();
        }
        fs::write(dir.path().join("out.ts"), "out").unwrap();
        symlink("a/b.ts", root.join("in.ts")).unwrap();
        symlink(root.join("a"), root.join("whole")).unwrap();
        symlink("../out.ts", root.join("out.ts")).unwrap();
        symlink(dir.path(), root.join("up")).unwrap();
        // The way to the root may have links.
        symlink(&root, dir.path().join("other")).unwrap();
        for root in [root, dir.path().join("other")] {
            let mut workspace = Workspace::at(&root);
            workspace.open().unwrap();
            let read = |path| {
                let mut bytes = b"old".to_vec();
                let read = workspace.read(path, &mut bytes);
                read.map(|()| String::from_utf8(bytes).unwrap())
            };
            for path in ["a/b.ts", "in.ts", "whole/b.ts"] {
                assert_eq!(read(path).unwrap(), "b", "{path}");
            }
            assert_eq!(read("empty.ts").unwrap(), "");
            assert_eq!(read("long.ts").unwrap(), long);
            for path in ["out.ts", "up/out.ts", "../out.ts", "/etc/hostname"] {
                assert!(read(path).is_err(), "{path}");
            }
            assert_eq!(read("no.ts").unwrap_err().kind(), io::ErrorKind::NotFound);
            assert!(read("a").is_err());
        }
        for none in ["none", "out.ts"] {
            assert!(Workspace::at(&dir.path().join(none)).open().is_err());
        }
    }
}
