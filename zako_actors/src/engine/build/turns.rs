//! In which order the nodes of a build take their turns where scripts share places, and which wait for which.
//!
//! Owns the order of those that wipe a place and those that read from it. Does not know what meets, nor what a script is.
//! Invariants: of a node and another one that writes where something which the first one reads was written, never both are
//! under way; whoever writes there goes first, unless that closes a circle, and then the one that reads does; of two that write to one
//! place the earlier one of the plan goes first; all edges lead to nodes that have their turn before.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use petgraph::algo::kosaraju_scc;
use petgraph::graph::DiGraph;
use rustc_hash::FxHashMap;

/// The nodes of a plan, by number: whatever one needs has a smaller one.
pub(super) struct Nodes<'a> {
    /// How many there are.
    pub count: u32,
    /// What each needs.
    pub deps: &'a dyn Fn(u32) -> &'a [u32],
    /// Those that write where it does; of most there are none.
    pub meeting: &'a FxHashMap<u32, Vec<u32>>,
    /// Whether it is to run.
    pub is_stale: &'a dyn Fn(u32) -> bool,
}

/// A node, after those before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InTurn {
    /// The node.
    pub node: u32,
    /// Those that have to end before it begins, however they do, and that it does not need.
    pub after: Vec<u32>,
}

/// Those that may be under way still when a node has ended, and write where something was written that it reads, or that it is.
type Open = Option<Arc<[u32]>>;

impl Nodes<'_> {
    /// All nodes but those that have their turn already, in this order.
    pub fn in_turn(&self, taken: &[u32]) -> Vec<InTurn> {
        let first = taken.len() as u32;
        if self.meeting.is_empty() {
            let rest = (first..self.count).map(|node| InTurn {
                node,
                after: Vec::new(),
            });
            return rest.collect();
        }
        let rest = self.order().into_iter().filter(|node| *node >= first);
        let order: Vec<u32> = taken.iter().copied().chain(rest).collect();
        let mut turns = self.waits(&order);
        turns.split_off(taken.len())
    }

    fn meeting(&self, node: u32) -> &[u32] {
        self.meeting.get(&node).map_or(&[], Vec::as_slice)
    }

    /// For each node those after which it comes if that closes no circle: they write where what it needs does.
    fn wanted(&self) -> Vec<(u32, u32)> {
        let mut wanted = Vec::new();
        for node in 0..self.count {
            for dep in (self.deps)(node) {
                let others = self.meeting(*dep).iter().filter(|other| **other != node);
                wanted.extend(others.map(|other| (node, *other)));
            }
        }
        wanted
    }

    /// All nodes, what each needs first, in the order of the plan as far as that may be.
    fn order(&self) -> Vec<u32> {
        let mut wanted = self.wanted();
        if wanted.iter().all(|(node, before)| before < node) {
            return (0..self.count).collect();
        }
        let mut edges = Vec::new();
        for node in 0..self.count {
            edges.extend((self.deps)(node).iter().map(|dep| (node, *dep)));
            let before = self.meeting(node).iter().filter(|other| **other < node);
            edges.extend(before.map(|other| (node, *other)));
        }
        let mut graph = DiGraph::<(), ()>::with_capacity(self.count as usize, 0);
        for _ in 0..self.count {
            graph.add_node(());
        }
        graph.extend_with_edges(edges.iter().chain(&wanted));
        let mut circle_of = vec![0; self.count as usize];
        for (number, circle) in kosaraju_scc(&graph).iter().enumerate() {
            for node in circle {
                circle_of[node.index()] = number;
            }
        }
        wanted.retain(|(node, before)| circle_of[*node as usize] != circle_of[*before as usize]);
        edges.extend(wanted);
        smallest_first(self.count, &edges)
    }

    /// Whom the nodes in this `order` wait for.
    fn waits(&self, order: &[u32]) -> Vec<InTurn> {
        let mut place = vec![0; self.count as usize];
        for (node, turn) in order.iter().zip(0_u32..) {
            place[*node as usize] = turn;
        }
        let is_before = |one: u32, other: u32| place[one as usize] < place[other as usize];
        let mut open: Vec<Open> = vec![None; self.count as usize];
        // Those that read before somebody writes there, which closes a circle otherwise.
        let mut readers: FxHashMap<u32, Vec<u32>> = FxHashMap::default();
        let mut turns = Vec::with_capacity(order.len());
        for &node in order {
            let deps = (self.deps)(node);
            let known = united(deps.iter().map(|dep| &open[*dep as usize]));
            let meeting = self.meeting(node).iter().copied();
            let meeting = meeting.filter(|other| (self.is_stale)(*other));
            if !(self.is_stale)(node) {
                let own: Vec<u32> = meeting.collect();
                open[node as usize] = match own.is_empty() {
                    true => known,
                    false => united([known, Some(own.into())].iter()),
                };
                turns.push(InTurn {
                    node,
                    after: Vec::new(),
                });
                continue;
            }
            let known = known.iter().flat_map(|known| known.iter().copied());
            let others: BTreeSet<u32> = known.chain(meeting).filter(|it| *it != node).collect();
            let (before, later): (Vec<u32>, Vec<u32>) = others
                .into_iter()
                .partition(|other| is_before(*other, node));
            for other in &later {
                readers.entry(*other).or_default().push(node);
            }
            let mut after = readers.remove(&node).unwrap_or_default();
            after.extend(before);
            after.sort_unstable();
            after.dedup();
            after.retain(|other| !deps.contains(other));
            turns.push(InTurn { node, after });
            open[node as usize] = (!later.is_empty()).then(|| later.into());
        }
        turns
    }
}

