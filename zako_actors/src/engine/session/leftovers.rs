//! Files that zako wrote and no target has: a build left them that was killed or failed, or one with another cache.
//!
//! Owns finding them in the list of outputs, and taking them away. Does not know how they came to be, nor by what zako's files are
//! told from a person's (`removal`).
//! Invariants: the list is read only where it is not the one that the last session with this state went through; what a
//! target may have written is left until that target is up to date.

use std::cell::{Cell, OnceCell};
use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::kept::stamp;
use super::{Kept, Running, Session, ledger};
use crate::engine::build::BuildResult;
use crate::engine::graph::Graph;
use crate::engine::plan::{Freshness, Plan};
use crate::engine::record::Record;
use crate::engine::removal::{ours, remove};
use crate::engine::since::tracked;
use crate::engine::step::Doubt;
use crate::engine::workspace::Layout;
use crate::lang::label::Label;
use crate::lang::target::{Source, Target};
use crate::lang::text::Text;

/// What is left in a workspace, once somebody has asked.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    found: OnceCell<BTreeSet<Text>>,
    /// Whether the list had to be gone through.
    is_news: Cell<bool>,
}

impl Leftovers {
    /// Of the files that zako wrote those that no record has. To be asked for before the first step runs.
    pub fn of(&self, known: &Kept, layout: &Layout) -> &BTreeSet<Text> {
        self.found.get_or_init(|| {
            if known.gone_through == stamp(&layout.outputs) {
                return BTreeSet::new();
            }
            self.is_news.set(true);
            let recorded = outputs(known.records.values().map(Arc::as_ref));
            let listed = ledger(&known.ledger, layout).paths().into_iter();
            listed.filter(|path| !recorded.contains(&**path)).collect()
        })
    }

    /// Whether none are left, where somebody asked.
    pub fn are_gone(&self) -> Option<bool> {
        self.found.get().map(BTreeSet::is_empty)
    }

    /// Whether the next session need not go through the list that this one went through.
    pub fn are_to_be_saved(&self) -> bool {
        self.is_news.get() && self.are_gone() == Some(true)
    }

    /// From now on these are left.
    pub fn set(&mut self, left: BTreeSet<Text>) {
        self.found = OnceCell::from(left);
    }
}

impl Session {
    pub(super) fn leftovers(&self) -> &BTreeSet<Text> {
        self.leftovers.of(&self.known, &self.layout)
    }

    /// Takes away what no target of `graph` may have written; nobody has more to describe.
    pub(super) fn remove_undescribed(&mut self, graph: &Graph, running: Option<&Running>) {
        let left = self.leftovers().iter().cloned();
        let (described, gone): (Vec<_>, Vec<_>) =
            left.partition(|path| graph.outputs().may_cover(path));
        if gone.is_empty() {
            return;
        }
        let (files, ledger) = (Arc::clone(&self.known.files), Arc::clone(self.ledger()));
        let Some(persons) = self.persons(graph.targets()) else {
            return;
        };
        // What is in a directory before the directory.
        let gone = gone.iter().rev().map(|path| &**path);
        let mut gone = ours(&files, &ledger, |path| persons.has(path), gone);
        match running {
            Some(running) => {
                let claims = running.claims();
                claims.unclaimed(None, gone, |gone| remove(&files, &ledger, gone, ""));
            }
            None => remove(&files, &ledger, &mut gone, ""),
        }
        self.set_left(described.into_iter().collect());
    }

    /// Takes away what those targets left before that are up to date now: those that are fresh in `plan`, and those that
    /// were `made`.
    pub fn remove_left(&mut self, plan: &Plan, made: &[Label]) {
        if self.leftovers().is_empty() {
            return;
        }
        let fresh = plan.nodes.iter();
        let fresh = fresh.filter(|node| matches!(node.state, Freshness::Fresh(_)));
        let fresh = fresh.map(|node| &node.target.label);
        let done: FxHashSet<&Label> = made.iter().chain(fresh).collect();
        let recorded = outputs(self.known.records.values().map(Arc::as_ref));
        let is_done = |path: &str| {
            // Who is going to describe what nobody writes yet is not known.
            let writers = plan.graph.may_write(path);
            let mut labels = writers.iter().map(|id| &plan.graph.target(*id).label);
            !writers.is_empty() && labels.all(|label| done.contains(label))
        };
        let left = self.leftovers().iter();
        let left = left.filter(|path| !recorded.contains(&***path)).cloned();
        let (gone, left): (Vec<_>, Vec<_>) = left.partition(|path| is_done(path));
        if !gone.is_empty() {
            let (files, ledger) = (&self.known.files, self.ledger());
            let Some(persons) = self.persons(plan.graph.targets()) else {
                return;
            };
            let gone = gone.iter().rev().map(|path| &**path);
            let gone = ours(files, ledger, |path| persons.has(path), gone);
            remove(files, ledger, gone, "");
        }
        self.set_left(left.into_iter().collect());
    }

