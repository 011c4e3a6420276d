//! What belongs to programs: where they lie, what lies beside them, and where links lead.
//!
//! Owns the rules of thumb for PATH, for prefixes and for homes. Does not know how anything is shown or hidden.
//! Invariants: what is to be read is named by a path without links, and every link on the way to it is named, too; no home is
//! shown as a whole; a link in a directory of programs shows its target and what belongs to that.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::SYSTEM;

/// What lies beside a directory of programs and belongs to them.
const BESIDE: [&str; 6] = ["lib", "lib32", "lib64", "libexec", "include", "pyvenv.cfg"];
/// So many places may be added by links in directories of programs: each is a mount, and an open file while it is made.
const MAX_LINKED: usize = 500;
/// As many links in one path as the kernel follows.
const MAX_LINKS: usize = 40;

/// Places that a command may read.
#[derive(Debug, Default)]
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

    /// Shows the programs on the PATH `search`, and `program`, to somebody whose own things lie in `home`.
    pub fn add_programs(&mut self, search: &str, program: &Path, home: Option<&Path>) {
        let dirs = search.split(':').map(Path::new);
        let is_shown =
            |dir: &&Path| !holds_a_home(dir, home) && !holds_a_home(&follow(dir).1, home);
        let dirs = dirs.filter(|dir| dir.is_absolute()).filter(is_shown);
        let dirs: Vec<&Path> = dirs.collect();
        let real = follow(program).1;
        let of_program = [program, &real].into_iter().filter_map(Path::parent);
        for dir in dirs.iter().copied().chain(of_program.filter(is_shown)) {
            let real = self.add(dir);
            for dir in [dir, &real] {
                beside(dir).for_each(|path| drop(self.add(&path)));
            }
        }
        self.add(program);
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

        let mut shown = Shown::default();
        let search = at("bin").display().to_string();
        shown.add_programs(&search, Path::new("/bin/sh"), Some(&home));
        for path in ["apps/v1/bin/tool", "apps/v1/lib/x", "src/script"] {
            assert!(shown.covers(&at(path)), "{path}: {shown:?}");
        }
        assert!(shown.links.contains(&at("apps/current")));
        for path in ["secret", "apps/other", "apps/v1/x", "src/x"] {
            assert!(!shown.covers(&at(path)), "{path}: {shown:?}");
        }
    }
}
