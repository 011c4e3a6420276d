//! Rules that go on while steps run.
//!
//! Owns what happens when outputs that rules wait for are there: the rules are asked again, and the build is told what
//! that adds. Does not know how either is done.
//! Invariant: every rule that the build tells of is answered once, also when it has a mistake or the build was stopped.

use std::sync::Arc;

use super::Failure;
use super::build::Work;
use super::opened::Opened;
use crate::engine::build::Growth;
use crate::engine::plan::{Plan, Read};
use crate::engine::session::Running;

impl Work<'_> {
    /// Has rules go on until the build is over.
    pub(super) fn go_on(&mut self, opened: &mut Opened, mut running: Running) -> Running {
        while let Some(reads) = running.next() {
            let mut growth = Growth::default();
            if !running.is_cancelled() {
                self.ask(opened, &running, &reads, &mut growth);
            }
            growth.answered = reads.into_iter().map(|read| read.target).collect();
            running.grow(growth);
        }
        running
    }

    /// Asks the rules of `reads`. With a mistake in one of them, and where the rest is to go on, each by itself: what one
    /// may not read cannot spoil what others say.
    fn ask(&mut self, opened: &mut Opened, running: &Running, reads: &[Read], growth: &mut Growth) {
        match self.attempt(opened, running, reads) {
            Ok(plan) => growth.plan = Some(plan),
            Err(_) if reads.len() > 1 && self.keeps_going() => {
                for read in reads {
                    self.ask(opened, running, std::slice::from_ref(read), growth);
                }
            }
            Err(mistake) => {
                let target = reads[0].target.clone();
                growth.failed.push((target, mistake.rendered_text()));
            }
        }
    }

    fn attempt(
        &mut self,
        opened: &mut Opened,
        running: &Running,
        reads: &[Read],
    ) -> Result<Arc<Plan>, Failure> {
        opened.session.allow(reads);
        let loaded = self.load(opened);
        let planned = loaded.and_then(|targets| self.plan(opened, targets, Some(running)));
        self.tell_phases(&|stamped| running.tell(stamped));
        match planned {
            Ok((targets, plan)) => {
                targets.scripts.into_iter().for_each(|it| running.emit(it));
                Ok(plan)
            }
            Err(mistake) => {
                opened.session.disallow(reads);
                Err(mistake)
            }
        }
    }
}
