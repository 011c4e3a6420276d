//! Whether a step has to run.
//!
//! Owns the check against the record, the action cache and the last round of a watch. Does not know how a step runs.
//! Invariant: what is not run is answered with outputs that are in place, or with a failure that nothing has changed since.

use std::sync::Arc;

use super::results::find_result;
use super::{
    StepEnv, StepFailure, StepJob, StepReport, claim, depfile, explain, put_in_place, record,
};
use crate::engine::action::Action;
use crate::engine::event::Outcome;
use crate::engine::outputs::{OutputError, is_intact, restore};
use crate::engine::record::OutputItem;
use crate::engine::removal::is_taken;
use crate::engine::rounds::Tried;

/// What is known before anything is run.
pub(super) enum Lookup {
    /// Nothing has to run.
    Answered(Box<StepReport>),
    /// This has to run.
    Run(Box<Action>),
}

/// Describes the step, and has it answered if it need not run. Blocks.
pub(super) fn look_up(env: &StepEnv, job: &StepJob) -> Result<Lookup, StepFailure> {
    if let Some(failure) = job.given_up() {
        return Err(failure);
    }
    let action = depfile::describe(env, job)?;
    if env.edits.is_some() {
        drop(job.inputs.set(action.inputs.clone()));
    }
    // Once per job: a step is looked up once.
    drop(job.found.set(explain::find(env, job, &action)));
    let label = &job.target().label;
    let edits = env
        .edits
        .as_ref()
        .filter(|_| job.target().command().is_some());
    let rounds = edits.map(|edits| &edits.rounds);
    let before = rounds.and_then(|rounds| rounds.before(label, action.key));
    if before == Some(Tried::Failed) {
        return Err(StepFailure::Before);
    }
    let is_uncached = job.target().in_place().is_some_and(|step| !step.cached);
    let answer = if env.force || is_uncached && before.is_none() {
        Lookup::Run(Box::new(action))
    } else {
        answer(env, job, action)?
    };
    if let (Some(rounds), Lookup::Run(action)) = (rounds, &answer) {
        rounds.begins(label, action.key);
    }
    Ok(answer)
}

/// Has the step answered by what is remembered, if that is the result of `action` and can be put in place. Blocks.
fn answer(env: &StepEnv, job: &StepJob, action: Action) -> Result<Lookup, StepFailure> {
    if let Some(previous) = &job.previous
        && previous.key == action.key
        && previous
            .outputs
            .iter()
            .all(|item| is_intact(&env.files, item))
    {
        claim(env, job, &previous.outputs)?;
        let report = StepReport::success(Outcome::UpToDate, Arc::clone(previous));
        return Ok(Lookup::Answered(Box::new(report)));
    }
    let (action, result) = find_result(env, job, action);
    let Some(result) = result else {
        return Ok(Lookup::Run(Box::new(action)));
    };
    // Whoever put something where a script writes keeps it, unless the script itself replaces it.
    let is_taken = |item: &OutputItem| {
        !is_intact(&env.files, item) && is_taken(&env.files, &env.ledger, &item.path)
    };
    if job.target().in_place().is_some() && result.outputs.iter().any(is_taken) {
        return Ok(Lookup::Run(Box::new(action)));
    }
    put_in_place(env, job, &result.outputs, || {
        restore(&env.files, &env.store, &result.outputs)
    })
    .map_or_else(
        |failure| match failure {
            // A blob that turned out to be damaged is a miss: the step is run again.
            StepFailure::Outputs(OutputError::Export(cas_actor::ExportError::Get(error))) => {
                tracing::warn!("{}: {error}; running the step again", job.target().label);
                Ok(Lookup::Run(Box::new(action.clone())))
            }
            // As above.
            StepFailure::Outputs(OutputError::NotOurs(_) | OutputError::Directory { .. })
                if job.is_in_place() =>
            {
                Ok(Lookup::Run(Box::new(action.clone())))
            }
            // What it would write now may be another one's by now.
            StepFailure::Clash(_) if job.shares() => Ok(Lookup::Run(Box::new(action.clone()))),
            other => Err(other),
        },
        |()| {
            let record = record(job, &action, result.clone());
            Ok(Lookup::Answered(Box::new(StepReport::success(
                Outcome::Cached,
                record,
            ))))
        },
    )
}
