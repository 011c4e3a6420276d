//! Who waits for whom, in lists of eight bytes an edge.
//!
//! Owns the lists of all nodes in one piece of memory. Does not know what waiting means.
//! Invariant: the dependants of a node keep the order in which they came.

/// No link.
const NONE: u32 = u32::MAX;

/// The dependants of nodes `0..n`.
#[derive(Debug, Default)]
pub struct Dependants {
    /// The first and the last link of each node.
    ends: Vec<(u32, u32)>,
    /// A dependant, and the link behind it.
    links: Vec<(u32, u32)>,
}

impl Dependants {
    /// One node more, without any.
    pub fn add_node(&mut self) {
        self.ends.push((NONE, NONE));
    }

    /// `dependant` waits for `node`.
    pub fn push(&mut self, node: u32, dependant: u32) {
        let link = u32::try_from(self.links.len()).expect("fewer than 2^32 edges");
        self.links.push((dependant, NONE));
        let (first, last) = &mut self.ends[node as usize];
        match *last {
            NONE => *first = link,
            before => self.links[before as usize].1 = link,
        }
        *last = link;
    }

    /// Those who wait for `node`.
    pub fn of(&self, node: u32) -> impl Iterator<Item = u32> {
        let mut at = self.ends[node as usize].0;
        std::iter::from_fn(move || {
            let (dependant, next) = *self.links.get(at as usize)?;
            at = next;
            Some(dependant)
        })
    }

    /// Those who wait for `node`; from then on nobody does.
    pub fn take(&mut self, node: u32) -> Vec<u32> {
        let all = self.of(node).collect();
        self.ends[node as usize] = (NONE, NONE);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependants_keep_their_order_until_they_are_taken() {
        let mut dependants = Dependants::default();
        (0..3).for_each(|_| dependants.add_node());
        for (node, dependant) in [(0, 1), (1, 2), (0, 2), (0, 7)] {
            dependants.push(node, dependant);
        }
        assert!(dependants.of(0).eq([1, 2, 7]) && dependants.of(2).next().is_none());
        assert_eq!(dependants.take(0), [1, 2, 7]);
        assert!(dependants.take(0).is_empty());
        dependants.push(0, 8);
        assert!(dependants.of(0).eq([8]) && dependants.of(1).eq([2]));
    }
}
