//! Targets out of the scripts of `package.json` files.
//!
//! Owns which scripts become targets and what they depend on, and what depends on a package that cannot be read. Does not know which files they read and
//! leave behind (`files`), nor the file system: it is given what was read there.
//! Invariants: a dependency named by `^task` reaches through packages that lack the task, so that
//! the order is that of the packages; a script reads its own package, the outputs of what it
//! depends on, and what `foreign` says of the packages that it depends on.

mod files;
mod foreign;
pub mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::label::Label;
use super::locate::At;
use super::package_json::{PACKAGE_JSON, PackageJson};
use super::place::sharing;
use super::suggest::did_you_mean;
use super::target::{Command, EnvValue, InPlace, Source, Special, Target, Work, join};
use super::task::{ROOT_PACKAGE, Task, Tasks};
use super::turbo::{TURBO_JSON, TurboTask};
use crate::diagnostic::Diagnostic;
use variables::Manager;

/// Programs that run scripts themselves: their lines are not steps.
const RUNNERS: [&str; 6] = ["turbo", "nx", "lerna", "zako", "wireit", "moon"];

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
}

/// What scripts become.
#[derive(Clone, Debug, Default)]
pub struct Scripts {
    /// The targets, in the order of labels.
    pub targets: Vec<Arc<Target>>,
    /// What is wrong with some of them.
    pub mistakes: Vec<Diagnostic>,
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

/// The targets that `all` gives.
///
/// # Errors
/// A glob of what every script reads that cannot be read, or that leaves the workspace.
pub fn targets(all: &Members) -> Result<Scripts, Diagnostic> {
    let world = World::new(all)?;
    let mut made: BTreeMap<Label, Target> = BTreeMap::new();
    let mut mistakes = Vec::new();
    for (index, member) in all.members.iter().enumerate() {
        let extended = world.check_extended(member);
        let mut own = Vec::new();
        for script in member.package.scripts.keys() {
            let Some(label) = world.label(index, script) else {
                continue;
            };
            let target = extended.clone();
            let target = target.and_then(|()| world.target(index, script, label.clone()));
            own.push(target.unwrap_or_else(|mistake| {
                mistakes.push(mistake.about(&label));
                world.unread(index, script, label)
            }));
        }
        note_sharing(&mut own);
        made.extend(own.into_iter().map(|target| (target.label.clone(), target)));
    }
    world.add_foreign_sources(&mut made);
    Ok(Scripts {
        targets: made.into_values().map(Arc::new).collect(),
        mistakes,
    })
}

struct World<'a> {
    all: &'a Members,
    by_name: BTreeMap<&'a str, usize>,
    /// Those that cannot be read, and whose name is not known either.
    nameless: Vec<usize>,
    /// Where packages lie, sorted.
    dirs: Vec<&'a str>,
    /// Directories that packages lie below.
    above: Vec<String>,
    /// What every script reads.
    shared: Source,
}

