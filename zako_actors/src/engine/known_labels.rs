//! The labels that are known without evaluating anything, for completion in a shell.
//!
//! Owns where they are looked for: in the persisted state, and among the scripts of packages. Does not know which of them
//! anybody wants.
//! Invariant: nothing is written, locked or waited for; what is not known is left out.

use std::collections::BTreeSet;

use super::dirs::DirTable;
use super::members;
use super::state::{EvaluatedResult, State};
use super::workspace::{Layout, Workspace};
use crate::lang::descriptor::Exports;
use crate::lang::label::Label;
use crate::lang::scripts::{self, Described};

/// The labels of what build files described the last time, and of what scripts of packages are now.
pub fn known_labels(workspace: &Workspace, layout: &Layout) -> BTreeSet<Label> {
    let mut labels = BTreeSet::new();
    let state = State::load(&layout.state, |_| ());
    let rest = state.map(|(_, rest)| rest).unwrap_or_default();
    let mut add = |exports: &Exports| {
        labels.extend(exports.targets.iter().map(|target| target.label.clone()));
        labels.extend(exports.uses.iter().map(|used| used.label.clone()));
    };
    for known in rest.memory.files.values() {
        match &known.result {
            EvaluatedResult::Workspace(file) => add(&file.exports),
            EvaluatedResult::Exports(exports) => add(exports),
            EvaluatedResult::Broken { .. } => {}
        }
    }
    let mut dirs = DirTable::new(workspace.root.clone(), rest.dirs);
    let members = members::read(workspace, &mut dirs).ok();
    let members = members.and_then(|found| found.members);
    let scripts =
        members.and_then(|members| scripts::targets(&members, &Described::default()).ok());
    let scripts = scripts.into_iter().flat_map(|scripts| scripts.targets);
    labels.extend(scripts.map(|target| target.label.clone()));
    labels
}
