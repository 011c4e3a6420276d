//! Scripts of packages: a shell line that runs where its files lie.
//!
//! Owns what is different there: programs of installed packages before PATH, outputs collected from
//! the workspace itself, and the look at whether a script changed what it reads. Does not know how
//! scripts become targets, nor what a run has left only because others went before it (`settle`).
//! Invariants: a script sees the whole workspace, so its key holds its package, what that depends on,
//! and everything that was built before it; a result of inputs that did not stay as they were is
//! kept for nobody; a file that was there before, was not what zako wrote, and was not touched by the script is never listed
//! as zako's, so `zako clean` leaves it; of a script that fails
//! nothing is listed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::path::Path;
use std::time::{Duration, Instant};

use super::command::carry_through;
use super::confined;
use super::log::read_log;
use super::manager::of_machine;
use super::settle::{again, not_kept, settle};
use super::strangers;
use super::traced::{of_script, traced};
use super::{
    Doubt, Lookup, StepEnv, StepFailure, StepJob, StepReport, claim, list_as_ours, look_up, record,
    remember, remove_previous,
};
use crate::engine::action::{Action, Before};
use crate::engine::cause::differences;
use crate::engine::edits::Left;
use crate::engine::event::{Outcome, micros};
use crate::engine::outputs::{Collected, adopt, collect_what_is_there, is_intact, store};
use crate::engine::process::ProcessSpec;
use crate::engine::record::{ActionResult, InputContent, OutputItem, OutputKind, Record, UNKNOWN};
use crate::engine::removal::{is_behind_a_link, is_persons};
use crate::engine::sandbox::{Confine, Mode, home};
use crate::engine::scratch::Scratch;
use crate::engine::stamp::Stamp;
use crate::lang::label::Label;
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
    let (command, step) = way_of(job)?;
    let doubtful = job.keep_doubtful(env);
    let report = run_to_its_end(env, job, &action, &doubtful);
    if report.is_err() {
        job.bring_back(env, &doubtful);
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

/// What it does, and what is different in that it does it in place.
fn way_of(job: &StepJob) -> Result<(&Command, &InPlace), StepFailure> {
    let target = job.target();
    let way = target.command().zip(target.in_place());
    way.ok_or(StepFailure::Lost)
}

fn run_to_its_end(
    env: &StepEnv,
    job: &StepJob,
    action: &Action,
    doubtful: &[(Label, Vec<OutputItem>)],
) -> Result<StepReport, StepFailure> {
    let (command, step) = way_of(job)?;
    let root = env.files.root();
    let seat = job.seat(env)?;
    let script = Script::before(env, job, action, (command, step))?;
    job.await_change(&script.before);
    let beside = step.cached.then(|| strangers::beside(env, job, action));
    let beside = beside.flatten();
    let mut run = script.run()?;
    let mut unsettled = None;
    if step.cached {
        (run, unsettled) = settle(&script, run)?;
        for _ in 1..env.repeat {
            run = again(&script, &run.found)?;
        }
    }
    drop(seat);
    job.bring_back(env, doubtful);
    let outputs = store(&env.store, root, &run.found)?;
    claim(env, job, &outputs)?;
    remove_previous(env, job, &outputs);
    let is_ours = |item: &&OutputItem| {
        let now = run.found.get(&*item.path);
        now.is_none_or(|now| !script.is_persons(&item.path, now))
    };
    list_as_ours(env, outputs.iter().filter(is_ours))?;
    adopt(&env.files, &outputs)?;
    let result = ActionResult {
        outputs: outputs.into(),
        duration_us: run.duration_us,
    };
    let mut output = read_log(&run.scratch.log());
    if env.sandbox == Mode::Warn {
        output.push_str(&of_script(env, job, action, &run.scratch));
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
    }
    if let Some(beside) = &beside {
        output.push_str(&not_kept(beside));
        record.forget();
    }
    let is_certain = run.doubt.is_none() && unsettled.is_none() && !record.is_forgotten();
    if step.cached && is_certain {
        remember(env, job, action, &result);
    }
    output.push_str(&unsettled.unwrap_or_default());
    if let Some(doubt) = run.doubt {
        env.claims.doubt(&job.target().label, doubt);
    }
    let mut report = StepReport::success(Outcome::Executed, record);
    report.output = Some(output).filter(|text| !text.trim().is_empty());
    Ok(report)
}

/// A script that is to run, and what lay where its outputs go before it did.
pub(super) struct Script<'a> {
    pub env: &'a StepEnv,
    pub job: &'a StepJob,
    pub action: &'a Action,
    pub command: &'a Command,
    pub step: &'a InPlace,
    pub before: BTreeMap<Text, Stamp>,
    /// Of that what is not zako's; a directory that holds nothing is nobody's.
    pub theirs: BTreeSet<Text>,
}

