//! The sandbox by namespaces: a view of the file system that holds what a command may touch and
//! nothing else, a network that holds nothing but its own `localhost`, and processes that see and signal each other only.
//!
//! Owns the launchers: this program started once more, with one thread, as the kernel wants it. The first one
//! leaves the user's namespaces. The second one, the first process of the new process namespace, builds the
//! view (`view`), starts the command and stays as its parent; when the command ends, both end with its status.
//! Where there are no process namespaces the first one builds the view and becomes the command. Does not know
//! who waits for it.
//! Invariants:
//! 1. The command starts confined or not at all; it cannot undo it, because the mounts belong to a user
//!    namespace above its own.
//! 2. The first launcher ends after everything in the process namespace: the second one is its first process, with
//!    which the kernel ends all others.
//! 3. Signals for the first launcher reach the command's process group. [`END`] kills instead.
//! 4. Neither launcher holds the command's streams once it runs.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal as Number};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::fs::{Mode, OFlags, openat};
use rustix::process::{
    Pid, Signal, WaitOptions, chdir, getgid, getuid, kill_process, kill_process_group, wait,
};
use rustix::thread::{
    CapabilitySet, capabilities, configure_capability_in_ambient_set, set_capabilities,
};
use serde::{Deserialize, Serialize};

use super::{Confine, SYSTEM, loopback, view};

/// The first argument of a launcher, by its turn. The second one is a [`Plan`], the others are the command's.
const FIRST: &str = "confined-command";
const SECOND: &str = "confined-init";
/// What a launcher ends with when the command was not started.
const NOT_STARTED: u8 = 125;
/// Has a launcher whose command has a process namespace kill everything in it, and then end.
pub const END: Signal = Signal::USR1;
/// Handed on to the command.
const HANDED_ON: [Number; 4] = [
    Number::SIGTERM,
    Number::SIGINT,
    Number::SIGHUP,
    Number::SIGQUIT,
];
/// A program that was just copied may be "busy" while another process is being started.
const BUSY_RETRIES: u32 = 100;

/// What a launcher is to start. Without a program it ends once it is confined.
#[derive(Serialize, Deserialize)]
struct Plan {
    confine: Confine,
    cwd: PathBuf,
    program: Option<PathBuf>,
    /// Where the status is written of a command that a signal ended.
    ended: PathBuf,
    kind: Kind,
}

/// What a command has namespaces of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Mounts, the network, and what processes share by name.
    Mounts,
    /// Processes as well.
    Processes,
}

/// `landlock`: namespaces are left alone, for a machine where they make trouble; `mounts`: those of processes are.
const SWITCH: &str = "ZAKO_SANDBOX_BY";

/// What this kernel lets this user have. Asked once per process.
pub fn available() -> Option<Kind> {
    static AVAILABLE: OnceLock<Option<Kind>> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let switch = std::env::var(SWITCH).unwrap_or_default();
        let kinds: &[Kind] = match switch.as_str() {
            "landlock" => &[],
            "mounts" => &[Kind::Mounts],
            _ => &[Kind::Processes, Kind::Mounts],
        };
        kinds.iter().copied().find(|kind| is_available(*kind))
    })
}

fn is_available(kind: Kind) -> bool {
    let plan = Plan {
        confine: Confine {
            read: SYSTEM.map(PathBuf::from).into(),
            ..Confine::default()
        },
        cwd: "/".into(),
        program: None,
        ended: PathBuf::new(),
        kind,
    };
    let status = launcher(&plan).and_then(|mut command| {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    });
    status.is_ok_and(|status| status.success())
}

/// A command line that starts `program` in `cwd`, confined by `kind`; `mark` is its scratch directory.
///
/// # Errors
/// When this program does not know where it lies.
pub fn confined(
    (kind, confine): (Kind, &Confine),
    program: &Path,
    argv: &[String],
    (cwd, mark): (&Path, &Path),
) -> io::Result<Command> {
    let ended = ended(mark);
    // Of a step that had the directory before.
    let _gone = fs::remove_file(&ended);
    let mut command = launcher(&Plan {
        confine: confine.clone(),
        cwd: cwd.to_owned(),
        program: Some(program.to_owned()),
        ended,
        kind,
    })?;
    command.args(argv);
    Ok(command)
}

fn launcher(plan: &Plan) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg0("zako-sandbox")
        .arg(FIRST)
        .arg(serde_json::to_string(plan)?);
    Ok(command)
}

fn ended(mark: &Path) -> PathBuf {
    mark.join("ended")
}

/// How the command ended whose launcher ended with `status`: that one cannot die of every signal itself.
pub fn told(mark: &Path, status: ExitStatus) -> ExitStatus {
    if status.code().is_none_or(|code| code <= 128) {
        return status;
    }
    let text = fs::read_to_string(ended(mark)).ok();
    let raw = text.and_then(|text| text.parse().ok());
    raw.map_or(status, ExitStatus::from_raw)
}

/// Is this process a launcher, up to the point where it becomes the command or that has ended; `None` when it is not to
/// be one.
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let turn = arguments
        .nth(1)
        .filter(|turn| turn == FIRST || turn == SECOND)?;
    let text = arguments.next()?.into_string().ok()?;
    let plan: Plan = serde_json::from_str(&text).ok()?;
    let launcher = Launcher {
        plan,
        text,
        argv: arguments.collect(),
    };
    let ended = if turn == FIRST {
        launcher.first()
    } else {
        launcher.second()
    };
    Some(ended.unwrap_or_else(|error| {
        eprintln!("zako: {error}");
        ExitCode::from(NOT_STARTED)
    }))
}

