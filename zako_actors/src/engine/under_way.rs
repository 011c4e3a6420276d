//! Scripts that write where their files lie, while they run.
//!
//! Owns what lay where a script writes before it started, noted on disk until it has ended; and the question what of that place it
//! has written, when it failed or its zako was killed. Does not know how a script is run.
//! Invariants: what lay there before and holds what it held is never listed as zako's, nor what git knows; what a script of a killed zako has left is
//! looked at by the guard, when all its processes are dead, and not later, when it may be a person's; where no guard looked, it is a
//! person's.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::files::{FileTable, SavedFiles};
use super::guard::{guard_of, wait_for_guard};
use super::ledger::{Ledger, Mark};
use super::outputs::{Collected, OutputError, collect_what_is_there};
use super::removal::{is_left, mark_at};
use super::scratch::name_of_process;
use super::since::tracked;
use super::stamp::Stamp;
use super::workspace::Layout;
use crate::lang::pattern::Pattern;
use crate::lang::target::{Command, InPlace, Output};
use crate::lang::text::Text;

/// The extension of files that say what a script has left whose zako was killed.
const ENDED: &str = "ended";

/// A guard that has not ended by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What lies where a script writes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Before {
    outs: Vec<Output>,
    out_exclude: Vec<Pattern>,
    /// What does not hold what zako wrote there.
    theirs: BTreeMap<Text, Theirs>,
    /// Who looks after the script when this process is killed.
    guard: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Theirs {
    stamp: Stamp,
    /// What it holds, as far as that is to be had.
    mark: Option<Mark>,
}

impl Before {
    /// Looks where the script of `command` writes.
    ///
    /// # Errors
    /// When something is there that cannot be an output.
    pub fn look(
        (files, ledger): (&FileTable, &Ledger),
        command: &Command,
        step: &InPlace,
        scratch: &Path,
    ) -> Result<Self, OutputError> {
        let mut before = Self {
            outs: command.outs.clone(),
            out_exclude: step.out_exclude.clone(),
            theirs: BTreeMap::new(),
            guard: guard_of(scratch),
        };
        let there = before.outputs(files.root())?.into_iter();
        let is_theirs =
            |path: &str| !ledger.contains(path) || is_left(files, ledger, path) == Some(false);
        let theirs = there.filter(|(path, _)| is_theirs(path));
        let theirs = theirs.map(|(path, metadata)| {
            let stamp = Stamp::of(&metadata);
            let mark = mark_at(files, &path);
            (path, Theirs { stamp, mark })
        });
        before.theirs = theirs.collect();
        Ok(before)
    }

    /// What lies where the script writes now.
    ///
    /// # Errors
    /// When something is there that cannot be an output.
    pub fn outputs(&self, root: &Path) -> Result<Collected, OutputError> {
        let mut found = collect_what_is_there(root, &self.outs)?;
        found.retain(|path, _| !self.out_exclude.iter().any(|out| out.matches(path)));
        Ok(found)
    }

    /// Whether something that zako did not write lay at `path`.
    pub fn had(&self, path: &str) -> bool {
        self.theirs.contains_key(path)
    }

    /// Whether what lies at `path` now is the script's: it was not there, or it holds something else. (A directory has no content.)
    pub fn is_written(&self, path: &str, now: &Metadata, mark: Option<Mark>) -> bool {
        self.theirs.get(path).is_none_or(|theirs| {
            let is_as_it_was = theirs.stamp == Stamp::of(now) || theirs.mark == mark;
            !(is_as_it_was || now.is_dir())
        })
    }

    /// What the script has written so far. What git knows is a person's.
    fn written(&self, files: &FileTable) -> Vec<(Text, Mark)> {
        // What cannot be looked at is nobody's output.
        let found = self.outputs(files.root()).unwrap_or_default();
        let found = found.into_iter().filter_map(|(path, metadata)| {
            let mark = mark_at(files, &path);
            let is_whole = mark.is_some() || metadata.is_dir();
            let is_ours = is_whole && self.is_written(&path, &metadata, mark);
            is_ours.then(|| (path, mark.unwrap_or_default()))
        });
        let mut written: Vec<_> = found.collect();
        if !written.is_empty() {
            let tracked = tracked(files.root());
            written.retain(|(path, _)| !tracked.contains(&**path));
        }
        written
    }
}

