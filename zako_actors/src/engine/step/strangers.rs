//! Files that lie among the outputs which a script reads, and that are no outputs: the key of the script does not hold them.
//!
//! Owns finding them, once in a build for each target. Does not know what lies where the script itself writes (`rivals`, `settle`), nor
//! what becomes of its result.
//! Invariants: what a record lists is none of them, nor what git has, nor what a task leaves out of its outputs; nobody looks before
//! something runs.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustc_hash::FxHashMap;

use super::in_place::outputs_of;
use super::rivals::tell;
use super::{StepEnv, StepJob};
use crate::engine::action::Action;
use crate::engine::outputs::{collect_what_is_there, is_intact, is_unfinished};
use crate::engine::record::item_at;
use crate::lang::label::{FETCHED_DIR, is_within};
use crate::lang::target::{Output, Target};
use crate::lang::text::Text;

/// What was found in a build, by node of the plan.
#[derive(Debug, Default)]
pub struct Strangers {
    found: Mutex<FxHashMap<u32, Arc<OnceLock<Found>>>>,
}

/// The files, or why they cannot be listed.
type Found = Result<Vec<Text>, String>;

impl Strangers {
    /// What `look` finds at node `index`, where nobody has looked.
    fn at(&self, index: u32, look: impl FnOnce() -> Found) -> Arc<OnceLock<Found>> {
        let mut all = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let found = Arc::clone(all.entry(index).or_default());
        // Others may look elsewhere meanwhile.
        drop(all);
        found.get_or_init(look);
        found
    }
}

/// Why the result of a run of `job` from now on may hold what no key tells of, if something lies where it reads.
pub(super) fn beside(env: &StepEnv, job: &StepJob, action: &Action) -> Option<String> {
    let plan = env.claims.planned()?;
    let node = plan.nodes.get(job.index as usize)?;
    let mut reads = node.reads().iter();
    reads.find_map(|index| {
        let target = plan.target(*index);
        let found = env.strangers.at(*index, || look(env, target));
        explain(job, action, target, found.get()?)
    })
}

fn explain(job: &StepJob, action: &Action, target: &Target, found: &Found) -> Option<String> {
    let label = &target.label;
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            return Some(format!(
                "what lies where the outputs of {label} go, which it may read, cannot be told ({error})"
            ));
        }
    };
    // What is its own to write it does not read of others; what is an input is part of its key.
    let is_unknown = |path: &&Text| {
        let inputs = &action.inputs;
        let is_input = inputs.binary_search_by(|it| it.path.cmp(path)).is_ok();
        !is_input && job.target().takes(path) && !job.target().declares(path)
    };
    let unknown: Vec<Text> = found.iter().filter(is_unknown).cloned().collect();
    if unknown.is_empty() {
        return None;
    }
    let (named, advice) = tell(&unknown, label);
    let advice = match target.in_place() {
        Some(_) => advice.as_str(),
        None => "delete it",
    };
    Some(format!(
        "{named} lay where the outputs of {label} go, which it may read, and neither zako nor git knows it; it will run again; {advice}"
    ))
}

/// What lies where the outputs of `target` go, and is nobody's.
fn look(env: &StepEnv, target: &Target) -> Found {
    let Some(command) = target.command() else {
        return Ok(Vec::new());
    };
    let root = env.files.root();
    let lying = match target.in_place() {
        Some(step) => outputs_of(root, command, step).map_err(|error| error.to_string())?,
        None if is_within(target.label.dir(), FETCHED_DIR) => return Ok(Vec::new()),
        None => {
            // Beside what a command leaves by a glob sources may lie.
            let trees = command.outs.iter();
            let trees = trees.filter(|out| matches!(out, Output::Tree(_)));
            let trees: Vec<Output> = trees.cloned().collect();
            collect_what_is_there(root, &trees).map_err(|error| error.to_string())?
        }
    };
    let files = lying.into_iter().filter(|(_, now)| !now.is_dir());
    let mut found: Vec<Text> = files.map(|(path, _)| path).collect();
    env.claims.take_out_owned(&mut found);
    found.retain(|path| {
        let is_listed = is_unfinished(path) || is_listed(env, target, path);
        !is_listed && !env.claims.names_source(path) && env.is_gits(path) != Some(true)
    });
    Ok(found)
}

/// Whether what lies at `path` is what another target than `target`, which is up to date, has left the last time.
fn is_listed(env: &StepEnv, target: &Target, path: &str) -> bool {
    let Some(graph) = env.claims.graph() else {
        return false;
    };
    let writers = graph.may_write(path).into_iter();
    let others = writers.map(|id| &graph.target(id).label);
    let others = others.filter(|label| **label != target.label);
    let records = env.remembered();
    let items = others.filter_map(|label| item_at(&records.get(label)?.outputs, path).cloned());
    let items: Vec<_> = items.collect();
    drop(records);
    items.iter().any(|item| is_intact(&env.files, item))
}
