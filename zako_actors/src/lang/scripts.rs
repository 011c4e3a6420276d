//! Targets out of the scripts of `package.json` files.
//!
//! Owns which scripts become targets, also of packages that cannot be read. Does not know what they depend on (`edges`), which files they read and
//! leave behind (`files`), which lines run other scripts (`runners`), nor the file system: it is given what was read there.
//! Invariants: what a build file calls by the name of a script stands for that script; a script reads its own package, the
//! outputs of what it depends on, and what `foreign` says of the packages that it depends on.

mod edges;
mod files;
mod foreign;
mod runners;
pub mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::gitignore::Ignored;
use super::label::Label;
use super::locate::At;
use super::package_json::{PACKAGE_JSON, PackageJson};
use super::place::sharing;
use super::suggest::did_you_mean;
use super::target::{Command, EnvValue, InPlace, Source, Special, Target, Work, join};
use super::task::{ROOT_PACKAGE, Task, Tasks};
use super::turbo::{TURBO_JSON, TurboTask};
use crate::diagnostic::Diagnostic;
use runners::Runs;
use variables::Manager;

/// A package with what else was read beside it. One that cannot be read has no scripts.
#[derive(Clone, Debug, Default)]
pub struct Member {
    /// Its `package.json`.
    pub package: PackageJson,
    /// Its `.gitignore`; empty when there is none.
    pub gitignore: String,
    /// What its own `turbo.json` says, by names of scripts.
    pub tasks: BTreeMap<String, TurboTask>,
    /// The packages whose `turbo.json` that adds to.
    pub extends: Vec<String>,
    /// Stands for its scripts where they cannot be read. It may have any name then, unless one is known.
    pub stand_in: Option<Label>,
    /// The names of its `tsconfig*.json`: compilers of what depends on it read them.
    pub configs: Vec<String>,
}

/// The packages of one workspace.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// All of them, the root's included when it has a `package.json`.
    pub members: Vec<Member>,
    /// What holds for all.
    pub tasks: Tasks,
    /// The root's `.gitignore`.
    pub gitignore: String,
    /// What runs their scripts.
    pub manager: Manager,
}

/// The name of the target that script `script` becomes: labels have no second colon.
pub fn target_name(script: &str) -> String {
    script.replace([':', '/', ' '], ".")
}

/// Whether `script`, one of `scripts` of a package, runs scripts of others: then it is no step.
pub fn runs_others(scripts: &BTreeMap<String, String>, script: &str) -> bool {
    Runs::of(scripts, script) != Runs::Itself
}

/// What build files describe, as far as scripts have to know.
#[derive(Clone, Debug, Default)]
pub struct Described<'a> {
    /// What each target needs, and whether it leaves something behind.
    pub targets: BTreeMap<&'a Label, (Vec<&'a Label>, bool)>,
    /// Directories whose build file cannot be read: nobody knows what it describes.
    pub unread: BTreeSet<&'a str>,
}

/// What scripts became.
#[derive(Clone, Debug, Default)]
pub struct Scripts {
    /// The targets, in the order of labels.
    pub targets: Vec<Arc<Target>>,
    /// What is wrong with some of them.
    pub mistakes: Vec<Diagnostic>,
    /// What people should know.
    pub warnings: Vec<String>,
    /// How they hang together with all other targets.
    pub links: Links,
}

/// What scripts say of targets that were not known yet.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// What somebody said that all scripts read.
    pub shared: Option<Source>,
    /// Labels that tasks depend on, with whose task it is.
    pub asked: Vec<(Label, Label)>,
}

