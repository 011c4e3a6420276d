//! One child process and all its descendants.
//!
//! Owns starting, waiting, the time limit, and the certainty that nothing is left running.
//! Does not know what the command is for, nor where its inputs come from.
//! Invariants:
//! 1. The child leads its own process group. Unless somebody talks with it, stdin is empty, and stdout
//!    and stderr share one log file, so their order is kept and a full pipe can block nobody.
//! 2. The group is killed before the leader is reaped, so its id cannot have been reused.
//! 3. A descendant that left the group is found by `TMPDIR` in its environment, by its directory or by a file that it has
//!    open, which lie in this step's scratch directory, because orphans become children of this process (it is a
//!    subreaper). One that shows none of these lives until the build has ended ([`Leftovers`]), unless it has a process
//!    namespace.
//! 4. A process that is to be confined is confined from its first instruction, or does not start.
//! 5. Where it is in a process namespace, the child is its launcher, which ends after everything in there.

mod strays;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open, set_child_subreaper,
};

use super::cancel::{Cancel, CancelReason};
use super::open_files::with_old_limit;
use super::sandbox::Confine;
use super::sandbox::namespaces::{self, Kind};
pub use strays::{Leftovers, is_nobody_left, kill_strays};

/// Between the polite signal and the final one.
const GRACE: Duration = Duration::from_millis(500);
/// A program that was just copied may be "busy" while another thread forks.
const BUSY_RETRIES: u32 = 100;

/// What to run.
#[derive(Debug)]
pub struct ProcessSpec {
    /// The program, absolute.
    pub program: PathBuf,
    /// `argv[0]` and the arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub cwd: PathBuf,
    /// Receives stdout and stderr.
    pub log: PathBuf,
    /// Time limit.
    pub timeout: Option<Duration>,
    /// The step's own directory: what marks its descendants.
    pub mark: PathBuf,
    /// What it may touch, when that is limited.
    pub confine: Option<Confine>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessEnd {
    /// By itself.
    Exited(ExitStatus),
    /// Killed at its time limit.
    TimedOut,
    /// Killed because the build was cancelled.
    Cancelled(CancelReason),
}

/// Makes this process the parent of orphaned descendants of its children.
pub fn adopt_orphans() {
    // Without it (an old kernel) only process groups are killed.
    match set_child_subreaper(Some(rustix::process::getpid())) {
        Ok(()) => strays::come_here(),
        Err(error) => tracing::debug!("cannot become a subreaper: {error}"),
    }
}

/// Runs a process to its end; none of its descendants is left when this returns. Blocks.
///
/// # Errors
/// When it cannot be started, or the system refuses to watch it.
pub fn run(spec: &ProcessSpec, cancel: &Cancel) -> io::Result<ProcessEnd> {
    let mut group = Group::start(spec, Streams::Log)?;
    let pidfd = group.pidfd()?;
    let deadline = spec.timeout.map(|limit| Instant::now() + limit);
    let killed = match wait(&pidfd, Some(cancel), deadline)? {
        Woken::Exited => None,
        Woken::Cancelled(reason) => Some(ProcessEnd::Cancelled(reason)),
        Woken::Deadline => Some(ProcessEnd::TimedOut),
    };
    if killed.is_some() {
        group.signal(Signal::TERM);
        wait(&pidfd, None, Some(Instant::now() + GRACE))?;
    }
    let status = group.end()?;
    Ok(killed.unwrap_or(ProcessEnd::Exited(status)))
}

/// Waits for a child to end, but not beyond a moment; whether it has ended. It is still to be reaped.
///
/// # Errors
/// When the system refuses to watch it.
pub fn ends_before(child: &Child, deadline: Instant) -> io::Result<bool> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let woken = wait(&pidfd, None, Some(deadline))?;
    Ok(matches!(woken, Woken::Exited))
}

/// Whether the process of `pidfd` has ended.
///
/// # Errors
/// When the system refuses to say.
pub fn has_ended(pidfd: &OwnedFd) -> io::Result<bool> {
    let woken = wait(pidfd, None, Some(Instant::now()))?;
    Ok(matches!(woken, Woken::Exited))
}

/// Waits `patience` at most for the process of `pidfd`, which closed a pipe, to end by itself. Tells whether it did.
///
/// # Errors
/// When the system refuses to watch it.
pub fn hear_out(
    pidfd: &OwnedFd,
    patience: Duration,
    cancel: Option<&Cancel>,
    deadline: Option<Instant>,
) -> io::Result<bool> {
    let last = Instant::now() + patience;
    let last = deadline.map_or(last, |at| at.min(last));
    Ok(matches!(wait(pidfd, cancel, Some(last))?, Woken::Exited))
}

enum Woken {
    Exited,
    Cancelled(CancelReason),
    Deadline,
}