/// A script that runs; what it has written is listed when this is dropped, unless it was kept.
#[derive(Debug)]
pub struct UnderWay<'a> {
    pub before: Before,
    files: &'a FileTable,
    ledger: &'a Ledger,
    /// Nothing where the script declares nothing.
    note: Option<PathBuf>,
    is_kept: bool,
}

impl<'a> UnderWay<'a> {
    /// Notes in `dir`, by the `name` of the script's scratch directory, that it is about to start.
    ///
    /// # Errors
    /// When the note cannot be written; the script is not to be started then.
    pub fn begin(
        (files, ledger): (&'a FileTable, &'a Ledger),
        dir: &Path,
        scratch: &Path,
        before: Before,
    ) -> Result<Self, OutputError> {
        let mut under_way = Self {
            before,
            files,
            ledger,
            note: None,
            is_kept: false,
        };
        let name = scratch.file_name();
        if let Some(name) = name.filter(|_| !under_way.before.outs.is_empty()) {
            let note = dir.join(name);
            let written = postcard::to_stdvec(&under_way.before).map_err(io::Error::other);
            let written = written.and_then(|bytes| write(&note, &bytes));
            written.map_err(|source| OutputError::Io {
                action: "write",
                path: note.clone(),
                source,
            })?;
            under_way.note = Some(note);
        }
        Ok(under_way)
    }

    /// The script has come to its end, and its outputs are listed.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let Some(note) = &self.note else {
            return;
        };
        if !self.is_kept {
            let written = self.before.written(self.files);
            let items = written.iter().map(|(path, mark)| (&**path, *mark));
            if let Err(error) = self.ledger.add(items) {
                tracing::warn!("what a script has left counts as a person's: {error}");
            }
        }
        // One that stays is of a process that is gone, for the next one.
        drop(fs::remove_file(note));
    }
}

/// Writes a file whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir)?;
    let temporary = path.with_extension("new");
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)
}

/// Writes down what the scripts of process `pid` have left, which are dead; for its guard.
pub fn look_after(layout: &Layout, pid: u32) {
    let files = FileTable::new(layout.root().to_owned(), SavedFiles::default());
    let prefix = name_of_process(pid);
    for note in notes(layout) {
        let name = note.file_name().and_then(|name| name.to_str());
        let is_its = name.is_some_and(|name| name.starts_with(&prefix) && !name.contains('.'));
        let Some(before) = read::<Before>(&note).filter(|_| is_its) else {
            continue;
        };
        if let Ok(bytes) = postcard::to_stdvec(&before.written(&files)) {
            // Where that fails it is a person's.
            drop(write(&note.with_extension(ENDED), &bytes));
        }
    }
}

/// Lists what scripts have left whose zako was killed, once their guard has looked at it. The caller has the workspace's lock.
///
/// # Errors
/// When the list cannot be written; it is tried again the next time.
pub fn list_left(layout: &Layout) -> io::Result<()> {
    let notes = notes(layout);
    if notes.is_empty() {
        return Ok(());
    }
    let of_scripts = notes.iter().filter(|note| note.extension().is_none());
    let guards = of_scripts.filter_map(|note| Some((note, read::<Before>(note)?.guard?)));
    for (note, guard) in guards {
        let name = note.file_name().and_then(|name| name.to_str());
        let pid = name.and_then(|name| name.split_once('-')?.0.parse().ok());
        if let Some(pid) = pid {
            wait_for_guard(guard, (&layout.scratch, pid), PATIENCE);
        }
    }
    let ended = notes.iter().map(|note| note.with_extension(ENDED));
    let left = ended.filter_map(|ended| read::<Vec<(String, Mark)>>(&ended));
    let left: BTreeMap<String, Mark> = left.flatten().collect();
    if !left.is_empty() {
        let items = left.iter().map(|(path, mark)| (&**path, *mark));
        Ledger::load(&layout.outputs).add(items)?;
    }
    for note in &notes {
        drop(fs::remove_file(note.with_extension(ENDED)));
        drop(fs::remove_file(note));
    }
    Ok(())
}

/// What lies where scripts are noted.
fn notes(layout: &Layout) -> Vec<PathBuf> {
    let entries = fs::read_dir(&layout.under_way).into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    postcard::from_bytes(&fs::read(path).ok()?).ok()
}
