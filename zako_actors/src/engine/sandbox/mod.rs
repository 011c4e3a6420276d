//! The sandbox: what a command may touch beyond its scratch directory.
//!
//! Owns the modes, the rules of `strict`, their mechanisms (`namespaces` where the kernel allows them,
//! otherwise Landlock). Does not know targets, nor what `warn` saw (`trace`), nor what belongs to a
//! program (`programs`).
//! Invariants: a strict step that could not be confined does not run; confining is inherited by
//! everything that a command starts, and cannot be undone by it.

mod loopback;
pub mod namespaces;
mod programs;
mod trace;
mod view;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

pub use crate::lang::manifest::SandboxMode as Mode;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};
use programs::Shown;
pub use programs::{Readable, follow, normal};
use serde::{Deserialize, Serialize};

use namespaces::Kind;
pub use trace::undeclared;

/// The newest rules that are asked for; an older kernel enforces those that it knows,
const RULES: ABI = ABI::V6;
/// but the network is closed or nothing starts: the first rules that can.
const NETWORK_RULES: ABI = ABI::V4;
/// What belongs to the machine, not to anybody's work.
const SYSTEM: [&str; 12] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix",
    "/proc", "/sys",
];
/// Devices that hold nothing; where there are namespaces, the last three are the command's own.
const DEVICES: [&str; 9] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/shm",
];

/// What one command may touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confine {
    /// Read and execute. Of a link the link itself: what it leads to is listed by a path without links.
    pub read: Vec<PathBuf>,
    /// Everything.
    pub write: Vec<PathBuf>,
    /// Directories within those of `write` of which nothing is shown.
    pub hide: Vec<PathBuf>,
    /// Directories to be written to that are not there yet and lie beside hidden ones. Landlock knows only what is
    /// there, so it makes them.
    pub make: Vec<PathBuf>,
    /// Whether the network may be used; Landlock closes TCP and abstract sockets only.
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
    /// The rules of a command that runs in `scratch` of the workspace at `root` with this PATH, for somebody
    /// whose own things lie in `home`, where this is `readable`.
    pub fn strict(
        (root, scratch, home): (&Path, &Path, Option<&Path>),
        search: &str,
        program: &Path,
        (network, readable): (bool, &Readable),
    ) -> Self {
        let mut shown = readable.on_path(search, root, home);
        shown.add_program(program, home);
        shown.leave_out(root);
        let (links, work) = follow(scratch);
        shown.links.extend(links);
        let write = DEVICES.iter().map(PathBuf::from);
        Self {
            read: shown.outermost(),
            write: write.chain([work]).collect(),
            hide: Vec::new(),
            make: Vec::new(),
            network,
        }
    }

    /// Lets a command that runs in the workspace read `places` there, too.
    pub fn show(&mut self, places: impl IntoIterator<Item = PathBuf>) {
        let mut shown = Shown::default();
        places.into_iter().for_each(|path| drop(shown.add(&path)));
        self.read.extend(shown.outermost());
    }

    /// Confines, by Landlock, this thread and every process that it starts from now on, for good.
    ///
    /// # Errors
    /// When the kernel cannot.
    pub fn apply(&self) -> Result<(), Unconfined> {
        // A rule for a link would be one for all that it leads to; links themselves need none.
        let read = self.read.iter().filter(|path| !path.is_symlink());
        let (write, split) = self.around_hidden();
        let rules = || {
            let mut rules = Ruleset::default()
                .set_compatibility(CompatLevel::BestEffort)
                .handle_access(AccessFs::from_all(RULES))?
                .scope(Scope::Signal)?;
            if !self.network {
                rules = rules
                    .scope(Scope::AbstractUnixSocket)?
                    .set_compatibility(CompatLevel::HardRequirement)
                    .handle_access(AccessNet::from_all(NETWORK_RULES))?
                    .set_compatibility(CompatLevel::BestEffort);
            }
            rules
                .create()?
                .add_rules(path_beneath_rules(read, AccessFs::from_read(RULES)))?
                .add_rules(path_beneath_rules(&write, AccessFs::from_all(RULES)))?
                .add_rules(path_beneath_rules(&split, AccessFs::ReadDir))?
                .restrict_self()
        };
        if !self.network && !closes_tcp() {
            let why = "the Landlock of this kernel cannot close the network (Linux 6.7 can), which `network: true` of a target leaves open";
            return Err(Unconfined(why.into()));
        }
        match rules() {
            Ok(status) if status.ruleset == RulesetStatus::NotEnforced => {
                Err(Unconfined("this kernel has no Landlock".into()))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(Unconfined(error.to_string())),
        }
    }

    /// What Landlock is told may be written to, because its rules hold for everything below: of directories with hidden ones
    /// below them, all else that lies there. These directories, whose names can be listed, come second.
    fn around_hidden(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        // What cannot be made the command cannot make either, and says so itself.
        self.make
            .iter()
            .for_each(|dir| drop(fs::create_dir_all(dir)));
        let (mut write, mut split) = (Vec::new(), Vec::new());
        let mut pending = self.write.clone();
        while let Some(path) = pending.pop() {
            if !self.hide.iter().any(|hidden| hidden.starts_with(&path)) {
                write.push(path);
            } else if !self.hide.contains(&path) {
                let entries = fs::read_dir(&path).into_iter().flatten().flatten();
                // A rule for a link would be one for all that it leads to.
                let entries = entries.map(|entry| entry.path());
                pending.extend(entries.filter(|entry| !entry.is_symlink()));
                split.push(path);
            }
        }
        (write, split)
    }
}

