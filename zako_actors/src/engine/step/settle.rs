//! Whether what a script has left is all that it leaves, and nothing but that.
//!
//! Owns the second look: what a run did not touch may be stale, half made, or what an incremental tool found up to date, so the
//! script runs once more where nothing of its own lies. Does not know how a script runs.
//! Invariants: a result goes into a cache only if one run has written all of it, from nothing or over what was there; nothing of a
//! person's is taken away; what was taken away comes back unless a run has left again whatever the one before it wrote.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::path::Path;

use super::StepFailure;
use super::aside::Aside;
use super::in_place::{Run, Script};
use super::repeat::compare;
use super::results::is_remembered;
use super::rivals::tell;
use crate::engine::outputs::Collected;
use crate::engine::removal::is_behind_a_link;
use crate::lang::target::join;
use crate::lang::text::Text;

/// Ends the names of files in which TypeScript keeps what it has done.
const STATE: &str = ".tsbuildinfo";
/// Directories of a package that hold no such file of its own.
const PASSED_OVER: [&str; 3] = ["node_modules", ".git", ".zako"];

/// The run of `script` that counts, `first` or one from nothing, and, if its result is for no cache, why.
pub(super) fn settle(
    script: &Script<'_>,
    first: Run,
) -> Result<(Run, Option<String>), StepFailure> {
    let states = states(script);
    let (run, doubt) = if is_certain(script, &first, &states) {
        (first, None)
    } else if let Some(path) = own(script, &first.found)
        .keys()
        .find(|it| may_be_missed(script, it))
    {
        let why = format!(
            "it did not write all that lies where its outputs go, and {path} among that was not zako's, or git has it, so that it is not \
             moved away to see what a run from nothing leaves"
        );
        (first, Some(not_kept(&why)))
    } else {
        run_from_nothing(script, first, &states)?
    };
    let doubt = doubt.or_else(|| strangers(script, &run.found));
    Ok((run, doubt))
}

/// Runs `script` once more from nothing, and compares what it leaves then with what it `found` before.
pub(super) fn again(script: &Script<'_>, found: &Collected) -> Result<Run, StepFailure> {
    let mut aside = Aside::of(script.env)?;
    let mut before = own(script, found);
    // These stay, and are not compared.
    before.retain(|path, _| !may_be_missed(script, path));
    let taken = aside.take(script, &before, &states(script));
    taken.map_err(StepFailure::Compare)?;
    let run = script.run()?;
    let mut now = own(script, &run.found);
    now.retain(|path, _| !may_be_missed(script, path));
    compare(&aside.work(), &before, script.env.files.root(), &now)?;
    aside.let_go(script);
    Ok(run)
}

/// Of `found` what is not merely a person's.
fn own(script: &Script<'_>, found: &Collected) -> Collected {
    let own = found
        .iter()
        .filter(|(path, now)| !script.is_persons(path, now));
    own.map(|(path, now)| (path.clone(), now.clone())).collect()
}

/// Whether somebody may miss what lies at `path`: it was there and not zako's before the script changed it, or git has it.
fn may_be_missed(script: &Script<'_>, path: &Text) -> bool {
    script.theirs.contains(path) || script.env.may_be_gits(path)
}

/// Whether `run` has left all that it would from nothing, and nothing of what it did not touch is zako's.
fn is_certain(script: &Script<'_>, run: &Run, states: &[Text]) -> bool {
    let is_kept = |(path, now): (&Text, &Metadata)| {
        !script.is_touched(path, now) && !script.is_persons(path, now)
    };
    if run.found.iter().any(is_kept) {
        return false;
    }
    // Somebody took it away, which a tool that keeps what it has done elsewhere does not see.
    let is_gone = |path: &Text| !script.before.contains_key(path) && !run.found.contains_key(path);
    if script.previous().any(is_gone) {
        return false;
    }
    let is_persons = |(path, now): (&Text, &Metadata)| script.is_persons(path, now);
    let has_persons = run.found.iter().any(is_persons);
    if !has_persons && is_unsettled(script) {
        return false;
    }
    let is_doubtful = script.job.previous.is_none() || has_persons;
    states.is_empty() || !is_doubtful
}

/// Whether what it left the last time may have lacked something.
fn is_unsettled(script: &Script<'_>) -> bool {
    let previous = script.job.previous.as_ref();
    previous.is_some_and(|it| !it.is_forgotten() && !is_remembered(script.env, &it.key))
}

/// Runs `script` where nothing lies of what is its own. That run counts if it wrote whatever the `first` one wrote; otherwise something
/// keeps what it has done elsewhere, and all is as after the first one again.
fn run_from_nothing(
    script: &Script<'_>,
    mut first: Run,
    states: &[Text],
) -> Result<(Run, Option<String>), StepFailure> {
    let label = &script.job.target().label;
    tracing::debug!(
        "{label} did not touch all that lies where its outputs go: it runs once more from nothing"
    );
    let mut aside = Aside::of(script.env)?;
    if let Err(error) = aside.take(script, &own(script, &first.found), states) {
        drop(aside);
        let why = format!("what it left before cannot be moved out of its way ({error})");
        return Ok((first, Some(not_kept(&why))));
    }
    let why = match script.run() {
        Ok(second) => match lacking(script, &first, &second) {
            Some(path) => format!(
                "it does not make {path} again where that is gone, so that is stale, or it keeps what it has done outside of its outputs; after \
                 `zako clean`, and without what it keeps, it begins anew"
            ),
            None => {
                aside.let_go(script);
                return Ok((second, None));
            }
        },
        Err(StepFailure::Command(failed)) => format!(
            "it ends well only where its earlier outputs lie; from nothing it fails ({}; {})",
            failed.how,
            last_line(&failed.output)
        ),
        Err(failure) => return Err(failure),
    };
    drop(aside);
    let known = first.found;
    (first.found, first.doubt) = script.left()?;
    // Of what the other run left nothing is listed.
    first.found.retain(|path, _| known.contains_key(path));
    Ok((first, Some(not_kept(&why))))
}

