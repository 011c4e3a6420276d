//! Steps: what one target's turn consists of.
//!
//! Owns the step actor, which lives only while its target is computed, and what every kind of
//! step shares: the check against the record and the action cache, the claim on output paths, and
//! the report. Does not know the schedule.
//! Invariants: every step reports exactly once, also when it panics or its mailbox is dropped; an
//! output path belongs to one target per build.

mod aside;
mod claims;
mod command;
mod confined;
mod depfile;
mod explain;
mod failure;
mod group;
mod hints;
mod in_place;
mod job;
mod log;
mod look_up;
pub mod manager;
mod repeat;
mod results;
mod rivals;
mod settle;
mod sound;
mod strangers;
mod traced;
mod transpile;
mod turn;
mod way;
mod worker;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use actor_rt::{ActorRef, AsyncActor, AsyncContext};
use cas_actor::Store;

use crate::transpile::TranspilerPool;
pub use claims::{Claims, Clash};
pub use explain::Found;
pub use failure::{StepFailure, shell_line};
pub use in_place::search_path;
pub use job::StepJob;
pub use log::shorten;
pub use rivals::{Doubt, Rival};
pub use strangers::Strangers;
pub use turn::Turn;

use look_up::{Lookup, look_up};
use results::{decode, encode, remember};

use super::action::{Action, Describer};
use super::build::{BuildMsg, Records};
use super::cancel::Cancel;
use super::edits::Edits;
use super::event::Outcome;
use super::files::FileTable;
use super::ledger::Ledger;
use super::locks::LockMemory;
use super::outputs::{is_intact, list};
use super::reasons::Reasons;
use super::record::{ActionResult, OutputItem, OutputKind, Record, item_at};
use super::remote::Remote;
use super::removal::{ours, remove};
use super::rounds::Tried;
use super::sandbox::{Mode, Readable};
use super::scratch::Scratches;
use super::seats::Seats;
use super::since::tracked;
use super::worker::Workers;
use crate::isolate::IsolatePool;
use crate::lang::label::Label;
use crate::lang::target::Work;
use crate::lang::text::Text;

/// What all steps of a build share.
pub struct StepEnv {
    /// Stat cache.
    pub files: Arc<FileTable>,
    /// Describes actions.
    pub describer: Arc<Describer>,
    /// Blobs and action results.
    pub store: Store,
    /// Directories for commands to run in.
    pub scratches: Arc<Scratches>,
    /// Leave the directories of failed steps.
    pub keep_scratch: bool,
    /// Run although the action cache has a result.
    pub force: bool,
    /// Replace files that zako did not write where outputs go.
    pub overwrite: bool,
    /// How often each command runs.
    pub repeat: u32,
    /// The cache behind the store.
    pub remote: Option<Arc<Remote>>,
    /// Whether somebody was told that the store has results which no step can have left.
    pub told_of_unsound: AtomicBool,
    /// How strictly commands are held to what they declare.
    pub sandbox: Mode,
    /// What strictly held commands may read beside that.
    pub readable: Readable,
    /// Ends every step.
    pub cancel: Cancel,
    /// Gives up steps that work on what was edited, where somebody edits meanwhile.
    pub edits: Option<Arc<Edits>>,
    /// Taken by those whose process runs.
    pub seats: Seats,
    /// What zako wrote in this workspace.
    pub ledger: Arc<Ledger>,
    /// Who writes what in this build.
    pub claims: Claims,
    /// What lies among their outputs and is none, as far as somebody has looked.
    pub strangers: Strangers,
    /// What is remembered of all targets.
    pub records: Mutex<Records>,
    /// The files that git knows, once somebody has to know.
    pub known_to_git: OnceLock<Result<BTreeSet<String>, String>>,
    /// What the build files were evaluated by, where any were.
    pub isolates: Option<IsolatePool>,
    /// Transpilers, one per core.
    pub transpilers: TranspilerPool,
    /// Worker processes.
    pub workers: Arc<Workers>,
    /// Why targets ran the last time.
    pub reasons: Arc<Reasons>,
    /// What lock files said before.
    pub locks: Arc<LockMemory>,
    /// Threads that one step writes its results with.
    pub writers: usize,
}

