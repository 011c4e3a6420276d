//! Packages from elsewhere: brought once, kept in the store, laid out below `.zako/packages`.
//!
//! Owns when a package is fetched, what it must be by manifest and lock file, and where it lies. Does not know
//! how anything travels (`web`, `npm`, `git`) or is unpacked (`archive`, `tree`), nor what targets there are.
//! Invariants: what lies at a package's place is whole and what the lock file says; a package that lies there
//! costs a no-op two small files to read, and the network nothing; a digest that changed is never taken unasked.

mod archive;
mod builds;
mod fetch;
mod git;
mod npm;
mod proxy;
mod tree;
mod web;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use cas_actor::Digest;
use rustix::fs::syncfs;

pub use self::builds::{build_files, described};
use self::tree::Tree;
use super::services::Services;
use super::workspace::Workspace;
use crate::diagnostic::Diagnostic;
use crate::lang::dependency::{Dependency, Fetched, Origin};
use crate::lang::integrity::Integrity;
use crate::lang::locate::{At, mistake};
use crate::lang::lockfile::{LOCK, LockFile, Locked};
use crate::lang::manifest::MANIFEST;
use crate::lang::package_limits::PackageLimits;
use crate::lang::packages::{FETCHED_DIR, fetched_dir};
use crate::lang::suggest::did_you_mean;

/// Says which package lies at a place, beside the places.
const KNOWN_DIR: &str = ".known";
/// What is being brought; whatever lies there when a command begins was left by one that is gone.
const NEW_DIR: &str = ".new";

/// What a package is described by that has no build file at all.
const USUAL_BUILD: &str = "\
// Written by zako: this package has no build file of its own. `build` in zako.toml names a better one.
import { fileGroup } from \"zako:rules\";
import { glob } from \"zako:build\";