impl<'a> World<'a> {
    fn new(all: &'a Members) -> Result<Self, Diagnostic> {
        let names = all.members.iter().enumerate();
        let by_name = names
            .filter(|(_, member)| !member.package.name.is_empty())
            .map(|(index, member)| (member.package.name.as_str(), index))
            .collect();
        let dirs = all.members.iter().map(|member| member.package.dir.as_str());
        let mut dirs: Vec<&str> = dirs.collect();
        dirs.sort_unstable();
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
            nameless: nameless.map(|(index, _)| index).collect(),
            by_name,
            dirs,
            above: above.into_iter().map(str::to_owned).collect(),
            shared: files::shared(&all.tasks.global_inputs)?,
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

    /// The packages of this workspace that a package depends on directly.
    fn neighbours(&self, index: usize) -> impl Iterator<Item = usize> {
        let names = self.member(index).package.dependencies.iter();
        let all = names.flat_map(|name| self.named(name));
        all.copied().filter(move |other| *other != index)
    }

    /// What stands for the packages that a package depends on, also by others, and that cannot be read.
    fn unread_below(&self, index: usize) -> BTreeSet<Label> {
        let mut seen = BTreeSet::from([index]);
        let mut pending: Vec<usize> = self.neighbours(index).collect();
        let mut labels = BTreeSet::new();
        if self.all.members.iter().all(|it| it.stand_in.is_none()) {
            return labels;
        }
        while let Some(other) = pending.pop() {
            if seen.insert(other) {
                labels.extend(self.member(other).stand_in.clone());
                pending.extend(self.neighbours(other));
            }
        }
        labels
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
        let test = script == "test" || script.starts_with("test:");
        Target {
            at: At::file(join(&self.member(index).package.dir, PACKAGE_JSON)),
            srcs: Vec::new(),
            deps: Vec::new(),
            work: Work::Unfinished { test },
            manual: !(test || script == "build"),
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

    /// The label of a script, when it becomes a target.
    fn label(&self, index: usize, script: &str) -> Option<Label> {
        let package = &self.member(index).package;
        let line = package.scripts.get(script)?;
        let first = line.split_whitespace().next().unwrap_or_default();
        let is_hook = ["pre", "post"].iter().any(|hook| {
            let main = script.strip_prefix(hook);
            main.is_some_and(|main| package.scripts.contains_key(main))
        });
        let left_out = self
            .member(index)
            .tasks
            .get(script)
            .is_some_and(TurboTask::is_left_out);
        if is_hook || left_out || RUNNERS.contains(&first) || first.is_empty() {
            return None;
        }
        Label::new(&package.dir, &target_name(script)).ok()
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
        let mut srcs = self.sources(index, &task).map_err(mistake)?;
        srcs.push(self.shared.clone());
        let is_test = task.cache && (script == "test" || script.starts_with("test:"));
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
            manual: !(is_test || (script == "build" && !task.persistent)),
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

    fn dependencies(&self, index: usize, task: &Task, own: &Label) -> Result<Vec<Label>, String> {
        let mut labels = self.unread_below(index);
        for dependency in &task.depends_on {
            if let Some(name) = dependency.strip_prefix('^') {
                self.reach(index, name, &mut BTreeSet::from([index]), &mut labels);
            } else if let Some((package, name)) = dependency.split_once('#') {
                let root = || self.all.members.iter().position(is_root);
                let found: Vec<usize> = match package {
                    ROOT_PACKAGE => root().into_iter().collect(),
                    name => self.named(name).to_vec(),
                };
                if found.is_empty() {
                    let hint = did_you_mean(package, self.by_name.keys().copied());
                    return Err(format!(
                        "it depends on `{dependency}`, but there is no package `{package}`{hint}"
                    ));
                }
                for at in found {
                    labels.extend(self.label(at, name));
                    labels.extend(self.member(at).stand_in.clone());
                }
            } else {
                labels.extend(self.label(index, dependency));
            }
            if labels.contains(own) {
                return Err(format!("it depends on itself, by `{dependency}`"));
            }
        }
        Ok(labels.into_iter().collect())
    }

    /// The task `name` of every package that `index` depends on; where one lacks it, of those that
    /// it depends on in turn.
    fn reach(
        &self,
        index: usize,
        name: &str,
        seen: &mut BTreeSet<usize>,
        labels: &mut BTreeSet<Label>,
    ) {
        let mut pending: Vec<usize> = self.neighbours(index).collect();
        while let Some(other) = pending.pop() {
            if !seen.insert(other) {
                continue;
            }
            match self.label(other, name) {
                Some(label) => drop(labels.insert(label)),
                None => pending.extend(self.neighbours(other)),
            }
        }
    }
}

/// Has those of one package know that write where others do.
fn note_sharing(targets: &mut [Target]) {
    if targets.len() < 2 {
        return;
    }
    let commands: Vec<_> = targets.iter().flat_map(Target::command).collect();
    let shares = sharing(&commands);
    for (target, shares) in targets.iter_mut().zip(shares) {
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
