//! Where the boxes of a graph lie: columns by dependency, few crossings, edges around boxes.
//!
//! Owns the layered layout of Sugiyama, Tagawa and Toda (1981): each connected part by itself
//! (`layers`, `order`, `settle`, `route`), then all parts side by side (`pack`). Boxes with the same
//! edges are laid out as one (`twins`). Does not know what a box means.
//! Invariants: what a box needs lies to its right, or below where a row of columns was wrapped,
//! unless the two need each other; no two boxes overlap; every dependency is drawn; a part is as
//! high as its fullest column asks for, not more.

mod layers;
mod order;
mod pack;
mod reduce;
mod route;
mod settle;
mod twins;

pub use reduce::reduce;

/// Between two boxes of a column.
const ROW: f64 = 34.0;
/// For edges that pass through a column.
const LANE: f64 = 14.0;
/// Around everything.
const MARGIN: f64 = 30.0;
/// Of a box.
pub const BOX: f64 = 24.0;

/// A point, in CSS pixels.
type Point = (f64, f64);
/// Width and height, in CSS pixels.
type Size = (f64, f64);

/// A finished layout. Units are CSS pixels.
#[derive(Debug)]
pub struct Layout {
    /// Left edge and middle of each box.
    pub places: Vec<(f64, f64)>,
    /// Left, top, width and height of what is drawn around boxes that share their lines.
    pub frames: Vec<(f64, f64, f64, f64)>,
    /// One line for each dependency.
    pub edges: Vec<Edge>,
    /// Of everything.
    pub width: f64,
    /// Of everything.
    pub height: f64,
    /// Where a reader begins: a box at the top left that nothing needs; none without boxes.
    pub start: Option<usize>,
}

/// A line from what needs to what is needed.
#[derive(Debug)]
pub struct Edge {
    /// The box at its beginning.
    pub by: usize,
    /// The box at its tip.
    pub needs: usize,
    /// From `by` to `needs`.
    points: Vec<Point>,
}

/// A part of a picture, around its own origin.
#[derive(Debug)]
struct Piece {
    /// The boxes that it holds, and where each lies.
    places: Vec<(usize, Point)>,
    edges: Vec<Edge>,
    width: f64,
    height: f64,
    /// The box that is looked at first.
    start: usize,
}

impl Layout {
    /// Lays out boxes of these `widths`; `deps` lists what each needs.
    pub fn new(deps: &[Vec<usize>], widths: &[f64]) -> Self {
        let (blocks, inner) = twins::gather(deps, widths);
        let sizes: Vec<Size> = blocks.iter().map(|b| (b.width, b.height)).collect();
        let (parts, alone) = parts(&inner);
        let pieces = parts.iter().map(|part| piece(&inner, &sizes, part));
        let layout = pack::pack(pieces.collect(), &alone, &sizes);
        twins::spread(layout, &blocks, deps.len())
    }
}

impl Edge {
    /// The line as the `d` of a path in SVG.
    pub fn path(&self) -> String {
        route::path(&self.points)
    }
}

/// The connected parts, and the boxes without any edge.
fn parts(deps: &[Vec<usize>]) -> (Vec<Vec<usize>>, Vec<usize>) {
    let mut beside = vec![Vec::new(); deps.len()];
    for (by, needed) in deps.iter().enumerate() {
        for needs in needed.iter().filter(|needs| **needs != by) {
            beside[by].push(*needs);
            beside[*needs].push(by);
        }
    }
    let (mut parts, mut alone) = (Vec::new(), Vec::new());
    let mut seen = vec![false; deps.len()];
    for first in 0..deps.len() {
        if beside[first].is_empty() {
            alone.push(first);
        } else if !std::mem::replace(&mut seen[first], true) {
            let mut part = vec![first];
            let mut next = 0;
            while let Some(&node) = part.get(next) {
                next += 1;
                for other in &beside[node] {
                    if !std::mem::replace(&mut seen[*other], true) {
                        part.push(*other);
                    }
                }
            }
            part.sort_unstable();
            parts.push(part);
        }
    }
    (parts, alone)
}

/// Lays out the boxes of `part`, in ascending order, which are connected.
fn piece(deps: &[Vec<usize>], sizes: &[Size], part: &[usize]) -> Piece {
    let own = |node: &usize| part.binary_search(node).expect("a part is connected");
    let inner: Vec<Vec<usize>> = part
        .iter()
        .map(|node| {
            let others = deps[*node].iter().filter(|dep| *dep != node);
            others.map(own).collect()
        })
        .collect();
    let sizes: Vec<Size> = part.iter().map(|node| sizes[*node]).collect();
    let flow = layers::Flow::new(&inner);
    let mut grid = order::Grid::new(&flow, &sizes);
    grid.order();
    settle::settle(&mut grid);
    let mut piece = route::draw(&flow, &grid, &sizes);
    for (node, _) in &mut piece.places {
        *node = part[*node];
    }
    for edge in &mut piece.edges {
        (edge.by, edge.needs) = (part[edge.by], part[edge.needs]);
    }
    piece.start = part[piece.start];
    piece
}

#[cfg(test)]
mod tests;
