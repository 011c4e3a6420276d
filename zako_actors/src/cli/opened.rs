//! An opened workspace: what every command that looks at targets begins with, and ends with.
//!
//! Owns the order workspace, options, session, build files, graph; and the words for what kept one
//! of them from being used. Does not know what the targets are wanted for.
//! Invariants: what was learnt is saved, whatever came of the command; a command that only looks
//! starts no engine when no build file changed.

use std::sync::Arc;

use super::args::{BuildArgs, Global};
use super::live::{self, Live};
use super::options::{Options, directory, search_path};
use super::written::files_to_write;
use super::{Failure, say};
use crate::diagnostic::Diagnostic;
use crate::engine::action::{Describer, Outer};
use crate::engine::analyse::{Reading, reading};
use crate::engine::cancel::Cancel;
use crate::engine::evaluate::Isolates;
use crate::engine::event::Event;
use crate::engine::graph::{Graph, SelectError};
use crate::engine::load::LoadError;
use crate::engine::members::{Script, script_of};
use crate::engine::packages::{Bringer, LockPolicy};
use crate::engine::plan::Planned;
use crate::engine::services::Services;
use crate::engine::session::{BuildError, Kept, Notice, Session};
use crate::engine::umask;
use crate::engine::workspace::{Workspace, WorkspaceError};
use crate::heap;
use crate::isolate::keep_snapshot_in;
use crate::lang::label::{Label, LabelPattern};
use crate::lang::packages::Packages;
use crate::lang::scripts::target_name;
use crate::transpile::TRANSPILER_VERSION;

/// A workspace in use by this command.
pub struct Opened {
    /// Settled settings.
    pub options: Options,
    /// Its memory, locked.
    pub session: Session,
    /// Threads and store, once they are needed.
    pub services: Services,
    /// The current directory as labels write it.
    here: String,
    verbose: bool,
    /// What may become of the lock file; nothing once all packages are there.
    lock: Option<LockPolicy>,
}

/// What the build files say.
#[derive(Clone)]
pub struct Targets {
    /// Every target.
    pub graph: Arc<Graph>,
    /// Describes their actions.
    pub describer: Arc<Describer>,
    /// What reading the build files took of isolates.
    pub scripts: Option<Event>,
    /// Rules whose answers rest on outputs: what they say may be incomplete, or change.
    pub readings: Arc<[Reading]>,
    /// What stands for build files that an earlier command stopped at a limit.
    pub stopped: Arc<[Label]>,
}

impl Targets {
    /// `patterns` with, for what a rule has yet to describe, the target that it describes.
    pub fn as_far_as_described(&self, mut patterns: Vec<LabelPattern>) -> Vec<LabelPattern> {
        let unfinished = reading::unfinished(&self.readings);
        for pattern in &mut patterns {
            if let LabelPattern::One(label) = pattern
                && !self.graph.contains(label)
                && let Some(owner) = reading::owner(&unfinished, label)
            {
                *pattern = LabelPattern::One(owner);
            }
        }
        patterns
    }
}

