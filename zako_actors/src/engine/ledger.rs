//! The ledger: which files of the workspace zako wrote, and what they held then.
//!
//! Owns the list and its file. Does not know targets, nor what lies in the workspace.
//! Invariants: a file that is not listed was made by a person, and is never overwritten with
//! something else nor removed; nothing is listed in memory only; a line that was written in part lists
//! nothing; the ledger belongs to the workspace, not to a cache; nothing is listed that no output can be, whoever wrote the file:
//! it may have come with a repository.
//!
//! Format: a line for each time that zako was going to write other content into a file: its path, a tab, and the
//! [`Mark`] in 16 hexadecimal digits. A line without a mark is of an earlier version.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::mem::take;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::workspace::PRIVATE_DIR;
use crate::lang::label::is_within;
use crate::lang::text::{AsText, Text};

/// By what content is known again: the first bytes of its hash.
pub type Mark = u64;

/// What zako wrote into one file: the last time and the time before, of which a build that was killed may have left
/// either. Zero stands for nothing.
type Marks = [Mark; 2];

/// Lines beyond two for each path that the file may have.
const SPARE_LINES: usize = 1000;

/// The paths that zako wrote, workspace-relative.
#[derive(Debug)]
pub struct Ledger {
    file: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    paths: BTreeMap<Text, Marks>,
    /// Lines of the file.
    lines: usize,
    /// What was listed since somebody asked.
    added: Vec<Text>,
    /// What was struck and not listed again.
    gone: BTreeSet<Text>,
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
        let lines = lines.filter_map(|line| str::from_utf8(line).ok());
        let mut inner = Inner {
            torn: text.last().is_some_and(|byte| *byte != b'\n'),
            ..Inner::default()
        };
        for line in lines.filter(|line| !line.is_empty()) {
            let (path, mark) = parse(line);
            if !may_be_output(path) {
                inner.struck = true;
                continue;
            }
            let marks = inner.paths.entry(path.into()).or_default();
            *marks = [mark, marks[0]];
            inner.lines += 1;
        }
        Self {
            file: file.to_owned(),
            inner: Mutex::new(inner),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether zako wrote `path`.
    pub fn contains(&self, path: &str) -> bool {
        self.lock().paths.contains_key(path)
    }

    /// Whether zako wrote what has this mark into `path`; nothing where it is not known what it wrote.
    pub fn bears(&self, path: &str, mark: Mark) -> Option<bool> {
        let inner = self.lock();
        let marks = inner.paths.get(path)?;
        (*marks != Marks::default()).then(|| marks.contains(&mark))
    }

    /// Lists paths with what is going to be written there, before it is: a kill in between must not make them a person's. What no
    /// output can be is not listed. Also where all are listed, the file is another one from then on: an empty line says that something was written.
    ///
    /// # Errors
    /// When the ledger cannot be written; then none of them is listed.
    pub fn add<'a, P: AsText + ?Sized + 'a>(
        &self,
        items: impl Iterator<Item = (&'a P, Mark)>,
    ) -> io::Result<()> {
        let mut inner = self.lock();
        let last = |path: &str| inner.paths.get(path).map(|marks| marks[0]);
        let new: BTreeMap<Text, Mark> = items
            .filter(|(path, mark)| {
                may_be_output(path.letters()) && last(path.letters()) != Some(*mark)
            })
            .map(|(path, mark)| (path.to_text(), mark))
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
        let mut text = begin.to_owned();
        let lines = new.iter();
        lines.for_each(|(path, mark)| line(&mut text, path, *mark));
        let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
        inner.torn = written.is_err();
        written?;
        inner.begun = true;
        inner.lines += new.len();
        for (path, mark) in new {
            if !inner.paths.contains_key(&path) {
                inner.added.push(path.clone());
            }
            inner.gone.remove(&path);
            let marks = inner.paths.entry(path).or_default();
            *marks = [mark, marks[0]];
        }
        Ok(())
    }

    /// What was listed since the last call; it may have been struck again.
    pub fn take_added(&self) -> Vec<Text> {
        take(&mut self.lock().added)
    }

    /// Strikes `path`, which was removed.
    pub fn strike(&self, path: &str) {
        let mut inner = self.lock();
        if let Some((path, _)) = inner.paths.remove_entry(path) {
            inner.struck = true;
            inner.gone.insert(path);
        }
    }

    /// What was struck until now is of no interest any more.
    pub fn forget_struck(&self) {
        self.lock().gone.clear();
    }

    /// Whether `path` was struck since [`forget_struck`](Self::forget_struck), and not listed again.
    pub fn has_struck(&self, path: &str) -> bool {
        self.lock().gone.contains(path)
    }

    /// Every listed path, sorted.
    pub fn paths(&self) -> Vec<Text> {
        self.lock().paths.keys().cloned().collect()
    }

    /// Every listed path in the directory `dir`, and `dir` itself, sorted.
    pub fn within(&self, dir: &str) -> Vec<Text> {
        let inner = self.lock();
        let itself = inner.paths.get_key_value(dir).map(|(path, _)| path);
        let below = inner.paths.range(Text::from(format!("{dir}/"))..);
        let below = below.map(|(path, _)| path);
        let below = below.take_while(|path| is_within(path, dir));
        itself.into_iter().chain(below).cloned().collect()
    }

    /// Writes the ledger without what was struck, and whole if it is not.
    ///
    /// # Errors
    /// When the disk refuses; the old ledger stays.
    pub fn save(&self) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.struck || inner.torn || inner.lines > 2 * inner.paths.len() + SPARE_LINES {
            self.replace(&mut inner)?;
        }
        Ok(())
    }

    /// Has the file list what is listed in memory, and nothing else.
    fn replace(&self, inner: &mut Inner) -> io::Result<()> {
        let temporary = self.file.with_extension("new");
        let mut text = String::new();
        for (path, [last, before]) in &inner.paths {
            if *before != 0 {
                line(&mut text, path, *before);
            }
            line(&mut text, path, *last);
        }
        fs::write(&temporary, &text)?;
        fs::rename(&temporary, &self.file)?;
        inner.lines = text.lines().count();
        (inner.struck, inner.torn) = (false, false);
        Ok(())
    }
}

/// Whether `path` leads to a place in the workspace that is neither zako's own nor git's.
pub fn may_be_output(path: &str) -> bool {
    let is_step = |part: &str| !matches!(part, "" | "." | "..");
    let first = path.split('/').next().unwrap_or_default();
    path.split('/').all(is_step)
        && !path.contains(['\n', '\0'])
        && ![PRIVATE_DIR, ".git"].contains(&first)
}

fn line(text: &mut String, path: &str, mark: Mark) {
    let _ = match mark {
        0 => writeln!(text, "{path}"),
        _ => writeln!(text, "{path}\t{mark:016x}"),
    };
}

/// The path and the mark of a line.
fn parse(line: &str) -> (&str, Mark) {
    let marked = line.rsplit_once('\t').and_then(|(path, digits)| {
        let mark = Mark::from_str_radix(digits, 16).ok()?;
        (digits.len() == 16).then_some((path, mark))
    });
    marked.unwrap_or((line, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_known_to_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("outputs");
        let ledger = Ledger::load(&file);
        ledger.add([("a/x", 7), ("b", 1)].into_iter()).unwrap();
        ledger.strike("b");
        ledger.save().unwrap();
        let again = Ledger::load(&file);
        assert!(again.contains("a/x") && !again.contains("b"));
        assert_eq!(again.paths(), ["a/x"]);
        let bears = [7, 8].map(|mark| again.bears("a/x", mark));
        assert_eq!(bears, [Some(true), Some(false)]);
        assert_eq!(again.bears("b", 1), None);
    }

    #[test]
    fn what_lies_in_a_directory_is_told_from_what_lies_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::load(&dir.path().join("outputs"));
        let paths = ["x", "x-1", "x/a", "x/deep/b", "x0", "w"];
        ledger.add(paths.map(|path| (path, 1)).into_iter()).unwrap();
        assert_eq!(ledger.within("x"), ["x", "x/a", "x/deep/b"]);
        assert!(ledger.within("x/deep/b/c").is_empty());
    }

    #[test]
    fn what_no_output_can_be_is_not_listed_whoever_says_so() {
        const NONE: [&str; 11] = [
            "/etc/passwd",
            "../outside",
            "a/../../outside",
            "a//b",
            "a/",
            "./a",
            "a/.",
            ".zako/lock",
            ".zako",
            ".git/HEAD",
            ".git",
        ];
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("outputs");
        let lines = NONE.map(|path| format!("{path}\n{path}\t0000000000000001\n"));
        fs::write(&file, format!("{}a/.zako/b\n", lines.concat())).unwrap();
        let ledger = Ledger::load(&file);
        assert_eq!(ledger.paths(), ["a/.zako/b"]);
        let items = NONE.iter().chain(&["a\nb", "..a"]);
        ledger.add(items.map(|path| (*path, 1))).unwrap();
        assert_eq!(ledger.paths(), ["..a", "a/.zako/b"]);
        ledger.save().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, "..a\t0000000000000001\na/.zako/b\n");
    }

