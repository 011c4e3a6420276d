//! How edges run, and where columns begin.
//!
//! Owns horizontal coordinates, the wrapping of long rows of columns, and the lines of edges.
//! Invariants: an edge passes between boxes, never through one.

use std::fmt::Write as _;
use std::ops::Range;

use super::layers::Flow;
use super::order::Grid;
use super::{Edge, Piece, Point, Size};

/// Between two columns, at least; more where edges are steep.
const GAP: f64 = 56.0;
const STEEP: f64 = 130.0;
/// A row of columns wider than this may be wrapped, when it is also many times wider than high.
const WIDE: f64 = 1800.0;
const ASPECT: f64 = 1.6;
/// More lines than this are not led back from the end of a row to the next one's beginning.
const LINES: usize = 6;
/// Between such lines, and from them to the boxes.
const LINE: f64 = 7.0;
const AROUND: f64 = 18.0;
/// How far the line that closes a cycle lies below the others.
const ASIDE: f64 = 7.0;
/// Of the corners of lines that are led back.
const CORNER: f64 = 6.0;

/// Columns that lie in one row.
struct Band {
    columns: Range<usize>,
    /// What its items are moved down by.
    shift: f64,
    bottom: f64,
    right: f64,
}

/// The finished part.
pub fn draw(flow: &Flow, grid: &Grid, sizes: &[Size]) -> Piece {
    let columns = Columns::new(grid, sizes);
    let (lefts, bands) = columns.place(grid, &columns.cuts(grid));
    let mut band_of = vec![0; grid.columns.len()];
    for (at, band) in bands.iter().enumerate() {
        band_of[band.columns.clone()].fill(at);
    }
    let edges = flow.links.iter().zip(&grid.chains).map(|(link, chain)| {
        let aside = if link.turned { ASIDE } else { 0.0 };
        let mut points: Vec<Point> = Vec::with_capacity(chain.len() * 2);
        for (step, item) in chain.iter().enumerate() {
            let column = flow.layer[link.left] + step;
            let band = band_of[column];
            let y = grid.items[*item].y + bands[band].shift + aside;
            let left = lefts[column];
            if step > 0 {
                if band_of[column - 1] != band {
                    lead_back(&mut points, grid, column, *item, &bands[band - 1]);
                    let x = left - AROUND - LINE * line(grid, column, *item).0 as f64;
                    let above = points.last().expect("a line is led back").1;
                    points.extend([(x, above), (x, y)]);
                }
                points.push((left, y));
            }
            if step == 0 {
                points.push((left + sizes[link.left].0, y));
            }
            if step + 1 < chain.len() {
                points.push((left + columns.widths[column], y));
            }
        }
        let (mut by, mut needs) = (link.left, link.right);
        if link.turned {
            points.reverse();
            (by, needs) = (needs, by);
        }
        Edge { by, needs, points }
    });
    let places: Vec<(usize, Point)> = (0..sizes.len())
        .map(|node| {
            let column = flow.layer[node];
            let y = grid.items[node].y + bands[band_of[column]].shift;
            (node, (lefts[column], y))
        })
        .collect();
    let first = grid.columns[0]
        .iter()
        .find_map(|item| grid.items[*item].node);
    Piece {
        places,
        edges: edges.collect(),
        width: bands.iter().map(|band| band.right).fold(0.0, f64::max),
        height: bands.last().map_or(0.0, |band| band.bottom),
        start: first.expect("the first column holds a box"),
    }
}

/// Widths of columns and of what is between them.
struct Columns {
    widths: Vec<f64>,
    /// After each column.
    gaps: Vec<f64>,
    /// How many lines each column is reached by from the one before.
    lines: Vec<usize>,
}

impl Columns {
    fn new(grid: &Grid, sizes: &[Size]) -> Self {
        let boxes = |column: &Vec<usize>| {
            let boxes = column.iter().filter_map(|item| grid.items[*item].node);
            boxes.map(|node| sizes[node].0).fold(0.0, f64::max)
        };
        let gap = |column: &Vec<usize>| {
            let falls = column.iter().flat_map(|item| {
                let item = &grid.items[*item];
                let right = item.right.iter();
                right.map(|other| (grid.items[*other].y - item.y).abs())
            });
            GAP + (falls.fold(0.0, f64::max) / 6.0).min(STEEP)
        };
        let lines = |column: &Vec<usize>| {
            let reached = column.iter().filter(|i| !grid.items[**i].left.is_empty());
            reached.count()
        };
        Self {
            widths: grid.columns.iter().map(boxes).collect(),
            gaps: grid.columns.iter().map(gap).collect(),
            lines: grid.columns.iter().map(lines).collect(),
        }
    }

