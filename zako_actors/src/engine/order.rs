//! The order of nodes in which everything comes after what it needs.
//!
//! Owns the order and the finding of one cycle. Does not know targets.
//! Invariant: one graph always has the same order, and one cycle always the same beginning.

use std::collections::{BTreeMap, VecDeque};

use super::edges::Edges;
use super::graph::NodeId;

/// Kahn's algorithm; smallest label first among equals, so the order is stable.
///
/// # Errors
/// One cycle, first member repeated at the end.
pub fn topological_order(deps: &Edges, dependants: &Edges) -> Result<Vec<NodeId>, Vec<NodeId>> {
    let ids = || (0..deps.len()).map(|index| NodeId(index as u32));
    let mut missing: Vec<usize> = ids().map(|id| deps.of(id).len()).collect();
    let mut ready: VecDeque<_> = ids().filter(|id| missing[id.index()] == 0).collect();
    let mut order = Vec::with_capacity(deps.len());
    while let Some(id) = ready.pop_front() {
        order.push(id);
        for next in dependants.of(id) {
            missing[next.index()] -= 1;
            if missing[next.index()] == 0 {
                ready.push_back(*next);
            }
        }
    }
    if order.len() == deps.len() {
        return Ok(order);
    }
    // Every node that is left has a dependency that is left: walking along them must repeat.
    let Some(mut at) = ids().find(|id| missing[id.index()] > 0) else {
        return Ok(order);
    };
    let mut seen = BTreeMap::new();
    let mut path = Vec::new();
    while !seen.contains_key(&at) {
        seen.insert(at, path.len());
        path.push(at);
        let next = deps.of(at).iter().find(|dep| missing[dep.index()] > 0);
        at = *next.expect("a node on hold waits for a node on hold");
    }
    let mut cycle = path.split_off(seen[&at]);
    // The smallest label opens the cycle, so that one mistake always reads the same.
    let smallest = (0..cycle.len()).min_by_key(|i| cycle[*i]).unwrap_or(0);
    cycle.rotate_left(smallest);
    cycle.extend_from_within(..1);
    Err(cycle)
}
