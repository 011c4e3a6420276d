//! The stat cache: what every known file holds, without reading it again.
//!
//! Owns the mapping from a file's stamp (size, times, inode, mode) to its content's hash.
//! Does not know which files matter, nor directories.
//! Invariants: a hash is answered only for the stamp it was read under; a file that changed within
//! one clock tick of being read is read again the next time (`settled` is false), because its
//! stamp could not show a further change.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::iter::successors;
use std::mem::take;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashSet;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, open, stat, statat};

use super::hash::Hash;
use super::looks::{Look, Looks};
pub use super::remembered::SavedFiles;
use super::remembered::{Entry, Learnt, Remembered};
use super::stamp::{Stamp, now_ns};
use crate::lang::text::{AsText, Text};

/// A file's content and stamp at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFact {
    /// Hash of the content.
    pub hash: Hash,
    /// The stamp that the content was read under.
    pub stamp: Stamp,
}

/// Why there is no fact about a path.
#[derive(Debug, thiserror::Error)]
pub enum FactError {
    /// Nothing there.
    #[error("no such file")]
    Missing,
    /// A directory, socket or device.
    #[error("not a regular file")]
    NotAFile,
    /// The system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Everything that is known about files.
#[derive(Debug, Default)]
pub struct FileTable {
    root: PathBuf,
    /// The root, opened: from there a path is shorter, and a no-op walks tens of thousands.
    opened: Option<OwnedFd>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    remembered: Remembered,
    /// What was learnt since; nothing of files that went.
    learnt: Learnt,
    changed: bool,
    /// At what is remembered.
    looks: Option<Arc<Looks>>,
}

impl FileTable {
    /// A table for the workspace at `root`. Paths are relative to it, or absolute.
    pub fn new(root: PathBuf, saved: SavedFiles) -> Self {
        Self {
            opened: open(&root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok(),
            root,
            inner: Mutex::new(Inner {
                remembered: Remembered::new(saved),
                ..Inner::default()
            }),
        }
    }

    /// Looks at every file once that is `wanted`, all at the same time, and at others when they are asked for, until
    /// [`look_anew`](Self::look_anew). So many `threads` help whoever asks.
    pub fn look_at_all(&self, threads: usize, wanted: impl Fn(&str) -> bool) {
        let opened = self.opened.as_ref().and_then(|root| root.try_clone().ok());
        let mut inner = self.lock();
        inner.remember();
        let looks = opened.map(|root| Looks::new(root, inner.remembered.list().clone()));
        if let Some(looks) = &looks {
            looks.leave(|path| !wanted(path));
            looks.begin(threads);
        }
        inner.looks = looks;
    }

    /// Takes note that these paths, of files or directories, have changed after files began to be looked at.
    pub fn changed(&self, paths: &FxHashSet<Box<str>>) {
        let inner = self.lock();
        let Some(looks) = &inner.looks else {
            return;
        };
        let known = paths.iter().map(|path| inner.remembered.place(path));
        if let Some(known) = known.collect::<Option<Vec<_>>>() {
            known.into_iter().for_each(|place| looks.changed(place));
            return;
        }
        // What is no file may be a directory, with everything below it.
        let changed = |file: &str| {
            let all = successors(Some(file), |path| path.rsplit_once('/').map(|(dir, _)| dir));
            all.chain([""]).any(|path| paths.contains(path))
        };
        let files = (0..).zip(&*inner.remembered.list().0);
        for (place, _) in files.filter(|(_, known)| changed(&known.path)) {
            looks.changed(place);
        }
    }

    /// From now on every question is asked of the file system: files are about to change.
    pub fn look_anew(&self) {
        self.lock().looks = None;
    }

    /// Waits until no thread looks at files any more.
    #[cfg(test)]
    pub(super) fn await_looks(&self) {
        while (self.lock().looks.as_ref()).is_some_and(|looks| Arc::strong_count(looks) > 1) {
            std::thread::yield_now();
        }
    }

    /// The workspace's root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the root that was opened is the directory that has its path now.
    pub fn is_at_root(&self) -> bool {
        let opened = self.opened.as_ref().and_then(|opened| fstat(opened).ok());
        let now = stat(&self.root).ok();
        opened
            .zip(now)
            .is_some_and(|(opened, now)| (opened.st_dev, opened.st_ino) == (now.st_dev, now.st_ino))
    }

    // A panic under this lock leaves a map that is still a map.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Content and stamp of the file at `path`; links are followed.
    ///
    /// # Errors
    /// When there is no regular file, or it cannot be read.
    pub fn fact(&self, path: &(impl AsText + ?Sized)) -> Result<FileFact, FactError> {
        self.known_or_read(path.letters(), &|| path.to_text(), AtFlags::empty())
    }

    /// Like [`fact`](Self::fact), but a symbolic link is `NotAFile`: for outputs.
    ///
    /// # Errors
    /// When there is no regular file, or it cannot be read.
    pub fn fact_of_output(&self, path: &(impl AsText + ?Sized)) -> Result<FileFact, FactError> {
        self.known_or_read(
            path.letters(),
            &|| path.to_text(),
            AtFlags::SYMLINK_NOFOLLOW,
        )
    }

    fn known_or_read(
        &self,
        path: &str,
        text: &dyn Fn() -> Text,
        flags: AtFlags,
    ) -> Result<FileFact, FactError> {
        let look = match flags.contains(AtFlags::SYMLINK_NOFOLLOW) {
            true => Look::Itself,
            false => Look::Through,
        };
        if let Some(fact) = self.lock().seen(path, look) {
            return Ok(fact);
        }
        let stat = match &self.opened {
            Some(root) => statat(root.as_fd(), path, flags),
            None => statat(CWD, self.root.join(path), flags),
        };
        let stat = stat.map_err(|error| missing(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(FactError::NotAFile);
        }
        let stamp = Stamp::of_stat(&stat);
        if let Some(fact) = self.lock().known(path, stamp, look) {
            return Ok(fact);
        }
        let now = now_ns();
        let (hash, stamp) = read(&self.root.join(path))?;
        let settled = stamp.is_settled(now);
        let entry = Entry {
            stamp,
            hash,
            settled,
        };
        self.insert(path, text, entry);
        Ok(FileFact { hash, stamp })
    }

    /// Records a file that this process has just written and nobody else may touch meanwhile.
    pub fn wrote(&self, path: &(impl AsText + ?Sized), fact: FileFact) {
        let entry = Entry {
            stamp: fact.stamp,
            hash: fact.hash,
            settled: true,
        };
        self.insert(path.letters(), &|| path.to_text(), entry);
    }

    fn insert(&self, path: &str, text: &dyn Fn() -> Text, entry: Entry) {
        let mut inner = self.lock();
        if inner.get(path).is_none_or(|(_, known)| *known != entry) {
            inner.learn(path, text, Some(entry));
            inner.changed = true;
        }
    }

    /// Forgets `path`, which was removed.
    pub fn removed(&self, path: &str) {
        let mut inner = self.lock();
        if inner.get(path).is_some() {
            inner.learn(path, &|| path.into(), None);
            inner.changed = true;
        }
    }

    /// Whether `path` was a file when somebody last looked.
    pub fn knows(&self, path: &str) -> bool {
        self.lock().get(path).is_some()
    }

    /// Whether there is something to save.
    pub fn is_changed(&self) -> bool {
        self.lock().changed
    }

    /// Takes note that everything is on disk.
    pub fn is_saved(&self) {
        self.lock().changed = false;
    }

    /// The persistent part, in path order.
    pub fn save(&self) -> SavedFiles {
        let mut inner = self.lock();
        inner.remember();
        inner.remembered.list().clone()
    }
}

impl Inner {
    /// Counts what was learnt as remembered. Files that are looked at have other places then: nobody is told of them.
    fn remember(&mut self) {
        if !self.learnt.is_empty() {
            self.looks = None;
            let learnt = take(&mut self.learnt);
            self.remembered = take(&mut self.remembered).with(learnt);
        }
    }

    /// Takes note of what `path` holds now, which `text` is; a path that is remembered keeps the text that it has.
    fn learn(&mut self, path: &str, text: &dyn Fn() -> Text, now: Option<Entry>) {
        let known = || self.remembered.text(path).cloned();
        self.learnt
            .insert(path, || known().unwrap_or_else(text), now);
    }

    /// What is known of `path`, and its place among the looks, which what was learnt since does not have.
    fn get(&self, path: &str) -> Option<(Option<u32>, &Entry)> {
        match self.learnt.get(path) {
            Some(learnt) => Some((None, learnt.as_ref()?)),
            None => {
                let (place, entry) = self.remembered.get(path)?;
                Some((Some(place), entry))
            }
        }
    }

    /// What is known of `path`, when this plan has looked at it already.
    fn seen(&self, path: &str, look: Look) -> Option<FileFact> {
        let looks = self.looks.as_ref()?;
        let (place, entry) = self.get(path)?;
        let untouched = entry.settled && looks.is_untouched(place?, look);
        untouched.then(|| entry.fact())
    }

    /// What is known of `path`, when it is known under this `stamp`.
    fn known(&self, path: &str, stamp: Stamp, look: Look) -> Option<FileFact> {
        let (place, entry) = self.get(path)?;
        if !entry.settled || entry.stamp != stamp {
            return None;
        }
        if let Some((looks, place)) = self.looks.as_ref().zip(place) {
            looks.saw(place, look);
        }
        Some(entry.fact())
    }
}

impl Entry {
    fn fact(&self) -> FileFact {
        FileFact {
            hash: self.hash,
            stamp: self.stamp,
        }
    }
}

fn missing(error: io::Error) -> FactError {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => FactError::Missing,
        _ => FactError::Io(error),
    }
}

/// Hash and stamp of a regular file that belong together: read until the stamp stood still meanwhile.
pub fn read(path: &Path) -> Result<(Hash, Stamp), FactError> {
    // What is no file any more by now, such as a pipe, is not to be waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::empty()).map_err(|error| missing(error.into()))?;
    let mut file = File::from(file);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(FactError::NotAFile);
    }
    let mut before = Stamp::of(&metadata);
    // A file that is being written to without end is hashed as it was the third time.
    for attempt in 0.. {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&mut file)?;
        let after = Stamp::of(&file.metadata()?);
        if before == after || attempt == 2 {
            return Ok((Hash::new(*hasher.finalize().as_bytes()), before));
        }
        before = after;
        io::Seek::rewind(&mut file)?;
    }
    unreachable!("the third attempt returns")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn table(root: &Path) -> FileTable {
        FileTable::new(root.to_owned(), SavedFiles::default())
    }

