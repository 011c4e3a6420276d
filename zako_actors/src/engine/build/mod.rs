//! The build actor: the one owner of a running build's state.
//!
//! Owns the schedule, the outputs and records of finished nodes, the figures, and the stream of
//! events. Does not know how a step is carried out, how a rule goes on, nor who reads the events.
//! Invariants: a node that was started ends by its step's one report; a rule that waits for outputs is told of once when
//! they are there, and the build does not end before that is answered; when the last node has ended,
//! whoever asked for the build is answered once; nothing is started after a cancellation.

mod growth;
mod sharing;
mod turns;

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use actor_rt::{Actor, Context, Reply, Restart};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::engine::cancel::{Cancel, CancelReason};
use crate::engine::cause::Cause;
use crate::engine::event::{Event, Failed, Outcome, Stamped, Summary, micros};
use crate::engine::plan::{Plan, Planned, Read};
use crate::engine::progress::Progress;
use crate::engine::reasons::{LastRun, Packed, Packing};
use crate::engine::record::{OutputItem, Record};
use crate::engine::schedule::{Capacity, End, Schedule};
use crate::engine::seats::Seats;
use crate::engine::step::{Reporter, Step, StepEnv, StepFailure, StepJob, StepReport, Turn};
use crate::lang::label::Label;
use crate::lang::target::Work;
pub use growth::Growth;
use growth::Waiting;
use sharing::Sharing;

/// What a build is told.
#[derive(Debug)]
pub enum BuildMsg {
    /// Begin; the answer comes when every node has ended.
    Run(Reply<BuildResult>),
    /// A step is over.
    StepEnded(u32, Box<StepReport>),
    /// Rules have gone on, or could not.
    Grow(Box<Growth>),
    /// Start nothing more. Running steps are ended by the cancel signal.
    Stop,
}

/// What a build tells whoever carries its rules out.
#[derive(Debug)]
pub enum News {
    /// A rule may go on; the build waits for the [`Growth`] that says what came of it.
    Written(Read),
    /// The build is over.
    Ended,
}

/// What is left of a build.
#[derive(Debug)]
pub struct BuildResult {
    /// Its figures.
    pub summary: Summary,
    /// Newly built targets, by label.
    pub records: Vec<(Label, Arc<Record>)>,
    /// When and why targets ran, for a later `zako why`.
    pub runs: Vec<(Label, Packed)>,
}

/// What a build needs to begin.
pub struct BuildSpec {
    /// What to do.
    pub plan: Arc<Plan>,
    /// Targets whose rules could not go on, with their mistakes.
    pub mistaken: Vec<(Label, String)>,
    /// What steps share.
    pub env: Arc<StepEnv>,
    /// Memory of finished targets. The build takes it and lets go of it when it answers: whoever asked changes it then.
    pub records: Mutex<Records>,
    /// Steps at a time.
    pub jobs: usize,
    /// What steps share of the machine beside jobs.
    pub capacity: Capacity,
    /// Whether a failure stops the build.
    pub keep_going: bool,
    /// Where events go. A reader that has left is no reason to stop.
    pub events: Sender<Stamped>,
    /// Where it is told which rules may go on.
    pub news: Sender<News>,
    /// JavaScript engine with its version.
    pub engine: String,
    /// When the command began.
    pub begin: Instant,
}

/// Memory of finished targets by label.
pub type Records = Arc<FxHashMap<Label, Arc<Record>>>;

/// The actor.
pub struct Build {
    spec: Arc<BuildSpec>,
    records: Records,
    plan: Arc<Plan>,
    schedule: Schedule,
    progress: Progress,
    /// Node of the plan by node of the schedule.
    stale: Vec<u32>,
    /// Node of the schedule by node of the plan.
    place: Vec<Option<u32>>,
    /// By node of the schedule: the steps under way.
    jobs: Vec<Option<Arc<StepJob>>>,
    outputs: Vec<Option<Arc<[OutputItem]>>>,
    sharing: Sharing,
    waiting: Vec<Waiting>,
    /// Those who wait, by node of the plan.
    waiting_for: FxHashMap<u32, Vec<usize>>,
    /// Targets whose rules go on.
    told: FxHashSet<Label>,
    /// Targets whose rules could not.
    mistaken: FxHashSet<Label>,
    made: Vec<(Label, Arc<Record>)>,
    runs: Vec<(Label, Packed)>,
    packing: Packing,
    summary: Summary,
    asked: Option<Reply<BuildResult>>,
}

