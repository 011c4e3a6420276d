//! Writing a stored blob to a path of the caller, or lending the path that it has.
//!
//! Owns: how the bytes get there and that they get there whole.
//! Does not know: how a blob is found.
//! Invariants: the destination holds its old content or the whole blob, never a part; it never
//! shares an inode with the store.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fs::Mode;

use crate::digest::Digest;
use crate::error::{ExportError, GetError, IoFailure};
use crate::layout::{Layout, is_packed};
use crate::shard::Found;
use crate::store::Store;

/// One blob to be written to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The blob.
    pub digest: Digest,
    /// Where it goes; missing directories are made, an existing file is replaced.
    pub path: PathBuf,
    /// Permission bits, exactly as given (`0o644`, `0o755`): the umask is not applied.
    pub mode: u32,
}

impl Export {
    /// Whether this process gives files this name while it writes them, until they get their own.
    pub fn is_temporary(name: &str) -> bool {
        let number = |number: &str| number.parse::<u64>().is_ok();
        let end = name
            .strip_prefix('.')
            .and_then(|name| name.rsplit_once('.'));
        end.and_then(|(_, end)| end.split_once('-'))
            .is_some_and(|(id, next)| id == std::process::id().to_string() && number(next))
    }
}

/// Distinguishes the temporary names of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Writes a blob beside its destination, then gives it its name.
pub(crate) fn write_out(found: &Found, path: &Path, mode: u32) -> Result<(), ExportError> {
    let failed = |error| ExportError::Destination(IoFailure::new("write", path, error));
    let temp = beside(path);
    let written = create(&temp, mode)
        .and_then(|file| fill(file, found, mode))
        .and_then(|()| fs::rename(&temp, path));
    written.map_err(|error| {
        // Nothing to remove when creating it was what failed.
        let _ = fs::remove_file(&temp);
        failed(error)
    })
}

fn beside(path: &Path) -> PathBuf {
    let number = NEXT.fetch_add(1, Relaxed);
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}-{number}", std::process::id()));
    path.with_file_name(name)
}

fn create(temp: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    match options.open(temp) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = temp.parent() {
                fs::create_dir_all(parent)?;
            }
            options.open(temp)
        }
        opened => opened,
    }
}

fn fill(mut file: File, found: &Found, mode: u32) -> io::Result<()> {
    match &found.file {
        // `io::copy` between files is copy_file_range where the kernel has it.
        Some(source) if rustix::fs::ioctl_ficlone(&file, source).is_err() => {
            io::copy(&mut &**source, &mut file).map(drop)?;
        }
        Some(_) => {}
        None => file.write_all(&found.blob)?,
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
    Ok(())
}

impl Store {
    /// The file of a large blob in the store, for programs that want a path; `None` for a small one,
    /// which shares its file with others and can be [exported](crate::Blocking::export).
    ///
    /// The file is checked as for [`get`](Self::get), and asking counts as a use: with `max_bytes`, it
    /// stays for the [`lease`](crate::StoreConfig::lease) unless somebody deletes the blob. Who has it
    /// open keeps the content for longer. It is read-only and must stay so: whoever writes to it
    /// damages the store.
    ///
    /// # Errors
    /// As for [`get`](Self::get); what the cache behind the store has but a full store cannot keep is
    /// not found.
    pub async fn local_path(&self, digest: &Digest) -> Result<Option<PathBuf>, GetError> {
        if is_packed(digest.size_bytes()) {
            return self.get(digest).await.map(|_| None);
        }
        // Not the memory tier: what it holds needs no file, and its own is another question.
        let found = match (self.find(digest).await, self.upstream()) {
            (Err(GetError::NotFound(_) | GetError::Corrupt { .. }), Some(tier)) => {
                tier.bring(self, &(*digest).into()).await;
                self.find(digest).await
            }
            (found, _) => found,
        };
        let path = Layout::new(self.root().to_owned()).blob(digest.hash());
        found.map(|_| Some(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::Blob;
    use crate::uses::tests::next_second;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn found(content: &'static [u8]) -> Found {
        Found::in_memory(Blob::from(bytes::Bytes::from_static(content)))
    }

    #[test]
    fn names_of_unfinished_files_are_known() {
        let name = |path: &str| beside(Path::new(path)).file_name().unwrap().to_owned();
        for path in ["/a/x", "/a/.x", "/a/x.js", "x-1"] {
            assert!(Export::is_temporary(name(path).to_str().unwrap()), "{path}");
        }
        let other = format!(".x.{}-0", std::process::id() + 1);
        for name in ["x", ".x", ".x.1", ".x.js", &other] {
            assert!(!Export::is_temporary(name), "{name}");
        }
    }

    #[test]
    fn a_large_blob_has_a_path_that_is_spared_and_a_small_one_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let system = actor_rt::System::new().unwrap();
        let mut config = crate::StoreConfig::new(directory.path());
        // Large ones are in memory as well.
        config.memory.admit_up_to_bytes = 1_000_000;
        let store = Store::open(config, &system).unwrap();
        let blocking = store.blocking();
        let content = vec![7; 100_000];
        let (large, other) = (
            blocking.put(content.clone()).unwrap(),
            blocking.put(vec![8; 100_000]).unwrap(),
        );
        let small = blocking.put("small").unwrap();
        assert_eq!(blocking.local_path(&small).unwrap(), None);
        next_second();
        let path = blocking.local_path(&large).unwrap().unwrap();
        assert_eq!(fs::read(&path).unwrap(), content);
        assert!(fs::metadata(&path).unwrap().permissions().readonly());
        next_second();
        blocking.gc(150_000).unwrap();
        assert!(path.exists(), "lent last, so used last");
        assert_eq!(blocking.contains(&[large, other]).unwrap(), [true, false]);
        blocking.delete(&large).unwrap();
        assert!(matches!(
            blocking.local_path(&large),
            Err(GetError::NotFound(_))
        ));
    }

    #[test]
    fn replaces_a_file_and_sets_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/down/out.sh");
        write_out(&found(b"one"), &path, 0o444).unwrap();
        write_out(&found(b"two"), &path, 0o755).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o755
        );
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_hard_link_at_the_destination_is_replaced_not_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let (original, path) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&original, "original").unwrap();
        fs::hard_link(&original, &path).unwrap();
        write_out(&found(b"new"), &path, 0o644).unwrap();
        assert_eq!(fs::read(&original).unwrap(), b"original");
        assert_eq!(fs::metadata(&path).unwrap().nlink(), 1);
    }

    #[test]
    fn a_large_blob_is_copied_from_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let stored = directory.path().join("stored");
        fs::write(&stored, b"from the file").unwrap();
        let found = Found {
            blob: Blob::from(bytes::Bytes::from_static(b"from the file")),
            file: Some(std::sync::Arc::new(File::open(&stored).unwrap())),
            unchecked: false,
        };
        let path = directory.path().join("out");
        write_out(&found, &path, 0o640).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"from the file");
        assert_ne!(
            fs::metadata(&path).unwrap().ino(),
            fs::metadata(&stored).unwrap().ino()
        );
    }

    #[test]
    fn a_directory_in_the_way_is_named_and_nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        fs::create_dir(&path).unwrap();
        let error = write_out(&found(b"x"), &path, 0o644).unwrap_err();
        assert!(matches!(&error, ExportError::Destination(failure) if failure.path == path));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