    /// Moves both times of `path` well into the past, so that its stamp settles.
    fn age(path: &Path) {
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
        File::open(path).unwrap().set_modified(old).unwrap();
    }

    #[test]
    fn a_change_is_seen_and_a_table_survives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "one").unwrap();
        let files = table(dir.path());
        let first = files.fact("a").unwrap();
        assert_eq!(first.hash, Hash::of(b"one"));
        fs::write(&path, "two").unwrap();
        assert_eq!(files.fact("a").unwrap().hash, Hash::of(b"two"));
        let bytes = postcard::to_stdvec(&files.save()).unwrap();
        let again = FileTable::new(dir.path().into(), postcard::from_bytes(&bytes).unwrap());
        assert_eq!(again.fact("a").unwrap().hash, Hash::of(b"two"));
    }

    #[test]
    fn a_text_that_a_file_is_known_by_is_not_made_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "x").unwrap();
        let files = table(dir.path());
        let path = Text::from("a");
        let fact = files.fact(&path).unwrap();
        let own = |files: &FileTable| files.save().0[0].path.as_ptr();
        assert_eq!(own(&files), path.as_ptr());
        files.wrote("a", fact);
        assert_eq!(own(&files), path.as_ptr(), "nor later");
    }

    #[test]
    fn a_root_that_was_replaced_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let files = table(&root);
        assert!(files.is_at_root());
        fs::rename(&root, dir.path().join("old")).unwrap();
        assert!(!files.is_at_root());
        fs::create_dir(&root).unwrap();
        assert!(!files.is_at_root());
    }

    #[test]
    fn what_was_looked_at_is_not_asked_again_until_files_may_change() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let files = table(dir.path());
        for name in ["a", "b"] {
            let fact = files.fact(name).unwrap();
            // The clock is not waited for.
            files.wrote(name, fact);
        }
        let files = FileTable::new(dir.path().into(), files.save());
        files.look_at_all(1, |_| true);
        let before = files.fact("a").unwrap();
        fs::write(dir.path().join("a"), "changed").unwrap();
        fs::write(dir.path().join("b"), "changed").unwrap();
        assert_eq!(files.fact("a").unwrap(), before, "one plan, one answer");
        assert_eq!(files.fact("b").unwrap().hash, Hash::of(b"changed"));
        files.look_anew();
        assert_eq!(files.fact("a").unwrap().hash, Hash::of(b"changed"));
    }

    #[test]
    fn a_link_that_was_looked_through_is_still_no_output() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "x").unwrap();
        std::os::unix::fs::symlink("f", dir.path().join("l")).unwrap();
        let files = table(dir.path());
        files.wrote("l", files.fact("l").unwrap());
        let files = FileTable::new(dir.path().into(), files.save());
        files.look_at_all(1, |_| true);
        for _ in 0..2 {
            assert_eq!(files.fact("l").unwrap().hash, Hash::of(b"x"));
            let output = files.fact_of_output("l");
            assert!(matches!(output, Err(FactError::NotAFile)));
        }
    }

    #[test]
    fn what_is_not_a_file_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("f"), "x").unwrap();
        age(&dir.path().join("f"));
        std::os::unix::fs::symlink("f", dir.path().join("l")).unwrap();
        let files = table(dir.path());
        let absolute = dir.path().join("f");
        assert!(files.fact(absolute.to_str().unwrap()).is_ok());
        assert!(matches!(files.fact("nope"), Err(FactError::Missing)));
        assert!(matches!(files.fact("f/x"), Err(FactError::Missing)));
        assert!(matches!(files.fact("d"), Err(FactError::NotAFile)));
        assert!(matches!(
            files.fact_of_output("l"),
            Err(FactError::NotAFile)
        ));
        assert_eq!(files.fact("l").unwrap().hash, Hash::of(b"x"));
        // Nobody writes to this pipe.
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(matches!(read(&pipe), Err(FactError::NotAFile)));
    }
}
