//! Scripts of one package that write to one place: which they are, and what each of them is told of the others.
//!
//! Owns who meets whom. Does not know in which order they run (`turns`), what a script takes for its own (`step/rivals`), nor how one
//! is started.
//! Invariants: of two that meet never both are under way; whoever comes later in the plan comes later, whether the earlier one
//! runs, is had from the cache, fails or is left out.

use rustc_hash::FxHashMap;

use super::Build;
use super::turns::{InTurn, Nodes};
use crate::engine::plan::{Freshness, Planned};
use crate::engine::step::Rival;
use crate::lang::label::Label;
use crate::lang::place::meet;
use crate::lang::target::{Command, Target};

/// Those of a build that share places, by nodes of the plan.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    /// By directory, in the order of the plan.
    in_dir: FxHashMap<String, Vec<u32>>,
    of: FxHashMap<Label, u32>,
    /// Those that write where one does.
    meeting: FxHashMap<u32, Vec<u32>>,
    /// All nodes in the order of their turns.
    turns: Vec<u32>,
}

/// The command of a script that may not be the only one that writes where it does.
fn shared(target: &Target) -> Option<&Command> {
    target
        .command()
        .filter(|_| target.in_place().is_some_and(|step| step.shares))
}

impl Build {
    /// Takes in the nodes of the plan that are new. Tells in which order they have their turns, and by nodes of the plan which have to
    /// end before.
    pub(super) fn take_in(&mut self) -> Vec<InTurn> {
        let Self { plan, sharing, .. } = self;
        let first = sharing.turns.len() as u32;
        for (planned, index) in plan.nodes.iter().zip(0_u32..).skip(first as usize) {
            let label = &planned.target.label;
            let Some(command) = shared(&planned.target) else {
                continue;
            };
            sharing.of.insert(label.clone(), index);
            let here = sharing.in_dir.entry(label.dir().to_owned()).or_default();
            for other in here.iter().copied() {
                if shared(plan.target(other)).is_some_and(|its| meet(command, its)) {
                    sharing.meeting.entry(index).or_default().push(other);
                    sharing.meeting.entry(other).or_default().push(index);
                }
            }
            here.push(index);
        }
        let nodes = Nodes {
            count: plan.nodes.len() as u32,
            deps: &|node| &plan.nodes[node as usize].deps,
            meeting: &sharing.meeting,
            is_stale: &|node| !matches!(plan.nodes[node as usize].state, Freshness::Fresh(_)),
        };
        let turns = nodes.in_turn(&sharing.turns);
        sharing.turns.extend(turns.iter().map(|turn| turn.node));
        turns
    }

    /// What is known of the scripts that write where `planned` does.
    pub(super) fn rivals(&self, planned: &Planned) -> Vec<Rival> {
        let Some(command) = shared(&planned.target) else {
            return Vec::new();
        };
        let targets = self.plan.graph.targets();
        let label = &planned.target.label;
        let first = targets.partition_point(|it| it.label.dir() < label.dir());
        let here = targets[first..].iter();
        let here = here.take_while(|it| it.label.dir() == label.dir());
        let others = here.filter(|it| it.label != *label);
        let rivals = others.filter(|it| shared(it).is_some_and(|its| meet(command, its)));
        let known = rivals.filter_map(|it| {
            let made = self.sharing.of.get(&it.label);
            let made = made.and_then(|index| self.outputs[*index as usize].clone());
            let is_done = made.is_some();
            let before = || self.records.get(&it.label).filter(|it| it.shares);
            let outputs = made.or_else(|| Some(before()?.outputs.clone()))?;
            Some(Rival {
                label: it.label.clone(),
                outputs,
                is_done,
            })
        });
        known.collect()
    }
}
