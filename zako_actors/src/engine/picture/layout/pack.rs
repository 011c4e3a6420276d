//! Where the parts of a picture lie: side by side and below each other, about as wide as a screen.
//!
//! Owns the shelves that parts are put on, the highest part first, and the grid of boxes that have
//! no edge at all.

use super::{Edge, Layout, MARGIN, Piece, Point, ROW, Size};

/// Between two parts.
const APART: f64 = 36.0;
/// Between two columns of boxes without edges.
const BESIDE: f64 = 20.0;
/// A picture's width over its height, when its parts leave the choice.
const ASPECT: f64 = 1.7;
/// No narrower than this while there is more to place.
const NARROW: f64 = 1200.0;

/// All parts in one picture; `alone` are the boxes without edges, of these `sizes`.
pub fn pack(mut pieces: Vec<Piece>, alone: &[usize], sizes: &[Size]) -> Layout {
    let widest = alone.iter().map(|n| sizes[*n].0).fold(0.0, f64::max) + BESIDE;
    let areas = pieces
        .iter()
        .map(|piece| (piece.width + APART) * (piece.height + APART));
    let area = areas.sum::<f64>() + alone.len() as f64 * widest * ROW;
    let limit = (area * ASPECT).sqrt().max(NARROW);
    // `sort_by` keeps the order of labels among equals.
    pieces.sort_by(|a, b| b.height.total_cmp(&a.height));
    pieces.extend(grid(alone, sizes, widest, limit));

    let mut layout = Layout {
        places: vec![(0.0, 0.0); sizes.len()],
        frames: Vec::new(),
        edges: Vec::new(),
        width: 0.0,
        height: 0.0,
        start: pieces.first().map(|piece| piece.start),
    };
    let mut shelf = Shelf::default();
    for piece in pieces {
        let (x, y) = shelf.put(piece.width, piece.height, limit);
        let (x, y) = (x + MARGIN, y + MARGIN);
        layout.width = layout.width.max(x + piece.width);
        layout.height = layout.height.max(y + piece.height);
        for (node, place) in &piece.places {
            layout.places[*node] = (place.0 + x, place.1 + y);
        }
        let moved = |(a, b): &Point| (a + x, b + y);
        layout
            .edges
            .extend(piece.edges.into_iter().map(|edge| Edge {
                points: edge.points.iter().map(moved).collect(),
                ..edge
            }));
    }
    layout.width += MARGIN;
    layout.height += MARGIN;
    layout
}

/// A row of stacks; the first part of a row is its highest.
#[derive(Default)]
struct Shelf {
    top: f64,
    height: f64,
    /// Of the stack that is being filled.
    left: f64,
    width: f64,
    filled: f64,
}

impl Shelf {
    /// The top left corner of a part of this size.
    fn put(&mut self, width: f64, height: f64, limit: f64) -> Point {
        let right = self.left + self.width.max(width);
        if self.filled > 0.0 && self.filled + height <= self.height && right <= limit {
            // Below the last one.
        } else if self.left + self.width + width <= limit && height <= self.height {
            self.left += self.width;
            (self.width, self.filled) = (0.0, 0.0);
        } else {
            *self = Self {
                top: self.top + self.height,
                height: height + APART,
                ..Self::default()
            };
        }
        let place = (self.left, self.top + self.filled);
        self.width = self.width.max(width + APART);
        self.filled += height + APART;
        place
    }
}

/// Boxes without edges in columns of the `widest`, read from the top.
fn grid(alone: &[usize], sizes: &[Size], widest: f64, limit: f64) -> Option<Piece> {
    let columns = ((limit / widest) as usize).clamp(1, alone.len().max(1));
    let rows = alone.len().div_ceil(columns);
    let columns = alone.len().div_ceil(rows.max(1));
    let place = |(index, node): (usize, &usize)| {
        let (column, row) = (index / rows, index % rows);
        let y = (row as f64 + 0.5) * ROW;
        (*node, (column as f64 * widest, y))
    };
    let last = alone.last()?;
    Some(Piece {
        places: alone.iter().enumerate().map(place).collect(),
        edges: Vec::new(),
        width: (columns - 1) as f64 * widest + sizes[*last].0.max(widest - BESIDE),
        height: rows as f64 * ROW,
        start: alone[0],
    })
}