/// A run that ended well.
pub(super) struct Run {
    pub scratch: Scratch,
    pub duration_us: u64,
    /// What is its own where its outputs go.
    pub found: Collected,
    /// What is doubtful of that.
    pub doubt: Option<Doubt>,
}

impl<'a> Script<'a> {
    /// Looks at what lies there.
    fn before(
        env: &'a StepEnv,
        job: &'a StepJob,
        action: &'a Action,
        (command, step): (&'a Command, &'a InPlace),
    ) -> Result<Self, StepFailure> {
        let root = env.files.root();
        let found = outputs_of(root, command, step)?;
        let is_theirs =
            |path: &str| is_persons(&env.files, &env.ledger, path) || is_behind_a_link(root, path);
        let theirs = found
            .iter()
            .filter(|(path, now)| !now.is_dir() && is_theirs(path));
        let theirs = theirs.map(|(path, _)| path.clone()).collect();
        Ok(Self {
            env,
            job,
            action,
            command,
            step,
            before: stamps(found),
            theirs,
        })
    }

    /// Runs it once.
    pub fn run(&self) -> Result<Run, StepFailure> {
        let mut scratch = self.env.scratches.take(self.env.keep_scratch)?;
        let begin = Instant::now();
        execute(self.env, self.job, self.action, &mut scratch)?;
        let duration_us = micros(begin.elapsed());
        let (found, doubt) = self.left()?;
        Ok(Run {
            scratch,
            duration_us,
            found,
            doubt,
        })
    }

    /// What is its own of what lies there now, and what is doubtful of that.
    pub fn left(&self) -> Result<(Collected, Option<Doubt>), StepFailure> {
        let found = outputs_of(self.env.files.root(), self.command, self.step)?;
        Ok(self.job.own(found, &self.before))
    }

    /// Whether what lies at `path` now was written since.
    pub fn is_touched(&self, path: &Text, now: &Metadata) -> bool {
        self.before.get(path) != Some(&Stamp::of(now))
    }

    /// Whether what lies at `path` now is a person's as it was before.
    pub fn is_persons(&self, path: &Text, now: &Metadata) -> bool {
        self.theirs.contains(path) && !self.is_touched(path, now)
    }

    /// What of zako's it left the last time where its outputs go.
    pub fn previous(&self) -> impl Iterator<Item = &Text> {
        let is_output = |path: &Text| {
            let is_excluded = self.step.out_exclude.iter().any(|out| out.matches(path));
            let is_declared = !is_excluded && self.job.target().declares(path);
            is_declared && self.env.ledger.contains(path)
        };
        let previous = self.job.previous.iter();
        let previous = previous.filter(|it| !it.shares || self.job.shares());
        let items = previous.flat_map(|it| {
            let items = it.outputs.iter();
            items.filter(|item| it.shares || !self.job.is_of_rival(&item.path))
        });
        let items = items.filter(|item| item.kind != OutputKind::Directory);
        items
            .map(|item| &item.path)
            .filter(move |path| is_output(path))
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

/// What lies where its outputs go.
pub(super) fn outputs_of(
    root: &Path,
    command: &Command,
    step: &InPlace,
) -> Result<Collected, StepFailure> {
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
