//! Targets out of the scripts of `package.json` files.
//!
//! Owns which scripts become targets, what they read, leave behind and depend on. Does not know
//! the file system: it is given what was read there.
//! Invariants: a dependency named by `^task` reaches through packages that lack the task, so that
//! the order is that of the packages; a script reads its own package, the outputs of what it
//! depends on, and what `foreign` says of the packages that it depends on.

mod foreign;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::gitignore::ignored;
use super::label::Label;
use super::locate::At;
use super::package_json::{PACKAGE_JSON, PackageJson};
use super::pattern::Pattern;
use super::target::{Command, EnvValue, InPlace, Output, Source, Target, Work, join};
use super::task::{Task, Tasks};

/// Programs that run scripts themselves: their lines are not steps.
const RUNNERS: [&str; 6] = ["turbo", "nx", "lerna", "zako", "wireit", "moon"];
/// What a `build` leaves behind by custom, where git ignores it.
const USUAL_OUTPUTS: [&str; 6] = ["dist", "build", "out", "lib", ".next", ".output"];
/// Files of the root that scripts of every package read by custom.
const SHARED: [&str; 7] = [
    "package-lock.json",
    "npm-shrinkwrap.json",
    "pnpm-lock.yaml",
    "yarn.lock",
    "bun.lock",
    "bun.lockb",
    "tsconfig*.json",
];

/// A package with what else was read beside it.
#[derive(Clone, Debug, Default)]
pub struct Member {
    /// Its `package.json`.
    pub package: PackageJson,
    /// Its `.gitignore`; empty when there is none.
    pub gitignore: String,
    /// What its own `turbo.json` says.
    pub tasks: Tasks,
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
pub fn targets(all: &Members) -> Vec<Arc<Target>> {
    let world = World::new(all);
    let mut made: BTreeMap<Label, Target> = BTreeMap::new();
    for (index, member) in all.members.iter().enumerate() {
        for script in member.package.scripts.keys() {
            if let Some(label) = world.label(index, script) {
                made.insert(label.clone(), world.target(index, script, label));
            }
        }
    }
    world.add_foreign_sources(&mut made);
    made.into_values().map(Arc::new).collect()
}

struct World<'a> {
    all: &'a Members,
    by_name: BTreeMap<&'a str, usize>,
    /// Directories that packages lie below.
    above: Vec<String>,
}