/// Waits for the first of: the process ends, the build is cancelled, time is up.
fn wait(pidfd: &OwnedFd, cancel: Option<&Cancel>, deadline: Option<Instant>) -> io::Result<Woken> {
    loop {
        let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
        fds.extend(cancel.map(|cancel| PollFd::new(cancel, PollFlags::IN)));
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left
            .map(Timespec::try_from)
            .transpose()
            .map_err(io::Error::other)?;
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return Ok(Woken::Deadline),
            Ok(_) if !fds[0].revents().is_empty() => return Ok(Woken::Exited),
            Ok(_) => {
                if let Some(reason) = cancel.and_then(Cancel::reason) {
                    return Ok(Woken::Cancelled(reason));
                }
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Where a process's standard streams lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// Nothing comes in; everything goes to the log.
    Log,
    /// Somebody talks with it; only stderr goes to the log.
    Pipes,
}

/// An input that is empty. It is opened once: a copy costs a third of that.
fn nothing() -> io::Result<Stdio> {
    static NOTHING: OnceLock<File> = OnceLock::new();
    let nothing = match NOTHING.get() {
        Some(nothing) => nothing,
        None => {
            let opened = File::open("/dev/null")?;
            NOTHING.get_or_init(|| opened)
        }
    };
    Ok(nothing.try_clone()?.into())
}

fn spawn(spec: &ProcessSpec, streams: Streams) -> io::Result<Child> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&spec.log)?;
    for attempt in 0.. {
        // Asked only where it matters: it takes a process to find out.
        let confine = spec.confine.as_ref();
        let spaces = confine.and_then(|confine| Some((confine, namespaces::available()?)));
        let mut command = match spaces {
            Some((confine, kind)) => {
                let places = (&*spec.cwd, &*spec.mark);
                namespaces::confined((kind, confine), &spec.program, &spec.argv, places)?
            }
            None => {
                let mut command = Command::new(&spec.program);
                if let Some((name, arguments)) = spec.argv.split_first() {
                    command.arg0(name).args(arguments);
                }
                command
            }
        };
        command
            .env_clear()
            .envs(&spec.env)
            .current_dir(&spec.cwd)
            .stderr(log.try_clone()?)
            .process_group(0);
        match streams {
            Streams::Log => command.stdin(nothing()?).stdout(log.try_clone()?),
            Streams::Pipes => command.stdin(Stdio::piped()).stdout(Stdio::piped()),
        };
        let confine = spec.confine.as_ref().filter(|_| spaces.is_none());
        let start = || match confine {
            None => command.spawn(),
            // A thread that confines itself stays so; its children are, too.
            Some(confine) => std::thread::scope(|scope| {
                let confined = scope.spawn(|| {
                    confine.apply().map_err(io::Error::other)?;
                    command.spawn()
                });
                confined
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("the thread that starts it died")))
            }),
        };
        let lowest = u64::try_from(log.as_raw_fd()).unwrap_or(0);
        let started = with_old_limit(lowest, start, Pid::from_child);
        match started {
            Err(error)
                if error.kind() == ErrorKind::ExecutableFileBusy && attempt < BUSY_RETRIES =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            done => return done,
        }
    }
    unreachable!("the last attempt returns")
}

/// A child that is killed with everything below it, at the latest when this is dropped.
#[derive(Debug)]
pub struct Group {
    child: Child,
    mark: PathBuf,
    /// The child is a launcher that ends after all that it started.
    launched: bool,
    reaped: Option<ExitStatus>,
}

impl Group {
    /// Starts a process.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(spec: &ProcessSpec, streams: Streams) -> io::Result<Self> {
        Ok(Self {
            child: spawn(spec, streams)?,
            mark: spec.mark.clone(),
            launched: spec.confine.is_some() && namespaces::available() == Some(Kind::Processes),
            reaped: None,
        })
    }

    /// What goes to its stdin and comes from its stdout; once, and only from [`Streams::Pipes`].
    pub fn pipes(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        self.child.stdin.take().zip(self.child.stdout.take())
    }

    /// Readable when the child has ended.
    ///
    /// # Errors
    /// When the system refuses to watch it.
    pub fn pidfd(&self) -> io::Result<OwnedFd> {
        Ok(pidfd_open(self.pid(), PidfdFlags::empty())?)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn signal(&self, signal: Signal) {
        // "No such process" is what is wanted in the end.
        let _gone = kill_process_group(self.pid(), signal);
    }

    /// Kills what is left, then reaps the leader; tells how it ended.
    ///
    /// # Errors
    /// When the system does not let us wait for it.
    pub fn end(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.reaped {
            return Ok(status);
        }
        let status = if self.launched {
            let _gone = kill_process(self.pid(), namespaces::END);
            namespaces::told(&self.mark, self.child.wait()?)
        } else {
            self.signal(Signal::KILL);
            self.child.wait()?
        };
        self.reaped = Some(status);
        kill_strays(&self.mark);
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(self.end());
    }
}

