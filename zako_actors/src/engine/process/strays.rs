//! What a step left running outside of its process group.
//!
//! Owns finding and ending it. Does not know the step, but for its mark.
//! Invariant: nothing is killed that does not bear the mark.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
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

/// Kills and reaps orphans whose environment names a directory in `mark`, and theirs, until there are
/// none.
pub fn kill_strays(mark: &Path) {
    // With a slash at the end, so that the end of step `7-1` is not the end of step `7-10`.
    let mark = &mark.join("");
    loop {
        let children = orphans().unwrap_or_else(|error| {
            // Some kernels are built without the list.
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!("cannot look for processes that a step left running: {error}");
            }
            String::new()
        });
        let mut found = false;
        for pid in children
            .split_ascii_whitespace()
            .filter_map(|text| text.parse().ok())
        {
            let is_ours = |pid: &Pid| !is_guard(*pid) && is_marked(*pid, mark);
            let Some(pid) = Pid::from_raw(pid).filter(is_ours) else {
                continue;
            };
            let _gone = kill_process(pid, Signal::KILL);
            // It has been sent SIGKILL, so this wait ends.
            found |= waitpid(Some(pid), WaitOptions::empty()).is_ok();
        }
        if !found {
            return;
        }
    }
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
