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
mod porter;
mod proxy;
mod tree;
mod web;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use cas_actor::Digest;
use rustix::fs::syncfs;

pub use self::builds::{build_files, described};
use self::porter::Porter;
use super::services::Services;
use super::workspace::Workspace;
use crate::diagnostic::Diagnostic;
use crate::lang::dependency::{Dependency, Fetched, Origin};
use crate::lang::locate::{At, mistake};
use crate::lang::lockfile::{LOCK, LockFile, Locked};
use crate::lang::manifest::MANIFEST;
use crate::lang::packages::{FETCHED_DIR, fetched_dir};
use crate::lang::suggest::did_you_mean;

/// Says which package lies at a place, beside the places.
const KNOWN_DIR: &str = ".known";
/// What is being brought; whatever lies there when a command begins was left by one that is gone.
const NEW_DIR: &str = ".new";

/// So many are fetched at a time.
const AT_ONCE: usize = 8;

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
    pub tell: &'a (dyn Fn(&str) + Sync),
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

/// What came of bringing packages.
#[derive(Debug, Default)]
pub struct Brought {
    /// Whether anything was changed where they lie.
    pub changed: bool,
    /// Packages that are not there, with what is wrong.
    pub missing: Vec<(String, Diagnostic)>,
}

impl Bringer<'_> {
    /// Has every package that is declared lie at its place, and the lock file say what they are.
    ///
    /// # Errors
    /// The mistakes in the manifest and the lock file that concern all of them.
    pub fn bring(&self) -> Result<Brought, Vec<Diagnostic>> {
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
            return Ok(Brought::default());
        }
        let lock = text
            .as_deref()
            .map_or_else(|| Ok(LockFile::default()), LockFile::parse);
        let lock = lock.map_err(|mistake| vec![mistake])?;
        let (next, changed, missing) = self.bring_all(&declared, &lock);
        // What came is known, even where something else did not.
        if next != lock {
            match self.policy.locked {
                true if missing.is_empty() => return Err(vec![self.stale(&lock, &next)]),
                true => {}
                false => write(&path, &next.text()).map_err(|error| {
                    vec![Diagnostic::error(format!("cannot write {LOCK}: {error}"))]
                })?,
            }
        }
        Ok(Brought {
            changed: changed | self.remove_others(&declared),
            missing,
        })
    }

    /// The lock file as it is then, whether a place was changed, and what went wrong.
    fn bring_all(
        &self,
        declared: &BTreeMap<&str, &Fetched>,
        lock: &LockFile,
    ) -> (LockFile, bool, Vec<(String, Diagnostic)>) {
        let mut next = LockFile::default();
        let (mut changed, mut mistakes) = (false, Vec::new());
        let mut missing = Vec::new();
        for (&name, &fetched) in declared {
            let known = lock.packages.get(name);
            let locked =
                known.filter(|known| is_of(known, &fetched.origin) && !self.policy.updates(name));
            let place = Place::new(&self.workspace.root, name);
            match locked.filter(|locked| place.holds(&locked.tree, fetched)) {
                Some(locked) => drop(next.packages.insert(name.to_owned(), locked.clone())),
                None => missing.push(Package {
                    name,
                    fetched,
                    locked,
                }),
            }
        }
        let brought = self.bring_missing(&missing);
        for (Package { name, fetched, .. }, brought) in missing.iter().zip(brought) {
            match brought {
                Ok(locked) => {
                    changed = true;
                    next.packages.insert((*name).to_owned(), locked);
                }
                Err(problem) => {
                    mistakes.push(((*name).to_owned(), self.mistake(name, problem)));
                    let known = lock.packages.get(*name);
                    let place = Place::new(&self.workspace.root, name);
                    let is_known = known.is_some_and(|known| place.holds(&known.tree, fetched));
                    if !is_known {
                        // What another version left there is nothing to build with. What cannot be removed the next one will.
                        changed |= place.clear().is_ok();
                    }
                    next.packages
                        .extend(known.map(|known| ((*name).to_owned(), known.clone())));
                }
            }
        }
        (next, changed, mistakes)
    }

    /// Has these lie at their places, some at a time; what came of each, in their order.
    fn bring_missing(&self, missing: &[Package<'_>]) -> Vec<Result<Locked, Problem>> {
        if missing.is_empty() {
            return Vec::new();
        }
        let porter = match self.porter() {
            Ok(porter) => porter,
            Err(problem) => {
                let message = problem.message;
                let same = || {
                    Err(Problem {
                        message: message.clone(),
                        help: None,
                    })
                };
                return missing.iter().map(|_| same()).collect();
            }
        };
        let next = AtomicUsize::new(0);
        let results: Vec<OnceLock<_>> = missing.iter().map(|_| OnceLock::new()).collect();
        std::thread::scope(|scope| {
            let bring = || {
                loop {
                    // Relaxed: each number is given once, whatever others see.
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((package, result)) = missing.get(at).zip(results.get(at)) else {
                        return;
                    };
                    drop(result.set(porter.bring_one(package)));
                }
            };
            let threads = missing.iter().take(AT_ONCE).map(|_| scope.spawn(bring));
            let threads: Vec<_> = threads.collect();
            // One that died leaves its package without a result.
            threads.into_iter().for_each(|thread| drop(thread.join()));
        });
        // Each has removed what was its own; what cannot be removed the next one will.
        drop(fs::remove_dir(
            self.workspace.root.join(FETCHED_DIR).join(NEW_DIR),
        ));
        let results = results.into_iter().map(OnceLock::into_inner);
        results
            .map(|result| {
                result.unwrap_or_else(|| {
                    Err(Problem {
                        message: "the thread that fetched it died".to_owned(),
                        help: None,
                    })
                })
            })
            .collect()
    }

    /// Starts what something is brought with.
    fn porter(&self) -> Result<Porter<'_>, Problem> {
        // Whatever lies there was left by a process that is gone: the workspace is ours.
        match fs::remove_dir_all(self.workspace.root.join(FETCHED_DIR).join(NEW_DIR)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        Ok(Porter {
            workspace: self.workspace,
            policy: self.policy,
            tell: self.tell,
            store: self.services.store()?.clone(),
            runtime: self.services.system()?.tokio(),
        })
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
