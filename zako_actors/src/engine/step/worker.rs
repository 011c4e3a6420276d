//! Command steps that a worker process carries out.
//!
//! Owns the sequence worker, inputs, request, outputs, and what happens when a worker dies. Does not
//! know who else uses the worker.
//! Invariants: nothing reaches the workspace unless the worker says that it succeeded and everything
//! that is declared is there; a worker that died is replaced once per step; a worker that failed a
//! request is asked again, one that gave no answer never.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::command::{Tries, directories, environment, program_of};
use super::failure::CommandFailure;
use super::{
    Lookup, StepEnv, StepFailure, StepJob, StepReport, look_up, put_in_place, record, remember,
    repeat,
};
use crate::engine::action::{Action, Tool};
use crate::engine::event::{Outcome, micros};
use crate::engine::hash::{Hash, KeyWriter};
use crate::engine::outputs::{Collected, collect, install, store};
use crate::engine::process::ProcessSpec;
use crate::engine::record::{ActionResult, Input, InputContent};
use crate::engine::sandbox::{self, Confine, Mode};
use crate::engine::worker::{
    Crowd, Hired, Joined, Mirror, NoAnswer, WorkInput, WorkRequest, WorkResponse, Worker,
};
use crate::lang::target::{Command, Output};
use crate::lang::text::Text;

/// Carries the step out. Blocks until the worker has answered or is gone.
pub fn run(env: &StepEnv, job: &StepJob) -> Result<StepReport, StepFailure> {
    let action = match look_up(env, job)? {
        Lookup::Answered(report) => return Ok(*report),
        Lookup::Run(action) => action,
    };
    let (command, tool) = job.command_of(&action)?;
    let call = Call {
        env,
        job,
        command,
        tool,
        action: &action,
    };
    let mut tries = Tries::of(command);
    loop {
        let _seat = job.seat(env)?;
        let begin = Instant::now();
        let served = call.serve();
        let Some(served) = tries.judge(served) else {
            continue;
        };
        let (mut server, output) = served?;
        let duration_us = micros(begin.elapsed());
        let work = server.work()?;
        let found = collect(&work, &command.outs)?;
        for _ in 1..env.repeat {
            // The first worker is busy until its outputs are taken, so this is another one.
            let (mut other, _) = call.serve()?;
            let again = other.work()?;
            let found_again = collect(&again, &command.outs)?;
            repeat::compare(&work, &found, &again, &found_again)?;
            other.give_back(&found_again);
        }
        let outputs = store(&env.store, &work, &found)?;
        put_in_place(env, job, &outputs, || install(&env.files, &work, &outputs))?;
        server.give_back(&found);
        let result = ActionResult {
            outputs: outputs.into(),
            duration_us,
        };
        remember(env, job, &action, &result);
        let mut report = StepReport::success(Outcome::Executed, record(job, &action, result));
        tries.tell(&mut report, output);
        return Ok(report);
    }
}

/// Who does it: a process of this step's own, or a place in one that others use as well.
enum Server {
    Own(Box<Hired>),
    Shared(Joined),
}

impl Server {
    /// Where the process stands.
    fn work(&mut self) -> Result<PathBuf, StepFailure> {
        match self {
            Self::Own(hired) => {
                let worker = hired.worker().ok_or(StepFailure::Lost)?;
                Ok(worker.mirror().scratch().work())
            }
            Self::Shared(joined) => {
                let crowd = joined.crowd().ok_or(StepFailure::Lost)?;
                Ok(crowd.work().to_owned())
            }
        }
    }

    /// Has the inputs lie there. Tells whether it could: not where others are at work on something else in the same place.
    fn show(&mut self, call: &Call<'_>) -> Result<bool, StepFailure> {
        let (files, inputs) = (&call.env.files, &call.action.inputs);
        let dirs = directories(call.command);
        match self {
            Self::Own(hired) => {
                let worker = hired.worker().ok_or(StepFailure::Lost)?;
                worker.mirror().show(files, inputs, dirs)?;
                Ok(true)
            }
            Self::Shared(joined) => {
                let crowd = joined.crowd().ok_or(StepFailure::Lost)?;
                let entered = crowd.enter(files, inputs, dirs)?;
                if entered {
                    joined.entered();
                }
                Ok(entered)
            }
        }
    }

