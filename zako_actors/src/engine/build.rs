//! The build actor: the one owner of a running build's state.
//!
//! Owns the schedule, the outputs and records of finished nodes, the figures, and the stream of
//! events. Does not know how a step is carried out, nor who reads the events.
//! Invariants: a node that was started ends by its step's one report; when the last one has ended,
//! whoever asked for the build is answered once; nothing is started after a cancellation.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use actor_rt::{Actor, Context, Reply, Restart};
use rustc_hash::FxHashMap;

use super::cancel::{Cancel, CancelReason};
use super::cause::Cause;
use super::event::{Event, Outcome, Stamped, Summary, micros};
use super::plan::{Freshness, Plan, Planned};
use super::progress::Progress;
use super::reasons::LastRun;
use super::record::{OutputItem, Record};
use super::schedule::{Capacity, End, Schedule};
use super::seats::Seats;
use super::step::{Reporter, Step, StepEnv, StepFailure, StepJob, StepReport, Turn};
use crate::lang::label::Label;

/// What a build is told.
#[derive(Debug)]
pub enum BuildMsg {
    /// Begin; the answer comes when every node has ended.
    Run(Reply<BuildResult>),
    /// A step is over.
    StepEnded(u32, Box<StepReport>),
    /// Start nothing more. Running steps are ended by the cancel signal.
    Stop,
}

/// What is left of a build.
#[derive(Debug)]
pub struct BuildResult {
    /// Its figures.
    pub summary: Summary,
    /// Newly built targets, by label.
    pub records: Vec<(Label, Record)>,
    /// When and why targets ran, for a later `zako why`.
    pub runs: Vec<(Label, LastRun)>,
}

/// What a build needs to begin.
pub struct BuildSpec {
    /// What to do.
    pub plan: Arc<Plan>,
    /// What steps share.
    pub env: Arc<StepEnv>,
    /// Memory of finished targets.
    pub records: Arc<FxHashMap<Label, Record>>,
    /// Steps at a time.
    pub jobs: usize,
    /// What steps share of the machine beside jobs.
    pub capacity: Capacity,
    /// Whether a failure stops the build.
    pub keep_going: bool,
    /// Where events go. A reader that has left is no reason to stop.
    pub events: Sender<Stamped>,
    /// JavaScript engine with its version.
    pub engine: String,
    /// When the command began.
    pub begin: Instant,
}

/// The actor.
pub struct Build {
    spec: Arc<BuildSpec>,
    schedule: Schedule,
    progress: Progress,
    /// Node of the plan by node of the schedule.
    stale: Vec<u32>,
    /// By node of the schedule: the steps under way.
    jobs: Vec<Option<Arc<StepJob>>>,
    outputs: Vec<Option<Arc<[OutputItem]>>>,
    made: Vec<(Label, Record)>,
    runs: Vec<(Label, LastRun)>,
    summary: Summary,
    asked: Option<Reply<BuildResult>>,
}

impl Build {
    /// A build that has not begun.
    pub fn new(spec: Arc<BuildSpec>) -> Self {
        let nodes = &spec.plan.nodes;
        let mut outputs = vec![None; nodes.len()];
        let mut place = vec![None; nodes.len()];
        let mut stale = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            if let Freshness::Fresh(items) = &node.state {
                outputs[index] = Some(Arc::clone(items));
            } else {
                place[index] = Some(stale.len() as u32);
                stale.push(index as u32);
            }
        }
        let deps: Vec<Vec<u32>> = stale
            .iter()
            .map(|node| {
                nodes[*node as usize]
                    .deps
                    .iter()
                    .filter_map(|d| place[*d as usize])
                    .collect()
            })
            .collect();
        let costs: Vec<Option<u64>> = stale
            .iter()
            .map(|node| {
                let label = &spec.plan.target(*node).label;
                spec.records.get(label).map(|record| record.duration_us)
            })
            .collect();
        let known: Vec<u64> = costs.iter().map(|cost| cost.unwrap_or(0)).collect();
        let jobs = Seats::steps(spec.jobs);
        let uses = stale
            .iter()
            .map(|node| {
                let command = spec.plan.target(*node).command();
                command
                    .map(|command| command.uses.clone())
                    .unwrap_or_default()
            })
            .collect();
        let summary = Summary {
            targets: nodes.len(),
            up_to_date: nodes.len() - stale.len(),
            engine: spec.engine.clone(),
            ..Summary::default()
        };
        Self {
            schedule: Schedule::new(&deps, &known, jobs, spec.keep_going)
                .with_resources(uses, spec.capacity.clone()),
            progress: Progress::new(costs, spec.jobs),
            jobs: vec![None; stale.len()],
            stale,
            outputs,
            made: Vec::new(),
            runs: Vec::new(),
            summary,
            asked: None,
            spec,
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
        self.spec
            .plan
            .target(self.stale[node as usize])
            .label
            .to_string()
    }

