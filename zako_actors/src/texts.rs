//! Files that people write, read whole.
//!
//! Owns what is said of something else in the place of such a file. Does not know what the texts mean.
//! Invariant: nothing here waits for whoever may write into a pipe.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

/// What lies at `path` in place of a file that can be read, in words; `None` when it is a file, or leads to one, or
/// nothing is there.
pub fn what_else(path: &Path) -> Option<String> {
    let link = fs::symlink_metadata(path).ok()?;
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) => {
            let to = fs::read_link(path).ok()?;
            let why = match error.kind() {
                ErrorKind::NotFound => "which does not exist".to_owned(),
                _ => format!("where nothing can be read: {error}"),
            };
            return Some(format!("a symbolic link to {}, {why}", to.display()));
        }
    };
    let kind = found.file_type();
    let what = match () {
        () if kind.is_file() => return None,
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Some(match link.is_symlink() {
        true => format!("a symbolic link to {what}"),
        false => what.to_owned(),
    })
}

/// The text of the file at `path`.
///
/// # Errors
/// As [`read`], and when it is no UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// What is in the file at `path`.
///
/// # Errors
/// As [`fs::read`], and when it is no file, in words; `NotFound` when nothing at all is there.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let other = |error: io::Error| match what_else(path) {
        Some(what) => io::Error::other(format!("it is {what}")),
        None => error,
    };
    // A pipe that nobody writes to would not be opened before somebody does.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = open(path, flags, Mode::empty())
        .map(File::from)
        .map_err(|error| other(error.into()))?;
    if !file.metadata()?.is_file() {
        return Err(other(ErrorKind::InvalidInput.into()));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_is_no_file_is_named_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let pipe = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), pipe, Mode::RWXU, 0).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        fs::create_dir(at("dir")).unwrap();
        fs::write(at("file"), "text").unwrap();
        for (name, to) in [
            ("none", "nowhere"),
            ("round", "round"),
            ("to_dir", "dir"),
            ("to_pipe", "pipe"),
            ("to_file", "file"),
        ] {
            symlink(to, at(name)).unwrap();
        }
        for (name, what) in [
            ("dir", "a directory"),
            ("pipe", "a named pipe"),
            ("socket", "a socket"),
            ("none", "a symbolic link to nowhere, which does not exist"),
            ("to_dir", "a symbolic link to a directory"),
            ("to_pipe", "a symbolic link to a named pipe"),
        ] {
            assert_eq!(what_else(&at(name)).as_deref(), Some(what));
            let said = read_text(&at(name)).unwrap_err().to_string();
            assert_eq!(said, format!("it is {what}"));
        }
        let round = read_text(&at("round")).unwrap_err().to_string();
        assert!(
            round.contains("a symbolic link to round, where nothing"),
            "{round}"
        );
        for name in ["file", "to_file"] {
            assert_eq!(what_else(&at(name)), None);
            assert_eq!(read_text(&at(name)).unwrap(), "text");
        }
        assert_eq!(what_else(&at("nothing")), None);
        let nothing = read_text(&at("nothing")).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::NotFound);
    }
}
