//! Which files describe the targets of packages from elsewhere.
//!
//! Owns the choice: a file of the workspace that the manifest names, or those that came with the package, or what a package has
//! without any. Does not know how they are evaluated.

use std::collections::BTreeMap;
use std::io;

use crate::diagnostic::Diagnostic;
use crate::engine::dirs::{DirTable, Named};
use crate::engine::workspace::Workspace;
use crate::lang::dependency::Dependency;
use crate::lang::label::Label;
use crate::lang::locate::{At, mistake};
use crate::lang::manifest::MANIFEST;
use crate::lang::packages::{Packages, fetched_dir};
use crate::lang::pattern::Pattern;
use crate::lang::rule_use::RuleUse;
use crate::lang::target::Source;
use crate::lang::workspace_file::{PACKAGE_FILE, WorkspaceFile};
use crate::texts::{read_text, what_else};

/// The target of a package that has no build file.
const USUAL_TARGET: &str = "files";

/// Files of the workspace that describe packages from elsewhere, with those packages' directories; and the packages of which
/// none can be read, with the mistake in the manifest. `builds` are the workspace's own build files.
pub fn described(
    workspace: &Workspace,
    builds: &[String],
) -> (BTreeMap<String, String>, Vec<(String, Diagnostic)>) {
    let manifest = &workspace.manifest;
    let mut described = BTreeMap::new();
    let mut mistakes = Vec::new();
    for (name, dependency) in &manifest.dependencies {
        let Dependency::Fetched(fetched) = dependency else {
            continue;
        };
        let Some(path) = &fetched.build_file else {
            continue;
        };
        let problem = if builds.contains(path) || path == PACKAGE_FILE {
            format!(
                "`{path}` is a build file of its own directory, and cannot be that of package `{name}` as well"
            )
        } else if !workspace.root.join(path).is_file() {
            match what_else(&workspace.root.join(path)) {
                None => format!("`build` of dependency `{name}`: there is no file `{path}`"),
                Some(what) => format!("`build` of dependency `{name}`: `{path}` is {what}"),
            }
        } else if described.contains_key(path) {
            format!(
                "`{path}` describes another package already, and cannot describe `{name}` as well"
            )
        } else {
            described.insert(path.clone(), fetched_dir(name));
            continue;
        };
        let at = &manifest.dependency_places[name];
        let text = read_text(&workspace.root.join(MANIFEST)).unwrap_or_default();
        mistakes.push((name.clone(), mistake(at, problem, &text)));
    }
    (described, mistakes)
}

/// Adds to `builds`, those of the workspace, the build files that packages from elsewhere brought with them; those that are missing
/// left none that count.
///
/// # Errors
/// When a directory cannot be listed.
pub fn add_build_files(
    workspace: &Workspace,
    dirs: &mut DirTable,
    builds: &mut Named,
    is_missing: &dyn Fn(&str) -> bool,
) -> io::Result<()> {
    let usual = WorkspaceFile::default().builds;
    for (name, dependency) in &workspace.manifest.dependencies {
        if matches!(dependency, Dependency::Fetched(fetched) if fetched.build_file.is_none())
            && !is_missing(name)
        {
            let found = dirs.expand_named(&fetched_dir(name), &usual, &|_| false)?;
            builds.files.extend(found.files);
            builds.others.extend(found.others);
        }
    }
    Ok(())
}

/// The targets of those directories of the workspace that are packages and of which nothing `is_described` by a build file: of each
/// one all its files.
///
/// # Errors
/// When a directory cannot be listed.
pub fn without_build_file(
    workspace: &Workspace,
    dirs: &mut DirTable,
    is_described: &dyn Fn(&str) -> bool,
) -> io::Result<Vec<RuleUse>> {
    let manifest = &workspace.manifest;
    let all: Vec<Pattern> = Pattern::parse("**").into_iter().collect();
    let mut uses: Vec<RuleUse> = Vec::new();
    for (name, dir) in Packages::new(&manifest.dependencies).directories() {
        let Ok(label) = Label::new(dir, USUAL_TARGET) else {
            continue;
        };
        let is_known = uses.iter().any(|known| known.label == label);
        if is_described(dir) || is_known || dirs.expand(dir, &all, &[], &|_| false)?.is_empty() {
            continue;
        }
        let files = Source::Glob {
            dir: dir.into(),
            include: all.clone(),
            exclude: Vec::new(),
            ignored: None,
        };
        let at = manifest.dependency_places.get(name);
        uses.push(RuleUse::of_files(
            label,
            at.cloned().unwrap_or_else(|| At::file(MANIFEST)),
            files,
        ));
    }
    Ok(uses)
}
