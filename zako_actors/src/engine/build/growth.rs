//! How a build grows: nodes that are added while others run, and rules that wait for some of them.
//!
//! Owns who waits for what, and the end of what never became a node. Does not know steps.
//! Invariants: a rule is told of once, when everything that it waits for is done; what is asked for and was never
//! described ends as well, once.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::turns::InTurn;
use super::{Build, News};
use crate::engine::event::{Event, Outcome, Summary};
use crate::engine::plan::{Freshness, Left, Plan, Read};
use crate::engine::schedule::Node;
use crate::lang::label::Label;

/// What came of rules that went on.
#[derive(Debug, Default)]
pub struct Growth {
    /// The targets that it is about.
    pub answered: Vec<Label>,
    /// The plan, which begins with the one so far; none when there is nothing new.
    pub plan: Option<Arc<Plan>>,
    /// Those of the targets that have a mistake, with its text.
    pub failed: Vec<(Label, String)>,
}

/// A rule that waits.
pub(super) struct Waiting {
    /// To be told when nothing is missing.
    read: Option<Read>,
    missing: usize,
}

impl Build {
    /// Takes in those nodes of the plan that are new. Tells which of them end at once, by node of the schedule.
    pub(super) fn add(&mut self) -> Vec<u32> {
        let plan = Arc::clone(&self.plan);
        let first = self.outputs.len();
        for node in &plan.nodes[first..] {
            self.outputs.push(match &node.state {
                Freshness::Fresh(items) => Some(Arc::clone(items)),
                _ => None,
            });
            self.place.push(None);
        }
        let mut nodes = Vec::new();
        for InTurn { node: index, after } in self.take_in() {
            let node = &plan.nodes[index as usize];
            if matches!(node.state, Freshness::Fresh(_)) {
                continue;
            }
            self.place[index as usize] = Some(self.stale.len() as u32);
            self.stale.push(index);
            self.jobs.push(None);
            let record = self.records.get(&node.target.label);
            let cost_us = record.map(|record| record.duration_us);
            self.progress.add(cost_us);
            let uses = node
                .target
                .command()
                .map(|command| command.special.uses.clone());
            let deps = node.deps.iter();
            nodes.push(Node {
                deps: deps.filter_map(|dep| self.place[*dep as usize]).collect(),
                after: after
                    .iter()
                    .filter_map(|before| self.place[*before as usize])
                    .collect(),
                cost_us: cost_us.unwrap_or(0),
                uses: uses.unwrap_or_default(),
            });
        }
        self.summary.targets += plan.nodes.len() - first;
        self.summary.up_to_date += plan.nodes.len() - first - nodes.len();
        let writers = plan.waits.iter().flat_map(|wait| &wait.writers);
        let awaited: Vec<u32> = writers
            .filter_map(|writer| self.place[*writer as usize])
            .collect();
        let mut skipped = Vec::new();
        self.schedule
            .add(nodes, &awaited, |node| skipped.push(node));
        self.note_waits();
        skipped
    }

    /// Who waits, by the plan.
    fn note_waits(&mut self) {
        self.waiting.clear();
        self.waiting_for.clear();
        for wait in &self.plan.waits {
            let is_missing = |writer: &&u32| self.outputs[**writer as usize].is_none();
            let missing: Vec<u32> = wait.writers.iter().filter(is_missing).copied().collect();
            for writer in &missing {
                let waiting = self.waiting_for.entry(*writer).or_default();
                waiting.push(self.waiting.len());
            }
            let labels = wait.writers.iter();
            self.waiting.push(Waiting {
                read: Some(Read {
                    target: wait.target.clone(),
                    writers: labels.map(|it| self.plan.label(*it).clone()).collect(),
                }),
                missing: missing.len(),
            });
        }
    }

    /// Tells of rules that may go on, now that `writer` is done.
    pub(super) fn written(&mut self, writer: u32) {
        for waiting in self.waiting_for.remove(&writer).unwrap_or_default() {
            self.waiting[waiting].missing -= 1;
            self.tell(waiting);
        }
    }

    fn tell(&mut self, waiting: usize) {
        let waiting = &mut self.waiting[waiting];
        if waiting.missing > 0 || self.schedule.is_stopped() {
            return;
        }
        let mistaken = &self.mistaken;
        let news = waiting.read.take();
        let news = news.filter(|read| !mistaken.contains(&read.target));
        // It may have been told while other rules went on.
        if let Some(read) = news.filter(|read| self.told.insert(read.target.clone())) {
            // Whoever listens has asked for the build.
            drop(self.spec.news.send(News::Written(read)));
        }
    }

    /// Takes in what came of rules that went on.
    pub(super) fn grow(&mut self, growth: Growth) {
        for target in &growth.answered {
            self.told.remove(target);
        }
        for (target, text) in growth.failed {
            self.mistake(target, text);
        }
        let Some(plan) = growth.plan else { return };
        self.plan = plan;
        let before = (self.summary.targets, self.summary.up_to_date);
        let skipped = self.add();
        self.emit(Event::BuildGrew {
            targets: self.summary.targets - before.0,
            fresh: self.summary.up_to_date - before.1,
        });
        skipped.into_iter().for_each(|node| self.skip(node));
        (0..self.waiting.len()).for_each(|waiting| self.tell(waiting));
    }

    /// The rule of `target` could not go on.
    pub(super) fn mistake(&mut self, target: Label, text: String) {
        self.stop_others();
        if !self.spec.keep_going {
            self.schedule.stop();
        }
        self.one_more(&target, Outcome::Failed, Some(text), None);
        self.mistaken.insert(target);
    }

    /// Ends a target that never became a node.
    fn one_more(
        &mut self,
        target: &Label,
        outcome: Outcome,
        failure: Option<String>,
        reason: Option<String>,
    ) {
        self.summary.targets += 1;
        self.summary.count(outcome);
        self.emit(Event::BuildGrew {
            targets: 1,
            fresh: 0,
        });
        self.emit_end(target.to_string(), outcome, failure, reason);
    }

    /// Ends what was asked for and never described.
    pub(super) fn end_left(&mut self) {
        let Summary {
            failed,
            cancelled,
            skipped,
            ..
        } = self.summary;
        // Without any of these every rule has come to its end.
        let lost = failed + cancelled + skipped == 0 && self.spec.env.cancel.reason().is_none();
        let plan = Arc::clone(&self.plan);
        // Whose mistake it is that others were left out: they come after what they need.
        let mut culprits: FxHashMap<&Label, &Label> = FxHashMap::default();
        for Left { target, rule } in &plan.left {
            let deps = plan.graph.find(&target.label).map(|id| plan.graph.deps(id));
            let deps = deps.into_iter().flatten();
            let mut deps = deps.map(|id| &plan.graph.target(*id).label);
            let culprit = deps.find_map(|dep| {
                let is_it = self.mistaken.contains(dep).then_some(dep);
                is_it.or_else(|| culprits.get(dep).copied())
            });
            culprits.extend(culprit.map(|culprit| (&target.label, culprit)));
            if self.mistaken.contains(&target.label) {
                continue;
            }
            let culprit = culprits.get(&target.label);
            let reason = culprit.map(|it| format!("it needs {it}, which has a mistake"));
            let (outcome, failure) = match lost {
                true => {
                    let label = &target.label;
                    let text = format!(
                        "error: {label}: the rule of {rule} reads what nobody writes; this is a mistake in zako"
                    );
                    (Outcome::Failed, Some(text))
                }
                false => (Outcome::Skipped, None),
            };
            self.one_more(&target.label, outcome, failure, reason);
        }
    }
}
