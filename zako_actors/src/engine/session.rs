//! One command's work in one workspace, from the lock to the saved state.
//!
//! Owns the order of things: lock, state, build files, graph, plan, build, state. Does not know
//! flags, nor how anything is shown.
//! Invariants: state is read and written under the lock only; whatever happens between, the state
//! that is saved describes what is on disk; a no-op starts neither threads nor engines.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use actor_rt::Restart;
use cas_actor::UpstreamConfig;
use rustc_hash::{FxHashMap, FxHashSet};

use super::action::Describer;
use super::analyse::Given;
use super::build::{Build, BuildMsg, BuildResult, BuildSpec};
use super::cancel::Cancel;
use super::dirs::DirTable;
use super::event::Stamped;
use super::files::FileTable;
use super::graph::{Graph, NodeId};
use super::ledger::Ledger;
use super::load::{Evaluate, LoadEnv, LoadError, Loaded, Loader};
use super::outputs::remove;
use super::plan::{Plan, Planner};
use super::process::adopt_orphans;
use super::reasons::Reasons;
use super::record::Record;
use super::remote::Remote;
use super::sandbox::Mode;
use super::schedule::Capacity;
use super::scratch::{Scratches, sweep};
use super::seats::Seats;
use super::services::{ServiceError, Services};
use super::state::{Memory, State};
use super::step::{Claims, StepEnv};
use super::worker::Workers;
use super::workspace::{Layout, Workspace, WorkspaceError, WorkspaceLock};
use crate::diagnostic::Diagnostic;
use crate::lang::label::Label;
use crate::lang::target::Work;
use crate::machine::PoolSize;
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
    files: Arc<FileTable>,
    dirs: DirTable,
    memory: Memory,
    built: FxHashSet<Label>,
    records: Arc<FxHashMap<Label, Record>>,
    ledger: OnceCell<Arc<Ledger>>,
    reasons: OnceCell<Arc<Reasons>>,
    changed: bool,
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
    /// Locks the workspace and reads its state.
    ///
    /// # Errors
    /// When the workspace's directories cannot be used.
    pub fn open(
        workspace: Workspace,
        cache: Option<&Path>,
        notify: &mut dyn FnMut(Notice),
    ) -> Result<Self, BuildError> {
        let layout = Layout::new(&workspace.root, cache);
        layout.create()?;
        let lock = WorkspaceLock::acquire(&layout, |pid| notify(Notice::Waiting(pid)))?;
        let (state, changed) = match State::load(&layout.state) {
            Ok(state) => (state, false),
            Err(error) => {
                let path = layout.state.display();
                notify(Notice::StateLost(format!(
                    "{path} is not used: {error}; everything is checked again"
                )));
                (State::default(), true)
            }
        };
        let State {
            files,
            dirs,
            memory,
            records,
        } = state;
        Ok(Self {
            files: Arc::new(FileTable::new(workspace.root.clone(), files)),
            dirs: DirTable::new(workspace.root.clone(), dirs),
            memory,
            built: FxHashSet::default(),
            records: Arc::new(records),
            ledger: OnceCell::new(),
            reasons: OnceCell::new(),
            changed,
            workspace,
            layout,
            _lock: lock,
        })
    }

    /// Read when it is needed: a no-op does not.
    fn ledger(&self) -> &Arc<Ledger> {
        self.ledger
            .get_or_init(|| Arc::new(Ledger::load(&self.layout.outputs)))
    }

    /// When and why targets last ran. Read when it is needed: a no-op does not.
    pub fn reasons(&self) -> &Arc<Reasons> {
        self.reasons
            .get_or_init(|| Arc::new(Reasons::load(&self.layout.reasons)))
    }

    /// What is remembered of a target.
    pub fn record(&self, label: &Label) -> Option<&Record> {
        self.records.get(label)
    }

    /// The build files that read `path` when they were evaluated, themselves included.
    pub fn build_files_reading(&self, path: &str) -> Vec<&str> {
        let files = self.memory.files.iter();
        files
            .filter(|(_, known)| {
                let sources = &known.sources;
                sources.modules.iter().any(|(module, _)| **module == *path)
                    || sources.absent.iter().any(|absent| **absent == *path)
            })
            .map(|(file, _)| &**file)
            .collect()
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
        let loaded = Loader {
            env: LoadEnv {
                workspace: &self.workspace,
                files: &self.files,
                dirs: &mut self.dirs,
                memory: &mut self.memory,
                evaluator,
                search,
                is_built: &|label| self.built.contains(label),
            },
            given,
        }
        .load();
        self.changed |= loaded.as_ref().map_or(true, |loaded| loaded.evaluated > 0);
        Ok(loaded?)
    }

    /// Links targets into a graph.
    ///
    /// # Errors
    /// The first mistake in it.
    pub fn graph(&self, loaded: &mut Loaded) -> Result<Arc<Graph>, BuildError> {
        let targets = std::mem::take(&mut loaded.targets);
        Ok(Arc::new(Graph::new(
            targets,
            &text_in(&self.workspace.root),
        )?))
    }

    /// Plans `wanted`: targets with everything they need, dependencies first.
    ///
    /// # Errors
    /// When a source is missing.
    pub fn plan(
        &mut self,
        graph: &Arc<Graph>,
        wanted: &[NodeId],
        describer: &Describer,
        force: bool,
    ) -> Result<Plan, BuildError> {
        self.forget_vanished(graph);
        let planner = Planner {
            graph: Arc::clone(graph),
            files: &self.files,
            dirs: &mut self.dirs,
            describer,
            records: &self.records,
            text_of: &text_in(&self.workspace.root),
            force,
        };
        Ok(planner.plan(wanted)?)
    }

    /// Takes away what targets left that the build files do not have any more.
    fn forget_vanished(&mut self, graph: &Graph) {
        let vanished = |label: &Label| !graph.contains(label);
        let gone: Vec<Label> = self
            .records
            .keys()
            .filter(|l| vanished(l))
            .cloned()
            .collect();
        if gone.is_empty() {
            return;
        }
        let ledger = Arc::clone(self.ledger());
        let records = Arc::make_mut(&mut self.records);
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
            remove(&self.files, &ledger, stale, label.dir());
        }
        self.changed = true;
    }

    /// Carries a plan out. Blocks until it is done; `cancel` ends it sooner.
    ///
    /// # Errors
    /// When it cannot begin. Failed steps are no error: they are in the result.
    pub fn build(
        &mut self,
        plan: Plan,
        describer: Arc<Describer>,
        options: &BuildOptions,
        services: &Services,
        cancel: &Cancel,
        events: Sender<Stamped>,
    ) -> Result<BuildResult, BuildError> {
        adopt_orphans();
        // Whatever lies there was left by a process that is gone: the lock is ours.
        sweep(&self.layout.scratch).map_err(|source| BuildError::Io {
            action: format!("empty {}", self.layout.scratch.display()),
            source,
        })?;
        let store = services.store()?.clone();
        let system = services.system().map_err(ServiceError::from)?;
        let claims = self.claims(&plan);
        let remote = options
            .remote
            .as_ref()
            .map(|server| Remote::attach(&store, server, system.tokio()).map(Arc::new));
        let remote = remote.transpose()?;
        let PoolSize { max, idle, .. } = options.pool;
        let workers = Workers::new(max, idle, system.tokio());
        // A step tells that it began and that it ended.
        let mailbox = 2 * plan.nodes.len() + 16;
        let spec = Arc::new(BuildSpec {
            plan: Arc::new(plan),
            env: Arc::new(StepEnv {
                files: Arc::clone(&self.files),
                describer,
                store,
                scratches: Scratches::new(self.layout.scratch.clone()),
                keep_scratch: options.keep_scratch,
                force: options.force,
                repeat: options.repeat,
                remote: remote.clone(),
                sandbox: options.sandbox,
                cancel: cancel.clone(),
                seats: Seats::new(options.jobs),
                ledger: Arc::clone(self.ledger()),
                claims,
                reasons: Arc::clone(self.reasons()),
                // They compute all the time: more than there are CPUs would only take turns.
                transpilers: services
                    .transpilers(|system| {
                        TranspilerPool::new(system, options.pool.at_most(system.workers()))
                    })
                    .map_err(ServiceError::from)?
                    .clone(),
                workers: Arc::clone(&workers),
                writers: system.workers(),
            }),
            records: Arc::clone(&self.records),
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
            remote.finish();
        }
        let records = Arc::make_mut(&mut self.records);
        for (label, record) in &result.records {
            records.insert(label.clone(), record.clone());
        }
        self.changed = true;
        if !result.runs.is_empty() {
            let graph = &spec.plan.graph;
            let mut reasons = self.reasons.take().unwrap_or_default();
            // The steps of this build have ended, so that this is the only owner, or copies once.
            Arc::make_mut(&mut reasons)
                .merge(result.runs.iter().cloned(), |label| graph.contains(label));
            if let Err(error) = reasons.save(&self.layout.reasons) {
                tracing::warn!("`zako why` will not know about this build: {error}");
            }
            drop(self.reasons.set(reasons));
        }
        Ok(result)
    }

    /// Outputs of fresh targets belong to them in this build.
    fn claims(&self, plan: &Plan) -> Claims {
        let claims = Claims::default();
        for node in &plan.nodes {
            let target = plan.graph.target(node.id);
            if let super::plan::Freshness::Fresh(outputs) = &node.state
                && target.work != Work::Group
            {
                let label = &plan.graph.target(node.id).label;
                // Fresh targets have built side by side before, so they do not clash.
                drop(claims.claim(label, outputs.iter().map(|item| &*item.path)));
            }
        }
        claims
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
            &self.files,
            self.ledger(),
            paths.iter().rev().map(|path| &**path),
            "",
        );
        *Arc::make_mut(&mut self.records) = FxHashMap::default();
        self.changed = true;
        self.save()?;
        Ok(paths.len())
    }

    /// Writes the state, when there is news.
    ///
    /// # Errors
    /// When the disk refuses; the old state stays.
    pub fn save(&mut self) -> Result<(), BuildError> {
        if !(self.changed || self.files.is_changed() || self.dirs.is_changed()) {
            return Ok(());
        }
        let state = State {
            files: self.files.save(),
            dirs: self.dirs.save(),
            memory: std::mem::take(&mut self.memory),
            records: std::mem::take(Arc::make_mut(&mut self.records)),
        };
        let saved = self.ledger.get().map_or(Ok(()), |ledger| ledger.save());
        let saved = saved.and_then(|()| state.save(&self.layout.state));
        self.memory = state.memory;
        self.records = Arc::new(state.records);
        self.changed = false;
        saved.map_err(|source| BuildError::Io {
            action: format!("write {}", self.layout.state.display()),
            source,
        })
    }
}

fn text_in(root: &Path) -> impl Fn(&str) -> String {
    let root = root.to_owned();
    move |path| std::fs::read_to_string(root.join(path)).unwrap_or_default()
}