    fn ask(
        &mut self,
        call: &Call<'_>,
        arguments: &[String],
        deadline: Option<Instant>,
    ) -> Result<WorkResponse, NoAnswer> {
        let inputs = call.action.inputs.iter().filter_map(described).collect();
        let gone = || NoAnswer::Died {
            how: "is gone".to_owned(),
            printed: String::new(),
        };
        match self {
            Self::Own(hired) => {
                let request = WorkRequest {
                    arguments,
                    inputs,
                    request_id: 0,
                    cancel: false,
                };
                let worker = hired.worker().ok_or_else(gone)?;
                worker.ask(&request, &call.job.cancel, deadline)
            }
            Self::Shared(joined) => {
                let crowd = joined.crowd().ok_or_else(gone)?;
                let can_cancel = call
                    .command
                    .special
                    .multiplex
                    .is_some_and(|with| with.cancel);
                crowd.ask(arguments, inputs, can_cancel, &call.job.cancel, deadline)
            }
        }
    }

    /// What the process printed about this request; of one that others use nobody knows.
    fn printed(&mut self) -> String {
        match self {
            Self::Own(hired) => hired
                .worker()
                .map(|worker| worker.printed())
                .unwrap_or_default(),
            Self::Shared(_) => String::new(),
        }
    }

    /// It answered; others may have it. `left` are the files that the step left there.
    fn give_back(self, left: &Collected) {
        match self {
            Self::Own(hired) => hired.give_back(),
            Self::Shared(joined) => joined.done(left.keys().map(Text::as_str)),
        }
    }

    /// It answered that it failed.
    fn failed(self) {
        match self {
            Self::Own(hired) => hired.give_back(),
            // Whatever the request left is in the way of those who come while others are there.
            Self::Shared(joined) => drop(joined),
        }
    }
}

/// One step's wish.
struct Call<'a> {
    env: &'a StepEnv,
    job: &'a StepJob,
    command: &'a Command,
    tool: &'a Tool,
    action: &'a Action,
}

