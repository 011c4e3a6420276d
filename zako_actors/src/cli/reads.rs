//! Rules that go on when what they read is up to date.
//!
//! Owns what happens then: the rules are asked again, before a build and while it runs, and the build is told what that
//! adds. Does not know how either is done.
//! Invariants: every rule that the build tells of is answered once, also when it has a mistake or the build was stopped;
//! a mistake is that of the target that has it, which is left out of the rest of this build.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::Failure;
use super::build::Work;
use super::opened::{Opened, Targets};
use crate::engine::analyse::reading;
use crate::engine::build::Growth;
use crate::engine::plan::{Plan, Planned, Read};
use crate::engine::session::Running;
use crate::lang::label::Label;

/// What came of asking rules.
#[derive(Default)]
pub(super) struct Answers {
    /// The last plan, if there is a new one, with what it is made from.
    pub planned: Option<(Targets, Arc<Plan>)>,
    /// Targets that have a mistake, with its text.
    pub failed: Vec<(Label, String)>,
}

impl Work<'_> {
    /// Has rules go on until the build is over.
    pub(super) fn go_on(&mut self, opened: &mut Opened, mut running: Running) -> Running {
        while let Some(mut reads) = running.news() {
            // Of two that do not go together the same one is the wrong one, whichever could be read first.
            reads.sort_by(|a, b| a.target.cmp(&b.target));
            let mut answers = Answers::default();
            if !running.is_cancelled() {
                self.ask_all(opened, Some(&running), reads.clone(), &mut answers);
            }
            // Whatever was given up is nobody's mistake.
            if running.is_cancelled() {
                answers = Answers::default();
            }
            running.grow(Growth {
                answered: reads.into_iter().map(|read| read.target).collect(),
                plan: answers.planned.map(|(_, plan)| plan),
                failed: answers.failed,
            });
        }
        running
    }

    /// Asks the rules of `reads`, and then those that may go on at once, until each waits or has a mistake.
    pub(super) fn ask_all(
        &mut self,
        opened: &mut Opened,
        running: Option<&Running>,
        mut reads: Vec<Read>,
        answers: &mut Answers,
    ) {
        loop {
            reads.retain(|read| !self.mistaken.contains(&read.target));
            if reads.is_empty() {
                return;
            }
            self.ask(opened, running, reads, answers);
            let planned = answers.planned.as_ref();
            reads = planned.map_or(Vec::new(), |(_, plan)| plan.ready.clone());
        }
    }

    /// Asks the rules of `reads`, without those targets that turn out to have a mistake. When nobody says whose it is, each
    /// rule by itself: what one may not read cannot spoil what others say.
    fn ask(
        &mut self,
        opened: &mut Opened,
        running: Option<&Running>,
        mut reads: Vec<Read>,
        answers: &mut Answers,
    ) {
        while !reads.is_empty() {
            let planned = answers.planned.as_ref().map(|(_, plan)| Arc::clone(plan));
            let begun = running.map_or(&[][..], Running::nodes);
            let beside = planned.as_ref().map_or(begun, |plan| &plan.nodes);
            let mistake = match self.attempt(opened, running, beside, &reads) {
                Ok(planned) => {
                    answers.planned = Some(planned);
                    return;
                }
                Err(mistake) => mistake,
            };
            let mut is_known = false;
            let is_between = is_between(&mistake, &reads, beside);
            for (target, text) in mistake.by_target.iter().filter(|_| !is_between) {
                let before = reads.len();
                reads.retain(|read| read.target != *target);
                is_known |= reads.len() < before || opened.session.leave_out(target);
                if self.mistaken.insert(target.clone()) {
                    answers.failed.push((target.clone(), text.clone()));
                }
            }
            if is_known {
                continue;
            }
            if reads.len() > 1 {
                for read in reads {
                    self.ask(opened, running, vec![read], answers);
                }
                return;
            }
            let Read { target, .. } = reads.swap_remove(0);
            self.mistaken.insert(target.clone());
            answers.failed.push((target, mistake.rendered_text()));
        }
    }

    fn attempt(
        &mut self,
        opened: &mut Opened,
        running: Option<&Running>,
        beside: &[Planned],
        reads: &[Read],
    ) -> Result<(Targets, Arc<Plan>), Failure> {
        opened.session.allow(reads);
        let cancel = running.map(Running::cancel).or(self.cancel.as_ref());
        let cancel = cancel.cloned();
        let loaded = self.timed(|| opened.load_beside(beside, cancel.as_ref()));
        let planned = loaded.and_then(|mut targets| {
            let plan = self.unfold(opened, &targets, running)?;
            if let Some(running) = running {
                targets
                    .scripts
                    .take()
                    .into_iter()
                    .for_each(|it| running.emit(it));
            }
            Ok((targets, plan))
        });
        if let Some(running) = running {
            self.tell_phases(&|stamped| running.tell(stamped));
        }
        planned.inspect_err(|_| opened.session.disallow(reads))
    }
}

/// Whether `mistake` is one of targets that the rules of `reads` described just now, or that were planned before: nobody but whoever
/// described something just now is to blame.
fn is_between(mistake: &Failure, reads: &[Read], planned: &[Planned]) -> bool {
    let owners: FxHashSet<&Label> = reads.iter().map(|read| &read.target).collect();
    let is_planned = |label: &Label| planned.iter().any(|node| node.target.label == *label);
    let mut labels = mistake.by_target.iter().map(|(label, _)| label);
    mistake.is_of_targets
        && labels.any(|label| reading::owner(&owners, label).is_some() || is_planned(label))
}