    fn advance(&mut self, ctx: &mut Context<'_, Self>) {
        while let Some(node) = self.schedule.start_next() {
            self.start(node, ctx);
        }
        if self.schedule.is_quiet() {
            let mut skipped = Vec::new();
            self.schedule.skip_rest(|node| skipped.push(node));
            skipped.into_iter().for_each(|node| self.skip(node));
            self.answer();
            ctx.stop();
        }
    }

    fn start(&mut self, node: u32, ctx: &mut Context<'_, Self>) {
        let index = self.stale[node as usize];
        let planned = &self.spec.plan.nodes[index as usize];
        let previous = self
            .spec
            .records
            .get(&self.spec.plan.target(index).label)
            .cloned();
        let own = self.own_cancel();
        let job = Arc::new(StepJob {
            graph: Arc::clone(&self.spec.plan.graph),
            id: planned.id,
            sources: planned.sources.clone(),
            // Every dependency is done, so none is missing.
            deps: planned
                .reads()
                .iter()
                .filter_map(|d| self.outputs[*d as usize].clone())
                .collect(),
            previous,
            found: std::sync::OnceLock::new(),
            turn: self.turn(node, planned),
            cancel: own.clone().unwrap_or_else(|| self.spec.env.cancel.clone()),
            inputs: std::sync::OnceLock::new(),
        });
        // A signal that others share would end them all.
        if let (Some(edits), Some(_)) = (&self.spec.env.edits, own) {
            edits.follow(&job);
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
        if let Some(record) = report.record {
            self.outputs[self.stale[node as usize] as usize] = Some(Arc::clone(&record.outputs));
            self.made.push((
                self.spec
                    .plan
                    .target(self.stale[node as usize])
                    .label
                    .clone(),
                record,
            ));
        }
        if let Some(outputs) = report.handed_on {
            self.outputs[self.stale[node as usize] as usize] = Some(outputs);
        }
        let target = self.spec.plan.target(self.stale[node as usize]);
        let failure = match end {
            End::Failed => report
                .failure
                .as_ref()
                .map(|failure| failure.explain(&target.label)),
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
                self.runs.push((target.label.clone(), run));
            }
        }
        if end != End::Done && !self.spec.keep_going {
            self.spec.env.seats.close();
            // Only the first reason counts: an interruption stays one.
            self.spec.env.cancel.cancel(CancelReason::SiblingFailed);
        }
        self.summary.flaky += usize::from(end == End::Done && report.attempts > 1);
        self.summary.count(report.outcome);
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
    }

    fn skip(&mut self, node: u32) {
        let label = self.label(node);
        self.summary.count(Outcome::Skipped);
        self.progress.ended(node, None);
        self.emit(Event::StepFinished {
            label,
            outcome: Outcome::Skipped,
            duration_us: 0,
            causes: Vec::new(),
            failure: None,
            output: None,
            reason: None,
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
        self.emit(Event::PoolsFinished {
            transpilers: self.spec.env.transpilers.stats().into(),
            workers: self.spec.env.workers.stats(),
        });
        self.emit(Event::BuildFinished(self.summary.clone()));
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

impl Actor for Build {
    type Msg = BuildMsg;

    fn handle(&mut self, msg: BuildMsg, ctx: &mut Context<'_, Self>) {
        match msg {
            BuildMsg::Run(reply) => {
                self.asked = Some(reply);
                self.emit(Event::BuildStarted {
                    targets: self.summary.targets,
                    fresh: self.summary.up_to_date,
                });
            }
            BuildMsg::StepEnded(node, report) => self.step_ended(node, *report),
            BuildMsg::Stop => {
                self.spec.env.seats.close();
                self.schedule.stop();
            }
        }
        self.advance(ctx);
    }
}