/// The targets that `all` gives beside those that are `described`.
///
/// # Errors
/// A glob of what every script reads that cannot be read, or that leaves the workspace.
pub fn targets(all: &Members, described: &Described) -> Result<Scripts, Diagnostic> {
    let world = World::new(all, described)?;
    let mut scripts = Scripts::default();
    let mut made: BTreeMap<Label, Target> = BTreeMap::new();
    for (index, member) in all.members.iter().enumerate() {
        scripts.warnings.extend(world.outside(index));
        if described.unread.contains(&*member.package.dir) {
            continue;
        }
        let extended = world.check_extended(member);
        let mut own = Vec::new();
        for script in member.package.scripts.keys() {
            if let Some(label) = world.label(index, script)
                && !described.targets.contains_key(&label)
            {
                let target = extended.clone();
                let target = target.and_then(|()| world.target(index, script, label.clone()));
                own.push(target.unwrap_or_else(|mistake| {
                    scripts.mistakes.push(mistake.about(&label));
                    world.unread(index, script, label)
                }));
            }
            scripts.warnings.extend(world.half_run(index, script));
        }
        note_sharing(&mut own);
        made.extend(own.into_iter().map(|target| (target.label.clone(), target)));
    }
    world.add_foreign_sources(&mut made);
    scripts.links = world.links(&made);
    scripts.targets = made.into_values().map(Arc::new).collect();
    Ok(scripts)
}

struct World<'a> {
    all: &'a Members,
    described: &'a Described<'a>,
    by_name: BTreeMap<&'a str, usize>,
    by_dir: BTreeMap<&'a str, usize>,
    /// Whether some cannot be read.
    has_stand_ins: bool,
    /// Those whose name is not known either.
    nameless: Vec<usize>,
    /// Where packages lie, sorted.
    dirs: Vec<&'a str>,
    /// Directories that packages lie below.
    above: Arc<[String]>,
    /// What every script reads.
    shared: Source,
    /// What packages say that is ignored in them.
    ignored: Arc<Ignored>,
    /// The scripts of each that are run for themselves, sorted.
    steps: Vec<Vec<&'a str>>,
}

impl<'a> World<'a> {
    fn new(all: &'a Members, described: &'a Described<'a>) -> Result<Self, Diagnostic> {
        let names = all.members.iter().enumerate();
        let by_name = names
            .filter(|(_, member)| !member.package.name.is_empty())
            .map(|(index, member)| (member.package.name.as_str(), index))
            .collect();
        let dirs = all.members.iter().map(|member| member.package.dir.as_str());
        let by_dir: BTreeMap<&str, usize> = dirs.zip(0..).collect();
        let dirs: Vec<&str> = by_dir.keys().copied().collect();
        let mut ignored = Ignored::default();
        for member in &all.members {
            let dir = &*member.package.dir;
            ignored.add(dir, &member.gitignore, files::said_below(all, &by_dir, dir));
        }
        let above: BTreeSet<&str> = dirs
            .iter()
            .flat_map(|dir| dir.match_indices('/').map(|(end, _)| &dir[..end]))
            .chain([""])
            .collect();
        let members = all.members.iter().enumerate();
        let nameless =
            members.filter(|(_, it)| it.stand_in.is_some() && it.package.name.is_empty());
        Ok(Self {
            all,
            described,
            has_stand_ins: all.members.iter().any(|it| it.stand_in.is_some()),
            nameless: nameless.map(|(index, _)| index).collect(),
            by_name,
            by_dir,
            dirs,
            above: above.into_iter().map(str::to_owned).collect(),
            shared: files::shared(&all.tasks.global_inputs)?,
            ignored: Arc::new(ignored),
            steps: all.members.iter().map(steps).collect(),
        })
    }