impl StepEnv {
    /// Whether git knows `path`; nothing where git cannot tell.
    fn is_gits(&self, path: &str) -> Option<bool> {
        let known = || tracked(self.files.root());
        let known = self.known_to_git.get_or_init(known).as_ref().ok()?;
        Some(known.contains(path))
    }

    /// Whether git knows `path`, or may know it.
    fn may_be_gits(&self, path: &str) -> bool {
        self.is_gits(path) != Some(false)
    }

    /// The build is over: whoever remembers what it made is to be the only one who has the records.
    pub fn forget_records(&self) {
        drop(std::mem::take(&mut *self.remembered()));
    }

    fn remembered(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another target than `label`, of this build or not, has left `path` and may do so again.
    fn is_of_another(&self, label: &Label, path: &str) -> bool {
        let Some(graph) = self.claims.graph() else {
            return false;
        };
        let records = self.remembered();
        let has = |it: &Label| {
            let record = records.get(it).filter(|_| it != label);
            record.is_some_and(|record| item_at(&record.outputs, path).is_some())
        };
        let mut writers = graph.may_write(path).into_iter();
        writers.any(|id| has(&graph.target(id).label))
    }
}

/// A step that is over.
#[derive(Debug)]
pub struct StepReport {
    /// How it ended.
    pub outcome: Outcome,
    /// To be remembered, when it succeeded.
    pub record: Option<Arc<Record>>,
    /// What a group hands on; nothing of it is remembered.
    pub handed_on: Option<Arc<[OutputItem]>>,
    /// What went wrong, when it did not.
    pub failure: Option<StepFailure>,
    /// What a command printed although it succeeded.
    pub output: Option<String>,
    /// Why it was not up to date.
    pub found: Option<Found>,
    /// Wall time, µs.
    pub duration_us: u64,
    /// How often it was tried.
    pub attempts: u32,
}

impl StepReport {
    fn success(outcome: Outcome, record: impl Into<Arc<Record>>) -> Self {
        Self {
            outcome,
            record: Some(record.into()),
            handed_on: None,
            failure: None,
            output: None,
            found: None,
            duration_us: 0,
            attempts: 1,
        }
    }

    fn failure(failure: StepFailure) -> Self {
        let outcome = match failure {
            StepFailure::Cancelled(_) => Outcome::Cancelled,
            StepFailure::NotBegun => Outcome::Skipped,
            _ => Outcome::Failed,
        };
        let attempts = match &failure {
            StepFailure::Command(failure) => failure.attempts,
            _ => 1,
        };
        Self {
            outcome,
            record: None,
            handed_on: None,
            failure: Some(failure).filter(|_| outcome != Outcome::Skipped),
            output: None,
            found: None,
            duration_us: 0,
            attempts,
        }
    }
}

impl StepReport {
    /// How its command ended, if one ran to its end.
    fn tried(&self) -> Option<Tried> {
        match (self.outcome, &self.failure) {
            (Outcome::Executed, _) => Some(Tried::Succeeded),
            (_, Some(StepFailure::Command(_))) => Some(Tried::Failed),
            _ => None,
        }
    }
}

/// Reports to the build exactly once: with what it is given, or on drop that the step was lost.
#[derive(Debug)]
pub struct Reporter {
    build: ActorRef<BuildMsg>,
    node: u32,
    begin: Instant,
    reported: bool,
}

impl Reporter {
    /// For node `node` of the build.
    pub fn new(build: ActorRef<BuildMsg>, node: u32) -> Self {
        Self {
            build,
            node,
            begin: Instant::now(),
            reported: false,
        }
    }

    /// Reports; `began` is when the work itself did, after all waiting.
    fn report(mut self, report: StepReport, began: Option<Instant>) {
        self.begin = began.unwrap_or(self.begin);
        self.send(report);
    }

