//! From build files to linked targets, and which files count while they are read.
//!
//! Owns reading the build files, linking, and the look at files that were passed over as zako's own. Does not know how a file is
//! evaluated, nor by what zako's files are told from a person's (`removal`).
//! Invariant: what a person put where an output was is a person's before anything is planned; each look that finds such a file strikes
//! it from the list of outputs, so looking again ends.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::leftovers::Persons;
use super::reads::may_read;
use super::{BuildError, Session, ledger, text_in};
use crate::engine::analyse::{Given, reading};
use crate::engine::graph::Graph;
use crate::engine::load::{Evaluate, LoadEnv, Loaded, Loader};
use crate::engine::outputs_index::OutputIndex;
use crate::engine::plan::Planned;
use crate::engine::removal::ours;
use crate::engine::since::tracked;
use crate::lang::label::Label;
use crate::lang::target::Target;

/// What an attempt to read and link ended with; where linking failed, with the targets that do not go together.
type Attempt = Result<(Loaded, Arc<Graph>), (BuildError, Vec<Arc<Target>>)>;

/// What is known of a workspace's targets, also where they do not go together.
struct Known {
    targets: Vec<Arc<Target>>,
    /// What they declare, where there is no graph to ask.
    outputs: OutputIndex,
    /// Those whose rules may describe more.
    unfinished: Vec<Label>,
}

impl Session {
    /// Reads the build files, evaluating those that changed, and links their targets, beside what is `planned` already. What
    /// rules said of old outputs does not count when there is a mistake with it. `given` are the options that were set,
    /// `search` is PATH.
    ///
    /// # Errors
    /// The mistakes that there are in any case.
    pub fn targets(
        &mut self,
        evaluator: &mut dyn Evaluate,
        given: &Given,
        search: &str,
        planned: &[Planned],
    ) -> Result<(Loaded, Arc<Graph>), BuildError> {
        loop {
            let found = self.attempt_twice(evaluator, given, search, planned);
            if !self.strike_persons(&found) {
                return found.map_err(|(error, _)| error);
            }
            // What was taken for an output may be a build file.
            self.described = None;
        }
    }

    fn attempt_twice(
        &mut self,
        evaluator: &mut dyn Evaluate,
        given: &Given,
        search: &str,
        planned: &[Planned],
    ) -> Attempt {
        let first = self.attempt(evaluator, given, search);
        if first.is_ok() {
            return first;
        }
        let forgotten = self.forget_unread(planned);
        if forgotten.is_empty() {
            return first;
        }
        let second = self.attempt(evaluator, given, search);
        match second {
            Ok(_) => self.changed = true,
            // They have nothing to do with it.
            Err(_) => self.known.memory.uses.extend(forgotten),
        }
        second
    }

    fn attempt(&mut self, evaluator: &mut dyn Evaluate, given: &Given, search: &str) -> Attempt {
        let loaded = self.load(evaluator, given, search);
        let mut loaded = loaded.map_err(|error| (error, Vec::new()))?;
        let graph = self.graph(std::mem::take(&mut loaded.targets))?;
        Ok((loaded, graph))
    }

    /// Reads the build files, once in a session, evaluating those that changed, and asks rules; `given` are the options that were set,
    /// `search` is PATH.
    fn load(
        &mut self,
        evaluator: &mut dyn Evaluate,
        given: &Given,
        search: &str,
    ) -> Result<Loaded, BuildError> {
        let has_leftovers = !self.leftovers().is_empty();
        let records = &self.known.records;
        let wrote = |path: &str| {
            let is_listed = ledger(&self.known.ledger, &self.layout).contains(path);
            if is_listed {
                self.passed_over.borrow_mut().insert(path.into());
            }
            is_listed
        };
        let env = LoadEnv {
            workspace: &self.workspace,
            files: &self.known.files,
            dirs: &mut self.known.dirs,
            memory: &mut self.known.memory,
            evaluator,
            search,
            may_read: &|target, writer| may_read(&self.read, target, writer),
            wrote: &wrote,
            has_left: &|described| {
                has_leftovers || records.keys().any(|label| !described.contains(label))
            },
            mistaken: &self.mistaken,
        };
        let loaded = Loader::new(env, given).load(&mut self.described);
        self.changed |= loaded.as_ref().map_or(true, |loaded| loaded.evaluated > 0);
        Ok(loaded?)
    }

