//! The typed target graph.
//!
//! Owns resolution of dependencies, and what is said of cycles and clashes: they are mistakes of the targets that have them.
//! Does not know whether anything is up to date, nor the file system, nor who has to be told of a mistake.
//! Invariants: as long as targets with mistakes and what needs them are left out, a `Graph` has no cycle, no dangling edge, and no
//! output that two targets declare; a target that needs something of a build file that cannot be read needs its stand-in;
//! `NodeId`s index this graph only and never reach a hash or the disk.

use crate::diagnostic::Diagnostic;
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use rustc_hash::FxHashMap;

use super::edges::Edges;
use super::flaws::{Flaws, Gaps};
use super::order::topological_order;
use super::outputs_index::{OutputIndex, Writers};
pub use super::select::SelectError;
use super::select::{no_match, unknown};
use super::unlinked::{Unknown, cycle_mistake};
use crate::lang::label::{Label, LabelPattern};
use crate::lang::locate::mistake;
use crate::lang::target::Target;

/// A target's place in its [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl NodeId {
    /// As an index into a vector that runs parallel to the graph's nodes.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Every target of a workspace and what depends on what.
#[derive(Debug)]
pub struct Graph {
    targets: Vec<Arc<Target>>,
    by_label: FxHashMap<Named, NodeId>,
    deps: Edges,
    dependants: Edges,
    order: Vec<NodeId>,
    outputs: OutputIndex,
    writers: OnceLock<Writers>,
    mistakes: BTreeMap<NodeId, Vec<Diagnostic>>,
    /// What stands for what cannot be read.
    broken: Gaps<NodeId>,
}

/// A target as its label: a label of its own for every one would be a good part of a no-op.
#[derive(Debug)]
pub(super) struct Named(pub(super) Arc<Target>);

impl Borrow<Label> for Named {
    fn borrow(&self) -> &Label {
        &self.0.label
    }
}

impl Hash for Named {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.label.hash(state);
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.0.label == other.0.label
    }
}

impl Eq for Named {}

impl Graph {
    /// Links `targets`, of which some `flaws` are known. More of them show here: two targets of one name, an unknown
    /// dependency, a cycle (its members named in order), two targets with one output. `text_of` reads a build file again, for
    /// the frame of an error.
    pub fn new(
        mut targets: Vec<Arc<Target>>,
        flaws: &Flaws,
        text_of: &dyn Fn(&str) -> String,
    ) -> Self {
        targets.extend(flaws.broken.iter().map(|it| Arc::clone(&it.target)));
        targets.sort_by(|a, b| a.label.cmp(&b.label));
        let mut twice = Vec::new();
        targets.dedup_by(|second, first| {
            let is_same = second.label == first.label;
            if is_same {
                let message = format!(
                    "target {} is defined twice; first in {}",
                    first.label, first.at
                );
                let text = text_of(&second.at.path);
                twice.push(mistake(&second.at, message, &text).about(&first.label));
            }
            is_same
        });
        let mut by_label = FxHashMap::default();
        by_label.reserve(targets.len());
        for (index, target) in targets.iter().enumerate() {
            let id = NodeId(u32::try_from(index).expect("fewer than 2^32 targets"));
            by_label.insert(Named(Arc::clone(target)), id);
        }
        let stand_ins = flaws.broken.iter();
        let stand_ins = stand_ins.map(|it| (it, by_label[&it.target.label]));
        let broken = Gaps::new(stand_ins, targets.iter().map(|target| &target.label));
        let mut mistakes: BTreeMap<NodeId, Vec<Diagnostic>> = BTreeMap::new();
        let known = flaws.broken.iter().flat_map(|it| &it.mistakes);
        for mistake in known.chain(&flaws.mistakes).chain(&twice) {
            let label = mistake.target.as_deref();
            let label = label.and_then(|label| Label::parse(label, "").ok());
            let id = label.and_then(|label| by_label.get(&label));
            let id = *id.expect("a flaw is that of a target");
            mistakes.entry(id).or_default().push(mistake.clone());
        }
        // One that has a mistake already may have the same one.
        let known: BTreeSet<NodeId> = mistakes.keys().copied().collect();
        let mut unknown = Unknown::default();
        let mut deps = Edges::with_capacity(targets.len());
        let mut resolved = Vec::new();
        for (target, id) in targets.iter().zip((0..).map(NodeId)) {
            for dep in &target.deps {
                if let Some(id) = by_label.get(dep) {
                    resolved.push(*id);
                    continue;
                }
                let before = resolved.len();
                resolved.extend(broken.of(dep.dir()));
                if resolved.len() == before && !known.contains(&id) {
                    let mistake = unknown.mistake(target, dep, &by_label, text_of);
                    mistakes.entry(id).or_default().push(mistake);
                }
            }
            deps.push(resolved.drain(..));
        }
        let dependants = deps.reversed();
        let (order, cycles) = topological_order(&deps, &dependants);
        for cycle in &cycles {
            let mistake = cycle_mistake(&targets, cycle, text_of);
            mistakes.entry(cycle[0]).or_default().push(mistake);
        }
        let (outputs, clashes) = OutputIndex::new(&targets, text_of);
        for (id, mistake) in clashes {
            mistakes.entry(id).or_default().push(mistake);
        }
        Self {
            targets,
            by_label,
            deps,
            dependants,
            order,
            outputs,
            writers: OnceLock::new(),
            mistakes,
            broken,
        }
    }