    fn send(&mut self, mut report: StepReport) {
        self.reported = true;
        report.duration_us = u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        // The build's mailbox has room for every step of the build; a build that is gone has been
        // answered already.
        drop(
            self.build
                .tell(BuildMsg::StepEnded(self.node, Box::new(report))),
        );
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if !self.reported {
            self.send(StepReport::failure(StepFailure::Lost));
        }
    }
}

/// The actor that carries one step out.
pub struct Step {
    env: Arc<StepEnv>,
    job: Arc<StepJob>,
}

impl Step {
    /// For one job.
    pub fn new(env: Arc<StepEnv>, job: Arc<StepJob>) -> Self {
        Self { env, job }
    }
}

impl AsyncActor for Step {
    type Msg = Reporter;

    async fn handle(&mut self, reporter: Reporter, ctx: &mut AsyncContext<Self>) {
        let report = carry_out(&self.env, &self.job).await;
        let failed = |failure| StepReport::failure(self.job.unless_given_up(&self.env, failure));
        let mut report = report.unwrap_or_else(failed);
        if let Some(edits) = &self.env.edits {
            edits.rounds.ends(&self.job.target.label, report.tried());
        }
        report.found = self.job.found.get().cloned();
        reporter.report(report, self.job.turn.began());
        ctx.stop();
    }
}

async fn carry_out(env: &Arc<StepEnv>, job: &Arc<StepJob>) -> Result<StepReport, StepFailure> {
    let run: fn(&StepEnv, &StepJob) -> Result<StepReport, StepFailure> = match &job.target().work {
        Work::Command(command) if command.in_place.is_some() => in_place::run,
        Work::Command(command) if command.special.worker.is_some() => worker::run,
        Work::Command(_) => command::run,
        Work::Group | Work::Unfinished { .. } => group::run,
        Work::Transpile(_) => {
            job.turn.begin();
            return transpile::run(env, job).await;
        }
    };
    let (env, job) = (Arc::clone(env), Arc::clone(job));
    blocking(move || run(&env, &job)).await
}

/// Runs what waits for the disk or a process on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StepFailure> + Send + 'static,
) -> Result<T, StepFailure> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(StepFailure::Lost))
}

/// Claims `outputs`, takes away what the step left before and leaves no more, then `place`s.
fn put_in_place(
    env: &StepEnv,
    job: &StepJob,
    outputs: &[OutputItem],
    place: impl FnOnce() -> Result<(), super::outputs::OutputError>,
) -> Result<(), StepFailure> {
    claim(env, job, outputs)?;
    remove_previous(env, job, outputs);
    way::clear(env, job, outputs)?;
    let _placing = env.claims.placing();
    if job.target().in_place().is_some() {
        // What need not be written stays whose it is.
        list_as_ours(
            env,
            outputs.iter().filter(|item| !is_intact(&env.files, item)),
        )?;
    } else {
        way::take_over(env, outputs)?;
    }
    Ok(place()?)
}

/// Takes away what the step left before and does not leave any more.
fn remove_previous(env: &StepEnv, job: &StepJob, outputs: &[OutputItem]) {
    // What it left where it was alone is told apart from what others have left only once it has run beside them.
    let previous = job.previous.as_ref();
    if let Some(previous) = previous.filter(|it| it.shares || !job.shares()) {
        let target = job.target();
        let stale = previous.outputs.iter().filter(|old| {
            let known = outputs.binary_search_by(|new| new.path.cmp(&old.path));
            known.is_err()
        });
        // Where its command still writes nobody else does, but beside what a script writes there may be a person's.
        let stale = stale.map(|old| &old.path);
        let stale = stale.filter(|old| !job.is_of_rival(old));
        let is_command = target.command().is_some() && target.in_place().is_none();
        let is_inner = |old: &&Text| is_command && target.declares(old);
        let (inner, outer): (Vec<_>, Vec<_>) = stale.partition(is_inner);
        let is_free = |old: &&Text| !env.is_of_another(&target.label, old);
        let outer = outer.into_iter().filter(is_free);
        // What it does not declare any more is a person's where somebody takes it for a source, or git knows it, or may know
        // it. Asked only where something would go.
        let is_theirs = |path: &str| {
            let is_persons = || env.claims.names_source(path) || env.may_be_gits(path);
            !target.declares(path) && is_persons()
        };
        let outer = outer.map(|old| &**old);
        let outer = ours(&env.files, &env.ledger, is_theirs, outer);
        let outer: Vec<_> = outer.collect();
        let stale = inner.into_iter().map(|old| &**old).chain(outer);
        env.claims.unclaimed(Some(&target.label), stale, |stale| {
            remove(&env.files, &env.ledger, stale, target.label.dir());
        });
    }
}

