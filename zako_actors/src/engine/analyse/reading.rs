//! Rules whose answers rest on outputs.
//!
//! Owns what is known of such a rule: what it describes, and whom it waits for. Does not know what is up to date.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::engine::state::{Analysed, ReadFact};
use crate::lang::label::Label;
use crate::lang::rule_use::RuleUse;

/// A rule that reads outputs, or depends on what such a rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The target that it describes.
    pub target: Label,
    /// Everything that it describes as far as that is known, the target included.
    pub described: Vec<Label>,
    /// Targets of such rules that it depends on.
    pub after: Vec<Label>,
    /// The targets that write what it reads, by turns: what it reads in one decides what it asks for in the next.
    pub turns: Vec<Vec<Label>>,
    /// Whether it has not been told yet what it asks for in its last turn.
    pub open: bool,
}

impl Reading {
    /// Of a rule for `target`; nothing when it reads and waits for no output.
    pub(super) fn of(
        target: &Label,
        described: Vec<Label>,
        told: &[ReadFact],
        waiting: &[Label],
    ) -> Option<Self> {
        let mut told: Vec<(u32, &Label)> = told
            .iter()
            .filter_map(|read| Some((read.turn, read.writer.as_ref()?)))
            .collect();
        told.sort_unstable();
        told.dedup();
        let turns = told.chunk_by(|a, b| a.0 == b.0);
        let labels =
            |turn: &[(u32, &Label)]| turn.iter().map(|(_, label)| (*label).clone()).collect();
        let mut turns: Vec<Vec<Label>> = turns.map(labels).collect();
        let open = !waiting.is_empty();
        if open {
            turns.push(waiting.to_vec());
        }
        (!turns.is_empty()).then(|| Self {
            target: target.clone(),
            described,
            after: Vec::new(),
            turns,
            open,
        })
    }

    /// Of a rule for `target` that is not asked any more: it waits for what nobody writes.
    pub(in crate::engine) fn given_up(target: &Label) -> Self {
        Self {
            target: target.clone(),
            described: vec![target.clone()],
            after: Vec::new(),
            turns: vec![Vec::new()],
            open: true,
        }
    }
}

/// Targets whose rules have not said everything: those that wait for outputs, and those that depend on them.
pub fn unfinished(readings: &[Reading]) -> FxHashSet<&Label> {
    let mut unfinished = FxHashSet::default();
    for reading in readings {
        if reading.open || reading.after.iter().any(|dep| unfinished.contains(dep)) {
            unfinished.insert(&reading.target);
        }
    }
    unfinished
}

/// The one of `targets` whose rule may give `label` to one of its actions.
pub fn owner(targets: &FxHashSet<&Label>, label: &Label) -> Option<Label> {
    if targets.is_empty() {
        return None;
    }
    let name = label.name();
    let names = name.match_indices('~').map(|(end, _)| &name[..end]);
    let mut owners = names.filter_map(|name| Label::new(label.dir(), name).ok());
    owners.find(|owner| targets.contains(owner))
}

/// `readings` and the rules that depend on them, in the order of `uses`.
pub(super) fn spread<'a>(
    readings: Vec<Reading>,
    uses: impl Iterator<Item = &'a RuleUse>,
    answers: &FxHashMap<Label, Analysed>,
) -> Vec<Reading> {
    let own = readings.into_iter().map(|it| (it.target.clone(), it));
    let mut own: FxHashMap<Label, Reading> = own.collect();
    let mut resting: FxHashSet<&Label> = FxHashSet::default();
    let mut all = Vec::new();
    for used in uses {
        let after = used.deps().into_iter().filter(|dep| resting.contains(dep));
        let after: Vec<Label> = after.cloned().collect();
        let reading = match own.remove(&used.label) {
            Some(reading) => reading,
            None if after.is_empty() => continue,
            None => Reading {
                target: used.label.clone(),
                described: answers.get(&used.label).map_or_else(
                    || vec![used.label.clone()],
                    |it| it.targets.iter().map(|it| it.label.clone()).collect(),
                ),
                after: Vec::new(),
                turns: Vec::new(),
                open: false,
            },
        };
        resting.insert(&used.label);
        all.push(Reading { after, ..reading });
    }
    all
}
