//! The packages of an npm, pnpm, Yarn or Bun workspace, as they lie on disk.
//!
//! Owns finding and reading them. Does not know what their scripts become.
//! Invariant: a workspace without packages costs two looks at the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::dirs::DirTable;
use super::load::LoadError;
use super::workspace::Workspace;
use crate::diagnostic::Diagnostic;
use crate::lang::label::Label;
use crate::lang::manifest::MANIFEST;
use crate::lang::package_json::{Meant, PACKAGE_JSON, PNPM_WORKSPACE, PackageJson, pnpm_packages};
use crate::lang::pattern::Pattern;
use crate::lang::scripts::{Member, Members, runs_others, target_name};
use crate::lang::suggest::{did_you_mean, nearest};
use crate::lang::target::join;
use crate::lang::task::{Tasks, is_label, is_named};
use crate::lang::turbo::{TURBO_FILES, TURBO_JSON, Turbo};

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
    let config: Vec<Pattern> = Pattern::parse("tsconfig*.json").into_iter().collect();
    let mut members = Members {
        tasks: reader.tasks()?,
        gitignore: reader.text(".gitignore")?.unwrap_or_default(),
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
                configs: configs(dirs, dir, &config)?,
                gitignore: reader.text(&join(dir, ".gitignore"))?.unwrap_or_default(),
                tasks,
                extends,
            });
        }
    }
    members.members[0].configs = configs(dirs, "", &config)?;
    reader.follow_aliases(&mut members.members);
    check_networked(&members).map_err(mistake)?;
    Ok(Some(members))
}

/// What TypeScript's compiler reads of the package in `dir` when others refer to it.
fn configs(dirs: &mut DirTable, dir: &str, config: &[Pattern]) -> Result<Vec<String>, LoadError> {
    let paths = dirs.expand(dir, config, &[], &|_| false)?;
    let names = paths.iter().filter_map(|path| path.rsplit('/').next());
    Ok(names.map(str::to_owned).collect())
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

/// What to say of tasks that no package has, nor any other task needs, and of what tasks need in vain. A package has what
/// `is_described` by the build file of its directory, too.
pub fn misnamed_tasks(
    workspace: &Workspace,
    members: Option<&Members>,
    is_described: &dyn Fn(&str, &str) -> bool,
) -> Vec<String> {
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
        let name = task.rsplit_once('#').map_or(task, |(_, name)| name);
        packages().any(|package| {
            let has = || package.scripts.contains_key(name) || is_described(&package.dir, name);
            is_named(task, package, name) && has()
        })
    };
    // A task without a script may be what others wait for: `^name` reaches through it.
    let needs = || {
        let needs = tasks
            .iter()
            .flat_map(|(task, it)| it.depends_on.iter().map(move |on| (task, on)));
        let needs = needs.filter(|(_, needed)| !is_label(needed));
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

/// A script as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The `package.json` that has it.
    pub file: String,
    /// Its name there.
    pub name: String,
    /// Whether it runs scripts of other packages, so that it is no target.
    pub runs_others: bool,
    /// Its shell line.
    pub line: String,
}

/// The script of the workspace at `root` whose target would be `label`.
pub fn script_of(root: &Path, label: &Label) -> Option<Script> {
    let file = join(label.dir(), PACKAGE_JSON);
    let text = fs::read_to_string(root.join(&file)).ok()?;
    let scripts = PackageJson::parse(label.dir(), &text).ok()?.scripts;
    let mut all = scripts.iter();
    let (name, line) = all.find(|(name, _)| target_name(name) == label.name())?;
    Some(Script {
        file,
        name: name.clone(),
        runs_others: runs_others(&scripts, name),
        line: line.clone(),
    })
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

    /// Whether an alias of a package that is in the workspace leads there or to a registry depends on the package manager and
    /// its settings: what is installed says it.
    fn follow_aliases(&self, members: &mut [Member]) {
        let packages = members
            .iter()
            .map(|it| (it.package.name.clone(), it.package.dir.clone()));
        let places: BTreeMap<String, String> =
            packages.filter(|(name, _)| !name.is_empty()).collect();
        for Member { package, .. } in members {
            let PackageJson {
                dir, dependencies, ..
            } = package;
            for (name, meant) in dependencies {
                if let Meant::Alias(of) = meant
                    && let Some(place) = places.get(of.as_str())
                    && self.is_linked(dir, name, place)
                {
                    *meant = Meant::Place(place.clone());
                }
            }
        }
    }

    /// Whether what is installed as `name` for the package in `dir` is the directory `place`.
    fn is_linked(&self, dir: &str, name: &str, place: &str) -> bool {
        let mut above = Path::new(dir).ancestors();
        let installed = above.find_map(|above| {
            let path = self
                .workspace
                .root
                .join(above)
                .join("node_modules")
                .join(name);
            fs::canonicalize(path).ok()
        });
        let place = fs::canonicalize(self.workspace.root.join(place)).ok();
        installed.is_some() && installed == place
    }

    fn package(&self, dir: &str) -> Result<Option<PackageJson>, LoadError> {
        let text = self.text(&join(dir, PACKAGE_JSON))?;
        text.map(|text| PackageJson::parse(dir, &text).map_err(mistake))
            .transpose()
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
