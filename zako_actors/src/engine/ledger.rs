//! The ledger: which files of the workspace zako wrote.
//!
//! Owns the list and its file. Does not know targets or contents.
//! Invariants: a file that is not listed was made by a person, and is never overwritten with
//! something else nor removed; the ledger belongs to the workspace, not to a cache.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The paths that zako wrote, workspace-relative.
#[derive(Debug)]
pub struct Ledger {
    file: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    paths: BTreeSet<Box<str>>,
    /// Whether the file lists paths that were struck.
    struck: bool,
}

impl Ledger {
    /// The ledger in `file`; an unreadable one is empty, which only makes zako more careful.
    pub fn load(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap_or_default();
        let paths = text.lines().map(Into::into).collect();
        Self {
            file: file.to_owned(),
            inner: Mutex::new(Inner {
                paths,
                struck: false,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether zako wrote `path`.
    pub fn contains(&self, path: &str) -> bool {
        self.lock().paths.contains(path)
    }

    /// Lists `paths`, before they are written: a kill in between must not make them a person's.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn add<'a>(&self, paths: impl Iterator<Item = &'a str>) -> io::Result<()> {
        let mut inner = self.lock();
        let mut lines = String::new();
        for path in paths {
            if !inner.paths.contains(path) {
                inner.paths.insert(path.into());
                lines.push_str(path);
                lines.push('\n');
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.file)?;
        file.write_all(lines.as_bytes())
    }

    /// Strikes `path`, which was removed.
    pub fn strike(&self, path: &str) {
        let mut inner = self.lock();
        inner.struck |= inner.paths.remove(path);
    }

    /// Every listed path, sorted.
    pub fn paths(&self) -> Vec<Box<str>> {
        self.lock().paths.iter().cloned().collect()
    }

    /// Writes the ledger without what was struck.
    ///
    /// # Errors
    /// When the disk refuses; the old ledger stays.
    pub fn save(&self) -> io::Result<()> {
        let mut inner = self.lock();
        if !inner.struck {
            return Ok(());
        }
        let text: String = inner
            .paths
            .iter()
            .flat_map(|path| [&**path, "\n"])
            .collect();
        let temporary = self.file.with_extension("new");
        fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, &self.file))?;
        inner.struck = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_known_to_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("outputs");
        let ledger = Ledger::load(&file);
        ledger.add(["a/x", "b"].into_iter()).unwrap();
        ledger.strike("b");
        ledger.save().unwrap();
        let again = Ledger::load(&file);
        assert!(again.contains("a/x") && !again.contains("b"));
        assert_eq!(again.paths(), ["a/x".into()]);
    }
}
