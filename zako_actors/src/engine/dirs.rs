//! Directory listings and the expansion of globs over them.
//!
//! Owns the listing cache: a directory is listed again only when its stamp changed, or where one of its links leads.
//! Does not know file contents.
//! Invariants: results are sorted and relative to the workspace; `.zako`, `.git` and
//! `node_modules` are entered only where a pattern writes their name; a symbolic link to a
//! directory is not followed, so a walk ends.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::stamp::{Stamp, now_ns};
use crate::lang::pattern::Pattern;
use crate::lang::target::join;
use crate::texts::what_else;

/// Directories that a wildcard does not enter.
const UNSEEN: [&str; 1] = ["node_modules"];

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Listing {
    stamp: Stamp,
    settled: bool,
    names: Names,
    /// The links among all entries, with what they led to: that may change while the directory does not.
    links: Box<[(Box<str>, To)]>,
    /// Entries whose names are not UTF-8, as they are and with true for a directory.
    odd: Box<[(Box<[u8]>, bool)]>,
    /// Entries that are neither files, directories nor links.
    special: Box<[Box<str>]>,
}

/// What a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum To {
    File,
    Directory,
    /// Neither of them, or nothing.
    Else,
}

impl To {
    fn of(link: &Path) -> Self {
        match fs::metadata(link) {
            Ok(to) if to.is_file() => Self::File,
            Ok(to) if to.is_dir() => Self::Directory,
            _ => Self::Else,
        }
    }
}

impl Listing {
    /// Whether it still says what is in `dir`, which has this stamp.
    fn holds(&self, dir: &Path, stamp: Stamp) -> bool {
        let mut links = self.links.iter();
        self.settled
            && self.stamp == stamp
            && links.all(|(name, to)| To::of(&dir.join(&**name)) == *to)
    }
}

/// What is in a directory, sorted: one text, for a large workspace has hundreds of thousands of names.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Names(Box<str>);

/// Ends the name of a directory in [`Names`].
const DIRECTORY: char = '/';
/// Ends the name of a file there.
const FILE: char = '\0';

impl Names {
    /// Of these, with true for a directory.
    fn new(mut names: Vec<(String, bool)>) -> Self {
        names.sort_unstable();
        let mut text = String::new();
        for (name, is_dir) in names {
            text.push_str(&name);
            text.push(if is_dir { DIRECTORY } else { FILE });
        }
        Self(text.into())
    }

    /// Each with true for a directory.
    fn iter(&self) -> impl Iterator<Item = (&str, bool)> {
        let names = self.0.split_inclusive([DIRECTORY, FILE]);
        names.map(|name| match name.strip_suffix(DIRECTORY) {
            Some(name) => (name, true),
            None => (name.trim_end_matches(FILE), false),
        })
    }
}

/// Everything that is known about directories.
#[derive(Debug, Default)]
pub struct DirTable {
    root: PathBuf,
    listings: FxHashMap<Box<str>, Listing>,
    /// Checked in this run already.
    fresh: rustc_hash::FxHashSet<Box<str>>,
    /// Links to directories of which was said that they are not entered.
    told: rustc_hash::FxHashSet<String>,
    changed: bool,
}

/// The persistent part of a [`DirTable`].
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct SavedDirs(Vec<(Box<str>, Listing)>);

/// What has certain names.
#[derive(Debug, Default)]
pub struct Named {
    /// The files.
    pub files: Vec<String>,
    /// What is none, with what it is in words.
    pub others: Vec<(String, String)>,
}

/// Why nothing is known of what is in `dir`.
fn unlisted(dir: &str, error: &io::Error) -> io::Error {
    let dir = if dir.is_empty() { "the workspace" } else { dir };
    io::Error::new(error.kind(), format!("cannot list {dir}: {error}"))
}

