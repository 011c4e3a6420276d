//! Where the boxes of a graph lie: columns by dependency, few crossings, edges around boxes.
//!
//! Owns the layered layout (Sugiyama, Tagawa and Toda, 1981): longest-path layers, points where an
//! edge crosses a layer, barycentre ordering, and coordinates. Does not know what a box means.
//! Invariants: what a box needs lies to its left; no two boxes overlap.

/// Between two boxes of a column.
const ROW: f64 = 34.0;
/// For an edge that passes through a column.
const LANE: f64 = 14.0;
/// Between two columns.
const GAP: f64 = 90.0;
/// Around everything.
const MARGIN: f64 = 30.0;
/// Passes over all columns; more change nothing that a reader would see.
const SWEEPS: usize = 12;

/// A finished layout. Units are CSS pixels.
#[derive(Debug)]
pub struct Layout {
    /// Left edge and middle of each box.
    pub places: Vec<(f64, f64)>,
    /// One line for each dependency.
    pub edges: Vec<Edge>,
    /// Of everything.
    pub width: f64,
    /// Of everything.
    pub height: f64,
}

/// A line from what is needed to what needs it.
#[derive(Debug)]
pub struct Edge {
    /// The box at its left end.
    pub needs: usize,
    /// The box at its right end.
    pub by: usize,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

/// Something in a column: a box, or the passage of an edge.
#[derive(Clone, Copy, Debug)]
struct Item {
    /// The box, when it is one.
    node: Option<usize>,
    y: f64,
}

/// `deps` (dependencies have smaller places) without the edges that follow from others.
pub fn reduce(deps: &[Vec<usize>]) -> Vec<Vec<usize>> {
    // Sets of everything below each node, as bits: a picture has at most a few thousand boxes.
    let words = deps.len().div_ceil(64);
    let mut below: Vec<Vec<u64>> = vec![Vec::new(); deps.len()];
    let order = layers(deps);
    let mut by_layer: Vec<usize> = (0..deps.len()).collect();
    by_layer.sort_by_key(|node| order[*node]);
    let mut reduced = vec![Vec::new(); deps.len()];
    for node in by_layer {
        let mut all = vec![0_u64; words];
        let mut direct = deps[node].clone();
        // The deepest first: what they reach need not be drawn again.
        direct.sort_by_key(|dep| std::cmp::Reverse(order[*dep]));
        for dep in direct {
            if all[dep / 64] & (1 << (dep % 64)) == 0 {
                reduced[node].push(dep);
            }
            all[dep / 64] |= 1 << (dep % 64);
            for (word, more) in all.iter_mut().zip(&below[dep]) {
                *word |= more;
            }
        }
        below[node] = all;
    }
    reduced
}

/// The column of each box: one more than the largest of what it needs. A cycle (packages may need
/// each other) is cut where it is met again.
fn layers(deps: &[Vec<usize>]) -> Vec<usize> {
    const UNSEEN: usize = usize::MAX;
    const OPEN: usize = usize::MAX - 1;
    let mut layer = vec![UNSEEN; deps.len()];
    for root in 0..deps.len() {
        let mut stack = vec![root];
        while let Some(&node) = stack.last() {
            match layer[node] {
                UNSEEN => {
                    layer[node] = OPEN;
                    stack.extend(deps[node].iter().filter(|dep| layer[**dep] == UNSEEN));
                }
                OPEN => {
                    let known = deps[node].iter().map(|dep| layer[*dep]);
                    layer[node] = known
                        .filter(|l| *l < OPEN)
                        .map(|l| l + 1)
                        .max()
                        .unwrap_or(0);
                    stack.pop();
                }
                _ => drop(stack.pop()),
            }
        }
    }
    layer
}

impl Layout {
    /// Lays out boxes of these `widths`; `deps` lists what each needs.
    pub fn new(deps: &[Vec<usize>], widths: &[f64]) -> Self {
        let layer = layers(deps);
        let mut grid = Grid::new(deps, &layer);
        grid.order();
        let height = grid.settle();
        let mut x = MARGIN;
        let mut lefts = Vec::with_capacity(grid.columns.len());
        let mut rights = Vec::with_capacity(grid.columns.len());
        for column in &grid.columns {
            let boxes = column.iter().filter_map(|item| grid.items[*item].node);
            let widest = boxes.map(|node| widths[node]).fold(0.0, f64::max);
            lefts.push(x);
            rights.push(x + widest);
            x += widest + GAP;
        }
        let places: Vec<(f64, f64)> = (0..deps.len())
            .map(|node| (lefts[layer[node]], grid.items[node].y))
            .collect();
        let edges = grid.chains.iter().map(|chain| {
            let last = chain.items.len() - 1;
            let mut points = Vec::with_capacity(chain.items.len() * 2);
            for (step, item) in chain.items.iter().enumerate() {
                let y = grid.items[*item].y;
                let column = layer[chain.needs] + step;
                if step == 0 {
                    points.push((lefts[column] + widths[chain.needs], y));
                    points.push((rights[column], y));
                } else if step == last {
                    points.push((lefts[column], y));
                } else {
                    points.extend([(lefts[column], y), (rights[column], y)]);
                }
            }
            Edge {
                needs: chain.needs,
                by: chain.by,
                points,
            }
        });
        Self {
            edges: edges.collect(),
            places,
            width: x - GAP + MARGIN,
            height,
        }
    }
}

/// A dependency with its passages through the columns between.
struct Chain {
    needs: usize,
    by: usize,
    items: Vec<usize>,
}

struct Grid {
    items: Vec<Item>,
    columns: Vec<Vec<usize>>,
    chains: Vec<Chain>,
    left: Vec<Vec<usize>>,
    right: Vec<Vec<usize>>,
}

impl Grid {
    fn new(deps: &[Vec<usize>], layer: &[usize]) -> Self {
        let count = layer.iter().max().map_or(0, |last| last + 1);
        let mut grid = Self {
            items: Vec::new(),
            columns: vec![Vec::new(); count],
            chains: Vec::new(),
            left: Vec::new(),
            right: Vec::new(),
        };
        for (node, column) in layer.iter().enumerate() {
            grid.add(*column, Some(node));
        }
        for (by, needed) in deps.iter().enumerate() {
            for needs in needed
                .iter()
                .copied()
                .filter(|needs| layer[*needs] < layer[by])
            {
                let mut items = vec![needs];
                for column in layer[needs] + 1..layer[by] {
                    items.push(grid.add(column, None));
                }
                items.push(by);
                for pair in items.windows(2) {
                    grid.right[pair[0]].push(pair[1]);
                    grid.left[pair[1]].push(pair[0]);
                }
                grid.chains.push(Chain { needs, by, items });
            }
        }
        grid
    }

