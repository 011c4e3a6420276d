//! Scripts that write where another one of their package does, such as `build` and `build:types` to `dist`.
//!
//! Owns the question which of the files there a script has left, and what becomes of those of the others. Does not know who
//! writes where, nor when: of two that meet only one is under way.
//! Invariants: a file that a script neither made nor changed is its output only where it was before; one that an
//! up-to-date script left, or may have left, is there when another one has ended; what belongs to nobody is never taken away.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::sync::Arc;

use super::{StepEnv, StepJob};
use crate::engine::outputs::{Collected, restore, store};
use crate::engine::record::{OutputItem, item_at};
use crate::engine::removal::is_taken;
use crate::engine::stamp::{Stamp, await_tick};
use crate::lang::label::Label;
use crate::lang::text::Text;

/// What is known of a script that writes where another one does.
#[derive(Debug)]
pub struct Rival {
    /// Its name.
    pub label: Label,
    /// What it left the last time.
    pub outputs: Arc<[OutputItem]>,
    /// Whether it is up to date in this build.
    pub is_done: bool,
}

/// Why it is not known for certain what a script has left: it may be one that writes nothing that is there as it would be.
#[derive(Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It did not touch these, and nobody is known to have left them.
    Strangers(Vec<Text>),
    /// It touched nothing of what others have left.
    Nothing,
}

impl Doubt {
    /// What is said of the result of `label`.
    pub fn explain(&self, label: &Label) -> String {
        let so = format!("so the result of {label} is not kept, and it will run again");
        match self {
            Self::Strangers(paths) => {
                let (named, advice) = tell(paths, label);
                format!(
                    "{named}: nobody knows which script wrote it: {label} is not the only one that writes there, it lay there before, and \
                     none of them touched it; {so}; {advice}"
                )
            }
            Self::Nothing => format!(
                "{label} touched nothing where its outputs go, and others have left files there: nobody knows whether some are its own, \
                 too; {so}; delete them, or have its task say `\"outputs\": []` if it leaves nothing"
            ),
        }
    }
}

/// What files that nobody knows are called, where the outputs of `label` go, and how to be rid of them.
pub(super) fn tell(paths: &[Text], label: &Label) -> (String, String) {
    let [first, more @ ..] = paths else {
        return Default::default();
    };
    let named = match more.len() {
        0 => first.to_string(),
        more => format!("{first} and {more} more"),
    };
    let below = first.strip_prefix(label.dir()).unwrap_or(first);
    let below = below.trim_start_matches('/');
    let advice = format!("delete it, or leave it out of the task's `outputs` with \"!{below}\"");
    (named, advice)
}

impl Rival {
    /// What it left at `path`.
    fn at(&self, path: &str) -> Option<&OutputItem> {
        item_at(&self.outputs, path)
    }
}

impl StepJob {
    /// Whether others may write where it does.
    pub(super) fn shares(&self) -> bool {
        self.target().in_place().is_some_and(|step| step.shares)
    }

    /// Whether somebody else has left something at `path`.
    pub(super) fn is_of_rival(&self, path: &str) -> bool {
        self.rivals.iter().any(|rival| rival.at(path).is_some())
    }

    /// Whether somebody else has left the same in this build: then it is of both.
    pub(super) fn is_of_both(&self, item: &OutputItem) -> bool {
        let mut done = self.rivals.iter().filter(|rival| rival.is_done);
        done.any(|rival| rival.at(&item.path) == Some(item))
    }

    /// What of `found`, where its outputs go, is its own, and what is doubtful of that; `before` it ran this lay there.
    pub(super) fn own(
        &self,
        mut found: Collected,
        before: &BTreeMap<Text, Stamp>,
    ) -> (Collected, Option<Doubt>) {
        if !self.shares() {
            return (found, None);
        }
        // Where it was alone then, what another one has left since is not its own.
        let had_left = |path: &str| {
            self.previous.as_ref().is_some_and(|it| {
                item_at(&it.outputs, path).is_some() && (it.shares || !self.is_of_rival(path))
            })
        };
        let previous = self.previous.as_ref().filter(|it| it.shares);
        // What it had left is its own still, also where that is nothing.
        let is_known = previous.is_some_and(|it| !it.is_forgotten());
        let (mut strangers, mut is_alone) = (Vec::new(), true);
        found.retain(|path, now| {
            let is_own = before.get(path) != Some(&Stamp::of(now)) || had_left(path);
            if !is_own && !now.is_dir() {
                is_alone = false;
                if !self.is_of_rival(path) {
                    strangers.push(path.clone());
                }
            }
            is_own
        });
        let doubt = match strangers.is_empty() {
            false => Some(Doubt::Strangers(strangers)),
            true if found.is_empty() && !is_alone && !is_known => Some(Doubt::Nothing),
            true => None,
        };
        (found, doubt)
    }

    /// Waits until a change of what lies where its outputs go would show: somebody may just have written that.
    pub(super) fn await_change(&self, before: &BTreeMap<Text, Stamp>) {
        let changed = before.values().map(|it| it.mtime_ns.max(it.ctime_ns));
        if let Some(last) = changed.max() {
            await_tick(last);
        }
    }

    /// Puts into the store what others found in this build, and may have left: with a copy it can be brought back. What cannot be read
    /// stays as it is.
    pub(super) fn keep_doubtful(&self, env: &StepEnv) -> Vec<(Label, Vec<OutputItem>)> {
        let root = env.files.root();
        let keep = |path: Text| {
            let found = fs::symlink_metadata(root.join(&path)).ok();
            let found = found.filter(|found| found.is_file() || found.is_symlink())?;
            store(&env.store, root, &Collected::from([(path, found)])).ok()
        };
        let done = self.rivals.iter().filter(|rival| rival.is_done);
        let doubtful = done.map(|rival| {
            let strangers = env.claims.strangers_of(&rival.label).into_iter();
            let kept = strangers.filter_map(keep).flatten().collect();
            (rival.label.clone(), kept)
        });
        doubtful.collect()
    }

    /// Puts back what it took away of what others have left in this build, and of what is `doubtful` of that.
    pub(super) fn bring_back(&self, env: &StepEnv, doubtful: &[(Label, Vec<OutputItem>)]) {
        let done = self.rivals.iter().filter(|rival| rival.is_done);
        let left = done.map(|rival| (&rival.label, &*rival.outputs));
        let doubtful = doubtful.iter().map(|(label, items)| (label, &**items));
        for (its, items) in left.chain(doubtful) {
            let is_gone = |item: &&OutputItem| {
                let found = fs::symlink_metadata(env.files.root().join(&*item.path));
                let is_gone = found.is_err_and(|error| error.kind() == ErrorKind::NotFound);
                is_gone && !is_taken(&env.files, &env.ledger, &item.path)
            };
            let gone: Vec<_> = items.iter().filter(is_gone).cloned().collect();
            if let Err(error) = restore(&env.files, &env.store, &gone) {
                let label = &self.target().label;
                tracing::warn!(
                    "{label} took away what {its} had left, which could not be brought back: {error}; the next build of {its} makes it again"
                );
            }
        }
    }
}