/// `exit status 3`, `killed by signal 9 (SIGKILL)`.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => {
            let name = Signal::from_named_raw(signal).map_or(String::new(), |named| {
                // It writes itself `Signal::KILL`, in quotes.
                let name = format!("{named:?}");
                let name = name.trim_matches('"').trim_start_matches("Signal::");
                format!(" (SIG{name})")
            });
            let dumped = if status.core_dumped() {
                ", core dumped"
            } else {
                ""
            };
            format!("killed by signal {signal}{name}{dumped}")
        }
        (None, None) => "ended in an unknown way".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn shell(dir: &Path, script: &str, timeout: Option<Duration>) -> ProcessSpec {
        ProcessSpec {
            program: "/bin/sh".into(),
            argv: vec!["sh".into(), "-c".into(), script.into()],
            env: BTreeMap::from([
                ("TMPDIR".into(), dir.join("tmp").display().to_string()),
                ("PATH".into(), "/usr/bin:/bin".into()),
            ]),
            cwd: dir.into(),
            log: dir.join("log"),
            timeout,
            mark: dir.into(),
            confine: None,
        }
    }

    fn alive(pid: &str) -> bool {
        let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        // A zombie that somebody else has yet to reap is dead enough.
        !state.is_empty() && !state.contains(") Z ")
    }

    #[test]
    fn output_is_kept_in_order_and_the_status_told() {
        let dir = tempfile::tempdir().unwrap();
        let spec = shell(dir.path(), "echo a; echo b >&2; echo c; exit 3", None);
        let end = run(&spec, &Cancel::new().unwrap()).unwrap();
        let ProcessEnd::Exited(status) = end else {
            panic!("{end:?}")
        };
        assert_eq!(describe(status), "exit status 3");
        assert_eq!(
            fs::read_to_string(dir.path().join("log")).unwrap(),
            "a\nb\nc\n"
        );
    }

    #[test]
    fn a_signal_is_told_by_number_and_name() {
        let status = ExitStatus::from_raw(9);
        assert_eq!(describe(status), "killed by signal 9 (SIGKILL)");
    }

    #[test]
    fn what_stays_in_the_background_dies_with_its_step() {
        adopt_orphans();
        let dir = tempfile::tempdir().unwrap();
        let script = "sleep 1000 & echo $! > one; setsid sh -c 'echo $$ > two; : > ready; sleep 1000; :' & \
                      while [ ! -e ready ]; do :; done";
        run(&shell(dir.path(), script, None), &Cancel::new().unwrap()).unwrap();
        for file in ["one", "two"] {
            let pid = fs::read_to_string(dir.path().join(file)).unwrap();
            assert!(!alive(&pid), "{file} is alive");
        }
    }

    #[test]
    fn what_wiped_its_environment_is_known_by_its_directory_or_its_files() {
        adopt_orphans();
        let dir = tempfile::tempdir().unwrap();
        let script = "env -i setsid sh -c 'exec > /dev/null 2>&1; echo $$ > one; exec sleep 1000' & \
                      env -i setsid sh -c 'echo $$ > two; cd /; exec sleep 1000' & \
                      while [ ! -s one ] || [ ! -s two ]; do :; done";
        run(&shell(dir.path(), script, None), &Cancel::new().unwrap()).unwrap();
        for file in ["one", "two"] {
            let pid = fs::read_to_string(dir.path().join(file)).unwrap();
            assert!(!alive(&pid), "{file} is alive");
        }
    }

    #[test]
    fn what_another_step_has_in_the_background_stays() {
        adopt_orphans();
        let dir = tempfile::tempdir().unwrap();
        // Not in the midst of an exec, where nobody knows whose it is.
        let script = "setsid sh -c 'echo $$ > pid; : > ready; while :; do read line < never; done' & \
                      while [ ! -e ready ]; do :; done";
        let fifo = Command::new("mkfifo")
            .arg(dir.path().join("never"))
            .status();
        assert!(fifo.unwrap().success());
        let begun = Command::new("sh")
            .args(["-c", script])
            .current_dir(&dir)
            .env("TMPDIR", dir.path().join("7-10/tmp"))
            .status();
        assert!(begun.unwrap().success());
        let pid = fs::read_to_string(dir.path().join("pid")).unwrap();
        kill_strays(&dir.path().join("7-1"));
        assert!(alive(&pid));
        kill_strays(&dir.path().join("7-10"));
        assert!(!alive(&pid));
    }

    #[test]
    fn cancelling_and_the_time_limit_kill() {
        let dir = tempfile::tempdir().unwrap();
        let cancel = Cancel::new().unwrap();
        cancel.cancel(CancelReason::Interrupted);
        let spec = shell(dir.path(), "trap '' TERM; sleep 1000", None);
        let end = run(&spec, &cancel).unwrap();
        assert_eq!(end, ProcessEnd::Cancelled(CancelReason::Interrupted));
        let spec = shell(dir.path(), "sleep 1000", Some(Duration::from_millis(1)));
        assert_eq!(
            run(&spec, &Cancel::new().unwrap()).unwrap(),
            ProcessEnd::TimedOut
        );
    }
}
