//! Where scratch directories come from, and what becomes of them: they are used again and again.
//!
//! Owns the spare ones of a build and the putting in order of one that was used. Making and removing
//! four directories for every step would cost more than starting a process does. Does not know what
//! they are filled with.
//! Invariants: a spare one holds the three directories that every step has, which are the ones that
//! were made for it, empty directories below `work`, all of which are listed, and an empty log at most, which no
//! process of a step has open; what cannot be put in order is removed; nothing is left when the last owner is gone.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Dir, Mode, OFlags, open};

use super::{LOG, Scratch, ScratchError, failed, name_of_process, remove_tree};
use crate::engine::process::is_nobody_left;

/// The directories that every step has.
const PARTS: [&str; 3] = ["work", "home", "tmp"];

/// More directories than this are not kept for the next step.
const DIRS_KEPT: usize = 1000;

/// Names only have to differ within one process: the directory above is locked by it.
static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// The scratch directories of one build.
#[derive(Debug)]
pub struct Scratches {
    parent: PathBuf,
    spare: Mutex<Vec<Place>>,
}

impl Scratches {
    /// None yet; they are made below `parent`.
    pub fn new(parent: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            parent,
            spare: Mutex::default(),
        })
    }

    /// Where they lie.
    pub fn parent(&self) -> &Path {
        &self.parent
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Place>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty scratch directory; with `keep` it stays when it is dropped.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn take(self: &Arc<Self>, keep: bool) -> Result<Scratch, ScratchError> {
        let spare = self.spare().pop();
        let place = spare.map_or_else(|| Place::make(&self.parent), Ok)?;
        Ok(Scratch {
            place,
            keep,
            from: Arc::clone(self),
        })
    }

    /// Puts a used one in order for the next step, or removes it where that cannot be done.
    pub(super) fn take_back(&self, mut place: Place) {
        match place.put_in_order(is_nobody_left) {
            Ok(true) => self.spare().push(place),
            Ok(false) | Err(_) => place.remove(),
        }
    }
}

impl Drop for Scratches {
    fn drop(&mut self) {
        self.spare().drain(..).for_each(|place| place.remove());
    }
}

/// One scratch directory, whoever has it.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) dir: PathBuf,
    /// What was made, in the order of [`PARTS`].
    made: [Mark; PARTS.len()],
    /// The directory and its parts, opened: each is listed after every step. Without it, as when a process
    /// may have no more open files, the place is merely not used again.
    listed: Option<Listed>,
    /// Directories below `work` that were left, parents before what lies in them.
    left: BTreeSet<String>,
}

#[derive(Debug)]
struct Listed {
    dir: Dir,
    parts: [Dir; PARTS.len()],
}

/// By what a directory is known to be the one that was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    /// Type and permission bits.
    mode: u32,
    owner: (u32, u32),
}

impl Mark {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
        }
    }

    /// Whether a file is an empty log that was made beside this directory: nothing of the step is in it, nor does it
    /// lead elsewhere.
    fn is_blank(&self, found: &Metadata) -> bool {
        let bits = 0o7777;
        found.is_file()
            && (found.len(), found.nlink()) == (0, 1)
            && found.mode() & bits == self.mode & 0o666
            && (found.dev(), (found.uid(), found.gid())) == (self.device, self.owner)
    }

    /// Whether a directory has the owner and the permissions of this one, which zako has made.
    fn is_like(&self, found: &Metadata) -> bool {
        let found = Self::of(found);
        (found.device, found.mode, found.owner) == (self.device, self.mode, self.owner)
    }
}

