//! Why a step is not up to date, found when everything that it needs is there.
//!
//! Owns the comparison of an action with what is remembered. Does not know what becomes of it.
//! Invariant: a target that is not up to date has at least one cause.

use super::{StepEnv, StepJob};
use crate::engine::action::Action;
use crate::engine::cause::{Cause, RecipeParts, changed_parts, differences};
use crate::engine::outputs::is_intact;
use crate::engine::record::UNKNOWN;

/// Causes that are kept per target: enough to see what happened, whatever changed.
const KEPT: usize = 20;

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Why it is not up to date; empty when it turned out to be.
    pub causes: Vec<Cause>,
    /// What its recipe is made of, for the next time.
    pub parts: RecipeParts,
}

/// Compares `action` with what is remembered of its target. Blocks.
pub fn find(env: &StepEnv, job: &StepJob, action: &Action) -> Found {
    let target = job.target();
    let parts = env
        .describer
        .parts(target, action.tool.as_deref(), &env.files);
    let mut causes = Vec::new();
    match &job.previous {
        _ if env.force => causes.push(Cause::Forced),
        Some(_) if target.in_place().is_some_and(|step| !step.cached) => {
            causes.push(Cause::Uncached);
        }
        None => causes.push(Cause::New),
        Some(previous) => {
            if previous.recipe != action.recipe {
                if let Some(last) = env.reasons.get(&target.label) {
                    causes = changed_parts(&last.parts, &parts);
                    causes = env.locks.explain(target.label.dir(), causes);
                }
                if previous.recipe == UNKNOWN {
                    causes.insert(0, Cause::NotKept);
                }
                if causes.is_empty() {
                    causes.push(Cause::Recipe);
                }
            }
            causes.extend(differences(&previous.inputs, action.counted(), KEPT));
            if previous.key == action.key {
                let missing = previous.outputs.iter();
                let missing = missing.filter(|item| !is_intact(&env.files, item));
                causes.extend(
                    missing
                        .take(KEPT)
                        .map(|item| Cause::Output(item.path.clone())),
                );
            }
            causes.truncate(KEPT);
        }
    }
    Found { causes, parts }
}
