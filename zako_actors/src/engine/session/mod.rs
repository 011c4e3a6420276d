//! One command's work in one workspace, from the lock to the saved state.
//!
//! Owns the order of things: lock, state, build files, graph, plan, build, state. Does not know
//! flags, nor how anything is shown.
//! Invariants: state is read and written under the lock only; whatever happens between, the state
//! that is saved describes what is on disk; a no-op starts no engine, and of threads only those that
//! look at files.

mod kept;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use actor_rt::Restart;
use cas_actor::UpstreamConfig;
use rustc_hash::{FxHashMap, FxHashSet};

use super::action::{Describer, Tool};
use super::analyse::Given;
use super::build::{Build, BuildMsg, BuildResult, BuildSpec};
use super::cancel::Cancel;
use super::cause::{Cause, changed_parts};
use super::earlier::Earlier;
use super::edits::Edits;
use super::event::Stamped;
use super::graph::{Graph, NodeId};
use super::ledger::Ledger;
use super::load::{Evaluate, LoadEnv, LoadError, Loaded, Loader};
use super::outputs::remove;
use super::plan::{Plan, Planner};
use super::process::adopt_orphans;
use super::reasons::Reasons;
use super::record::Record;
use super::remote::Remote;
use super::sandbox::{Mode, Readable};
use super::schedule::Capacity;
use super::scratch::{Scratches, sweep};
use super::seats::Seats;
use super::services::{ServiceError, Services};
use super::step::{Claims, StepEnv};
use super::worker::Workers;
use super::workspace::{Layout, Workspace, WorkspaceError, WorkspaceLock};
pub use kept::Kept;

use crate::diagnostic::Diagnostic;
use crate::lang::label::Label;
use crate::lang::target::Target;
use crate::machine::{PoolSize, cpus};
use crate::transpile::TranspilerPool;

/// How a build is carried out.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// Steps at a time.
    pub jobs: usize,
    /// What steps share of the machine beside jobs.
    pub capacity: Capacity,
    /// Transpilers, and worker processes.
    pub pool: PoolSize,
    /// Whether a failure leaves the rest running.
    pub keep_going: bool,
    /// Leave scratch directories.
    pub keep_scratch: bool,
    /// Run everything that is asked for.
    pub force: bool,
    /// How often each command runs: more than once to see whether it always leaves the same.
    pub repeat: u32,
    /// The cache behind the store.
    pub remote: Option<UpstreamConfig>,
    /// How strictly commands are held to what they declare.
    pub sandbox: Mode,
    /// What strictly held commands may read beside system and tools.
    pub readable: Vec<PathBuf>,
    /// Where edits are told of that happen meanwhile.
    pub edits: Option<Arc<Edits>>,
    /// JavaScript engine with its version, for the summary.
    pub engine: String,
    /// When the command began.
    pub begin: Instant,
}

/// A locked workspace with its memory.
pub struct Session {
    /// The workspace.
    pub workspace: Workspace,
    /// Where its files are.
    pub layout: Layout,
    /// Files that this command itself is to write, such as events, workspace-relative.
    pub written: Vec<String>,
    known: Kept,
    built: FxHashSet<Label>,
    changed: bool,
    /// Plans that others replaced: a large one takes a millisecond to take apart, which no step is to wait for.
    replaced: Vec<Earlier>,
    _lock: WorkspaceLock,
}