impl DirTable {
    /// A table for the workspace at `root`.
    pub fn new(root: PathBuf, saved: SavedDirs) -> Self {
        Self {
            root,
            listings: saved.0.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Whether there is something to save.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// Takes note that everything is on disk.
    pub fn is_saved(&mut self) {
        self.changed = false;
    }

    /// Has every directory checked again.
    pub fn look_anew(&mut self) {
        self.fresh.clear();
    }

    /// Hands the persistent part over, in path order, until it is [put back](Self::put_back).
    pub fn take(&mut self) -> SavedDirs {
        let mut list: Vec<_> = self.listings.drain().collect();
        list.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        SavedDirs(list)
    }

    /// Takes back what was handed over.
    pub fn put_back(&mut self, saved: SavedDirs) {
        self.listings.extend(saved.0);
    }

    /// Every file below `dir` that `include` takes and `exclude` leaves, workspace-relative.
    ///
    /// `skip` names directories and files (workspace-relative) that are not sources.
    ///
    /// # Errors
    /// When a directory cannot be listed; a missing one is merely empty.
    pub fn expand(
        &mut self,
        dir: &str,
        include: &[Pattern],
        exclude: &[Pattern],
        skip: &dyn Fn(&str) -> bool,
    ) -> io::Result<Vec<String>> {
        self.search(dir, include, exclude, skip, &mut |_, _, _| Ok(()))
    }

    /// Like [`expand`](Self::expand), for sources: what a pattern may mean and cannot be found is not passed over in silence. A link
    /// to a directory is a warning.
    ///
    /// # Errors
    /// When a directory cannot be listed, or there is a name that is not UTF-8.
    pub fn expand_sources(
        &mut self,
        dir: &str,
        include: &[Pattern],
        exclude: &[Pattern],
        skip: &dyn Fn(&str) -> bool,
    ) -> io::Result<Vec<String>> {
        let mut links = Vec::new();
        let is_meant = |pattern: &Pattern, path: &str, is_dir: bool| match is_dir {
            true => {
                let name = path.rsplit('/').next().unwrap_or(path);
                (!UNSEEN.contains(&name) || pattern.as_str().contains(name))
                    && pattern.may_match_below(path)
                    && !exclude.iter().any(|out| out.means_all_of(path))
            }
            false => pattern.matches(path) && !exclude.iter().any(|out| out.matches(path)),
        };
        let mut left_out = |pattern: &Pattern, below: &str, listing: &Listing| {
            for (name, is_dir) in &listing.odd {
                if is_meant(
                    pattern,
                    &join(below, &String::from_utf8_lossy(name)),
                    *is_dir,
                ) {
                    let at = join(dir, below);
                    return Err(io::Error::other(format!(
                        "{} holds \"{}\", whose name is not UTF-8, so that nothing can be said of it; rename it, or exclude it from the glob",
                        if at.is_empty() { "the workspace" } else { &at },
                        name.escape_ascii()
                    )));
                }
            }
            let to_dirs = listing.links.iter().filter(|(_, to)| *to == To::Directory);
            let paths = to_dirs.map(|(name, _)| join(below, name));
            links.extend(paths.filter(|path| is_meant(pattern, path, true)));
            Ok(())
        };
        let found = self.search(dir, include, exclude, skip, &mut left_out)?;
        let links = links.iter().map(|path| join(dir, path));
        for link in links.filter(|link| !skip(link)) {
            if self.told.insert(link.clone()) {
                tracing::warn!(
                    "{link} is a symbolic link to a directory, which a glob does not enter; take the files from where they are, or \
                     exclude it from the glob"
                );
            }
        }
        Ok(found)
    }

    /// Like [`expand`](Self::expand), for files that say something by their names: whatever else has such a name is not
    /// passed over.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    pub fn expand_named(
        &mut self,
        dir: &str,
        include: &[Pattern],
        skip: &dyn Fn(&str) -> bool,
    ) -> io::Result<Named> {
        let mut others = BTreeSet::new();
        let mut left_out = |pattern: &Pattern, below: &str, listing: &Listing| {
            let dirs = listing.names.iter().filter(|(_, is_dir)| *is_dir);
            let dirs = dirs.map(|(name, _)| (name, true));
            let links = listing.links.iter().filter(|(_, to)| *to != To::File);
            let links = links.map(|(name, to)| (&**name, *to == To::Directory));
            let special = listing.special.iter().map(|name| (&**name, false));
            for (name, is_dir) in dirs.chain(links).chain(special) {
                // A wildcard means what is in a directory.
                if is_dir && !pattern.ends_in(name) || !pattern.may_match_name(name) {
                    continue;
                }
                let path = join(below, name);
                let whole = join(dir, &path);
                if pattern.matches(&path) && !skip(&whole) {
                    others.insert(whole);
                }
            }
            Ok(())
        };
        let files = self.search(dir, include, &[], skip, &mut left_out)?;
        let what = |path: String| what_else(&self.root.join(&path)).map(|what| (path, what));
        let others = others.into_iter().filter_map(what).collect();
        Ok(Named { files, others })
    }

    /// The files, and to `left_out` each directory that a pattern looks into, as seen from `dir`.
    fn search(
        &mut self,
        dir: &str,
        include: &[Pattern],
        exclude: &[Pattern],
        skip: &dyn Fn(&str) -> bool,
        left_out: &mut dyn FnMut(&Pattern, &str, &Listing) -> io::Result<()>,
    ) -> io::Result<Vec<String>> {
        let mut found = BTreeSet::new();
        for pattern in include {
            let mut pending = vec![pattern.base().to_owned()];
            while let Some(below) = pending.pop() {
                let full = if below.is_empty() {
                    dir.to_owned()
                } else {
                    join(dir, &below)
                };
                let Some(listing) = self.list(&full)? else {
                    continue;
                };
                left_out(pattern, &below, listing)?;
                for (name, is_dir) in listing.names.iter() {
                    if !is_dir && !pattern.may_match_name(name) {
                        continue;
                    }
                    let path = join(&below, name);
                    let whole = join(dir, &path);
                    if is_dir {
                        let unseen = UNSEEN.contains(&name) && !pattern.as_str().contains(name);
                        if !unseen
                            && pattern.may_match_below(&path)
                            && !exclude.iter().any(|out| out.means_all_of(&path))
                            && !skip(&whole)
                        {
                            pending.push(path);
                        }
                    } else if pattern.matches(&path)
                        && !exclude.iter().any(|out| out.matches(&path))
                        && !skip(&whole)
                    {
                        found.insert(whole);
                    }
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    fn list(&mut self, dir: &str) -> io::Result<Option<&Listing>> {
        if !self.fresh.contains(dir) {
            self.refresh(dir)?;
            self.fresh.insert(dir.into());
        }
        Ok(self.listings.get(dir))
    }

    fn refresh(&mut self, dir: &str) -> io::Result<()> {
        let full = self.root.join(dir);
        let now = now_ns();
        let stamp = match fs::metadata(&full) {
            Ok(metadata) if metadata.is_dir() => Stamp::of(&metadata),
            Ok(_) => {
                self.forget(dir);
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.forget(dir);
                return Ok(());
            }
            Err(error) => return Err(unlisted(dir, &error)),
        };
        if (self.listings.get(dir)).is_some_and(|known| known.holds(&full, stamp)) {
            return Ok(());
        }
        let (mut names, mut links, mut odd) = (Vec::new(), Vec::new(), Vec::new());
        let mut special = Vec::new();
        for entry in fs::read_dir(&full).map_err(|error| unlisted(dir, &error))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let name = match entry.file_name().into_string() {
                Ok(name) => name,
                // It cannot be written in a build file.
                Err(name) => {
                    odd.push((name.as_encoded_bytes().into(), kind.is_dir()));
                    continue;
                }
            };
            let mut is_file = kind.is_file();
            if kind.is_symlink() {
                let to = To::of(&entry.path());
                links.push((name.as_str().into(), to));
                is_file = to == To::File;
            }
            if is_file || kind.is_dir() {
                names.push((name, kind.is_dir()));
            } else if !kind.is_symlink() {
                special.push(name.into());
            }
        }
        self.changed = true;
        let settled = stamp.is_settled(now);
        self.listings.insert(
            dir.into(),
            Listing {
                stamp,
                settled,
                names: Names::new(names),
                links: links.into(),
                odd: odd.into(),
                special: special.into(),
            },
        );
        Ok(())
    }

    fn forget(&mut self, dir: &str) {
        self.changed |= self.listings.remove(dir).is_some();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            add(dir.path(), file);
        }
        dir
    }

    fn add(root: &Path, file: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    fn expand(dirs: &mut DirTable, dir: &str, include: &[&str], exclude: &[&str]) -> Vec<String> {
        let read = |list: &[&str]| {
            list.iter()
                .map(|t| Pattern::parse(t).unwrap())
                .collect::<Vec<_>>()
        };
        dirs.expand(dir, &read(include), &read(exclude), &|path| {
            path == "p/dist"
        })
        .unwrap()
    }

    #[test]
    fn globs_find_sorted_sources_only() {
        let root = tree(&[
            "p/src/b.ts",
            "p/src/a.ts",
            "p/src/x/c.ts",
            "p/src/a.css",
            "p/dist/a.ts",
            "p/node_modules/m/i.ts",
            ".git/x.ts",
            "p/.hidden/h.ts",
        ]);
        let mut dirs = DirTable::new(root.path().into(), SavedDirs::default());
        assert_eq!(
            expand(&mut dirs, "p", &["**/*.ts"], &["src/b.ts"]),
            ["p/src/a.ts", "p/src/x/c.ts"]
        );
        let all = "{**,**/.*,**/.*/**}";
        assert_eq!(
            expand(&mut dirs, "", &[all], &[".git/**", "p/**"]),
            Vec::<String>::new()
        );
        assert_eq!(
            expand(&mut dirs, "p", &[all], &["src/**"]),
            ["p/.hidden/h.ts"]
        );
        assert_eq!(
            expand(&mut dirs, "p", &["node_modules/m/*.ts"], &[]),
            ["p/node_modules/m/i.ts"]
        );
        assert_eq!(
            expand(&mut dirs, "", &["p/src/*.ts", "p/src/a.*"], &[]).len(),
            3
        );
        assert!(expand(&mut dirs, "nowhere", &["**"], &[]).is_empty());
    }

    #[test]
    fn where_a_link_leads_is_looked_at_again() {
        let root = tree(&["src/a", "ext/x"]);
        let (src, to) = (root.path().join("src"), root.path().join("ext/b"));
        std::os::unix::fs::symlink("../ext/b", src.join("b")).unwrap();
        // Long ago, so that the directory's stamp alone would be believed.
        let mut dirs = DirTable::new(root.path().into(), SavedDirs::default());
        let found = |dirs: &mut DirTable| {
            for listing in dirs.listings.values_mut() {
                listing.settled = true;
            }
            dirs.look_anew();
            expand(dirs, "", &["src/**"], &[])
        };
        assert_eq!(found(&mut dirs), ["src/a"]);
        fs::write(&to, "").unwrap();
        assert_eq!(found(&mut dirs), ["src/a", "src/b"]);
        fs::remove_file(&to).unwrap();
        assert_eq!(found(&mut dirs), ["src/a"]);
        fs::create_dir(&to).unwrap();
        assert_eq!(found(&mut dirs), ["src/a"]);
    }

    #[test]
    fn a_new_file_is_found_in_a_later_process() {
        let root = tree(&["src/a.ts"]);
        let mut dirs = DirTable::new(root.path().into(), SavedDirs::default());
        assert_eq!(expand(&mut dirs, "", &["src/*.ts"], &[]).len(), 1);
        let saved = postcard::to_stdvec(&dirs.take()).unwrap();
        add(root.path(), "src/b.ts");
        let mut dirs = DirTable::new(root.path().into(), postcard::from_bytes(&saved).unwrap());
        assert_eq!(expand(&mut dirs, "", &["src/*.ts"], &[]).len(), 2);
    }
}
