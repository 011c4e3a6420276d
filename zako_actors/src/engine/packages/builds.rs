//! Which files describe the targets of packages from elsewhere.
//!
//! Owns the choice: a file of the workspace that the manifest names, or those that came with the package. Does
//! not know how they are evaluated.

use std::collections::BTreeMap;
use std::{fs, io};

use crate::diagnostic::Diagnostic;
use crate::engine::dirs::DirTable;
use crate::engine::workspace::Workspace;
use crate::lang::dependency::Dependency;
use crate::lang::locate::mistake;
use crate::lang::manifest::MANIFEST;
use crate::lang::packages::fetched_dir;
use crate::lang::workspace_file::{PACKAGE_FILE, WorkspaceFile};

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
            format!("`build` of dependency `{name}`: there is no file `{path}`")
        } else if described.contains_key(path) {
            format!(
                "`{path}` describes another package already, and cannot describe `{name}` as well"
            )
        } else {
            described.insert(path.clone(), fetched_dir(name));
            continue;
        };
        let at = &manifest.dependency_places[name];
        let text = fs::read_to_string(workspace.root.join(MANIFEST)).unwrap_or_default();
        mistakes.push((name.clone(), mistake(at, problem, &text)));
    }
    (described, mistakes)
}

/// Build files that packages from elsewhere brought with them; those that are missing left none that count.
///
/// # Errors
/// When a directory cannot be listed.
pub fn build_files(
    workspace: &Workspace,
    dirs: &mut DirTable,
    is_missing: &dyn Fn(&str) -> bool,
) -> io::Result<Vec<String>> {
    let usual = WorkspaceFile::default().builds;
    let mut paths = Vec::new();
    for (name, dependency) in &workspace.manifest.dependencies {
        if matches!(dependency, Dependency::Fetched(fetched) if fetched.build_file.is_none())
            && !is_missing(name)
        {
            paths.extend(dirs.expand(&fetched_dir(name), &usual, &[], &|_| false)?);
        }
    }
    Ok(paths)
}
