//! Which files the globs of uses mean.
//!
//! Owns what is no source: what is described as an output, and, where not everything is described, whatever zako wrote.
//! Does not know how rules are asked.
//! Invariant: within one round a glob means the same to everybody.

use std::io;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::engine::dirs::DirTable;
use crate::engine::outputs_index::OutputIndex;
use crate::lang::label::Label;
use crate::lang::pattern::Pattern;
use crate::lang::target::Target;

/// A glob: its directory, what it takes, and what of that it leaves out.
pub(super) type Glob = (String, Vec<Pattern>, Vec<Pattern>);

/// Whether zako wrote a file of the workspace.
type Wrote<'a> = &'a dyn Fn(&str) -> bool;

/// What globs mean in one round of asking rules.
#[derive(Debug, Default)]
pub(super) struct Globs {
    /// What is no source, as far as it is described.
    outputs: OutputIndex,
    /// Whether that may be less than everything that zako wrote.
    has_undescribed: bool,
    /// What was looked for.
    found: FxHashMap<Glob, Arc<[String]>>,
}

impl Globs {
    /// Where `described` leave outputs, and others may have.
    pub fn beside(described: &[Arc<Target>], has_undescribed: bool) -> Self {
        let outputs = OutputIndex::of(described);
        Self {
            has_undescribed: has_undescribed || outputs.has_others(),
            outputs,
            found: FxHashMap::default(),
        }
    }

    /// Whether a target declares `path`.
    pub fn is_output(&self, path: &str) -> bool {
        self.outputs.covers(path)
    }

    /// The files that `glob` means.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    pub fn expand(
        &mut self,
        glob: Glob,
        dirs: &mut DirTable,
        wrote: Wrote<'_>,
    ) -> io::Result<Arc<[String]>> {
        if let Some(found) = self.found.get(&glob) {
            return Ok(Arc::clone(found));
        }
        let found: Arc<[String]> = self.look(&glob, dirs, wrote)?.into();
        self.found.insert(glob, Arc::clone(&found));
        Ok(found)
    }

    fn look(
        &self,
        (dir, include, exclude): &Glob,
        dirs: &mut DirTable,
        wrote: Wrote<'_>,
    ) -> io::Result<Vec<String>> {
        dirs.expand_sources(dir, include, exclude, &|path| {
            self.is_output(path) || (self.has_undescribed && wrote(path))
        })
    }

    /// One of the globs that were looked for and would mean other files by `next`.
    pub fn differs(&self, next: &Self, dirs: &mut DirTable, wrote: Wrote<'_>) -> Option<&Glob> {
        let mut found = self.found.iter();
        let other = found.find(|(glob, found)| {
            // Whoever asks for it next is told what is wrong.
            next.look(glob, dirs, wrote)
                .is_ok_and(|now| now != ***found)
        });
        other.map(|(glob, _)| glob)
    }
}

/// The labels of all `described`.
pub(super) fn labels(described: &[Arc<Target>]) -> FxHashSet<&Label> {
    described.iter().map(|target| &target.label).collect()
}