    fn member(&self, index: usize) -> &'a Member {
        &self.all.members[index]
    }

    /// The packages that `name` may be that of.
    fn named<'n>(&'n self, name: &str) -> &'n [usize] {
        let known = self.by_name.get(name);
        known.map_or(&self.nameless, std::slice::from_ref)
    }

    /// Every package that the `turbo.json` of `member` adds to has to be there.
    fn check_extended(&self, member: &Member) -> Result<(), Diagnostic> {
        let mut extended = member.extends.iter();
        match extended.find(|name| self.named(name).is_empty()) {
            None => Ok(()),
            Some(unknown) => {
                let hint = did_you_mean(unknown, self.by_name.keys().copied());
                Err(Diagnostic::error(format!(
                    "{}: it extends `{unknown}`, but there is no such package{hint}",
                    join(&member.package.dir, TURBO_JSON)
                )))
            }
        }
    }

    /// The target of a script of which no more is known.
    fn unread(&self, index: usize, script: &str, label: Label) -> Target {
        let test = is_named_test(script);
        Target {
            at: At::file(join(&self.member(index).package.dir, PACKAGE_JSON)),
            srcs: Vec::new(),
            deps: Vec::new(),
            work: Work::Unfinished { test },
            manual: !self.is_usual(index, script),
            rule: None,
            label,
        }
    }

    fn task(&self, index: usize, script: &str) -> Task {
        let member = self.member(index);
        let name = if member.package.dir.is_empty() {
            ROOT_PACKAGE
        } else {
            &member.package.name
        };
        let extended = member
            .extends
            .iter()
            .filter_map(|name| self.by_name.get(name.as_str()));
        let extended = extended.filter_map(|other| self.member(*other).tasks.get(script));
        let said = extended.chain(member.tasks.get(script));
        let task = said.fold(None, |task: Option<Task>, own| {
            Some(own.over(task.as_ref().or(self.all.tasks.said(name, script))))
        });
        task.unwrap_or_else(|| self.all.tasks.of(name, script))
    }

    /// The label of what stands for a script: what a build file calls so, or the script where it becomes a target.
    fn label(&self, index: usize, script: &str) -> Option<Label> {
        let package = &self.member(index).package;
        let label = Label::new(&package.dir, &target_name(script)).ok()?;
        let is_step = self.steps[index].binary_search(&script).is_ok();
        (is_step || self.described.targets.contains_key(&label)).then_some(label)
    }

    /// What to say of a script that is no target because it runs others, and does something else besides.
    fn half_run(&self, index: usize, script: &str) -> Option<String> {
        let package = &self.member(index).package;
        if !matches!(script, "build" | "test") || self.steps[index].contains(&script) {
            return None;
        }
        let Runs::Both { others, own } = Runs::of(&package.scripts, script) else {
            return None;
        };
        Some(format!(
            "warning: {}: `{script}` is no target, because `{others}` in it runs scripts that are targets themselves; \
                 nor is `{own}` run then: give it a script of its own",
            join(&package.dir, PACKAGE_JSON)
        ))
    }

    fn target(&self, index: usize, script: &str, label: Label) -> Result<Target, Diagnostic> {
        let member = self.member(index);
        let package = &member.package;
        let task = self.task(index, script);
        let dir = &package.dir;
        // One that many packages share is told once; then it says of whom.
        let mistake = |what: String| {
            Diagnostic::error(format!("script `{script}`: {what}"))
                .with_help(format!("this is about {label}"))
        };
        let (outs, out_exclude) = self.outputs(member, script, &task).map_err(mistake)?;
        let read = self.sources(index, &task).map_err(mistake)?;
        let (mut srcs, reads_usual) = (read.named, read.usual.is_some());
        let named = srcs.len();
        srcs.extend(read.usual);
        srcs.push(self.shared.clone());
        let is_test = !task.persistent && is_named_test(script);
        let mut env: BTreeMap<String, EnvValue> = task
            .env
            .iter()
            .map(|name| (name.clone(), EnvValue::pass(name)))
            .collect();
        env.extend(variables::of_script(package, script, &self.all.manager));
        let path = join(dir, PACKAGE_JSON);
        Ok(Target {
            at: At::file(path),
            deps: self.dependencies(index, &task, &label).map_err(mistake)?,
            srcs,
            work: Work::Command(Command {
                argv: vec!["sh".into(), "-c".into(), variables::line(package, script)],
                dir: dir.into(),
                outs,
                env,
                special: Special {
                    test_retries: is_test.then_some(0),
                    network: self.all.tasks.opens_network(package, script),
                    ..Special::default()
                }
                .into(),
                in_place: Some(Box::new(InPlace {
                    bins: bins(dir),
                    above: self.above.clone(),
                    inner: self.inner(dir).map(|below| join(dir, below)).collect(),
                    out_exclude,
                    named,
                    reads_usual,
                    shared_env: self.all.tasks.global_env.clone(),
                    shared_open_env: self.all.tasks.global_untracked_env.clone(),
                    shares: false,
                    open_env: task.untracked_env.clone(),
                    installed: Vec::new(),
                    cached: task.cache,
                    persistent: task.persistent,
                })),
            }),
            rule: None,
            manual: task.persistent
                || !self.is_usual(index, script)
                || self.is_left_to_people(index, script),
            label,
        })
    }

    /// The other packages within `dir`, from there.
    fn inner(&self, dir: &str) -> impl Iterator<Item = &'a str> {
        let prefix = if dir.is_empty() {
            String::new()
        } else {
            format!("{dir}/")
        };
        let from = self.dirs.partition_point(|other| **other < *prefix);
        let from = self.dirs[from..].iter();
        from.map_while(move |other| other.strip_prefix(&*prefix))
            .filter(|below| !below.is_empty())
    }

    /// Whether it is run where nobody names it. What tests a package is `test`, which runs what else it wants: others beside it
    /// may serve a page, or write snapshots.
    fn is_usual(&self, index: usize, script: &str) -> bool {
        let has_test = || self.steps[index].binary_search(&"test").is_ok();
        matches!(script, "build" | "test") || (is_named_test(script) && !has_test())
    }

    /// Whether Turborepo would not run it: of the root, beside other packages, it runs what its file names.
    fn is_left_to_people(&self, index: usize, script: &str) -> bool {
        let name = || format!("{ROOT_PACKAGE}#{script}");
        self.all.tasks.of_turbo
            && is_root(self.member(index))
            && self.all.members.len() > 1
            && !self.all.tasks.by_name.contains_key(&name())
    }
}

