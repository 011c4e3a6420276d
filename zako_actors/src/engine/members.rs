//! The packages of an npm, pnpm, Yarn or Bun workspace, as they lie on disk.
//!
//! Owns finding and reading them, and what stands for those that cannot be read. Does not know what their scripts become.
//! Invariant: a workspace without packages costs two looks at the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use rustc_hash::FxHashMap;

use super::dirs::DirTable;
use super::flaws::Broken;
use super::load::LoadError;
use super::workspace::Workspace;
use crate::diagnostic::Diagnostic;
use crate::lang::label::Label;
use crate::lang::manifest::MANIFEST;
use crate::lang::package_json::{
    Meant, PACKAGE_JSON, PNPM_WORKSPACE, PackageJson, name_in, pnpm_packages,
};
use crate::lang::pattern::Pattern;
use crate::lang::scripts::variables::Manager;
use crate::lang::scripts::{Member, Members, runs_others, target_name};
use crate::lang::suggest::{did_you_mean, nearest};
use crate::lang::target::join;
use crate::lang::task::{Tasks, is_label, is_named};
use crate::lang::turbo::{TURBO_FILES, TURBO_JSON, Turbo};
use crate::texts::{self, read_text};

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// The packages; none when neither a `package.json` nor a list of pnpm's lies in the root, or scripts are not wanted.
    pub members: Option<Members>,
    /// What cannot be read of them.
    pub broken: Vec<Broken>,
}

impl Found {
    /// Nothing is known but what is wrong with `path`, a file of the root that says which packages there are, or what holds for all.
    pub fn none(path: &str, mistake: Diagnostic) -> Result<Self, LoadError> {
        let broken = Broken::below(path, path, "", vec![mistake]).map_err(LoadError::Mistakes)?;
        Ok(Self {
            members: None,
            broken: vec![broken],
        })
    }
}

const GITIGNORE: &str = ".gitignore";

/// Files by which package managers are told apart; npm is the one that is left.
const MANAGED: [(&str, &str); 5] = [
    (PNPM_WORKSPACE, "pnpm"),
    ("pnpm-lock.yaml", "pnpm"),
    ("yarn.lock", "yarn"),
    ("bun.lock", "bun"),
    ("bun.lockb", "bun"),
];

/// Reads them.
///
/// # Errors
/// When a file or directory cannot be read, and mistakes in `zako.toml`.
pub fn read(workspace: &Workspace, dirs: &mut DirTable) -> Result<Found, LoadError> {
    if workspace.manifest.settings.scripts == Some(false) {
        return Ok(Found::default());
    }
    let reader = Reader { workspace };
    let root = match reader.package("") {
        Ok(root) => root,
        Err(wrong) => return Found::none(PACKAGE_JSON, *wrong.mistake),
    };
    let listed = match reader.text(PNPM_WORKSPACE) {
        Ok(listed) => listed,
        Err(mistake) => return Found::none(PNPM_WORKSPACE, mistake),
    };
    if root.is_none() && listed.is_none() {
        return Ok(Found::default());
    }
    let root = root.unwrap_or_default();
    let mut globs = root.workspaces.clone().unwrap_or_default();
    if let Some(text) = &listed {
        match pnpm_packages(text) {
            Ok(more) => globs.extend(more),
            Err(mistake) => return Found::none(PNPM_WORKSPACE, mistake),
        }
    }
    let tasks = match reader.tasks() {
        Ok(tasks) => tasks,
        Err(mistake) => return Found::none(TURBO_JSON, mistake),
    };
    let paths = match patterns(&globs) {
        Ok((include, exclude)) => dirs.expand("", &include, &exclude, &|_| false)?,
        Err(mistake) => {
            let has_list = listed.is_some();
            let path = if has_list {
                PNPM_WORKSPACE
            } else {
                PACKAGE_JSON
            };
            return Found::none(path, mistake);
        }
    };
    let gitignore = match reader.gitignore("") {
        Ok(gitignore) => gitignore,
        Err(mistake) => return Found::none(GITIGNORE, mistake),
    };
    let config: Vec<Pattern> = Pattern::parse("tsconfig*.json").into_iter().collect();
    let mut members = Members {
        tasks,
        gitignore,
        manager: reader.manager(&root),
        members: vec![Member {
            package: root,
            ..Member::default()
        }],
    };
    members.members[0].gitignore.clone_from(&members.gitignore);
    let mut broken = Vec::new();
    for path in paths {
        if let Some((dir, _)) = path.rsplit_once('/')
            && let Some(mut member) = reader.member(dir, &mut broken)?
        {
            member.configs = configs(dirs, dir, &config)?;
            members.members.push(member);
        }
    }
    members.members[0].configs = configs(dirs, "", &config)?;
    reader.follow_aliases(&mut members.members);
    if let Err(mistake) = reader.check_names(&members.members[1..]) {
        broken.extend(Found::none(PACKAGE_JSON, mistake)?.broken);
        return Ok(Found {
            members: None,
            broken,
        });
    }
    if broken.is_empty() {
        check_networked(&members).map_err(mistake)?;
    }
    Ok(Found {
        members: Some(members),
        broken,
    })
}