impl Opened {
    /// Finds and locks the workspace.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub fn open(global: &Global, build: Option<&BuildArgs>) -> Result<Self, Failure> {
        Self::open_again(global, build, None)
    }

    /// Like [`open`](Self::open), after this process has had the workspace open before.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub fn open_again(
        global: &Global,
        build: Option<&BuildArgs>,
        kept: Option<Kept>,
    ) -> Result<Self, Failure> {
        heap::settle();
        umask::settle();
        let dir = directory(global);
        let workspace = Workspace::find(&dir).map_err(workspace_failure)?;
        let options = Options::settle(global, build, &workspace)?;
        let here = workspace.relative(&dir).unwrap_or_default();
        let mut session = Session::open(workspace, options.cache.as_deref(), kept, &mut notice)
            .map_err(|error| failure(&error))?;
        let root = &session.workspace.root;
        let written = build.map_or(Vec::new(), |build| files_to_write(&build.steps));
        let written = written
            .iter()
            .filter_map(|path| path.strip_prefix(root).ok()?.to_str());
        session.written = written.map(str::to_owned).collect();
        Ok(Self {
            services: Services::new(session.layout.store.clone()),
            options,
            session,
            here,
            verbose: global.verbose,
            lock: Some(LockPolicy {
                locked: global.locked,
                update: build.and_then(|build| build.update_lock.clone()),
            }),
        })
    }

    /// Opens the workspace for a command that only looks; what it learnt is saved, whatever came of it.
    ///
    /// # Errors
    /// When there is no workspace, and whatever `command` says.
    pub fn look<T>(
        global: &Global,
        command: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut opened = Self::open(global, None)?;
        opened.session.only_looks = true;
        let outcome = command(&mut opened);
        opened.close();
        outcome
    }

    /// Reads the build files and links their targets. A mistake of some of these is for whoever wants them.
    ///
    /// # Errors
    /// The mistakes that nothing can be known beside.
    pub fn load(&mut self) -> Result<Targets, Failure> {
        self.load_until(None)
    }

    /// The same, until `cancel` is cancelled.
    ///
    /// # Errors
    /// As there.
    pub fn load_until(&mut self, cancel: Option<&Cancel>) -> Result<Targets, Failure> {
        let _line = Live::begin("reading build files");
        self.bring_packages()?;
        self.load_beside(&[], cancel)
    }

    /// Like [`load`](Self::load), for whoever wants to know all targets.
    ///
    /// # Errors
    /// All mistakes.
    pub fn load_whole(&mut self) -> Result<Targets, Failure> {
        let targets = self.load()?;
        let mistakes = targets.graph.mistakes();
        let mistakes: Vec<Diagnostic> = mistakes.map(|(_, it)| it.clone()).collect();
        match mistakes.is_empty() {
            true => Ok(targets),
            false => Err(Failure::mistakes(&mistakes)),
        }
    }

    /// Like [`load_until`](Self::load_until), beside what is `planned` already.
    ///
    /// # Errors
    /// The mistakes that nothing can be known beside.
    pub fn load_beside(
        &mut self,
        planned: &[Planned],
        cancel: Option<&Cancel>,
    ) -> Result<Targets, Failure> {
        let root = self.session.workspace.root.clone();
        if let Some(dir) = self.session.layout.state.parent() {
            keep_snapshot_in(dir);
        }
        let Options {
            evaluation, pool, ..
        } = self.options;
        let mut isolates = Isolates::new(&self.services, root, evaluation, pool);
        let tell = |done, all| live::tell(|| format!("reading build files: {done} of {all}"));
        isolates.on_progress(&tell);
        if let Some(cancel) = cancel {
            isolates = isolates.until(cancel.token());
        }
        let search = search_path(&self.session.workspace.manifest.settings);
        let given = &self.options.given;
        let found = self.session.targets(&mut isolates, given, &search, planned);
        // What failed may have told why before.
        isolates.told().iter().for_each(|line| say(line));
        let (mut loaded, graph) = found.map_err(|error| failure(&error))?;
        let scripts = isolates.figures();
        if loaded.readings.is_empty() {
            // Nobody has more to say while steps run.
            isolates.rest();
        }
        if self.verbose {
            say(&format!(
                "{} build files, {} evaluated",
                loaded.files, loaded.evaluated
            ));
        }
        let env = std::mem::take(&mut loaded.env);
        let settings = &self.session.workspace.manifest.settings;
        let describer =
            Describer::new(search, env, TRANSPILER_VERSION.to_owned()).with_outer(Outer {
                // A variable that is not UTF-8 cannot be named.
                variables: std::env::vars_os()
                    .filter_map(|(name, value)| {
                        Some((name.into_string().ok()?, value.into_string().ok()?))
                    })
                    .collect(),
                tracked: settings.pass_env.clone(),
                untracked: settings.untracked_env.clone(),
            });
        let describer = Arc::new(describer);
        let stopped = loaded.flaws.broken.iter().filter(|it| it.was_stopped);
        let stopped = stopped.map(|it| it.target.label.clone());
        Ok(Targets {
            graph,
            describer,
            scripts,
            readings: loaded.readings.into(),
            stopped: stopped.collect(),
        })
    }

    /// Has packages from elsewhere lie where their build files are looked for, as far as that can be done.
    fn bring_packages(&mut self) -> Result<(), Failure> {
        let Some(policy) = self.lock.take() else {
            return Ok(());
        };
        let bringer = Bringer {
            workspace: &self.session.workspace,
            services: &self.services,
            policy: &policy,
            tell: &say,
        };
        let brought = bringer
            .bring()
            .map_err(|mistakes| failure(&BuildError::Load(LoadError::Mistakes(mistakes))))?;
        self.session.missing = brought.missing;
        if brought.changed {
            self.session.look_anew();
        }
        Ok(())
    }

    /// What `labels` mean here; everything when there are none.
    ///
    /// # Errors
    /// When one of them is no label.
    pub fn patterns(&self, labels: &[String]) -> Result<Vec<LabelPattern>, Failure> {
        if labels.is_empty() {
            return Ok(vec![LabelPattern::everything()]);
        }
        let packages = self.packages();
        let patterns = labels.iter();
        let patterns = patterns.map(|text| packages.pattern(text, &self.here));
        patterns.collect::<Result<_, _>>().map_err(Failure::usage)
    }

    /// The packages that labels may name.
    pub fn packages(&self) -> Packages {
        Packages::new(&self.session.workspace.manifest.dependencies)
    }

    /// What is said of labels that select nothing.
    pub fn unselected(&self, error: &SelectError) -> Failure {
        let asked = match error {
            SelectError::Unknown { label, .. } => Label::parse(label, "").ok(),
            SelectError::NoMatch { .. } => None,
        };
        let root = &self.session.workspace.root;
        let script = asked.and_then(|label| script_of(root, &label));
        match script.filter(|script| script.runs_others) {
            Some(Script {
                file, name, line, ..
            }) => Failure::usage(format!(
                "the script `{name}` of {file} is no target: `{line}` runs scripts that are targets themselves; \
                 `zako build //...:{0}` runs all of that name, `zako build` and `zako test` what is built and tested",
                target_name(&name)
            )),
            None => Failure::usage(error),
        }
    }

    /// The current directory as labels write it.
    pub fn here(&self) -> &str {
        &self.here
    }

    /// Saves what was learnt and ends what was started. The process ends soon.
    pub fn close(mut self) {
        self.save();
        // Giving back a large graph piece by piece would be a good part of a no-op. The lock goes
        // with the process.
        std::mem::forget(self.session);
        self.services.end();
    }

    /// Saves what was learnt, ends what was started and gives the lock back: the process goes on, and may
    /// open the workspace again.
    pub fn give_back(mut self) -> Option<Kept> {
        self.save();
        let kept = self.session.leave();
        self.services.end();
        kept
    }

    fn save(&mut self) {
        // A state that cannot be written costs time, not correctness.
        if let Err(error) = self.session.save() {
            say(&format!(
                "warning: {error}; the next build will check everything again"
            ));
        }
    }
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
        WorkspaceError::Io {
            action: "enter", ..
        } => Failure::usage(error),
        WorkspaceError::Io { .. } => Failure::work(error),
    }
}

/// Words and status for what kept a build from running.
pub fn failure(error: &BuildError) -> Failure {
    match error {
        BuildError::Workspace(WorkspaceError::Manifest(mistake)) => {
            Failure::rendered(mistake.to_string())
        }
        BuildError::Mistake(mistake) => Failure::mistakes(std::slice::from_ref(mistake)),
        BuildError::Load(LoadError::Mistakes(mistakes)) | BuildError::Sources(mistakes) => {
            Failure::mistakes(mistakes)
        }
        BuildError::Targets(mistakes) => Failure {
            is_of_targets: true,
            ..Failure::mistakes(mistakes)
        },
        BuildError::Select(_) | BuildError::Remote(_) => Failure::usage(error),
        _ => Failure::work(error),
    }
}