impl Place {
    fn make(parent: &Path) -> Result<Self, ScratchError> {
        let number = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("{}{number}", name_of_process(std::process::id())));
        fs::create_dir_all(&dir).map_err(failed("create", &dir))?;
        let mut made = [Mark::default(); PARTS.len()];
        for (part, mark) in PARTS.iter().zip(&mut made) {
            let path = dir.join(part);
            let metadata = fs::create_dir(&path).and_then(|()| fs::symlink_metadata(&path));
            *mark = Mark::of(&metadata.map_err(failed("create", &path))?);
        }
        let listed = Listed::open(&dir).ok();
        Ok(Self {
            dir,
            made,
            listed,
            left: BTreeSet::new(),
        })
    }

    /// Removes everything but the directories that this was made of, those below `work`, and an empty log, unless somebody
    /// may still write to it, so `is_nobody_left` is asked; false when something of that was tampered with.
    ///
    /// Most steps print nothing, and file systems take their time to make a file where one went a moment ago.
    fn put_in_order(&mut self, is_nobody_left: impl FnOnce() -> bool) -> io::Result<bool> {
        let Some(listed) = &mut self.listed else {
            return Ok(false);
        };
        let mut has_log = false;
        for name in names(&mut listed.dir)? {
            if name == LOG {
                has_log = true;
            } else if PARTS.iter().all(|part| name != *part) {
                remove_any(&self.dir.join(name))?;
            }
        }
        let log = self.dir.join(LOG);
        if has_log && !(self.made[0].is_blank(&fs::symlink_metadata(&log)?) && is_nobody_left()) {
            remove_any(&log)?;
        }
        for ((part, made), dir) in PARTS.iter().zip(self.made).zip(&mut listed.parts) {
            let path = self.dir.join(part);
            if Mark::of(&fs::symlink_metadata(&path)?) != made {
                return Ok(false);
            }
            let names = names(dir)?;
            if *part == "work" {
                self.left.clear();
                clear_files(&path, "", names, &made, &mut self.left)?;
            } else {
                names
                    .iter()
                    .try_for_each(|name| remove_any(&path.join(name)))?;
            }
        }
        Ok(self.left.len() <= DIRS_KEPT)
    }

    /// Removes the directories below `work` that lie neither in `wanted` nor above one of those; tells
    /// which stay.
    pub(super) fn prune(
        &mut self,
        wanted: &BTreeSet<&str>,
    ) -> Result<BTreeSet<String>, ScratchError> {
        let mut left = std::mem::take(&mut self.left);
        let work = self.dir.join("work");
        let mut above = BTreeSet::new();
        for mut dir in wanted.iter().copied() {
            while !dir.is_empty() && above.insert(dir) {
                dir = dir.rsplit_once('/').map_or("", |(parent, _)| parent);
            }
        }
        // Backwards, so that a directory is empty when its turn comes.
        let gone: Vec<String> = left
            .iter()
            .rev()
            .filter(|dir| !above.contains(&***dir))
            .cloned()
            .collect();
        for dir in gone {
            let path = work.join(&dir);
            fs::remove_dir(&path).map_err(failed("remove", &path))?;
            left.remove(&dir);
        }
        Ok(left)
    }

    fn remove(&self) {
        if let Err(error) = remove_tree(&self.dir) {
            tracing::warn!("cannot remove {}: {error}", self.dir.display());
        }
    }
}

impl Listed {
    fn open(dir: &Path) -> io::Result<Self> {
        let list = |path: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Dir::new(open(path, flags, Mode::empty())?)
        };
        let [work, home, tmp] = PARTS.map(|part| list(&dir.join(part)));
        Ok(Self {
            dir: list(dir)?,
            parts: [work?, home?, tmp?],
        })
    }
}

/// What lies in a directory.
fn names(dir: &mut Dir) -> io::Result<Vec<OsString>> {
    dir.rewind();
    let mut names = Vec::new();
    while let Some(entry) = dir.read() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

/// Removes a file, or a directory with everything in it.
fn remove_any(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::IsADirectory => remove_tree(path),
        // What POSIX has the system say of a directory.
        Err(_) if fs::symlink_metadata(path)?.is_dir() => remove_tree(path),
        done => done,
    }
}

