//! Targets out of the scripts of `package.json` files.
//!
//! Owns which scripts become targets and what they depend on. Does not know which files they read and
//! leave behind (`files`), nor the file system: it is given what was read there.
//! Invariants: a dependency named by `^task` reaches through packages that lack the task, so that
//! the order is that of the packages; a script reads its own package, the outputs of what it
//! depends on, and what `foreign` says of the packages that it depends on.

mod files;
mod foreign;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::label::Label;
use super::locate::At;
use super::package_json::{PACKAGE_JSON, PackageJson};
use super::suggest::did_you_mean;
use super::target::{Command, EnvValue, InPlace, Source, Special, Target, Work, join};
use super::task::{ROOT_PACKAGE, Task, Tasks};
use super::turbo::{TURBO_JSON, TurboTask};
use crate::diagnostic::Diagnostic;

/// Programs that run scripts themselves: their lines are not steps.
const RUNNERS: [&str; 6] = ["turbo", "nx", "lerna", "zako", "wireit", "moon"];

/// A package with what else was read beside it.
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
}

/// The name of the target that script `script` becomes: labels have no second colon.
pub fn target_name(script: &str) -> String {
    script.replace([':', '/', ' '], ".")
}

/// The targets that `all` gives, in the order of labels.
///
/// # Errors
/// A glob that cannot be read, or that leaves the workspace.
pub fn targets(all: &Members) -> Result<Vec<Arc<Target>>, Diagnostic> {
    let world = World::new(all)?;
    world.check_extended()?;
    let mut made: BTreeMap<Label, Target> = BTreeMap::new();
    for (index, member) in all.members.iter().enumerate() {
        for script in member.package.scripts.keys() {
            if let Some(label) = world.label(index, script) {
                made.insert(label.clone(), world.target(index, script, label)?);
            }
        }
    }
    world.add_foreign_sources(&mut made);
    Ok(made.into_values().map(Arc::new).collect())
}

