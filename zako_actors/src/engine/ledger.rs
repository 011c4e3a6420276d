//! The ledger: which files of the workspace zako wrote.
//!
//! Owns the list and its file. Does not know targets or contents.
//! Invariants: a file that is not listed was made by a person, and is never overwritten with
//! something else nor removed; nothing is listed in memory only; a line that was written in part lists
//! nothing; the ledger belongs to the workspace, not to a cache.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::mem::take;
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
    /// What was listed since somebody asked.
    added: Vec<Box<str>>,
    /// Whether anything was to be written.
    begun: bool,
    /// Whether the file lists paths that were struck.
    struck: bool,
    /// Whether the file may end within a line, or list what was not to be listed after all.
    torn: bool,
}

impl Ledger {
    /// The ledger in `file`; an unreadable one is empty, which only makes zako more careful.
    pub fn load(file: &Path) -> Self {
        let text = fs::read(file).unwrap_or_default();
        // Where no line feed comes, writing was cut short: that is no path, though it may look like one.
        let lines = text
            .split_inclusive(|byte| *byte == b'\n')
            .filter_map(|line| line.strip_suffix(b"\n"));
        let paths = lines.filter_map(|line| str::from_utf8(line).ok());
        let paths = paths.filter(|path| !path.is_empty());
        Self {
            file: file.to_owned(),
            inner: Mutex::new(Inner {
                paths: paths.map(Into::into).collect(),
                torn: text.last().is_some_and(|byte| *byte != b'\n'),
                ..Inner::default()
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

    /// Lists `paths`, before they are written: a kill in between must not make them a person's. Also where all are listed, the
    /// file is another one from then on: an empty line says that something was written.
    ///
    /// # Errors
    /// When the ledger cannot be written; then none of them is listed.
    pub fn add<'a>(&self, paths: impl Iterator<Item = &'a str>) -> io::Result<()> {
        let mut inner = self.lock();
        let new: BTreeSet<Box<str>> = paths
            .filter(|path| !inner.paths.contains(*path))
            .map(Into::into)
            .collect();
        if new.is_empty() && inner.begun {
            return Ok(());
        }
        if inner.torn {
            self.replace(&mut inner)?;
        }
        let opened = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.file);
        let begin = if inner.begun { "" } else { "\n" };
        let text = [begin, &lines(&new)].concat();
        let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
        inner.torn = written.is_err();
        written?;
        inner.begun = true;
        inner.added.extend(new.iter().cloned());
        inner.paths.extend(new);
        Ok(())
    }

    /// What was listed since the last call; it may have been struck again.
    pub fn take_added(&self) -> Vec<Box<str>> {
        take(&mut self.lock().added)
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

    /// Writes the ledger without what was struck, and whole if it is not.
    ///
    /// # Errors
    /// When the disk refuses; the old ledger stays.
    pub fn save(&self) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.struck || inner.torn {
            self.replace(&mut inner)?;
        }
        Ok(())
    }

    /// Has the file list what is listed in memory, and nothing else.
    fn replace(&self, inner: &mut Inner) -> io::Result<()> {
        let temporary = self.file.with_extension("new");
        fs::write(&temporary, lines(&inner.paths))?;
        fs::rename(&temporary, &self.file)?;
        (inner.struck, inner.torn) = (false, false);
        Ok(())
    }
}

/// One line for each path.
fn lines(paths: &BTreeSet<Box<str>>) -> String {
    paths.iter().flat_map(|path| [&**path, "\n"]).collect()
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

    #[test]
    fn what_could_not_be_written_is_not_listed_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("outputs");
        fs::create_dir(&file).unwrap();
        let ledger = Ledger::load(&file);
        for _ in 0..2 {
            ledger.add(["a"].into_iter()).unwrap_err();
            assert!(!ledger.contains("a"));
        }
        ledger.save().unwrap_err();
        fs::remove_dir(&file).unwrap();
        ledger.add(["a", "b", "a"].into_iter()).unwrap();
        assert!(ledger.contains("a"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "\na\nb\n");
    }

    #[test]
    fn whoever_writes_what_is_listed_changes_the_file_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("outputs");
        Ledger::load(&file).add(["a"].into_iter()).unwrap();
        let again = Ledger::load(&file);
        for _ in 0..2 {
            again.add(["a"].into_iter()).unwrap();
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "\na\n\n");
        assert_eq!(Ledger::load(&file).paths(), ["a".into()]);
    }

    #[test]
    fn a_line_that_was_cut_short_lists_nothing_and_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("outputs");
        // The last one ends within a letter.
        fs::write(&file, b"a\nsrc/\xc3").unwrap();
        let ledger = Ledger::load(&file);
        assert_eq!(ledger.paths(), ["a".into()]);
        ledger.add(["b"].into_iter()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "a\n\nb\n");
        fs::write(&file, "a\nsrc/per").unwrap();
        let ledger = Ledger::load(&file);
        assert_eq!(ledger.paths(), ["a".into()]);
        ledger.save().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "a\n");
    }
}
