//! How high each item lies in its column.
//!
//! Owns the vertical coordinates: every item wants to lie at the weighted mean of its neighbours,
//! and a column gives all of its items the places nearest to what they want that keep their order
//! and their distances. That is an isotonic regression, solved by pooling adjacent violators
//! (Ayer et al., 1955).
//! Invariants: no column is higher than the fullest one stacked without gaps; distances are kept.

use super::order::{Grid, Item};

/// Passes to the left, to the right, and by both sides; fewer for large graphs.
const SWEEPS: usize = 30;
/// Items that all passes together may move.
const EFFORT: usize = 4_000_000;

/// Gives every item its `y`; the top of the fullest column is at 0.
pub fn settle(grid: &mut Grid) {
    let full = |column: &Vec<usize>| column.iter().map(|item| grid.items[*item].height).sum();
    let heights: Vec<f64> = grid.columns.iter().map(full).collect();
    let room = heights.iter().copied().fold(0.0, f64::max);
    for (column, height) in grid.columns.iter().zip(&heights) {
        let mut y = (room - height) / 2.0;
        for item in column {
            let height = grid.items[*item].height;
            grid.items[*item].y = y + height / 2.0;
            y += height;
        }
    }
    let sweeps = (EFFORT / grid.items.len().max(1)).clamp(8, SWEEPS);
    for sweep in 0..sweeps {
        // First each side alone, so that far boxes come near; then both, so that none pulls more.
        let (left, right) = match sweep {
            0 | 2 | 4 => (true, false),
            1 | 3 | 5 => (false, true),
            _ => (true, true),
        };
        let forward = sweep % 2 == 0;
        for step in 0..grid.columns.len() {
            let last = grid.columns.len() - 1;
            let column = if forward { step } else { last - step };
            pull(grid, column, (left, right), room - heights[column]);
        }
    }
}

/// Moves the items of a column to where they want to be; `slack` is what it may lie lower than at
/// the top.
fn pull(grid: &mut Grid, column: usize, (left, right): (bool, bool), slack: f64) {
    /// Items that lie close together: the sum of what they want, of weights, and how many.
    struct Block {
        wanted: f64,
        weight: f64,
        items: usize,
    }
    let mut blocks: Vec<Block> = Vec::new();
    let mut above = 0.0;
    for index in &grid.columns[column] {
        let item = &grid.items[*index];
        let (mut wanted, mut weight) = (0.0, 0.0);
        let sides = [(left, &item.left), (right, &item.right)];
        for other in sides.into_iter().filter(|s| s.0).flat_map(|s| s.1) {
            let other = &grid.items[*other];
            let pull = straightness(item, other);
            wanted += pull * other.y;
            weight += pull;
        }
        if weight == 0.0 {
            (wanted, weight) = (item.y * 0.1, 0.1);
        }
        // Measured from where it would lie with nothing but the items above it.
        let rest = above + item.height / 2.0;
        above += item.height;
        blocks.push(Block {
            wanted: wanted - rest * weight,
            weight,
            items: 1,
        });
        while let [.., upper, lower] = &mut blocks[..]
            && upper.wanted / upper.weight >= lower.wanted / lower.weight
        {
            upper.wanted += lower.wanted;
            upper.weight += lower.weight;
            upper.items += lower.items;
            blocks.pop();
        }
    }
    let (mut next, mut above) = (0, 0.0);
    for block in blocks {
        let shift = (block.wanted / block.weight).clamp(0.0, slack.max(0.0));
        for index in &grid.columns[column][next..next + block.items] {
            let height = grid.items[*index].height;
            grid.items[*index].y = shift + above + height / 2.0;
            above += height;
        }
        next += block.items;
    }
}

/// How much an edge wants to be level: long ones most, as a reader has to follow them.
fn straightness(a: &Item, b: &Item) -> f64 {
    match (a.node, b.node) {
        (Some(_), Some(_)) => 1.0,
        (None, None) => 8.0,
        _ => 2.0,
    }
}
