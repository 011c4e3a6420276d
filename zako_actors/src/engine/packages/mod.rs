//! Packages from elsewhere: brought once, kept in the store, laid out below `.zako/packages`.
//!
//! Owns when a package is fetched and what it must be by manifest and lock file. Does not know where it lies (`place`),
//! how anything travels (`web`, `npm`, `git`, `local`) or is unpacked (`archive`, `tree`), nor what targets there are.
//! Invariants: what lies at a package's place is whole and what the lock file says, and so is the archive of the workspace that it
//! came from; a package that lies there costs a no-op two small files to read and an archive a look, and the network nothing; a
//! digest that changed is never taken unasked.

mod archive;
mod builds;
mod fetch;
mod git;
mod local;
mod npm;
mod place;
mod porter;
mod proxy;
mod tree;
mod web;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use self::builds::{add_build_files, described, without_build_file};
use self::place::{Held, Place};
use self::porter::Porter;
use super::services::Services;
use super::workspace::Workspace;
use crate::diagnostic::Diagnostic;
use crate::lang::dependency::{Dependency, Fetched, Origin};
use crate::lang::locate::{At, mistake};
use crate::lang::lockfile::{LOCK, LockFile, Locked};
use crate::lang::manifest::MANIFEST;
use crate::lang::packages::FETCHED_DIR;
use crate::lang::suggest::did_you_mean;
use crate::texts::read_text;

/// What is being brought; whatever lies there when a command begins was left by one that is gone.
const NEW_DIR: &str = ".new";

/// So many are fetched at a time.
const AT_ONCE: usize = 8;

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
        let text = match read_text(&path) {
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
            let mark = local::mark(&self.workspace.root, fetched);
            let held = locked.map(|locked| (locked, place.holds(&locked.tree, fetched, &mark)));
            let is_right = match held {
                Some((_, Held::Whole)) => Ok(()),
                Some((locked, Held::Unchecked)) => self
                    .check_archive(fetched, locked)
                    .and_then(|()| Ok(place.note(&locked.tree, fetched, &mark)?)),
                Some((_, Held::Not)) | None => {
                    missing.push(Package {
                        name,
                        fetched,
                        locked,
                    });
                    continue;
                }
            };
            next.packages
                .extend(known.map(|known| (name.to_owned(), known.clone())));
            let wrong = is_right.err();
            mistakes.extend(wrong.map(|problem| (name.to_owned(), self.mistake(name, problem))));
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
                    let mark = local::mark(&self.workspace.root, fetched);
                    let is_held =
                        |known: &Locked| place.holds(&known.tree, fetched, &mark) != Held::Not;
                    if !known.is_some_and(is_held) {
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

    /// Looks whether an archive of the workspace is still what the lock file says.
    fn check_archive(&self, fetched: &Fetched, locked: &Locked) -> Result<(), Problem> {
        let limit = self.workspace.manifest.settings.packages.max_download;
        match local::archive(&self.workspace.root, &fetched.origin) {
            Some(archive) => archive.check(limit, locked.integrity.as_ref()),
            None => Ok(()),
        }
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
        let text = read_text(&self.workspace.root.join(MANIFEST)).unwrap_or_default();
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

/// Replaces a file as a whole.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".zako-new");
    fs::write(&new, text)?;
    fs::rename(&new, path)
}
