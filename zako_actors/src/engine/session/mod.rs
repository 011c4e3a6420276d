//! One command's work in one workspace, from the lock to the saved state.
//!
//! Owns the order of things: lock, state, build files, graph, plan, build, state. Does not know
//! flags, nor how anything is shown.
//! Invariants: state is read and written under the lock only; whatever happens between, the state
//! that is saved describes what is on disk; a no-op starts no engine, and of threads only those that
//! look at files.

mod clean;
mod concern;
mod kept;
mod leftovers;
mod locked;
mod reads;
mod running;
mod targets;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use cas_actor::UpstreamConfig;
use rustc_hash::FxHashSet;

use super::action::{Describer, Tool};
use super::affected::Origins;
use super::analyse::{Reading, reading};
use super::cause::{Cause, changed_parts};
use super::earlier::Earlier;
use super::edits::Edits;
use super::gates::{Gates, Item};
use super::graph::{Graph, NodeId};
use super::ledger::Ledger;
use super::load::{Described, LoadError};
use super::plan::{Plan, Planner};
use super::reasons::Reasons;
use super::record::Record;
use super::removal::{is_persons, ours, remove};
use super::sandbox::Mode;
use super::schedule::Capacity;
use super::services::ServiceError;
use super::since::tracked;
use super::workspace::{Layout, Workspace, WorkspaceError, WorkspaceLock};
pub use clean::Cleaned;
pub use concern::Concern;
pub use kept::Kept;
use leftovers::{Leftovers, Persons};
use reads::may_read;
pub use running::Running;

