//! What the rounds of a watch do to the files that they read: whose a change is, and when a round would only repeat the last one.
//!
//! Owns when commands ran, what each was tried with, and how often rounds by themselves changed a file. Does not know how files
//! are watched, nor what a step does.
//! Invariants: a command that always runs, or that failed, runs again for a change of what it reads, or for one that nobody's command
//! made; of rounds that only what they write themselves gives cause for ever fewer follow; no change is passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::files::read;
use super::hash::Hash;
use super::stamp::{Stamp, await_tick, file_clock_ns, now_ns};
use crate::lang::label::Label;

/// So often a round may change a file that is built by the next one, with another content each time, before that is slowed down.
const TIMES: u32 = 5;
/// So many rounds may follow one another by themselves, whichever files they change.
const ROUNDS: u32 = 8;
/// What the first of those that are slowed down waits for, each of the others twice as long as the one before.
const PAUSE: Duration = Duration::from_secs(1);
/// Twice as long so often at most.
const DOUBLED: u32 = 12;

/// The rounds of one watch.
#[derive(Debug, Default)]
pub struct Rounds(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The commands of the last round, with when each ran, ns since 1970. One that has not ended runs for ever.
    ran: Vec<(Label, i64, i64)>,
    /// When that round ended.
    ended_ns: i64,
    /// What commands were tried with, and how they ended.
    tried: FxHashMap<Label, (Hash, Option<Tried>)>,
    /// Whether a change is to be built that no command made.
    is_asked_for: bool,
    chain: Chain,
}

/// How a command ended that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It left its outputs.
    Succeeded,
    /// It said that it failed.
    Failed,
}

/// Rounds that follow one another by themselves.
#[derive(Debug, Default)]
struct Chain {
    rounds: u32,
    /// What files held after the last one that changed them, and how many did.
    files: BTreeMap<String, (Option<Hash>, u32)>,
    /// Those that a person was told of.
    told: BTreeSet<String>,
}

/// What becomes of changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// They are built after this time, unless others come.
    pub pause: Duration,
    /// What a person is to be told: a file that rounds change again and again, and whoever ran when it was written.
    pub tell: Option<(String, Vec<Label>)>,
}

impl Rounds {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The command of `label` begins to work on what has this key.
    pub fn begins(&self, label: &Label, key: Hash) {
        let mut inner = self.lock();
        inner.ran.push((label.clone(), file_clock_ns(), i64::MAX));
        inner.tried.insert(label.clone(), (key, None));
    }

    /// The step of `label` has ended, in this way if its command did.
    pub fn ends(&self, label: &Label, how: Option<Tried>) {
        let mut inner = self.lock();
        let running = inner.ran.iter_mut().rev().find(|(it, ..)| it == label);
        let Some((.., end)) = running.filter(|(.., end)| *end == i64::MAX) else {
            return;
        };
        *end = now_ns();
        if let Some((_, tried)) = inner.tried.get_mut(label) {
            *tried = how;
        }
    }

    /// How the command of `label` ended the last time, if it worked on what has this key then and there is nothing that it is to
    /// be tried again for.
    pub fn before(&self, label: &Label, key: Hash) -> Option<Tried> {
        let inner = self.lock();
        let (before, how) = inner.tried.get(label)?;
        how.filter(|_| *before == key && !inner.is_asked_for)
    }

    /// A round has ended. Waits until the clock of files moves on, a few ms, where a later change could not be told from one that a
    /// command made.
    pub fn round_ends(&self) {
        let mut inner = self.lock();
        inner.ended_ns = now_ns();
        if !inner.ran.is_empty() {
            await_tick(inner.ended_ns);
        }
    }

    /// Whether the last change at `path` in the workspace at `root` happened while commands of the last round ran, or until its end.
    pub fn made(&self, root: &Path, path: &str) -> bool {
        let inner = self.lock();
        let begin = inner.ran.iter().map(|(_, begin, _)| *begin).min();
        begin.is_some_and(|begin| (begin..=inner.ended_ns).contains(&changed_ns(root, path)))
    }

    /// When `changed` files of the workspace at `root`, those with true by commands of the last round, are built.
    pub fn judge(&self, root: &Path, changed: &BTreeMap<String, bool>) -> Verdict {
        let mut inner = self.lock();
        let Inner { chain, ran, .. } = &mut *inner;
        let (made, others): (Vec<_>, Vec<_>) = changed.iter().partition(|(_, is_made)| **is_made);
        if !others.is_empty() {
            // What was told of is known to change; the rest begins anew.
            chain.files.retain(|path, _| chain.told.contains(path));
        }
        for (path, _) in &others {
            chain.files.remove(*path);
        }
        let content = |path: &str| read(&root.join(path)).ok().map(|(hash, _)| hash);
        let made = made.into_iter().map(|(path, _)| path.as_str());
        let times = made.filter_map(|path| Some((chain.take_note(path, content(path))?, path)));
        // All are built when the first of them may be.
        let first = times.min();
        chain.rounds = if others.is_empty() {
            chain.rounds + 1
        } else {
            0
        };
        if !others.is_empty() {
            return Verdict::default();
        }
        let often = first.map_or(0, |(times, _)| (times + 1).saturating_sub(TIMES));
        let doubled = often.max((chain.rounds + 1).saturating_sub(ROUNDS));
        let pause = doubled.checked_sub(1);
        let pause = pause.map_or(Duration::ZERO, |doubled| {
            PAUSE * (1 << doubled.min(DOUBLED))
        });
        let path = first.map(|(_, path)| path.to_owned());
        let path = path.filter(|path| !pause.is_zero() && chain.told.insert(path.clone()));
        let tell = path.map(|path| {
            let moment = changed_ns(root, &path);
            let ran = ran
                .iter()
                .filter(|(_, begin, end)| (*begin..=*end).contains(&moment));
            let labels: BTreeSet<Label> = ran.map(|(label, ..)| label.clone()).collect();
            (path, labels.into_iter().collect())
        });
        Verdict { pause, tell }
    }

