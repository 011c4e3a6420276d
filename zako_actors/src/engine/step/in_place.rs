//! Scripts of packages: a shell line that runs where its files lie.
//!
//! Owns what is different there: programs of installed packages before PATH, outputs collected from
//! the workspace itself, and the look at whether a script changed what it reads. Does not know how
//! scripts become targets.
//! Invariants: a script sees the whole workspace, so its key holds its package, what that depends on,
//! and everything that was built before it; a result of inputs that did not stay as they were is
//! kept for nobody; a file that was there before, was not what zako wrote, and was not touched by the script is never listed
//! as zako's, so `zako clean` leaves it; one that was there before is not taken away between two runs; of a script that fails
//! nothing is listed.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use super::command::carry_through;
use super::confined;
use super::log::read_log;
use super::manager::of_machine;
use super::repeat::compare;
use super::traced::{of_script, traced};
use super::{
    Lookup, StepEnv, StepFailure, StepJob, StepReport, claim, list_as_ours, look_up, record,
    remember, remove_previous,
};
use crate::engine::action::{Action, Before};
use crate::engine::cause::differences;
use crate::engine::edits::Left;
use crate::engine::event::{Outcome, micros};
use crate::engine::outputs::{Collected, adopt, collect_what_is_there, is_intact, store};
use crate::engine::process::ProcessSpec;
use crate::engine::record::{ActionResult, InputContent, Record, UNKNOWN};
use crate::engine::removal::is_persons;
use crate::engine::sandbox::{Confine, Mode, home};
use crate::engine::scratch::Scratch;
use crate::engine::stamp::Stamp;
use crate::lang::target::{Command, InPlace};
use crate::lang::text::Text;

/// So many changed files are named.
const NAMED: usize = 3;

/// Carries a script out. Blocks until its process and all descendants are gone.
pub fn run(env: &StepEnv, job: &StepJob) -> Result<StepReport, StepFailure> {
    let action = match look_up(env, job)? {
        Lookup::Answered(report) => return Ok(*report),
        Lookup::Run(action) => action,
    };
    let target = job.target();
    let (Some(command), Some(step)) = (target.command(), target.in_place()) else {
        return Err(StepFailure::Lost);
    };
    let report = run_to_its_end(env, job, &action, (command, step));
    if report.is_err() {
        job.bring_back(env);
    }
    if let Some(edits) = &env.edits
        && let Ok(found) = outputs_of(env.files.root(), command, step)
    {
        let left = Left {
            outs: command.outs.clone(),
            out_exclude: step.out_exclude.clone(),
            found: stamps(found),
        };
        edits.ended(&target.label, left);
    }
    report
}

fn run_to_its_end(
    env: &StepEnv,
    job: &StepJob,
    action: &Action,
    (command, step): (&Command, &InPlace),
) -> Result<StepReport, StepFailure> {
    let root = env.files.root();
    let mut scratch = env.scratches.take(env.keep_scratch)?;
    let seat = job.seat(env)?;
    let before = stamps(outputs_of(root, command, step)?);
    let is_theirs = |path: &Text| is_persons(&env.files, &env.ledger, path);
    let theirs = before.iter().filter(|(path, _)| is_theirs(path));
    let theirs = theirs.map(|(path, stamp)| (path.clone(), *stamp)).collect();
    job.await_change(&before);
    let begin = Instant::now();
    execute(env, job, action, &mut scratch)?;
    let duration_us = micros(begin.elapsed());
    let mut doubt = None;
    let mut own = || -> Result<Collected, StepFailure> {
        let found = outputs_of(root, command, step)?;
        let (found, its) = job.own(found, &before);
        doubt = its;
        Ok(found)
    };
    let mut found = own()?;
    if step.cached {
        for _ in 1..env.repeat {
            found = again(env, job, action, (&theirs, found), &mut own)?;
        }
    }
    drop(seat);
    job.bring_back(env);
    let outputs = store(&env.store, root, &found)?;
    claim(env, job, &outputs)?;
    remove_previous(env, job, &outputs);
    let ours = outputs.iter().filter(|item| {
        let now = found.get(&*item.path).map(Stamp::of);
        theirs.get(&*item.path).copied() != now
    });
    list_as_ours(env, ours)?;
    adopt(&env.files, &outputs)?;
    let result = ActionResult {
        outputs: outputs.into(),
        duration_us,
    };
    let mut output = read_log(&scratch.log());
    if env.sandbox == Mode::Warn {
        output.push_str(&of_script(env, job, action, &scratch));
    }
    let changed = if step.cached {
        changed_inputs(env, job, action)
    } else {
        Vec::new()
    };
    let mut record = record(job, action, result.clone());
    if !changed.is_empty() {
        output.push_str(&warning(&changed));
        forget_inputs(&mut record, &changed);
    } else if step.cached && doubt.is_none() {
        remember(env, action, &result);
    }
    if let Some(doubt) = doubt {
        env.claims.doubt(&job.target().label, doubt);
    }
    let mut report = StepReport::success(Outcome::Executed, record);
    report.output = Some(output).filter(|text| !text.trim().is_empty());
    Ok(report)
}

