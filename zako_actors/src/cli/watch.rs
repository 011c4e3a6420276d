//! `zako watch`: build, and again whenever a file changes.
//!
//! Owns the watching of directories, what counts as a change, and the rounds. Does not know how a
//! build is carried out: each round leaves everything on disk, so that a killed watch has nothing to
//! lose, and others may build between two rounds; only when nobody did, the next one goes on in memory.
//! Invariants: a change that happens during a build gives up the steps that read what changed, and is looked at after it; what zako writes itself
//! starts nothing, nor what a script left where its outputs go, however it ended, nor what no build reads and commands or a program that git is told
//! to ignore the files of writes; a burst of changes is one round.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
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
use super::opened::workspace_failure;
use super::options::{Options, directory};
use super::written::{files_to_write, refuse_known};
use super::{Exit, Failure, print_line, say};
use crate::engine::cancel::Cancel;
use crate::engine::edits::{Edits, UNWATCHED, is_unwatched};
use crate::engine::ledger::Ledger;
use crate::engine::outputs::is_unfinished;
use crate::engine::rounds::Verdict;
use crate::engine::session::{Concern, Kept};
use crate::engine::since::ignored;
use crate::engine::workspace::{Layout, Workspace};
use crate::lang::label::Label;
use crate::lang::target::join;

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
    refuse_known(&args.steps)?;
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
    let written = files_to_write(&args.steps).into_iter();
    let written = written.chain(streams()).collect();
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
        // The first round that comes to know the targets empties it, unless it is one of their sources.
        let opened = fs::File::options().create(true).append(true).open(events);
        opened.map_err(|error| {
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
    let is_written = Cell::new(false);
    loop {
        let signals = (&cancel, &edits, &is_written);
        match round(global, &build, wanted, signals, &mut kept) {
            Ok((Exit::Interrupted, _)) => return Ok(Exit::Interrupted),
            // A mistake in a build file is mended while we watch; what was to be forced still is.
            Ok((_, is_whole)) => {
                build.steps.force &= !is_whole;
                watch.is_described = is_whole;
            }
            Err(failure) => {
                watch.is_described = false;
                say(&failure.text);
            }
        }
        edits.rounds.round_ends();
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
    /// Whether the last round came to know what it reads.
    is_described: bool,
}

/// Changes that are to be built.
#[derive(Default)]
struct Burst {
    /// With whether a command of the last round made them.
    changed: BTreeMap<String, bool>,
    /// Nothing reads them: they count unless git ignores them.
    doubtful: BTreeSet<String>,
    /// What happened after files began to be looked at.
    since: FxHashSet<Box<str>>,
    /// When it is over at the latest.
    end: Option<Instant>,
    /// What is to be built is built then, unless more happens.
    rests_until: Option<Instant>,
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
            is_described: false,
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
        let mut reads = Reads::default();
        let mut burst = Burst::default();
        loop {
            let now = Instant::now();
            let news = match (burst.end, burst.rests_until) {
                (Some(end), _) if now >= end => Err(RecvTimeoutError::Timeout),
                (Some(_), _) => self.stream.recv_timeout(QUIET),
                (None, Some(until)) => self
                    .stream
                    .recv_timeout(until.saturating_duration_since(now)),
                (None, None) => self
                    .stream
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
            };
            match news {
                Ok(News::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    if self.is_to_be_built(&mut burst) {
                        if let Some(kept) = kept {
                            kept.changed(&burst.since);
                        }
                        return Some(describe(&burst.changed));
                    }
                    if let Some(kept) = kept {
                        kept.rest();
                    }
                    burst.since.clear();
                }
                Ok(News::Changed(Err(error))) => {
                    say(&format!("warning: a change may have been missed: {error}"));
                    burst.begin();
                    burst.changed.insert(String::new(), false);
                    burst.since.insert("".into());
                }
                Ok(News::Changed(Ok(event))) => {
                    let is_begun = !burst.changed.is_empty();
                    // The kernel forgot what it had to tell: everything may have changed.
                    if event.need_rescan() {
                        burst.changed.insert(String::new(), false);
                    }
                    for path in self.concerned(&event, &ledger) {
                        self.sort(path, &mut burst, &mut reads, kept.as_ref());
                    }
                    if !(burst.changed.is_empty() && burst.doubtful.is_empty()) {
                        burst.begin();
                    }
                    if is_begun {
                        burst.since.extend(self.named(&event));
                    } else if !burst.changed.is_empty()
                        && let Some(kept) = kept
                    {
                        kept.begin(&self.layout, &self.watched());
                    }
                }
            }
        }
    }

    /// Puts the change at `path` where it belongs; what is `kept` says what a build reads.
    fn sort(&self, path: String, burst: &mut Burst, reads: &mut Reads, kept: Option<&Kept>) {
        if kept.is_some_and(|kept| kept.took_away(&path)) {
            return;
        }
        let is_made = self.edits.rounds.made(&self.root, &path);
        let kept = kept.filter(|_| self.is_described);
        let is_read = kept.is_none_or(|kept| reads.has(kept, &path));
        if is_read {
            burst.changed.insert(path, is_made);
        } else if !is_made {
            burst.doubtful.insert(path);
        }
    }

    /// Whether what happened is to be built now that it is over.
    fn is_to_be_built(&self, burst: &mut Burst) -> bool {
        burst.end = None;
        let is_asked_for = |burst: &Burst| burst.changed.values().any(|is_made| !is_made);
        let doubtful = std::mem::take(&mut burst.doubtful);
        if !doubtful.is_empty() && !is_asked_for(burst) {
            let ignored = ignored(&self.root, &doubtful);
            let others = doubtful.into_iter().filter(|path| !ignored.contains(path));
            burst.changed.extend(others.map(|path| (path, false)));
        }
        let is_asked_for = is_asked_for(burst);
        if let Some(until) = burst.rests_until.filter(|_| !is_asked_for) {
            let is_over = Instant::now() >= until;
            if is_over {
                self.edits.rounds.round_begins(false);
            }
            return is_over;
        }
        if burst.changed.is_empty() {
            return false;
        }
        let Verdict { pause, tell } = self.edits.rounds.judge(&self.root, &burst.changed);
        if let Some((path, writers)) = tell {
            say(&endless(&path, &writers, pause));
        }
        if pause.is_zero() {
            self.edits.rounds.round_begins(is_asked_for);
        } else {
            burst.rests_until = Some(Instant::now() + pause);
        }
        pause.is_zero()
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
            if !self.is_own(relative, ledger) {
                concerned.push(relative.to_owned());
            }
        }
        concerned
    }

    /// Whether what lies at `path` in the workspace is zako's, or a script's where its outputs go; of a directory whether all of it is.
    fn is_own(&self, path: &str, ledger: &Ledger) -> bool {
        let full = self.root.join(path);
        // What somebody else takes away of it is to be made again.
        let is_there = || fs::symlink_metadata(&full).is_ok();
        ledger.contains(path) && (is_there() || self.edits.rounds.made(&self.root, path))
            || is_unfinished(path)
            || is_unwatched(path)
            || self.is_cache(&full)
            || self.written.contains(&full)
            || self.edits.is_as_left(&self.root, path)
            || fs::symlink_metadata(&full).is_ok_and(|it| it.is_dir()) && {
                let mut entries = fs::read_dir(full).into_iter().flatten().flatten();
                entries.all(|entry| {
                    let name = entry.file_name();
                    let name = name.to_str();
                    name.is_some_and(|name| self.is_own(&join(path, name), ledger))
                })
            }
    }
}

