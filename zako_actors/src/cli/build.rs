//! `zako build` and `zako test`.
//!
//! Owns the order of one command: what is asked for, plan, and only then anything that costs. Does
//! not know how a step runs.
//! Invariant: when everything is up to date, neither threads nor engines have been started.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use serde::Serialize;

use super::args::{BuildArgs, Global};
use super::chrome_trace::Trace;
use super::display::Display;
use super::interrupt::cancel_on_signals;
use super::opened::{Opened, Targets, failure};
use super::remote::remote;
use super::sandbox::{chosen, readable};
use super::sink::{JsonLines, Sink};
use super::summary::{Earlier, summarise};
use super::{Exit, Failure, print_json, print_line, say};
use crate::engine::affected::affected;
use crate::engine::cancel::Cancel;
use crate::engine::edits::Edits;
use crate::engine::event::{Event, Stamped, Summary, micros};
use crate::engine::graph::NodeId;
use crate::engine::guard;
use crate::engine::open_files;
use crate::engine::plan::{Freshness, Plan};
use crate::engine::schedule::Capacity;
use crate::engine::session::{BuildOptions, Kept};
use crate::engine::since::changed_since;
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

/// What came of building what rules read.
enum Settled {
    /// All targets.
    Targets(Targets),
    /// A step failed or was stopped, or the whole build was.
    Stopped(Summary),
}

struct Work<'a> {
    global: &'a Global,
    args: &'a BuildArgs,
    wanted: Wanted,
    begin: Instant,
    /// Ends the build; when there is none, a signal does.
    cancel: Option<Cancel>,
    /// Where edits are told of that happen meanwhile.
    edits: Option<Arc<Edits>>,
    /// Shows all parts of the build, once there is something to show.
    display: Option<Display>,
    /// Those that nobody was told about yet.
    phases: Vec<Phase>,
    earlier: Earlier,
}