/// What the `first` run of `script` wrote, or found as it would be, and the `second` one, from nothing, did not leave.
fn lacking(script: &Script<'_>, first: &Run, second: &Run) -> Option<Text> {
    let is_made = |path: &Text| {
        let now = second.found.get(path);
        now.is_some_and(|now| script.is_touched(path, now))
    };
    let own = own(script, &first.found);
    let mut files = own.iter().filter(|(_, now)| !now.is_dir());
    let is_lacking =
        |item: &(&Text, &Metadata)| script.is_touched(item.0, item.1) && !is_made(item.0);
    if let Some((path, _)) = files.clone().find(is_lacking) {
        return Some(path.clone());
    }
    // By the same action it has left these.
    let key = script.job.previous.as_ref().map(|it| it.key);
    let mut same = script.previous().filter(|_| key == Some(script.action.key));
    if let Some(path) = same.find(|path| !is_made(path)) {
        return Some(path.clone());
    }
    // Of what it did not touch it made nothing: a tool with a memory, unless something that it read is gone, too.
    let mut kept = files
        .clone()
        .filter(|(path, now)| !script.is_touched(path, now))
        .map(|(path, _)| path)
        .peekable();
    if let Some(path) = kept.peek().copied()
        && !may_leave_less(script)
        && !kept.any(is_made)
    {
        return Some(path.clone());
    }
    let mut made = second.found.iter().filter(|(_, now)| !now.is_dir());
    if made.any(|(path, _)| is_made(path)) {
        return None;
    }
    let had = files.next().map(|(path, _)| path);
    let had = had.or_else(|| script.previous().next()).cloned();
    // Nothing, as the last time, when it was not known whether that is right.
    let place = || Some(script.command.outs.first()?.show().as_str().into());
    had.or_else(|| place().filter(|_| is_unsettled(script)))
}

/// Whether something that it read the last time is gone, or it is told otherwise what to do: then it may leave less than it did.
fn may_leave_less(script: &Script<'_>) -> bool {
    let Some(previous) = &script.job.previous else {
        return true;
    };
    let inputs = &script.action.inputs;
    let is_there = |path: &Text| inputs.binary_search_by(|now| now.path.cmp(path)).is_ok();
    previous.recipe != script.action.recipe || !previous.inputs.iter().all(|it| is_there(&it.path))
}

/// What was there before, is not zako's, was not touched, and that others may not have.
fn strangers(script: &Script<'_>, found: &Collected) -> Option<String> {
    let persons = found
        .iter()
        .filter(|(path, now)| script.is_persons(path, now));
    let persons = persons.map(|(path, _)| path);
    let unknown: Vec<Text> = persons
        .filter(|path| script.env.is_gits(path) != Some(true))
        .cloned()
        .collect();
    if unknown.is_empty() {
        return None;
    }
    let (named, advice) = tell(&unknown, &script.job.target().label);
    Some(not_kept(&format!(
        "{named} lay where its outputs go, is not known as zako's, and it did not touch that; {advice}"
    )))
}

/// Files of the package in which TypeScript keeps what it has done, and which are nobody else's to keep.
fn states(script: &Script<'_>) -> Vec<Text> {
    let root = script.env.files.root();
    let mut found: BTreeSet<Text> = script.before.keys().cloned().collect();
    if !script.command.outs.is_empty() {
        let (files, dirs) = entries(root, &script.command.dir);
        found.extend(files);
        let is_searched = |dir: &&Text| {
            let name = dir.rsplit('/').next().unwrap_or(dir);
            !PASSED_OVER.contains(&name) && !script.step.inner.iter().any(|it| **it == ***dir)
        };
        let searched = dirs.iter().filter(is_searched);
        found.extend(searched.flat_map(|dir| entries(root, dir).0));
    }
    let is_free = |path: &Text| {
        path.ends_with(STATE)
            && !script.job.is_of_rival(path)
            && !is_behind_a_link(root, path)
            && !script.env.may_be_gits(path)
    };
    found.into_iter().filter(is_free).collect()
}

/// The files and the directories in `dir`, whose names can be read.
fn entries(root: &Path, dir: &str) -> (Vec<Text>, Vec<Text>) {
    let (mut files, mut dirs) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(root.join(dir)).into_iter().flatten().flatten() {
        let (name, kind) = (entry.file_name(), entry.file_type());
        let path = name.to_str().map(|name| Text::from(join(dir, name)));
        match (path, kind) {
            (Some(path), Ok(kind)) if kind.is_file() => files.push(path),
            (Some(path), Ok(kind)) if kind.is_dir() => dirs.push(path),
            _ => {}
        }
    }
    (files, dirs)
}

/// What is said of a result that goes into no cache.
pub(super) fn not_kept(why: &str) -> String {
    format!("\nwarning: its result is not cached: {why}")
}

fn last_line(output: &str) -> &str {
    output
        .trim_end()
        .lines()
        .next_back()
        .unwrap_or("it printed nothing")
}