    /// The columns that begin a new row: none, unless one row is far too long and few lines run
    /// where it is cut.
    fn cuts(&self, grid: &Grid) -> Vec<usize> {
        let count = self.widths.len();
        let mut ends = Vec::with_capacity(count);
        let mut x = 0.0;
        for (width, gap) in self.widths.iter().zip(&self.gaps) {
            x += width + gap;
            ends.push(x);
        }
        let height = extent(grid, &(0..count)).1;
        let rows = (x / (ASPECT * (height + 2.0 * AROUND))).sqrt().round();
        let mut cuts = Vec::new();
        if x < WIDE || x < 3.0 * height {
            return cuts;
        }
        for row in 1..rows as usize {
            let ideal = x * row as f64 / rows;
            let away = |cut: usize| (ends[cut - 1] - ideal).abs() * rows / x;
            let from = cuts.last().map_or(0, |cut| *cut);
            let near = (from + 1..count).filter(|cut| away(*cut) < 0.4);
            let cost = |cut: usize| self.lines[cut] as f64 + 2.0 * away(cut);
            match near.min_by(|a, b| cost(*a).total_cmp(&cost(*b))) {
                Some(cut) if self.lines[cut] <= LINES => cuts.push(cut),
                _ => return Vec::new(),
            }
        }
        cuts
    }

    /// Left edges of all columns, and the rows.
    fn place(&self, grid: &Grid, cuts: &[usize]) -> (Vec<f64>, Vec<Band>) {
        // What lines take that are led back to before a column.
        let aside = |cut: &usize| AROUND + LINE * self.lines[*cut] as f64;
        let most = cuts.iter().map(aside).fold(0.0, f64::max);
        let mut lefts = Vec::with_capacity(self.widths.len());
        let mut bands: Vec<Band> = Vec::with_capacity(cuts.len() + 1);
        let mut y = 0.0;
        for row in 0..=cuts.len() {
            let from = if row == 0 { 0 } else { cuts[row - 1] };
            let columns = from..cuts.get(row).map_or(self.widths.len(), |cut| *cut);
            if let Some(above) = bands.last_mut() {
                above.right += aside(&from);
                y += aside(&from);
            }
            let (top, bottom) = extent(grid, &columns);
            let mut x = most;
            let mut right = x;
            for column in columns.clone() {
                lefts.push(x);
                right = x + self.widths[column];
                x = right + self.gaps[column];
            }
            bands.push(Band {
                columns,
                shift: y - top,
                bottom: y + bottom - top,
                right,
            });
            y += bottom - top;
        }
        (lefts, bands)
    }
}

/// Which of the lines into `column` leads to `item`, from the top, and how many there are.
fn line(grid: &Grid, column: usize, item: usize) -> (usize, usize) {
    let reached = grid.columns[column].iter();
    let reached: Vec<&usize> = reached
        .filter(|i| !grid.items[**i].left.is_empty())
        .collect();
    let at = reached.iter().position(|i| **i == item);
    (at.expect("a line leads to it"), reached.len())
}

/// From the end of a row down to between it and the next. The topmost line goes outermost, so that
/// no two cross.
fn lead_back(points: &mut Vec<Point>, grid: &Grid, column: usize, item: usize, row: &Band) {
    let (index, count) = line(grid, column, item);
    let out = LINE * (count - 1 - index) as f64;
    let x = row.right - LINE * index as f64;
    let y = row.bottom + AROUND / 2.0 + out;
    let from = points.last().expect("a line begins at a box").1;
    points.extend([(x, from), (x, y)]);
}

/// Top and bottom of what lies in `columns`.
fn extent(grid: &Grid, columns: &Range<usize>) -> (f64, f64) {
    let items = grid.columns[columns.clone()].iter().flatten();
    items.fold((f64::MAX, f64::MIN), |(top, bottom), item| {
        let item = &grid.items[*item];
        let half = item.height / 2.0;
        (top.min(item.y - half), bottom.max(item.y + half))
    })
}

/// `points` as the `d` of a path: level or upright from one to the next, a curve otherwise.
pub fn path(points: &[Point]) -> String {
    let mut text = String::new();
    let mut points: Vec<Point> = points.iter().map(|p| (p.0.round(), p.1.round())).collect();
    points.dedup();
    let _ = write!(text, "M{},{}", points[0].0, points[0].1);
    for (at, pair) in points.windows(2).enumerate() {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        if x0 != x1 && y0 != y1 {
            let middle = f64::midpoint(x0, x1);
            let _ = write!(text, "C{middle},{y0} {middle},{y1} {x1},{y1}");
            continue;
        }
        // A corner, when the next piece turns: the line is cut short and bent.
        let turn = points.get(at + 2).filter(|(x2, y2)| {
            (x0 == x1 && y1 == *y2 && *x2 != x1) || (y0 == y1 && x1 == *x2 && *y2 != y1)
        });
        match turn {
            None => {
                let _ = write!(text, "L{x1},{y1}");
            }
            Some((x2, y2)) => {
                let (x, y) = (toward(x1, x0), toward(y1, y0));
                let (to_x, to_y) = (toward(x1, *x2), toward(y1, *y2));
                let _ = write!(text, "L{x},{y}Q{x1},{y1} {to_x},{to_y}");
            }
        }
    }
    text
}

fn toward(from: f64, to: f64) -> f64 {
    from + (to - from).clamp(-CORNER, CORNER)
}