export default {
  files: fileGroup({ srcs: [glob(\"**\", { exclude: [\"BUILD.ts\"] })] }),
};
";

/// What may become of the lock file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockPolicy {
    /// It stays as it is.
    pub locked: bool,
    /// Packages that are fetched again, whatever it says; all of them when the list is empty.
    pub update: Option<Vec<String>>,
}

impl LockPolicy {
    fn updates(&self, name: &str) -> bool {
        let names = self.update.as_deref();
        names.is_some_and(|names| names.is_empty() || names.iter().any(|other| other == name))
    }
}

/// Brings packages.
pub struct Bringer<'a> {
    /// Where they are declared.
    pub workspace: &'a Workspace,
    /// Threads and store, once something has to be brought.
    pub services: &'a Services,
    /// What may become of the lock file.
    pub policy: &'a LockPolicy,
    /// Tells a person what takes time.
    pub tell: &'a dyn Fn(&str),
}

/// Why one package is not there, with what to do.
#[derive(Debug)]
struct Problem {
    message: String,
    help: Option<String>,
}

impl<E: std::error::Error> From<E> for Problem {
    fn from(error: E) -> Self {
        Self {
            message: error.to_string(),
            help: None,
        }
    }
}

/// What was fetched, before it is put to its place.
struct Brought {
    /// The directory that holds its files.
    dir: PathBuf,
    commit: Option<String>,
    integrity: Option<Integrity>,
}

impl Bringer<'_> {
    /// Has every package that is declared lie at its place, and the lock file say what they are. Tells
    /// whether anything was changed.
    ///
    /// # Errors
    /// The mistakes in the manifest and the lock file, and what could not be fetched.
    pub fn bring(&self) -> Result<bool, Vec<Diagnostic>> {
        let declared = self.workspace.manifest.dependencies.iter();
        let declared = declared.filter_map(|(name, dependency)| match dependency {
            Dependency::Fetched(fetched) => Some((name.as_str(), fetched)),
            Dependency::Directory { .. } => None,
        });
        let declared: BTreeMap<&str, &Fetched> = declared.collect();
        let path = self.workspace.root.join(LOCK);
        let text = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(vec![Diagnostic::error(format!(
                    "cannot read {LOCK}: {error}"
                ))]);
            }
        };
        self.check_updates(&declared)?;
        if declared.is_empty() && text.is_none() {
            return Ok(false);
        }
        let lock = text
            .as_deref()
            .map_or_else(|| Ok(LockFile::default()), LockFile::parse);
        let lock = lock.map_err(|mistake| vec![mistake])?;
        let (next, changed, mut mistakes) = self.bring_all(&declared, &lock);
        // What came is known, even where something else did not.
        if next != lock {
            match self.policy.locked {
                true if mistakes.is_empty() => mistakes.push(self.stale(&lock, &next)),
                true => {}
                false => write(&path, &next.text()).map_err(|error| {
                    vec![Diagnostic::error(format!("cannot write {LOCK}: {error}"))]
                })?,
            }
        }
        match mistakes.is_empty() {
            true => Ok(changed | self.remove_others(&declared)),
            false => Err(mistakes),
        }
    }

    /// The lock file as it is then, whether a place was changed, and what went wrong.
    fn bring_all(
        &self,
        declared: &BTreeMap<&str, &Fetched>,
        lock: &LockFile,
    ) -> (LockFile, bool, Vec<Diagnostic>) {
        let mut next = LockFile::default();
        let (mut changed, mut mistakes) = (false, Vec::new());
        for (&name, &fetched) in declared {
            let known = lock.packages.get(name);
            let holds =
                known.filter(|known| is_of(known, &fetched.origin) && !self.policy.updates(name));
            let package = Package {
                name,
                fetched,
                locked: holds,
            };
            match self.bring_one(&package) {
                Ok((locked, news)) => {
                    changed |= news;
                    next.packages.insert(name.to_owned(), locked);
                }
                Err(problem) => {
                    mistakes.push(self.mistake(name, problem));
                    next.packages
                        .extend(known.map(|known| (name.to_owned(), known.clone())));
                }
            }
        }
        (next, changed, mistakes)
    }

    /// Has one package lie at its place.
    fn bring_one(&self, package: &Package<'_>) -> Result<(Locked, bool), Problem> {
        let place = Place::new(&self.workspace.root, package.name);
        if let Some(locked) = package.locked {
            if place.holds(&locked.tree, package.fetched) {
                return Ok((locked.clone(), false));
            }
            if self.restore(&place, package.fetched, &locked.tree)? {
                return Ok((locked.clone(), true));
            }
        } else if self.policy.locked {
            return Err(Problem {
                message: format!(
                    "{LOCK} does not know this package as it is declared here, and it is locked"
                ),
                help: Some(
                    "run `zako build` without --locked, and commit what it writes there".to_owned(),
                ),
            });
        }
        let source = package.fetched.origin.source();
        (self.tell)(&format!("fetching {} from {source}", package.name));
        let new = NewDir::create(&self.workspace.root)?;
        let brought = self.fetch(package, &new)?;
        let archive = new.0.join("package.tar");
        tree::pack(&brought.dir, &archive)?;
        let tree = self.services.store()?.blocking().put_file(&archive)?;
        let locked = Locked {
            source,
            commit: brought.commit,
            integrity: brought.integrity,
            tree,
        };
        if let Some(before) = package.locked
            && before.tree != locked.tree
        {
            return Err(changed(
                &before.source,
                &before.tree.to_string(),
                &tree.to_string(),
            ));
        }
        place.put(&brought.dir, package.fetched, &tree)?;
        Ok((locked, true))
    }

    /// Takes a package out of the store; whether it is there.
    fn restore(&self, place: &Place, fetched: &Fetched, tree: &Digest) -> Result<bool, Problem> {
        let store = self.services.store()?.blocking();
        if !store.contains(&[*tree])?.iter().all(|here| *here) {
            return Ok(false);
        }
        // What was damaged on the disk is fetched again.
        let Ok(content) = store.get(tree) else {
            return Ok(false);
        };
        let limits = PackageLimits {
            max_size: u64::MAX,
            max_files: u64::MAX,
            ..PackageLimits::default()
        };
        let new = NewDir::create(&self.workspace.root)?;
        let mut files = Tree::new(new.empty("files")?, &limits);
        archive::unpack_tar(&content[..], &mut files)?;
        let dir = files.finish(false)?;
        place.put(&dir, fetched, tree)?;
        Ok(true)
    }

    /// Removes packages that are not declared any more; whether there were any.
    fn remove_others(&self, declared: &BTreeMap<&str, &Fetched>) -> bool {
        let dir = self.workspace.root.join(FETCHED_DIR);
        let mut removed = false;
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') && !declared.contains_key(name.as_str()) {
                // They are in nobody's way.
                removed |= Place::new(&self.workspace.root, &name).clear().is_ok();
            }
        }
        removed
    }

    fn check_updates(&self, declared: &BTreeMap<&str, &Fetched>) -> Result<(), Vec<Diagnostic>> {
        if self.policy.locked && self.policy.update.is_some() {
            let message = "--update-lock writes zako.lock anew, and --locked (ZAKO_LOCKED) leaves it as it is; choose one of them";
            return Err(vec![Diagnostic::error(message)]);
        }
        let names = self.policy.update.iter().flatten();
        let unknown = names.filter(|name| !declared.contains_key(name.as_str()));
        let unknown: Vec<Diagnostic> = unknown
            .map(|name| {
                let hint = did_you_mean(name, declared.keys().copied());
                Diagnostic::error(format!(
                    "--update-lock: {MANIFEST} declares no package `{name}` to fetch{hint}"
                ))
            })
            .collect();
        if unknown.is_empty() {
            Ok(())
        } else {
            Err(unknown)
        }
    }

    fn stale(&self, lock: &LockFile, next: &LockFile) -> Diagnostic {
        let others = lock
            .packages
            .keys()
            .filter(|name| !next.packages.contains_key(*name));
        let others: Vec<&str> = others.map(String::as_str).collect();
        let message = match others.is_empty() {
            true => format!("{LOCK} would change, and it is locked"),
            false => format!(
                "{LOCK} knows packages that {MANIFEST} does not declare, and it is locked: {}",
                others.join(", ")
            ),
        };
        Diagnostic::error(message)
            .with_help("run `zako build` without --locked, and commit what it writes there")
    }

    fn mistake(&self, name: &str, problem: Problem) -> Diagnostic {
        let text = fs::read_to_string(self.workspace.root.join(MANIFEST)).unwrap_or_default();
        let places = &self.workspace.manifest.dependency_places;
        let at = places
            .get(name)
            .cloned()
            .unwrap_or_else(|| At::file(MANIFEST));
        let found = mistake(&at, format!("package `{name}`: {}", problem.message), &text);
        match problem.help {
            Some(help) => found.with_help(help),
            None => found,
        }
    }
}

