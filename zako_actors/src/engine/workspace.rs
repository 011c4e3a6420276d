//! The workspace on disk: where it is, where its files go, and who may build in it.
//!
//! Owns finding the root, the layout of `.zako`, and the lock. Does not know targets.
//! Invariants: one build at a time per workspace; state follows the cache directory, because it
//! describes what that cache holds; scratch directories stay inside the workspace, so that outputs
//! can be moved into place.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::hash::Hash;
use super::umask;
use crate::diagnostic::Diagnostic;
use crate::lang::manifest::{Identity, MANIFEST, Manifest};
use crate::lang::package_json::{PACKAGE_JSON, PNPM_WORKSPACE, PackageJson};
use crate::texts::{read_text, what_else};

/// The directory that zako keeps its own files in.
pub const PRIVATE_DIR: &str = ".zako";

/// A found workspace.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// Absolute path of the root.
    pub root: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// Hash of the manifest's text: build files see parts of it.
    pub manifest_hash: Hash,
}

/// Why there is no workspace to work in.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// No manifest here or above.
    #[error("no {MANIFEST} or {PACKAGE_JSON} in {} or any directory above it; `zako init` makes one", .0.display())]
    NotFound(PathBuf),
    /// A manifest with a mistake.
    #[error("{}", .0.message)]
    Manifest(Box<Diagnostic>),
    /// The disk refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// As a verb.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> WorkspaceError + 'a {
    move |source| WorkspaceError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// What is said of a file that says what the workspace is, and cannot be read.
fn unread(path: &Path, error: io::Error) -> WorkspaceError {
    match what_else(path) {
        None => failed("read", path)(error),
        Some(what) => {
            let message = format!("cannot read {}: it is {what}", path.display());
            let found =
                Diagnostic::error(message).with_help("put a file there, or remove what is there");
            WorkspaceError::Manifest(Box::new(found))
        }
    }
}

impl Workspace {
    /// The workspace around directory `from`.
    ///
    /// # Errors
    /// When there is none, or its manifest cannot be used.
    pub fn find(from: &Path) -> Result<Self, WorkspaceError> {
        let from = fs::canonicalize(from)
            .and_then(|whole| fs::read_dir(&whole).map(|_| whole))
            .map_err(failed("enter", from))?;
        // Whatever it is: one that cannot be read is not passed over.
        let holding = |name: &str| {
            let mut above = from.ancestors();
            above.find(|dir| fs::symlink_metadata(dir.join(name)).is_ok())
        };
        let (root, text) = match holding(MANIFEST) {
            Some(root) => {
                let path = root.join(MANIFEST);
                let text = read_text(&path).map_err(|error| unread(&path, error))?;
                (root, text)
            }
            // Without a manifest: the packages that a package manager takes for one workspace, or
            // a single package.
            None => {
                let root = holding(PNPM_WORKSPACE)
                    .or_else(|| from.ancestors().find(|dir| lists_packages(dir)))
                    .or_else(|| holding(PACKAGE_JSON))
                    .ok_or_else(|| WorkspaceError::NotFound(from.clone()))?;
                (root, String::new())
            }
        };
        let root = root.to_owned();
        let refused = |mistake| WorkspaceError::Manifest(Box::new(mistake));
        let package = match root.join(MANIFEST).is_file() {
            // Whoever reads it says what is wrong with it.
            true => read_package(&root).unwrap_or_default(),
            false => read_package(&root)?,
        };
        let manifest = Manifest::parse_as(&text, || identity(&root, package)).map_err(refused)?;
        Ok(Self {
            root,
            manifest,
            manifest_hash: Hash::of(text.as_bytes()),
        })
    }

    /// `dir` as labels write it: relative to the root, with slashes.
    pub fn relative(&self, dir: &Path) -> Option<String> {
        let dir = fs::canonicalize(dir).ok()?;
        Some(dir.strip_prefix(&self.root).ok()?.to_str()?.to_owned())
    }
}