use crate::diagnostic::Diagnostic;
use crate::isolate::FileKind;
use crate::lang::label::Label;
use crate::lang::target::Target;
use crate::lang::text::Text;
use crate::machine::PoolSize;
use crate::texts::read_text;

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
    /// Replace files that zako did not write where outputs go.
    pub overwrite: bool,
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
    /// Whether this command only looks: it leaves all outputs where they are.
    pub only_looks: bool,
    /// Packages from elsewhere that could not be brought, with what is wrong.
    pub missing: Vec<(String, Diagnostic)>,
    known: Kept,
    /// What build files say, once they were looked at.
    described: Option<Described>,
    /// Targets whose rules may read outputs of others.
    read: FxHashSet<(Label, Label)>,
    /// Targets with a mistake.
    mistaken: FxHashSet<Label>,
    leftovers: Leftovers,
    /// What was taken for zako's own since somebody asked.
    passed_over: RefCell<BTreeSet<Box<str>>>,
    /// Whether it was said that git does not tell what it knows.
    is_warned: Cell<bool>,
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
    /// Targets and rules wait for each other.
    #[error("{}", .0.message)]
    Mistake(Box<Diagnostic>),
    /// Targets that do not go together, or whose rules have a mistake.
    #[error("there are mistakes in targets")]
    Targets(Vec<Diagnostic>),
    /// Sources are missing.
    #[error("there are mistakes in sources")]
    Sources(Vec<Diagnostic>),
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
        if let Some(kept) = &kept {
            kept.session_begins();
        }
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
        ledger(&self.known.ledger, &self.layout)
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
        let changed = last.map_or(Vec::new(), |last| changed_parts(&last.parts, &parts));
        self.known.locks.explain(target.label.dir(), changed)
    }

    /// What is remembered of a target.
    pub fn record(&self, label: &Label) -> Option<&Record> {
        self.known.records.get(label).map(Arc::as_ref)
    }

    /// What the targets are described by.
    pub fn origins(&self) -> Origins<'_> {
        Origins {
            memory: &self.known.memory,
            uses: self
                .described
                .as_ref()
                .map_or(&[], |described| &*described.uses),
        }
    }

    /// The files that were evaluated, with their kinds: a build file is one whatever its name is.
    pub fn scripts(&self) -> BTreeMap<&str, FileKind> {
        let memory = &self.known.memory;
        let builds = memory.files.values().map(|known| &known.sources);
        let system = memory.system.values().map(|known| &known.sources);
        let sources = builds.chain(system).chain(memory.rules.values());
        let modules = sources.flat_map(|sources| &sources.modules);
        let mut kinds: BTreeMap<_, _> = modules
            .map(|(path, _)| (&**path, FileKind::of(path)))
            .collect();
        for path in memory.files.keys() {
            let kind = kinds.entry(path).or_insert(FileKind::Build);
            if *kind != FileKind::Package {
                *kind = FileKind::Build;
            }
        }
        kinds
    }

    /// Files of the workspace were changed since this session was opened.
    pub fn look_anew(&mut self) {
        self.known.files.look_anew();
        self.known.dirs.look_anew();
        self.described = None;
    }

    /// Forgets what the build files at these paths said.
    pub fn forget_read<'p>(&mut self, paths: impl Iterator<Item = &'p str>) {
        for path in paths {
            self.changed |= self.known.memory.files.remove(path).is_some();
        }
        self.described = None;
    }

    /// Plans `wanted`: targets with everything they need, dependencies first.
    ///
    /// # Errors
    /// The mistakes of these targets.
    pub fn plan(
        &mut self,
        graph: &Arc<Graph>,
        wanted: &[NodeId],
        describer: &Arc<Describer>,
        force: bool,
    ) -> Result<Arc<Plan>, BuildError> {
        let items: Vec<Item> = wanted.iter().copied().map(Item::Target).collect();
        self.refuse_mistaken(graph, wanted.to_vec())?;
        let gated = (items.as_slice(), &Gates::default());
        let has_undescribed = self.forget_vanished(graph, &[], None);
        self.plan_items(graph, gated, (describer, force), None, has_undescribed)
    }

    /// Plans what is `asked` for and everything that it needs, as far as rules, of which `readings` rest on outputs,
    /// have said what that is; goes on with the plan of a build that is `running`.
    ///
    /// # Errors
    /// The mistakes of these targets, unless they are [left out](Self::leave_out); also where targets and rules wait for each
    /// other.
    pub fn unfold(
        &mut self,
        graph: &Arc<Graph>,
        asked: Vec<NodeId>,
        readings: &[Reading],
        describing: (&Arc<Describer>, bool),
        running: Option<&Running>,
    ) -> Result<Arc<Plan>, BuildError> {
        let gates = Gates::new(graph, readings);
        if graph.mistakes().next().is_some() {
            self.refuse_mistaken(graph, graph.with_deps(asked.clone()))?;
        }
        let mistaken = |label: &Label| self.mistaken.contains(label);
        let items = gates.order(graph, asked, &mistaken, &text_in(&self.workspace.root))?;
        let targets = items.iter().filter_map(|item| match item {
            Item::Target(id) => Some(*id),
            Item::Gate(_) => None,
        });
        self.refuse_mistaken(graph, targets)?;
        let has_undescribed = self.forget_vanished(graph, readings, running);
        self.plan_items(
            graph,
            (&items, &gates),
            describing,
            running,
            has_undescribed,
        )
    }

    fn plan_items(
        &mut self,
        graph: &Arc<Graph>,
        (items, gates): (&[Item], &Gates),
        (describer, force): (&Arc<Describer>, bool),
        running: Option<&Running>,
        has_undescribed: bool,
    ) -> Result<Arc<Plan>, BuildError> {
        if running.is_none() {
            self.replaced.extend(self.known.planned.take());
        }
        let earlier = self.replaced.last().filter(|_| running.is_none());
        let earlier = earlier.and_then(|it| it.asked(graph, describer));
        let begun = running.map_or(&[][..], Running::nodes);
        // Results beside their sources are not declared: what nothing there becomes any more may be a person's.
        let persons = OnceCell::new();
        let (root, files) = (&self.workspace.root, &self.known.files);
        let is_persons = |ledger: &Ledger, path: &str| {
            let tracked = || tracked(root).unwrap_or_default();
            let named: &Persons<'_> =
                persons.get_or_init(|| Persons::new(graph.targets(), tracked()));
            is_persons(files, ledger, path) || named.has(path)
        };
        let outputs = graph.outputs();
        let is_zakos = |path: &str| {
            let ledger = ledger(&self.known.ledger, &self.layout);
            ledger.contains(path)
                && (has_undescribed
                    || outputs.may_still_cover(root, path)
                    || !is_persons(ledger, path))
        };
        let planner = Planner {
            graph: Arc::clone(graph),
            files: &self.known.files,
            dirs: &mut self.known.dirs,
            describer,
            records: &self.known.records,
            text_of: &text_in(&self.workspace.root),
            force,
            earlier: earlier.as_ref(),
            begun,
            may_read: &|target, writer| may_read(&self.read, target, writer),
            written: &self.written,
            undescribed: &|path| (has_undescribed || outputs.has_others()) && is_zakos(path),
            mistaken: &self.mistaken,
        };
        let plan = planner.plan(items, gates).map_err(BuildError::Sources)?;
        let plan = Arc::new(plan);
        if running.is_none() {
            self.known.planned = Some(Earlier::new(Arc::clone(&plan), Arc::clone(describer)));
        }
        Ok(plan)
    }

    /// Refuses what has a mistake and is not left out.
    fn refuse_mistaken(
        &self,
        graph: &Graph,
        ids: impl IntoIterator<Item = NodeId>,
    ) -> Result<(), BuildError> {
        if graph.mistakes().next().is_none() {
            return Ok(());
        }
        let ids = ids.into_iter();
        let ids = ids.filter(|id| !self.mistaken.contains(&graph.target(*id).label));
        let mistakes: Vec<Diagnostic> = ids.flat_map(|id| graph.mistakes_of(id)).cloned().collect();
        match mistakes.is_empty() {
            true => Ok(()),
            false => Err(BuildError::Targets(mistakes)),
        }
    }

    /// Takes away what targets left that the build files do not have any more. Tells whether there may be outputs of
    /// others that nobody describes: their rules may do so once they have read.
    fn forget_vanished(
        &mut self,
        graph: &Graph,
        readings: &[Reading],
        running: Option<&Running>,
    ) -> bool {
        let unfinished = reading::unfinished(readings);
        let is_left = |label: &Label| {
            self.only_looks
                || graph.is_unreadable(label)
                || reading::owner(&unfinished, label).is_some()
        };
        let is_all_known = unfinished.is_empty() && graph.broken().next().is_none();
        let records = self.known.records.iter();
        let vanished = records.filter(|(label, _)| !graph.contains(label));
        let (left, gone): (Vec<_>, Vec<_>) = vanished.partition(|(label, _)| is_left(label));
        let has_undescribed = !is_all_known || !left.is_empty() || !self.leftovers().is_empty();
        let gone: Vec<Label> = gone.into_iter().map(|(label, _)| label.clone()).collect();
        if !self.only_looks && is_all_known {
            self.remove_undescribed(graph, running);
        }
        if gone.is_empty() {
            return has_undescribed;
        }
        let Some(persons) = self.persons(graph.targets()) else {
            // They are asked for again the next time.
            return true;
        };
        let ledger = Arc::clone(self.ledger());
        let records = Arc::make_mut(&mut self.known.records);
        let left: Vec<(Label, Arc<Record>)> = gone
            .into_iter()
            .filter_map(|label| records.remove_entry(&label))
            .collect();
        let others: FxHashSet<&str> = records
            .values()
            .flat_map(|r| r.outputs.iter())
            .map(|item| &*item.path)
            .collect();
        let mut covered: Vec<Text> = Vec::new();
        for (label, record) in &left {
            let stale = record.outputs.iter().map(|item| &item.path);
            let stale = stale.filter(|path| !others.contains(&***path));
            let (may_be_others, stale): (Vec<_>, Vec<_>) =
                stale.partition(|path| graph.outputs().may_cover(path));
            covered.extend(may_be_others.into_iter().cloned());
            let stale = stale.into_iter().map(|path| &**path);
            let stale = ours(&self.known.files, &ledger, |path| persons.has(path), stale);
            let remove = |stale: &mut dyn Iterator<Item = &str>| {
                remove(&self.known.files, &ledger, stale, label.dir());
            };
            match running {
                Some(running) => running.claims().unclaimed(None, stale, remove),
                None => remove(&mut { stale }),
            }
        }
        self.add_left(covered);
        // What was listed before may be gone.
        self.known.dirs.look_anew();
        self.changed = true;
        has_undescribed
    }
}

/// Read when it is needed: a no-op does not.
fn ledger<'a>(ledger: &'a OnceCell<Arc<Ledger>>, layout: &Layout) -> &'a Arc<Ledger> {
    ledger.get_or_init(|| Arc::new(Ledger::load(&layout.outputs)))
}

fn text_in(root: &Path) -> impl Fn(&str) -> String {
    let root = root.to_owned();
    move |path| read_text(&root.join(path)).unwrap_or_default()
}
