//! What a session leaves in memory for the next one of the same process, and on disk for all others.
//!
//! Owns saving, and the proof that what is in memory is what is on disk. Does not know what the parts
//! mean.
//! Invariants: what was kept is used under the lock only, and only while the root is the same directory
//! and the files on disk are the ones that the session which kept it left there; nothing is kept that is
//! not on disk.

use std::cell::{Cell, OnceCell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::concern::build_files;
use super::leftovers::Leftovers;
use super::{BuildError, Notice, Session};
use crate::engine::dirs::DirTable;
use crate::engine::earlier::Earlier;
use crate::engine::files::{FileTable, SavedFiles};
use crate::engine::graph::Graph;
use crate::engine::ledger::Ledger;
use crate::engine::locks::LockMemory;
use crate::engine::reasons::Reasons;
use crate::engine::record::Record;
use crate::engine::stamp::Stamp;
use crate::engine::state::{Memory, Remembered, State};
use crate::engine::workspace::{Layout, Workspace, WorkspaceLock};
use crate::lang::dependency::Dependency;
use crate::lang::label::Label;
use crate::lang::pattern::Pattern;
use crate::lang::rule_use::RuleUse;
use crate::lang::target::Target;
use crate::machine::cpus;

/// More threads that look at files hinder each other in the kernel.
const MAX_LOOKERS: usize = 4;

/// Everything that a session knows.
pub struct Kept {
    pub(super) files: Arc<FileTable>,
    pub(super) dirs: DirTable,
    pub(super) memory: Memory,
    pub(super) records: Arc<FxHashMap<Label, Arc<Record>>>,
    pub(super) ledger: OnceCell<Arc<Ledger>>,
    /// The stamp of the list of outputs when everything in it was some target's.
    pub(super) gone_through: Option<Stamp>,
    pub(super) reasons: OnceCell<Arc<Reasons>>,
    /// What lock files said.
    pub(super) locks: Arc<LockMemory>,
    /// The last graph, with the targets that it was made of.
    pub(super) linked: Option<(Vec<Arc<Target>>, Arc<Graph>)>,
    /// The last plan.
    pub(super) planned: Option<Earlier>,
    /// Uses of rules that the last session met.
    pub(super) uses: Vec<Arc<RuleUse>>,
    /// Which files it took for build files.
    pub(super) builds: Vec<Pattern>,
    /// The archives of the workspace that packages came from.
    pub(super) archives: Vec<String>,
    /// The files that all of it is in.
    on_disk: OnDisk,
    /// The lock, when files are being looked at for a session that is yet to begin.
    begun: Option<Begun>,
}

/// A lock that is held for a session that is yet to begin.
pub(super) struct Begun {
    /// The lock file.
    pub place: PathBuf,
    pub lock: WorkspaceLock,
}

/// Which state, reasons and ledger there are. A state says by its checksum what is in it; the others are
/// written before it, and never without it by a session that ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct OnDisk {
    state: Option<Vec<u8>>,
    others: [Option<Stamp>; 2],
}

impl OnDisk {
    fn look(layout: &Layout) -> Self {
        Self {
            state: State::identity(&layout.state),
            others: [stamp(&layout.reasons), stamp(&layout.outputs)],
        }
    }
}

/// The stamp of the file at `path`, when there is one.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    Some(Stamp::of(&std::fs::metadata(path).ok()?))
}

impl Session {
    /// A session of a workspace that is locked already. It goes on with what was `kept`, when that is
    /// still what is on disk.
    pub(super) fn start(
        workspace: Workspace,
        layout: Layout,
        lock: WorkspaceLock,
        (kept, is_begun): (Option<Kept>, bool),
        notify: &mut dyn FnMut(Notice),
    ) -> Self {
        let kept = kept.filter(|kept| {
            kept.files.is_at_root()
                && kept.on_disk.state.is_some()
                && kept.on_disk == OnDisk::look(&layout)
        });
        let (known, changed) = match kept {
            Some(mut kept) => {
                if !is_begun {
                    kept.files.look_at_all(1, |_| true);
                }
                kept.dirs.look_anew();
                (kept, false)
            }
            None => Kept::load(&workspace, &layout, notify),
        };
        Self {
            workspace,
            layout,
            written: Vec::new(),
            only_looks: false,
            missing: Vec::new(),
            known,
            described: None,
            read: FxHashSet::default(),
            mistaken: FxHashSet::default(),
            leftovers: Leftovers::default(),
            passed_over: RefCell::default(),
            is_warned: Cell::default(),
            changed,
            replaced: Vec::new(),
            _lock: lock,
        }
    }

