//! `zako build` and `zako test`.
//!
//! Owns the order of one command: workspace, options, session, plan, and only then anything that
//! costs. Does not know how a step runs.
//! Invariant: when everything is up to date, neither threads nor engines have been started.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use super::args::{BuildArgs, Global};
use super::display::{Display, summarise};
use super::interrupt::cancel_on_signals;
use super::options::{Options, directory};
use super::{Exit, Failure, print_json, say};
use crate::engine::action::Describer;
use crate::engine::cancel::Cancel;
use crate::engine::evaluate::Isolates;
use crate::engine::event::{Event, Summary};
use crate::engine::graph::Graph;
use crate::engine::load::LoadError;
use crate::engine::plan::{Freshness, Plan};
use crate::engine::services::Services;
use crate::engine::session::{BuildError, BuildOptions, Notice, Session};
use crate::engine::workspace::{Workspace, WorkspaceError};
use crate::isolate::engine_version;
use crate::lang::label::LabelPattern;
use crate::lang::target::Target;
use crate::transpile::TRANSPILER_VERSION;

/// What wildcards mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Everything but tests.
    Targets,
    /// Tests.
    Tests,
}

/// Builds.
pub fn run(
    global: &Global,
    args: &BuildArgs,
    wanted: Wanted,
    begin: Instant,
) -> Result<Exit, Failure> {
    let workspace = Workspace::find(&directory(global)).map_err(workspace_failure)?;
    let options = Options::settle(global, Some(args), &workspace)?;
    let patterns = patterns(global, args, &workspace)?;
    let session = Session::open(workspace, options.cache.as_deref(), &mut notice)
        .map_err(|error| failure(&error))?;
    let services = Services::new(session.layout.store.clone());
    let work = Work {
        global,
        args,
        wanted,
        begin,
        options,
        patterns,
        services: &services,
    };
    let outcome = work.carry_out(session);
    services.end();
    outcome
}

struct Work<'a> {
    global: &'a Global,
    args: &'a BuildArgs,
    wanted: Wanted,
    begin: Instant,
    options: Options,
    patterns: Vec<LabelPattern>,
    services: &'a Services,
}

impl Work<'_> {
    fn carry_out(&self, mut session: Session) -> Result<Exit, Failure> {
        let outcome = self.build(&mut session);
        // What was learnt is kept, whatever came of it. A state that cannot be written costs time,
        // not correctness.
        if let Err(error) = session.save() {
            say(&format!(
                "warning: {error}; the next build will check everything again"
            ));
        }
        // The process ends soon: giving back a large graph piece by piece would be a good part of a
        // no-op. The lock goes with the process.
        std::mem::forget(session);
        let summary = outcome?;
        if self.args.json {
            print_json(&summary)?;
        }
        say(&summarise(&summary));
        Ok(match summary {
            Summary {
                interrupted: true, ..
            } => Exit::Interrupted,
            Summary { failed: 1.., .. } => Exit::Failed,
            _ => Exit::Done,
        })
    }

    fn build(&self, session: &mut Session) -> Result<Summary, Failure> {
        let (graph, env) = self.load(session)?;
        let describer = Arc::new(Describer::new(
            std::env::var("PATH").unwrap_or_default(),
            env,
            TRANSPILER_VERSION.to_owned(),
        ));
        let wildcard: &dyn Fn(&Target) -> bool = match self.wanted {
            Wanted::Targets => &|target| !target.is_test(),
            Wanted::Tests => &|target| target.is_test(),
        };
        let plan = session
            .plan(
                &graph,
                &self.patterns,
                wildcard,
                &describer,
                self.args.force,
            )
            .map_err(|error| failure(&error))?;
        if plan.is_fresh() && self.args.events.is_none() {
            let summary = self.nothing_to_do(&plan);
            // As with the session: the process ends soon.
            std::mem::forget((plan, graph));
            return Ok(summary);
        }
        self.run(session, plan, describer)
    }

    fn load(
        &self,
        session: &mut Session,
    ) -> Result<(Arc<Graph>, BTreeMap<String, String>), Failure> {
        let root = session.workspace.root.clone();
        let mut isolates = Isolates::new(self.services, root, self.options.evaluation);
        let mut loaded = session
            .load(&mut isolates)
            .map_err(|error| failure(&error))?;
        for line in &loaded.logs {
            say(line);
        }
        let env = std::mem::take(&mut loaded.env);
        if self.global.verbose {
            say(&format!(
                "{} build files, {} evaluated",
                loaded.files, loaded.evaluated
            ));
        }
        let graph = session
            .graph(&mut loaded)
            .map_err(|error| failure(&error))?;
        Ok((graph, env))
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
            duration_us: u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX),
            engine: engine_version(),
            ..Summary::default()
        }
    }

    fn run(
        &self,
        session: &mut Session,
        plan: Plan,
        describer: Arc<Describer>,
    ) -> Result<Summary, Failure> {
        let display = Display::new(self.global.verbose, self.args.events.as_deref())
            .map_err(|error| Failure::usage(format!("cannot write the event file: {error}")))?;
        let cancel = Cancel::new().map_err(Failure::work)?;
        let system = self.services.system().map_err(Failure::work)?;
        cancel_on_signals(system, &cancel);
        let build = BuildOptions {
            jobs: self.options.jobs,
            keep_going: self.args.keep_going,
            keep_scratch: self.args.keep_scratch,
            force: self.args.force,
            engine: engine_version(),
            begin: self.begin,
        };
        let (events, stream) = mpsc::channel::<Event>();
        let result = std::thread::scope(|scope| {
            scope.spawn(move || display.follow(&stream));
            session.build(plan, describer, &build, self.services, &cancel, events)
        });
        Ok(result.map_err(|error| failure(&error))?.summary)
    }
}

fn patterns(
    global: &Global,
    args: &BuildArgs,
    workspace: &Workspace,
) -> Result<Vec<LabelPattern>, Failure> {
    if args.labels.is_empty() {
        return Ok(vec![LabelPattern::everything()]);
    }
    let here = workspace.relative(&directory(global)).unwrap_or_default();
    args.labels
        .iter()
        .map(|text| LabelPattern::parse(text, &here).map_err(Failure::usage))
        .collect()
}

/// Tells a person what happened while the session was opened.
pub fn notice(notice: Notice) {
    say(&match notice {
        Notice::Waiting(Some(pid)) => {
            format!("waiting for process {pid}, which is building in this workspace")
        }
        Notice::Waiting(None) => "waiting for another process that builds in this workspace".into(),
        Notice::StateLost(message) => format!("warning: {message}"),
    });
}

/// Words and status for what kept a workspace from being used.
pub fn workspace_failure(error: WorkspaceError) -> Failure {
    match error {
        WorkspaceError::Manifest(mistake) => Failure::rendered(mistake.to_string()),
        WorkspaceError::NotFound(_) => Failure::usage(error),
        WorkspaceError::Io { .. } => Failure::work(error),
    }
}

/// Words and status for what kept a build from running.
pub fn failure(error: &BuildError) -> Failure {
    match error {
        BuildError::Workspace(WorkspaceError::Manifest(mistake)) | BuildError::Mistake(mistake) => {
            Failure::rendered(mistake.to_string())
        }
        BuildError::Load(LoadError::Mistakes(mistakes)) => {
            let texts: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            Failure::rendered(texts.join("\n"))
        }
        BuildError::Select(_) => Failure::usage(error),
        _ => Failure::work(error),
    }
}
