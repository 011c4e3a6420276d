//! Scripts of one package that write to one place: in which order they run, and what each of them is told of the others.
//!
//! Owns the order, which is that of the plan. Does not know what a script takes for its own (`step/rivals`), nor how one is started.
//! Invariants: of two that meet never both are under way; whoever comes later in the plan comes later, whether the earlier one
//! runs, is had from the cache, fails or is left out.

use rustc_hash::FxHashMap;

use super::Build;
use crate::engine::plan::Planned;
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
}

/// The command of a script that may not be the only one that writes where it does.
fn shared(target: &Target) -> Option<&Command> {
    target
        .command()
        .filter(|_| target.in_place().is_some_and(|step| step.shares))
}

impl Build {
    /// Takes in node `index` of the plan, which it ends with. Tells those nodes of the schedule that have to end before it begins.
    pub(super) fn come_before(&mut self, index: u32) -> Vec<u32> {
        let Self {
            plan,
            sharing,
            place,
            ..
        } = self;
        let planned = &plan.nodes[index as usize];
        let label = &planned.target.label;
        let Some(command) = shared(&planned.target) else {
            return Vec::new();
        };
        sharing.of.insert(label.clone(), index);
        let here = sharing.in_dir.entry(label.dir().to_owned()).or_default();
        // All of them: one that is left out has not waited for those before it.
        let meeting = here.iter().filter(|other| !planned.deps.contains(other));
        let meeting = meeting
            .filter(|other| shared(plan.target(**other)).is_some_and(|its| meet(command, its)));
        let before = meeting.filter_map(|other| place[*other as usize]).collect();
        here.push(index);
        before
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
