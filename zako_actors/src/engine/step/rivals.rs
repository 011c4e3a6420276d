//! Scripts whose outputs go to one place, such as `build` and `build:types` to `dist`.
//!
//! Owns that they run one after the other, and which of the files there each of them wrote. Does not know how a script runs.
//! Invariants: of two rivals never both run; what a script did not touch is not its output where a rival left it.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::engine::record::{OutputItem, Record};
use crate::lang::label::{Label, is_within};
use crate::lang::target::{Output, Target};
use crate::lang::text::Text;

/// The rivals of one build.
#[derive(Debug, Default)]
pub struct Rivals {
    of: FxHashMap<Label, FxHashSet<Label>>,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: FxHashSet<Label>,
    /// What each has left.
    outputs: FxHashMap<Label, Arc<[OutputItem]>>,
}

/// A script's turn.
pub struct RivalTurn<'a>(&'a Rivals, &'a Label);

impl Rivals {
    /// Those among `targets`; `records` say what they have left.
    pub fn of(targets: &[Arc<Target>], records: &FxHashMap<Label, Arc<Record>>) -> Self {
        let mut by_place: FxHashMap<&str, Vec<(&Output, &Label)>> = FxHashMap::default();
        let scripts = targets.iter().filter(|it| it.in_place().is_some());
        let outs = scripts.flat_map(|target| {
            let outs = target.command().into_iter().flat_map(|it| &it.outs);
            outs.map(|out| (out, &target.label))
        });
        let outs: Vec<_> = outs.collect();
        for (out, label) in &outs {
            by_place.entry(place(out)).or_default().push((out, label));
        }
        let mut rivals = Self::default();
        for (out, label) in outs {
            let dir = place(out);
            let above = dir.match_indices('/').map(|(end, _)| &dir[..end]);
            let above = above.chain([dir, ""]);
            let others = above.flat_map(|dir| by_place.get(dir).into_iter().flatten());
            for (_, its) in others.filter(|(other, its)| label != *its && meet(out, other)) {
                rivals.add(label, its);
                rivals.add(its, label);
            }
        }
        let known = rivals.of.keys();
        let known =
            known.filter_map(|it| Some((it.clone(), Arc::clone(&records.get(it)?.outputs))));
        rivals.state = Mutex::new(State {
            outputs: known.collect(),
            ..State::default()
        });
        rivals
    }

    fn add(&mut self, label: &Label, rival: &Label) {
        self.of
            .entry(label.clone())
            .or_default()
            .insert(rival.clone());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no rival of `label` runs; nothing where it has none. Blocks.
    pub fn await_turn<'a>(&'a self, label: &'a Label) -> Option<RivalTurn<'a>> {
        let rivals = self.of.get(label)?;
        let is_busy = |state: &mut State| rivals.iter().any(|it| state.running.contains(it));
        let state = self.ended.wait_while(self.lock(), is_busy);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.running.insert(label.clone());
        Some(RivalTurn(self, label))
    }

    /// Whether `label` has rivals.
    pub fn has(&self, label: &Label) -> bool {
        self.of.contains_key(label)
    }

    /// What the rivals of `label` have left, with whose it is.
    pub fn left(&self, label: &Label) -> BTreeMap<Text, (Label, OutputItem)> {
        let state = self.lock();
        let rivals = self.of.get(label).into_iter().flatten();
        let left = rivals.filter_map(|it| Some((it, state.outputs.get(it)?)));
        let left = left.flat_map(|(it, outputs)| outputs.iter().map(move |item| (it, item)));
        left.map(|(it, item)| (item.path.clone(), (it.clone(), item.clone())))
            .collect()
    }
}

impl RivalTurn<'_> {
    /// The script has left these.
    pub fn has_left(&self, outputs: &Arc<[OutputItem]>) {
        self.0
            .lock()
            .outputs
            .insert(self.1.clone(), Arc::clone(outputs));
    }
}

impl Drop for RivalTurn<'_> {
    fn drop(&mut self) {
        self.0.lock().running.remove(self.1);
        self.0.ended.notify_all();
    }
}

/// The directory or file that `out` starts from.
fn place(out: &Output) -> &str {
    match out {
        Output::File(path) | Output::Tree(path) => path,
        Output::Glob(pattern) => pattern.base(),
    }
}

/// Whether a file may be both of `a` and of `b`.
fn meet(a: &Output, b: &Output) -> bool {
    match (a, b) {
        (Output::Glob(pattern), Output::Tree(dir)) | (Output::Tree(dir), Output::Glob(pattern)) => {
            is_within(pattern.base(), dir) || pattern.may_match_below(dir)
        }
        _ => is_within(place(a), place(b)) || is_within(place(b), place(a)),
    }
}