/// Where the things of whoever runs this lie.
pub fn home() -> Option<PathBuf> {
    let home = std::env::var_os("HOME")?;
    Some(home.into()).filter(|home: &PathBuf| home.is_absolute())
}

/// Whether Landlock here knows rules for TCP.
fn closes_tcp() -> bool {
    let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let rules = rules.handle_access(AccessNet::from_all(NETWORK_RULES));
    rules.is_ok()
}

/// Whether Landlock here keeps signals and abstract sockets inside (Linux 6.12).
fn closes_signals() -> bool {
    let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    rules.scope(Scope::from_all(RULES)).is_ok()
}

/// What a strict sandbox is made of here, and what it leaves open.
pub fn mechanism() -> Option<&'static str> {
    match namespaces::available() {
        Some(Kind::Processes) => {
            return Some(
                "user namespaces with mounts and processes of their own, no network but localhost of their own",
            );
        }
        Some(Kind::Mounts) => {
            return Some(
                "user namespaces with mounts of their own, no network but localhost of their own; there are no process namespaces here, so other processes can be seen and signalled",
            );
        }
        None => {}
    }
    // The thread is confined for good, so it is one that ends.
    let confines = |network| {
        let probe = std::thread::spawn(move || {
            let confine = Confine {
                read: vec![PathBuf::from("/")],
                network,
                ..Confine::default()
            };
            confine.apply().is_ok()
        });
        probe.join().unwrap_or(false)
    };
    by_landlock(confines(true), confines(false), closes_signals())
}

/// What Landlock does where it confines `files`, `tcp` as well, and `signals` as well.
fn by_landlock(files: bool, tcp: bool, signals: bool) -> Option<&'static str> {
    match (files, tcp, signals) {
        (_, true, true) => Some(
            "Landlock: files, TCP (localhost too), signals and abstract sockets; UDP and /dev/shm stay open, other processes can be seen",
        ),
        (_, true, false) => Some(
            "Landlock: files and TCP (localhost too); UDP, abstract sockets and /dev/shm stay open, other processes can be seen and signalled",
        ),
        (true, false, _) => Some(
            "Landlock: files only; steps without `network: true` do not start, because this kernel cannot close TCP (Linux 6.7 can)",
        ),
        (false, false, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_holds_the_workspace_may_be_read() {
        let confine = Confine::strict(
            (
                Path::new("/opt/work/repo"),
                Path::new("/opt/work/repo/.zako/scratch/1"),
                None,
            ),
            "/usr/bin:/srv/me/.node/bin:relative",
            Path::new("/srv/me/tools/cc"),
            (false, &Readable::default()),
        );
        let reads = |path: &str| reads(&confine, path);
        assert!(reads("/usr/lib/x") && reads("/srv/me/.node/lib/x") && reads("/srv/me/tools/cc"));
        assert!(!reads("/opt/work/repo/src/x") && !reads("/var/x"));
        assert!(
            confine
                .write
                .contains(&PathBuf::from("/opt/work/repo/.zako/scratch/1"))
        );
    }

    fn reads(confine: &Confine, path: &str) -> bool {
        let mut all = confine.read.iter();
        all.any(|dir| Path::new(path).starts_with(dir))
    }

    #[test]
    fn a_directory_of_programs_in_a_home_shows_nothing_else_of_it() {
        let strict = |search: &str, program: &str| {
            let home = Some(Path::new("/data/me"));
            let (root, scratch) = (Path::new("/srv/x"), Path::new("/srv/x/.zako/s/1"));
            let more = Readable::new(vec![PathBuf::from("/data/me/.shims")]);
            let program = Path::new(program);
            Confine::strict((root, scratch, home), search, program, (false, &more))
        };
        let homes = Path::new("/home");
        let of = |path: &str| homes.join(path).display().to_string();
        let search = [
            of("alice/bin"),
            of("bob"),
            "/root:/data/me:/data/me/.nvm/v20/bin:/data/me/.local/bin".into(),
        ];
        let confine = strict(&search.join(":"), &of("alice/cc"));
        let tools = "/data/me/.nvm/v20/lib/node_modules".to_owned();
        let shared = "/data/me/.nvm/v20/share/x".to_owned();
        let more = "/data/me/.shims/x".to_owned();
        for path in [of("alice/bin/x"), of("alice/cc"), tools, shared, more] {
            assert!(reads(&confine, &path), "{path}");
        }
        let others = [
            "/data/me/.ssh/id",
            "/data/me/.nvm/x",
            "/data/me/.local/share/x",
            "/root",
        ];
        let others = others.map(str::to_owned);
        for path in [of("alice/.ssh/id"), of("bob/x")].iter().chain(&others) {
            assert!(!reads(&confine, path), "{path}");
        }
    }

    #[test]
    fn what_landlock_leaves_open_is_said() {
        assert_eq!(by_landlock(false, false, false), None);
        let said = |signals| by_landlock(true, true, signals).unwrap();
        assert!(said(true).contains("UDP") && !said(true).contains("signalled"));
        assert!(said(false).contains("files and TCP (") && said(false).contains("signalled"));
        let partly = by_landlock(true, false, false).unwrap();
        assert!(partly.contains("files only") && !partly.contains("files and TCP"));
    }
}
