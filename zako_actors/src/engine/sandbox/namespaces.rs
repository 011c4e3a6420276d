//! The sandbox by namespaces: a view of the file system that holds what a command may touch and
//! nothing else, and a network without any way out.
//!
//! Owns the launcher: this program started once more, with one thread, as the kernel wants it. It leaves
//! the user's namespaces, builds the view, and becomes the command. Does not know who waits for it.
//! Invariants: the command starts confined or not at all; it cannot undo it, because the mounts
//! belong to a user namespace above its own; process id, group and environment stay those that it was
//! given.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, openat, statvfs};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, getgid, getuid, pivot_root};
use serde::{Deserialize, Serialize};

use super::Confine;

/// The first argument of a launcher; the second one says what it is to become.
const ARGUMENT: &str = "confined-command";
/// What the launcher ends with when the command was not started.
const NOT_STARTED: u8 = 125;

/// What a launcher is to become. Without a command it ends once it is confined.
#[derive(Serialize, Deserialize)]
struct Plan {
    confine: Confine,
    cwd: PathBuf,
    /// Program, then `argv` with the name it is called by.
    command: Option<(PathBuf, Vec<String>)>,
}

/// With the value `landlock` the namespaces are left alone, for a machine where they make trouble.
const SWITCH: &str = "ZAKO_SANDBOX_BY";

/// Whether this kernel lets this user have such namespaces. Asked once per process.
pub fn are_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        if std::env::var_os(SWITCH).is_some_and(|by| by == "landlock") {
            return false;
        }
        let plan = Plan {
            confine: Confine {
                read: vec!["/usr".into(), "/proc".into()],
                write: Vec::new(),
                network: false,
            },
            cwd: "/".into(),
            command: None,
        };
        let status = launcher(&plan).and_then(|mut command| {
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
        });
        status.is_ok_and(|status| status.success())
    })
}

/// A command line that becomes `program` in `cwd`, confined.
///
/// # Errors
/// When this program does not know where it lies.
pub fn confined(
    confine: &Confine,
    program: &Path,
    argv: &[String],
    cwd: &Path,
) -> io::Result<Command> {
    launcher(&Plan {
        confine: confine.clone(),
        cwd: cwd.to_owned(),
        command: Some((program.to_owned(), argv.to_vec())),
    })
}

fn launcher(plan: &Plan) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg0("zako-sandbox")
        .arg(ARGUMENT)
        .arg(serde_json::to_string(plan)?);
    Ok(command)
}

/// Is this process a launcher, up to the point where it becomes the command; `None` when it is not to
/// be one.
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if arguments.nth(1)? != ARGUMENT {
        return None;
    }
    let plan = arguments.next()?.into_string().ok()?;
    let plan: Plan = serde_json::from_str(&plan).ok()?;
    let error = match enter(&plan.confine, &plan.cwd) {
        Err(error) => format!("zako: cannot be confined: {error}"),
        Ok(()) => {
            let (program, argv) = match &plan.command {
                Some((program, argv)) => (program, argv),
                None => return Some(ExitCode::SUCCESS),
            };
            let mut command = Command::new(program);
            if let Some((name, arguments)) = argv.split_first() {
                command.arg0(name).args(arguments);
            }
            format!(
                "zako: cannot start {}: {}",
                program.display(),
                command.exec()
            )
        }
    };
    eprintln!("{error}");
    Some(ExitCode::from(NOT_STARTED))
}

/// Moves this process into namespaces of its own with that view, for good.
fn enter(confine: &Confine, cwd: &Path) -> io::Result<()> {
    let mut flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC;
    if !confine.network {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    leave(flags, &fs::File::open("/proc")?)?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    // The view's own cannot be written to.
    let proc = tree(Path::new("/proc"))?;
    let read = confine.read.iter().map(|path| Place::take(path, false));
    let write = confine.write.iter().map(|path| Place::take(path, true));
    let mut places: Vec<Place> = read
        .chain(write)
        .collect::<io::Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect();
    // What lies deeper comes later, so that it is not covered.
    places.sort_by_key(|place| place.path.components().count());
    // Any directory will do: the places are taken already, and nothing of this is seen outside.
    let root = Path::new("/tmp");
    mount(
        "tmpfs",
        root,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        c"mode=0755",
    )?;
    for place in places {
        place
            .show(root)
            .map_err(|error| named(error, &place.path))?;
    }
    let fixed = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY;
    mount_remount(root, fixed, c"mode=0755")?;
    chdir(root)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    // One more namespace: in the one that the mounts belong to, root could undo them.
    leave(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS, &proc)?;
    Ok(chdir(cwd)?)
}

/// Leaves namespaces and keeps the ids of user and group. `proc` is what `/proc` shows.
fn leave(flags: CloneFlags, proc: impl AsFd) -> io::Result<()> {
    let (user, group) = (getuid().as_raw(), getgid().as_raw());
    unshare(flags).map_err(io::Error::from)?;
    let write = |file: &str, text: &str| {
        let file = openat(&proc, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        fs::File::from(file).write_all(text.as_bytes())
    };
    write("self/setgroups", "deny")?;
    write("self/uid_map", &format!("{user} {user} 1"))?;
    write("self/gid_map", &format!("{group} {group} 1"))
}

/// What lies at `path` with everything mounted below it, to be mounted elsewhere.
fn tree(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags).map_err(|error| named(error.into(), path))
}

fn named(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Something that is shown where it lies.
struct Place {
    path: PathBuf,
    writable: bool,
    what: What,
}

enum What {
    Link(PathBuf),
    Directory(OwnedFd),
    File(OwnedFd),
}

impl Place {
    /// Takes hold of what lies at `path`; nothing when there is nothing.
    fn take(path: &Path, writable: bool) -> io::Result<Option<Self>> {
        let Ok(metadata) = fs::symlink_metadata(path) else {
            return Ok(None);
        };
        let what = if metadata.is_symlink() {
            What::Link(fs::read_link(path)?)
        } else if metadata.is_dir() {
            What::Directory(tree(path)?)
        } else {
            What::File(tree(path)?)
        };
        Ok(Some(Self {
            path: path.to_owned(),
            writable,
            what,
        }))
    }

    /// Has it lie in `root` as it does outside.
    fn show(&self, root: &Path) -> io::Result<()> {
        let there = root.join(self.path.strip_prefix("/").map_err(io::Error::other)?);
        let shown = fs::symlink_metadata(&there).is_ok();
        if shown && !self.writable {
            // Something above it is shown already, or it is above something that is.
            return Ok(());
        }
        if let Some(parent) = there.parent() {
            fs::create_dir_all(parent)?;
        }
        let tree = match &self.what {
            What::Link(_) if shown => return Ok(()),
            What::Link(to) => return symlink(to, &there),
            What::Directory(tree) => {
                fs::create_dir_all(&there)?;
                tree
            }
            What::File(tree) => {
                if !shown {
                    fs::write(&there, "")?;
                }
                tree
            }
        };
        move_mount(
            tree,
            "",
            CWD,
            &there,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )?;
        if self.writable {
            return Ok(());
        }
        // What the mount forbids already has to stay forbidden.
        let now = statvfs(&there)?.f_flag;
        let mut flags = MountFlags::BIND | MountFlags::RDONLY;
        for (seen, flag) in KEPT {
            if now.contains(seen) {
                flags |= flag;
            }
        }
        Ok(mount_remount(&there, flags, c"")?)
    }
}

const KEPT: [(StatVfsMountFlags, MountFlags); 6] = [
    (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
    (StatVfsMountFlags::NODEV, MountFlags::NODEV),
    (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
    (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
    (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
    (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
];
