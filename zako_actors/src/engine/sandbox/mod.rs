//! The sandbox: what a command may touch beyond its scratch directory.
//!
//! Owns the modes, the rules of `strict`, their mechanisms (namespaces where the kernel allows them,
//! otherwise Landlock) and the reading of what `warn` saw (strace). Does not know targets.
//! Invariants: a strict step that could not be confined does not run; confining is inherited by
//! everything that a command starts, and cannot be undone by it.

pub mod namespaces;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Component, Path, PathBuf};

pub use crate::lang::manifest::SandboxMode as Mode;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, path_beneath_rules,
};
use serde::{Deserialize, Serialize};

/// The newest rules that are asked for; an older kernel enforces those that it knows.
const RULES: ABI = ABI::V5;
/// What belongs to the machine, not to anybody's work.
const SYSTEM: [&str; 13] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix", "/dev",
    "/proc", "/sys",
];
/// Devices that hold nothing.
const DEVICES: [&str; 6] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/shm",
];

/// What one command may touch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confine {
    /// Read and execute.
    pub read: Vec<PathBuf>,
    /// Everything.
    pub write: Vec<PathBuf>,
    /// Whether the network may be used; Landlock closes TCP only.
    pub network: bool,
}

/// Why a command was not confined.
#[derive(Debug)]
pub struct Unconfined(String);

impl fmt::Display for Unconfined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot be confined: {}; the strict sandbox needs user namespaces or Landlock (Linux 5.13 or newer), --sandbox off does without",
            self.0
        )
    }
}

impl std::error::Error for Unconfined {}

impl Confine {
    /// The rules of a command that runs in `scratch` of the workspace at `root` with this PATH.
    pub fn strict(
        root: &Path,
        scratch: &Path,
        search: &str,
        program: &Path,
        network: bool,
    ) -> Self {
        let mut read: BTreeSet<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
        // A tool of a person's own brings its libraries along beside its directory.
        let tools = search
            .split(':')
            .map(Path::new)
            .filter(|dir| dir.is_absolute())
            .chain(program.parent());
        for dir in tools {
            read.insert(dir.to_owned());
            let prefix = dir
                .parent()
                .filter(|prefix| prefix.components().count() > 2);
            read.extend(prefix.map(Path::to_owned));
        }
        // Whatever holds the workspace would give all of it away.
        read.retain(|dir| !root.starts_with(dir) && !dir.starts_with(root));
        let write = DEVICES.iter().map(PathBuf::from);
        Self {
            read: read.into_iter().collect(),
            write: write.chain([scratch.to_owned()]).collect(),
            network,
        }
    }

    /// Confines, by Landlock, this thread and every process that it starts from now on, for good.
    ///
    /// # Errors
    /// When the kernel cannot.
    pub fn apply(&self) -> Result<(), Unconfined> {
        let rules = || {
            let mut rules = Ruleset::default()
                .set_compatibility(CompatLevel::BestEffort)
                .handle_access(AccessFs::from_all(RULES))?;
            if !self.network {
                rules = rules.handle_access(AccessNet::from_all(RULES))?;
            }
            rules
                .create()?
                .add_rules(path_beneath_rules(&self.read, AccessFs::from_read(RULES)))?
                .add_rules(path_beneath_rules(&self.write, AccessFs::from_all(RULES)))?
                .restrict_self()
        };
        match rules() {
            Ok(status) if status.ruleset == RulesetStatus::NotEnforced => {
                Err(Unconfined("this kernel has no Landlock".into()))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(Unconfined(error.to_string())),
        }
    }
}

/// What a strict sandbox would be made of here, for `zako doctor`.
pub fn mechanism() -> Option<&'static str> {
    if namespaces::are_available() {
        return Some("user namespaces with mounts of their own, no network");
    }
    // The thread is confined for good, so it is one that ends.
    let probe = std::thread::spawn(move || {
        let confine = Confine {
            read: vec![PathBuf::from("/")],
            write: Vec::new(),
            network: true,
        };
        confine.apply().is_ok()
    });
    let confined = probe.join().unwrap_or(false);
    confined.then_some("Landlock: files and TCP; UDP stays open")
}

/// Files of the workspace at `root`, outside `scratch`, that the trace of a command run in `cwd` shows
/// as opened or executed.
pub fn undeclared(trace: &str, root: &Path, scratch: &Path, cwd: &Path) -> BTreeSet<String> {
    trace
        .lines()
        .filter(|line| {
            ["open(", "openat(", "execve("]
                .iter()
                .any(|call| line.contains(call))
        })
        .filter(|line| !line.contains(" = -1 ") && !line.contains("O_DIRECTORY"))
        .filter_map(|line| line.split('"').nth(1))
        .map(|path| normal(&cwd.join(path)))
        .filter(|path| !path.starts_with(scratch))
        .filter_map(|path| Some(path.strip_prefix(root).ok()?.to_str()?.to_owned()))
        .filter(|path| root.join(path).is_file())
        .collect()
}

/// `path` without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(normal.pop()),
            part => normal.push(part),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_holds_the_workspace_may_be_read() {
        let confine = Confine::strict(
            Path::new("/opt/work/repo"),
            Path::new("/opt/work/repo/.zako/scratch/1"),
            "/usr/bin:/srv/me/.node/bin:relative",
            Path::new("/srv/me/tools/cc"),
            false,
        );
        let reads = |path: &str| {
            confine
                .read
                .iter()
                .any(|dir| Path::new(path).starts_with(dir))
        };
        assert!(reads("/usr/lib/x") && reads("/srv/me/.node/lib/x") && reads("/srv/me/tools/cc"));
        assert!(!reads("/opt/work/repo/src/x") && !reads("/var/x"));
        assert!(
            confine
                .write
                .contains(&PathBuf::from("/opt/work/repo/.zako/scratch/1"))
        );
    }

    #[test]
    fn a_trace_tells_what_was_read_undeclared() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::write(root.join("secret.h"), "").unwrap();
        std::fs::write(root.join("other.h"), "").unwrap();
        let scratch = root.join(".zako/scratch/1");
        let cwd = scratch.join("work");
        let trace = format!(
            "12 openat(AT_FDCWD, \"{0}/secret.h\", O_RDONLY) = 3\n12 openat(AT_FDCWD, \"{0}/none.h\", O_RDONLY) = -1 ENOENT\n\
             12 openat(AT_FDCWD, \"../../../../other.h\", O_RDONLY) = 3\n12 openat(AT_FDCWD, \"a.c\", O_RDONLY) = 3\n\
             12 openat(AT_FDCWD, \"/usr/include/stdio.h\", O_RDONLY) = 3\n",
            root.display()
        );
        let found = undeclared(&trace, root, &scratch, &cwd);
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            ["other.h", "secret.h"]
        );
    }
}
