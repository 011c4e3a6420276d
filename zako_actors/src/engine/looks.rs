//! Looking at all remembered files at once, beside the reading of what else is remembered.
//!
//! Owns the question "is this file as it was?" for one plan: threads ask it of remembered files while
//! the targets are still being read and linked, or the end of a burst of changes is awaited, and nobody
//! asks twice. Does not know contents, nor which files matter.
//! Invariants: "untouched" is said only of a regular file that had exactly the remembered stamp at a
//! moment since the workspace was locked, and never again once it was told to have changed since; whoever is told nothing
//! asks the file system; steps, which change files, are not told at all.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use rustix::fs::{AtFlags, statat};

use super::remembered::SavedFiles;
use super::stamp::Stamp;

/// With fewer files a thread would cost more than it saves.
const WORTH_A_THREAD: usize = 500;

/// The mark of a file that is known to have changed meanwhile, beside those of [`Look`].
const CHANGED: u8 = 4;
/// The mark of a file that no thread looks at, only whoever asks.
const LEFT: u8 = 8;

/// How a file was looked at and found to be as remembered: by its own name, or through links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// What a link leads to.
    Through = 1,
    /// The file itself, so that it is found through its name as well.
    Itself = 3,
}

/// Remembered files, and what was seen of them.
#[derive(Debug)]
pub struct Looks {
    root: OwnedFd,
    files: SavedFiles,
    /// Of each file. By itself: it says something of what does not change any more.
    seen: Vec<AtomicU8>,
}

impl Looks {
    /// For these files below `root`.
    pub fn new(root: OwnedFd, files: SavedFiles) -> Arc<Self> {
        let seen = files.0.iter().map(|_| AtomicU8::new(0)).collect();
        Arc::new(Self { root, files, seen })
    }

    /// Looks at all of them on so many threads, which end by themselves, or when nobody else holds this.
    pub fn begin(self: &Arc<Self>, threads: usize) {
        if self.seen.len() < WORTH_A_THREAD {
            return;
        }
        // All threads together hold them once.
        let shared = Arc::new(Arc::clone(self));
        for first in 0..threads {
            let looks = Arc::clone(&shared);
            // Without a thread the planner looks itself. It begins at the other end.
            let look = move || {
                let all = (0..looks.seen.len()).rev();
                for index in all.skip(first).step_by(threads) {
                    if Arc::strong_count(&*looks) == 1 {
                        break;
                    }
                    if looks.seen[index].load(Ordering::Relaxed) == 0 {
                        looks.look(index);
                    }
                }
            };
            drop(thread::Builder::new().name("zako-look".into()).spawn(look));
        }
    }

    fn look(&self, index: usize) {
        let known = &self.files.0[index];
        // What is a link is told apart by whoever asks.
        if let Ok(stat) = statat(
            self.root.as_fd(),
            known.path.as_str(),
            AtFlags::SYMLINK_NOFOLLOW,
        ) && Stamp::of_stat(&stat) == known.entry.stamp
        {
            self.saw(index as u32, Look::Itself);
        }
    }

    /// Leaves these files to whoever asks; to be said before [`begin`](Self::begin).
    pub fn leave(&self, is_left: impl Fn(&str) -> bool) {
        for (known, seen) in self.files.0.iter().zip(&self.seen) {
            if is_left(&known.path) {
                seen.store(LEFT, Ordering::Relaxed);
            }
        }
    }

    /// Whether file `index` was seen in this way with the stamp that is remembered.
    pub fn is_untouched(&self, index: u32, look: Look) -> bool {
        let seen = self.seen.get(index as usize);
        seen.is_some_and(|seen| seen.load(Ordering::Relaxed) & (look as u8 | CHANGED) == look as u8)
    }

    /// Takes note that file `index` has changed since it was looked at, or while it is: nothing is said of it any more.
    pub fn changed(&self, index: u32) {
        self.mark(index, CHANGED);
    }

    /// Takes note that file `index` has the stamp that is remembered.
    pub fn saw(&self, index: u32, look: Look) {
        self.mark(index, look as u8);
    }