/// Lists `outputs` as written by zako: `zako clean` may remove them.
fn list_as_ours<'a>(
    env: &StepEnv,
    outputs: impl Iterator<Item = &'a OutputItem>,
) -> Result<(), StepFailure> {
    Ok(list(&env.ledger, outputs)?)
}

fn claim(env: &StepEnv, job: &StepJob, outputs: &[OutputItem]) -> Result<(), StepFailure> {
    let items = outputs.iter().filter(|item| !job.is_of_both(item));
    let (directories, paths): (Vec<_>, Vec<_>) =
        items.partition(|item| item.kind == OutputKind::Directory);
    let label = &job.target().label;
    let directories = directories.into_iter().map(|item| &item.path);
    env.claims.keep(label, directories);
    let paths = paths.into_iter().map(|item| &item.path);
    env.claims.claim(label, paths).map_err(|clash| {
        let is_shared = job.shares();
        StepFailure::Clash(Clash { is_shared, ..clash })
    })
}

fn record(job: &StepJob, action: &Action, result: ActionResult) -> Record {
    Record {
        key: action.key,
        recipe: action.recipe,
        inputs: action.counted().to_vec(),
        outputs: result.outputs,
        duration_us: result.duration_us,
        shares: job.shares(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use actor_rt::{Actor, Context, Restart, System};

    use super::*;
    use crate::engine::cancel::CancelReason;

    /// Hands on what a build would be told.
    struct Probe(Sender<(u32, Outcome)>);

    impl Actor for Probe {
        type Msg = BuildMsg;

        fn handle(&mut self, msg: BuildMsg, _ctx: &mut Context<'_, Self>) {
            if let BuildMsg::StepEnded(node, report) = msg {
                self.0.send((node, report.outcome)).unwrap();
            }
        }
    }

    struct Panics;

    impl Actor for Panics {
        type Msg = Reporter;

        fn handle(&mut self, _reporter: Reporter, _ctx: &mut Context<'_, Self>) {
            panic!("a step that panics");
        }
    }

    #[test]
    fn a_step_is_reported_exactly_once_whatever_becomes_of_it() {
        let system = System::builder().workers(2).build().unwrap();
        let (tell, told) = channel();
        let build = system.spawn(move || Probe(tell.clone()));
        let reporter = |node| Reporter::new(build.clone(), node);

        let panics = system.actor(|| Panics).restart(Restart::never()).spawn();
        panics.tell(reporter(1)).unwrap();
        panics.join();
        // A mailbox that takes nothing any more gives the message back, which is dropped.
        drop(panics.tell(reporter(2)));
        let cancelled = StepFailure::Cancelled(CancelReason::Interrupted);
        reporter(3).report(StepReport::failure(cancelled), None);
        build.drain();
        build.join();
        let mut all: Vec<_> = told.try_iter().collect();
        all.sort_unstable_by_key(|(node, _)| *node);
        assert_eq!(
            all,
            [
                (1, Outcome::Failed),
                (2, Outcome::Failed),
                (3, Outcome::Cancelled)
            ]
        );
    }
}