/// One round of `zako watch`: a build that `cancel` ends; it goes on with what the last one has `kept`.
pub fn round(
    global: &Global,
    args: &BuildArgs,
    wanted: Wanted,
    (cancel, edits): (&Cancel, &Arc<Edits>),
    kept: &mut Option<Kept>,
) -> Result<Exit, Failure> {
    let begin = Instant::now();
    let mut opened = Opened::open_again(global, Some(args), kept.take())?;
    let mut work = Work::new(global, args, wanted, begin, Some(cancel.clone()));
    work.edits = Some(Arc::clone(edits));
    let outcome = work.carry_out(&mut opened);
    *kept = opened.give_back();
    outcome
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
            display: None,
            phases: Vec::new(),
            earlier: Earlier::default(),
        }
    }

    fn carry_out(&mut self, opened: &mut Opened) -> Result<Exit, Failure> {
        let targets = self.load(opened)?;
        if self.args.dry {
            let plan = self.plan(opened, &targets)?;
            return self.dry(&plan);
        }
        let summary = self.build(opened, targets)?;
        self.conclude(&summary)
    }

    fn load(&mut self, opened: &mut Opened) -> Result<Targets, Failure> {
        let begin = self.begin.elapsed();
        let targets = opened.load()?;
        self.phases.push(Phase {
            name: "read build files",
            begin,
            end: self.begin.elapsed(),
        });
        Ok(targets)
    }

    /// Carries the build out, and has everybody who follows it know how it ended.
    fn build(&mut self, opened: &mut Opened, targets: Targets) -> Result<Summary, Failure> {
        let built = self.parts(opened, targets);
        if let Some(display) = self.display.take() {
            display.end(built.as_ref().ok().map(|summary| Stamped {
                time_us: micros(self.begin.elapsed()),
                event: Event::BuildFinished(summary.clone()),
            }));
        }
        built
    }

    /// What rules read comes first, then everything that is asked for.
    fn parts(&mut self, opened: &mut Opened, targets: Targets) -> Result<Summary, Failure> {
        let summary = match self.settle(opened, targets)? {
            Settled::Targets(targets) => {
                let plan = self.plan(opened, &targets)?;
                self.run(opened, &targets, plan)?
            }
            Settled::Stopped(summary) => summary,
        };
        Ok(self.earlier.before(summary))
    }

    /// Builds what rules read, and has them go on, until those that are asked for have said
    /// everything. Nothing is read anew when all of it was up to date.
    fn settle(&mut self, opened: &mut Opened, mut targets: Targets) -> Result<Settled, Failure> {
        let mut built: FxHashSet<Label> = FxHashSet::default();
        loop {
            let graph = &targets.graph;
            let wanted: FxHashSet<NodeId> = self.wanted(opened, &targets)?.into_iter().collect();
            let reads = targets.reads.iter().filter(|read| {
                let target = graph.find(&read.target);
                target.is_some_and(|id| wanted.contains(&id)) && !built.contains(&read.writer)
            });
            let reads: Vec<_> = reads.collect();
            let writers: Vec<NodeId> = reads
                .iter()
                .filter_map(|read| graph.find(&read.writer))
                .collect();
            let is_open = reads.iter().any(|read| read.open);
            if writers.is_empty() {
                return Ok(Settled::Targets(targets));
            }
            let labels: Vec<Label> = reads.iter().map(|read| read.writer.clone()).collect();
            let plan = self.plan_of(opened, &targets, &graph.with_deps(writers))?;
            let is_fresh = plan.is_fresh();
            if !is_fresh {
                let summary = self.run(opened, &targets, plan)?;
                if summary.failed > 0 || summary.cancelled > 0 || summary.interrupted {
                    return Ok(Settled::Stopped(summary));
                }
                self.earlier.add(&summary);
            }
            opened.session.note_built(labels.iter().cloned());
            built.extend(labels);
            if !is_fresh || is_open {
                targets = self.load(opened)?;
            }
        }
    }

    fn conclude(&self, summary: &Summary) -> Result<Exit, Failure> {
        if self.args.json {
            print_json(summary)?;
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

    fn plan(&mut self, opened: &mut Opened, targets: &Targets) -> Result<Arc<Plan>, Failure> {
        let wanted = self.wanted(opened, targets)?;
        self.plan_of(opened, targets, &wanted)
    }

    fn plan_of(
        &mut self,
        opened: &mut Opened,
        targets: &Targets,
        wanted: &[NodeId],
    ) -> Result<Arc<Plan>, Failure> {
        let begin = self.begin.elapsed();
        let force = self.args.steps.force || self.args.check_determinism.is_some();
        let plan = opened
            .session
            .plan(&targets.graph, wanted, &targets.describer, force)
            .map_err(|error| failure(&error))?;
        self.phases.push(Phase {
            name: "plan",
            begin,
            end: self.begin.elapsed(),
        });
        Ok(plan)
    }

    /// What is asked for, with everything that it needs.
    fn wanted(&self, opened: &Opened, targets: &Targets) -> Result<Vec<NodeId>, Failure> {
        let graph = &targets.graph;
        let patterns = opened.patterns(&self.args.labels)?;
        let mut asked = graph
            .matching(&patterns, &|target| self.wanted.takes(target))
            .map_err(Failure::usage)?;
        if let Some(reference) = &self.args.since {
            let changed =
                changed_since(&opened.session.workspace.root, reference).map_err(Failure::usage)?;
            let touched = affected(graph, &changed, &|path| {
                opened.session.build_files_reading(path)
            });
            asked.retain(|id| touched.contains(id));
        }
        let wanted = graph.with_deps(asked);
        let persistent = wanted.iter().map(|id| graph.target(*id)).find(|target| {
            let step = target.in_place();
            step.is_some_and(|step| step.persistent)
        });
        match persistent {
            Some(target) => Err(Failure::usage(format!(
                "{} runs until it is stopped; start it with `zako run {0}`",
                target.label
            ))),
            None => Ok(wanted),
        }
    }

    fn dry(&self, plan: &Plan) -> Result<Exit, Failure> {
        #[derive(Serialize)]
        struct Line {
            label: String,
            cause: String,
        }
        let lines: Vec<Line> = plan
            .nodes
            .iter()
            .filter_map(|node| {
                Some(Line {
                    label: plan.graph.target(node.id).label.to_string(),
                    cause: node.cause()?.to_string(),
                })
            })
            .collect();
        if self.args.json {
            print_json(&lines)?;
        } else {
            for line in &lines {
                print_line(&format!("{}: {}", line.label, line.cause))?;
            }
        }
        say(&format!(
            "{} of {} targets are not up to date; nothing was run",
            lines.len(),
            plan.nodes.len()
        ));
        Ok(Exit::Done)
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
        targets: &Targets,
        plan: Arc<Plan>,
    ) -> Result<Summary, Failure> {
        if plan.is_fresh() && !self.is_watched() {
            let summary = self.nothing_to_do(&plan);
            return Ok(summary);
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
        for phase in self.phases.drain(..) {
            // The reader is in this function.
            drop(events.send(Stamped {
                time_us: micros(phase.end),
                event: Event::PhaseFinished {
                    phase: phase.name,
                    duration_us: micros(phase.end - phase.begin),
                },
            }));
        }
        let chosen = chosen(&plan, build.sandbox);
        for event in targets.scripts.clone().into_iter().chain(chosen) {
            let time_us = micros(self.begin.elapsed());
            drop(events.send(Stamped { time_us, event }));
        }
        let describer = Arc::clone(&targets.describer);
        let mut display = match self.display.take() {
            Some(display) => display,
            None => Display::new(self.global.verbose, self.sinks(opened)?),
        };
        let result = std::thread::scope(|scope| {
            let follower = scope.spawn(|| display.follow(stream));
            let services = &opened.services;
            let session = &mut opened.session;
            let result = session.build(plan, describer, &build, services, &cancel, events);
            follower.thread().unpark();
            result
        });
        self.display = Some(display);
        Ok(result.map_err(|error| failure(&error))?.summary)
    }

    /// Whether somebody wants to know what happens, even if it is nothing.
    fn is_watched(&self) -> bool {
        self.args.steps.events.is_some()
            || self.args.steps.trace.is_some()
            || self.args.steps.otel.is_some()
    }

    fn sinks(&self, opened: &Opened) -> Result<Vec<Box<dyn Sink>>, Failure> {
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        if let Some(path) = &self.args.steps.events {
            // Rounds of a watch follow one another in one file.
            let file = JsonLines::open(path, self.cancel.is_some()).map_err(|error| {
                Failure::usage(format!(
                    "cannot write events to {}: {error}",
                    path.display()
                ))
            })?;
            sinks.push(Box::new(file));
        }
        if let Some(path) = &self.args.steps.trace {
            let file = Trace::create(path).map_err(|error| {
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
