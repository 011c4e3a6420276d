//! What scripts read of packages that theirs depends on, beside outputs.
//!
//! Owns which of their sources those are. Does not know how one finds what a script builds.
//! Invariants: of a package that is built first a script reads the outputs, `package.json`, which says where these are
//! entered, and `tsconfig*.json`, which project references lead to; of one that is not, or whose scripts name no outputs, all
//! sources, and so of all where a line builds TypeScript's projects with what they refer to.

use std::collections::{BTreeMap, BTreeSet};

use super::World;
use super::runners::builds_projects;
use crate::lang::label::Label;
use crate::lang::package_json::PACKAGE_JSON;
use crate::lang::target::{Source, Target, join};

impl World<'_> {
    /// Adds to each script what it reads of the packages that its own depends on.
    pub(super) fn add_foreign_sources(&self, made: &mut BTreeMap<Label, Target>) {
        let mut added: Vec<(Label, Vec<Source>)> = Vec::new();
        for (label, target) in &*made {
            if let Some(&own) = self.by_dir.get(label.dir()) {
                let lines = target.command().and_then(|command| command.argv.last());
                // Then what is built is read as what is not.
                let built = match lines.is_some_and(|lines| builds_projects(lines)) {
                    true => BTreeSet::new(),
                    false => self.built(target, made),
                };
                added.push((label.clone(), self.foreign(own, &built)));
            }
        }
        for (label, sources) in added {
            if let Some(target) = made.get_mut(&label) {
                target.srcs.extend(sources);
            }
        }
    }

    /// What is read of all that package `own` depends on, where what lies in `built` was built before.
    fn foreign(&self, own: usize, built: &BTreeSet<&str>) -> Vec<Source> {
        let mut needed = BTreeSet::from([own]);
        let mut pending: Vec<usize> = self.neighbours(own).collect();
        let mut sources = self.places(own);
        while let Some(other) = pending.pop() {
            if needed.insert(other) {
                pending.extend(self.neighbours(other));
                let member = self.member(other);
                let dir = member.package.dir.as_str();
                if built.contains(dir) {
                    let configs = member.configs.iter().map(String::as_str);
                    let files = configs.chain([PACKAGE_JSON]);
                    sources.extend(files.map(|name| Source::File(join(dir, name).into())));
                } else {
                    sources.push(self.usual_sources(other));
                    sources.extend(self.places(other));
                }
            }
        }
        sources
    }

    /// The directories that are built before `target`: by what is named so, as other tasks (`codegen`) may make a part only.
    fn built<'b>(
        &'b self,
        target: &'b Target,
        made: &'b BTreeMap<Label, Target>,
    ) -> BTreeSet<&'b str> {
        let mut built = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut pending: Vec<&Label> = target.deps.iter().collect();
        while let Some(dep) = pending.pop() {
            if !seen.insert(dep) {
                continue;
            }
            // What names no outputs hands nothing on that could be compared.
            let hands_on = if let Some(script) = made.get(dep) {
                pending.extend(&script.deps);
                let command = script.command();
                command.is_some_and(|command| !command.outs.is_empty())
            } else if let Some((deps, hands_on)) = self.described.targets.get(dep) {
                pending.extend(deps);
                *hands_on
            } else {
                false
            };
            let is_build = dep.name() == "build" || dep.name().starts_with("build.");
            if hands_on && is_build {
                built.insert(dep.dir());
            }
        }
        built
    }
}
