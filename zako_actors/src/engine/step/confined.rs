//! Scripts of packages under `--sandbox strict`: what of the workspace is theirs.
//!
//! Owns the rules. Does not know how anything is confined (`sandbox`), nor how a script becomes a target.
//! Invariants: a script writes in its own package only; of other packages it sees what its key holds and what lies beside
//! that in the same directory, never a package's own directory as a whole, and for Yarn what each says of itself; neither `.zako` nor
//! `.git` is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::engine::record::Input;
use crate::engine::sandbox::Confine;
use crate::engine::workspace::PRIVATE_DIR;
use crate::lang::label::is_within;
use crate::lang::package_json::PACKAGE_JSON;
use crate::lang::target::{Command, InPlace, Output, join};

/// What package managers leave for programs to find: known by the lock file, of which a key holds what its package needs.
const INSTALLED: [&str; 4] = ["node_modules", ".pnp.cjs", ".pnp.loader.mjs", ".yarn"];
/// Yarn's settings, its lock file, and what that says since Yarn 2.
const YARN_SETTINGS: &str = ".yarnrc.yml";
const YARN_LOCK: &str = "yarn.lock";
const BERRY: &str = "\n__metadata:";
/// What is nobody's source.
const PRIVATE: [&str; 2] = [PRIVATE_DIR, ".git"];

/// Opens to a script of the workspace at `root`, with these inputs, what it may touch there.
pub fn open(
    confine: &mut Confine,
    root: &Path,
    (command, step): (&Command, &InPlace),
    inputs: &[Input],
) {
    let own = &command.dir;
    let inner = |path: &str| step.inner.iter().any(|dir| is_within(path, dir));
    let paths = inputs.iter().map(|input| &*input.path);
    let locks = step.installed.iter().map(|it| it.lock.as_str());
    let paths = paths.chain(locks);
    let others = paths.filter(|path| !is_within(path, own) || inner(path));
    confine.show(places(root, (own, &step.above), others));
    if is_yarn_berry(root) {
        confine.show(project_of_yarn(root, &step.above));
    }
    confine.write.push(root.join(own));
    let private = PRIVATE.iter().copied().filter(|_| own.is_empty());
    let hidden = step.inner.iter().map(String::as_str).chain(private);
    let hidden = hidden.map(|dir| root.join(dir));
    confine.hide = hidden.filter(|dir| dir.is_dir()).collect();
    if !confine.hide.is_empty() {
        let trees = command.outs.iter().filter_map(|out| match out {
            Output::Tree(dir) => Some(root.join(dir)),
            Output::File(_) | Output::Glob(_) => None,
        });
        confine.make = trees.collect();
    }
}

/// What a script of the package in `own` reads beyond that directory, where `others` are its inputs there.
fn places<'a>(
    root: &Path,
    (own, above_packages): (&str, &[String]),
    others: impl Iterator<Item = &'a str>,
) -> BTreeSet<PathBuf> {
    let mut places = BTreeSet::new();
    let mut packages: BTreeSet<&str> = above(own).collect();
    let mut package_of: BTreeMap<&str, &str> = BTreeMap::new();
    for path in others {
        let dir = parent(path);
        let package = *package_of.entry(dir).or_insert_with(|| {
            let is_package = |dir: &&str| root.join(join(dir, PACKAGE_JSON)).is_file();
            above(dir).find(is_package).unwrap_or_default()
        });
        packages.insert(package);
        // A package's directory holds its sources and much else, and one above it other packages; any other that holds an
        // input is shown as a whole.
        let is_shared = dir == package || above_packages.iter().any(|above| above == dir);
        places.insert(root.join(if is_shared { path } else { dir }));
    }
    for package in packages {
        let installed = INSTALLED.map(|name| root.join(join(package, name)));
        places.extend(installed.into_iter().filter(|path| path.exists()));
        places.extend(notes_of_compilers(&root.join(package)));
    }
    places
}

/// By these TypeScript's compiler knows that a project that its own refers to is up to date; they are nobody's sources.
fn notes_of_compilers(package: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(package).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let is_note = |path: &PathBuf| path.extension().is_some_and(|it| it == "tsbuildinfo");
    paths.filter(is_note).collect()
}

/// Whether the package manager is a Yarn that looks at the whole project before it runs anything.
fn is_yarn_berry(root: &Path) -> bool {
    root.join(YARN_SETTINGS).is_file()
        || fs::read_to_string(root.join(YARN_LOCK)).is_ok_and(|text| text.contains(BERRY))
}

/// What such a Yarn has to find, to know which package it is in: what every package says of itself, and its own settings. None
/// of it is in a key but for the lock file.
fn project_of_yarn(root: &Path, above_packages: &[String]) -> Vec<PathBuf> {
    let own = [YARN_SETTINGS, YARN_LOCK, PACKAGE_JSON];
    let dirs = above_packages.iter().map(|above| root.join(above));
    let entries = dirs.flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
    let packages = entries.map(|entry| entry.path().join(PACKAGE_JSON));
    let all = own.map(|name| root.join(name)).into_iter().chain(packages);
    all.filter(|path| path.is_file()).collect()
}

/// `dir` and all directories above it, the root last.
fn above(dir: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(dir), |dir| (!dir.is_empty()).then(|| parent(dir)))
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// Said when a confined script fails.
pub const HINT: &str = "\nnote: it ran confined to its package, what that depends on and node_modules (--sandbox strict); \
    --sandbox warn names what it reads undeclared, which `script-inputs` in [settings] of zako.toml declares; `script-network` \
    there opens the network to it";
