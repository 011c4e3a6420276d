//! Outputs of a script that are out of its way while it runs from nothing.
//!
//! Owns the moving, there and back. Does not know why, nor what is whose.
//! Invariants: what was taken comes back when this is dropped, over whatever lies there then, unless it was let go; what lies behind a
//! symbolic link is not taken. Of a process that is killed meanwhile it goes with its scratch directory: it was zako's, so
//! the next run makes it.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::in_place::Script;
use super::{StepEnv, StepFailure};
use crate::engine::outputs::Collected;
use crate::engine::scratch::Scratch;
use crate::lang::text::Text;

/// What was taken out of the way.
pub(super) struct Aside<'a> {
    env: &'a StepEnv,
    scratch: Scratch,
    /// Files and links.
    moved: Vec<Text>,
    /// Of `moved`, those from here on are not known as outputs.
    outputs: usize,
    /// Directories that held nothing.
    emptied: Vec<Text>,
}

impl<'a> Aside<'a> {
    /// Nothing yet.
    pub fn of(env: &'a StepEnv) -> Result<Self, StepFailure> {
        let mut scratch = env.scratches.take(false)?;
        scratch.empty()?;
        Ok(Self {
            env,
            scratch,
            moved: Vec::new(),
            outputs: 0,
            emptied: Vec::new(),
        })
    }

    /// Where it lies, by workspace-relative paths.
    pub fn work(&self) -> PathBuf {
        self.scratch.work()
    }

    /// Takes `outputs` away, with the directories that this empties, and `others`.
    pub fn take(
        &mut self,
        script: &Script<'_>,
        outputs: &Collected,
        others: &[Text],
    ) -> io::Result<()> {
        let root = self.env.files.root();
        for (path, metadata) in outputs {
            if metadata.is_dir() {
                self.emptied.push(path.clone());
            } else {
                self.take_one(path)?;
            }
        }
        self.outputs = self.moved.len();
        for path in others.iter().filter(|path| !outputs.contains_key(*path)) {
            self.take_one(path)?;
        }
        let stop = &*script.command.dir;
        let taken = self.moved[..self.outputs]
            .iter()
            .rev()
            .map(|path| parent(path));
        let taken = taken.chain(self.emptied.iter().rev().map(|path| &**path));
        for mut dir in taken {
            // Fails where something is left, which is the point.
            while dir != stop && !dir.is_empty() && fs::remove_dir(root.join(dir)).is_ok() {
                dir = parent(dir);
            }
        }
        Ok(())
    }

    fn take_one(&mut self, path: &Text) -> io::Result<()> {
        let (from, to) = (self.env.files.root().join(path), self.work().join(path));
        match relocate(&from, &to) {
            // Whoever took it away was faster.
            Err(error) if error.kind() == ErrorKind::NotFound && !from.exists() => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                self.moved.push(path.clone());
                Ok(())
            }
        }
    }

    /// What was not made again is gone for good, except what others have left, or may have.
    pub fn let_go(mut self, script: &Script<'_>) {
        self.emptied.clear();
        let moved = std::mem::take(&mut self.moved);
        for (place, path) in moved.into_iter().enumerate() {
            if fs::symlink_metadata(self.env.files.root().join(&path)).is_ok() {
                continue;
            }
            if place >= self.outputs || script.job.is_of_rival(&path) {
                self.put_back(&path);
            } else {
                self.env.files.removed(&path);
                self.env.ledger.strike(&path);
            }
        }
    }

    fn put_back(&self, path: &str) {
        let (from, to) = (self.work().join(path), self.env.files.root().join(path));
        if let Err(error) = relocate(&from, &to) {
            tracing::warn!(
                "{path} cannot be put back where it was: {error}; the next build makes it again"
            );
        }
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        for path in &self.moved {
            self.put_back(path);
        }
        for path in &self.emptied {
            // It may be a file by now; then it is no directory that held nothing.
            drop(fs::create_dir_all(self.env.files.root().join(path)));
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// Moves a file or a symbolic link, also to another file system.
fn relocate(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {}
        done => return done,
    }
    match fs::remove_file(to) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if fs::symlink_metadata(from)?.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else {
        fs::copy(from, to)?;
    }
    fs::remove_file(from)
}
