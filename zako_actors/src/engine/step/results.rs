//! Results: where one is found before a step runs, and where it is kept after it.
//!
//! Owns the order of places and keys. Does not know what is done with a result.
//! Invariants: a result whose command's reads are not known counts as one that read everything; what no step can have left
//! is no result, wherever it comes from, and nothing of it is kept.

use std::sync::atomic::Ordering::Relaxed;

use cas_actor::{ActionEntry, Digest};

use super::sound::flaw;
use super::{StepEnv, StepJob, depfile};
use crate::engine::action::Action;
use crate::engine::hash::Hash;
use crate::engine::record::{ActionResult, OutputKind};

/// The result of `action` here or in the remote cache, and the action that it is one of: by what its
/// command read, as far as that is known, otherwise by all that it could have read.
pub(super) fn find_result(
    env: &StepEnv,
    job: &StepJob,
    action: Action,
) -> (Action, Option<ActionResult>) {
    for find in [from_here, from_afar] {
        if let Some(result) = find(env, job, (&action, &action.key)) {
            // Found by its whole key: what it read is not known.
            let action = match action.read {
                Some(_) => action,
                None => action.widened(),
            };
            return (action, Some(result));
        }
        let whole = action.whole_key();
        if let Some(result) = whole.and_then(|key| find(env, job, (&action, &key))) {
            return (action.widened(), Some(result));
        }
    }
    let narrowed = depfile::narrowed_from_afar(env, job, &action);
    if let Some(narrowed) = narrowed
        && let Some(result) = from_afar(env, job, (&narrowed, &narrowed.key))
    {
        return (narrowed, Some(result));
    }
    (action, None)
}

/// The result of `action` that is kept here under `key`.
fn from_here(
    env: &StepEnv,
    job: &StepJob,
    (action, key): (&Action, &Hash),
) -> Option<ActionResult> {
    let entry = env.store.blocking().get_complete_action(key.bytes());
    let result = decode(&entry.ok().flatten()?)?;
    match flaw(job.target(), &action.inputs, &result.outputs) {
        None => Some(result),
        Some(flaw) => {
            tell_of_unsound(env, &flaw);
            None
        }
    }
}

/// The result of `action` that the remote cache has under `key`, kept here from now on.
fn from_afar(
    env: &StepEnv,
    job: &StepJob,
    (action, key): (&Action, &Hash),
) -> Option<ActionResult> {
    let remote = env.remote.as_ref()?;
    // Nobody knows how long that takes: others may have the seat.
    env.seats.forget(job.rank.node);
    let flaw = |result: &ActionResult| flaw(job.target(), &action.inputs, &result.outputs);
    let result = remote.fetch(key, &job.cancel, flaw)?;
    keep(env, key, &result);
    Some(result)
}

/// Says, once in a build, that the store has a result with such a `flaw`.
pub(super) fn tell_of_unsound(env: &StepEnv, flaw: &str) {
    if !env.told_of_unsound.swap(true, Relaxed) {
        tracing::warn!(
            "the local cache has results that their steps cannot have left ({flaw}); such results are not used"
        );
    }
}

/// Keeps a result for the next time, and for others.
pub(super) fn remember(env: &StepEnv, job: &StepJob, action: &Action, result: &ActionResult) {
    if let Some(flaw) = flaw(job.target(), &action.inputs, &result.outputs) {
        tracing::warn!(
            "what a step left is not cached, because it could not be brought back as it is ({flaw}, which may lie behind a link that is \
             an output, too)"
        );
        return;
    }
    let keys: Vec<Hash> = std::iter::once(action.key)
        .chain(action.whole_key())
        .collect();
    for key in &keys {
        keep(env, key, result);
    }
    if let Some(remote) = &env.remote {
        remote.hand_on(&keys, result);
    }
}

/// Whether the result of the action with this key is kept here.
pub(super) fn is_remembered(env: &StepEnv, key: &Hash) -> bool {
    let entry = env.store.blocking().get_complete_action(key.bytes());
    entry.is_ok_and(|entry| entry.is_some())
}

/// Keeps a result in the store. A full disk costs the cache entry, not the build.
fn keep(env: &StepEnv, key: &Hash, result: &ActionResult) {
    let stored = encode(result).map(|entry| env.store.blocking().put_action(key.bytes(), entry));
    if let Some(Err(error)) = stored {
        tracing::warn!("a result was not cached: {error}");
    }
}

pub(super) fn encode(result: &ActionResult) -> Option<ActionEntry> {
    let blobs = result.outputs.iter().filter_map(|item| match item.kind {
        OutputKind::File {
            hash, size_bytes, ..
        } => Some(Digest::new(*hash.bytes(), size_bytes)),
        _ => None,
    });
    let payload = postcard::to_stdvec(result).ok()?;
    Some(ActionEntry::new(payload).with_outputs(blobs.collect()))
}

pub(super) fn decode(entry: &ActionEntry) -> Option<ActionResult> {
    postcard::from_bytes(&entry.payload).ok()
}
