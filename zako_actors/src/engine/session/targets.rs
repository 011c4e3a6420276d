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
use crate::diagnostic::Diagnostic;
use crate::engine::analyse::{Given, reading};
use crate::engine::flaws::Flaws;
use crate::engine::graph::Graph;
use crate::engine::load::{Evaluate, LoadEnv, Loaded, Loader};
use crate::engine::outputs_index::OutputIndex;
use crate::engine::plan::Planned;
use crate::engine::removal::ours;
use crate::engine::since::tracked;
use crate::lang::label::Label;
use crate::lang::target::Target;

/// What an attempt to read and link ended with.
type Attempt = Result<(Loaded, Arc<Graph>), BuildError>;

/// What is known of a workspace's targets.
struct Known<'a> {
    graph: Option<&'a Graph>,
    targets: Vec<Arc<Target>>,
    /// What they declare, where there is no graph to ask.
    outputs: OutputIndex,
    /// Those whose rules may describe more.
    unfinished: Vec<Label>,
}

impl Session {
    /// Reads the build files, evaluating those that changed, and links their targets, beside what is `planned` already. What
    /// rules said of old outputs does not count when there is a mistake with it. `given` are the options that were set,
    /// `search` is PATH. A mistake of some targets is the graph's to tell.
    ///
    /// # Errors
    /// The mistakes that nothing can be known beside.
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
                return found;
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
        let mistakes = |attempt: &Attempt| -> Option<Vec<Diagnostic>> {
            let (_, graph) = attempt.as_ref().ok()?;
            Some(graph.mistakes().map(|(_, it)| it.clone()).collect())
        };
        let before = mistakes(&first);
        if before.as_ref().is_some_and(Vec::is_empty) {
            return first;
        }
        let forgotten = self.forget_unread(planned);
        if forgotten.is_empty() {
            return first;
        }
        let second = self.attempt(evaluator, given, search);
        let now = mistakes(&second);
        if now.is_some() && now != before {
            self.changed = true;
            return second;
        }
        // They have nothing to do with it.
        self.known.memory.uses.extend(forgotten);
        first
    }

    fn attempt(&mut self, evaluator: &mut dyn Evaluate, given: &Given, search: &str) -> Attempt {
        let mut loaded = self.load(evaluator, given, search)?;
        let graph = self.graph(std::mem::take(&mut loaded.targets), &loaded.flaws);
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
            missing: &self.missing,
            locks: &self.known.locks,
        };
        let loaded = Loader::new(env, given).load(&mut self.described);
        self.changed |= loaded.as_ref().map_or(true, |loaded| loaded.evaluated > 0);
        self.changed |= self.known.locks.had_news();
        Ok(loaded?)
    }

    /// Links targets into a graph; the same ones as the last time are linked already.
    fn graph(&mut self, targets: Vec<Arc<Target>>, flaws: &Flaws) -> Arc<Graph> {
        if let Some((before, graph)) = &self.known.linked
            && flaws.is_empty()
            && before.len() == targets.len()
            && before.iter().zip(&targets).all(|(a, b)| Arc::ptr_eq(a, b))
        {
            return Arc::clone(graph);
        }
        let text_of = text_in(&self.workspace.root);
        let graph = Arc::new(Graph::new(targets.clone(), flaws, &text_of));
        // What is wrong is looked at anew.
        let is_sound = graph.mistakes().next().is_none();
        self.known.linked = is_sound.then(|| (targets, Arc::clone(&graph)));
        graph
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
        let has_broken = |graph: &Graph| graph.broken().next().is_some();
        if !known.unfinished.is_empty() || known.graph.is_some_and(has_broken) {
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
    fn known_targets<'a>(&self, found: &'a Attempt) -> Option<Known<'a>> {
        let uses = self.described.iter().flat_map(|described| &described.uses);
        let uses = uses.map(|used| used.label.clone());
        let (targets, unfinished): (Vec<_>, Vec<_>) = match (found, &self.described) {
            (Ok((loaded, graph)), _) => {
                let open = reading::unfinished(&loaded.readings).into_iter();
                (graph.targets().to_vec(), open.cloned().collect())
            }
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
            graph: found.as_ref().ok().map(|(_, graph)| &**graph),
            targets,
            outputs,
            unfinished,
        })
    }

    /// What targets have left that are gone, whatever rules say next.
    fn left_by_vanished(&self, known: &Known<'_>) -> FxHashSet<&str> {
        let labels: FxHashSet<&Label> = known.targets.iter().map(|it| &it.label).collect();
        let unfinished: FxHashSet<&Label> = known.unfinished.iter().collect();
        let is_gone = |label: &Label| {
            !labels.contains(label)
                && !known.graph.is_some_and(|graph| graph.is_unreadable(label))
                && !unfinished.contains(label)
                && reading::owner(&unfinished, label).is_none()
        };
        let records = self.known.records.iter();
        let gone = records.filter(|(label, _)| is_gone(label));
        let items = gone.flat_map(|(_, record)| record.outputs.iter());
        items.map(|item| &*item.path).collect()
    }
}