/// Takes away what was not there before the script, runs it once more, and compares what it leaves then; that is what lies
/// there now.
fn again(
    env: &StepEnv,
    job: &StepJob,
    action: &Action,
    (theirs, found): (&BTreeMap<Text, Stamp>, Collected),
    own: &mut dyn FnMut() -> Result<Collected, StepFailure>,
) -> Result<Collected, StepFailure> {
    let root = env.files.root();
    let first = env.scratches.take(false)?;
    for (path, metadata) in &found {
        let (from, to) = (root.join(path), first.work().join(path));
        let is_ours = !theirs.contains_key(path);
        set_aside(&from, &to, metadata, is_ours).map_err(StepFailure::Compare)?;
    }
    let mut scratch = env.scratches.take(env.keep_scratch)?;
    execute(env, job, action, &mut scratch)?;
    let now = own()?;
    compare(&first.work(), &found, root, &now)?;
    Ok(now)
}

/// Has a copy of `from` lie at `to`; `from` itself goes where it `is_ours`.
fn set_aside(from: &Path, to: &Path, metadata: &Metadata, is_ours: bool) -> io::Result<()> {
    if metadata.is_dir() {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    if metadata.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else {
        fs::copy(from, to)?;
    }
    if is_ours {
        fs::remove_file(from)
    } else {
        Ok(())
    }
}

fn execute(
    env: &StepEnv,
    job: &StepJob,
    action: &Action,
    scratch: &mut Scratch,
) -> Result<(), StepFailure> {
    let target = job.target();
    let (command, tool) = job.command_of(action)?;
    let step = target.in_place().ok_or(StepFailure::Lost)?;
    let root = env.files.root();
    let tracked = env.describer.environment(command);
    let search = tracked.get("PATH").map_or("", String::as_str);
    let path = search_path(root, step, search);
    let mut variables = env.describer.untracked(command);
    variables.extend(of_machine((root, &command.dir), &tracked, &path));
    variables.extend(
        tracked
            .iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    let confine = (env.sandbox == Mode::Strict).then(|| {
        let home = home();
        let places = (root, scratch.dir(), home.as_deref());
        let more = (command.special.network, &env.readable);
        let mut confine = Confine::strict(places, search, &tool.program, more);
        confined::open(&mut confine, root, (command, step), &action.inputs);
        confine
    });
    let (program, argv) = match env.sandbox {
        Mode::Warn => traced(&path, &tool.program, &command.argv, &scratch.trace())?,
        _ => (tool.program.clone(), command.argv.clone()),
    };
    variables.insert("PATH".into(), path);
    // By this variable the step's processes are known, so it is not the script's to choose.
    variables.insert("TMPDIR".into(), scratch.tmp().display().to_string());
    let spec = ProcessSpec {
        program,
        argv,
        env: variables,
        cwd: root.join(&command.dir),
        log: scratch.log(),
        timeout: command.special.timeout_ms.map(Duration::from_millis),
        mark: scratch.dir().to_owned(),
        confine,
    };
    carry_through(env, job, spec, scratch).map_err(|mut failure| {
        if let StepFailure::Command(failed) = &mut failure {
            match env.sandbox {
                Mode::Warn => failed
                    .output
                    .push_str(&of_script(env, job, action, scratch)),
                Mode::Strict => failed.output.push_str(confined::HINT),
                Mode::Off => {}
            }
        }
        failure
    })
}

/// The programs of installed packages, then `path`.
pub fn search_path(root: &Path, step: &InPlace, path: &str) -> String {
    let bins = step
        .bins
        .iter()
        .map(|bin| root.join(bin).display().to_string());
    let mut whole: Vec<String> = bins.collect();
    whole.push(path.to_owned());
    whole.join(":")
}

fn outputs_of(root: &Path, command: &Command, step: &InPlace) -> Result<Collected, StepFailure> {
    let mut found = collect_what_is_there(root, &command.outs)?;
    found.retain(|path, _| !step.out_exclude.iter().any(|out| out.matches(path)));
    Ok(found)
}

fn stamps(found: Collected) -> BTreeMap<Text, Stamp> {
    let stamps = found.into_iter();
    let stamps = stamps.map(|(path, metadata)| (path, Stamp::of(&metadata)));
    stamps.collect()
}

/// What its key was made of and is not as it was: files, or what is wrong with the description of it now.
fn changed_inputs(env: &StepEnv, job: &StepJob, before: &Action) -> Vec<String> {
    let target = job.target();
    let existing: Vec<Text> = job
        .sources
        .iter()
        .filter(|path| fs::symlink_metadata(env.files.root().join(path)).is_ok())
        .cloned()
        .collect();
    let deps = job.deps.iter().map(|outputs| &**outputs);
    let after = env
        .describer
        .describe(target, &existing, deps, Before::default(), &env.files);
    let after = match after {
        Ok(after) => after,
        Err(error) => return vec![error.to_string()],
    };
    let mut changed: Vec<String> = differences(&before.inputs, &after.inputs, usize::MAX)
        .iter()
        .filter_map(|cause| cause.path().map(str::to_owned))
        .collect();
    // These were described by what was left, not by what lies there.
    let left = job.deps.iter().flat_map(|outputs| outputs.iter());
    let edited = left.filter(|item| target.takes(&item.path) && !is_intact(&env.files, item));
    changed.extend(edited.map(|item| item.path.to_string()));
    if after.recipe != before.recipe {
        changed.extend(
            before
                .tool
                .iter()
                .map(|it| it.program.display().to_string()),
        );
    }
    changed
}

/// Has `record` be that of no action: whether its outputs were made of what `changed` held before or after, nobody knows.
fn forget_inputs(record: &mut Record, changed: &[String]) {
    let recipe = record.recipe;
    record.forget();
    let mut is_input = false;
    for input in &mut record.inputs {
        if changed.iter().any(|path| **path == *input.path) {
            is_input = true;
            input.content = InputContent::File {
                hash: UNKNOWN,
                executable: false,
            };
        }
    }
    if is_input {
        // The inputs say why.
        record.recipe = recipe;
    }
}

/// What is said of a result that is not kept.
fn warning(changed: &[String]) -> String {
    let named = changed.iter().take(NAMED).map(String::as_str);
    let mut names = named.collect::<Vec<_>>().join(", ");
    if let Some(more @ 1..) = changed.len().checked_sub(NAMED) {
        names.push_str(&format!(" and {more} more"));
    }
    format!(
        "\nwarning: what it reads changed while it ran ({names}), by the script itself or by somebody else; its result is \
         not cached, and it will run again; files that the script writes belong in the task's `outputs`, or are for git to ignore"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::hash::Hash;
    use crate::engine::record::Input;

    #[test]
    fn a_forgotten_record_is_that_of_no_action() {
        let input = |path: &str| Input {
            path: path.into(),
            content: InputContent::Directory,
        };
        let record = Record {
            key: Hash::of(b"k"),
            recipe: Hash::of(b"r"),
            inputs: vec![input("a"), input("b")],
            outputs: [].into(),
            duration_us: 0,
            shares: false,
        };
        let mut of_file = record.clone();
        forget_inputs(&mut of_file, &["b".to_owned()]);
        assert_eq!(of_file.recipe, record.recipe);
        assert_eq!(differences(&of_file.inputs, &record.inputs, 9).len(), 1);
        let mut of_program = record.clone();
        forget_inputs(&mut of_program, &["/bin/sh".to_owned()]);
        assert_ne!(of_program.recipe, record.recipe);
        assert_ne!((of_file.key, of_program.key), (record.key, record.key));
    }

    #[test]
    fn a_warning_names_a_few_files() {
        let names = |count: usize| -> Vec<String> { (0..count).map(|n| format!("f{n}")).collect() };
        assert!(warning(&names(1)).contains("(f0)"));
        assert!(warning(&names(3)).contains("(f0, f1, f2)"));
        assert!(warning(&names(5)).contains("(f0, f1, f2 and 2 more)"));
    }
}