impl Call<'_> {
    /// Has a worker do it; the worker that did, with its answer's text. A worker that dies on the way
    /// is replaced once, by one that nobody else uses: so nobody fails by what others asked.
    fn serve(&self) -> Result<(Server, String), StepFailure> {
        let variables = environment(self.env, self.command);
        let key = self.key(&variables);
        let (mut replaced, mut alone) = (false, false);
        loop {
            let mut server = self.server(key, replaced || alone, &variables)?;
            if !server.show(self)? {
                // A source was saved between the look-ups of two steps: each gets what it was described with.
                alone = true;
                continue;
            }
            let arguments = self.arguments(&server.work()?)?;
            let limit = self.command.special.timeout_ms.map(Duration::from_millis);
            let deadline = limit.map(|limit| Instant::now() + limit);
            let answer = server.ask(self, &arguments, deadline);
            // One that shares its process may hear first that another one's end was that of the process.
            let answer = answer.map_err(|none| match (self.job.cancel.reason(), none) {
                (Some(reason), NoAnswer::Died { .. }) => NoAnswer::Cancelled(reason),
                (_, none) => none,
            });
            match answer {
                Ok(response) if response.exit_code == 0 && !response.was_cancelled => {
                    return Ok((server, response.output));
                }
                Ok(response) => {
                    let how = match response.was_cancelled {
                        true => "its worker gave it up, which nobody asked for".to_owned(),
                        false => {
                            format!("its worker answered with exit code {}", response.exit_code)
                        }
                    };
                    let output = joined(response.output, &server.printed());
                    server.failed();
                    return Err(self.failed(how, output, &arguments, variables));
                }
                Err(NoAnswer::Cancelled(reason)) => return Err(StepFailure::Cancelled(reason)),
                Err(NoAnswer::TimedOut) => {
                    let seconds = limit.unwrap_or_default().as_secs_f64();
                    let how = match &server {
                        Server::Own(_) => {
                            format!("its worker was killed after {seconds} s, its timeout")
                        }
                        Server::Shared(_) => {
                            format!("its worker did not answer within {seconds} s, its timeout")
                        }
                    };
                    let printed = server.printed();
                    return Err(self.failed(how, printed, &arguments, variables));
                }
                Err(NoAnswer::Died { how, .. }) if !replaced => {
                    tracing::info!("a worker {how}; trying another one");
                    replaced = true;
                }
                Err(NoAnswer::Died { how, printed }) => {
                    let how = format!("its worker {how}, and so did another one");
                    return Err(self.failed(how, printed, &arguments, variables));
                }
            }
        }
    }

    fn server(
        &self,
        key: Hash,
        alone: bool,
        variables: &BTreeMap<String, String>,
    ) -> Result<Server, StepFailure> {
        let workers = &self.env.workers;
        // What is run twice to be compared would find its own outputs, and a glob would find those of others.
        let names_outputs = |output: &Output| !matches!(output, Output::Glob(_));
        let shares = self.env.repeat == 1 && self.command.outs.iter().all(names_outputs);
        let multiplex = self.command.special.multiplex.filter(|_| shares);
        match multiplex {
            None => {
                let start = || self.start(variables, Worker::start);
                Ok(Server::Own(Box::new(workers.hire(key, start)?)))
            }
            Some(with) => {
                let start = || self.start(variables, Crowd::start);
                let joined = workers.join(key, with.requests as usize, alone, start)?;
                Ok(Server::Shared(joined))
            }
        }
    }

    fn failed(
        &self,
        how: String,
        output: String,
        arguments: &[String],
        env: BTreeMap<String, String>,
    ) -> StepFailure {
        let argv = self.command.argv.iter().chain(arguments).cloned().collect();
        StepFailure::Command(Box::new(CommandFailure {
            how,
            argv,
            env,
            output,
            attempts: 1,
            kept: None,
        }))
    }

    /// Equal keys: the same program, started alike, from the same files.
    fn key(&self, variables: &BTreeMap<String, String>) -> Hash {
        let mut key = KeyWriter::new("zako worker");
        key.bytes(self.tool.program.as_os_str().as_encoded_bytes());
        key.texts(self.command.argv.iter().map(String::as_str));
        key.number(variables.len() as u64);
        for (name, value) in variables {
            key.text(name).text(value);
        }
        let own = |input: &&Input| {
            let path = &*input.path;
            let word = |word: &String| word.strip_prefix("./").unwrap_or(word) == path;
            self.command.argv.iter().any(word)
        };
        for input in self.action.inputs.iter().filter(own) {
            if let InputContent::File { hash, .. } = &input.content {
                key.text(&input.path).hash(hash);
            }
        }
        if let Some(hash) = &self.tool.hash {
            key.hash(hash);
        }
        key.number(u64::from(self.command.special.network));
        let with = self.command.special.multiplex;
        key.number(with.map_or(1, |with| u64::from(with.requests)));
        key.finish()
    }

    /// Starts a process by `start`, in a directory with this step's inputs.
    fn start<P>(
        &self,
        variables: &BTreeMap<String, String>,
        start: impl FnOnce(&ProcessSpec, Mirror) -> std::io::Result<P>,
    ) -> Result<P, StepFailure> {
        let mut mirror = Mirror::create(&self.env.scratches)?;
        let dirs = directories(self.command);
        mirror.show(&self.env.files, &self.action.inputs, dirs)?;
        let scratch = mirror.scratch();
        let mut env = variables.clone();
        let home = scratch.home().display().to_string();
        env.entry("HOME".into()).or_insert(home);
        // By this variable the worker's processes are known, so it is not the target's to choose.
        env.insert("TMPDIR".into(), scratch.tmp().display().to_string());
        let program = program_of(self.tool, &scratch.work());
        let search = env.get("PATH").map_or("", String::as_str);
        let confine = (self.env.sandbox == Mode::Strict).then(|| {
            let own = sandbox::home();
            let places = (self.env.files.root(), scratch.dir(), own.as_deref());
            let more = (self.command.special.network, &self.env.readable);
            Confine::strict(places, search, &program, more)
        });
        let spec = ProcessSpec {
            program,
            argv: self.command.argv.clone(),
            env,
            cwd: scratch.work(),
            log: scratch.log(),
            timeout: None,
            mark: scratch.dir().to_owned(),
            confine,
        };
        start(&spec, mirror).map_err(|source| StepFailure::Start {
            program: self.command.argv[0].clone(),
            source,
        })
    }

    /// The request's arguments, with `@FILE` replaced by the lines of FILE, and `@@` standing for `@`.
    fn arguments(&self, work: &Path) -> Result<Vec<String>, StepFailure> {
        let mut arguments = Vec::new();
        for word in self.command.special.worker.iter().flatten() {
            match word.strip_prefix('@') {
                Some(escaped) if escaped.starts_with('@') => arguments.push(escaped.to_owned()),
                Some(path) => {
                    let text = fs::read_to_string(work.join(path)).map_err(|source| {
                        StepFailure::ArgumentFile {
                            path: path.to_owned(),
                            source,
                        }
                    })?;
                    arguments.extend(text.lines().map(str::to_owned));
                }
                None => arguments.push(word.clone()),
            }
        }
        Ok(arguments)
    }
}

/// What a worker answered, and what its process printed beside that.
fn joined(mut answer: String, printed: &str) -> String {
    if !printed.is_empty() && !answer.is_empty() && !answer.ends_with('\n') {
        answer.push('\n');
    }
    answer + printed
}

/// An input as a request names it; links and directories have no content of their own.
fn described(input: &Input) -> Option<WorkInput<'_>> {
    match &input.content {
        InputContent::File { hash, .. } => Some(WorkInput {
            path: &input.path,
            digest: hash.to_string(),
        }),
        _ => None,
    }
}