/// Removes what is no directory like `like` of what has these `names` in `relative` of `work`, and below,
/// and lists in `left` what stays.
fn clear_files(
    work: &Path,
    relative: &str,
    names: Vec<OsString>,
    like: &Mark,
    left: &mut BTreeSet<String>,
) -> io::Result<()> {
    for name in names {
        let path = work.join(relative).join(&name);
        let found = fs::symlink_metadata(&path)?;
        // A name that is not UTF-8 is nobody's input.
        let inner = name.into_string().ok().map(|name| match relative {
            "" => name,
            _ => format!("{relative}/{name}"),
        });
        match inner {
            Some(inner) if found.is_dir() && left.len() <= DIRS_KEPT && like.is_like(&found) => {
                let names = fs::read_dir(&path)?.map(|entry| Ok(entry?.file_name()));
                let names = names.collect::<io::Result<_>>()?;
                clear_files(work, &inner, names, like, left)?;
                left.insert(inner);
            }
            _ => remove_any(&path)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::engine::files::{FileTable, SavedFiles};

    struct World {
        root: tempfile::TempDir,
        files: FileTable,
        scratches: Arc<Scratches>,
    }

    impl World {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            Self {
                files: FileTable::new(root.path().into(), SavedFiles::default()),
                scratches: Scratches::new(root.path().join(".zako")),
                root,
            }
        }

        /// A scratch directory in which `dirs` lie.
        fn take(&self, dirs: &[&str]) -> Scratch {
            let mut scratch = self.scratches.take(false).unwrap();
            scratch
                .fill(&self.files, &[], dirs.iter().copied())
                .unwrap();
            scratch
        }
    }

    /// Everything below a directory, sorted.
    fn all(dir: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut pending = vec![dir.to_owned()];
        while let Some(at) = pending.pop() {
            for entry in fs::read_dir(at).unwrap() {
                let path = entry.unwrap().path();
                found.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
                if path.is_dir() && !path.is_symlink() {
                    pending.push(path);
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn the_next_step_has_the_same_directory_and_finds_nothing_in_it() {
        let world = World::new();
        let scratch = world.take(&["p/out", "q"]);
        let dir = scratch.dir().to_owned();
        fs::write(scratch.log(), "said").unwrap();
        fs::write(dir.join("beside"), "").unwrap();
        fs::write(scratch.home().join(".profile"), "").unwrap();
        fs::create_dir_all(scratch.tmp().join("a/b")).unwrap();
        fs::create_dir_all(scratch.work().join("q/deep/er")).unwrap();
        fs::write(scratch.work().join("p/out/x"), "").unwrap();
        symlink("/etc", scratch.work().join("p/link")).unwrap();
        drop(scratch);
        let scratch = world.take(&["p/other", "q"]);
        assert_eq!(scratch.dir(), dir);
        let found = ["home", "tmp", "work", "work/p", "work/p/other", "work/q"];
        assert_eq!(all(&dir), found);
    }

    #[test]
    fn a_directory_that_was_tampered_with_is_not_used_again() {
        let tamper: [&dyn Fn(&Path); 4] = [
            &|dir| {
                fs::set_permissions(dir.join("home"), fs::Permissions::from_mode(0o500)).unwrap()
            },
            &|dir| fs::remove_dir(dir.join("tmp")).unwrap(),
            &|dir| {
                fs::rename(dir.join("tmp"), dir.join("old")).unwrap();
                symlink("/tmp", dir.join("tmp")).unwrap();
            },
            &|dir| {
                // The old one lives on, so that the new one has another number.
                fs::rename(dir.join("work"), dir.join("home/work")).unwrap();
                fs::create_dir(dir.join("work")).unwrap();
            },
        ];
        for tamper in tamper {
            let world = World::new();
            let scratch = world.take(&[]);
            let dir = scratch.dir().to_owned();
            tamper(&dir);
            drop(scratch);
            assert!(!dir.exists());
            assert_eq!(all(world.take(&[]).dir()), ["home", "tmp", "work"]);
        }
    }

    #[test]
    fn a_directory_that_cannot_be_listed_is_not_used_again() {
        let world = World::new();
        let mut scratch = world.take(&["p"]);
        scratch.place.listed = None;
        let dir = scratch.dir().to_owned();
        drop(scratch);
        assert!(!dir.exists());
        assert_ne!(world.take(&[]).dir(), dir);
    }

    #[test]
    fn a_directory_with_permissions_of_its_own_is_not_handed_on() {
        let world = World::new();
        let scratch = world.take(&["p/sealed"]);
        let sealed = scratch.work().join("p/sealed");
        fs::write(sealed.join("x"), "").unwrap();
        fs::set_permissions(&sealed, fs::Permissions::from_mode(0o500)).unwrap();
        drop(scratch);
        let scratch = world.take(&["p/sealed"]);
        let sealed = scratch.work().join("p/sealed");
        assert_eq!(fs::read_dir(&sealed).unwrap().count(), 0);
        assert_eq!(fs::metadata(&sealed).unwrap().mode() & 0o200, 0o200);
    }

    #[test]
    fn only_an_empty_log_of_its_own_that_nobody_writes_to_is_used_again() {
        let parent = tempfile::tempdir().unwrap();
        let theirs = parent.path().join("theirs");
        let mut place = Place::make(parent.path()).unwrap();
        let log = place.dir.join(LOG);
        let mut stays = |make: &dyn Fn(&Path), is_nobody_left: bool| {
            make(&log);
            assert!(place.put_in_order(|| is_nobody_left).unwrap());
            fs::symlink_metadata(&log).is_ok()
        };
        let empty = |log: &Path| fs::write(log, "").unwrap();
        assert!(stays(&empty, true));
        assert!(!stays(&empty, false));
        assert!(!stays(&|log| fs::write(log, "said").unwrap(), true));
        empty(&theirs);
        assert!(!stays(&|log| symlink(&theirs, log).unwrap(), true));
        assert!(!stays(&|log| fs::hard_link(&theirs, log).unwrap(), true));
        assert!(!stays(&|log| fs::create_dir(log).unwrap(), true));
        let sealed = |log: &Path| {
            empty(log);
            fs::set_permissions(log, fs::Permissions::from_mode(0o400)).unwrap();
        };
        assert!(!stays(&sealed, true));
        assert!(theirs.exists());
    }

    #[test]
    fn those_in_use_differ_and_all_are_gone_in_the_end() {
        let world = World::new();
        let (one, two) = (world.take(&["p"]), world.take(&["p"]));
        assert_ne!(one.dir(), two.dir());
        drop((one, two));
        drop(world.scratches);
        assert_eq!(all(world.root.path()), [".zako"]);
    }
}
