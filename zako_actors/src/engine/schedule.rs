//! What may run next: the scheduler's state, apart from any thread or process.
//!
//! Owns the life of every node: waiting → ready → running → finished, and the order among ready
//! ones. Does not know how a node is run.
//! Invariants: a node starts at most once, after all its dependencies succeeded; at most `jobs`
//! run at a time; every node reaches exactly one end, whatever fails or is cancelled.

use std::collections::BinaryHeap;

/// How a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its outputs are there.
    Done,
    /// Its own work failed.
    Failed,
    /// Something that it needs failed, or the build stopped before it began.
    Skipped,
    /// It was running when the build was cancelled.
    Cancelled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Waiting(u32),
    Ready,
    Running,
    Ended(End),
}

/// The scheduler's state over nodes `0..n`.
#[derive(Debug)]
pub struct Schedule {
    lives: Vec<Life>,
    dependants: Vec<Vec<u32>>,
    /// Time from this node's start to the end of the longest chain through it, µs.
    path_us: Vec<u64>,
    ready: BinaryHeap<(u64, std::cmp::Reverse<u32>)>,
    running: usize,
    unended: usize,
    jobs: usize,
    keep_going: bool,
    stopped: bool,
}

impl Schedule {
    /// A schedule for nodes whose dependencies are `deps` (indices, dependencies first) and that
    /// are expected to take `cost_us`.
    pub fn new(deps: &[Vec<u32>], cost_us: &[u64], jobs: usize, keep_going: bool) -> Self {
        let count = deps.len();
        let mut dependants = vec![Vec::new(); count];
        for (node, needed) in deps.iter().enumerate() {
            for dep in needed {
                dependants[*dep as usize].push(node as u32);
            }
        }
        let mut path_us = cost_us.to_vec();
        for node in (0..count).rev() {
            let longest = dependants[node]
                .iter()
                .map(|d| path_us[*d as usize])
                .max()
                .unwrap_or(0);
            // Even an unknown cost makes a chain longer.
            path_us[node] = cost_us[node].max(1).saturating_add(longest);
        }
        let mut schedule = Self {
            lives: deps
                .iter()
                .map(|needed| Life::Waiting(needed.len() as u32))
                .collect(),
            dependants,
            path_us,
            ready: BinaryHeap::new(),
            running: 0,
            unended: count,
            jobs: jobs.max(1),
            keep_going,
            stopped: false,
        };
        for node in 0..count as u32 {
            if schedule.lives[node as usize] == Life::Waiting(0) {
                schedule.make_ready(node);
            }
        }
        schedule
    }

    fn make_ready(&mut self, node: u32) {
        self.lives[node as usize] = Life::Ready;
        self.ready
            .push((self.path_us[node as usize], std::cmp::Reverse(node)));
    }

    /// Takes the most urgent ready node, when another may run.
    pub fn start_next(&mut self) -> Option<u32> {
        if self.stopped || self.running >= self.jobs {
            return None;
        }
        while let Some((_, std::cmp::Reverse(node))) = self.ready.pop() {
            if self.lives[node as usize] == Life::Ready {
                self.lives[node as usize] = Life::Running;
                self.running += 1;
                return Some(node);
            }
        }
        None
    }

    /// Ends a running node. The nodes that end with it (skipped) are handed to `ended`, itself not.
    ///
    /// # Panics
    /// When the node is not running: it would be answered twice.
    pub fn finish(&mut self, node: u32, end: End, mut ended: impl FnMut(u32)) {
        assert_eq!(
            self.lives[node as usize],
            Life::Running,
            "node {node} is not running"
        );
        self.running -= 1;
        self.end(node, end);
        if end == End::Done {
            for dependant in std::mem::take(&mut self.dependants[node as usize]) {
                if let Life::Waiting(missing) = &mut self.lives[dependant as usize] {
                    *missing -= 1;
                    if *missing == 0 {
                        self.make_ready(dependant);
                    }
                }
            }
            return;
        }
        if !self.keep_going {
            self.stopped = true;
        }
        let mut pending = vec![node];
        while let Some(node) = pending.pop() {
            for dependant in std::mem::take(&mut self.dependants[node as usize]) {
                if matches!(self.lives[dependant as usize], Life::Waiting(_)) {
                    self.end(dependant, End::Skipped);
                    ended(dependant);
                    pending.push(dependant);
                }
            }
        }
    }

