//! What may run next: the scheduler's state, apart from any thread or process.
//!
//! Owns the life of every node: waiting → ready → running → finished, and the order among ready
//! ones. Nodes may be added at any time. Does not know how a node is run, nor who adds more.
//! Invariants: a node starts at most once, after all its dependencies succeeded and those that go before it ended; at most
//! `jobs` run at a time, together within the capacity; every node reaches exactly one end, whatever fails
//! or is cancelled.

mod dependants;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use dependants::Dependants;
use rustc_hash::FxHashMap;

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

/// What nearly all nodes use.
static USUAL: Uses = Uses::usual();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Waiting(u32),
    Ready,
    Running,
    Ended(End),
}

/// How urgent a node is, the greatest first: whether nobody knows yet what comes after it, how long the longest chain
/// from its start is, µs, and its number.
pub type Urgency = (bool, u64, Reverse<u32>);

/// What a node that starts is to those who wait with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rank {
    /// Its number.
    pub node: u32,
    /// How urgent it is. One that holds what others may need is as one that somebody waits for.
    pub urgency: Urgency,
    /// How urgent that is which can only begin after it.
    pub heirs: Option<Urgency>,
    /// What it is expected to take, µs; 0 when nobody knows.
    pub cost_us: u64,
    /// What it takes of the CPUs.
    pub cpu_milli: u64,
}

/// What a node is to the schedule.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it needs: earlier nodes.
    pub deps: Vec<u32>,
    /// Those that have to end before, however they do: earlier nodes, none of them among `deps`.
    pub after: Vec<u32>,
    /// What it is expected to take, µs.
    pub cost_us: u64,
    /// What it takes of the machine.
    pub uses: Uses,
}

/// The scheduler's state over nodes `0..n`; more may be added while others run.
#[derive(Debug)]
pub struct Schedule {
    lives: Vec<Life>,
    /// Of a node that has not ended.
    dependants: Dependants,
    /// Those that come after a node that has not ended, however it does.
    followers: FxHashMap<u32, Vec<u32>>,
    cost_us: Vec<u64>,
    /// Time from this node's start to the end of the longest chain through it, µs.
    path_us: Vec<u64>,
    /// Nobody knows yet what comes after these nodes: they go first.
    awaited: Vec<bool>,
    ready: BinaryHeap<Urgency>,
    /// Where it is not the usual.
    uses: Vec<Option<Box<Uses>>>,
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
    /// An empty schedule.
    pub fn new(jobs: usize, keep_going: bool, capacity: Capacity) -> Self {
        Self {
            lives: Vec::new(),
            dependants: Dependants::default(),
            followers: FxHashMap::default(),
            cost_us: Vec::new(),
            path_us: Vec::new(),
            awaited: Vec::new(),
            ready: BinaryHeap::new(),
            uses: Vec::new(),
            capacity,
            taken: Uses {
                cpu_milli: 0,
                ..Uses::default()
            },
            passed_over: 0,
            running: Vec::new(),
            unended: 0,
            jobs: jobs.max(1),
            keep_going,
            stopped: false,
        }
    }

    /// Adds `nodes`, dependencies first; `awaited` are all nodes, old and new, that somebody waits for
    /// who may add more. A new node that needs one which did not succeed ends at once, as `ended` is told.
    pub fn add(&mut self, nodes: Vec<Node>, awaited: &[u32], mut ended: impl FnMut(u32)) {
        for Node {
            deps,
            after,
            cost_us,
            uses,
        } in nodes
        {
            let node = self.lives.len() as u32;
            let (mut missing, mut lost) = (0, false);
            for dep in deps {
                match self.lives[dep as usize] {
                    Life::Ended(End::Done) => {}
                    Life::Ended(_) => lost = true,
                    _ => {
                        missing += 1;
                        self.dependants.push(dep, node);
                    }
                }
            }
            for before in after {
                if !matches!(self.lives[before as usize], Life::Ended(_)) {
                    missing += 1;
                    self.followers.entry(before).or_default().push(node);
                }
            }
            self.lives.push(Life::Waiting(missing));
            self.dependants.add_node();
            self.cost_us.push(cost_us);
            let is_usual = uses == USUAL;
            self.uses.push((!is_usual).then(|| Box::new(uses)));
            self.unended += 1;
            if lost {
                self.end(node, End::Skipped);
                ended(node);
            } else if missing == 0 {
                self.lives[node as usize] = Life::Ready;
            }
        }
        self.weigh(awaited);
    }

