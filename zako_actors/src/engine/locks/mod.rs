//! Lock files of npm, pnpm, Yarn and Bun: what of them is part of a script's key.
//!
//! Owns which files those are, and how the packages that a script's own resolves to come into its key. Does not know how a lock
//! file is written (`npm`, `pnpm`, `classic`, `berry`, `bun`), nor what follows from what it says (`graph`).
//! Invariants: a lock file that is not understood counts as a whole, and so it does for a package that it does not name; one
//! that did not change is not read.

mod berry;
mod bun;
mod classic;
mod graph;
mod known;
mod npm;
mod pnpm;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::files::{FactError, FileFact, FileTable};
use super::hash::{Hash, KeyWriter};
use crate::lang::label::Label;
use crate::lang::package_json::{PACKAGE_JSON, PackageJson};
use crate::lang::scripts::Members;
use crate::lang::target::{Installed, Source, Target, Work, join};
pub use graph::LockGraph;
pub use known::{LockMemory, part};

/// The lock files that can be read, by their places.
pub const LOCK_FILES: [&str; 5] = [
    "package-lock.json",
    "npm-shrinkwrap.json",
    "pnpm-lock.yaml",
    YARN,
    "bun.lock",
];
/// The one that only Bun can read.
pub const OPAQUE: &str = "bun.lockb";

/// Yarn's, which does not tell all by itself.
pub const YARN: &str = "yarn.lock";

/// Fields by whose names a package, or a lock file of it, tells what it needs.
const NEEDS: [&str; 4] = [
    "dependencies",
    "devDependencies",
    "optionalDependencies",
    "peerDependencies",
];

/// Raised when the same lock file is to be read in another way than before.
const FORMAT: u64 = 1;

/// Why a lock file counts as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It is not what its name says.
    #[error("it cannot be read: {0}")]
    Damaged(String),
    /// It may say what is not known here.
    #[error("version {0} of its format is not known")]
    Version(String),
}

impl Unread {
    fn damaged(what: &dyn Display) -> Self {
        Self::Damaged(what.to_string())
    }

    fn version(version: &dyn Display) -> Self {
        Self::Version(version.to_string())
    }
}

/// What a package of the workspace says that it needs, for the lock file that does not say so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Its directory.
    pub dir: String,
    /// Its name.
    pub name: String,
    /// Names, and which versions will do.
    pub needs: Vec<(String, String)>,
    /// Names for which other versions are taken than are asked for.
    pub overridden: Vec<String>,
}

/// What is remembered of a lock file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Locked {
    /// Its content, and how it was read.
    text: Hash,
    /// The files of packages that count as well, where they do: of all, or of the root.
    packages: Option<(bool, Hash)>,
    /// Of what each package resolves to, by directory.
    digests: BTreeMap<Box<str>, Hash>,
    /// What to say of one that cannot be read.
    warning: Option<Box<str>>,
}

/// Reads the `text` of the lock file `name` in a workspace of these packages.
///
/// # Errors
/// When it is damaged, or of a version that is not known.
pub fn read(name: &str, text: &str, members: &[Needs]) -> Result<LockGraph, Unread> {
    let text = text.trim_start_matches('\u{feff}');
    match name {
        "pnpm-lock.yaml" => pnpm::read(text),
        "bun.lock" => bun::read(text),
        YARN if is_classic(name, text) => classic::read(text, members),
        YARN if text.lines().any(|line| line.starts_with(berry::MARK)) => {
            berry::read(text, members)
        }
        YARN => Err(Unread::damaged(&"it is none of Yarn's")),
        _ => npm::read(text),
    }
}

/// Whether it is one of Yarn 1, which does not say what packages of the workspace need.
fn is_classic(name: &str, text: &str) -> bool {
    let mut head = text.lines().take(5);
    name == YARN && head.any(|line| line.trim_end() == classic::MARK)
}

/// Looks at the lock files of a workspace.
pub struct Locks<'a> {
    /// Stat cache.
    pub files: &'a FileTable,
    /// The packages of the workspace.
    pub members: &'a Members,
    /// Keeps what lock files said, to tell later what changed.
    pub known: &'a LockMemory,
}