    #[test]
    fn the_last_two_contents_of_a_file_are_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("outputs");
        // As an earlier version listed it.
        fs::write(&file, "a\n").unwrap();
        let ledger = Ledger::load(&file);
        assert!(ledger.contains("a"));
        assert_eq!(ledger.bears("a", 1), None);
        let known = |ledger: &Ledger| [1, 2, 3].map(|mark| ledger.bears("a", mark) == Some(true));
        for (mark, expected) in [
            (1, [true, false, false]),
            (2, [true, true, false]),
            (3, [false, true, true]),
        ] {
            ledger.add([("a", mark)].into_iter()).unwrap();
            assert_eq!(known(&ledger), expected);
            assert_eq!(known(&Ledger::load(&file)), expected);
        }
        assert!(ledger.take_added().is_empty(), "it was listed before");
        ledger.replace(&mut ledger.lock()).unwrap();
        assert_eq!(known(&Ledger::load(&file)), [false, true, true]);
    }

    #[test]
    fn a_file_with_many_lines_for_each_path_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("outputs");
        let ledger = Ledger::load(&file);
        for mark in 1..=SPARE_LINES as Mark + 3 {
            ledger.add([("a", mark)].into_iter()).unwrap();
        }
        ledger.save().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 2);
    }

    #[test]
    fn what_could_not_be_written_is_not_listed_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("outputs");
        fs::create_dir(&file).unwrap();
        let ledger = Ledger::load(&file);
        for _ in 0..2 {
            ledger.add([("a", 1)].into_iter()).unwrap_err();
            assert!(!ledger.contains("a"));
        }
        ledger.save().unwrap_err();
        fs::remove_dir(&file).unwrap();
        let items = [("a", 1), ("b", 2), ("a", 1)];
        ledger.add(items.into_iter()).unwrap();
        assert!(ledger.contains("a"));
        let text = "\na\t0000000000000001\nb\t0000000000000002\n";
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }

    #[test]
    fn whoever_writes_what_is_listed_changes_the_file_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("outputs");
        let item = || [("a", 0xA)].into_iter();
        Ledger::load(&file).add(item()).unwrap();
        let again = Ledger::load(&file);
        for _ in 0..2 {
            again.add(item()).unwrap();
        }
        let text = "\na\t000000000000000a\n\n";
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        assert_eq!(Ledger::load(&file).paths(), ["a"]);
    }

    #[test]
    fn a_line_that_was_cut_short_lists_nothing_and_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("outputs");
        // The last one ends within a letter.
        fs::write(&file, b"a\nsrc/\xc3").unwrap();
        let ledger = Ledger::load(&file);
        assert_eq!(ledger.paths(), ["a"]);
        ledger.add([("b", 0)].into_iter()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "a\n\nb\n");
        fs::write(&file, "a\nsrc/per").unwrap();
        let ledger = Ledger::load(&file);
        assert_eq!(ledger.paths(), ["a"]);
        ledger.save().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "a\n");
    }
}
