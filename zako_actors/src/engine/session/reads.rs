//! Which answers of rules count in a session.
//!
//! Owns which rule may read what, and which targets are left out. Does not know how a rule is asked.
//! Invariant: what a rule said of old outputs counts only as long as nobody minds.

use rustc_hash::FxHashSet;

use super::Session;
use crate::engine::plan::{Planned, Read};
use crate::engine::state::Analysed;
use crate::lang::label::Label;

impl Session {
    /// Takes note that what `reads` names is up to date until the end of this session: these rules may read it.
    pub fn allow<'a>(&mut self, reads: impl IntoIterator<Item = &'a Read>) {
        self.read.extend(reads.into_iter().flat_map(pairs));
    }

    /// Has the rules of `reads` wait again: they cannot go on. What they said does not count, so that they read again
    /// once their reads are written anew.
    pub fn disallow(&mut self, reads: &[Read]) {
        for read in reads {
            self.changed |= self.known.memory.uses.remove(&read.target).is_some();
        }
        for pair in reads.iter().flat_map(pairs) {
            self.read.remove(&pair);
        }
    }

    /// Leaves `target`, which has a mistake, and what needs it for the rest of this session. Tells whether that is news.
    pub fn leave_out(&mut self, target: &Label) -> bool {
        self.mistaken.insert(target.clone())
    }

    /// Whether `target` is left out.
    pub fn is_left_out(&self, target: &Label) -> bool {
        self.mistaken.contains(target)
    }

    /// Forgets what rules said of outputs of which nobody knows whether they are up to date, unless what they described is
    /// `planned`. Tells what that was.
    pub(super) fn forget_unread(&mut self, planned: &[Planned]) -> Vec<(Label, Analysed)> {
        let planned: FxHashSet<&Label> = planned.iter().map(|node| &node.target.label).collect();
        let read = &self.read;
        let unread = self.known.memory.uses.extract_if(|target, known| {
            let mut writers = known.reads.iter().filter_map(|read| read.writer.as_ref());
            let mut described = known.targets.iter();
            writers.any(|writer| !may_read(read, target, writer))
                && !described.any(|it| planned.contains(&it.label))
        });
        unread.collect()
    }
}

fn pairs(read: &Read) -> impl Iterator<Item = (Label, Label)> {
    let target = &read.target;
    let writers = read.writers.iter();
    writers.map(move |writer| (target.clone(), writer.clone()))
}

pub(super) fn may_read(read: &FxHashSet<(Label, Label)>, target: &Label, writer: &Label) -> bool {
    // Most builds have no such rules.
    !read.is_empty() && read.contains(&(target.clone(), writer.clone()))
}
