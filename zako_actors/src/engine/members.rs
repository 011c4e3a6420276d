//! The packages of an npm, pnpm, Yarn or Bun workspace, as they lie on disk.
//!
//! Owns finding and reading them. Does not know what their scripts become.
//! Invariant: a workspace without packages costs two looks at the disk.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;

use super::dirs::DirTable;
use super::load::LoadError;
use super::workspace::Workspace;
use crate::diagnostic::Diagnostic;
use crate::lang::manifest::MANIFEST;
use crate::lang::package_json::{PACKAGE_JSON, PNPM_WORKSPACE, PackageJson, pnpm_packages};
use crate::lang::pattern::Pattern;
use crate::lang::scripts::variables::Manager;
use crate::lang::scripts::{Member, Members};
use crate::lang::suggest::{did_you_mean, nearest};
use crate::lang::target::join;
use crate::lang::task::{Tasks, is_named};
use crate::lang::turbo::{TURBO_FILES, TURBO_JSON, Turbo};

/// Files by which package managers are told apart; npm is the one that is left.
const MANAGED: [(&str, &str); 5] = [
    (PNPM_WORKSPACE, "pnpm"),
    ("pnpm-lock.yaml", "pnpm"),
    ("yarn.lock", "yarn"),
    ("bun.lock", "bun"),
    ("bun.lockb", "bun"),
];

/// Reads them; `None` when neither a `package.json` nor a list of pnpm's lies in the root, or scripts are not wanted.
///
/// # Errors
/// The mistakes in what was read.
pub fn read(workspace: &Workspace, dirs: &mut DirTable) -> Result<Option<Members>, LoadError> {
    if workspace.manifest.settings.scripts == Some(false) {
        return Ok(None);
    }
    let reader = Reader { workspace };
    let root = reader.package("")?;
    let listed = reader.text(PNPM_WORKSPACE)?;
    if root.is_none() && listed.is_none() {
        return Ok(None);
    }
    let root = root.unwrap_or_default();
    let mut globs = root.workspaces.clone().unwrap_or_default();
    if let Some(text) = listed {
        globs.extend(pnpm_packages(&text).map_err(mistake)?);
    }
    let (mut include, mut exclude) = (Vec::new(), Vec::new());
    for glob in &globs {
        let (glob, list) = match glob.strip_prefix('!') {
            Some(glob) => (glob, &mut exclude),
            None => (glob.as_str(), &mut include),
        };
        let glob = glob.trim_start_matches("./").trim_end_matches('/');
        // `.` is the root itself, which is read anyway.
        if glob != "." {
            let pattern = Pattern::parse(&format!("{glob}/{PACKAGE_JSON}"))
                .map_err(|error| mistake(Diagnostic::error(format!("a package glob: {error}"))))?;
            list.push(pattern);
        }
    }
    let paths = dirs.expand("", &include, &exclude, &|_| false)?;
    let mut members = Members {
        tasks: reader.tasks()?,
        gitignore: reader.text(".gitignore")?.unwrap_or_default(),
        manager: reader.manager(&root),
        members: vec![Member {
            package: root,
            ..Member::default()
        }],
    };
    members.members[0].gitignore.clone_from(&members.gitignore);
    for path in paths {
        let Some((dir, _)) = path.rsplit_once('/') else {
            continue;
        };
        if let Some(package) = reader.package(dir)? {
            let Turbo { tasks, extends, .. } = reader.turbo(dir)?.unwrap_or_default();
            members.members.push(Member {
                package,
                gitignore: reader.text(&join(dir, ".gitignore"))?.unwrap_or_default(),
                tasks,
                extends,
            });
        }
    }
    check_networked(&members).map_err(mistake)?;
    Ok(Some(members))
}

/// A name of `script-network` that no script bears would open nothing.
fn check_networked(members: &Members) -> Result<(), Diagnostic> {
    let packages = || members.members.iter().map(|member| &member.package);
    let bears = |text: &str| {
        packages().any(|package| {
            let mut names = package.scripts.keys();
            names.any(|name| is_named(text, package, name))
        })
    };
    let Some(text) = members.tasks.networked.iter().find(|text| !bears(text)) else {
        return Ok(());
    };
    let known: BTreeSet<String> = packages()
        .flat_map(|package| {
            let names = package.scripts.keys();
            names.flat_map(|name| [name.clone(), format!("{}#{name}", package.name)])
        })
        .collect();
    let hint = did_you_mean(text, known.iter().map(String::as_str));
    Err(Diagnostic::error(format!(
        "`script-network` of [settings] in {MANIFEST}: no package has a script `{text}`{hint}"
    )))
}