/// What is in any of `sets`, which are often one and the same.
fn united<'a>(sets: impl Iterator<Item = &'a Open>) -> Open {
    let mut first: Open = None;
    let mut all = BTreeSet::new();
    for set in sets.flatten() {
        match &first {
            None => first = Some(Arc::clone(set)),
            Some(first) if Arc::ptr_eq(first, set) => {}
            Some(first) => {
                if all.is_empty() {
                    all.extend(first.iter().copied());
                }
                all.extend(set.iter().copied());
            }
        }
    }
    match all.is_empty() {
        true => first,
        false => Some(all.into_iter().collect()),
    }
}

/// The nodes `0..count`, each after those that its `edges` lead to, the smallest first.
fn smallest_first(count: u32, edges: &[(u32, u32)]) -> Vec<u32> {
    let mut missing = vec![0_u32; count as usize];
    let mut next: Vec<Vec<u32>> = vec![Vec::new(); count as usize];
    for (node, before) in edges {
        missing[*node as usize] += 1;
        next[*before as usize].push(*node);
    }
    let free = (0..count).filter(|node| missing[*node as usize] == 0);
    let mut free: BinaryHeap<Reverse<u32>> = free.map(Reverse).collect();
    let mut order = Vec::with_capacity(count as usize);
    while let Some(Reverse(node)) = free.pop() {
        order.push(node);
        for next in std::mem::take(&mut next[node as usize]) {
            missing[next as usize] -= 1;
            if missing[next as usize] == 0 {
                free.push(Reverse(next));
            }
        }
    }
    debug_assert_eq!(order.len(), count as usize, "the edges close a circle");
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes that need `deps`, of which the pairs meet; those in `fresh` are up to date.
    fn turns(
        deps: &[&'static [u32]],
        pairs: &[(u32, u32)],
        fresh: &[u32],
        taken: &[u32],
    ) -> Vec<(u32, Vec<u32>)> {
        let mut meeting: FxHashMap<u32, Vec<u32>> = FxHashMap::default();
        for (one, other) in pairs {
            meeting.entry(*one).or_default().push(*other);
            meeting.entry(*other).or_default().push(*one);
        }
        let nodes = Nodes {
            count: deps.len() as u32,
            deps: &|node| deps[node as usize],
            meeting: &meeting,
            is_stale: &|node| !fresh.contains(&node),
        };
        let turns = nodes.in_turn(taken).into_iter();
        turns.map(|turn| (turn.node, turn.after)).collect()
    }

    #[test]
    fn whoever_reads_comes_after_all_that_write_there() {
        // 1 reads what 0 leaves where 2 writes, too; 3 needs nothing of that.
        let deps: [&[u32]; 4] = [&[], &[0], &[], &[]];
        let expected = [(0, vec![]), (2, vec![0]), (1, vec![2]), (3, vec![])];
        assert_eq!(turns(&deps, &[(0, 2)], &[], &[]), expected);
        let expected = [(0, vec![]), (2, vec![]), (1, vec![2]), (3, vec![])];
        assert_eq!(turns(&deps, &[(0, 2)], &[0], &[]), expected);
        assert_eq!(
            turns(&deps, &[], &[], &[]).len(),
            4,
            "nobody shares anything"
        );
    }

    #[test]
    fn what_is_up_to_date_in_between_hands_on_who_writes_there() {
        // 3 reads 2, which reads 1, which reads 0, all up to date but 3; 4 writes where 0 does, 5 where 1 does.
        let deps: [&[u32]; 6] = [&[], &[0], &[1], &[2], &[], &[]];
        let of = |fresh: &[u32]| {
            let turns = turns(&deps, &[(0, 4), (1, 5)], fresh, &[]);
            turns.into_iter().find(|(node, _)| *node == 3).unwrap().1
        };
        assert_eq!(of(&[0, 1, 2]), [4, 5]);
        // What runs in between has waited for them.
        assert!(of(&[0, 1]).is_empty());
    }

    #[test]
    fn who_is_needed_by_one_that_writes_there_reads_before_it() {
        // 2 writes where 0 does, and needs 1, which reads that; 3 reads it, too.
        let deps: [&[u32]; 4] = [&[], &[0], &[1], &[0]];
        let expected = [(0, vec![]), (1, vec![]), (2, vec![0]), (3, vec![2])];
        assert_eq!(turns(&deps, &[(0, 2)], &[], &[]), expected);
        // Two packages whose types need the other one's bundle.
        let deps: [&[u32]; 4] = [&[], &[], &[1], &[0]];
        let pairs = [(0, 2), (1, 3)];
        let expected = [(0, vec![]), (1, vec![]), (2, vec![0]), (3, vec![1, 2])];
        assert_eq!(turns(&deps, &pairs, &[], &[]), expected);
    }

    #[test]
    fn who_joins_later_comes_after_those_that_read_already() {
        let deps: [&[u32]; 4] = [&[], &[0], &[1], &[]];
        let expected = [(3, vec![0, 1, 2])];
        assert_eq!(turns(&deps, &[(0, 3)], &[], &[0, 1, 2]), expected);
    }

    #[test]
    fn ten_thousand_packages_in_a_row_wait_for_their_neighbours_only() {
        // Of each package a bundle, which needs the one before, and types beside it.
        let count = 10_000_u32;
        let deps: Vec<Vec<u32>> = (0..2 * count)
            .map(|node| match node {
                1..10_000 => vec![node - 1],
                _ => Vec::new(),
            })
            .collect();
        let meeting = (0..2 * count).map(|node| (node, vec![(node + count) % (2 * count)]));
        let meeting = meeting.collect();
        let nodes = Nodes {
            count: 2 * count,
            deps: &|node| deps[node as usize].as_slice(),
            meeting: &meeting,
            is_stale: &|_| true,
        };
        let turns = nodes.in_turn(&[]);
        assert!(turns.iter().all(|turn| turn.after.len() <= 1));
        assert_eq!(turns.len(), 2 * count as usize);
    }
}
