//! `zako build` and `zako test`.
//!
//! Owns the order of one command: what is asked for, plan, and only then anything that costs. Does
//! not know how a step runs.
//! Invariant: when everything is up to date, neither threads nor engines have been started, but for a terminal's live line.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use serde::Serialize;

use super::args::{BuildArgs, Global};
use super::chrome_trace::Trace;
use super::display::Display;
use super::interrupt::cancel_on_signals;
use super::live::Live;
use super::opened::{Opened, Targets, failure};
use super::reads::Answers;
use super::remote::remote;
use super::sandbox::{chosen, readable};
use super::sink::{JsonLines, Sink, create};
use super::summary::summarise;
use super::written::{refuse, refuse_pairs};
use super::{Exit, Failure, dry, print_json, say};
use crate::engine::affected::affected;
use crate::engine::cancel::Cancel;
use crate::engine::edits::Edits;
use crate::engine::event::{Event, Failed, Stamped, Summary, micros};
use crate::engine::graph::NodeId;
use crate::engine::guard;
use crate::engine::open_files;
use crate::engine::plan::{Freshness, Plan};
use crate::engine::schedule::Capacity;
use crate::engine::session::{BuildOptions, Kept, Running};
use crate::isolate::engine_version;
use crate::lang::label::Label;
use crate::lang::target::Target;
use crate::machine::Machine;

/// What wildcards mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Everything but tests.
    Targets,
    /// Tests.
    Tests,
    /// Both.
    Everything,
}

impl Wanted {
    /// Whether a wildcard means `target`.
    pub fn takes(self, target: &Target) -> bool {
        let kind = match self {
            Self::Targets => !target.is_test(),
            Self::Tests => target.is_test(),
            Self::Everything => true,
        };
        kind && !target.manual
    }
}

/// Builds.
pub fn run(
    global: &Global,
    args: &BuildArgs,
    wanted: Wanted,
    begin: Instant,
) -> Result<Exit, Failure> {
    refuse_pairs(args)?;
    let mut opened = Opened::open(global, Some(args))?;
    let mut work = Work::new(global, args, wanted, begin, None);
    let outcome = work.carry_out(&mut opened);
    opened.close();
    outcome
}

/// Builds `targets` for another command, which goes on with the results.
pub fn bring_up_to_date(
    global: &Global,
    args: &BuildArgs,
    opened: &mut Opened,
    targets: &Targets,
    begin: Instant,
) -> Result<Summary, Failure> {
    Work::new(global, args, Wanted::Targets, begin, None).build(opened, targets.clone())
}

pub(super) struct Work<'a> {
    global: &'a Global,
    args: &'a BuildArgs,
    wanted: Wanted,
    begin: Instant,
    /// Ends the build; when there is none, a signal does.
    pub(super) cancel: Option<Cancel>,
    /// Where edits are told of that happen meanwhile.
    edits: Option<Arc<Edits>>,
    /// Whether an earlier round has begun the files that this one writes, where there are rounds.
    is_written: Option<&'a Cell<bool>>,
    /// Those that nobody was told about yet.
    phases: Vec<Phase>,
    /// Targets whose rules cannot go on.
    pub(super) mistaken: FxHashSet<Label>,
}

/// What a build begins with.
pub(super) struct Begin {
    pub targets: Targets,
    pub plan: Arc<Plan>,
    /// Targets that are left out, with their mistakes.
    pub mistaken: Vec<(Label, String)>,
}

/// One round of `zako watch`: a build that `cancel` ends; it goes on with what the last one has `kept`, and in the files that it writes
/// where one `is_written` already. Tells also whether no target
/// was left out for a mistake.
pub fn round(
    global: &Global,
    args: &BuildArgs,
    wanted: Wanted,
    (cancel, edits, is_written): (&Cancel, &Arc<Edits>, &Cell<bool>),
    kept: &mut Option<Kept>,
) -> Result<(Exit, bool), Failure> {
    let begin = Instant::now();
    let mut opened = Opened::open_again(global, Some(args), kept.take())?;
    let mut work = Work::new(global, args, wanted, begin, Some(cancel.clone()));
    work.edits = Some(Arc::clone(edits));
    work.is_written = Some(is_written);
    let outcome = work.carry_out(&mut opened);
    *kept = opened.give_back();
    // What is given up while build files are read is nobody's mistake.
    match (outcome, cancel.reason()) {
        (Err(_), Some(_)) => Ok((Exit::Interrupted, false)),
        (outcome, _) => Ok((outcome?, work.mistaken.is_empty())),
    }
}