impl Build {
    /// A build that has not begun.
    pub fn new(spec: Arc<BuildSpec>) -> Self {
        let records = spec.records.lock().map(|mut it| std::mem::take(&mut *it));
        let jobs = Seats::steps(spec.jobs);
        let mut build = Self {
            records: records.unwrap_or_default(),
            plan: Arc::clone(&spec.plan),
            schedule: Schedule::new(jobs, spec.keep_going, spec.capacity.clone()),
            progress: Progress::new(spec.jobs),
            stale: Vec::new(),
            place: Vec::new(),
            jobs: Vec::new(),
            outputs: Vec::new(),
            sharing: Sharing::default(),
            waiting: Vec::new(),
            waiting_for: FxHashMap::default(),
            told: FxHashSet::default(),
            mistaken: FxHashSet::default(),
            made: Vec::new(),
            runs: Vec::new(),
            packing: Packing::default(),
            summary: Summary {
                engine: spec.engine.clone(),
                ..Summary::default()
            },
            asked: None,
            spec,
        };
        let skipped = build.add();
        debug_assert!(skipped.is_empty(), "nothing has failed yet");
        build
    }

    /// Unless the rest is to go on, ends what runs.
    fn stop_others(&self) {
        if !self.spec.keep_going {
            self.spec.env.seats.close();
            // Only the first reason counts: an interruption stays one.
            self.spec.env.cancel.cancel(CancelReason::SiblingFailed);
        }
    }

    fn emit(&self, event: Event) {
        // The reader may have gone; the build goes on.
        drop(self.spec.events.send(Stamped {
            time_us: micros(self.spec.begin.elapsed()),
            event,
        }));
    }

    fn label(&self, node: u32) -> String {
        self.plan.label(self.stale[node as usize]).to_string()
    }

    fn advance(&mut self, ctx: &mut Context<'_, Self>) {
        while let Some(node) = self.schedule.start_next() {
            self.start(node, ctx);
        }
        if self.schedule.is_quiet() && self.told.is_empty() {
            let mut skipped = Vec::new();
            self.schedule.skip_rest(|node| skipped.push(node));
            skipped.into_iter().for_each(|node| self.skip(node));
            self.end_left();
            self.answer();
            ctx.stop();
        }
    }

    fn start(&mut self, node: u32, ctx: &mut Context<'_, Self>) {
        let index = self.stale[node as usize];
        let planned = &self.plan.nodes[index as usize];
        let previous = self.records.get(&planned.target.label).cloned();
        let own = self.own_cancel();
        let job = Arc::new(StepJob {
            target: Arc::clone(&planned.target),
            index,
            sources: Arc::clone(&planned.sources),
            // Every dependency is done, so none is missing.
            deps: planned
                .reads()
                .iter()
                .filter_map(|d| self.outputs[*d as usize].clone())
                .collect(),
            previous,
            rivals: self.rivals(planned),
            found: std::sync::OnceLock::new(),
            turn: self.turn(node, planned),
            rank: self.schedule.rank(node),
            cancel: own.clone().unwrap_or_else(|| self.spec.env.cancel.clone()),
            inputs: std::sync::OnceLock::new(),
        });
        // A signal that others share would end them all.
        if let (Some(edits), Some(_)) = (&self.spec.env.edits, own) {
            edits.follow(&job);
        }
        if !matches!(planned.target.work, Work::Transpile(_)) {
            self.spec.env.seats.expect(&job.rank);
        }
        self.jobs[node as usize] = Some(Arc::clone(&job));
        let env = Arc::clone(&self.spec.env);
        let step = ctx
            .actor(move || Step::new(Arc::clone(&env), Arc::clone(&job)))
            .restart(Restart::never())
            .spawn_async();
        // When the message is not taken, dropping it reports the step as lost.
        drop(step.tell(Reporter::new(ctx.me(), node)));
    }

    /// What ends one step alone, where somebody edits meanwhile and there are file descriptors for it: the build's
    /// end, and an edit of what the step reads.
    fn own_cancel(&self) -> Option<Cancel> {
        let env = &self.spec.env;
        env.edits.as_ref().and_then(|_| env.cancel.below().ok())
    }

    /// How readers of events are told that a step runs.
    fn turn(&self, node: u32, planned: &Planned) -> Turn {
        let event = Event::StepStarted {
            label: self.label(node),
            cause: planned.cause().unwrap_or(Cause::Dependency).to_string(),
            critical: self.schedule.is_critical(node),
        };
        Turn::new(event, self.spec.events.clone(), self.spec.begin)
    }

