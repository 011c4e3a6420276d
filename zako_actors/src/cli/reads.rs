//! Rules that go on when what they read is up to date.
//!
//! Owns what happens then: the rules are asked again, before a build and while it runs, and the build is told what that
//! adds. Does not know how either is done.
//! Invariants: every rule that the build tells of is answered once, also when it has a mistake or the build was stopped;
//! a mistake is that of one target, whose rule is not asked again in this build.

use std::sync::Arc;

use super::Failure;
use super::build::Work;
use super::opened::{Opened, Targets};
use crate::engine::build::Growth;
use crate::engine::plan::{Plan, Read};
use crate::engine::session::Running;
use crate::lang::label::Label;

/// What came of asking rules.
#[derive(Default)]
pub(super) struct Answers {
    /// The last plan, if there is a new one, with what it is made from.
    pub planned: Option<(Targets, Arc<Plan>)>,
    /// Targets whose rules have a mistake.
    pub failed: Vec<(Label, Failure)>,
}

impl Work<'_> {
    /// Has rules go on until the build is over.
    pub(super) fn go_on(&mut self, opened: &mut Opened, mut running: Running) -> Running {
        while let Some(reads) = running.next() {
            let mut growth = Growth::default();
            if !running.is_cancelled() {
                let mut answers = Answers::default();
                self.ask_all(opened, Some(&running), reads.clone(), &mut answers);
                growth.plan = answers.planned.map(|(_, plan)| plan);
                growth.failed = texts(answers.failed);
            }
            growth.answered = reads.into_iter().map(|read| read.target).collect();
            running.grow(growth);
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
            self.ask(opened, running, &reads, answers);
            let planned = answers.planned.as_ref();
            reads = planned.map_or(Vec::new(), |(_, plan)| plan.ready.clone());
        }
    }

    /// Asks the rules of `reads`. With a mistake in one of them, each by itself: what one may not read cannot spoil what
    /// others say.
    fn ask(
        &mut self,
        opened: &mut Opened,
        running: Option<&Running>,
        reads: &[Read],
        answers: &mut Answers,
    ) {
        match self.attempt(opened, running, reads) {
            Ok(planned) => answers.planned = Some(planned),
            Err(_) if reads.len() > 1 => {
                for read in reads {
                    self.ask(opened, running, std::slice::from_ref(read), answers);
                }
            }
            Err(mistake) => {
                let target = &reads[0].target;
                self.mistaken.insert(target.clone());
                answers.failed.push((target.clone(), mistake));
            }
        }
    }

    fn attempt(
        &mut self,
        opened: &mut Opened,
        running: Option<&Running>,
        reads: &[Read],
    ) -> Result<(Targets, Arc<Plan>), Failure> {
        opened.session.allow(reads);
        let loaded = self.load(opened);
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

/// Mistakes as a build tells of them.
pub(super) fn texts(failed: Vec<(Label, Failure)>) -> Vec<(Label, String)> {
    let failed = failed.into_iter();
    let texts = failed.map(|(target, mistake)| (target, mistake.rendered_text()));
    texts.collect()
}
