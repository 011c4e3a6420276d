//! What may run next: the scheduler's state, apart from any thread or process.
//!
//! Owns the life of every node: waiting → ready → running → finished, and the order among ready
//! ones. Does not know how a node is run.
//! Invariants: a node starts at most once, after all its dependencies succeeded; at most `jobs`
//! run at a time, together within the capacity; every node reaches exactly one end, whatever fails
//! or is cancelled.

use std::collections::{BTreeMap, BinaryHeap};

use crate::lang::target::Uses;

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

/// What steps share of the machine beside jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Bytes.
    pub memory_bytes: u64,
    /// Units of named resources; of one that is not listed there is a single one.
    pub named: BTreeMap<String, u32>,
}

impl Default for Capacity {
    /// Without limits but those of unlisted resources.
    fn default() -> Self {
        Self {
            memory_bytes: u64::MAX,
            named: BTreeMap::new(),
        }
    }
}

impl Capacity {
    fn named_milli(&self, name: &str) -> u64 {
        u64::from(self.named.get(name).copied().unwrap_or(1)) * 1000
    }
}

/// So many nodes may overtake the most urgent one while it waits for room; then room is made.
const PATIENCE: u32 = 16;

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
    uses: Vec<Uses>,
    capacity: Capacity,
    taken: Uses,
    /// How often the most urgent node had to let others go first.
    passed_over: u32,
    running: Vec<u32>,
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
            uses: vec![Uses::default(); count],
            capacity: Capacity::default(),
            taken: Uses {
                cpu_milli: 0,
                ..Uses::default()
            },
            passed_over: 0,
            running: Vec::new(),
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

    /// With what each node takes of the machine, and what there is.
    #[must_use]
    pub fn with_resources(mut self, uses: Vec<Uses>, capacity: Capacity) -> Self {
        assert_eq!(uses.len(), self.lives.len(), "one for each node");
        self.uses = uses;
        self.capacity = capacity;
        self
    }

    /// Whether `node` may run beside what runs. What is larger than the machine runs alone.
    fn fits(&self, node: u32) -> bool {
        let (uses, taken) = (&self.uses[node as usize], &self.taken);
        self.running.is_empty()
            || (taken.cpu_milli.saturating_add(uses.cpu_milli) <= self.jobs as u64 * 1000
                && taken.memory_bytes.saturating_add(uses.memory_bytes)
                    <= self.capacity.memory_bytes
                && uses.named_milli.iter().all(|(name, amount)| {
                    let taken = taken.named_milli.get(name).copied().unwrap_or(0);
                    taken.saturating_add(*amount) <= self.capacity.named_milli(name)
                }))
    }

    fn take(&mut self, node: u32) {
        let uses = &self.uses[node as usize];
        self.taken.cpu_milli += uses.cpu_milli;
        self.taken.memory_bytes = self.taken.memory_bytes.saturating_add(uses.memory_bytes);
        for (name, amount) in &uses.named_milli {
            *self.taken.named_milli.entry(name.clone()).or_default() += amount;
        }
    }

    fn give_back(&mut self, node: u32) {
        let uses = &self.uses[node as usize];
        self.taken.cpu_milli -= uses.cpu_milli;
        self.taken.memory_bytes = self.taken.memory_bytes.saturating_sub(uses.memory_bytes);
        for (name, amount) in &uses.named_milli {
            if let Some(taken) = self.taken.named_milli.get_mut(name) {
                *taken = taken.saturating_sub(*amount);
            }
        }
    }

    fn make_ready(&mut self, node: u32) {
        self.lives[node as usize] = Life::Ready;
        self.ready
            .push((self.path_us[node as usize], std::cmp::Reverse(node)));
    }

    /// Takes the most urgent ready node, when another may run.
    pub fn start_next(&mut self) -> Option<u32> {
        if self.stopped || self.running.len() >= self.jobs {
            return None;
        }
        let mut aside = Vec::new();
        let mut chosen = None;
        while let Some(entry) = self.ready.pop() {
            let node = entry.1.0;
            if self.lives[node as usize] != Life::Ready {
                continue;
            }
            if self.fits(node) {
                chosen = Some(node);
                break;
            }
            aside.push(entry);
            if self.passed_over >= PATIENCE {
                break;
            }
        }
        match chosen {
            Some(_) if aside.is_empty() => self.passed_over = 0,
            Some(_) => self.passed_over += 1,
            None => {}
        }
        self.ready.extend(aside);
        let node = chosen?;
        self.lives[node as usize] = Life::Running;
        self.running.push(node);
        self.take(node);
        Some(node)
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
        self.running.retain(|running| *running != node);
        self.give_back(node);
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
        self.running.is_empty() && (self.stopped || self.ready.is_empty())
    }

    /// How many nodes run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// What the longest chain of nodes that have not ended takes, from the beginning of its first, µs.
    pub fn longest_us(&self) -> u64 {
        let running = self.running.iter().map(|node| self.path_us[*node as usize]);
        let ready = self.ready.peek().map(|entry| entry.0);
        running.chain(ready).max().unwrap_or(0)
    }

    /// Whether `node` begins such a chain: any delay of it delays the build.
    pub fn is_critical(&self, node: u32) -> bool {
        self.path_us[node as usize] >= self.longest_us()
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
        assert!(schedule.is_critical(0) && !schedule.is_critical(1));
        schedule.finish(0, End::Done, |_| ());
        assert_eq!(schedule.start_next(), Some(2));
        assert!(schedule.is_critical(2) && schedule.longest_us() >= 9);
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

    fn uses(cpu_milli: u64, memory_bytes: u64, gpu: u64) -> Uses {
        Uses {
            cpu_milli,
            memory_bytes,
            named_milli: BTreeMap::from([("gpu".to_owned(), gpu)]),
        }
    }

    #[test]
    fn nodes_share_the_machine_and_what_is_too_large_runs_alone() {
        let needs = vec![
            uses(1000, 6, 0),
            uses(1000, 6, 0),
            uses(3000, 0, 0),
            uses(1000, 0, 1000),
            uses(1000, 0, 1000),
            uses(9000, 99, 0),
        ];
        let capacity = Capacity {
            memory_bytes: 10,
            named: BTreeMap::new(),
        };
        let deps = vec![Vec::new(); 6];
        let costs = [6, 5, 4, 3, 2, 1];
        let mut schedule = Schedule::new(&deps, &costs, 4, true).with_resources(needs, capacity);
        assert_eq!(schedule.start_next(), Some(0));
        assert_eq!(schedule.start_next(), Some(2), "1 wants too much memory");
        assert_eq!(schedule.start_next(), None, "no processor is left");
        schedule.finish(2, End::Done, |_| ());
        assert_eq!(schedule.start_next(), Some(3));
        assert_eq!(schedule.start_next(), None, "there is one gpu");
        schedule.finish(0, End::Done, |_| ());
        assert_eq!(schedule.start_next(), Some(1));
        schedule.finish(3, End::Done, |_| ());
        assert_eq!(schedule.start_next(), Some(4));
        schedule.finish(1, End::Done, |_| ());
        assert_eq!(schedule.start_next(), None);
        schedule.finish(4, End::Done, |_| ());
        assert_eq!(schedule.start_next(), Some(5));
        schedule.finish(5, End::Done, |_| ());
        assert!(schedule.is_quiet());
    }

    #[test]
    fn a_large_node_is_not_overtaken_for_ever() {
        let mut needs = vec![uses(1000, 0, 0); 100];
        needs[0] = uses(2000, 0, 0);
        let mut costs = [1; 100];
        costs[0] = 99;
        costs[1] = 1000;
        let deps = vec![Vec::new(); 100];
        let mut schedule =
            Schedule::new(&deps, &costs, 2, true).with_resources(needs, Capacity::default());
        let mut running = vec![schedule.start_next().unwrap()];
        let mut before = 0;
        loop {
            while let Some(node) = schedule.start_next() {
                running.push(node);
            }
            if running.contains(&0) {
                break;
            }
            before += 1;
            schedule.finish(running.remove(0), End::Done, |_| ());
        }
        assert!(before < 40, "{before}");
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
