//! What scripts depend on.
//!
//! Owns which packages of the workspace a package means, the way from what tasks name to labels, and what depends on a package that
//! cannot be read. Does not know which
//! targets read what others write.
//! Invariant: a dependency named by `^task` reaches through packages that lack the task, so that the order is that of the
//! packages.

use std::collections::{BTreeMap, BTreeSet};

use super::{Links, World, is_root};
use crate::lang::label::Label;
use crate::lang::package_json::{Meant, PACKAGE_JSON};
use crate::lang::suggest::did_you_mean;
use crate::lang::target::{Target, join};
use crate::lang::task::{ROOT_PACKAGE, Task, is_label};

impl World<'_> {
    /// The packages of this workspace that a package depends on directly.
    pub(super) fn neighbours(&self, index: usize) -> impl Iterator<Item = usize> {
        let meant = self.member(index).package.dependencies.values();
        let others = meant.flat_map(|meant| match meant {
            Meant::Named(name) => self.named(name),
            Meant::Place(dir) => {
                let there = self.by_dir.get(dir.as_str());
                there.map_or(&[][..], std::slice::from_ref)
            }
            Meant::Alias(_) | Meant::Outside(_) => &[],
        });
        others.copied().filter(move |other| *other != index)
    }

    /// What stands for the packages that a package depends on, also by others, and that cannot be read.
    fn unread_below(&self, index: usize) -> BTreeSet<Label> {
        if !self.has_stand_ins {
            return BTreeSet::new();
        }
        let mut seen = BTreeSet::from([index]);
        let mut pending: Vec<usize> = self.neighbours(index).collect();
        let mut labels = BTreeSet::new();
        while let Some(other) = pending.pop() {
            if seen.insert(other) {
                labels.extend(self.member(other).stand_in.clone());
                pending.extend(self.neighbours(other));
            }
        }
        labels
    }

    /// What to say of dependencies that lie where zako does not look.
    pub(super) fn outside(&self, index: usize) -> Vec<String> {
        let package = &self.member(index).package;
        let path = || join(&package.dir, PACKAGE_JSON);
        let outside = package.dependencies.iter().filter_map(|(name, meant)| {
            let Meant::Outside(place) = meant else {
                return None;
            };
            Some(format!(
                "warning: {}: `{name}` lies outside the workspace ({place}): its files are no inputs, so nothing is built anew \
                 when they change",
                path()
            ))
        });
        outside.collect()
    }

    pub(super) fn dependencies(
        &self,
        index: usize,
        task: &Task,
        own: &Label,
    ) -> Result<Vec<Label>, String> {
        let mut labels = self.unread_below(index);
        for dependency in &task.depends_on {
            if let Some(name) = dependency.strip_prefix('^') {
                self.reach(index, name, &mut BTreeSet::from([index]), &mut labels);
            } else if is_label(dependency) {
                labels.insert(Label::parse(dependency, "").map_err(|error| error.to_string())?);
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

    /// What is left to be linked when all targets are known.
    pub(super) fn links(&self, made: &BTreeMap<Label, Target>) -> Links {
        let mut tasks = self.all.tasks.by_name.values();
        let may_ask = self
            .all
            .members
            .iter()
            .any(|member| !member.tasks.is_empty())
            || tasks.any(|task| task.depends_on.iter().any(|it| is_label(it)));
        let asked = made.values().filter(|_| may_ask).flat_map(|target| {
            let unknown = target.deps.iter().filter(|dep| !made.contains_key(dep));
            unknown.map(|dep| (dep.clone(), target.label.clone()))
        });
        Links {
            shared: (!self.all.tasks.global_inputs.is_empty()).then(|| self.shared.clone()),
            asked: asked.collect(),
        }
    }
}
