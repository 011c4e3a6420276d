//! What is said of targets that cannot be linked.
//!
//! Owns the words, with the place in the build file. Does not know how it shows.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::graph::{Named, NodeId};
use crate::diagnostic::Diagnostic;
use crate::lang::label::{DirName, Label};
use crate::lang::locate::{At, mistake};
use crate::lang::suggest::did_you_mean;
use crate::lang::target::Target;

/// What is said of dependencies that there are not.
#[derive(Default)]
pub(super) struct Unknown<'a> {
    /// What each may be a slip of: the same one is often named many times.
    hints: FxHashMap<&'a Label, String>,
}

impl<'a> Unknown<'a> {
    pub fn mistake(
        &mut self,
        target: &Target,
        dep: &'a Label,
        known: &FxHashMap<Named, NodeId>,
        text_of: &dyn Fn(&str) -> String,
    ) -> Diagnostic {
        let hint = self.hints.entry(dep).or_insert_with(|| {
            let names: Vec<String> = known.keys().map(|it| it.0.label.to_string()).collect();
            did_you_mean(&dep.to_string(), names.iter().map(String::as_str))
        });
        unknown_dep(target, dep, hint, text_of)
    }
}

fn unknown_dep(
    target: &Target,
    dep: &Label,
    hint: &str,
    text_of: &dyn Fn(&str) -> String,
) -> Diagnostic {
    let text = text_of(&target.at.path);
    let written = [
        dep.to_string(),
        format!(":{}", dep.name()),
        DirName(dep.dir()).to_string(),
    ];
    let at = written
        .iter()
        .map(|needle| At::in_target(&target.at.path, &text, target.label.name(), Some(needle)))
        .find(|at| at.line != target.at.line || at.column != target.at.column)
        .unwrap_or_else(|| target.at.clone());
    let message = format!(
        "{} depends on {dep}, which does not exist{hint}",
        target.label
    );
    mistake(&at, message, &text).about(&target.label)
}

/// Members of a cycle that are named; of a longer one, the first and the last.
const CYCLE_SHOWN: usize = 16;

/// What is wrong with the first of `cycle`: each needs the next one.
pub(super) fn cycle_mistake(
    targets: &[Arc<Target>],
    cycle: &[NodeId],
    text_of: &dyn Fn(&str) -> String,
) -> Diagnostic {
    let names: Vec<String> = cycle
        .iter()
        .map(|id| targets[id.index()].label.to_string())
        .collect();
    let first = &targets[cycle[0].index()];
    let shown = match names.len() {
        0..=CYCLE_SHOWN => names.join(" → "),
        all => format!(
            "{} → … ({} more) … → {}",
            names[..CYCLE_SHOWN / 2].join(" → "),
            all - CYCLE_SHOWN,
            names[all - CYCLE_SHOWN / 2..].join(" → ")
        ),
    };
    let message = format!("dependency cycle: {shown}; remove one of these dependencies");
    mistake(&first.at, message, &text_of(&first.at.path)).about(&first.label)
}
