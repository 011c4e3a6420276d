//! What a step is told, and what it tells others while it runs.
//!
//! Owns the question whether it was given up. Does not know how it is carried out.

use std::fs;
use std::sync::{Arc, OnceLock};

use super::{Found, Rival, StepEnv, StepFailure, Turn};
use crate::engine::cancel::{Cancel, CancelReason};
use crate::engine::edits::is_unwatched;
use crate::engine::files::{FactError, FileTable};
use crate::engine::hash::Hash;
use crate::engine::record::{Input, InputContent, OutputItem, Record};
use crate::engine::schedule::Rank;
use crate::lang::target::Target;
use crate::lang::text::Text;

/// One step.
#[derive(Debug)]
pub struct StepJob {
    /// The target.
    pub target: Arc<Target>,
    /// Its node of the plan.
    pub index: u32,
    /// Source files.
    pub sources: Arc<[Text]>,
    /// Outputs of its dependencies.
    pub deps: Vec<Arc<[OutputItem]>>,
    /// What is remembered.
    pub previous: Option<Arc<Record>>,
    /// Those that write where it does.
    pub rivals: Vec<Rival>,
    /// What it works on, as soon as that is known and where somebody edits meanwhile.
    pub inputs: OnceLock<Vec<Input>>,
    /// Why it is not up to date, as soon as that is known.
    pub found: OnceLock<Found>,
    /// How it stands among those who wait for a seat.
    pub rank: Rank,
    /// Its way to the build while it runs.
    pub turn: Turn,
    /// Ends it.
    pub cancel: Cancel,
}

impl StepJob {
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Whether it is a script that runs in the workspace.
    pub fn is_in_place(&self) -> bool {
        self.target().in_place().is_some()
    }

    /// Why it does not begin, when it is not to.
    pub(super) fn given_up(&self) -> Option<StepFailure> {
        self.cancel.reason().map(|reason| match reason {
            CancelReason::SiblingFailed => StepFailure::NotBegun,
            reason => StepFailure::Cancelled(reason),
        })
    }

    /// Why it ended: inputs that could not be had are no failure of a step that is given up, which is what an
    /// edit of them does, whether whoever follows edits has heard of it yet or not.
    pub(super) fn unless_given_up(&self, env: &StepEnv, failure: StepFailure) -> StepFailure {
        let edited = || {
            let followed = env.edits.is_some() && !self.is_in_place();
            let edited = followed && self.is_edited(&env.files);
            edited.then_some(StepFailure::Cancelled(CancelReason::Invalidated))
        };
        match failure {
            StepFailure::Action(_) | StepFailure::Scratch(_) => {
                self.given_up().or_else(edited).unwrap_or(failure)
            }
            failure => failure,
        }
    }

    /// Whether a source that is followed is gone, or is not what the step knows it by.
    fn is_edited(&self, files: &FileTable) -> bool {
        let is_followed = |path: &str| {
            let metadata = fs::symlink_metadata(files.root().join(path));
            // Of what a link leads to nobody tells.
            !is_unwatched(path) && !metadata.is_ok_and(|metadata| metadata.is_symlink())
        };
        let mut followed = self.sources.iter().filter(|path| is_followed(path));
        followed.any(|path| match files.fact(path) {
            Ok(now) => self.content_of(path).is_some_and(|hash| hash != now.hash),
            Err(error) => matches!(error, FactError::Missing),
        })
    }

    /// The content that the step knows its source at `path` by, once it has looked.
    pub fn content_of(&self, path: &str) -> Option<Hash> {
        let inputs = self.inputs.get()?;
        let at = inputs.binary_search_by(|input| (*input.path).cmp(path));
        match inputs[at.ok()?].content {
            InputContent::File { hash, .. } => Some(hash),
            _ => None,
        }
    }
}