/// What a script is told of a build.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    failures: &'a [Failed],
}

impl<'a> Told<'a> {
    fn of(summary: &'a Summary) -> Self {
        Self {
            summary,
            failures: &summary.failures,
        }
    }
}

/// A part of the command that is no step, with its times since the command began.
struct Phase {
    name: &'static str,
    begin: Duration,
    end: Duration,
}

impl<'a> Work<'a> {
    fn new(
        global: &'a Global,
        args: &'a BuildArgs,
        wanted: Wanted,
        begin: Instant,
        cancel: Option<Cancel>,
    ) -> Self {
        Self {
            global,
            args,
            wanted,
            begin,
            cancel,
            edits: None,
            is_written: None,
            phases: Vec::new(),
            mistaken: FxHashSet::default(),
        }
    }

    fn carry_out(&mut self, opened: &mut Opened) -> Result<Exit, Failure> {
        opened.session.only_looks = self.args.dry;
        let cancel = self.cancel.clone();
        let targets = self.timed(|| opened.load_until(cancel.as_ref()))?;
        if self.args.dry {
            let begin = self.plan(opened, targets)?;
            return dry::tell(opened, &begin.targets, &begin.plan, self.args.json);
        }
        let summary = self.build(opened, targets)?;
        self.conclude(&summary)
    }

    /// Has `load` read the build files, and ask rules that may go on.
    pub(super) fn timed(
        &mut self,
        load: impl FnOnce() -> Result<Targets, Failure>,
    ) -> Result<Targets, Failure> {
        let begin = self.begin.elapsed();
        let targets = load()?;
        self.phases.push(Phase {
            name: "read build files",
            begin,
            end: self.begin.elapsed(),
        });
        Ok(targets)
    }

    /// Brings what is asked for up to date.
    fn build(&mut self, opened: &mut Opened, targets: Targets) -> Result<Summary, Failure> {
        if !self.is_going_on() {
            refuse(&self.args.steps, opened, &targets)?;
        }
        let begin = self.plan(opened, targets)?;
        self.run(opened, begin)
    }

    fn conclude(&self, summary: &Summary) -> Result<Exit, Failure> {
        if self.args.json {
            print_json(&Told::of(summary))?;
        }
        say(&summarise(summary));
        Ok(match summary {
            Summary {
                interrupted: true, ..
            } => Exit::Interrupted,
            Summary { failed: 1.., .. } => Exit::Failed,
            _ => Exit::Done,
        })
    }

    /// Plans what is asked for, as far as rules have said what that is. Those that read what is up to date go on at once;
    /// a mistake of any target ends it, unless the rest is to go on.
    fn plan(&mut self, opened: &mut Opened, targets: Targets) -> Result<Begin, Failure> {
        let _line = Live::begin("looking at files");
        let keeps_going = self.args.steps.keep_going && !self.args.dry;
        let Begin {
            targets,
            plan,
            mistaken: failed,
        } = self.unfold_sound(opened, targets, keeps_going)?;
        let ready = plan.ready.clone();
        let mut answers = Answers {
            planned: Some((targets, plan)),
            failed,
        };
        self.ask_all(opened, None, ready, &mut answers);
        let Answers { planned, failed } = answers;
        match (planned, failed) {
            (Some((targets, plan)), mistaken) if mistaken.is_empty() || keeps_going => Ok(Begin {
                targets,
                plan,
                mistaken,
            }),
            (_, failed) => {
                let texts: Vec<String> = failed.into_iter().map(|(_, text)| text).collect();
                Err(Failure::rendered(texts.join("\n")))
            }
        }
    }