    /// A round begins, in which commands are tried again if something `is_asked_for`: a change that no command of the last one made.
    pub fn round_begins(&self, is_asked_for: bool) {
        let mut inner = self.lock();
        inner.ran.clear();
        inner.is_asked_for = is_asked_for;
    }
}

impl Chain {
    /// A round left `path` with this content; tells how many have changed it, if this one did.
    fn take_note(&mut self, path: &str, content: Option<Hash>) -> Option<u32> {
        let (before, times) = self.files.entry(path.to_owned()).or_default();
        let is_same = *times > 0 && *before == content;
        (*before, *times) = (content, *times + u32::from(!is_same));
        (!is_same).then_some(*times)
    }
}

/// When the file at `path` in the workspace at `root` last changed, ns since 1970; where there is none, when the directory did that
/// it would be in.
fn changed_ns(root: &Path, path: &str) -> i64 {
    let full = root.join(path);
    let mut found = full.ancestors().map(fs::symlink_metadata);
    let found = found.find_map(Result::ok);
    found.map_or(i64::MAX, |found| Stamp::of(&found).ctime_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [Hash; 2] = [Hash::new([1; 32]), Hash::new([2; 32])];

    fn label(text: &str) -> Label {
        Label::parse(text, "").unwrap()
    }

    /// What is said of a file with this content that a command wrote, or a person.
    fn judge(rounds: &Rounds, dir: &Path, content: &str, is_made: bool) -> Verdict {
        rounds.begins(&label("//:x"), KEYS[0]);
        fs::write(dir.join("f"), content).unwrap();
        rounds.ends(&label("//:x"), Some(Tried::Failed));
        let verdict = rounds.judge(dir, &BTreeMap::from([("f".to_owned(), is_made)]));
        rounds.round_begins(!is_made);
        verdict
    }

    #[test]
    fn rounds_that_follow_one_another_by_themselves_become_ever_fewer() {
        let dir = tempfile::tempdir().unwrap();
        let rounds = Rounds::default();
        let pause =
            |content: &str, is_made| judge(&rounds, dir.path(), content, is_made).pause.as_secs();
        assert_eq!(["a", "b", "c", "d"].map(|it| pause(it, true)), [0; 4]);
        let verdict = judge(&rounds, dir.path(), "e", true);
        assert_eq!(verdict.pause, PAUSE);
        assert_eq!(verdict.tell, Some(("f".to_owned(), vec![label("//:x")])));
        let verdict = judge(&rounds, dir.path(), "f", true);
        assert_eq!((verdict.pause.as_secs(), verdict.tell), (2, None), "once");
        // What a person does is built at once, and what has not changed has no part in it.
        assert_eq!(pause("g", false), 0);
        assert_eq!(
            ["h", "i", "j", "k", "k", "k"].map(|it| pause(it, true)),
            [0; 6]
        );
    }

    #[test]
    fn names_that_are_new_each_time_do_not_go_on_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let rounds = Rounds::default();
        let pauses = (0..2 * ROUNDS).map(|number| {
            let changed = BTreeMap::from([(format!("f{number}"), true)]);
            rounds.judge(dir.path(), &changed).pause
        });
        let pauses: Vec<Duration> = pauses.collect();
        assert!(
            pauses[0].is_zero() && pauses.last() > Some(&PAUSE),
            "{pauses:?}"
        );
    }

    #[test]
    fn a_command_is_tried_again_for_another_key_or_when_somebody_asks() {
        let rounds = Rounds::default();
        let it = label("//:x");
        for how in [Tried::Failed, Tried::Succeeded] {
            rounds.round_begins(true);
            rounds.begins(&it, KEYS[0]);
            assert_eq!(rounds.before(&it, KEYS[0]), None, "it has not ended");
            rounds.ends(&it, Some(how));
            assert_eq!(rounds.before(&it, KEYS[0]), None, "somebody asks");
            rounds.round_begins(false);
            assert_eq!(rounds.before(&it, KEYS[0]), Some(how));
            assert_eq!(rounds.before(&it, KEYS[1]), None);
        }
        rounds.begins(&it, KEYS[0]);
        rounds.ends(&it, None);
        assert_eq!(rounds.before(&it, KEYS[0]), None, "it was given up");
    }

    #[test]
    fn what_changes_while_commands_run_is_told_from_what_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let made = |rounds: &Rounds| ["f", "gone"].map(|path| rounds.made(dir.path(), path));
        let rounds = Rounds::default();
        rounds.round_ends();
        fs::write(dir.path().join("f"), "").unwrap();
        assert_eq!(made(&rounds), [false; 2], "no command ran");
        rounds.begins(&label("//:x"), KEYS[0]);
        fs::write(dir.path().join("f"), "1").unwrap();
        rounds.round_ends();
        assert_eq!(made(&rounds), [true; 2]);
        rounds.round_begins(false);
        assert_eq!(made(&rounds), [false; 2], "nor in this round");
    }
}
