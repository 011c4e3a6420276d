//! What belongs to programs: where they lie, what lies beside them, and where links lead.
//!
//! Owns the rules of thumb for PATH, for prefixes and for homes. Does not know how anything is shown or hidden.
//! Invariants: what is to be read is named by a path without links, and every link on the way to it is named, too; no home is
//! shown as a whole; a link in a directory of programs shows its target and what belongs to that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::SYSTEM;

/// What lies beside a directory of programs and belongs to them.
const BESIDE: [&str; 6] = ["lib", "lib32", "lib64", "libexec", "include", "pyvenv.cfg"];
/// So many places may be added by links in directories of programs: each is a mount, and an open file while it is made.
const MAX_LINKED: usize = 500;
/// As many links in one path as the kernel follows.
const MAX_LINKS: usize = 40;

/// What the commands of one build may read beside what they declare.
#[derive(Debug, Default)]
pub struct Readable {
    /// What the manifest names.
    more: Vec<PathBuf>,
    /// What belongs to the programs on each PATH, looked up once.
    known: Mutex<BTreeMap<String, Shown>>,
}

impl Readable {
    /// The system's, what belongs to programs, and `more`.
    pub fn new(more: Vec<PathBuf>) -> Self {
        Self {
            more,
            known: Mutex::default(),
        }
    }

    /// What belongs to the machine rather than to anybody's work: the system's directories, what the manifest names, and what
    /// `programs` bring with them. Each as it is written and without links.
    pub fn of_machine<'a>(
        &self,
        programs: impl Iterator<Item = &'a Path>,
        home: Option<&Path>,
    ) -> Vec<PathBuf> {
        let named = self.more.iter().map(PathBuf::as_path);
        let known = SYSTEM.iter().map(Path::new).chain(named);
        let known = known.flat_map(|dir| [dir.to_owned(), follow(dir).1]);
        let brought = programs.flat_map(|program| brought_by(program, home));
        let mut dirs: Vec<PathBuf> = known.chain(brought).collect();
        dirs.sort_unstable();
        dirs.dedup();
        dirs
    }

    /// What a command with the PATH `search` may read of everything outside of `root`.
    pub(super) fn on_path(&self, search: &str, root: &Path, home: Option<&Path>) -> Shown {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shown) = known.get(search) {
            return shown.clone();
        }
        let mut shown = Shown::default();
        let system = SYSTEM.iter().map(Path::new);
        for path in system.chain(self.more.iter().map(PathBuf::as_path)) {
            shown.add(path);
        }
        shown.add_path(search, home);
        shown.leave_out(root);
        let outermost = shown.outermost();
        shown.links.retain(|link| outermost.contains(link));
        known.insert(search.to_owned(), shown.clone());
        shown
    }
}

/// Places that a command may read.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Without links.
    pub read: BTreeSet<PathBuf>,
    /// On the way to them.
    pub links: BTreeSet<PathBuf>,
}

impl Shown {
    /// Shows `path`; tells where it really lies.
    pub fn add(&mut self, path: &Path) -> PathBuf {
        let (links, real) = follow(path);
        self.links.extend(links);
        self.read.insert(real.clone());
        real
    }

    /// Shows `program` to somebody whose own things lie in `home`.
    pub fn add_program(&mut self, program: &Path, home: Option<&Path>) {
        let real = self.add(program);
        for dir in [program, &real].into_iter().filter_map(Path::parent) {
            self.add_dir(dir, home);
        }
    }

    /// Shows a directory of programs, with what lies beside it, unless it is a home; tells whether it did.
    fn add_dir(&mut self, dir: &Path, home: Option<&Path>) -> bool {
        let real = follow(dir).1;
        if holds_a_home(dir, home) || holds_a_home(&real, home) {
            return false;
        }
        self.add(dir);
        for dir in [dir, &real] {
            beside(dir).for_each(|path| drop(self.add(&path)));
        }
        true
    }

    /// Shows the programs on the PATH `search`.
    fn add_path(&mut self, search: &str, home: Option<&Path>) {
        let dirs = search.split(':').map(Path::new);
        let mut dirs: Vec<&Path> = dirs.filter(|dir| dir.is_absolute()).collect();
        dirs.retain(|dir| self.add_dir(dir, home));
        let before = self.read.len();
        for link in dirs.iter().flat_map(|dir| links_in(dir)) {
            if self.read.len() - before < MAX_LINKED {
                self.add_linked(&link, home);
            }
        }
    }

    /// Shows the target of `link`, with what belongs to it when that is a program in a prefix.
    fn add_linked(&mut self, link: &Path, home: Option<&Path>) {
        let (links, real) = follow(link);
        let is_file = fs::symlink_metadata(&real).is_ok_and(|metadata| metadata.is_file());
        if !is_file || self.covers(&real) {
            // Links elsewhere may lead to what is shown.
            self.links.extend(links.into_iter().filter(|_| is_file));
            return;
        }
        self.links.extend(links);
        let dir = real.parent().filter(|dir| dir.ends_with("bin"));
        match dir.filter(|dir| !holds_a_home(dir, home)) {
            Some(dir) => {
                self.add(dir);
                let beside = beside(dir).filter(|path| fs::symlink_metadata(path).is_ok());
                beside.for_each(|path| drop(self.add(&path)));
            }
            None => drop(self.read.insert(real)),
        }
    }

