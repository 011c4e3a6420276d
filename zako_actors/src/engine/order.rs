//! The order of nodes in which everything comes after what it needs.
//!
//! Owns the order and the finding of cycles. Does not know targets.
//! Invariants: one graph always has the same order, and one cycle always the same beginning; of each cycle its beginning alone
//! comes before something that it needs.

use std::collections::{BTreeMap, VecDeque};

use super::edges::Edges;
use super::graph::NodeId;

/// Kahn's algorithm; smallest label first among equals, so the order is stable. A cycle is told with its first member repeated
/// at the end, and opened there.
pub fn topological_order(deps: &Edges, dependants: &Edges) -> (Vec<NodeId>, Vec<Vec<NodeId>>) {
    let ids = || (0..deps.len()).map(|index| NodeId(index as u32));
    let mut missing: Vec<usize> = ids().map(|id| deps.of(id).len()).collect();
    let mut ready: VecDeque<_> = ids().filter(|id| missing[id.index()] == 0).collect();
    let mut order = Vec::with_capacity(deps.len());
    let mut cycles = Vec::new();
    // Whoever is not on hold never is again.
    let mut first_on_hold = 0;
    loop {
        while let Some(id) = ready.pop_front() {
            order.push(id);
            for next in dependants.of(id) {
                let missing = &mut missing[next.index()];
                // The beginning of a cycle waits for nothing any more.
                *missing = match *missing {
                    0 => continue,
                    missing => missing - 1,
                };
                if *missing == 0 {
                    ready.push_back(*next);
                }
            }
        }
        let Some(at) = (first_on_hold..deps.len()).find(|at| missing[*at] > 0) else {
            return (order, cycles);
        };
        first_on_hold = at;
        let cycle = cycle_below(NodeId(at as u32), deps, &missing);
        missing[cycle[0].index()] = 0;
        ready.push_back(cycle[0]);
        cycles.push(cycle);
    }
}

/// Every node that is on hold has a dependency that is on hold: walking along them must repeat.
fn cycle_below(mut at: NodeId, deps: &Edges, missing: &[usize]) -> Vec<NodeId> {
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
    cycle
}