/// Why a build did not come to running steps.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The workspace cannot be used.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// Build files have mistakes.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The graph or the plan has a mistake.
    #[error("{}", .0.message)]
    Mistake(Box<Diagnostic>),
    /// A label selects nothing.
    #[error(transparent)]
    Select(#[from] super::graph::SelectError),
    /// There is no such remote cache.
    #[error(transparent)]
    Remote(#[from] super::remote::RemoteError),
    /// A service did not start.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The system refuses something small.
    #[error("cannot {action}: {source}")]
    Io {
        /// As a verb with its object.
        action: String,
        /// Why.
        source: std::io::Error,
    },
    /// The build actor died.
    #[error("the build ended without an answer; this is a mistake in zako, please report it")]
    Lost,
}

impl From<Diagnostic> for BuildError {
    fn from(mistake: Diagnostic) -> Self {
        Self::Mistake(Box::new(mistake))
    }
}

/// What happened while a session was opened that a person should know.
#[derive(Debug, PartialEq, Eq)]
pub enum Notice {
    /// Another process builds here.
    Waiting(Option<u32>),
    /// The state could not be used.
    StateLost(String),
}

impl Session {
    /// Locks the workspace, unless that was done for what was `kept`, and reads its state, unless that is what was `kept`.
    ///
    /// # Errors
    /// When the workspace's directories cannot be used.
    pub fn open(
        workspace: Workspace,
        cache: Option<&Path>,
        mut kept: Option<Kept>,
        notify: &mut dyn FnMut(Notice),
    ) -> Result<Self, BuildError> {
        let layout = Layout::new(&workspace.root, cache);
        layout.create()?;
        let begun = kept.as_mut().and_then(|kept| kept.begun(&layout));
        let is_begun = begun.is_some();
        let lock = match begun {
            Some(lock) => lock,
            None => WorkspaceLock::acquire(&layout, |pid| notify(Notice::Waiting(pid)))?,
        };
        let kept = (kept, is_begun);
        Ok(Self::start(workspace, layout, lock, kept, notify))
    }

    /// Read when it is needed: a no-op does not.
    fn ledger(&self) -> &Arc<Ledger> {
        self.known
            .ledger
            .get_or_init(|| Arc::new(Ledger::load(&self.layout.outputs)))
    }

    /// When and why targets last ran. Read when it is needed: a no-op does not.
    pub fn reasons(&self) -> &Arc<Reasons> {
        self.known
            .reasons
            .get_or_init(|| Arc::new(Reasons::load(&self.layout.reasons)))
    }

    /// Which parts of a target's recipe are not those of its last run; `tool` is the program of its command.
    pub fn changed_parts(
        &self,
        target: &Target,
        tool: Option<&Tool>,
        describer: &Describer,
    ) -> Vec<Cause> {
        let parts = describer.parts(target, tool, &self.known.files);
        let last = self.reasons().get(&target.label);
        last.map_or(Vec::new(), |last| changed_parts(&last.parts, &parts))
    }

    /// What is remembered of a target.
    pub fn record(&self, label: &Label) -> Option<&Record> {
        self.known.records.get(label)
    }

    /// The build files that read `path` when they were evaluated, themselves included.
    pub fn build_files_reading(&self, path: &str) -> Vec<&str> {
        let files = self.known.memory.files.iter();
        files
            .filter(|(_, known)| {
                let sources = &known.sources;
                sources.modules.iter().any(|(module, _)| **module == *path)
                    || sources.absent.iter().any(|absent| **absent == *path)
            })
            .map(|(file, _)| &**file)
            .collect()
    }

    /// Files of the workspace were changed since this session was opened.
    pub fn look_anew(&mut self) {
        self.known.files.look_anew();
        self.known.dirs.look_anew();
    }

    /// Takes note that the outputs of `labels` are up to date until the end of this session: rules
    /// may read them.
    pub fn note_built(&mut self, labels: impl IntoIterator<Item = Label>) {
        self.built.extend(labels);
    }

    /// Reads the build files, evaluating those that changed; `given` are the options that were set,
    /// `search` is PATH.
    ///
    /// # Errors
    /// The mistakes in them.
    pub fn load(
        &mut self,
        evaluator: &mut dyn Evaluate,
        given: &Given,
        search: &str,
    ) -> Result<Loaded, BuildError> {
        let env = LoadEnv {
            workspace: &self.workspace,
            files: &self.known.files,
            dirs: &mut self.known.dirs,
            memory: &mut self.known.memory,
            evaluator,
            search,
            is_built: &|label| self.built.contains(label),
        };
        let loaded = Loader::new(env, given).load();
        self.changed |= loaded.as_ref().map_or(true, |loaded| loaded.evaluated > 0);
        Ok(loaded?)
    }

    /// Links targets into a graph; the same ones as the last time are linked already.
    ///
    /// # Errors
    /// The first mistake in it.
    pub fn graph(&mut self, loaded: &mut Loaded) -> Result<Arc<Graph>, BuildError> {
        let targets = std::mem::take(&mut loaded.targets);
        if let Some((before, graph)) = &self.known.linked
            && before.len() == targets.len()
            && before.iter().zip(&targets).all(|(a, b)| Arc::ptr_eq(a, b))
        {
            return Ok(Arc::clone(graph));
        }
        let graph = Graph::new(targets.clone(), &text_in(&self.workspace.root))?;
        let graph = Arc::new(graph);
        self.known.linked = Some((targets, Arc::clone(&graph)));
        Ok(graph)
    }

    /// Plans `wanted`: targets with everything they need, dependencies first.
    ///
    /// # Errors
    /// When a source is missing.
    pub fn plan(
        &mut self,
        graph: &Arc<Graph>,
        wanted: &[NodeId],
        describer: &Arc<Describer>,
        force: bool,
    ) -> Result<Arc<Plan>, BuildError> {
        self.forget_vanished(graph);
        self.replaced.extend(self.known.planned.take());
        let earlier = self.replaced.last();
        let earlier = earlier.and_then(|it| it.asked(graph, describer));
        let planner = Planner {
            graph: Arc::clone(graph),
            files: &self.known.files,
            dirs: &mut self.known.dirs,
            describer,
            records: &self.known.records,
            text_of: &text_in(&self.workspace.root),
            force,
            earlier: earlier.as_ref(),
            written: &self.written,
        };
        let plan = Arc::new(planner.plan(wanted)?);
        self.known.planned = Some(Earlier::new(Arc::clone(&plan), Arc::clone(describer)));
        Ok(plan)
    }

    /// Takes away what targets left that the build files do not have any more.
    fn forget_vanished(&mut self, graph: &Graph) {
        let vanished = |label: &Label| !graph.contains(label);
        let gone: Vec<Label> = self
            .known
            .records
            .keys()
            .filter(|l| vanished(l))
            .cloned()
            .collect();
        if gone.is_empty() {
            return;
        }
        let ledger = Arc::clone(self.ledger());
        let records = Arc::make_mut(&mut self.known.records);
        let left: Vec<(Label, Record)> = gone
            .into_iter()
            .filter_map(|label| records.remove_entry(&label))
            .collect();
        let others: FxHashSet<&str> = records
            .values()
            .flat_map(|r| r.outputs.iter())
            .map(|item| &*item.path)
            .collect();
        for (label, record) in &left {
            let stale = record
                .outputs
                .iter()
                .map(|item| &*item.path)
                .filter(|path| !others.contains(path) && !graph.outputs().covers(path));
            remove(&self.known.files, &ledger, stale, label.dir());
        }
        self.changed = true;
    }

    /// Carries a plan out. Blocks until it is done; `cancel` ends it sooner.
    ///
    /// # Errors
    /// When it cannot begin. Failed steps are no error: they are in the result.
    pub fn build(
        &mut self,
        plan: Arc<Plan>,
        describer: Arc<Describer>,
        options: &BuildOptions,
        services: &Services,
        cancel: &Cancel,
        events: Sender<Stamped>,
    ) -> Result<BuildResult, BuildError> {
        adopt_orphans();
        self.known.files.look_anew();
        // Whatever lies there was left by a process that is gone: the lock is ours.
        sweep(&self.layout.scratch).map_err(|source| BuildError::Io {
            action: format!("empty {}", self.layout.scratch.display()),
            source,
        })?;
        let store = services.store()?.clone();
        let system = services.system().map_err(ServiceError::from)?;
        let remote = options
            .remote
            .as_ref()
            .map(|server| Remote::attach(&store, server, system.tokio()).map(Arc::new));
        let remote = remote.transpose()?;
        let PoolSize { max, idle, .. } = options.pool;
        let workers = Workers::new(max, idle, system.tokio());
        // A step tells that it ended.
        let mailbox = plan.nodes.len() + 16;
        let spec = Arc::new(BuildSpec {
            plan: Arc::clone(&plan),
            env: Arc::new(StepEnv {
                files: Arc::clone(&self.known.files),
                describer,
                store,
                scratches: Scratches::new(self.layout.scratch.clone()),
                keep_scratch: options.keep_scratch,
                force: options.force,
                repeat: options.repeat,
                remote: remote.clone(),
                sandbox: options.sandbox,
                readable: Readable::new(options.readable.clone()),
                // A failure ends this build, not what comes after it.
                cancel: cancel.below().map_err(|source| BuildError::Io {
                    action: "make a signal".to_owned(),
                    source,
                })?,
                edits: options.edits.clone(),
                seats: Seats::new(options.jobs),
                ledger: Arc::clone(self.ledger()),
                claims: Claims::of(Arc::clone(&plan)),
                reasons: Arc::clone(self.reasons()),
                // They compute all the time: more than there are CPUs would only take turns.
                transpilers: services
                    .transpilers(|system| TranspilerPool::new(system, options.pool.at_most(cpus())))
                    .map_err(ServiceError::from)?
                    .clone(),
                workers: Arc::clone(&workers),
                writers: cpus(),
            }),
            records: Arc::clone(&self.known.records),
            jobs: options.jobs,
            capacity: options.capacity.clone(),
            keep_going: options.keep_going,
            events,
            engine: options.engine.clone(),
            begin: options.begin,
        });
        let made = Arc::clone(&spec);
        let build = system
            .actor(move || Build::new(Arc::clone(&made)))
            .name("build")
            .mailbox(mailbox)
            .restart(Restart::never())
            .spawn();
        let answer = build.ask(BuildMsg::Run);
        let stopper = build.clone();
        let _stop = cancel
            .token()
            .on_cancel(move || drop(stopper.tell(BuildMsg::Stop)));
        let result = answer.wait();
        workers.end();
        let result = result.map_err(|_| BuildError::Lost)?;
        if let Some(remote) = &remote {
            remote.finish(cancel);
        }
        let records = Arc::make_mut(&mut self.known.records);
        for (label, record) in &result.records {
            records.insert(label.clone(), record.clone());
        }
        self.changed = true;
        if !result.runs.is_empty() {
            let graph = &plan.graph;
            let mut reasons = self.known.reasons.take().unwrap_or_default();
            // The steps of this build have ended, so that this is the only owner, or copies once.
            Arc::make_mut(&mut reasons)
                .merge(result.runs.iter().cloned(), |label| graph.contains(label));
            match reasons.save(&self.layout.reasons) {
                Ok(()) => drop(self.known.reasons.set(reasons)),
                // Known is what is on disk; it is read again when it is needed.
                Err(error) => {
                    tracing::warn!("`zako why` will not know about this build: {error}");
                }
            }
        }
        Ok(result)
    }

    /// Removes everything that zako wrote into the workspace and forgets what was built. Tells how
    /// many files there were.
    ///
    /// # Errors
    /// When the list of outputs cannot be written.
    pub fn clean(&mut self) -> Result<usize, BuildError> {
        let paths = self.ledger().paths();
        // Deepest first, so that directories are empty when their turn comes.
        remove(
            &self.known.files,
            self.ledger(),
            paths.iter().rev().map(|path| &**path),
            "",
        );
        *Arc::make_mut(&mut self.known.records) = FxHashMap::default();
        self.changed = true;
        self.save()?;
        Ok(paths.len())
    }
}

fn text_in(root: &Path) -> impl Fn(&str) -> String {
    let root = root.to_owned();
    move |path| std::fs::read_to_string(root.join(path)).unwrap_or_default()
}