    /// Plans what is asked for, as far as rules have said what that is.
    pub(super) fn unfold(
        &mut self,
        opened: &mut Opened,
        targets: &Targets,
        running: Option<&Running>,
    ) -> Result<Arc<Plan>, Failure> {
        let begin = self.begin.elapsed();
        let force = self.args.steps.force || self.args.check_determinism.is_some();
        let asked = self.asked(opened, targets)?;
        let Targets {
            graph,
            describer,
            readings,
            ..
        } = targets;
        let plan = opened
            .session
            .unfold(graph, asked, readings, (describer, force), running)
            .map_err(|error| failure(&error))?;
        self.refuse_persistent(&plan)?;
        self.phases.push(Phase {
            name: "plan",
            begin,
            end: self.begin.elapsed(),
        });
        Ok(plan)
    }

    /// What is asked for; of what a rule has yet to describe, the target that it describes.
    pub(super) fn asked(
        &self,
        opened: &mut Opened,
        targets: &Targets,
    ) -> Result<Vec<NodeId>, Failure> {
        let graph = &targets.graph;
        let patterns = targets.as_far_as_described(opened.patterns(&self.args.labels)?);
        let mut asked = graph
            .matching(&patterns, &|target| self.wanted.takes(target))
            .map_err(|error| opened.unselected(&error))?;
        if let Some(reference) = &self.args.since {
            let changed = opened.session.changed_since(reference);
            let changed = changed.map_err(Failure::usage)?;
            let touched = affected(graph, &changed, opened.session.origins(), &targets.readings);
            asked.retain(|id| touched.contains(id));
        }
        Ok(asked)
    }

    fn refuse_persistent(&self, plan: &Plan) -> Result<(), Failure> {
        let mut targets = plan.nodes.iter().map(|node| &node.target);
        let persistent = targets.find(|it| it.in_place().is_some_and(|step| step.persistent));
        match persistent {
            Some(target) => Err(Failure::usage(format!(
                "{} runs until it is stopped; start it with `zako run {0}`",
                target.label
            ))),
            None => Ok(()),
        }
    }

    fn nothing_to_do(&self, plan: &Plan) -> Summary {
        let files = plan.nodes.iter().map(|node| match &node.state {
            Freshness::Fresh(outputs) => outputs.len(),
            _ => 0,
        });
        Summary {
            targets: plan.nodes.len(),
            files: files.sum(),
            up_to_date: plan.nodes.len(),
            duration_us: micros(self.begin.elapsed()),
            engine: engine_version(),
            ..Summary::default()
        }
    }

    fn run(
        &mut self,
        opened: &mut Opened,
        Begin {
            targets,
            plan,
            mistaken,
        }: Begin,
    ) -> Result<Summary, Failure> {
        if plan.is_fresh() && !self.is_watched() {
            opened.session.remove_left(&plan, &[]);
            return Ok(self.nothing_to_do(&plan));
        }
        let cancel = match &self.cancel {
            Some(cancel) => cancel.clone(),
            None => {
                let cancel = Cancel::new().map_err(Failure::work)?;
                let system = opened.services.system().map_err(Failure::work)?;
                cancel_on_signals(system, &cancel);
                cancel
            }
        };
        let build = BuildOptions {
            jobs: opened.options.jobs,
            capacity: Capacity {
                memory_bytes: Machine::look().memory_bytes,
                named: opened.session.workspace.manifest.settings.resources.clone(),
            },
            pool: opened.options.pool,
            keep_going: self.args.steps.keep_going,
            keep_scratch: self.args.steps.keep_scratch,
            overwrite: self.args.steps.overwrite,
            force: self.args.steps.force || self.args.check_determinism.is_some(),
            remote: remote(
                &self.args.steps,
                &opened.session.workspace.manifest.settings,
                &opened.session.workspace.root,
            )?,
            sandbox: self
                .args
                .steps
                .sandbox
                .or(opened.session.workspace.manifest.settings.sandbox)
                .unwrap_or_default(),
            readable: readable(&opened.session.workspace)?,
            repeat: self.args.check_determinism.unwrap_or(1),
            edits: self.edits.clone(),
            engine: engine_version(),
            begin: self.begin,
        };
        open_files::raise();
        if plan.starts_processes()
            && let Err(error) = guard::watch_over(&opened.session.layout.scratch)
        {
            say(&format!(
                "warning: cannot start a guard: {error}; children would survive a `kill -9` of zako"
            ));
        }
        let (events, stream) = mpsc::channel::<Stamped>();
        let display = Display::new(self.global.verbose, self.sinks(opened, &cancel)?);
        let chosen = chosen(&plan, build.sandbox);
        std::thread::scope(|scope| {
            let follower = scope.spawn(|| display.follow(stream));
            let tell = |stamped| {
                // The reader is in this function.
                drop(events.send(stamped));
            };
            self.tell_phases(&tell);
            for event in targets.scripts.into_iter().chain(chosen) {
                let time_us = micros(self.begin.elapsed());
                tell(Stamped { time_us, event });
            }
            let describer = targets.describer;
            let services = &opened.services;
            let session = &mut opened.session;
            let plan = (plan, mistaken);
            let begun = session.begin(plan, describer, &build, services, &cancel, events);
            let result = begun.map_err(|error| failure(&error)).and_then(|running| {
                let running = self.go_on(opened, running);
                let result = opened.session.end(running);
                result.map_err(|error| failure(&error))
            });
            follower.thread().unpark();
            result
        })
    }

