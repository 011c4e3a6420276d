//! Which edges need not be drawn: those that follow from others.

use super::layers::Flow;

/// Above this many boxes all edges are kept: the sets of what each box reaches take a bit for each
/// pair, 50 MB for as many as these.
const MOST: usize = 20_000;

/// `deps`, what each box needs, without the edges that follow from others: what is reached from a
/// box stays the same.
pub fn reduce(deps: &[Vec<usize>]) -> Vec<Vec<usize>> {
    if deps.len() > MOST {
        return deps.to_vec();
    }
    let order = Flow::new(deps).order;
    let mut place = vec![0; deps.len()];
    for (at, node) in order.iter().enumerate() {
        place[*node] = at;
    }
    let words = deps.len().div_ceil(64);
    // What each box reaches, as bits. One that is met later in a cycle has none yet, so that the
    // edges of the cycle are kept.
    let mut below: Vec<Vec<u64>> = vec![Vec::new(); deps.len()];
    let mut reduced = vec![Vec::new(); deps.len()];
    for node in order.into_iter().rev() {
        let mut all = vec![0_u64; words];
        let mut direct = deps[node].clone();
        // The leftmost first: what they reach need not be drawn again.
        direct.sort_by_key(|dep| place[*dep]);
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
