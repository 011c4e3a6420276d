//! A socket in the file system.
//!
//! Owns: making it, and replacing one that a killed node has left.
//! Does not know: connections.
//! Invariants: nothing but a dead socket is ever removed; nobody but this user can open the socket
//! at any moment.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Listens at `path`.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    remove_dead(path)?;
    // Under another name until its rights are right: a socket is made with those of the umask.
    let early = early(path);
    // One that was left between here and the renaming.
    let _ = fs::remove_file(&early);
    let listener = std::os::unix::net::UnixListener::bind(&early)?;
    let made = fs::set_permissions(&early, fs::Permissions::from_mode(0o600))
        .and_then(|()| fs::rename(&early, path))
        .and_then(|()| listener.set_nonblocking(true));
    if let Err(error) = made {
        let _ = fs::remove_file(&early);
        return Err(error);
    }
    UnixListener::from_std(listener)
}

/// Beside it, and not longer than the kernel allows when `path` is not.
fn early(path: &Path) -> PathBuf {
    let id = std::process::id();
    path.with_file_name(format!(".{id:x}"))
}

fn remove_dead(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        let said = "something that is no socket lies there; remove it or choose another path";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, said));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens there; stop it or choose another path",
        )),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_dead_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let first = bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let said = bind(&path).unwrap_err().to_string();
        assert!(said.contains("listens there"), "{said}");
        drop(first);
        drop(bind(&path).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        let said = bind(&path).unwrap_err().to_string();
        assert!(said.contains("no socket"), "{said}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let names = fs::read_dir(directory.path()).unwrap();
        assert_eq!(names.count(), 1, "no early name is left");
    }
}