    /// Scripts of which nobody knows for certain what they left are not up to date, and files that may be theirs stay.
    pub(super) fn heed_doubts(
        &self,
        doubts: &[(Label, Doubt)],
        plan: &Plan,
        result: &mut BuildResult,
    ) {
        for (label, doubt) in doubts {
            if let Doubt::Strangers(paths) = doubt {
                paths.iter().for_each(|path| self.ledger().strike(path));
            }
            let records = result.records.iter_mut().filter(|(it, _)| it == label);
            records.for_each(|(_, record)| Arc::make_mut(record).forget());
            let target = plan.graph.find(label).map(|id| plan.graph.target(id));
            let is_cached = target
                .and_then(Target::in_place)
                .is_some_and(|it| it.cached);
            if is_cached {
                tracing::warn!("{}", doubt.explain(label));
            }
        }
    }

    /// Takes note of what the steps that failed in a build have left.
    pub(super) fn note_left(&mut self, result: &BuildResult) {
        let added = self.ledger().take_added();
        let summary = &result.summary;
        if added.is_empty() || summary.failed + summary.cancelled == 0 {
            return;
        }
        let made = outputs(result.records.iter().map(|(_, record)| &**record));
        let failed = added.into_iter().filter(|path| !made.contains(&**path));
        self.add_left(failed.collect());
    }

    /// These have no target any more, and one that is not up to date yet may write them anew.
    pub(super) fn add_left(&mut self, paths: Vec<Text>) {
        if !paths.is_empty() {
            let left = self.leftovers().iter().cloned().chain(paths).collect();
            self.set_left(left);
        }
    }

    /// What stays whatever it holds; nothing where git does not tell what it knows: then nothing may be removed, which is said.
    pub(super) fn persons<'a>(&self, targets: &'a [Arc<Target>]) -> Option<Persons<'a>> {
        Some(Persons::new(targets, self.tracked()?))
    }

    /// The files that git knows; nothing where it does not tell, which is said once.
    pub(super) fn tracked(&self) -> Option<BTreeSet<String>> {
        let tracked = tracked(&self.workspace.root);
        let said = |why: &String| {
            if !self.is_warned.replace(true) {
                tracing::warn!(
                    "git does not say which files it knows ({why}), so nothing that zako wrote is removed; `git ls-files` in the workspace says more"
                );
            }
        };
        tracked.inspect_err(said).ok()
    }

    fn set_left(&mut self, left: BTreeSet<Text>) {
        self.leftovers.set(left);
        self.changed = true;
    }
}

/// Files that are a person's whatever they hold: targets name them as sources, or git knows them.
pub(super) struct Persons<'a> {
    named: FxHashSet<&'a str>,
    tracked: BTreeSet<String>,
}

impl<'a> Persons<'a> {
    /// In a workspace with these `targets`, of which git knows what is `tracked`.
    pub fn new(targets: &'a [Arc<Target>], tracked: BTreeSet<String>) -> Self {
        let sources = targets.iter().flat_map(|target| &target.srcs);
        let named = sources.filter_map(|source| match source {
            Source::File(path) => Some(path.as_str()),
            Source::Glob { .. } => None,
        });
        Self {
            named: named.collect(),
            tracked,
        }
    }

    /// Whether `path` is one of them.
    pub fn has(&self, path: &str) -> bool {
        self.named.contains(path) || self.tracked.contains(path)
    }
}

/// The paths of all outputs.
fn outputs<'a>(records: impl Iterator<Item = &'a Record>) -> FxHashSet<&'a str> {
    let items = records.flat_map(|record| record.outputs.iter());
    items.map(|item| &*item.path).collect()
}
