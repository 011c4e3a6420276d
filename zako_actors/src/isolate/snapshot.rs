//! The startup snapshot, kept from one process to the next.
//!
//! Owns where it lies, whom it is for, and that nothing but what was written is used. Does not know how
//! it is made.
//! Invariants: the engine is given a snapshot only when this very program wrote it, whole; whatever
//! cannot be read or written costs time, not correctness.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

static PLACE: OnceLock<PathBuf> = OnceLock::new();

/// What the names of kept snapshots begin with.
const STEM: &str = "snapshot-";
/// Length of the checksum in front of the snapshot, in bytes.
const SUM_BYTES: usize = blake3::OUT_LEN;

/// From now on snapshots are kept in `dir`, which is this user's own. The first call decides.
pub fn keep_in(dir: &Path) {
    PLACE.get_or_init(|| dir.to_owned());
}

/// The snapshot that was kept, or what `make` makes, which is kept then.
pub(super) fn kept_or(make: impl FnOnce() -> Option<Box<[u8]>>) -> Option<&'static [u8]> {
    let path = PLACE.get().and_then(|dir| path_in(dir));
    if let Some(bytes) = path.as_deref().and_then(read) {
        return Some(bytes);
    }
    let made: &'static [u8] = Box::leak(make()?);
    if let Some(path) = &path
        && let Err(error) = write(path, made)
    {
        tracing::debug!("the startup snapshot was not kept: {error}");
    }
    Some(made)
}

/// Where this program keeps its own: another build of it, or one that asks for other flags, has
/// another.
fn path_in(dir: &Path) -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let metadata = fs::metadata(&program).ok()?;
    let identity = |m: &Metadata| {
        [
            m.dev(),
            m.ino(),
            m.size(),
            m.mtime() as u64,
            m.mtime_nsec() as u64,
        ]
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(program.as_os_str().as_encoded_bytes());
    for number in identity(&metadata) {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(&[u8::from(crate::backtrace::is_wanted())]);
    Some(dir.join(format!("{STEM}{}", hasher.finalize().to_hex())))
}

fn read(path: &Path) -> Option<&'static [u8]> {
    let bytes = fs::read(path).ok()?;
    let (sum, snapshot) = bytes.split_at_checked(SUM_BYTES)?;
    if *blake3::hash(snapshot).as_bytes() != *sum {
        return None;
    }
    // For the rest of the process, as the engine wants it.
    Some(&Box::leak(bytes.into_boxed_slice())[SUM_BYTES..])
}

/// Writes it in one step, and takes away those of other builds.
fn write(path: &Path, snapshot: &[u8]) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    for entry in fs::read_dir(dir)?.flatten() {
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(STEM.as_bytes())
        {
            fs::remove_file(entry.path())?;
        }
    }
    let temporary = path.with_extension(std::process::id().to_string());
    let mut bytes = blake3::hash(snapshot).as_bytes().to_vec();
    bytes.extend_from_slice(snapshot);
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // A full disk has other uses for the room; that it may not be there is no further news.
        drop(fs::remove_file(&temporary));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("snapshot-old");
        fs::write(&old, "old").unwrap();
        let path = path_in(dir.path()).unwrap();
        assert_eq!(read(&path), None);
        write(&path, b"snapshot").unwrap();
        assert_eq!(read(&path), Some(&b"snapshot"[..]));
        assert!(!old.exists());
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path), None);
        fs::write(&path, "short").unwrap();
        assert_eq!(read(&path), None);
    }
}
