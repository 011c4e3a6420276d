//! Command steps: a child process on declared inputs.
//!
//! Owns the sequence scratch directory, process, outputs. Does not know the parts' insides.
//! Invariant: nothing reaches the workspace unless the command succeeded and wrote everything that
//! it declares.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::failure::CommandFailure;
use super::hints::of_failure;
use super::log::{note_of_full_disk, read_log, shorten};
use super::traced::{of_command, traced};
use super::{
    Lookup, StepEnv, StepFailure, StepJob, StepReport, depfile, look_up, put_in_place, record,
    remember, repeat,
};
use crate::engine::action::{Action, Tool};
use crate::engine::event::Outcome;
use crate::engine::outputs::{collect, install, store};
use crate::engine::process::{ProcessEnd, ProcessSpec, describe, run as run_process};
use crate::engine::record::ActionResult;
use crate::engine::sandbox::{Confine, Mode, home};
use crate::engine::scratch::Scratch;
use crate::lang::target::{Command, Output};

/// Carries a command step out. Blocks until its process and all descendants are gone.
pub fn run(env: &StepEnv, job: &StepJob) -> Result<StepReport, StepFailure> {
    let action = match look_up(env, job)? {
        Lookup::Answered(report) => return Ok(*report),
        Lookup::Run(action) => action,
    };
    let (command, tool) = job.command_of(&action)?;
    let mut tries = Tries::of(command);
    loop {
        let mut scratch = env.scratches.take(env.keep_scratch)?;
        scratch.fill(&env.files, &action.inputs, directories(command))?;
        let seat = job.seat(env)?;
        let begin = Instant::now();
        let mut attempt = attempt(env, job, (command, tool), &mut scratch);
        if let Err(StepFailure::Command(failed)) = &mut attempt {
            let hints = match env.sandbox {
                Mode::Warn => of_command(env, job, &scratch),
                _ => of_failure(env, job, (command, &action), &scratch, &failed.output),
            };
            failed.output.push_str(&hints);
        }
        let Some(attempt) = tries.judge(attempt) else {
            continue;
        };
        attempt.map_err(|failure| depfile::name_undeclared(env, job, failure))?;
        let action = depfile::narrow(env, job, &scratch, (*action).clone())?;
        let duration_us = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        let left = |source| StepFailure::Left {
            source: Box::new(source),
            output: read_log(&scratch.log()),
        };
        let found = collect(&scratch.work(), &command.outs).map_err(left)?;
        for _ in 1..env.repeat {
            repeat::check(env, job, &action, &scratch, &found)?;
        }
        drop(seat);
        let outputs = store(&env.store, &scratch.work(), &found).map_err(left)?;
        put_in_place(env, job, &outputs, || {
            install(&env.files, &scratch.work(), &outputs)
        })?;
        let result = ActionResult {
            outputs: outputs.into(),
            duration_us,
        };
        remember(env, job, &action, &result);
        let mut report = StepReport::success(Outcome::Executed, record(job, &action, result));
        let mut output = read_log(&scratch.log());
        if env.sandbox == Mode::Warn {
            output.push_str(&of_command(env, job, &scratch));
        }
        tries.tell(&mut report, output);
        return Ok(report);
    }
}

/// The tries of one step. A test that fails may be tried again; what it said then is not lost.
pub struct Tries {
    left: u32,
    failed: Vec<String>,
}

impl Tries {
    /// As many as `command` is given.
    pub fn of(command: &Command) -> Self {
        Self {
            left: command.special.test_retries.unwrap_or(0),
            failed: Vec::new(),
        }
    }

    /// The result of the last try; none when there is to be another.
    pub fn judge<T>(&mut self, result: Result<T, StepFailure>) -> Option<Result<T, StepFailure>> {
        match result {
            Err(StepFailure::Command(mut failure)) if self.left == 0 => {
                failure.attempts += self.failed.len() as u32;
                failure.output = self.failed.concat() + &failure.output;
                Some(Err(StepFailure::Command(failure)))
            }
            Err(StepFailure::Command(failure)) => {
                self.left -= 1;
                let number = self.failed.len() + 1;
                let said = shorten(failure.output.trim_end());
                self.failed
                    .push(format!("try {number} failed: {}\n{said}\n", failure.how));
                None
            }
            result => Some(result),
        }
    }

