//! A workspace in a temporary directory and one build in it per call.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use serde_json::Value;
use zako_actors::engine::action::Describer;
use zako_actors::engine::analyse::Given;
use zako_actors::engine::cancel::Cancel;
use zako_actors::engine::event::{Event, Outcome, Stamped, Summary};
use zako_actors::engine::hash::Hash;
use zako_actors::engine::load::{Evaluate, EvaluationFailure, EvaluationJob, EvaluationOutput};
use zako_actors::engine::sandbox::Mode;
use zako_actors::engine::schedule::Capacity;
use zako_actors::engine::services::Services;
use zako_actors::engine::session::{BuildError, BuildOptions, Kept, Session};
use zako_actors::engine::workspace::Workspace;
use zako_actors::lang::label::LabelPattern;
use zako_actors::machine::Machine;

/// A workspace.
pub struct World {
    dir: tempfile::TempDir,
    /// Leave going after a failure.
    pub keep_going: bool,
}

/// What one build did.
#[derive(Debug, Default)]
pub struct Built {
    /// Its figures.
    pub summary: Summary,
    /// Labels in the order in which their steps ended, with how.
    pub steps: Vec<(String, Outcome)>,
    /// The texts of failures.
    pub failures: Vec<String>,
}

impl Built {
    /// The labels whose steps ended like this, sorted.
    pub fn with(&self, outcome: Outcome) -> Vec<&str> {
        let mut labels: Vec<&str> = self
            .steps
            .iter()
            .filter(|step| step.1 == outcome)
            .map(|step| step.0.as_str())
            .collect();
        labels.sort_unstable();
        labels
    }
}

/// Takes the JSON in each build file for what it exports.
struct Json<'a>(&'a Path);

impl Evaluate for Json<'_> {
    fn version(&self) -> &str {
        "json"
    }

    fn evaluate(
        &mut self,
        jobs: Vec<EvaluationJob>,
    ) -> Vec<Result<EvaluationOutput, EvaluationFailure>> {
        jobs.into_iter()
            .map(|job| {
                let text = fs::read_to_string(self.0.join(&job.path)).unwrap();
                Ok(EvaluationOutput {
                    value: serde_json::from_str(&text).unwrap(),
                    modules: vec![(job.path, Hash::of(text.as_bytes()))],
                    absent: Vec::new(),
                    logs: Vec::new(),
                })
            })
            .collect()
    }

    fn tell(&mut self, lines: Vec<String>) {
        assert!(lines.is_empty(), "{lines:?}");
    }
}

impl World {
    /// A workspace with these targets in its root.
    pub fn new(targets: &Value) -> Self {
        let world = Self {
            dir: tempfile::tempdir().unwrap(),
            keep_going: false,
        };
        world.write(
            "zako.toml",
            "group = \"t\"\nartifact = \"t\"\nversion = \"1.0.0\"\n",
        );
        world.targets(targets);
        world
    }

    /// Replaces the build file.
    pub fn targets(&self, targets: &Value) {
        self.write("BUILD.ts", &targets.to_string());
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    pub fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(self.root().join(path)).is_ok()
    }

    /// Builds everything, with state from disk to disk like a process of its own.
    pub fn try_build(&self) -> Result<Built, BuildError> {
        self.build_again(&mut None)
    }

    /// Builds everything like a process that has built before and has `kept` what it knew.
    pub fn build_again(&self, kept: &mut Option<Kept>) -> Result<Built, BuildError> {
        let workspace = Workspace::find(self.root())?;
        let root = workspace.root.clone();
        let notify = &mut |notice| panic!("{notice:?}");
        let mut session = Session::open(workspace, None, kept.take(), notify)?;
        let services = Services::new(session.layout.store.clone());
        let result = self.build_in(&mut session, &services, &root);
        session.save()?;
        *kept = session.leave();
        services.end();
        result
    }

    fn build_in(
        &self,
        session: &mut Session,
        services: &Services,
        root: &Path,
    ) -> Result<Built, BuildError> {
        let (_, graph) = session.targets(&mut Json(root), &Given::default(), "", &[])?;
        let path = std::env::var("PATH").unwrap();
        let describer = Arc::new(Describer::new(path, BTreeMap::new(), "test".into()));
        let everything = graph.select(&[LabelPattern::everything()], &|_| true)?;
        let plan = session.plan(&graph, &everything, &describer, false)?;
        let mut built = Built::default();
        if plan.is_fresh() {
            assert!(services.is_idle(), "a no-op starts nothing");
            built.summary.up_to_date = plan.nodes.len();
            return Ok(built);
        }
        let (events, stream) = mpsc::channel();
        let options = BuildOptions {
            jobs: 3,
            capacity: Capacity::default(),
            pool: Machine::look().defaults().pool,
            keep_going: self.keep_going,
            keep_scratch: false,
            overwrite: false,
            force: false,
            repeat: 1,
            remote: None,
            sandbox: Mode::Off,
            readable: Vec::new(),
            engine: "none".into(),
            edits: None,
            begin: Instant::now(),
        };
        let cancel = Cancel::new().unwrap();
        built.summary = session.build(plan, describer, &options, services, &cancel, events)?;
        for Stamped { event, .. } in stream {
            if let Event::StepFinished {
                label,
                outcome,
                failure,
                ..
            } = event
            {
                built.steps.push((label, outcome));
                built.failures.extend(failure);
            }
        }
        Ok(built)
    }

    /// Builds and expects success.
    #[track_caller]
    pub fn build(&self) -> Built {
        let built = self
            .try_build()
            .unwrap_or_else(|error| panic!("{error}: {error:?}"));
        assert_eq!(built.summary.failed, 0, "{:?}", built.failures);
        built
    }
}

/// A shell step.
pub fn step(script: &str, srcs: &[&str], deps: &[&str], outs: &[&str]) -> Value {
    serde_json::json!({
        "$zako": "command", "cmd": ["sh", "-ec", script], "srcs": srcs, "deps": deps, "outs": outs,
    })
}