    /// Writes the state, when there is news.
    ///
    /// # Errors
    /// When the disk refuses; the old state stays.
    pub fn save(&mut self) -> Result<(), BuildError> {
        let known = &mut self.known;
        self.changed |= self.leftovers.are_to_be_saved();
        if !(self.changed || known.files.is_changed() || known.dirs.is_changed()) {
            return Ok(());
        }
        let Layout {
            outputs,
            state: path,
            ..
        } = &self.layout;
        let saved = known.ledger.get().map_or(Ok(()), |ledger| ledger.save());
        match self.leftovers.are_gone() {
            Some(true) => known.gone_through = stamp(outputs),
            // Also where the list is the one that was gone through: a target that had them is gone.
            Some(false) => known.gone_through = None,
            None => {}
        }
        let state = State {
            files: known.files.save(),
            rest: Remembered {
                dirs: known.dirs.take(),
                memory: std::mem::take(&mut known.memory),
                records: std::mem::take(Arc::make_mut(&mut known.records)),
                gone_through: known.gone_through,
            },
        };
        let saved = saved.map_err(|source| (outputs, source));
        let saved = saved.and_then(|()| state.save(path).map_err(|source| (path, source)));
        known.dirs.put_back(state.rest.dirs);
        known.memory = state.rest.memory;
        known.records = Arc::new(state.rest.records);
        self.changed = saved.is_err();
        if saved.is_ok() {
            known.files.is_saved();
            known.dirs.is_saved();
        }
        saved.map_err(|(path, source)| BuildError::Io {
            action: format!("write {}", path.display()),
            source,
        })
    }

    /// Gives the lock back; what is known stays for the next session, unless it is not on disk.
    pub fn leave(mut self) -> Option<Kept> {
        if self.changed || self.known.files.is_changed() || self.known.dirs.is_changed() {
            return None;
        }
        self.known.on_disk = OnDisk::look(&self.layout);
        self.known.uses = self.described.map_or(Vec::new(), |it| it.uses);
        self.known.builds = build_files(&self.workspace, &self.known.memory);
        let dependencies = self.workspace.manifest.dependencies.values();
        let archives = dependencies.filter_map(Dependency::archive);
        self.known.archives = archives.collect();
        Some(self.known)
    }
}

impl Kept {
    /// Takes the lock for the next session, unless another process has it, and begins to look at files. Which of them
    /// change from now on has to be told, so only at those in `watched` directories, whose paths are relative to the root.
    pub fn begin(&mut self, layout: &Layout, watched: &FxHashSet<&str>) {
        if let Some(lock) = WorkspaceLock::try_acquire(layout) {
            self.begun = Some(Begun {
                place: layout.lock.clone(),
                lock,
            });
            // Whoever waits for the end of a burst leaves the CPUs alone. Tools are named by absolute paths, and what is
            // named through a linked directory changes by another name: neither is in a watched directory.
            let is_watched = |path: &str| {
                let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
                watched.contains(directory) && !path.starts_with('/')
            };
            self.files
                .look_at_all(cpus().clamp(1, MAX_LOOKERS), is_watched);
        }
    }

    /// Whether the last session looked at a file at `path`.
    pub fn knows(&self, path: &str) -> bool {
        self.files.knows(path)
    }

    /// What the session before took away is of no interest any more: what comes and goes there now is a person's.
    pub(super) fn session_begins(&self) {
        if let Some(ledger) = self.ledger.get() {
            ledger.forget_struck();
        }
    }

    /// Whether the last session took away what lay at `path`, where nothing lies now.
    pub fn took_away(&self, path: &str) -> bool {
        let is_struck = self.ledger.get().is_some_and(|it| it.has_struck(path));
        is_struck && std::fs::symlink_metadata(self.files.root().join(path)).is_err()
    }

    /// Gives the lock back that was taken for a session which is not to begin yet.
    pub fn rest(&mut self) {
        self.begun = None;
        self.files.look_anew();
    }

    /// Takes note that these files or directories of the workspace have changed since [`begin`](Self::begin).
    pub fn changed(&self, paths: &FxHashSet<Box<str>>) {
        self.files.changed(paths);
    }

    /// The lock that was taken for a session with this layout, if one was.
    pub(super) fn begun(&mut self, layout: &Layout) -> Option<WorkspaceLock> {
        let begun = self.begun.take()?;
        (begun.place == layout.lock).then_some(begun.lock)
    }

    /// What is on disk; the second is whether it has to be written again.
    fn load(
        workspace: &Workspace,
        layout: &Layout,
        notify: &mut dyn FnMut(Notice),
    ) -> (Self, bool) {
        let root = || workspace.root.clone();
        let files = |saved| {
            let files = FileTable::new(root(), saved);
            files.look_at_all(1, |_| true);
            files
        };
        let (files, rest, changed) = match State::load(&layout.state, files) {
            Ok((files, rest)) => (files, rest, false),
            Err(error) => {
                let path = layout.state.display();
                notify(Notice::StateLost(format!(
                    "{path} is not used: {error}; everything is checked again"
                )));
                let files = FileTable::new(root(), SavedFiles::default());
                (files, Remembered::default(), true)
            }
        };
        let known = Self {
            files: Arc::new(files),
            dirs: DirTable::new(root(), rest.dirs),
            memory: rest.memory,
            records: Arc::new(rest.records),
            ledger: OnceCell::new(),
            gone_through: rest.gone_through,
            reasons: OnceCell::new(),
            locks: Arc::new(LockMemory::new(layout.locks.clone())),
            linked: None,
            planned: None,
            uses: Vec::new(),
            builds: Vec::new(),
            archives: Vec::new(),
            on_disk: OnDisk::default(),
            begun: None,
        };
        (known, changed)
    }
}
