//! Which targets a set of changed files concerns.
//!
//! Owns the step from paths to targets. Does not know where the paths come from, nor what is up to
//! date.
//! Invariant: a target is left out only when neither its sources, nor its definition, nor anything
//! that it or its rule needs is among the paths; a removed file still concerns those who read it.

use std::collections::BTreeSet;

use rustc_hash::{FxHashMap, FxHashSet};

use super::analyse::Reading;
use super::gates::Gates;
use super::graph::{Graph, NodeId};
use crate::lang::lockfile::LOCK;
use crate::lang::manifest::MANIFEST;
use crate::lang::target::{Source, Target};
use crate::lang::task::TURBO_JSON;
use crate::lang::workspace_file::PACKAGE_FILE;

/// The targets that `changed` (workspace-relative paths) concerns, and all that need them; rules, of which `readings` rest
/// on outputs, may describe others then. `readers` names the build files that import a file.
pub fn affected<'a>(
    graph: &Graph,
    changed: &BTreeSet<String>,
    readers: &dyn Fn(&str) -> Vec<&'a str>,
    readings: &[Reading],
) -> FxHashSet<NodeId> {
    let mut by_file: FxHashMap<&str, Vec<NodeId>> = FxHashMap::default();
    for id in graph.order() {
        by_file
            .entry(graph.target(*id).at.path.as_str())
            .or_default()
            .push(*id);
    }
    let mut touched = Vec::new();
    for path in changed {
        for file in readers(path).into_iter().chain([path.as_str()]) {
            if [PACKAGE_FILE, MANIFEST, LOCK, TURBO_JSON].contains(&file) {
                // What it says may hold for every target.
                touched.extend_from_slice(graph.order());
            } else if let Some(targets) = by_file.get(file) {
                touched.extend_from_slice(targets);
            }
        }
        touched.extend(
            graph
                .order()
                .iter()
                .filter(|id| reads(graph.target(**id), path)),
        );
    }
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

fn reads(target: &Target, path: &str) -> bool {
    target.srcs.iter().any(|source| match source {
        Source::File(file) => file == path,
        Source::Glob {
            dir,
            include,
            exclude,
        } => {
            let below = if dir.is_empty() {
                Some(path)
            } else {
                path.strip_prefix(dir.as_str())
                    .and_then(|rest| rest.strip_prefix('/'))
            };
            below.is_some_and(|below| {
                include.iter().any(|pattern| pattern.matches(below))
                    && !exclude.iter().any(|pattern| pattern.matches(below))
            })
        }
    })
}