impl Locks<'_> {
    /// Has the keys of `scripts` hold what lock files say of what their packages resolve to. Returns what a person should know.
    pub fn add(
        &self,
        memory: &mut BTreeMap<Box<str>, Locked>,
        scripts: &mut [Arc<Target>],
    ) -> Vec<String> {
        let mut told = Vec::new();
        for name in LOCK_FILES {
            let remembered = memory.remove(name);
            let Some(locked) = self.locked(name, remembered) else {
                continue;
            };
            for script in &mut *scripts {
                let digest = locked.digests.get(script.label.dir());
                add_to(Arc::make_mut(script), name, digest);
            }
            told.extend(locked.warning.as_deref().map(str::to_owned));
            memory.insert(name.into(), locked);
        }
        if !is_absent(&self.files.fact(OPAQUE)) {
            for script in scripts {
                add_to(Arc::make_mut(script), OPAQUE, None);
            }
        }
        told
    }

    /// What the lock file `name` says now; nothing where there is none.
    fn locked(&self, name: &str, remembered: Option<Locked>) -> Option<Locked> {
        let fact = self.files.fact(name);
        if is_absent(&fact) {
            return None;
        }
        // Of one that nobody may read the scripts say so, when they read it as a source.
        let unread = Hash::new([0; 32]);
        let hash = fact.map_or(unread, |fact| fact.hash);
        let is_same = |it: &Locked| {
            let packages = |(all, known)| self.packages(all) == known;
            it.text == key_of(&hash) && it.packages.is_none_or(packages)
        };
        if let Some(known) = remembered.filter(is_same) {
            return Some(known);
        }
        let text = fs::read_to_string(self.files.root().join(name));
        let text = text.map_err(|error| Unread::damaged(&error));
        let is_classic = text.as_ref().is_ok_and(|text| is_classic(name, text));
        let packages = (name == YARN).then(|| (is_classic, self.packages(is_classic)));
        let hash = text
            .as_ref()
            .map_or(unread, |text| Hash::of(text.as_bytes()));
        let graph = text.and_then(|text| read(name, &text, &self.needs(name, is_classic)));
        let warning = match &graph {
            Err(why @ Unread::Damaged(_)) => Some(format!("warning: {name}: {why}; {WHOLE}")),
            // Nobody has to mend that.
            Ok(_) | Err(Unread::Version(_)) => None,
        };
        let digests = graph.as_ref().map_or(BTreeMap::new(), LockGraph::digests);
        if let Ok(graph) = graph {
            self.known.learn(name, &digests, graph);
        }
        Some(Locked {
            text: key_of(&hash),
            packages,
            digests,
            warning: warning.map(Into::into),
        })
    }

    /// What the lock file `name` would say of the packages here if it had this `text`; nothing where it is not understood.
    pub fn digests(&self, name: &str, text: &str) -> BTreeMap<Box<str>, Hash> {
        let needs = self.needs(name, is_classic(name, text));
        let graph = read(name, text, &needs);
        graph.map_or_else(|_| BTreeMap::new(), |graph| graph.digests())
    }

    /// The files of all packages, or of the root.
    fn packages(&self, all: bool) -> Hash {
        let mut key = KeyWriter::new("zako packages");
        for (_, path) in self.members(all) {
            key.text(&path);
            // Of one that went meanwhile nothing is known.
            if let Ok(fact) = self.files.fact(path.as_str()) {
                key.hash(&fact.hash);
            }
        }
        key.finish()
    }

    /// All packages, or the root, with the paths of their files.
    fn members(&self, all: bool) -> impl Iterator<Item = (&PackageJson, String)> {
        let packages = self.members.members.iter().map(|member| &member.package);
        let packages = packages.filter(move |package| all || package.dir.is_empty());
        packages.map(|package| (package, join(&package.dir, PACKAGE_JSON)))
    }

    /// What all packages, or the root, say that they need, where Yarn's lock file does not say that.
    fn needs(&self, name: &str, all: bool) -> Vec<Needs> {
        let members = self.members(all).filter(|_| name == YARN);
        let members = members.map(|(package, path)| {
            let text = fs::read_to_string(self.files.root().join(path)).unwrap_or_default();
            Needs::of(package, &text)
        });
        members.collect()
    }
}