    /// Puts into `report` what the tries said, the last one `output`.
    pub fn tell(self, report: &mut StepReport, output: String) {
        report.attempts += self.failed.len() as u32;
        let whole = self.failed.concat() + &output;
        report.output = Some(whole).filter(|text| !text.trim().is_empty());
    }
}

impl StepJob {
    /// The command, and the program that `action` says runs it.
    pub(super) fn command_of<'a>(
        &'a self,
        action: &'a Action,
    ) -> Result<(&'a Command, &'a Tool), StepFailure> {
        let parts = self.target().command().zip(action.tool.as_deref());
        parts.ok_or(StepFailure::Lost)
    }
}

/// What has to exist before the command starts: its working directory and its outputs' parents.
pub fn directories(command: &Command) -> impl Iterator<Item = &str> {
    let files = command.outs.iter().filter_map(|out| match out {
        Output::File(path) => Some(path.as_str()),
        Output::Tree(_) | Output::Glob(_) => None,
    });
    let files = files.chain(command.special.depfile.as_deref());
    let parents = files.filter_map(|path| Some(path.rsplit_once('/')?.0));
    std::iter::once(command.dir.as_str()).chain(parents)
}

/// The variables that a command is given, except those that name its directory.
pub fn environment(env: &StepEnv, command: &Command) -> BTreeMap<String, String> {
    let mut variables = env.describer.untracked(command);
    variables.extend(env.describer.environment(command).into_owned());
    variables
}

/// The program of a command that runs in `cwd`.
pub fn program_of(tool: &Tool, cwd: &Path) -> PathBuf {
    if tool.program.is_absolute() {
        tool.program.clone()
    } else {
        cwd.join(&tool.program)
    }
}

/// Runs the command once in a filled scratch directory.
pub fn attempt(
    env: &StepEnv,
    job: &StepJob,
    (command, tool): (&Command, &Tool),
    scratch: &mut Scratch,
) -> Result<(), StepFailure> {
    let mut variables = environment(env, command);
    let path = |path: PathBuf| path.display().to_string();
    variables
        .entry("HOME".into())
        .or_insert(path(scratch.home()));
    // By this variable the step's processes are known, so it is not the target's to choose.
    variables.insert("TMPDIR".into(), path(scratch.tmp()));
    let cwd = scratch.work().join(&command.dir);
    let program = program_of(tool, &cwd);
    let search = variables.get("PATH").map_or("", String::as_str);
    let confine = (env.sandbox == Mode::Strict).then(|| {
        let home = home();
        let places = (env.files.root(), scratch.dir(), home.as_deref());
        Confine::strict(
            places,
            search,
            &program,
            (command.special.network, &env.readable),
        )
    });
    let (program, argv) = match env.sandbox {
        Mode::Warn => traced(search, &program, &command.argv, &scratch.trace())?,
        _ => (program, command.argv.clone()),
    };
    let spec = ProcessSpec {
        program,
        argv,
        env: variables,
        cwd,
        log: scratch.log(),
        timeout: command.special.timeout_ms.map(Duration::from_millis),
        mark: scratch.dir().to_owned(),
        confine,
    };
    carry_through(env, job, spec, scratch)
}

/// Runs the process of a step and judges its end.
pub fn carry_through(
    env: &StepEnv,
    job: &StepJob,
    spec: ProcessSpec,
    scratch: &mut Scratch,
) -> Result<(), StepFailure> {
    let command = job.target().command().ok_or(StepFailure::Lost)?;
    let end = run_process(&spec, &job.cancel).map_err(|source| StepFailure::Start {
        program: command.argv[0].clone(),
        source,
    })?;
    let how = match end {
        ProcessEnd::Exited(status) if status.success() => return Ok(()),
        ProcessEnd::Exited(status) => describe(status),
        ProcessEnd::TimedOut => {
            let limit = Duration::from_millis(command.special.timeout_ms.unwrap_or_default());
            format!("killed after {} s, its timeout", limit.as_secs_f64())
        }
        ProcessEnd::Cancelled(reason) => return Err(StepFailure::Cancelled(reason)),
    };
    if env.keep_scratch {
        scratch.keep();
    }
    let full = note_of_full_disk([scratch.dir(), &spec.cwd]);
    Err(StepFailure::Command(Box::new(CommandFailure {
        how,
        // Not that of whoever traces it.
        argv: command.argv.clone(),
        env: spec.env,
        output: read_log(&spec.log) + &full,
        attempts: 1,
        kept: env.keep_scratch.then_some(spec.cwd),
    })))
}