    fn step_ended(&mut self, node: u32, report: StepReport) {
        let label = self.label(node);
        let job = self.jobs[node as usize].take();
        if let Some(job) = job.filter(|_| report.outcome != Outcome::Skipped) {
            job.turn.begin();
        }
        let end = match report.outcome {
            Outcome::Executed | Outcome::Cached | Outcome::UpToDate => End::Done,
            Outcome::Cancelled => End::Cancelled,
            Outcome::Failed | Outcome::Skipped => End::Failed,
        };
        let index = self.stale[node as usize];
        let target = Arc::clone(&self.plan.nodes[index as usize].target);
        if let Some(record) = report.record {
            self.outputs[index as usize] = Some(Arc::clone(&record.outputs));
            self.made.push((target.label.clone(), record));
        }
        if let Some(outputs) = report.handed_on {
            self.outputs[index as usize] = Some(outputs);
        }
        let failure = match end {
            End::Failed => report
                .failure
                .as_ref()
                .map(|failure| failure.explain(&target)),
            _ => None,
        };
        let reason = match &report.failure {
            Some(StepFailure::Cancelled(reason)) => Some(reason.to_string()),
            _ => None,
        };
        let mut causes = Vec::new();
        if let Some(found) = report.found {
            causes = found.causes.iter().map(ToString::to_string).collect();
            if !matches!(
                report.outcome,
                Outcome::UpToDate | Outcome::Cancelled | Outcome::Skipped
            ) {
                let run = LastRun {
                    at_s: seconds_now(),
                    outcome: report.outcome,
                    duration_us: report.duration_us,
                    causes: found.causes,
                    parts: found.parts,
                };
                let run = self.packing.pack(run);
                let run = run.map(|run| (target.label.clone(), run));
                self.runs.extend(run);
            }
        }
        if end != End::Done {
            self.stop_others();
        }
        self.summary.flaky += usize::from(end == End::Done && report.attempts > 1);
        self.summary.count(report.outcome);
        self.summary
            .failures
            .extend(failure.iter().map(|failure| Failed {
                label: label.clone(),
                failure: failure.clone(),
            }));
        let ran = report.outcome == Outcome::Executed;
        self.progress.ended(node, ran.then_some(report.duration_us));
        let mut skipped = Vec::new();
        self.schedule.finish(node, end, |node| skipped.push(node));
        self.emit(Event::StepFinished {
            label,
            outcome: report.outcome,
            duration_us: report.duration_us,
            causes,
            failure,
            output: report.output,
            reason,
            attempts: report.attempts,
            left_us: self.progress.left_us(self.schedule.longest_us()),
        });
        skipped.into_iter().for_each(|node| self.skip(node));
        if end == End::Done {
            self.written(index);
        }
    }

    fn skip(&mut self, node: u32) {
        let label = self.label(node);
        self.summary.count(Outcome::Skipped);
        self.progress.ended(node, None);
        self.emit_end(label, Outcome::Skipped, None, None);
    }

    /// Tells of the end of what never ran.
    fn emit_end(
        &self,
        label: String,
        outcome: Outcome,
        failure: Option<String>,
        reason: Option<String>,
    ) {
        self.emit(Event::StepFinished {
            label,
            outcome,
            duration_us: 0,
            causes: Vec::new(),
            failure,
            output: None,
            reason,
            attempts: 1,
            left_us: None,
        });
    }

    fn answer(&mut self) {
        let Some(reply) = self.asked.take() else {
            return;
        };
        let files = self
            .outputs
            .iter()
            .flatten()
            .map(|outputs| outputs.len())
            .sum();
        self.summary.files = files;
        let reason = self.spec.env.cancel.reason();
        self.summary.interrupted = reason == Some(CancelReason::Interrupted);
        self.summary.duration_us = micros(self.spec.begin.elapsed());
        let isolates = self.spec.env.isolates.as_ref();
        self.emit(Event::PoolsFinished {
            isolates: isolates.map(|pool| pool.stats().into()),
            transpilers: self.spec.env.transpilers.stats().into(),
            workers: self.spec.env.workers.stats(),
        });
        self.emit(Event::BuildFinished(self.summary.clone()));
        drop(self.spec.news.send(News::Ended));
        self.records = Records::default();
        self.spec.env.forget_records();
        reply.send(BuildResult {
            summary: self.summary.clone(),
            records: std::mem::take(&mut self.made),
            runs: std::mem::take(&mut self.runs),
        });
    }
}

fn seconds_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

impl Drop for Build {
    fn drop(&mut self) {
        // Also when a panic ends it. Whoever listens may have gone.
        drop(self.spec.news.send(News::Ended));
    }
}

impl Actor for Build {
    type Msg = BuildMsg;

    fn handle(&mut self, msg: BuildMsg, ctx: &mut Context<'_, Self>) {
        let mut ended = None;
        match msg {
            BuildMsg::Run(reply) => {
                self.asked = Some(reply);
                self.emit(Event::BuildStarted {
                    targets: self.summary.targets,
                    fresh: self.summary.up_to_date,
                });
                for (target, text) in self.spec.mistaken.clone() {
                    self.mistake(target, text);
                }
            }
            BuildMsg::StepEnded(node, report) => {
                self.step_ended(node, *report);
                ended = Some(node);
            }
            BuildMsg::Grow(growth) => self.grow(*growth),
            BuildMsg::Stop => {
                self.spec.env.seats.close();
                self.schedule.stop();
            }
        }
        self.advance(ctx);
        // By now those are expected who could not begin before.
        if let Some(node) = ended {
            self.spec.env.seats.forget(node);
        }
    }
}