    /// Says anew how urgent each node is.
    fn weigh(&mut self, awaited: &[u32]) {
        let count = self.lives.len();
        self.path_us.resize(count, 0);
        self.awaited = vec![false; count];
        for node in awaited {
            self.awaited[*node as usize] = true;
        }
        for node in (0..count).rev() {
            let mut longest = 0;
            let followers = self.followers.get(&(node as u32)).into_iter().flatten();
            let next = self.dependants.of(node as u32).chain(followers.copied());
            for next in next {
                longest = longest.max(self.path_us[next as usize]);
                self.awaited[node] |= self.awaited[next as usize];
            }
            // Even an unknown cost makes a chain longer.
            self.path_us[node] = self.cost_us[node].max(1).saturating_add(longest);
        }
        let ready = (0..count as u32).filter(|node| self.lives[*node as usize] == Life::Ready);
        self.ready = ready.map(|node| self.urgency(node)).collect();
    }

    fn urgency(&self, node: u32) -> Urgency {
        let place = node as usize;
        (self.awaited[place], self.path_us[place], Reverse(node))
    }

    /// How `node` stands among those who wait with it once they have started.
    pub fn rank(&self, node: u32) -> Rank {
        let place = node as usize;
        let uses = self.uses_of(node);
        let (mut urgency, cost_us) = (self.urgency(node), self.cost_us[place]);
        let after_us = urgency.1 - cost_us.max(1).min(urgency.1);
        let heirs = (after_us > 0).then_some((urgency.0, after_us, urgency.2));
        urgency.0 |= uses.memory_bytes > 0 || !uses.named_milli.is_empty();
        Rank {
            node,
            urgency,
            heirs,
            cost_us,
            cpu_milli: uses.cpu_milli,
        }
    }

    /// Whether `node` may run beside what runs. What is larger than the machine runs alone.
    fn fits(&self, node: u32) -> bool {
        let (uses, taken) = (self.uses_of(node), &self.taken);
        self.running.is_empty()
            || (taken.cpu_milli.saturating_add(uses.cpu_milli) <= self.jobs as u64 * 1000
                && taken.memory_bytes.saturating_add(uses.memory_bytes)
                    <= self.capacity.memory_bytes
                && uses.named_milli.iter().all(|(name, amount)| {
                    let taken = taken.named_milli.get(name).copied().unwrap_or(0);
                    taken.saturating_add(*amount) <= self.capacity.named_milli(name)
                }))
    }

    fn uses_of(&self, node: u32) -> &Uses {
        self.uses[node as usize].as_deref().unwrap_or(&USUAL)
    }

    fn take(&mut self, node: u32) {
        let uses = self.uses[node as usize].as_deref();
        let uses = uses.unwrap_or(&USUAL);
        self.taken.cpu_milli += uses.cpu_milli;
        self.taken.memory_bytes = self.taken.memory_bytes.saturating_add(uses.memory_bytes);
        for (name, amount) in &uses.named_milli {
            *self.taken.named_milli.entry(name.clone()).or_default() += amount;
        }
    }

    fn give_back(&mut self, node: u32) {
        let uses = self.uses[node as usize].as_deref();
        let uses = uses.unwrap_or(&USUAL);
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
        self.ready.push(self.urgency(node));
    }

    /// Takes the most urgent ready node, when another may run.
    pub fn start_next(&mut self) -> Option<u32> {
        if self.stopped || self.running.len() >= self.jobs {
            return None;
        }
        let mut aside = Vec::new();
        let mut chosen = None;
        while let Some(entry) = self.ready.pop() {
            let node = entry.2.0;
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
            for dependant in self.dependants.take(node) {
                self.has_one_less(dependant);
            }
            return;
        }
        if !self.keep_going {
            self.stopped = true;
        }
        let mut pending = vec![node];
        while let Some(node) = pending.pop() {
            for dependant in self.dependants.take(node) {
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
        // None of them needs it, so that none of them ends with it.
        for follower in self.followers.remove(&node).unwrap_or_default() {
            self.has_one_less(follower);
        }
    }

    /// One of those that `node` waits for is out of its way.
    fn has_one_less(&mut self, node: u32) {
        if let Life::Waiting(missing) = &mut self.lives[node as usize] {
            *missing -= 1;
            if *missing == 0 {
                self.make_ready(node);
            }
        }
    }

    /// Starts nothing more; running nodes are to be finished as they end.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether nothing more is started.
    pub fn is_stopped(&self) -> bool {
        self.stopped
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
        // What is awaited lies on top, whatever its chain.
        let ready = self.ready.peek().map(|entry| entry.1);
        running.chain(ready).max().unwrap_or(0)
    }

    /// Whether `node` begins such a chain: any delay of it delays the build.
    pub fn is_critical(&self, node: u32) -> bool {
        self.awaited[node as usize] || self.path_us[node as usize] >= self.longest_us()
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
mod tests;