impl<'a> World<'a> {
    fn new(all: &'a Members) -> Self {
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
        Self {
            all,
            by_name,
            above: above.into_iter().map(str::to_owned).collect(),
        }
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

    fn task(&self, index: usize, script: &str) -> Task {
        let member = self.member(index);
        if let Some(own) = member.tasks.by_name.get(script) {
            return own.clone();
        }
        let name = if member.package.dir.is_empty() {
            "//"
        } else {
            &member.package.name
        };
        self.all.tasks.of(name, script)
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
        if is_hook || RUNNERS.contains(&first) || first.is_empty() {
            return None;
        }
        Label::new(&package.dir, &target_name(script)).ok()
    }

    fn target(&self, index: usize, script: &str, label: Label) -> Target {
        let member = self.member(index);
        let package = &member.package;
        let task = self.task(index, script);
        let dir = &package.dir;
        let (outs, out_exclude) = self.outputs(member, script, &task);
        let mut srcs = vec![self.sources(index, &task)];
        let shared = SHARED.iter().map(|name| (*name).to_owned());
        let global = shared.chain(self.all.tasks.global_inputs.iter().cloned());
        let include: Vec<Pattern> = global
            .filter_map(|text| Pattern::parse(&text).ok())
            .collect();
        srcs.push(Source::Glob {
            dir: String::new(),
            include,
            exclude: Vec::new(),
        });
        let is_test = task.cache && (script == "test" || script.starts_with("test:"));
        let hooked = |hook: &str| package.scripts.get(&format!("{hook}{script}"));
        let lines = [hooked("pre"), package.scripts.get(script), hooked("post")];
        let lines: Vec<&str> = lines.into_iter().flatten().map(String::as_str).collect();
        let env = task.env.iter().chain(&self.all.tasks.global_env);
        let mut open_env: Vec<String> = task.untracked_env.clone();
        open_env.extend(self.all.tasks.global_untracked_env.iter().cloned());
        let path = join(dir, PACKAGE_JSON);
        Target {
            at: At::file(path),
            deps: self.dependencies(index, &task, &label),
            srcs,
            work: Work::Command(Command {
                argv: vec!["sh".into(), "-c".into(), lines.join(" && ")],
                dir: dir.into(),
                outs,
                env: env
                    .map(|name| (name.clone(), EnvValue::pass(name)))
                    .collect(),
                test_retries: is_test.then_some(0),
                network: self.all.tasks.opens_network(&package.name, script),
                in_place: Some(Box::new(InPlace {
                    bins: bins(dir),
                    above: self.above.clone(),
                    inner: self.inner(dir).map(|below| join(dir, below)).collect(),
                    out_exclude,
                    open_env,
                    cached: task.cache,
                    persistent: task.persistent,
                })),
                ..Command::default()
            }),
            rule: None,
            manual: !(is_test || (script == "build" && task.cache && !task.persistent)),
            label,
        }
    }

    /// What a script reads of its own package, or of one that it depends on.
    fn sources(&self, index: usize, task: &Task) -> Source {
        let dir = &self.member(index).package.dir;
        let mut include = Vec::new();
        let mut exclude = self.not_sources(index);
        match &task.inputs {
            None => include.extend(everything()),
            Some(inputs) => {
                for input in inputs {
                    if input == "$TURBO_DEFAULT$" {
                        include.extend(everything());
                    } else if let Some(out) = input.strip_prefix('!') {
                        exclude.extend(Pattern::parse(out));
                    } else {
                        include.extend(Pattern::parse(input));
                    }
                }
                include.extend(Pattern::parse(PACKAGE_JSON));
            }
        }
        Source::Glob {
            dir: dir.clone(),
            include,
            exclude,
        }
    }

    /// Other packages within, and what git ignores.
    fn not_sources(&self, index: usize) -> Vec<Pattern> {
        let dir = &self.member(index).package.dir;
        let mut exclude = ignored(&self.member(index).gitignore);
        if !dir.is_empty() {
            // Names that are not tied to the root hold everywhere below it.
            let everywhere = ignored(&self.all.gitignore).into_iter();
            exclude.extend(everywhere.filter(|pattern| pattern.as_str().starts_with("**/")));
        }
        exclude.extend(Pattern::parse("*.tsbuildinfo"));
        for below in self.inner(dir) {
            exclude.extend(Pattern::parse(&format!("{below}/**")));
        }
        exclude
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

    fn outputs(&self, member: &Member, script: &str, task: &Task) -> (Vec<Output>, Vec<Pattern>) {
        let dir = &member.package.dir;
        let (mut outs, mut exclude) = (Vec::new(), Vec::new());
        match &task.outputs {
            Some(list) => {
                for text in list {
                    let (text, left_out) = match text.strip_prefix('!') {
                        Some(text) => (text, true),
                        None => (text.as_str(), false),
                    };
                    let text = text.trim_start_matches("./").trim_end_matches('/');
                    let whole = join(dir, text);
                    match (Pattern::parse(&whole), whole.strip_suffix("/**")) {
                        (Ok(pattern), _) if left_out => exclude.push(pattern),
                        (Ok(_), Some(tree)) if !Pattern::is_wild(tree) => {
                            outs.push(Output::Tree(tree.into()));
                        }
                        (Ok(pattern), _) if Pattern::is_wild(&whole) => {
                            outs.push(Output::Glob(pattern));
                        }
                        // Without a wildcard it may be a file or a directory.
                        (Ok(_), _) => outs.push(Output::Tree(whole.into())),
                        (Err(_), _) => {}
                    }
                }
            }
            None if script == "build" && task.cache => {
                let rules = ignored(&member.gitignore);
                let shared = ignored(&self.all.gitignore);
                for usual in USUAL_OUTPUTS {
                    let (inside, whole) = (format!("{usual}/x"), join(dir, usual));
                    let probe = format!("{whole}/x");
                    if rules.iter().any(|pattern| pattern.matches(&inside))
                        || shared.iter().any(|pattern| pattern.matches(&probe))
                    {
                        outs.push(Output::Tree(whole.into()));
                    }
                }
            }
            None => {}
        }
        (outs, exclude)
    }

    fn dependencies(&self, index: usize, task: &Task, own: &Label) -> Vec<Label> {
        let mut labels = BTreeSet::new();
        for dependency in &task.depends_on {
            if let Some(name) = dependency.strip_prefix('^') {
                self.reach(index, name, &mut BTreeSet::from([index]), &mut labels);
            } else if let Some((package, name)) = dependency.split_once('#') {
                let at = match package {
                    "//" => self
                        .all
                        .members
                        .iter()
                        .position(|m| m.package.dir.is_empty()),
                    name => self.by_name.get(name).copied(),
                };
                labels.extend(at.and_then(|at| self.label(at, name)));
            } else {
                labels.extend(self.label(index, dependency));
            }
        }
        labels.remove(own);
        labels.into_iter().collect()
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

/// Everything in a package, the dot files of its own directory included.
fn everything() -> impl Iterator<Item = Pattern> {
    ["**", ".*"].into_iter().flat_map(Pattern::parse)
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
    use serde_json::json;

    fn member(dir: &str, value: serde_json::Value) -> Member {
        Member {
            package: PackageJson::parse(dir, &value.to_string()).unwrap(),
            ..Member::default()
        }
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
        let all = targets(&world());
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
        let all = targets(&world());
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
    fn tasks_say_what_is_left_behind_and_passed_on() {
        let mut all = world();
        all.tasks = Tasks::from_turbo(
            "turbo.json",
            r#"{"globalEnv": ["CI"], "tasks": {"build": {"dependsOn": ["^build"], "outputs": ["out/**", "!out/tmp/**"], "env": ["MODE"]},
                "web#build": {"dependsOn": ["core#build"], "cache": false}}}"#,
        )
        .unwrap();
        let targets = targets(&all);
        let core = find(&targets, "//packages/core:build").command().unwrap();
        assert_eq!(core.outs, [Output::Tree("packages/core/out".into())]);
        assert!(core.env.contains_key("CI") && core.env.contains_key("MODE"));
        assert_eq!(core.in_place.as_ref().unwrap().out_exclude.len(), 1);
        let web = find(&targets, "//apps/web:build");
        assert_eq!(web.deps[0].to_string(), "//packages/core:build");
        assert!(web.manual, "what must not be cached runs when it is named");
    }
}