fn read_package(dir: &Path) -> Result<Option<PackageJson>, WorkspaceError> {
    let path = dir.join(PACKAGE_JSON);
    match read_text(&path) {
        Ok(text) => PackageJson::parse("", &text)
            .map(Some)
            .map_err(|mistake| WorkspaceError::Manifest(Box::new(mistake))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unread(&path, error)),
    }
}

fn lists_packages(dir: &Path) -> bool {
    read_package(dir).is_ok_and(|package| package.is_some_and(|p| p.workspaces.is_some()))
}

/// Who the package in `root` is where no manifest says it.
fn identity(root: &Path, package: Option<PackageJson>) -> Identity {
    let package = package.unwrap_or_default();
    let dir = root.file_name().and_then(|name| name.to_str());
    let name = package.name.rsplit('/').next();
    let name = name.filter(|name| !name.is_empty()).or(dir);
    let version = package.version.as_deref();
    Identity::of(name.unwrap_or("workspace"), version.unwrap_or_default())
}

/// Where zako keeps its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `.zako` in the workspace.
    pub private: PathBuf,
    /// The store with blobs and action results.
    pub store: PathBuf,
    /// The persisted state.
    pub state: PathBuf,
    /// When and why targets last ran.
    pub reasons: PathBuf,
    /// What lock files of package managers said.
    pub locks: PathBuf,
    /// Scratch directories.
    pub scratch: PathBuf,
    /// The list of files that zako wrote.
    pub outputs: PathBuf,
    /// Taken by the process that builds.
    pub lock: PathBuf,
}

impl Layout {
    /// The layout for the workspace at `root`; `cache` is another place for the cache, which may
    /// serve several workspaces.
    pub fn new(root: &Path, cache: Option<&Path>) -> Self {
        let private = root.join(PRIVATE_DIR);
        let state = match cache {
            None => private.join("state"),
            Some(cache) => {
                let name = Hash::of(root.as_os_str().as_encoded_bytes()).to_string();
                cache.join("workspaces").join(&name[..16]).join("state")
            }
        };
        Self {
            store: cache.unwrap_or(&private).join("store"),
            reasons: state.with_file_name("why"),
            locks: state.with_file_name("locks"),
            state,
            scratch: private.join("scratch"),
            outputs: private.join("outputs"),
            lock: private.join("lock"),
            private,
        }
    }

    /// Makes the directories.
    ///
    /// # Errors
    /// When the disk refuses, with the directory.
    pub fn create(&self) -> Result<(), WorkspaceError> {
        let ignore = self.private.join(".gitignore");
        if ignore.exists() && self.state.parent().is_some_and(Path::is_dir) {
            return Ok(());
        }
        for dir in [Some(self.private.as_path()), self.state.parent()]
            .into_iter()
            .flatten()
        {
            umask::make_private(dir).map_err(failed("create", dir))?;
        }
        fs::write(&ignore, "*\n").map_err(failed("write", &ignore))
    }
}

/// The right to build in a workspace; given back when dropped.
#[derive(Debug)]
pub struct WorkspaceLock(File);

impl WorkspaceLock {
    /// Takes the lock. `waiting` is told once when another process has it, with its id as far as that is
    /// known.
    ///
    /// # Errors
    /// When the lock file cannot be used.
    pub fn acquire(
        layout: &Layout,
        waiting: impl FnOnce(Option<u32>),
    ) -> Result<Self, WorkspaceError> {
        let path = &layout.lock;
        let mut file = Self::open(path).map_err(failed("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                waiting(named_holder(&mut file));
                file.lock().map_err(failed("lock", path))?;
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", path)(error)),
        }
        name_holder(&mut file).map_err(failed("write", path))?;
        Ok(Self(file))
    }

    /// Takes the lock, if nobody has it.
    pub fn try_acquire(layout: &Layout) -> Option<Self> {
        let file = Self::open(&layout.lock).ok()?;
        file.try_lock().ok()?;
        let mut lock = Self(file);
        name_holder(&mut lock.0).ok()?;
        Some(lock)
    }

    fn open(path: &Path) -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(path)
    }
}

