//! Mistakes of targets: who wants to know them.
//!
//! Owns what a build does about targets that have one. Does not know how they are found.
//! Invariant: a mistake of nothing that is asked for ends no build.

use super::build::{Begin, Work};
use super::opened::{Opened, Targets};
use super::{Failure, say};
use crate::engine::graph::NodeId;
use crate::lang::label::{Label, is_within};
use crate::lang::manifest::MANIFEST;
use crate::lang::packages::FETCHED_DIR;

impl Work<'_> {
    /// The same `targets`, unless there is need of build files that were stopped at a limit by an earlier command: these are
    /// evaluated again.
    fn with_stopped_again(
        &mut self,
        opened: &mut Opened,
        targets: Targets,
    ) -> Result<Targets, Failure> {
        if targets.stopped.is_empty() {
            return Ok(targets);
        }
        let asked = self.asked(opened, &targets)?;
        let mut stopped = targets.graph.with_deps(asked);
        stopped.retain(|id| targets.stopped.contains(&targets.graph.target(*id).label));
        if stopped.is_empty() {
            return Ok(targets);
        }
        let path = |id: &NodeId| &*targets.graph.target(*id).at.path;
        opened.session.forget_read(stopped.iter().map(path));
        self.timed(|| opened.load())
    }

    /// Plans what is asked for, as far as rules have said what that is; where the rest is to go on, without targets that have a
    /// mistake, and tells which.
    pub(super) fn unfold_sound(
        &mut self,
        opened: &mut Opened,
        targets: Targets,
        keeps_going: bool,
    ) -> Result<Begin, Failure> {
        let targets = self.with_stopped_again(opened, targets)?;
        let mut mistaken = Vec::new();
        let plan = loop {
            match self.unfold(opened, &targets, None) {
                Err(mistake) if keeps_going => self.leave_out(opened, mistake, &mut mistaken)?,
                plan => break plan?,
            }
        };
        warn_of_others(opened, &targets);
        Ok(Begin {
            targets,
            plan,
            mistaken,
        })
    }

    /// Leaves those targets out that have a `mistake`; it comes back when it is nobody's.
    fn leave_out(
        &mut self,
        opened: &mut Opened,
        mistake: Failure,
        failed: &mut Vec<(Label, String)>,
    ) -> Result<(), Failure> {
        let mut is_news = false;
        for (target, text) in &mistake.by_target {
            is_news |= opened.session.leave_out(target);
            if self.mistaken.insert(target.clone()) {
                failed.push((target.clone(), text.clone()));
            }
        }
        is_news.then_some(()).ok_or(mistake)
    }
}

/// Tells of what cannot be read and nothing needs of what is asked for.
fn warn_of_others(opened: &Opened, targets: &Targets) {
    let graph = &targets.graph;
    let others = graph.broken();
    let others = others.filter(|id| !opened.session.is_left_out(&graph.target(*id).label));
    let (missing, others): (Vec<NodeId>, Vec<NodeId>) = others.partition(|id| {
        is_within(graph.target(*id).label.dir(), FETCHED_DIR)
            && graph.target(*id).at.path == MANIFEST
    });
    for mistake in missing.into_iter().flat_map(|id| graph.mistakes_of(id)) {
        let what = &mistake.message;
        say(&format!("warning: {what}; nothing of it is needed here"));
    }
    let others = others.iter().map(|id| graph.target(*id));
    let others: Vec<&str> = others.map(|it| it.at.path.as_str()).collect();
    match others.as_slice() {
        [] => {}
        [one] => say(&format!(
            "warning: {one} has a mistake; nothing of it is needed here"
        )),
        [first, second] => say(&format!(
            "warning: {first} and {second} have mistakes; nothing of them is needed here"
        )),
        [first, rest @ ..] => say(&format!(
            "warning: {first} and {} more files have mistakes; nothing of them is needed here",
            rest.len()
        )),
    }
}