    fn end(&mut self, node: u32, end: End) {
        self.lives[node as usize] = Life::Ended(end);
        self.unended -= 1;
    }

    /// Starts nothing more; running nodes are to be finished as they end.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Once nothing runs and nothing will: ends whatever has not begun, as `ended` is told.
    pub fn skip_rest(&mut self, mut ended: impl FnMut(u32)) {
        for node in 0..self.lives.len() as u32 {
            if matches!(self.lives[node as usize], Life::Waiting(_) | Life::Ready) {
                self.end(node, End::Skipped);
                ended(node);
            }
        }
    }

    /// Whether nothing runs and nothing may start.
    pub fn is_quiet(&self) -> bool {
        self.running == 0 && (self.stopped || self.ready.is_empty())
    }

    /// How many nodes run.
    pub fn running(&self) -> usize {
        self.running
    }

    /// How many nodes have not ended.
    pub fn unended(&self) -> usize {
        self.unended
    }

    /// How `node` ended, if it did.
    pub fn end_of(&self, node: u32) -> Option<End> {
        match self.lives[node as usize] {
            Life::Ended(end) => Some(end),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_critical_path_goes_first() {
        // 0 → 2 (long), 1 alone: 0 and 2 make the longest chain.
        let mut schedule = Schedule::new(&[vec![], vec![], vec![0]], &[1, 5, 9], 1, false);
        assert_eq!(schedule.start_next(), Some(0));
        assert_eq!(schedule.start_next(), None);
        schedule.finish(0, End::Done, |_| ());
        assert_eq!(schedule.start_next(), Some(2));
    }

    #[test]
    fn without_keep_going_nothing_starts_after_a_failure() {
        let mut schedule = Schedule::new(&[vec![], vec![], vec![0]], &[9, 1, 1], 1, false);
        schedule.start_next();
        let mut skipped = Vec::new();
        schedule.finish(0, End::Failed, |node| skipped.push(node));
        assert_eq!(skipped, [2]);
        assert_eq!(schedule.start_next(), None);
        assert!(schedule.is_quiet());
        schedule.skip_rest(|node| skipped.push(node));
        assert_eq!(
            (skipped.as_slice(), schedule.unended()),
            ([2, 1].as_slice(), 0)
        );
    }

    proptest! {
        #[test]
        fn every_node_ends_exactly_once(
            edges in prop::collection::vec((0u32..40, 0u32..40), 0..120),
            fates in prop::collection::vec(0u8..8, 40),
            jobs in 1usize..6,
            keep_going in any::<bool>(),
            cancel_after in 0usize..80,
            picks in prop::collection::vec(any::<prop::sample::Index>(), 80),
        ) {
            let mut deps = vec![Vec::new(); 40];
            for (a, b) in edges {
                if a < b && !deps[b as usize].contains(&a) { deps[b as usize].push(a) }
            }
            let mut schedule = Schedule::new(&deps, &[3; 40], jobs, keep_going);
            let mut ends = [0; 40];
            let mut running = Vec::new();
            for (turn, pick) in picks.iter().enumerate() {
                if turn == cancel_after { schedule.stop() }
                while let Some(node) = schedule.start_next() {
                    for dep in &deps[node as usize] {
                        prop_assert_eq!(schedule.end_of(*dep), Some(End::Done));
                    }
                    running.push(node);
                }
                prop_assert!(running.len() <= jobs);
                if running.is_empty() { break }
                let node = running.swap_remove(pick.index(running.len()));
                let end = if fates[node as usize] == 0 { End::Failed } else { End::Done };
                ends[node as usize] += 1;
                schedule.finish(node, end, |skipped| ends[skipped as usize] += 1);
            }
            prop_assert!(schedule.is_quiet());
            schedule.skip_rest(|node| ends[node as usize] += 1);
            prop_assert_eq!(schedule.unended(), 0);
            prop_assert!(ends.iter().all(|n| *n == 1));
        }
    }
}