    /// Tells of what went on beside the steps.
    pub(super) fn tell_phases(&mut self, tell: &dyn Fn(Stamped)) {
        for phase in self.phases.drain(..) {
            tell(Stamped {
                time_us: micros(phase.end),
                event: Event::PhaseFinished {
                    phase: phase.name,
                    duration_us: micros(phase.end - phase.begin),
                },
            });
        }
    }

    /// Whether an earlier round has begun the files that this one writes.
    fn is_going_on(&self) -> bool {
        self.is_written.is_some_and(Cell::get)
    }

    /// Whether somebody wants to know what happens, even if it is nothing.
    fn is_watched(&self) -> bool {
        self.args.steps.events.is_some()
            || self.args.steps.trace.is_some()
            || self.args.steps.otel.is_some()
    }

    fn sinks(&self, opened: &Opened, cancel: &Cancel) -> Result<Vec<Box<dyn Sink>>, Failure> {
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        if let Some(path) = &self.args.steps.events {
            // Rounds of a watch follow one another in one file.
            let file = JsonLines::open(path, self.is_going_on(), cancel).map_err(|error| {
                Failure::usage(format!(
                    "cannot write events to {}: {error}",
                    path.display()
                ))
            })?;
            sinks.push(Box::new(file));
        }
        if let Some(path) = &self.args.steps.trace {
            let file = create(path, false, cancel).and_then(Trace::of);
            let file = file.map_err(|error| {
                Failure::usage(format!(
                    "cannot write the trace to {}: {error}",
                    path.display()
                ))
            })?;
            sinks.push(Box::new(file));
        }
        if let Some(to) = self.args.steps.otel.as_deref().filter(|to| !to.is_empty()) {
            sinks.push(self.otel(to, opened)?);
        }
        if let Some(is_written) = self.is_written {
            is_written.set(true);
        }
        Ok(sinks)
    }

    #[cfg(feature = "otel")]
    fn otel(&self, to: &str, opened: &Opened) -> Result<Box<dyn Sink>, Failure> {
        let system = opened.services.system().map_err(Failure::work)?;
        let otel = super::otel::Otel::new(to, self.begin, system.tokio());
        let otel = otel.map_err(|error| Failure::usage(format!("--otel: {error}")))?;
        Ok(Box::new(otel))
    }

    #[cfg(not(feature = "otel"))]
    fn otel(&self, _to: &str, _opened: &Opened) -> Result<Box<dyn Sink>, Failure> {
        Err(Failure::usage(
            "--otel: this zako was built without OpenTelemetry (feature `otel`)",
        ))
    }
}
