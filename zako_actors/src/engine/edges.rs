//! Which nodes lead to which.
//!
//! Owns their packed form: one list for all nodes, not one for each. Does not know what an edge means.
//! Invariant: edges of one node keep their order.

use super::graph::NodeId;

/// The edges of nodes `0..n`.
#[derive(Debug, Default)]
pub struct Edges {
    /// Where the edges of each node end in the list; they begin where those of the one before end.
    ends: Vec<u32>,
    list: Vec<NodeId>,
}

impl Edges {
    /// Without nodes; there is room for so many.
    pub fn with_capacity(nodes: usize) -> Self {
        Self {
            ends: Vec::with_capacity(nodes),
            list: Vec::new(),
        }
    }

    /// Adds a node that leads to these.
    pub fn push(&mut self, edges: impl Iterator<Item = NodeId>) {
        self.list.extend(edges);
        let end = u32::try_from(self.list.len()).expect("fewer than 2^32 edges");
        self.ends.push(end);
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Where `id` leads to.
    pub fn of(&self, id: NodeId) -> &[NodeId] {
        let begin = id.index().checked_sub(1);
        let begin = begin.map_or(0, |before| self.ends[before]);
        &self.list[begin as usize..self.ends[id.index()] as usize]
    }

    /// The same edges from their other ends.
    pub fn reversed(&self) -> Self {
        let nodes = || (0..self.len()).map(|index| NodeId(index as u32));
        // First how many each has, then where the next one of each goes to.
        let mut next = vec![0_u32; self.len()];
        for to in &self.list {
            next[to.index()] += 1;
        }
        let mut begin = 0;
        let mut ends = Vec::with_capacity(self.len());
        for next in &mut next {
            let count = std::mem::replace(next, begin);
            begin += count;
            ends.push(begin);
        }
        let mut list = vec![NodeId(0); self.list.len()];
        for from in nodes() {
            for to in self.of(from) {
                let place = &mut next[to.index()];
                list[*place as usize] = from;
                *place += 1;
            }
        }
        Self { ends, list }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_found_from_both_ends() {
        let lists: [&[u32]; 4] = [&[], &[0], &[1, 0], &[0, 2]];
        let mut edges = Edges::with_capacity(4);
        for list in lists {
            edges.push(list.iter().copied().map(NodeId));
        }
        let all = |edges: &Edges| {
            let nodes = (0..edges.len()).map(|index| edges.of(NodeId(index as u32)));
            let numbers = nodes.map(|to| to.iter().map(|id| id.0).collect());
            numbers.collect::<Vec<Vec<u32>>>()
        };
        assert_eq!(all(&edges), lists);
        let reversed: [&[u32]; 4] = [&[1, 2, 3], &[2], &[3], &[]];
        assert_eq!(all(&edges.reversed()), reversed);
    }
}
