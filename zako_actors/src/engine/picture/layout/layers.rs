//! Which column each box is in.
//!
//! Owns how cycles are broken (packages may need each other) and the layers: the longest path from
//! the boxes that nothing needs, then boxes that need more than they are needed move up to what
//! they need.
//! Invariants: every link points to a later column; every column holds a box.

/// A dependency, turned so that all of them together have no cycle.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// The box in the earlier column.
    pub left: usize,
    /// The box in the later column.
    pub right: usize,
    /// The right one needs the left one: it closed a cycle.
    pub turned: bool,
}

/// Boxes in columns.
#[derive(Debug)]
pub struct Flow {
    /// One for each dependency.
    pub links: Vec<Link>,
    /// The column of each box.
    pub layer: Vec<usize>,
    /// All boxes, each before those right of it that were met through it.
    pub order: Vec<usize>,
}

impl Flow {
    /// `deps` lists what each box needs.
    pub fn new(deps: &[Vec<usize>]) -> Self {
        let (links, order) = untangle(deps);
        let mut left = vec![Vec::new(); deps.len()];
        let mut right = vec![Vec::new(); deps.len()];
        for link in &links {
            right[link.left].push(link.right);
            left[link.right].push(link.left);
        }
        let mut layer = vec![0; deps.len()];
        for node in &order {
            for other in &right[*node] {
                layer[*other] = layer[*other].max(layer[*node] + 1);
            }
        }
        for node in order.iter().rev() {
            let nearest = right[*node].iter().map(|other| layer[*other]).min();
            if let Some(nearest) = nearest
                && right[*node].len() > left[*node].len()
            {
                layer[*node] = nearest - 1;
            }
        }
        Self {
            links,
            layer,
            order,
        }
    }
}

/// Links without a cycle, and the boxes so that every link points forward. Depth first from what
/// nothing needs; a link back to a box that is still open is turned.
fn untangle(deps: &[Vec<usize>]) -> (Vec<Link>, Vec<usize>) {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut needed = vec![false; deps.len()];
    for dep in deps.iter().flatten() {
        needed[*dep] = true;
    }
    let (roots, others): (Vec<usize>, Vec<usize>) = (0..deps.len()).partition(|n| !needed[*n]);
    let mut mark = vec![Mark::New; deps.len()];
    let mut links = Vec::new();
    let mut finished = Vec::with_capacity(deps.len());
    for root in roots.into_iter().chain(others) {
        if mark[root] != Mark::New {
            continue;
        }
        mark[root] = Mark::Open;
        let mut stack = vec![(root, 0)];
        while let Some((node, next)) = stack.last_mut() {
            let Some(&dep) = deps[*node].get(*next) else {
                mark[*node] = Mark::Done;
                finished.push(*node);
                stack.pop();
                continue;
            };
            *next += 1;
            let turned = mark[dep] == Mark::Open;
            let (left, right) = if turned { (dep, *node) } else { (*node, dep) };
            links.push(Link {
                left,
                right,
                turned,
            });
            if mark[dep] == Mark::New {
                mark[dep] = Mark::Open;
                stack.push((dep, 0));
            }
        }
    }
    finished.reverse();
    (links, finished)
}
