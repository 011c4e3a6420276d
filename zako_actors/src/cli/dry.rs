//! `--dry`: what would run, and why.
//!
//! Owns the words. Invariant: nothing is changed, nor anything run.

use rustc_hash::FxHashSet;
use serde::Serialize;

use super::opened::{Opened, Targets};
use super::why::causes;
use super::{Exit, Failure, print_json, print_line, say};
use crate::engine::cause::Cause;
use crate::engine::graph::NodeId;
use crate::engine::plan::{Left, Plan, Planned};

/// What is not up to date.
#[derive(Serialize)]
struct Line {
    label: String,
    cause: String,
}

/// Prints it, and how much it is.
pub fn tell(
    opened: &Opened,
    targets: &Targets,
    plan: &Plan,
    as_json: bool,
) -> Result<Exit, Failure> {
    let stale: FxHashSet<NodeId> = plan
        .nodes
        .iter()
        .filter(|node| node.cause().is_some())
        .map(|node| node.id)
        .collect();
    let known = plan.nodes.iter().filter_map(|node| {
        let cause = known(opened, targets, node, &stale)?;
        Some((&node.target.label, cause))
    });
    let left = plan.left.iter();
    let left = left.map(|left| (&left.target.label, of_left(plan, left)));
    let lines = known.chain(left).map(|(label, cause)| Line {
        label: label.to_string(),
        cause,
    });
    let lines: Vec<Line> = lines.collect();
    if as_json {
        print_json(&lines)?;
    } else {
        for line in &lines {
            print_line(&format!("{}: {}", line.label, line.cause))?;
        }
    }
    say(&format!(
        "{} of {} targets are not up to date{}; nothing was run",
        lines.len(),
        plan.nodes.len() + plan.left.len(),
        match plan.left.len() {
            0 => String::new(),
            left => format!(", {left} of them not described yet, and there may be more"),
        }
    ));
    Ok(Exit::Done)
}

/// Why `node` would run; of one that waits for others, which these are.
fn known(
    opened: &Opened,
    targets: &Targets,
    node: &Planned,
    stale: &FxHashSet<NodeId>,
) -> Option<String> {
    let causes = causes(opened, targets, node)?;
    if causes != [Cause::Dependency] {
        let causes = causes.iter().map(ToString::to_string);
        return Some(causes.collect::<Vec<_>>().join("; "));
    }
    let deps = targets.graph.deps(node.id).iter();
    let mut stale = deps.filter(|dep| stale.contains(dep));
    let first = stale.next().map(|dep| &targets.graph.target(*dep).label);
    Some(match (first, stale.count()) {
        (None, _) => Cause::Dependency.to_string(),
        (Some(first), 0) => format!("it needs {first}, which is not up to date"),
        (Some(first), more) => format!("it needs {first} and {more} more that are not up to date"),
    })
}

/// What a target waits for that is not described to its end.
fn of_left(plan: &Plan, left: &Left) -> String {
    let waits = plan.waits.iter().filter(|wait| wait.target == left.rule);
    let writers = waits.flat_map(|wait| &wait.writers);
    let writers: Vec<String> = writers.map(|it| plan.label(*it).to_string()).collect();
    match (writers.is_empty(), left.target.label == left.rule) {
        (false, true) => format!("its rule waits for {}", writers.join(", ")),
        _ => format!("waits for the rule of {}", left.rule),
    }
}