    /// Whatever holds the workspace at `root` would give all of it away.
    pub fn leave_out(&mut self, root: &Path) {
        let outside = |path: &PathBuf| !root.starts_with(path) && !path.starts_with(root);
        self.read.retain(outside);
        self.links.retain(outside);
    }

    /// All of it, without what lies in a directory that is shown itself.
    pub fn outermost(&self) -> Vec<PathBuf> {
        let above = |path: &Path| path.ancestors().skip(1).any(|dir| self.read.contains(dir));
        let all = self.read.iter().chain(&self.links);
        all.filter(|path| !above(path)).cloned().collect()
    }

    fn covers(&self, path: &Path) -> bool {
        path.ancestors().any(|dir| self.read.contains(dir))
    }
}

/// Where the files lie that came with `program`: its directory and the one above, but for the root and homes.
fn brought_by(program: &Path, home: Option<&Path>) -> Vec<PathBuf> {
    let real = follow(program).1;
    let home = home.map(|home| follow(home).1);
    let is_home = |dir: &Path| {
        let of_many = dir.parent() == Some(Path::new("/home"));
        of_many || home.as_ref().is_some_and(|home| home.starts_with(dir))
    };
    let dirs = real.ancestors().skip(1).take(2);
    let dirs = dirs.filter(|dir| dir.parent().is_some() && !is_home(dir));
    dirs.map(Path::to_owned).collect()
}

/// What lies beside the programs in `dir`, when that is the `bin` of a prefix.
fn beside(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let prefix = dir.parent().filter(|_| dir.ends_with("bin"));
    prefix.into_iter().flat_map(|prefix| {
        // That of `~/.local` holds what all programs keep of their user.
        let share = Some("share").filter(|_| !prefix.ends_with(".local"));
        BESIDE
            .into_iter()
            .chain(share)
            .map(|name| prefix.join(name))
    })
}

/// The links in `dir`.
fn links_in(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
    let mut links: Vec<PathBuf> = links.map(|entry| entry.path()).collect();
    links.sort_unstable();
    links
}

/// The links on the way to what `path` names, each by a path without links, and where that lies; of what is not there, where
/// it would.
pub fn follow(path: &Path) -> (Vec<PathBuf>, PathBuf) {
    let mut links: Vec<PathBuf> = Vec::new();
    let mut left = path.to_owned();
    'links: loop {
        let mut real = PathBuf::new();
        let mut parts = left.components();
        while let Some(part) = parts.next() {
            match part {
                Component::CurDir => continue,
                Component::ParentDir => {
                    real.pop();
                    continue;
                }
                part => real.push(part),
            }
            if links.len() < MAX_LINKS
                && let Ok(to) = fs::read_link(&real)
            {
                let rest = parts.as_path().to_owned();
                let dir = real.parent().unwrap_or(Path::new("/"));
                left = dir.join(to).join(rest);
                links.push(real);
                continue 'links;
            }
        }
        return (links, real);
    }
}

/// `path` without `.` and `..`, links or not.
pub fn normal(path: &Path) -> PathBuf {
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

/// Whether `dir` is somebody's home, or holds one.
fn holds_a_home(dir: &Path, home: Option<&Path>) -> bool {
    let of_many = dir.parent() == Some(Path::new("/home"));
    let few =
        dir.components().count() <= 2 && !SYSTEM.iter().any(|system| Path::new(system) == dir);
    of_many || few || home.is_some_and(|home| home.starts_with(dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_link_of_a_chain_is_named_and_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let home = fs::canonicalize(dir.path()).unwrap();
        let at = |path: &str| home.join(path);
        for made in ["bin", "apps/v1/bin", "apps/v1/lib", "apps/other", "src"] {
            fs::create_dir_all(at(made)).unwrap();
        }
        for file in ["apps/v1/bin/tool", "src/script", "secret"] {
            fs::write(at(file), "").unwrap();
        }
        symlink("v1", at("apps/current")).unwrap();
        symlink(at("apps/current/bin/tool"), at("bin/tool")).unwrap();
        symlink("../src/script", at("bin/script")).unwrap();
        symlink("..", at("bin/home")).unwrap();
        symlink("loop", at("bin/loop")).unwrap();

        let (links, real) = follow(&at("bin/tool"));
        assert_eq!(links, [at("bin/tool"), at("apps/current")]);
        assert_eq!(real, at("apps/v1/bin/tool"));
        assert_eq!(follow(&at("bin/loop")).0.len(), MAX_LINKS);

        let brought = brought_by(&at("bin/tool"), Some(&home));
        assert_eq!(brought, [at("apps/v1/bin"), at("apps/v1")]);
        let brought = brought_by(&at("bin/script"), Some(&home));
        assert_eq!(brought, [at("src")], "what lies above is the home");
        assert!(brought_by(Path::new("/program"), None).is_empty());

        let mut shown = Shown::default();
        let search = at("bin").display().to_string();
        shown.add_path(&search, Some(&home));
        for path in ["apps/v1/bin/tool", "apps/v1/lib/x", "src/script"] {
            assert!(shown.covers(&at(path)), "{path}: {shown:?}");
        }
        assert!(shown.links.contains(&at("apps/current")));
        for path in ["secret", "apps/other", "apps/v1/x", "src/x"] {
            assert!(!shown.covers(&at(path)), "{path}: {shown:?}");
        }
    }
}
