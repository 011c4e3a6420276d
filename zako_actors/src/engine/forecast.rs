//! How long a build would take: the scheduler played through with the times of earlier runs.
//!
//! Owns the played time and the longest chain. Does not know targets, nor where times come from.
//! Invariant: steps are started by the scheduler that real builds use.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::schedule::{Capacity, End, Node, Schedule};
use crate::lang::target::Uses;

/// Steps to be played through; everything by node, dependencies first.
#[derive(Clone, Debug)]
pub struct Steps {
    /// Indices of what each needs.
    pub deps: Vec<Vec<u32>>,
    /// What each takes, µs.
    pub cost_us: Vec<u64>,
    /// What each takes of the machine.
    pub uses: Vec<Uses>,
}

/// One step in played time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Played {
    /// Its node.
    pub node: u32,
    /// When it begins, µs.
    pub begin_us: u64,
    /// When it ends, µs.
    pub end_us: u64,
}

impl Steps {
    /// Plays all of them with so many `jobs`; in the order in which they begin.
    pub fn play(&self, jobs: usize, capacity: &Capacity) -> Vec<Played> {
        let parts = self.deps.iter().zip(&self.cost_us).zip(&self.uses);
        let nodes = parts.map(|((deps, cost_us), uses)| Node {
            deps: deps.clone(),
            after: Vec::new(),
            cost_us: *cost_us,
            uses: uses.clone(),
        });
        let mut schedule = Schedule::new(jobs, true, capacity.clone());
        schedule.add(nodes.collect(), &[], |_| ());
        let mut played = Vec::with_capacity(self.cost_us.len());
        let mut running = BinaryHeap::new();
        let mut now = 0;
        loop {
            while let Some(node) = schedule.start_next() {
                let end_us = now + self.cost_us[node as usize];
                running.push(Reverse((end_us, node)));
                played.push(Played {
                    node,
                    begin_us: now,
                    end_us,
                });
            }
            let Some(Reverse((end_us, node))) = running.pop() else {
                return played;
            };
            now = end_us;
            schedule.finish(node, End::Done, |_| ());
        }
    }

    /// The chain of steps, each needing the one before, that takes longest: no number of jobs is
    /// faster than it.
    pub fn longest_chain(&self) -> Vec<u32> {
        let mut ends: Vec<u64> = Vec::with_capacity(self.cost_us.len());
        for (needed, cost) in self.deps.iter().zip(&self.cost_us) {
            let begin = needed.iter().map(|dep| ends[*dep as usize]).max();
            ends.push(begin.unwrap_or(0) + cost);
        }
        let last = |nodes: &mut dyn Iterator<Item = u32>| nodes.max_by_key(|n| ends[*n as usize]);
        let mut chain = Vec::new();
        let mut next = last(&mut (0..ends.len() as u32));
        while let Some(node) = next {
            chain.push(node);
            next = last(&mut self.deps[node as usize].iter().copied());
        }
        chain.reverse();
        chain
    }
}

/// When the last of `played` ends, µs.
pub fn end_of(played: &[Played]) -> u64 {
    played.iter().map(|step| step.end_us).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0 → 2 → 3, and 1 alone.
    fn steps() -> Steps {
        Steps {
            deps: vec![vec![], vec![], vec![0], vec![2]],
            cost_us: vec![3, 5, 4, 1],
            uses: vec![Uses::default(); 4],
        }
    }

    #[test]
    fn more_jobs_are_faster_down_to_the_longest_chain() {
        let end = |jobs| end_of(&steps().play(jobs, &Capacity::default()));
        assert_eq!((end(1), end(2), end(8)), (13, 8, 8));
        assert_eq!(steps().longest_chain(), [0, 2, 3]);
    }

    #[test]
    fn resources_are_kept_to() {
        let mut steps = steps();
        for uses in &mut steps.uses {
            uses.memory_bytes = 6;
        }
        let capacity = Capacity {
            memory_bytes: 10,
            ..Capacity::default()
        };
        assert_eq!(end_of(&steps.play(8, &capacity)), 13);
    }
}