/// Where packages lie by these globs, and where they do not.
fn patterns(globs: &[String]) -> Result<(Vec<Pattern>, Vec<Pattern>), Diagnostic> {
    let (mut include, mut exclude) = (Vec::new(), Vec::new());
    for glob in globs {
        let (glob, list) = match glob.strip_prefix('!') {
            Some(glob) => (glob, &mut exclude),
            None => (glob.as_str(), &mut include),
        };
        let glob = glob.trim_start_matches("./").trim_end_matches('/');
        // `.` is the root itself, which is read anyway.
        if glob != "." {
            let pattern = Pattern::parse(&format!("{glob}/{PACKAGE_JSON}"))
                .map_err(|error| Diagnostic::error(format!("a package glob: {error}")))?;
            list.push(pattern);
        }
    }
    Ok((include, exclude))
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
    let text = read_text(&root.join(&file)).ok()?;
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

/// A `package.json` that cannot be read.
struct Unread {
    /// Its name, as far as it stands there.
    name: Option<String>,
    mistake: Box<Diagnostic>,
}

fn mistake(diagnostic: Diagnostic) -> LoadError {
    LoadError::Mistakes(vec![diagnostic])
}

impl Reader<'_> {
    fn text(&self, path: &str) -> Result<Option<String>, Diagnostic> {
        match read_text(&self.workspace.root.join(path)) {
            Ok(text) => Ok(Some(text)),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(Diagnostic::error(format!("cannot read {path}: {error}"))),
        }
    }

    /// The package in `dir`; where it cannot be read, something among the `broken` stands for it.
    fn member(&self, dir: &str, broken: &mut Vec<Broken>) -> Result<Option<Member>, LoadError> {
        let mut unread = |path: &str, package: PackageJson, mistake: Diagnostic| {
            let found = Broken::new(&join(dir, path), dir, vec![mistake], false);
            let found = found.map_err(LoadError::Mistakes)?;
            let stand_in = Some(found.target.label.clone());
            broken.push(found);
            Ok(Some(Member {
                package,
                stand_in,
                ..Member::default()
            }))
        };
        let package = match self.package(dir) {
            Ok(None) => return Ok(None),
            Ok(Some(package)) => package,
            Err(Unread { name, mistake }) => {
                let package = PackageJson {
                    dir: dir.to_owned(),
                    name: name.unwrap_or_default(),
                    ..PackageJson::default()
                };
                return unread(PACKAGE_JSON, package, *mistake);
            }
        };
        let turbo = self.turbo(dir).map_err(|mistake| (TURBO_JSON, mistake));
        let gitignore = self.gitignore(dir).map_err(|mistake| (GITIGNORE, mistake));
        let (turbo, gitignore) = match (turbo, gitignore) {
            (Ok(turbo), Ok(gitignore)) => (turbo.unwrap_or_default(), gitignore),
            (Err((path, mistake)), _) | (_, Err((path, mistake))) => {
                let package = PackageJson {
                    scripts: BTreeMap::new(),
                    ..package
                };
                return unread(path, package, mistake);
            }
        };
        Ok(Some(Member {
            package,
            gitignore,
            tasks: turbo.tasks,
            extends: turbo.extends,
            stand_in: None,
            configs: Vec::new(),
        }))
    }

    /// What git is to ignore in a directory. Git reads bytes, so what is no text does no harm.
    fn gitignore(&self, dir: &str) -> Result<String, Diagnostic> {
        let path = join(dir, GITIGNORE);
        match texts::read(&self.workspace.root.join(&path)) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(Diagnostic::error(format!("cannot read {path}: {error}"))),
        }
    }

    /// What Turborepo is told in a directory.
    fn turbo(&self, dir: &str) -> Result<Option<Turbo>, Diagnostic> {
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
                return Err(Diagnostic::error(both));
            }
            found = Some(Turbo::parse(&path, &text)?);
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

    fn package(&self, dir: &str) -> Result<Option<PackageJson>, Unread> {
        let unread = |name, mistake| Unread {
            name,
            mistake: Box::new(mistake),
        };
        let text = self.text(&join(dir, PACKAGE_JSON));
        let Some(text) = text.map_err(|mistake| unread(None, mistake))? else {
            return Ok(None);
        };
        let package = PackageJson::parse(dir, &text);
        package
            .map(Some)
            .map_err(|mistake| unread(name_in(&text), mistake))
    }

    /// A dependency names one package. What the root is called is nobody's dependency.
    fn check_names(&self, members: &[Member]) -> Result<(), Diagnostic> {
        let mut known = FxHashMap::default();
        for second in members.iter().map(|member| &member.package) {
            if second.name.is_empty() {
                continue;
            }
            let Some(first) = known.insert(second.name.as_str(), second) else {
                continue;
            };
            let text = |package: &PackageJson| self.text(&join(&package.dir, PACKAGE_JSON));
            let [one, other] = [text(first)?, text(second)?].map(Option::unwrap_or_default);
            let both = PackageJson::both((first, &one), (second, &other));
            return Err(both);
        }
        Ok(())
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
    fn tasks(&self) -> Result<Tasks, Diagnostic> {
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