    /// Links targets into a graph; the same ones as the last time are linked already. Those that do not go together come back.
    fn graph(
        &mut self,
        targets: Vec<Arc<Target>>,
    ) -> Result<Arc<Graph>, (BuildError, Vec<Arc<Target>>)> {
        if let Some((before, graph)) = &self.known.linked
            && before.len() == targets.len()
            && before.iter().zip(&targets).all(|(a, b)| Arc::ptr_eq(a, b))
        {
            return Ok(Arc::clone(graph));
        }
        let graph = match Graph::new(targets.clone(), &text_in(&self.workspace.root)) {
            Ok(graph) => Arc::new(graph),
            Err(error) => return Err((error.into(), targets)),
        };
        self.known.linked = Some((targets, Arc::clone(&graph)));
        Ok(graph)
    }

    /// Strikes from the list of outputs what was passed over as zako's own, is no target's any more, and does not hold what zako wrote
    /// there; tells whether there was any.
    fn strike_persons(&mut self, found: &Attempt) -> bool {
        let mut passed_over: BTreeSet<Box<str>> = self.passed_over.take();
        let root = &self.workspace.root;
        if let Ok((_, graph)) = found {
            passed_over.retain(|path| !graph.outputs().may_still_cover(root, path));
        }
        if passed_over.is_empty() {
            return false;
        }
        let Some(known) = self.known_targets(found) else {
            return false;
        };
        passed_over.retain(|path| !known.outputs.may_still_cover(root, path));
        if !known.unfinished.is_empty() {
            let left = self.left_by_vanished(&known);
            passed_over.retain(|path| left.contains(&**path));
        }
        if passed_over.is_empty() {
            return false;
        }
        let ledger = Arc::clone(self.ledger());
        // Nothing is removed here: where git does not tell, what counts is what files hold.
        let tracked = tracked(root).unwrap_or_default();
        let persons = Persons::new(&known.targets, tracked);
        let paths = passed_over.iter().map(|path| &**path);
        let is_theirs = |path: &str| persons.has(path);
        let zakos = ours(&self.known.files, &ledger, is_theirs, paths).count();
        let is_struck = zakos < passed_over.len();
        self.changed |= is_struck;
        is_struck
    }

    /// What is known of the targets; nothing where build files could not be read.
    fn known_targets(&self, found: &Attempt) -> Option<Known> {
        let uses = self.described.iter().flat_map(|described| &described.uses);
        let uses = uses.map(|used| used.label.clone());
        let (targets, unfinished): (Vec<_>, Vec<_>) = match (found, &self.described) {
            (Ok((loaded, graph)), _) => {
                let open = reading::unfinished(&loaded.readings).into_iter();
                (graph.targets().to_vec(), open.cloned().collect())
            }
            (Err((_, targets)), _) if !targets.is_empty() => (targets.clone(), uses.collect()),
            (Err(_), Some(described)) => {
                let told = self.known.memory.uses.values();
                let told = told.flat_map(|known| &known.targets);
                let plain = described.targets.iter();
                (plain.chain(told).cloned().collect(), uses.collect())
            }
            (Err(_), None) => return None,
        };
        let outputs = match found {
            // The graph has been asked.
            Ok(_) => OutputIndex::default(),
            Err(_) => OutputIndex::of(&targets),
        };
        Some(Known {
            targets,
            outputs,
            unfinished,
        })
    }

    /// What targets have left that are gone, whatever rules say next.
    fn left_by_vanished(&self, known: &Known) -> FxHashSet<&str> {
        let labels: FxHashSet<&Label> = known.targets.iter().map(|it| &it.label).collect();
        let unfinished: FxHashSet<&Label> = known.unfinished.iter().collect();
        let is_gone = |label: &Label| {
            !labels.contains(label)
                && !unfinished.contains(label)
                && reading::owner(&unfinished, label).is_none()
        };
        let records = self.known.records.iter();
        let gone = records.filter(|(label, _)| is_gone(label));
        let items = gone.flat_map(|(_, record)| record.outputs.iter());
        items.map(|item| &*item.path).collect()
    }
}