    fn add(&mut self, column: usize, node: Option<usize>) -> usize {
        let item = self.items.len();
        let y = self.columns[column].len() as f64 * ROW;
        self.items.push(Item { node, y });
        self.columns[column].push(item);
        self.left.push(Vec::new());
        self.right.push(Vec::new());
        item
    }

    /// Sorts every column by the mean place of its neighbours, to and fro.
    fn order(&mut self) {
        for sweep in 0..SWEEPS {
            let forward = sweep % 2 == 0;
            for step in 0..self.columns.len() {
                let column = if forward {
                    step
                } else {
                    self.columns.len() - 1 - step
                };
                let neighbours = if forward { &self.left } else { &self.right };
                let mut keyed: Vec<(f64, usize)> = self.columns[column]
                    .iter()
                    .map(|item| (self.mean(&neighbours[*item], *item), *item))
                    .collect();
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
                self.columns[column] = keyed.into_iter().map(|(_, item)| item).collect();
                self.stack(column);
            }
        }
    }

    fn mean(&self, neighbours: &[usize], item: usize) -> f64 {
        if neighbours.is_empty() {
            return self.items[item].y;
        }
        let sum: f64 = neighbours.iter().map(|other| self.items[*other].y).sum();
        sum / neighbours.len() as f64
    }

    fn height(&self, item: usize) -> f64 {
        if self.items[item].node.is_some() {
            ROW
        } else {
            LANE
        }
    }

    /// Places a column's items one below the other around zero.
    fn stack(&mut self, column: usize) {
        let total: f64 = self.columns[column]
            .iter()
            .map(|item| self.height(*item))
            .sum();
        let mut y = -total / 2.0;
        for index in 0..self.columns[column].len() {
            let item = self.columns[column][index];
            let height = self.height(item);
            self.items[item].y = y + height / 2.0;
            y += height;
        }
    }

