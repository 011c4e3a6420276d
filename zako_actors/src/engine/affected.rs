//! Which targets a set of changed files concerns.
//!
//! Owns the step from paths to targets. Does not know where the paths come from, nor what is up to
//! date.
//! Invariant: a target is left out only when neither its sources, nor its definition, nor anything
//! that it or its rule needs or reads is among the paths; a removed file still concerns those who read it.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::analyse::{Reading, reading};
use super::gates::Gates;
use super::graph::{Graph, NodeId};
use super::since::Changes;
use super::state::Memory;
use crate::lang::label::Label;
use crate::lang::lockfile::LOCK;
use crate::lang::manifest::MANIFEST;
use crate::lang::rule_use::RuleUse;
use crate::lang::target::Source;
use crate::lang::turbo::TURBO_FILES;
use crate::lang::workspace_file::PACKAGE_FILE;

/// What targets are described by.
#[derive(Clone, Copy, Debug)]
pub struct Origins<'a> {
    /// What scripts said, and what they read.
    pub memory: &'a Memory,
    /// All uses of rules.
    pub uses: &'a [Arc<RuleUse>],
}

impl<'a> Origins<'a> {
    /// The build files that read `path` when they were evaluated, themselves included.
    fn build_files_reading(self, path: &str) -> impl Iterator<Item = &'a str> {
        let files = self.memory.files.iter().filter(move |(_, known)| {
            let sources = &known.sources;
            sources.modules.iter().any(|(module, _)| **module == *path)
                || sources.absent.iter().any(|absent| **absent == *path)
        });
        files.map(|(file, _)| &**file)
    }

    /// Whether the rule of `used` is told something else after `changes`: which files there are, or what it reads.
    fn is_told_anew(self, used: &RuleUse, changes: &Changes) -> bool {
        let mut came_or_went = changes.came_or_went.iter();
        let known = self.memory.uses.get(&used.label);
        let mut read = known.into_iter().flat_map(|known| &known.reads);
        let is_glob = |source: &&Source| matches!(source, Source::Glob { .. });
        read.any(|it| it.writer.is_none() && changes.paths.contains(&*it.path))
            || came_or_went.any(|path| used.sources().filter(is_glob).any(|it| it.takes(path)))
    }

    /// Adds to `told` the targets of rules that may describe something else after `changes`, or because those in `told` are
    /// described otherwise.
    fn spread(self, changes: &Changes, told: &mut FxHashSet<&'a Label>) {
        let mut dependants: FxHashMap<&Label, Vec<&'a Label>> = FxHashMap::default();
        for used in self.uses {
            for dep in used.deps() {
                dependants.entry(dep).or_default().push(&used.label);
            }
            if self.is_told_anew(used, changes) {
                told.insert(&used.label);
            }
        }
        let mut pending: Vec<&Label> = told.iter().copied().collect();
        while let Some(label) = pending.pop() {
            let more = dependants.remove(label).into_iter().flatten();
            pending.extend(more.filter(|label| told.insert(label)));
        }
    }
}

/// The targets that `changes` concern, and all that need them; rules, of which `readings` rest on outputs, may describe others
/// then. `origins` say what they are described by.
pub fn affected<'a>(
    graph: &'a Graph,
    changes: &Changes,
    origins: Origins<'a>,
    readings: &[Reading],
) -> FxHashSet<NodeId> {
    let mut by_file: FxHashMap<&str, Vec<NodeId>> = FxHashMap::default();
    for id in graph.order() {
        by_file
            .entry(graph.target(*id).at.path.as_str())
            .or_default()
            .push(*id);
    }
    let mut told: FxHashSet<&Label> = FxHashSet::default();
    let mut touched = Vec::new();
    for path in &changes.paths {
        let readers = origins.build_files_reading(path);
        for file in readers.chain([path.as_str()]) {
            if [PACKAGE_FILE, MANIFEST, LOCK].contains(&file) || TURBO_FILES.contains(&file) {
                // What it says may hold for every target.
                touched.extend_from_slice(graph.order());
            } else if let Some(targets) = by_file.get(file) {
                told.extend(targets.iter().map(|id| &graph.target(*id).label));
            }
        }
        let reads = |id: &&NodeId| graph.target(**id).srcs.iter().any(|it| it.takes(path));
        touched.extend(graph.order().iter().filter(reads));
    }
    origins.spread(changes, &mut told);
    let is_told = |label: &Label| told.contains(label) || reading::owner(&told, label).is_some();
    let told = graph
        .order()
        .iter()
        .filter(|id| is_told(&graph.target(**id).label));
    touched.extend(told);
    let gates = Gates::new(graph, readings);
    loop {
        let known: FxHashSet<NodeId> = graph.with_dependants(touched).into_iter().collect();
        let behind = gates.behind(&known);
        if behind.is_subset(&known) {
            return known;
        }
        touched = known.union(&behind).copied().collect();
    }
}