struct World<'a> {
    all: &'a Members,
    by_name: BTreeMap<&'a str, usize>,
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
        let above: BTreeSet<&str> = dirs
            .flat_map(|dir| dir.match_indices('/').map(|(end, _)| &dir[..end]))
            .chain([""])
            .collect();
        Ok(Self {
            all,
            by_name,
            above: above.into_iter().map(str::to_owned).collect(),
            shared: files::shared(&all.tasks.global_inputs)?,
        })
    }

    fn member(&self, index: usize) -> &'a Member {
        &self.all.members[index]
    }

    /// The packages of this workspace that a package depends on directly.
    fn neighbours(&self, index: usize) -> impl Iterator<Item = usize> {
        let names = self.member(index).package.dependencies.iter();
        names
            .filter_map(|name| self.by_name.get(name.as_str()).copied())
            .filter(move |other| *other != index)
    }

    /// Every package that another one's `turbo.json` adds to has to be there.
    fn check_extended(&self) -> Result<(), Diagnostic> {
        for member in &self.all.members {
            let mut extended = member.extends.iter();
            if let Some(unknown) = extended.find(|name| !self.by_name.contains_key(name.as_str())) {
                let hint = did_you_mean(unknown, self.by_name.keys().copied());
                return Err(Diagnostic::error(format!(
                    "{}: it extends `{unknown}`, but there is no such package{hint}",
                    join(&member.package.dir, TURBO_JSON)
                )));
            }
        }
        Ok(())
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
        let mistake = |what: String| Diagnostic::error(format!("{label}: {what}"));
        let (outs, out_exclude) = self.outputs(member, script, &task).map_err(mistake)?;
        let mut srcs = self.sources(index, &task).map_err(mistake)?;
        srcs.push(self.shared.clone());
        let is_test = task.cache && (script == "test" || script.starts_with("test:"));
        let hooked = |hook: &str| package.scripts.get(&format!("{hook}{script}"));
        let lines = [hooked("pre"), package.scripts.get(script), hooked("post")];
        let lines: Vec<&str> = lines.into_iter().flatten().map(String::as_str).collect();
        let env = task.env.iter().chain(&self.all.tasks.global_env);
        let mut open_env: Vec<String> = task.untracked_env.clone();
        open_env.extend(self.all.tasks.global_untracked_env.iter().cloned());
        let path = join(dir, PACKAGE_JSON);
        Ok(Target {
            at: At::file(path),
            deps: self.dependencies(index, &task, &label).map_err(mistake)?,
            srcs,
            work: Work::Command(Command {
                argv: vec!["sh".into(), "-c".into(), lines.join(" && ")],
                dir: dir.into(),
                outs,
                env: env
                    .map(|name| (name.clone(), EnvValue::pass(name)))
                    .collect(),
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
                    open_env,
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
        let dirs = self
            .all
            .members
            .iter()
            .map(|other| other.package.dir.as_str());
        dirs.filter_map(move |other| other.strip_prefix(&prefix))
            .filter(|below| !below.is_empty())
    }

    fn dependencies(&self, index: usize, task: &Task, own: &Label) -> Result<Vec<Label>, String> {
        let mut labels = BTreeSet::new();
        for dependency in &task.depends_on {
            if let Some(name) = dependency.strip_prefix('^') {
                self.reach(index, name, &mut BTreeSet::from([index]), &mut labels);
            } else if let Some((package, name)) = dependency.split_once('#') {
                let root = || self.all.members.iter().position(is_root);
                let at = match package {
                    ROOT_PACKAGE => root(),
                    name => self.by_name.get(name).copied(),
                };
                let at = at.ok_or_else(|| {
                    let hint = did_you_mean(package, self.by_name.keys().copied());
                    format!(
                        "it depends on `{dependency}`, but there is no package `{package}`{hint}"
                    )
                })?;
                labels.extend(self.label(at, name));
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
mod tests {
    use super::*;
    use crate::lang::target::Output;
    use crate::lang::turbo::Turbo;
    use serde_json::json;

    fn member(dir: &str, value: serde_json::Value) -> Member {
        Member {
            package: PackageJson::parse(dir, &value.to_string()).unwrap(),
            ..Member::default()
        }
    }

    fn turbo(text: &str) -> Tasks {
        Turbo::parse("turbo.json", text).unwrap().into_tasks()
    }

    fn world() -> Members {
        Members {
            members: vec![
                member(
                    "",
                    json!({"name": "root", "scripts": {"build": "turbo run build"}}),
                ),
                member(
                    "packages/core",
                    json!({"name": "core", "scripts": {"build": "tsc", "test:unit": "vitest", "prebuild": "echo pre"}}),
                ),
                member(
                    "packages/mid",
                    json!({"name": "mid", "dependencies": {"core": "*"}, "scripts": {"lint": "eslint ."}}),
                ),
                member(
                    "apps/web",
                    json!({"name": "web", "devDependencies": {"mid": "*"}, "scripts": {"build": "vite build", "dev": "vite"}}),
                ),
            ],
            gitignore: "dist\nnode_modules\n".into(),
            ..Members::default()
        }
    }

    fn find<'a>(targets: &'a [Arc<Target>], label: &str) -> &'a Target {
        let found = targets
            .iter()
            .find(|target| target.label.to_string() == label);
        found.unwrap_or_else(|| panic!("no {label}"))
    }

    #[test]
    fn scripts_become_targets_in_the_order_of_packages() {
        let all = targets(&world()).unwrap();
        let labels: Vec<String> = all.iter().map(|target| target.label.to_string()).collect();
        assert_eq!(
            labels,
            [
                "//apps/web:build",
                "//apps/web:dev",
                "//packages/core:build",
                "//packages/core:test.unit",
                "//packages/mid:lint",
            ]
        );
        let web = find(&all, "//apps/web:build");
        // `mid` has no build: the dependency reaches through it.
        assert_eq!(web.deps[0].to_string(), "//packages/core:build");
        assert!(!web.manual && find(&all, "//apps/web:dev").manual);
        let core = find(&all, "//packages/core:build");
        assert_eq!(core.command().unwrap().argv[2], "echo pre && tsc");
        assert_eq!(
            core.command().unwrap().outs,
            [Output::Tree("packages/core/dist".into())]
        );
        assert!(find(&all, "//packages/core:test.unit").is_test());
    }

    #[test]
    fn a_package_that_is_not_built_is_read() {
        let all = targets(&world()).unwrap();
        let reads = |label: &str, wanted: &str| {
            find(&all, label)
                .srcs
                .iter()
                .any(|source| matches!(source, Source::Glob { dir, .. } if dir == wanted))
        };
        assert!(reads("//apps/web:build", "packages/mid"));
        assert!(!reads("//apps/web:build", "packages/core"));
        assert!(!reads("//packages/core:build", "packages/mid"));
    }

    #[test]
    fn what_tasks_name_beyond_their_package_is_found_or_a_mistake() {
        let of_web = |inputs: &[&str], outputs: &[&str]| {
            let task = json!({ "inputs": inputs, "outputs": outputs });
            let text = json!({ "tasks": { "web#build": task } }).to_string();
            let tasks = turbo(&text);
            targets(&Members { tasks, ..world() })
        };
        let inputs = [
            "$TURBO_DEFAULT$",
            "$TURBO_ROOT$/base.json",
            "../../shared/**",
            "!../../shared/old/**",
            "./src/../conf",
        ];
        let made = of_web(&inputs, &["../../site/**", "$TURBO_ROOT$/report.txt"]).unwrap();
        let web = find(&made, "//apps/web:build");
        let outs = ["site", "report.txt"].map(|tree| Output::Tree(tree.into()));
        assert_eq!(web.command().unwrap().outs, outs);
        let texts = |wanted: &str| {
            let found = web.srcs.iter().filter_map(|source| match source {
                Source::Glob {
                    dir,
                    include,
                    exclude,
                } if dir == wanted => Some([include, exclude]),
                _ => None,
            });
            let patterns = found.flatten().flatten();
            patterns.map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(
            texts("").starts_with(&["base.json", "shared/**", "shared/old/**"].map(String::from))
        );
        assert!(texts("apps/web").contains(&"conf".to_owned()));
        for (input, output, said) in [
            (
                "../../../x",
                "dist",
                "input `../../../x` leaves the workspace",
            ),
            ("/etc/x", "dist", "input `/etc/x` leaves the workspace"),
            ("a[", "dist", "glob `a[`"),
            (
                "x",
                "../../../out",
                "output `../../../out` leaves the workspace",
            ),
            ("x", "..", "output `..` would hold the package itself"),
            ("x", "**", "output `**` would hold the package itself"),
        ] {
            let error = of_web(&[input], &[output]).unwrap_err().message;
            assert!(
                error.starts_with("//apps/web:build: ") && error.contains(said),
                "{error}"
            );
        }
        let text = r#"{"tasks": {"build": {"dependsOn": ["croe#build"]}}}"#;
        let tasks = turbo(text);
        let error = targets(&Members { tasks, ..world() }).unwrap_err().message;
        assert!(
            error.contains("no package `croe`; did you mean `core`?"),
            "{error}"
        );
        let mut all = world();
        all.tasks.global_inputs = vec!["../x".to_owned()];
        let error = targets(&all).unwrap_err().message;
        assert!(error.contains("`../x` leaves the workspace"), "{error}");
    }

    #[test]
    fn tasks_say_what_is_left_behind_and_passed_on() {
        let mut all = world();
        all.tasks = turbo(
            r#"{"globalEnv": ["CI"], "tasks": {"build": {"dependsOn": ["^build"], "outputs": ["out/**", "!out/tmp/**"], "env": ["MODE"]},
                "web#build": {"dependsOn": ["core#build"], "cache": false}}}"#,
        );
        let targets = targets(&all).unwrap();
        let core = find(&targets, "//packages/core:build").command().unwrap();
        assert_eq!(core.outs, [Output::Tree("packages/core/out".into())]);
        assert!(core.env.contains_key("CI") && core.env.contains_key("MODE"));
        assert_eq!(core.in_place.as_ref().unwrap().out_exclude.len(), 1);
        let web = find(&targets, "//apps/web:build");
        assert_eq!(web.deps[0].to_string(), "//packages/core:build");
        assert!(!web.manual, "it is built, in each build anew");
    }
}