    fn mark(&self, index: u32, mark: u8) {
        if let Some(seen) = self.seen.get(index as usize) {
            seen.fetch_or(mark, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::FileTable;
    use super::super::hash::Hash;
    use super::super::remembered::{Entry, Known};
    use super::*;
    use rustix::fs::{Mode, OFlags, open};
    use std::fs;

    #[test]
    fn what_changed_went_or_became_a_link_is_not_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..WORTH_A_THREAD).map(|n| n.to_string()).collect();
        let path = |name: &str| dir.path().join(name);
        let files = names.iter().map(|name| {
            fs::write(path(name), "x").unwrap();
            let entry = Entry {
                stamp: Stamp::of(&fs::symlink_metadata(path(name)).unwrap()),
                hash: Hash::of(b"x"),
                settled: true,
            };
            Known {
                path: name.into(),
                entry,
            }
        });
        let files: Vec<Known> = files.collect();
        fs::write(path("7"), "longer").unwrap();
        fs::remove_file(path("8")).unwrap();
        fs::rename(path("9"), path("moved")).unwrap();
        std::os::unix::fs::symlink("moved", path("9")).unwrap();
        let root = open(dir.path(), OFlags::PATH, Mode::empty()).unwrap();
        let looks = Looks::new(root, SavedFiles(Arc::new(files)));
        looks.begin(2);
        // Its thread has looked at everything when it does not hold them any more.
        while Arc::strong_count(&looks) > 1 {
            thread::yield_now();
        }
        let untouched = |index: u32| looks.is_untouched(index, Look::Itself);
        let changed: Vec<u32> = (0..WORTH_A_THREAD as u32)
            .filter(|n| !untouched(*n))
            .collect();
        assert_eq!(changed, [7, 8, 9]);
        looks.saw(9, Look::Through);
        assert!(looks.is_untouched(9, Look::Through) && !untouched(9));
        assert!(untouched(10));
        looks.changed(10);
        looks.saw(10, Look::Itself);
        assert!(!untouched(10), "what was seen may be older than the change");
    }

    #[test]
    fn what_is_told_to_have_changed_is_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        let names = ["a", "d/a", "d/b", "da"];
        for name in names {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let table = || FileTable::new(dir.path().into(), SavedFiles::default());
        let files = table();
        for name in names {
            files.wrote(name, files.fact(name).unwrap());
        }
        let files = FileTable::new(dir.path().into(), files.save());
        let is_old = |name: &str| files.fact(name).unwrap().hash == Hash::of(name.as_bytes());
        let rounds: [(&[&str], &[&str]); 5] = [
            (&["d/a"], &["d/a"]),
            (&["d"], &["d/a", "d/b"]),
            (&["new", "a"], &["a"]),
            (&[""], &names),
            (&[], &[]),
        ];
        for (told, seen) in rounds {
            for name in names {
                fs::write(dir.path().join(name), name).unwrap();
                files.wrote(name, table().fact(name).unwrap());
            }
            files.look_at_all(1, |_| true);
            for name in names {
                assert!(is_old(name));
                fs::write(dir.path().join(name), "changed").unwrap();
            }
            files.changed(&told.iter().map(|path| (*path).into()).collect());
            for name in names {
                assert_eq!(is_old(name), !seen.contains(&name), "{told:?}: {name}");
            }
        }
    }

    /// Who is told of no changes of a file must not have it looked at before it is asked for.
    #[test]
    fn what_is_left_to_the_asker_is_looked_at_late() {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..WORTH_A_THREAD).map(|n| n.to_string()).collect();
        let saved = FileTable::new(dir.path().into(), SavedFiles::default());
        for name in &names {
            fs::write(dir.path().join(name), "x").unwrap();
            saved.wrote(name, saved.fact(name).unwrap());
        }
        let files = FileTable::new(dir.path().into(), saved.save());
        files.look_at_all(2, |name| name != "7");
        files.await_looks();
        for name in ["7", "8"] {
            fs::write(dir.path().join(name), "changed").unwrap();
        }
        let is_changed = |name: &str| files.fact(name).unwrap().hash == Hash::of(b"changed");
        assert!(is_changed("7"), "no thread may look at it");
        assert!(!is_changed("8"), "a thread has looked at it");
    }
}