/// What to say of tasks that no package has, nor any other task needs, and of what tasks need in vain.
pub fn misnamed_tasks(workspace: &Workspace, members: Option<&Members>) -> Vec<String> {
    let manifest = &workspace.manifest;
    let is_wanted = manifest.settings.scripts != Some(false);
    let said = members.map(|members| &members.tasks.by_name);
    let Some(tasks) = manifest.tasks.as_ref().or(said).filter(|_| is_wanted) else {
        return Vec::new();
    };
    let packages = || {
        let members = members.iter().flat_map(|members| &members.members);
        members.map(|member| &member.package)
    };
    let bears = |task: &str| {
        packages().any(|package| {
            let mut names = package.scripts.keys();
            names.any(|name| is_named(task, package, name))
        })
    };
    // A task without a script may be what others wait for: `^name` reaches through it.
    let needs = || {
        let needs = tasks
            .iter()
            .flat_map(|(task, it)| it.depends_on.iter().map(move |on| (task, on)));
        needs.map(|(task, needed)| (task, needed.trim_start_matches('^')))
    };
    let is_needed = |task: &str| needs().any(|(_, needed)| needed == task);
    let known: BTreeSet<&str> = packages()
        .flat_map(|package| package.scripts.keys())
        .map(String::as_str)
        .collect();
    let place = |task: &str| match (manifest.task_places.get(task), &manifest.tasks) {
        (Some(place), _) => place.to_string(),
        (None, Some(_)) => MANIFEST.to_owned(),
        (None, None) => TURBO_JSON.to_owned(),
    };
    let hint = |task: &str| {
        let (package, script) = task.rsplit_once('#').unwrap_or(("", task));
        let nearest = nearest(script, known.iter().copied()).filter(|name| *name != script);
        let nearest = nearest.map(|name| match package {
            "" => format!("; did you mean `{name}`?"),
            _ => format!("; did you mean `{package}#{name}`?"),
        });
        nearest.unwrap_or_else(|| "; correct it or remove it".to_owned())
    };
    let unknown = tasks.keys().filter(|task| !bears(task) && !is_needed(task));
    let unknown = unknown.map(|task| {
        let (place, hint) = (place(task), hint(task));
        format!("warning: {place}: no package has a script `{task}`{hint}")
    });
    let in_vain = needs().filter(|(_, needed)| !bears(needed) && !tasks.contains_key(*needed));
    let in_vain = in_vain.map(|(task, needed)| {
        let (place, hint) = (place(task), hint(needed));
        format!(
            "warning: {place}: `{task}` depends on `{needed}`, but no package has that script{hint}"
        )
    });
    unknown.chain(in_vain).collect()
}

struct Reader<'a> {
    workspace: &'a Workspace,
}

fn mistake(diagnostic: Diagnostic) -> LoadError {
    LoadError::Mistakes(vec![diagnostic])
}

impl Reader<'_> {
    fn text(&self, path: &str) -> Result<Option<String>, LoadError> {
        match fs::read_to_string(self.workspace.root.join(path)) {
            Ok(text) => Ok(Some(text)),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(mistake(Diagnostic::error(format!(
                "cannot read {path}: {error}"
            )))),
        }
    }

    /// What Turborepo is told in a directory.
    fn turbo(&self, dir: &str) -> Result<Option<Turbo>, LoadError> {
        let mut found = None;
        for path in TURBO_FILES.map(|name| join(dir, name)) {
            let Some(text) = self.text(&path)? else {
                continue;
            };
            if found.is_some() {
                let both = format!(
                    "there are both {} and {path}; remove one of them",
                    join(dir, TURBO_JSON)
                );
                return Err(mistake(Diagnostic::error(both)));
            }
            found = Some(Turbo::parse(&path, &text).map_err(mistake)?);
        }
        Ok(found)
    }

    fn package(&self, dir: &str) -> Result<Option<PackageJson>, LoadError> {
        let text = self.text(&join(dir, PACKAGE_JSON))?;
        text.map(|text| PackageJson::parse(dir, &text).map_err(mistake))
            .transpose()
    }

    /// The package manager: the one that the root's `package.json` names, otherwise that whose files are there.
    fn manager(&self, root: &PackageJson) -> Manager {
        let has = |path: &&(&str, _)| self.workspace.root.join(path.0).is_file();
        let by_file = || MANAGED.iter().find(has);
        let named = root.manager.clone();
        named
            .or_else(|| by_file().map(|(_, name)| Manager::of(name)))
            .unwrap_or_default()
    }

    /// What `zako.toml` says, otherwise `turbo.json`, otherwise nothing.
    fn tasks(&self) -> Result<Tasks, LoadError> {
        let manifest = &self.workspace.manifest;
        let mut tasks = match &manifest.tasks {
            Some(by_name) => Tasks {
                by_name: by_name.clone(),
                declared: true,
                ..Tasks::default()
            },
            None => self
                .turbo("")?
                .map_or_else(Tasks::default, Turbo::into_tasks),
        };
        tasks
            .global_inputs
            .extend(manifest.settings.script_inputs.iter().cloned());
        tasks
            .networked
            .clone_from(&manifest.settings.script_network);
        Ok(tasks)
    }
}