/// The files that this process prints to.
fn streams() -> impl Iterator<Item = PathBuf> {
    let streams = ["/proc/self/fd/1", "/proc/self/fd/2"].into_iter();
    streams.filter_map(|stream| fs::read_link(stream).ok())
}

impl Burst {
    fn begin(&mut self) {
        self.end.get_or_insert_with(|| Instant::now() + LONGEST);
    }
}

/// What a build reads, once somebody has to know.
#[derive(Default)]
struct Reads(Option<Option<Concern>>);

impl Reads {
    /// Whether a build reads `path`, by what was `kept` of the last one.
    fn has(&mut self, kept: &Kept, path: &str) -> bool {
        kept.knows(path) || {
            let concern = self.0.get_or_insert_with(|| kept.concern());
            concern.as_ref().is_none_or(|concern| concern.has(path))
        }
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

/// What is said of a file that rounds change again and again.
fn endless(path: &str, writers: &[Label], pause: Duration) -> String {
    let mut writers: Vec<String> = writers.iter().map(Label::to_string).collect();
    if writers.is_empty() {
        writers.push("a command".to_owned());
    }
    format!(
        "warning: {path} changed during each of the last rounds, while {} ran. If that writes it, one round follows another without end: the \
         next one waits for {} s, unless something else changes, and each of those behind it twice as long. Have the file in the task's \
         `outputs`, or have git ignore it",
        writers.join(" or "),
        pause.as_secs()
    )
}

fn describe(changed: &BTreeMap<String, bool>) -> String {
    let mut names = changed.keys().filter(|path| !path.is_empty());
    match (names.next(), names.count()) {
        (None, _) => "something changed".to_owned(),
        (Some(name), 0) => format!("{name} changed"),
        (Some(name), more) => format!("{name} and {more} more changed"),
    }
}