    /// Moves items towards their neighbours where there is room. Returns the height of everything.
    fn settle(&mut self) -> f64 {
        for sweep in 0..SWEEPS {
            let forward = sweep % 2 == 0;
            for step in 0..self.columns.len() {
                let column = if forward {
                    step
                } else {
                    self.columns.len() - 1 - step
                };
                self.pull(column, forward);
            }
        }
        let top = self
            .items
            .iter()
            .map(|item| item.y)
            .fold(f64::MAX, f64::min);
        let bottom = self
            .items
            .iter()
            .map(|item| item.y)
            .fold(f64::MIN, f64::max);
        if self.items.is_empty() {
            return 2.0 * MARGIN;
        }
        for item in &mut self.items {
            item.y += MARGIN + ROW / 2.0 - top;
        }
        bottom - top + ROW + 2.0 * MARGIN
    }

    fn pull(&mut self, column: usize, forward: bool) {
        let items = self.columns[column].clone();
        let neighbours = if forward { &self.left } else { &self.right };
        let wanted: Vec<f64> = items
            .iter()
            .map(|item| self.mean(&neighbours[*item], *item))
            .collect();
        // Down: nobody above may be touched; then the whole block back up to where it wants to be.
        let mut placed: Vec<f64> = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let least = index.checked_sub(1).map_or(f64::MIN, |above| {
                placed[above] + (self.height(items[above]) + self.height(*item)) / 2.0
            });
            placed.push(wanted[index].max(least));
        }
        for index in (0..items.len()).rev() {
            let most = placed.get(index + 1).map_or(f64::MAX, |below| {
                below - (self.height(items[index + 1]) + self.height(items[index])) / 2.0
            });
            let least = index.checked_sub(1).map_or(f64::MIN, |above| {
                placed[above] + (self.height(items[above]) + self.height(items[index])) / 2.0
            });
            let middle = f64::midpoint(wanted[index].min(most), placed[index].min(most));
            placed[index] = middle.max(least.min(most));
        }
        for (item, y) in items.iter().zip(placed) {
            self.items[*item].y = y;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn boxes_never_overlap_and_needs_lie_to_the_left(
            edges in prop::collection::vec((0usize..30, 0usize..30), 0..80),
        ) {
            let mut deps = vec![Vec::new(); 30];
            for (a, b) in edges {
                if a < b && !deps[b].contains(&a) { deps[b].push(a) }
            }
            let widths: Vec<f64> = (0..30).map(|n| 40.0 + f64::from(n)).collect();
            let layout = Layout::new(&deps, &widths);
            for (a, needed) in deps.iter().enumerate() {
                for b in 0..a {
                    let ((ax, ay), (bx, by)) = (layout.places[a], layout.places[b]);
                    prop_assert!(ax != bx || (ay - by).abs() > ROW - 1.0, "{a} {b}");
                }
                for dep in needed {
                    prop_assert!(layout.places[*dep].0 + widths[*dep] < layout.places[a].0);
                }
            }
            prop_assert_eq!(layout.edges.len(), deps.iter().map(Vec::len).sum::<usize>());
        }

        #[test]
        fn reducing_keeps_what_is_reached(
            edges in prop::collection::vec((0usize..20, 0usize..20), 0..60),
        ) {
            let mut deps = vec![Vec::new(); 20];
            for (a, b) in edges {
                if a < b && !deps[b].contains(&a) { deps[b].push(a) }
            }
            let reach = |deps: &[Vec<usize>]| -> Vec<std::collections::BTreeSet<usize>> {
                let mut all: Vec<std::collections::BTreeSet<usize>> = Vec::new();
                for needed in deps {
                    let mut below: std::collections::BTreeSet<usize> = needed.iter().copied().collect();
                    for dep in needed { below.extend(all[*dep].iter().copied()) }
                    all.push(below);
                }
                all
            };
            let reduced = reduce(&deps);
            prop_assert_eq!(reach(&deps), reach(&reduced));
        }
    }

    #[test]
    fn a_cycle_of_packages_ends() {
        let layout = Layout::new(&[vec![1], vec![0], vec![2]], &[10.0, 10.0, 10.0]);
        assert_eq!(layout.places.len(), 3);
    }
}
