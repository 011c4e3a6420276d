//! What kills the children of a zako that was itself killed.
//!
//! Owns the guard: a copy of this program that does nothing but hold one end of a pipe. The system
//! closes the other end when zako ends, however that happens; then the guard kills every process
//! that belongs to a step of it, and ends. Does not know steps.
//! Invariants: a step's processes are known by `TMPDIR` in their environment, which names a scratch
//! directory of the process that zako was; nothing else is ever killed, also when process ids are used
//! again meanwhile; nobody waits for the guard.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, PipeWriter, Read, pipe};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::scratch::name_of_process;

/// The first argument of a guard; the second one is the directory of scratch directories.
const ARGUMENT: &str = "guard-of-children";

/// Between two looks at all processes.
const PAUSE: Duration = Duration::from_millis(5);

/// How often a process is looked at that is between two programs, and the time between two looks: an exec takes
/// less than the first, unless it waits for a core.
const LOOKS: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// The guards of this process: they watch as long as it lives.
static GUARDS: Mutex<Vec<Guard>> = Mutex::new(Vec::new());

struct Guard {
    /// Of scratch directories.
    dir: PathBuf,
    pid: u32,
    /// Closed by the system.
    _alive: PipeWriter,
}

fn guards() -> MutexGuard<'static, Vec<Guard>> {
    GUARDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether `pid`, a child of this process, is a guard. It stays one: nobody reaps a guard, so its number
/// is not used again.
pub fn is_guard(pid: Pid) -> bool {
    let pid = pid.as_raw_nonzero().get();
    guards()
        .iter()
        .any(|guard| i64::from(guard.pid) == i64::from(pid))
}

/// Has this program started once more, as the guard of all steps below `scratch`, unless there is
/// one.
///
/// # Errors
/// When no process can be started; children then survive a `kill -9` of this one.
pub fn watch_over(scratch: &Path) -> io::Result<()> {
    let mut guards = guards();
    if guards.iter().any(|guard| guard.dir == scratch) {
        return Ok(());
    }
    let (alive, mine) = pipe()?;
    // Not a child that anybody waits for: it outlives this process on purpose, by a moment.
    let guard = Command::new(std::env::current_exe()?)
        .arg0("zako-guard")
        .arg(ARGUMENT)
        .arg(prefix(scratch, std::process::id()))
        .current_dir("/")
        .stdin(alive)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C and the shell's kill are for zako.
        .process_group(0)
        .spawn()?;
    guards.push(Guard {
        dir: scratch.to_owned(),
        pid: guard.id(),
        _alive: mine,
    });
    Ok(())
}

/// Is this process a guard, its whole life; `None` when it is not to be one.
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if arguments.nth(1)? != ARGUMENT {
        return None;
    }
    let mark = PathBuf::from(arguments.next()?);
    // Nothing is ever written there: this ends when the last holder of the other end has.
    let read = io::stdin().read_to_end(&mut Vec::new());
    if read.is_err() {
        return Some(ExitCode::FAILURE);
    }
    // A process that was being started shows its environment a moment after it let go of the pipe.
    let mut quiet = 0;
    while quiet < 3 {
        quiet = if kill_marked(&mark) { 0 } else { quiet + 1 };
        std::thread::sleep(PAUSE);
    }
    Some(ExitCode::SUCCESS)
}

/// What all scratch directories of process `pid` below `scratch` begin with.
fn prefix(scratch: &Path, pid: u32) -> OsString {
    scratch.join(name_of_process(pid)).into_os_string()
}

/// Kills every process that bears `mark`; tells whether there was one. A process that was killed
/// and is not reaped yet has no environment any more.
fn kill_marked(mark: &Path) -> bool {
    let mut found = false;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            continue;
        };
        // Opened before the look at the environment, so that it is the same process that is killed.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
            continue;
        };
        if is_marked(pid, mark) {
            found |= pidfd_send_signal(&process, Signal::KILL).is_ok();
        }
    }
    found
}

/// Whether the environment of `pid` says that it belongs to the step whose scratch directory begins
/// with `mark`.
pub fn is_marked(pid: Pid, mark: &Path) -> bool {
    let mut looks = 0;
    let environment = loop {
        let of_pid = format!("/proc/{}/environ", pid.as_raw_nonzero());
        let environment = fs::read(of_pid).unwrap_or_default();
        if !environment.is_empty() || looks == LOOKS || !is_in_exec(pid) {
            break environment;
        }
        looks += 1;
        std::thread::sleep(BETWEEN_LOOKS);
    };
    environment.split(|byte| *byte == 0).any(|variable| {
        let dir = variable.strip_prefix(b"TMPDIR=").map(OsStr::from_bytes);
        dir.is_some_and(|dir| dir.as_bytes().starts_with(mark.as_os_str().as_bytes()))
    })
}

/// Whether `pid` has a new program whose arguments and environment are not there yet. (The kernel's own threads and
/// those that ended have no program; who only wiped its environment has arguments.)
fn is_in_exec(pid: Pid) -> bool {
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    fs::read(process.join("cmdline")).is_ok_and(|arguments| arguments.is_empty())
        && fs::read_link(process.join("exe")).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_bears_the_mark_is_killed() {
        let scratch = tempfile::tempdir().unwrap();
        let step = |pid: u32| {
            let dir = Path::new(&prefix(scratch.path(), pid)).join("tmp");
            let mut child = Command::new("sh")
                .args(["-c", "echo ready; read line"])
                .env("TMPDIR", dir)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            // Before it runs, a process that was started may show no environment.
            let mut said = [0; 6];
            let stdout = child.stdout.as_mut().unwrap();
            stdout.read_exact(&mut said).unwrap();
            assert_eq!(&said, b"ready\n");
            child
        };
        let (mut ours, mut theirs) = (step(7), step(8));
        let mark = PathBuf::from(prefix(scratch.path(), 7));
        assert!(kill_marked(&mark));
        assert!(!ours.wait().unwrap().success());
        assert!(!kill_marked(&mark));
        assert_eq!(theirs.try_wait().unwrap(), None);
        theirs.kill().unwrap();
        theirs.wait().unwrap();
    }

    #[test]
    fn other_arguments_are_not_for_guards() {
        let arguments = ["zako", "build"].map(OsString::from);
        assert!(main(arguments.into_iter()).is_none());
    }
}
