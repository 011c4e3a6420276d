//! Boxes that need the same and are needed by the same, as one block.
//!
//! Owns the blocks: a library that hundreds of targets need would otherwise stand beside a column
//! of hundreds. Their edges are the same but for where they begin, so a block has one line for all.
//! Invariants: every box is in exactly one block; most are alone in theirs.

use std::collections::BTreeMap;

use super::{BOX, Edge, Layout, ROW};

/// Fewer boxes than these stay as they are.
const FEWEST: usize = 8;
/// Between the frame of a block and its boxes.
const PADDING: f64 = 10.0;
/// Between two columns of a block.
const BESIDE: f64 = 16.0;
/// A block's width over its height.
const ASPECT: f64 = 1.4;

/// Boxes that are laid out as one.
#[derive(Debug)]
pub struct Block {
    members: Vec<usize>,
    rows: usize,
    /// Of one member's place.
    cell: f64,
    /// Of the whole block.
    pub width: f64,
    /// Of the whole block.
    pub height: f64,
}

impl Block {
    fn new(members: Vec<usize>, widths: &[f64]) -> Self {
        let widest = members.iter().map(|n| widths[*n]).fold(0.0, f64::max);
        if let [_] = members[..] {
            return Self {
                members,
                rows: 1,
                cell: widest,
                width: widest,
                height: BOX,
            };
        }
        let cell = widest + BESIDE;
        let count = members.len();
        let columns = (count as f64 * ROW * ASPECT / cell).sqrt().round();
        let rows = count.div_ceil((columns as usize).clamp(1, count));
        let columns = count.div_ceil(rows);
        Self {
            members,
            rows,
            cell,
            width: columns as f64 * cell - BESIDE + 2.0 * PADDING,
            height: rows as f64 * ROW - (ROW - BOX) + 2.0 * PADDING,
        }
    }
}

/// The blocks of a graph, and what each block needs.
pub fn gather(deps: &[Vec<usize>], widths: &[f64]) -> (Vec<Block>, Vec<Vec<usize>>) {
    let mut users = vec![Vec::new(); deps.len()];
    for (by, needed) in deps.iter().enumerate() {
        for needs in needed {
            users[*needs].push(by);
        }
    }
    let mut alike: BTreeMap<(Vec<usize>, &[usize]), Vec<usize>> = BTreeMap::new();
    for node in 0..deps.len() {
        let mut needed = deps[node].clone();
        needed.sort_unstable();
        alike.entry((needed, &users[node])).or_default().push(node);
    }
    // Boxes without any edge are no block: they are laid out by themselves.
    alike.retain(|(needed, users), members| {
        members.len() >= FEWEST && (!needed.is_empty() || !users.is_empty())
    });
    let mut leader: Vec<usize> = (0..deps.len()).collect();
    for members in alike.values() {
        for member in members {
            leader[*member] = members[0];
        }
    }
    let mut members = vec![Vec::new(); deps.len()];
    for (node, leader) in leader.iter().enumerate() {
        members[*leader].push(node);
    }
    let mut block_of = vec![0; deps.len()];
    let mut blocks = Vec::new();
    for members in members.into_iter().filter(|members| !members.is_empty()) {
        for member in &members {
            block_of[*member] = blocks.len();
        }
        blocks.push(Block::new(members, widths));
    }
    let needed = |block: &Block| {
        let needed = &deps[block.members[0]];
        let mut needed: Vec<usize> = needed.iter().map(|dep| block_of[*dep]).collect();
        needed.sort_unstable();
        needed.dedup();
        needed
    };
    let inner = blocks.iter().map(needed).collect();
    (blocks, inner)
}

/// A layout of blocks as one of the `count` boxes in them.
pub fn spread(layout: Layout, blocks: &[Block], count: usize) -> Layout {
    let mut places = vec![(0.0, 0.0); count];
    let mut frames = Vec::new();
    for (block, (left, middle)) in blocks.iter().zip(&layout.places) {
        if let [only] = block.members[..] {
            places[only] = (*left, *middle);
            continue;
        }
        let top = middle - block.height / 2.0;
        frames.push((*left, top, block.width, block.height));
        for (index, member) in block.members.iter().enumerate() {
            let (column, row) = ((index / block.rows) as f64, (index % block.rows) as f64);
            let y = top + PADDING + BOX / 2.0 + row * ROW;
            places[*member] = (left + PADDING + column * block.cell, y);
        }
    }
    let mut edges = Vec::with_capacity(layout.edges.len());
    for edge in &layout.edges {
        for by in &blocks[edge.by].members {
            edges.extend(blocks[edge.needs].members.iter().map(|needs| Edge {
                by: *by,
                needs: *needs,
                points: edge.points.clone(),
            }));
        }
    }
    Layout {
        places,
        frames,
        edges,
        start: layout.start.map(|block| blocks[block].members[0]),
        ..layout
    }
}
