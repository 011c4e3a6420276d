//! What scripts read of packages that theirs depends on, beside outputs.
//!
//! Owns which of their sources those are. Does not know how one finds what a script builds.
//! Invariants: of a package that is built first a script reads the outputs and `package.json`, which says where these are
//! entered; of one that is not, or whose scripts name no outputs, all sources.

use std::collections::{BTreeMap, BTreeSet};

use super::World;
use crate::lang::label::Label;
use crate::lang::package_json::PACKAGE_JSON;
use crate::lang::target::{Source, Target, join};

impl World<'_> {
    /// Adds to each script what it reads of the packages that its own depends on.
    pub(super) fn add_foreign_sources(&self, made: &mut BTreeMap<Label, Target>) {
        let members = self.all.members.iter().enumerate();
        let dirs: BTreeMap<&str, usize> = members
            .map(|(index, member)| (member.package.dir.as_str(), index))
            .collect();
        let mut added: Vec<(Label, Vec<Source>)> = Vec::new();
        for (label, target) in &*made {
            if let Some(&own) = dirs.get(label.dir()) {
                added.push((label.clone(), self.foreign(own, &built(target, made))));
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
        let mut sources = Vec::new();
        while let Some(other) = pending.pop() {
            if needed.insert(other) {
                pending.extend(self.neighbours(other));
                let dir = self.member(other).package.dir.as_str();
                sources.push(if built.contains(dir) {
                    Source::File(join(dir, PACKAGE_JSON).into())
                } else {
                    self.usual_sources(other)
                });
            }
        }
        sources
    }
}

/// The directories in which something is built before `target`.
fn built<'a>(target: &'a Target, made: &'a BTreeMap<Label, Target>) -> BTreeSet<&'a str> {
    let mut built = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut pending: Vec<&Label> = target.deps.iter().collect();
    while let Some(dep) = pending.pop() {
        if seen.insert(dep)
            && let Some(script) = made.get(dep)
        {
            // What names no outputs hands nothing on that could be compared.
            let command = script.command();
            if command.is_some_and(|command| !command.outs.is_empty()) {
                built.insert(dep.dir());
            }
            pending.extend(&script.deps);
        }
    }
    built
}
