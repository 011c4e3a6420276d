//! `zako watch`: build, and again whenever a file changes.
//!
//! Owns the watching of directories, what counts as a change, and the rounds. Does not know how a
//! build is carried out: each round leaves everything on disk, so that a killed watch has nothing to
//! lose, and others may build between two rounds; only when nobody did, the next one goes on in memory.
//! Invariants: a change that happens during a build gives up the steps that read what changed, and is looked at after it; what zako writes itself
//! starts nothing, nor what a script left where its outputs go, however it ended; a burst of changes is one round.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use actor_rt::System;
use notify::event::ModifyKind;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use rustc_hash::FxHashSet;

use super::args::{BuildArgs, Global, WatchArgs};
use super::build::{Wanted, round};
use super::interrupt::cancel_on_signals;
use super::opened::{files_to_write, workspace_failure};
use super::options::{Options, directory};
use super::{Exit, Failure, print_line, say};
use crate::engine::cancel::Cancel;
use crate::engine::edits::{Edits, UNWATCHED, is_unwatched};
use crate::engine::ledger::Ledger;
use crate::engine::outputs::is_unfinished;
use crate::engine::session::Kept;
use crate::engine::workspace::{Layout, Workspace};

/// A burst is over when nothing happened for this long. An editor writes a file in one or two
/// steps, a checkout of a branch writes without a pause.
const QUIET: Duration = Duration::from_millis(8);
/// A burst that does not end is cut here.
const LONGEST: Duration = Duration::from_millis(200);

/// What wakes the watch.
enum News {
    Changed(notify::Result<notify::Event>),
    Stop,
}

/// Watches until a signal comes.
pub fn run(global: &Global, args: &WatchArgs) -> Result<Exit, Failure> {
    let workspace = Workspace::find(&directory(global)).map_err(workspace_failure)?;
    let options = Options::settle(global, None, &workspace)?;
    let layout = Layout::new(&workspace.root, options.cache.as_deref());
    let system = System::builder()
        .name("zako-watch")
        .workers(1)
        .pin(false)
        .build()
        .map_err(Failure::work)?;
    let cancel = Cancel::new().map_err(Failure::work)?;
    cancel_on_signals(&system, &cancel);
    let (news, stream) = channel();
    let stop = news.clone();
    // Nobody listens any more once the watch has ended.
    let _stop = cancel
        .token()
        .on_cancel(move || drop(stop.send(News::Stop)));
    let edits = Arc::new(Edits::default());
    let written = files_to_write(&args.steps);
    let mut watch = Watch::new(workspace.root, layout, (&news, &edits, written), stream)?;
    watch.cache = options.cache.map(|cache| {
        // Only what is there has a path without links. The first round would make it.
        let made = fs::create_dir_all(&cache).and_then(|()| fs::canonicalize(&cache));
        made.unwrap_or(cache)
    });
    watch.add(&watch.root.clone());
    let mut build = BuildArgs {
        labels: args.labels.clone(),
        steps: args.steps.clone(),
        ..BuildArgs::default()
    };
    build.steps.keep_going = true;
    if let Some(events) = &args.steps.events {
        // The rounds add to it.
        fs::write(events, "").map_err(|error| {
            let events = events.display();
            Failure::usage(format!("cannot write events to {events}: {error}"))
        })?;
    }
    let wanted = if args.tests {
        Wanted::Everything
    } else {
        Wanted::Targets
    };
    let mut kept = None;
    loop {
        match round(global, &build, wanted, (&cancel, &edits), &mut kept) {
            Ok((Exit::Interrupted, _)) => return Ok(Exit::Interrupted),
            // A mistake in a build file is mended while we watch; what was to be forced still is.
            Ok((_, is_whole)) => build.steps.force &= !is_whole,
            Err(failure) => say(&failure.text),
        }
        print_line(&format!("watching {} directories", watch.dirs.len()))?;
        match watch.wait(&mut kept) {
            Some(changed) => say(&changed),
            None => return Ok(Exit::Done),
        }
    }
}

struct Watch {
    root: PathBuf,
    layout: Layout,
    /// Nothing in there is anybody's but zako's.
    cache: Option<PathBuf>,
    /// Files that the rounds were told to write.
    written: Vec<PathBuf>,
    /// Knows what scripts left.
    edits: Arc<Edits>,
    watcher: RecommendedWatcher,
    stream: Receiver<News>,
    dirs: BTreeSet<PathBuf>,
    complained: bool,
}