    /// What is wrong with `id`.
    pub fn mistakes_of(&self, id: NodeId) -> &[Diagnostic] {
        self.mistakes.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Everything that is wrong, by target.
    pub fn mistakes(&self) -> impl Iterator<Item = (NodeId, &Diagnostic)> {
        let all = self.mistakes.iter();
        all.flat_map(|(id, mistakes)| mistakes.iter().map(|mistake| (*id, mistake)))
    }

    /// What stands for what cannot be read.
    pub fn broken(&self) -> impl Iterator<Item = NodeId> {
        self.broken.all()
    }

    /// What stands for `label`, where that may be the label of a target of something that cannot be read.
    pub fn unread_at(&self, label: &Label) -> impl Iterator<Item = NodeId> {
        self.broken.of(label.dir())
    }

    /// Whether `label` may be that of a target of something that cannot be read.
    pub fn is_unreadable(&self, label: &Label) -> bool {
        self.unread_at(label).next().is_some()
    }

    /// How many targets there are.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// The target at `id`.
    pub fn target(&self, id: NodeId) -> &Target {
        &self.targets[id.index()]
    }

    /// All targets, by label.
    pub fn targets(&self) -> &[Arc<Target>] {
        &self.targets
    }

    /// Whether there is a target `label`.
    pub fn contains(&self, label: &Label) -> bool {
        self.by_label.contains_key(label)
    }

    /// What `id` needs.
    pub fn deps(&self, id: NodeId) -> &[NodeId] {
        self.deps.of(id)
    }

    /// What needs `id`.
    pub fn dependants(&self, id: NodeId) -> &[NodeId] {
        self.dependants.of(id)
    }

    /// Which declared outputs cover which paths.
    pub fn outputs(&self) -> &OutputIndex {
        &self.outputs
    }

    /// The targets that declare the output `path`, by label.
    pub fn writers(&self, path: &str) -> Vec<NodeId> {
        let writers = self.writers.get_or_init(|| Writers::new(&self.targets));
        writers.of(path)
    }

    /// The targets that declare the output `path`, or may write it without declaring it, by label.
    pub fn may_write(&self, path: &str) -> Vec<NodeId> {
        let writers = self.writers.get_or_init(|| Writers::new(&self.targets));
        writers.may_write(path)
    }

    /// The place of `label`.
    pub fn find(&self, label: &Label) -> Option<NodeId> {
        self.by_label.get(label).copied()
    }

    /// Every target, dependencies first.
    pub fn order(&self) -> &[NodeId] {
        &self.order
    }

    /// The targets that `patterns` name and everything they need, dependencies first. Wildcards
    /// mean those targets for which `wildcard` says so.
    ///
    /// # Errors
    /// When a pattern names nothing.
    pub fn select(
        &self,
        patterns: &[LabelPattern],
        wildcard: &dyn Fn(&Target) -> bool,
    ) -> Result<Vec<NodeId>, SelectError> {
        Ok(self.with_deps(self.matching(patterns, wildcard)?))
    }

    /// The targets that `patterns` name, and nothing else; see [`select`](Self::select).
    ///
    /// # Errors
    /// When a pattern names nothing.
    pub fn matching(
        &self,
        patterns: &[LabelPattern],
        wildcard: &dyn Fn(&Target) -> bool,
    ) -> Result<Vec<NodeId>, SelectError> {
        let mut pending = Vec::new();
        for pattern in patterns {
            let before = pending.len();
            match pattern {
                LabelPattern::One(label) => {
                    match self.by_label.get(label) {
                        Some(&id) => pending.push(id),
                        None => pending.extend(self.broken.of(label.dir())),
                    }
                    if pending.len() == before {
                        return Err(unknown(&self.targets, label));
                    }
                }
                _ => pending.extend(self.order.iter().filter(|id| {
                    let target = self.target(**id);
                    let named = matches!(pattern, LabelPattern::Named(..));
                    let wanted = || named || wildcard(target);
                    (pattern.matches(&target.label) && wanted())
                        || (!self.broken.is_empty() && self.broken.may_mean(pattern, **id))
                })),
            }
            if pending.len() == before && *pattern != LabelPattern::everything() {
                return Err(no_match(&self.targets, pattern));
            }
        }
        Ok(pending)
    }

    /// `ids` and everything they need, dependencies first.
    pub fn with_deps(&self, ids: Vec<NodeId>) -> Vec<NodeId> {
        self.closure(ids, &|id| self.deps(id))
    }

    /// `ids` and everything that needs them, dependencies first.
    pub fn with_dependants(&self, ids: Vec<NodeId>) -> Vec<NodeId> {
        self.closure(ids, &|id| self.dependants(id))
    }

    fn closure<'a>(
        &'a self,
        mut pending: Vec<NodeId>,
        next: &dyn Fn(NodeId) -> &'a [NodeId],
    ) -> Vec<NodeId> {
        let mut wanted = vec![false; self.len()];
        while let Some(id) = pending.pop() {
            if !std::mem::replace(&mut wanted[id.index()], true) {
                pending.extend_from_slice(next(id));
            }
        }
        self.order
            .iter()
            .copied()
            .filter(|id| wanted[id.index()])
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::lang::descriptor::{BuildFile, read_exports};
    use crate::lang::locate::flat;
    use serde_json::json;

    /// Command targets from `(label, deps, outs)`.
    pub fn targets(list: &[(&str, &[&str], &[&str])]) -> Vec<Arc<Target>> {
        list.iter()
            .map(|(label, deps, outs)| {
                let label = Label::parse(label, "").unwrap();
                let path = format!("{}/BUILD.ts", label.dir());
                let file = BuildFile { path: &path, dir: label.dir(), text: "", packages: &crate::lang::packages::Packages::NONE };
                let value = json!({ label.name(): {"$zako": "command", "cmd": ["true"], "deps": deps, "outs": outs} });
                read_exports(&value, file).unwrap().targets.remove(0)
            })
            .collect()
    }

    fn graph(list: &[(&str, &[&str], &[&str])]) -> Result<Graph, String> {
        let graph = Graph::new(targets(list), &Flaws::default(), &|_| String::new());
        let mistake = graph.mistakes().next().map(|(_, mistake)| flat(mistake));
        mistake.map_or(Ok(graph), Err)
    }

    #[test]
    fn dependencies_come_first_and_only_what_is_asked_for() {
        let graph = graph(&[
            ("//a:x", &["//b:y"], &[]),
            ("//b:y", &["//c:z"], &[]),
            ("//c:z", &[], &[]),
            ("//d:w", &[], &[]),
        ])
        .unwrap();
        let wanted = graph
            .select(&[LabelPattern::parse("//a:x", "").unwrap()], &|_| true)
            .unwrap();
        let names: Vec<_> = wanted
            .iter()
            .map(|id| graph.target(*id).label.to_string())
            .collect();
        assert_eq!(names, ["//c:z", "//b:y", "//a:x"]);
        assert_eq!(
            graph
                .select(&[LabelPattern::everything()], &|_| true)
                .unwrap()
                .len(),
            4
        );
    }

    #[test]
    fn a_cycle_is_named_in_order() {
        let error = graph(&[
            ("//b:y", &["//a:x"], &[]),
            ("//a:x", &["//b:y"], &[]),
            ("//z:z", &["//a:x"], &[]),
        ])
        .unwrap_err();
        assert!(
            error.contains("dependency cycle: //a:x → //b:y → //a:x;"),
            "{error}"
        );
        let error = graph(&[("//a:x", &["//a:x"], &[])]).unwrap_err();
        assert!(error.contains("//a:x → //a:x;"), "{error}");
    }

    #[test]
    fn unknown_names_are_answered_with_the_nearest() {
        let error = graph(&[("//a:x", &["//a:lub"], &[]), ("//a:lib", &[], &[])]).unwrap_err();
        assert!(
            error.contains("depends on //a:lub, which does not exist; did you mean `//a:lib`?"),
            "{error}"
        );
        let graph = graph(&[("//libs/a:lib", &[], &[])]).unwrap();
        let ask = |text: &str| {
            graph
                .select(&[LabelPattern::parse(text, "").unwrap()], &|_| true)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            ask("//libs/a:lob"),
            "no target `//libs/a:lob`; did you mean `//libs/a:lib`?"
        );
        assert_eq!(
            ask("//libs/a:unrelated"),
            "no target `//libs/a:unrelated`; //libs/a has //libs/a:lib"
        );
        assert_eq!(
            ask("//lbs/a/..."),
            "no target matches `//lbs/a/...`; did you mean `//libs/a`?"
        );
        assert_eq!(
            ask("//...:lob"),
            "no target matches `//...:lob`; did you mean `lib`?"
        );
    }
}
