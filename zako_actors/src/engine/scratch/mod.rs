//! The directory that one command step runs in.
//!
//! Owns its layout (`work` mirrors the workspace, `home`, `tmp`, `output.log`), and the placing of
//! inputs. Does not know commands or outputs, nor where directories come from (`spares`).
//! Invariants: inputs are copies (by reflink where the file system can), never links to a user's
//! file; a step finds nothing of the steps before it; what it leaves is gone when it is over, unless it
//! was asked to be kept; what a killed process left is swept before the first step of the next build.

mod spares;

/// What a command prints goes there.
const LOG: &str = "output.log";

use std::collections::BTreeSet;
use std::fs::{self, DirEntry};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::FileTable;
use super::record::{Input, InputContent};
use spares::Place;
pub use spares::Scratches;

/// A step's directory.
#[derive(Debug)]
pub struct Scratch {
    place: Place,
    keep: bool,
    from: Arc<Scratches>,
}

/// Why a scratch directory was not made.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// A file was edited while it was being copied; building again picks the edit up.
    #[error("{0} changed while it was being built; run the build again")]
    Changed(String),
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

pub(super) fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> ScratchError + 'a {
    move |source| ScratchError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// What the names of all scratch directories of process `pid` begin with.
pub fn name_of_process(pid: u32) -> String {
    format!("{pid}-")
}

impl Scratch {
    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.place.dir
    }

    /// The mirror of the workspace.
    pub fn work(&self) -> PathBuf {
        self.dir().join("work")
    }

    /// `HOME` of the command.
    pub fn home(&self) -> PathBuf {
        self.dir().join("home")
    }

    /// `TMPDIR` of the command.
    pub fn tmp(&self) -> PathBuf {
        self.dir().join("tmp")
    }

    /// Receives which files the command opens, when that is asked for.
    pub fn trace(&self) -> PathBuf {
        self.dir().join("trace.log")
    }

    /// Receives what the command prints.
    pub fn log(&self) -> PathBuf {
        self.dir().join(LOG)
    }

    /// Copies the inputs in and makes `directories` (workspace-relative).
    ///
    /// # Errors
    /// When the disk refuses, or a source is not what the key says any more.
    pub fn fill<'a>(
        &mut self,
        files: &FileTable,
        inputs: &'a [Input],
        directories: impl Iterator<Item = &'a str>,
    ) -> Result<(), ScratchError> {
        let directories = needed(inputs, directories);
        let there = self.place.prune(&directories)?;
        self.make(directories.iter().filter(|dir| !there.contains(**dir)))?;
        inputs.iter().try_for_each(|input| self.place(files, input))
    }

    /// Removes the directories that the step before has left.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn empty(&mut self) -> Result<(), ScratchError> {
        self.place.prune(&BTreeSet::new()).map(drop)
    }

    /// Makes directories, workspace-relative.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn make<'a>(
        &self,
        directories: impl Iterator<Item = &'a &'a str>,
    ) -> Result<(), ScratchError> {
        for dir in directories.filter(|dir| !dir.is_empty()) {
            let path = self.work().join(dir);
            fs::create_dir_all(&path).map_err(failed("create", &path))?;
        }
        Ok(())
    }

    /// Copies one input in; its directory exists.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    pub fn place(&self, files: &FileTable, input: &Input) -> Result<(), ScratchError> {
        let to = self.work().join(&*input.path);
        match &input.content {
            InputContent::Directory => {}
            InputContent::Link(target) => {
                symlink(&**target, &to).map_err(failed("create", &to))?;
            }
            InputContent::File { hash, executable } => {
                let from = files.root().join(&*input.path);
                fs::copy(&from, &to).map_err(failed("copy", &from))?;
                // The stamp still stands after the copy, so the copy is what was hashed.
                let now = files.fact(&input.path).ok();
                let Some(now) = now.filter(|now| now.hash == *hash) else {
                    return Err(ScratchError::Changed(input.path.to_string()));
                };
                // The step sees what its key holds, not what else its owner may do.
                let mode = if *executable { 0o755 } else { 0o644 };
                if now.stamp.mode & 0o7777 != mode {
                    let allowed = fs::set_permissions(&to, fs::Permissions::from_mode(mode));
                    allowed.map_err(failed("set the permissions of", &to))?;
                }
            }
        }
        Ok(())
    }

    /// Leaves the directory where it is.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

/// The directories that `inputs` lie in, and `directories`.
pub fn needed<'a>(
    inputs: &'a [Input],
    directories: impl Iterator<Item = &'a str>,
) -> BTreeSet<&'a str> {
    let mut needed: BTreeSet<&str> = directories.collect();
    needed.extend(inputs.iter().map(|input| match input.content {
        InputContent::Directory => &*input.path,
        _ => input.path.rsplit_once('/').map_or("", |(dir, _)| dir),
    }));
    needed
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            self.from.take_back(std::mem::take(&mut self.place));
        }
    }
}

/// Removes everything in `dir`; a missing one is fine.
///
/// # Errors
/// When something cannot be removed.
pub fn sweep(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        remove(&entry?)?;
    }
    Ok(())
}

fn remove(entry: &DirEntry) -> io::Result<()> {
    if entry.file_type()?.is_dir() {
        remove_tree(&entry.path())
    } else {
        fs::remove_file(entry.path())
    }
}

/// Removes a tree, directories without write permission included; a missing one is fine.
///
/// # Errors
/// When something cannot be removed.
pub fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            make_writable(dir)?;
            fs::remove_dir_all(dir)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn make_writable(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::files::SavedFiles;
    use super::super::hash::Hash;
    use super::*;

    fn input(path: &str, content: &str) -> Input {
        let hash = Hash::of(content.as_bytes());
        Input {
            path: path.into(),
            content: InputContent::File {
                hash,
                executable: false,
            },
        }
    }

    #[test]
    fn inputs_are_copies_and_the_directory_goes_away() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("p")).unwrap();
        fs::write(root.path().join("p/a"), "one").unwrap();
        let files = FileTable::new(root.path().into(), SavedFiles::default());
        let scratches = Scratches::new(root.path().join(".zako"));
        let mut scratch = scratches.take(false).unwrap();
        scratch
            .fill(&files, &[input("p/a", "one")], ["p/out"].into_iter())
            .unwrap();
        let copy = scratch.work().join("p/a");
        fs::write(&copy, "changed by the step").unwrap();
        assert_eq!(fs::read_to_string(root.path().join("p/a")).unwrap(), "one");
        assert!(scratch.work().join("p/out").is_dir());
        let sealed = scratch.work().join("p/out/sealed");
        fs::create_dir(&sealed).unwrap();
        fs::write(sealed.join("x"), "").unwrap();
        fs::set_permissions(&sealed, fs::Permissions::from_mode(0o500)).unwrap();
        let dir = scratch.dir().to_owned();
        drop(scratch);
        assert!(!sealed.exists() && !copy.exists());
        drop(scratches);
        assert!(!dir.exists());
    }

    #[test]
    fn an_edit_under_way_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), "new").unwrap();
        let files = FileTable::new(root.path().into(), SavedFiles::default());
        let scratches = Scratches::new(root.path().join(".zako"));
        let mut scratch = scratches.take(false).unwrap();
        let error = scratch
            .fill(&files, &[input("a", "old")], std::iter::empty())
            .unwrap_err();
        assert!(matches!(error, ScratchError::Changed(path) if path == "a"));
    }
}