/// A package that has to lie at its place.
struct Package<'a> {
    name: &'a str,
    fetched: &'a Fetched,
    /// What it must be.
    locked: Option<&'a Locked>,
}

/// Whether an entry of the lock file is about what is declared.
fn is_of(locked: &Locked, origin: &Origin) -> bool {
    let is_that = match origin {
        Origin::Archive { integrity, .. } => integrity.is_none() || *integrity == locked.integrity,
        // A commit that is declared is the one that is built.
        Origin::Git { checkout, .. } if Origin::is_commit(checkout) => {
            (locked.commit.as_deref()).is_some_and(|commit| commit.eq_ignore_ascii_case(checkout))
        }
        Origin::Git { .. } | Origin::Npm { .. } => true,
    };
    is_that && locked.source == origin.source()
}

/// What is said when a package is not what it was.
fn changed(source: &str, before: &str, now: &str) -> Problem {
    Problem {
        message: format!("what comes from {source} is not what it was: {LOCK} says {before}, now it is {now}"),
        help: Some(
            "if that is meant, `zako build --update-lock` takes the new one; if not, find out who changed it before you build"
                .to_owned(),
        ),
    }
}

/// Where a package lies.
struct Place {
    dir: PathBuf,
    known: PathBuf,
}

impl Place {
    fn new(root: &Path, name: &str) -> Self {
        Self {
            dir: root.join(fetched_dir(name)),
            known: root.join(FETCHED_DIR).join(KNOWN_DIR).join(name),
        }
    }

    /// What the file beside it says then.
    fn note(tree: &Digest, fetched: &Fetched) -> String {
        // Without a build file of ours the package may have been given one.
        let described = if fetched.build_file.is_some() {
            "described"
        } else {
            "bare"
        };
        format!("{tree} {described}\n")
    }

    fn holds(&self, tree: &Digest, fetched: &Fetched) -> bool {
        let note = fs::read_to_string(&self.known);
        note.is_ok_and(|note| note == Self::note(tree, fetched)) && self.dir.is_dir()
    }

    fn clear(&self) -> io::Result<()> {
        // First that it is whole, then the rest: it may take long, and be interrupted.
        for removed in [fs::remove_file(&self.known), fs::remove_dir_all(&self.dir)] {
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Moves the directory `from` there.
    fn put(&self, from: &Path, fetched: &Fetched, tree: &Digest) -> Result<(), Problem> {
        if fetched.build_file.is_none() && !has_build_file(from)? {
            fs::write(from.join("BUILD.ts"), USUAL_BUILD)?;
        }
        self.clear()?;
        fs::rename(from, &self.dir)?;
        if let Some(dir) = self.known.parent() {
            fs::create_dir_all(dir)?;
        }
        // The note says that all of it is there, and must not outlive it when the power goes.
        syncfs(File::open(&self.dir)?).map_err(io::Error::from)?;
        Ok(write(&self.known, &Self::note(tree, fetched))?)
    }
}

fn has_build_file(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let found = match entry.file_type()?.is_dir() {
            true => has_build_file(&entry.path())?,
            false => entry.file_name() == "BUILD.ts",
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Replaces a file as a whole.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".zako-new");
    fs::write(&new, text)?;
    fs::rename(&new, path)
}

/// Where things are brought to before they are whole; gone when dropped.
struct NewDir(PathBuf);

impl NewDir {
    fn create(root: &Path) -> io::Result<Self> {
        let new = Self(root.join(FETCHED_DIR).join(NEW_DIR));
        match fs::remove_dir_all(&new.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(&new.0)?;
        Ok(new)
    }

    fn empty(&self, name: &str) -> io::Result<PathBuf> {
        let dir = self.0.join(name);
        fs::create_dir(&dir)?;
        Ok(dir)
    }
}

impl Drop for NewDir {
    fn drop(&mut self) {
        // Otherwise the next one does it.
        drop(fs::remove_dir_all(&self.0));
    }
}