struct Launcher {
    plan: Plan,
    /// The plan as it was given.
    text: String,
    argv: Vec<OsString>,
}

impl Launcher {
    /// Leaves the user's namespaces, and has the second one do the rest unless it can do that itself.
    fn first(&self) -> io::Result<ExitCode> {
        let own_processes = self.plan.kind == Kind::Processes;
        let mut flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWIPC;
        flags.set(CloneFlags::CLONE_NEWNET, !self.plan.confine.network);
        flags.set(CloneFlags::CLONE_NEWPID, own_processes);
        if own_processes {
            // They wait from now on, also in the second one.
            signals().thread_block()?;
        }
        leave(flags, &fs::File::open("/proc")?).map_err(unconfined)?;
        if !self.plan.confine.network {
            // A command without it is confined all the same.
            drop(loopback::bring_up());
        }
        if !own_processes {
            self.enter().map_err(unconfined)?;
            return match self.command() {
                Some(command) => self.start(command, |command| Err(command.exec())),
                None => Ok(ExitCode::SUCCESS),
            };
        }
        keep_right_to_mount().map_err(unconfined)?;
        let mut second = Command::new("/proc/self/exe");
        second.arg0("zako-sandbox").arg(SECOND).arg(&self.text);
        // A group of its own: that of this one is signalled by whoever started it.
        let second = second.args(&self.argv).process_group(0).spawn()?;
        let pid = Pid::from_child(&second);
        self.watch(pid, |signal| match signal {
            END => kill_process(pid, Signal::KILL),
            signal => kill_process(pid, signal),
        })
    }

    /// Builds the view, and stays with the command.
    fn second(&self) -> io::Result<ExitCode> {
        self.enter().map_err(unconfined)?;
        let Some(mut command) = self.command() else {
            return Ok(ExitCode::SUCCESS);
        };
        command.process_group(0);
        // What this process blocks its children would block as well.
        signals().thread_unblock()?;
        let child = self.start(command, Command::spawn)?;
        signals().thread_block()?;
        let pid = Pid::from_child(&child);
        self.watch(pid, |signal| kill_process_group(pid, signal))
    }

    fn command(&self) -> Option<Command> {
        let mut command = Command::new(self.plan.program.as_ref()?);
        if let Some((name, arguments)) = self.argv.split_first() {
            command.arg0(name).args(arguments);
        }
        Some(command)
    }

    fn start<T>(
        &self,
        mut command: Command,
        start: impl Fn(&mut Command) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut retries = BUSY_RETRIES;
        loop {
            match start(&mut command) {
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && retries > 0 => {
                    retries -= 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => {
                    let program = command.get_program().display();
                    return Err(io::Error::other(format!("cannot start {program}: {error}")));
                }
                started => return started,
            }
        }
    }

    /// Moves this process into namespaces of its own with the view, for good.
    fn enter(&self) -> io::Result<()> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let proc = view::enter(&self.plan.confine, self.plan.kind == Kind::Processes)?;
        // One more: in the one that the mounts belong to, root could undo them.
        leave(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS, &proc)?;
        Ok(chdir(&self.plan.cwd)?)
    }

    /// Waits for the end of `child` and ends alike; reaps whoever else ends, and hands signals on.
    fn watch(
        &self,
        child: Pid,
        hand_on: impl Fn(Signal) -> rustix::io::Result<()>,
    ) -> io::Result<ExitCode> {
        let nothing = fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        dup2_stdin(&nothing)?;
        dup2_stdout(&nothing)?;
        dup2_stderr(&nothing)?;
        loop {
            // Before the first signal as well: its end may have been told while that was not blocked.
            while let Some((ended, status)) = wait(WaitOptions::NOHANG)? {
                if ended == child {
                    return Ok(self.tell(ExitStatus::from_raw(status.as_raw())));
                }
            }
            let signal = Signal::from_named_raw(signals().wait()? as i32);
            if let Some(signal) = signal.filter(|signal| *signal != Signal::CHILD) {
                // Who is gone needs none.
                let _gone = hand_on(signal);
            }
        }
    }

    fn tell(&self, status: ExitStatus) -> ExitCode {
        let code = match status.signal() {
            Some(signal) => {
                // Without it the number says what happened.
                let _told = fs::write(&self.plan.ended, status.into_raw().to_string());
                128 + signal
            }
            None => status.code().unwrap_or_default(),
        };
        ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
    }
}

/// What a launcher waits for once it has nothing else to do.
fn signals() -> SigSet {
    let end = [Number::SIGCHLD, Number::SIGUSR1];
    HANDED_ON.into_iter().chain(end).collect()
}

fn unconfined(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot be confined: {error}"))
}

/// A program that this process starts may mount: without this only root's could.
fn keep_right_to_mount() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.inheritable |= CapabilitySet::SYS_ADMIN;
    set_capabilities(None, sets)?;
    Ok(configure_capability_in_ambient_set(
        CapabilitySet::SYS_ADMIN,
        true,
    )?)
}

/// Leaves namespaces and keeps the ids of user and group. `proc` is what `/proc` shows.
fn leave(flags: CloneFlags, proc: impl AsFd) -> io::Result<()> {
    let (user, group) = (getuid().as_raw(), getgid().as_raw());
    unshare(flags)?;
    let write = |file: &str, text: &str| {
        let file = openat(&proc, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        fs::File::from(file).write_all(text.as_bytes())
    };
    write("self/setgroups", "deny")?;
    write("self/uid_map", &format!("{user} {user} 1"))?;
    write("self/gid_map", &format!("{group} {group} 1"))
}