/// The process that `file` names as the holder of the lock, if it lives. It is the wrong one while the
/// holder has yet to write its id, and an older holder goes on living without the lock or its id was
/// given to another process; and an id of another container says nothing here. So it is only for people.
fn named_holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let holder: u32 = text.trim().parse().ok()?;
    let lives = Path::new("/proc").join(holder.to_string()).exists();
    lives.then_some(holder)
}

/// Has `file` say who holds the lock. It is overwritten in place, and only where it says something else:
/// file systems take a file that is emptied and written again for one that must reach the disk soon.
fn name_holder(file: &mut File) -> io::Result<()> {
    let line = format!("{:>10}\n", std::process::id());
    let mut found = Vec::with_capacity(2 * line.len());
    file.rewind()?;
    Read::by_ref(file)
        .take(2 * line.len() as u64)
        .read_to_end(&mut found)?;
    if found == line.as_bytes() {
        return Ok(());
    }
    file.rewind()?;
    file.write_all(line.as_bytes())?;
    if found.len() > line.len() {
        file.set_len(line.len() as u64)?;
    }
    Ok(())
}

impl Drop for WorkspaceLock {
    fn drop(&mut self) {
        // Closing would not do: a child that was just forked and has not yet executed its program
        // holds a copy of the descriptor, and with it the lock.
        drop(self.0.unlock());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_found_from_below() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        assert!(matches!(
            Workspace::find(&below),
            Err(WorkspaceError::NotFound(_))
        ));
        fs::write(
            dir.path().join(MANIFEST),
            "group = \"g\"\nartifact = \"a\"\nversion = \"1.0.0\"\n",
        )
        .unwrap();
        let workspace = Workspace::find(&below).unwrap();
        assert_eq!(workspace.relative(&below).unwrap(), "a/b");
        assert_eq!(workspace.relative(dir.path()).unwrap(), "");
    }

    #[test]
    fn the_second_waits_for_the_first_and_is_told_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), None);
        layout.create().unwrap();
        let first = WorkspaceLock::acquire(&layout, |_| panic!("nobody has it")).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let second = std::thread::spawn(move || {
            WorkspaceLock::acquire(&layout, |pid| tell.send(pid).unwrap()).unwrap();
        });
        assert_eq!(told.recv().unwrap(), Some(std::process::id()));
        drop(first);
        second.join().unwrap();
    }

    #[test]
    fn a_holder_of_before_that_is_gone_is_not_named() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), None);
        layout.create().unwrap();
        let first = WorkspaceLock::acquire(&layout, |_| panic!("nobody has it")).unwrap();
        // More than any process's id can be.
        fs::write(&layout.lock, format!("{}\n", u32::MAX)).unwrap();
        let waiting = |pid| {
            assert_eq!(pid, None);
            drop(first);
        };
        drop(WorkspaceLock::acquire(&layout, waiting).unwrap());
    }

    #[test]
    fn the_name_of_the_holder_is_written_once_and_replaces_any_other() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), None);
        layout.create().unwrap();
        let me = format!("{:>10}\n", std::process::id());
        for before in [
            "",
            "1\n",
            "a text that is longer than any number of a process",
        ] {
            fs::write(&layout.lock, before).unwrap();
            drop(WorkspaceLock::acquire(&layout, |_| panic!("nobody has it")).unwrap());
            assert_eq!(fs::read_to_string(&layout.lock).unwrap(), me);
        }
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        let file = File::options().write(true).open(&layout.lock).unwrap();
        file.set_modified(long_ago).unwrap();
        drop(WorkspaceLock::acquire(&layout, |_| panic!("nobody has it")).unwrap());
        let modified = file.metadata().unwrap().modified().unwrap();
        assert_eq!(modified, long_ago, "nothing new was to be written");
    }

    #[test]
    fn state_follows_the_cache() {
        let own = Layout::new(Path::new("/w"), None);
        assert_eq!(own.state, Path::new("/w/.zako/state"));
        let shared = Layout::new(Path::new("/w"), Some(Path::new("/c")));
        assert!(shared.state.starts_with("/c/workspaces"));
        assert_eq!(shared.store, Path::new("/c/store"));
        assert_eq!(shared.scratch, own.scratch);
    }
}