fn is_named_test(script: &str) -> bool {
    script == "test" || script.starts_with("test:")
}

/// The scripts of a package that are run for themselves.
fn steps(member: &Member) -> Vec<&str> {
    let scripts = &member.package.scripts;
    let is_step = |script: &&str| {
        let is_hook = ["pre", "post"].iter().any(|hook| {
            let main = script.strip_prefix(hook);
            main.is_some_and(|main| scripts.contains_key(main))
        });
        let left_out = member.tasks.get(*script);
        !is_hook && !left_out.is_some_and(TurboTask::is_left_out) && !runs_others(scripts, script)
    };
    scripts.keys().map(String::as_str).filter(is_step).collect()
}

/// Has those of one package know that write where others do.
fn note_sharing(targets: &mut [Target]) {
    let commands: Vec<_> = targets.iter().flat_map(Target::command).collect();
    let shares = sharing(&commands);
    let with_commands = targets.iter_mut().filter(|it| it.command().is_some());
    for (target, shares) in with_commands.zip(shares) {
        if let Work::Command(Command {
            in_place: Some(step),
            ..
        }) = &mut target.work
        {
            step.shares = shares;
        }
    }
}

fn is_root(member: &Member) -> bool {
    member.package.dir.is_empty()
}

/// Where the programs of installed packages are, nearest first, as npm puts them on PATH.
fn bins(dir: &str) -> Vec<String> {
    let mut bins = Vec::new();
    let mut at = dir;
    loop {
        bins.push(join(at, "node_modules/.bin"));
        if at.is_empty() {
            return bins;
        }
        at = at.rsplit_once('/').map_or("", |(above, _)| above);
    }
}

#[cfg(test)]
mod tests;