impl Watch {
    fn new(
        root: PathBuf,
        layout: Layout,
        (news, edits, written): (&Sender<News>, &Arc<Edits>, Vec<PathBuf>),
        stream: Receiver<News>,
    ) -> Result<Self, Failure> {
        let (news, edits, below) = (news.clone(), Arc::clone(edits), root.clone());
        let (own, known) = (written.clone(), Arc::clone(&edits));
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // At once: the main thread carries a round out.
            if let Ok(event) = &event
                && is_edit(event.kind)
            {
                let foreign = event.paths.iter().filter(|path| !own.contains(path));
                let relative = foreign.map(|path| path.strip_prefix(&below));
                relative
                    .flatten()
                    .for_each(|path| edits.edited(&below, path));
            }
            drop(news.send(News::Changed(event)));
        })
        .map_err(|error| Failure::work(format!("cannot watch files: {error}")))?;
        Ok(Self {
            root,
            layout,
            cache: None,
            written,
            edits: known,
            watcher,
            stream,
            dirs: BTreeSet::new(),
            complained: false,
        })
    }

    /// Watches `dir` and everything below it; one by one, because most of what lies below a
    /// workspace is installed packages.
    fn add(&mut self, dir: &Path) {
        let mut pending = vec![dir.to_owned()];
        while let Some(dir) = pending.pop() {
            if !self.dirs.contains(&dir) {
                if let Err(error) = self.watcher.watch(&dir, RecursiveMode::NonRecursive) {
                    self.complain(&dir, &error);
                    continue;
                }
                self.dirs.insert(dir.clone());
            }
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let unwatched = || UNWATCHED.iter().any(|name| entry.file_name() == *name);
                if is_dir && !unwatched() && !self.is_cache(&entry.path()) {
                    pending.push(entry.path());
                }
            }
        }
    }

    /// Whether `path` is the cache directory or in it. One that is the workspace itself is no cache to leave out.
    fn is_cache(&self, path: &Path) -> bool {
        let cache = self.cache.as_deref();
        cache.is_some_and(|cache| !self.root.starts_with(cache) && path.starts_with(cache))
    }

    fn complain(&mut self, dir: &Path, error: &notify::Error) {
        // A directory that is gone again is no news; a limit is, once.
        if dir.is_dir() && !std::mem::replace(&mut self.complained, true) {
            say(&format!(
                "warning: cannot watch {}: {error}; changes there are not noticed (see \
                 /proc/sys/fs/inotify/max_user_watches)",
                dir.display()
            ));
        }
    }

    /// Waits for a change and for the end of its burst; tells what changed. `None` is the end. Meanwhile what was `kept`
    /// looks at files.
    fn wait(&mut self, kept: &mut Option<Kept>) -> Option<String> {
        let ledger = Ledger::load(&self.layout.outputs);
        let mut changed = BTreeSet::new();
        // What happened after files began to be looked at.
        let mut since = FxHashSet::default();
        let mut begin: Option<Instant> = None;
        loop {
            let news = match begin {
                None => self
                    .stream
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
                Some(begin) if Instant::now() >= begin + LONGEST => Err(RecvTimeoutError::Timeout),
                Some(_) => self.stream.recv_timeout(QUIET),
            };
            match news {
                Ok(News::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(kept) = kept {
                        kept.changed(&since);
                    }
                    return Some(describe(&changed));
                }
                Ok(News::Changed(Err(error))) => {
                    say(&format!("warning: a change may have been missed: {error}"));
                    begin.get_or_insert_with(Instant::now);
                    since.insert("".into());
                }
                Ok(News::Changed(Ok(event))) => {
                    // The kernel forgot what it had to tell: everything may have changed.
                    let lost = event.need_rescan();
                    for path in self.concerned(&event, &ledger) {
                        changed.insert(path);
                    }
                    if begin.is_some() {
                        since.extend(self.named(&event));
                    } else if lost || !changed.is_empty() {
                        begin = Some(Instant::now());
                        if let Some(kept) = kept {
                            kept.begin(&self.layout, &self.watched());
                        }
                    }
                }
            }
        }
    }

    /// The watched directories, relative to the root.
    fn watched(&self) -> FxHashSet<&str> {
        let relative = self.dirs.iter().map(|dir| dir.strip_prefix(&self.root));
        relative.filter_map(|dir| dir.ok()?.to_str()).collect()
    }

    /// The workspace-relative paths of an event, whatever they are; that of the root when any may have changed.
    fn named(&self, event: &notify::Event) -> Vec<Box<str>> {
        if event.need_rescan() {
            return vec!["".into()];
        }
        if matches!(event.kind, EventKind::Access(_)) {
            return Vec::new();
        }
        let relative = event.paths.iter().map(|path| path.strip_prefix(&self.root));
        let relative = relative.filter_map(|path| path.ok()?.to_str());
        relative.map(Into::into).collect()
    }

    /// The workspace-relative paths of an event that may matter to a build.
    fn concerned(&mut self, event: &notify::Event, ledger: &Ledger) -> Vec<String> {
        if matches!(event.kind, EventKind::Access(_)) {
            return Vec::new();
        }
        let mut concerned = Vec::new();
        for path in &event.paths {
            let Some(relative) = path.strip_prefix(&self.root).ok().and_then(Path::to_str) else {
                continue;
            };
            if relative.is_empty() || is_unwatched(relative) || self.is_cache(path) {
                continue;
            }
            if path.is_dir() {
                // One that was removed and made again is another one, and no longer watched.
                if !matches!(event.kind, EventKind::Modify(ModifyKind::Metadata(_))) {
                    self.dirs.retain(|dir| !dir.starts_with(path));
                }
                self.add(&path.clone());
                // Its files tell for themselves, but those that were there before it was watched
                // do not.
                let holds_files = fs::read_dir(path).is_ok_and(|mut all| all.next().is_some());
                if !appears(event.kind) || !holds_files {
                    continue;
                }
            }
            let own = ledger.contains(relative)
                || is_unfinished(relative)
                || self.written.contains(path)
                || self.edits.is_as_left(&self.root, relative);
            if !own {
                concerned.push(relative.to_owned());
            }
        }
        concerned
    }
}

/// Whether what it is about may be new in its place: made there, or moved.
fn appears(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(_))
    )
}

/// Whether the content of what it is about may be another one.
fn is_edit(kind: EventKind) -> bool {
    match kind {
        EventKind::Modify(ModifyKind::Metadata(_)) => false,
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) => true,
        EventKind::Any | EventKind::Access(_) | EventKind::Other => false,
    }
}

fn describe(changed: &BTreeSet<String>) -> String {
    let mut names = changed.iter();
    match (names.next(), names.len()) {
        (None, _) => "something changed".to_owned(),
        (Some(name), 0) => format!("{name} changed"),
        (Some(name), more) => format!("{name} and {more} more changed"),
    }
}
