//! What a step left running outside of its process group.
//!
//! Owns finding and ending it. Does not know the step, but for its mark.
//! Invariant: while steps run, nothing is killed that does not bear the mark of the one that ended, or stand in its directory
//! or have a file there open; when none runs, nothing that was there before the first one.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::engine::guard::{is_guard, is_marked};

/// Whether orphans become children of this process.
static COME_HERE: AtomicBool = AtomicBool::new(false);

/// Takes note that orphans become children of this process from now on.
pub(super) fn come_here() {
    COME_HERE.store(true, Ordering::Relaxed);
}

/// Whether it is certain that no step that is over has left a process running, not even one that does not bear its
/// mark: above each there would be an orphan.
pub fn is_nobody_left() -> bool {
    let is_guard = |pid: &str| {
        let pid = pid.parse().ok().and_then(Pid::from_raw);
        pid.is_some_and(is_guard)
    };
    COME_HERE.load(Ordering::Relaxed)
        && orphans().is_ok_and(|pids| pids.split_ascii_whitespace().all(is_guard))
}

/// Kills and reaps orphans whose environment, directory or open files name a directory in `mark`, and theirs, until there are
/// none.
pub fn kill_strays(mark: &Path) {
    // With a slash at the end, so that the end of step `7-1` is not the end of step `7-10`.
    let mark = &mark.join("");
    // The kernel names places without links.
    let real = fs::canonicalize(mark).unwrap_or_else(|_| mark.clone());
    kill_orphans(|pid| is_marked(pid, mark) || is_in(pid, &real));
}

/// What becomes of those that steps leave and that bear no mark at all.
#[derive(Debug)]
pub struct Leftovers {
    /// Whether every orphan from now on is a step's.
    are_all: bool,
}

impl Leftovers {
    /// To be made before the first step.
    pub fn of_steps() -> Self {
        // Who started this process may have left it children, which start and lose some of their own.
        let mut others = children().filter(|pid| !is_guard(*pid) && lives(*pid));
        // The first process of a container is given everybody's orphans.
        let is_first = std::process::id() == 1;
        Self {
            are_all: !is_first && others.next().is_none(),
        }
    }

    /// Kills and reaps all that steps left, once none of them runs. To be called where nothing but steps has children.
    pub fn kill(self) {
        if self.are_all {
            kill_orphans(|_| true);
        }
    }
}

/// Kills and reaps those orphans that are a step's, and theirs, until there are none.
fn kill_orphans(is_ours: impl Fn(Pid) -> bool) {
    let mut found = true;
    while found {
        found = false;
        for pid in children().filter(|pid| !is_guard(*pid) && is_ours(*pid)) {
            let _gone = kill_process(pid, Signal::KILL);
            // It has been sent SIGKILL, so this wait ends.
            found |= waitpid(Some(pid), WaitOptions::empty()).is_ok();
        }
    }
}

fn children() -> impl Iterator<Item = Pid> {
    let children = orphans().unwrap_or_else(|error| {
        // Some kernels are built without the list.
        if error.kind() != ErrorKind::NotFound {
            tracing::warn!("cannot look for processes that a step left running: {error}");
        }
        String::new()
    });
    let children: Vec<Pid> = children
        .split_ascii_whitespace()
        .filter_map(|text| Pid::from_raw(text.parse().ok()?))
        .collect();
    children.into_iter()
}

fn of(pid: Pid, what: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/{what}", pid.as_raw_nonzero()))
}

/// Whether `pid` has more to do than to be reaped.
fn lives(pid: Pid) -> bool {
    fs::read_to_string(of(pid, "stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Whether `pid` stands in `dir`, or has a file there open.
fn is_in(pid: Pid, dir: &Path) -> bool {
    let is_there = |link: PathBuf| fs::read_link(link).is_ok_and(|place| place.starts_with(dir));
    let open = fs::read_dir(of(pid, "fd")).into_iter().flatten().flatten();
    is_there(of(pid, "cwd")) || open.map(|entry| entry.path()).any(is_there)
}

/// The children of the main thread, which starts no steps: orphans come to it. The list stays open, as it
/// is asked for at the end of every step.
fn orphans() -> io::Result<String> {
    static LIST: OnceLock<File> = OnceLock::new();
    let list = match LIST.get() {
        Some(list) => list,
        // What fails now may succeed at the next step: only a list that was opened is kept.
        None => {
            let me = std::process::id();
            let opened = File::open(format!("/proc/self/task/{me}/children"))?;
            LIST.get_or_init(|| opened)
        }
    };
    // The kernel may leave one out when an earlier one is reaped meanwhile.
    let mut seen = read_again(list)?;
    loop {
        let again = read_again(list)?;
        if again == seen {
            return Ok(seen);
        }
        seen = again;
    }
}

/// All of `file`, from its begin.
fn read_again(file: &File) -> io::Result<String> {
    let mut text = vec![0; 4096];
    let mut length = 0;
    loop {
        let read = file.read_at(&mut text[length..], length as u64)?;
        length += read;
        if read == 0 {
            text.truncate(length);
            return String::from_utf8(text).map_err(io::Error::other);
        }
        if length == text.len() {
            text.resize(2 * length, 0);
        }
    }
}
