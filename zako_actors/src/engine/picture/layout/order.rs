//! In which order the items of a column lie: with few crossings.
//!
//! Owns the items of a column (boxes, and lanes for edges that pass through) and the sweeps by
//! barycentre; the best of all sweeps is kept. Edges to the same box share one lane, so that a box
//! that much needs has one line through each column instead of hundreds.

use std::collections::BTreeMap;

use super::layers::Flow;
use super::{BOX, LANE, ROW, Size};

/// Passes over all columns; fewer for large graphs, see [`Grid::order`].
const SWEEPS: usize = 24;
/// Items that all passes together may move.
const EFFORT: usize = 2_000_000;

/// Something in a column.
#[derive(Debug)]
pub struct Item {
    /// The box, when it is one and no lane.
    pub node: Option<usize>,
    /// The room that it takes in its column.
    pub height: f64,
    /// Its middle, once settled.
    pub y: f64,
    /// Its place in its column, counted from the top.
    pub rank: usize,
    /// Items of the column before that edges lead to.
    pub left: Vec<usize>,
    /// Items of the column after.
    pub right: Vec<usize>,
}

/// All columns. The first items are the boxes, in their order.
#[derive(Debug)]
pub struct Grid {
    /// Boxes and lanes.
    pub items: Vec<Item>,
    /// Their places in `items`, from the top.
    pub columns: Vec<Vec<usize>>,
    /// For each link the items that it passes, from left to right.
    pub chains: Vec<Vec<usize>>,
}

impl Grid {
    /// Columns in the order in which a walk from the left meets their items.
    pub fn new(flow: &Flow, sizes: &[Size]) -> Self {
        let layer = &flow.layer;
        let count = layer.iter().max().map_or(0, |last| last + 1);
        let item = |node: Option<usize>| Item {
            node,
            height: node.map_or(LANE, |node| sizes[node].1 + ROW - BOX),
            y: 0.0,
            rank: 0,
            left: Vec::new(),
            right: Vec::new(),
        };
        let mut grid = Self {
            items: (0..layer.len()).map(|node| item(Some(node))).collect(),
            columns: vec![Vec::new(); count],
            chains: Vec::with_capacity(flow.links.len()),
        };
        for node in &flow.order {
            grid.columns[layer[*node]].push(*node);
        }
        // A turned link has lanes of its own: its tip is at its other end.
        let mut lanes: BTreeMap<(usize, usize, Option<usize>), usize> = BTreeMap::new();
        for (index, link) in flow.links.iter().enumerate() {
            let mut chain = vec![link.left];
            for column in layer[link.left] + 1..layer[link.right] {
                let key = (link.right, column, link.turned.then_some(index));
                let lane = *lanes.entry(key).or_insert_with(|| {
                    grid.items.push(item(None));
                    grid.columns[column].push(grid.items.len() - 1);
                    grid.items.len() - 1
                });
                chain.push(lane);
            }
            chain.push(link.right);
            for pair in chain.windows(2) {
                if !grid.items[pair[0]].right.contains(&pair[1]) {
                    grid.items[pair[0]].right.push(pair[1]);
                    grid.items[pair[1]].left.push(pair[0]);
                }
            }
            grid.chains.push(chain);
        }
        grid.rank();
        grid
    }

    fn rank(&mut self) {
        for column in &self.columns {
            for (rank, item) in column.iter().enumerate() {
                self.items[*item].rank = rank;
            }
        }
    }

    /// Sorts every column by the mean place of its neighbours, to and fro, and keeps the order with
    /// the fewest crossings.
    pub fn order(&mut self) {
        let mut best = (self.crossings(), self.columns.clone());
        let sweeps = (EFFORT / self.items.len().max(1)).clamp(4, SWEEPS);
        for sweep in 0..sweeps {
            let forward = sweep % 2 == 0;
            for step in 0..self.columns.len() {
                let last = self.columns.len() - 1;
                self.sort(if forward { step } else { last - step }, forward);
            }
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.columns.clone());
            }
            if best.0 == 0 {
                break;
            }
        }
        self.columns = best.1;
        self.rank();
    }

    /// Items without neighbours on that side stay where they are, and the others take the places
    /// between them.
    fn sort(&mut self, column: usize, forward: bool) {
        let items = &self.items;
        let beside = |item: &usize| {
            let item = &items[*item];
            if forward { &item.left } else { &item.right }
        };
        let mean = |item: &usize| {
            let ranks = beside(item).iter().map(|other| items[*other].rank);
            ranks.sum::<usize>() as f64 / beside(item).len() as f64
        };
        let slots: Vec<usize> = (0..self.columns[column].len())
            .filter(|slot| !beside(&self.columns[column][*slot]).is_empty())
            .collect();
        let mut keyed: Vec<(f64, usize)> = slots
            .iter()
            .map(|slot| self.columns[column][*slot])
            .map(|item| (mean(&item), item))
            .collect();
        keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (slot, (_, item)) in slots.into_iter().zip(keyed) {
            self.columns[column][slot] = item;
        }
        for (rank, item) in self.columns[column].iter().enumerate() {
            self.items[*item].rank = rank;
        }
    }

    /// How often edges cross, by the tree of Barth, Jünger and Mutzel (2002).
    fn crossings(&self) -> usize {
        let pairs = self.columns.windows(2);
        pairs
            .map(|pair| {
                let mut tree = vec![0_usize; pair[1].len() + 1];
                let (mut crossings, mut seen) = (0, 0);
                for item in &pair[0] {
                    let right = &self.items[*item].right;
                    for other in right {
                        // Those before that end at or above this one's end do not cross it.
                        let mut at = self.items[*other].rank + 1;
                        let mut above = 0;
                        while at > 0 {
                            above += tree[at];
                            at &= at - 1;
                        }
                        crossings += seen - above;
                    }
                    for other in right {
                        let mut at = self.items[*other].rank + 1;
                        while at < tree.len() {
                            tree[at] += 1;
                            at += at & at.wrapping_neg();
                        }
                    }
                    seen += right.len();
                }
                crossings
            })
            .sum()
    }
}