/// Whether there is no such file: one that cannot be read is one.
fn is_absent(fact: &Result<FileFact, FactError>) -> bool {
    matches!(fact, Err(FactError::Missing | FactError::NotAFile))
}

fn key_of(text: &Hash) -> Hash {
    KeyWriter::new("zako lock file")
        .number(FORMAT)
        .hash(text)
        .finish()
}

/// What follows for a lock file that is not understood.
pub const WHOLE: &str = "every change of it runs the scripts of all packages again";

/// What is to be said of the lock files in a workspace, by their names: nothing of one that is understood.
pub fn survey(root: &Path) -> Vec<(&'static str, Option<String>)> {
    let text = |name: &str| fs::read(root.join(name)).ok();
    let readable = LOCK_FILES.into_iter().filter_map(|name| {
        let text = String::from_utf8(text(name)?).map_err(|error| Unread::damaged(&error));
        let read = text.and_then(|text| read(name, &text, &[]));
        Some((name, read.err().map(|why| why.to_string())))
    });
    let opaque = text(OPAQUE).map(|_| (OPAQUE, Some("only Bun can read it".to_owned())));
    readable.chain(opaque).collect()
}

/// The names of what a package needs, of which a lock file says this; sorted, each once.
fn needed(said: &Value) -> BTreeSet<&str> {
    let fields = NEEDS
        .iter()
        .filter_map(|field| said.get(field)?.as_object());
    fields.flat_map(Map::keys).map(String::as_str).collect()
}

impl Needs {
    /// Those of a package whose file has this `text`; the first of a name counts.
    fn of(package: &PackageJson, text: &str) -> Self {
        let said: Value =
            serde_json::from_str(text.trim_start_matches('\u{feff}')).unwrap_or_default();
        let field = |name: &str| said.get(name).and_then(Value::as_object);
        let mut needs: BTreeMap<String, String> = BTreeMap::new();
        for (name, range) in NEEDS.into_iter().filter_map(field).flatten() {
            let range = range.as_str().unwrap_or_default();
            needs
                .entry(name.clone())
                .or_insert_with(|| range.to_owned());
        }
        let overridden = field("resolutions").into_iter().flatten();
        Self {
            dir: package.dir.clone(),
            name: package.name.clone(),
            needs: needs.into_iter().collect(),
            overridden: overridden.flat_map(|(it, _)| names_in(it)).collect(),
        }
    }
}

/// Of a pattern such as `a/**/@b/c@range`, all that may be the name of a package: one too many does no harm.
fn names_in(pattern: &str) -> Vec<String> {
    let parts = pattern.split('/').map(classic::name_of);
    let parts: Vec<&str> = parts.collect();
    let scoped = parts.windows(2).map(|both| both.join("/"));
    parts
        .iter()
        .map(|part| (*part).to_owned())
        .chain(scoped)
        .collect()
}

/// Has `script` depend on what `lock` says of its package, or on all of `lock`.
fn add_to(script: &mut Target, lock: &str, digest: Option<&Hash>) {
    let Work::Command(command) = &mut script.work else {
        return;
    };
    match (&mut command.in_place, digest) {
        (Some(step), Some(digest)) => step.installed.push(Installed {
            lock: lock.to_owned(),
            digest: *digest.bytes(),
        }),
        _ => script.srcs.push(Source::File(lock.into())),
    }
}

/// What lock files said at another time, by their names: of what each package resolved to, by directory.
pub type Before = BTreeMap<String, BTreeMap<Box<str>, Hash>>;

/// Whether `script` depends on what has changed in the lock file `lock` since `before`.
pub fn concerns(script: &Target, lock: &str, before: &Before) -> bool {
    let Some(step) = script.in_place() else {
        return false;
    };
    let was = |label: &Label| before.get(lock)?.get(label.dir()).copied();
    let mut installed = step.installed.iter();
    match installed.find(|it| it.lock == lock) {
        Some(now) => was(&script.label).is_none_or(|was| *was.bytes() != now.digest),
        // It went, or counts as a whole.
        None => true,
    }
}
