//! A directory that is filled with what a stranger's archive says, and the one form in which it is kept.
//!
//! Owns what an entry may be called and where a link may lead, the limits, and the archive that a package is
//! stored as. Does not know formats of archives but that one.
//! Invariants: nothing is written outside of the directory, whatever order entries come in: links are made
//! after everything else, and only when each leads to a place inside; the same files make the same archive.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::lang::package_limits::PackageLimits;

/// Links that lead to links, as many as Linux follows.
const MOST_HOPS: usize = 40;
/// Bytes of a path in an archive.
const LONGEST_PATH: usize = 1024;

/// Why there is no directory of an archive.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// It is damaged.
    #[error("the archive cannot be read: {0}")]
    Archive(#[source] io::Error),
    /// It is something else.
    #[error("what came {0}; an archive is .tar, .tar.gz, .tar.zst or .zip")]
    Format(&'static str),
    /// One of its entries is not to be trusted.
    #[error("the archive is refused: `{path}` {why}")]
    Refused {
        /// Its name in the archive.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is too much of it.
    #[error(
        "the archive is refused: it holds more than {limit}; `{setting}` in [settings.packages] of zako.toml allows more"
    )]
    TooLarge {
        /// The limit with its unit.
        limit: String,
        /// Where it can be set.
        setting: &'static str,
    },
    /// The disk refused.
    #[error("cannot write {}: {source}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl TreeError {
    /// An entry that is not to be trusted.
    pub fn refused(path: &[u8], why: &'static str) -> Self {
        Self::Refused {
            path: String::from_utf8_lossy(path).escape_debug().to_string(),
            why,
        }
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> TreeError + '_ {
    move |source| TreeError::Disk {
        path: path.to_owned(),
        source,
    }
}

/// A directory being filled.
pub struct Tree<'l> {
    root: PathBuf,
    pub(super) limits: &'l PackageLimits,
    bytes: u64,
    entries: u64,
    /// Not made yet: path to target.
    links: BTreeMap<String, String>,
}

impl<'l> Tree<'l> {
    /// Fills the empty directory `root`.
    pub fn new(root: PathBuf, limits: &'l PackageLimits) -> Self {
        Self {
            root,
            limits,
            bytes: 0,
            entries: 0,
            links: BTreeMap::new(),
        }
    }

    /// A file; a later one of the same name replaces it.
    ///
    /// # Errors
    /// When it may not be there, or is more than allowed.
    pub fn file(
        &mut self,
        path: &[u8],
        executable: bool,
        content: &mut dyn Read,
    ) -> Result<(), TreeError> {
        let Some(relative) = self.admit(path)? else {
            return Err(TreeError::refused(path, "is the name of no file"));
        };
        let full = self.make_room(path, &relative)?;
        let mode = if executable { 0o755 } else { 0o644 };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&full)
            .map_err(failed(&full))?;
        let mut piece = vec![0; 64 * 1024];
        loop {
            let length = match content.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(TreeError::Archive(error)),
            };
            self.bytes += length as u64;
            if self.bytes > self.limits.max_size {
                return Err(TreeError::TooLarge {
                    limit: format!("{} bytes", self.limits.max_size),
                    setting: "max-size",
                });
            }
            file.write_all(&piece[..length]).map_err(failed(&full))?;
        }
        // Whatever the umask is: the mode is part of what the package is.
        file.set_permissions(fs::Permissions::from_mode(mode))
            .map_err(failed(&full))
    }

    /// A directory.
    ///
    /// # Errors
    /// When it may not be there.
    pub fn directory(&mut self, path: &[u8]) -> Result<(), TreeError> {
        match self.admit(path)? {
            Some(relative) => self.make_directory(path, &relative),
            None => Ok(()),
        }
    }

    /// A symbolic link, to be made at the end.
    ///
    /// # Errors
    /// When it may not be there.
    pub fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), TreeError> {
        let Some(relative) = self.admit(path)? else {
            return Err(TreeError::refused(path, "is the name of no link"));
        };
        let target = std::str::from_utf8(target).ok();
        let target =
            target.filter(|to| !to.is_empty() && to.len() <= LONGEST_PATH && !to.contains('\0'));
        let target = target.ok_or_else(|| TreeError::refused(path, "is a link to no path"))?;
        self.links.insert(relative, target.to_owned());
        Ok(())
    }

    /// Another name of a file that came before.
    ///
    /// # Errors
    /// When there is no such file, or this one may not be there.
    pub fn same(&mut self, path: &[u8], of: &[u8]) -> Result<(), TreeError> {
        let from = checked(of)?.filter(|of| self.root.join(of).is_file());
        let Some(from) = from else {
            return Err(TreeError::refused(
                path,
                "is the name of a file that did not come before it",
            ));
        };
        let from = self.root.join(from);
        let mut content = File::open(&from).map_err(failed(&from))?;
        let mode = content
            .metadata()
            .map_err(failed(&from))?
            .permissions()
            .mode();
        self.file(path, mode & 0o100 != 0, &mut content)
    }

    /// Makes the links; the directory that holds it all. With `unwrap` that is the one directory that
    /// everything lies in, where there is such.
    ///
    /// # Errors
    /// When a link leads out of it.
    pub fn finish(self, unwrap: bool) -> Result<PathBuf, TreeError> {
        let only = if unwrap { self.only_directory()? } else { None };
        let (root, prefix) = match &only {
            Some(name) => (self.root.join(name), format!("{name}/")),
            None => (self.root.clone(), String::new()),
        };
        let links: BTreeMap<&str, &str> = self
            .links
            .iter()
            .map(|(path, target)| (path.strip_prefix(&prefix).unwrap_or(path), target.as_str()))
            .collect();
        for path in links.keys() {
            let mut above = path.rmatch_indices('/').map(|(at, _)| &path[..at]);
            if above.any(|dir| links.contains_key(dir)) {
                return Err(TreeError::refused(path.as_bytes(), "lies below a link"));
            }
            if !stays(path, &links) {
                return Err(TreeError::refused(
                    path.as_bytes(),
                    "is a link that leaves the archive or turns in a circle",
                ));
            }
        }
        for (path, target) in &links {
            let full = root.join(path);
            if let Some(parent) = full.parent() {
                fs::create_dir_all(parent).map_err(failed(parent))?;
            }
            if full.symlink_metadata().is_ok() {
                return Err(TreeError::refused(
                    path.as_bytes(),
                    "is a link and something else as well",
                ));
            }
            symlink(target, &full).map_err(failed(&full))?;
        }
        Ok(root)
    }

    /// The directory that everything lies in.
    fn only_directory(&self) -> Result<Option<String>, TreeError> {
        let entries = fs::read_dir(&self.root).map_err(failed(&self.root))?;
        let mut names = Vec::new();
        for entry in entries.take(2) {
            let entry = entry.map_err(failed(&self.root))?;
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            names.push((entry.file_name().into_string().unwrap_or_default(), is_dir));
        }
        let [(name, true)] = names.as_slice() else {
            return Ok(None);
        };
        let inside = |path: &String| path.split_once('/').is_some_and(|(top, _)| top == name);
        Ok(self.links.keys().all(inside).then(|| name.clone()))
    }

    /// Counts an entry; its path, or nothing for the directory itself.
    fn admit(&mut self, path: &[u8]) -> Result<Option<String>, TreeError> {
        self.entries += 1;
        if self.entries > self.limits.max_files {
            return Err(TreeError::TooLarge {
                limit: format!("{} files", self.limits.max_files),
                setting: "max-files",
            });
        }
        checked(path)
    }

    /// Has nothing lie at the place of a file but its directories above.
    fn make_room(&self, path: &[u8], relative: &str) -> Result<PathBuf, TreeError> {
        if let Some((parent, _)) = relative.rsplit_once('/') {
            self.make_directory(path, parent)?;
        }
        let full = self.root.join(relative);
        match full.symlink_metadata() {
            Ok(there) if there.is_dir() => Err(TreeError::refused(
                path,
                "is a file and a directory as well",
            )),
            Ok(_) => fs::remove_file(&full).map_err(failed(&full)).map(|()| full),
            Err(_) => Ok(full),
        }
    }

    fn make_directory(&self, path: &[u8], relative: &str) -> Result<(), TreeError> {
        let full = self.root.join(relative);
        match fs::create_dir_all(&full) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory
                ) =>
            {
                Err(TreeError::refused(
                    path,
                    "is a directory and a file as well",
                ))
            }
            made => made.map_err(failed(&full)),
        }
    }
}

/// A path that stays inside, without needless parts; nothing for the directory itself.
fn checked(path: &[u8]) -> Result<Option<String>, TreeError> {
    let refuse = |why| Err(TreeError::refused(path, why));
    let Ok(text) = std::str::from_utf8(path) else {
        return refuse("is not written in UTF-8");
    };
    if text.starts_with('/') {
        return refuse("is absolute");
    }
    if text.len() > LONGEST_PATH {
        return refuse("is too long");
    }
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return refuse("leaves the archive"),
            _ if part.contains('\\') || part.contains(char::is_control) || part.len() > 255 => {
                return refuse("is no name of a file");
            }
            // Whoever calls git there would run what its configuration says.
            _ if part.eq_ignore_ascii_case(".git") => return refuse("is git's own"),
            _ => parts.push(part),
        }
    }
    Ok((!parts.is_empty()).then(|| parts.join("/")))
}

/// Whether following the link at `path`, through other links if need be, never leaves the root.
fn stays(path: &str, links: &BTreeMap<&str, &str>) -> bool {
    let mut here: Vec<&str> = Vec::new();
    let mut ahead: Vec<&str> = path.rsplit('/').collect();
    let mut hops = 0;
    while let Some(part) = ahead.pop() {
        match part {
            "" | "." => {}
            ".." => {
                if here.pop().is_none() {
                    return false;
                }
            }
            part => {
                here.push(part);
                if let Some(target) = links.get(here.join("/").as_str()) {
                    hops += 1;
                    if hops > MOST_HOPS || target.starts_with('/') {
                        return false;
                    }
                    here.pop();
                    ahead.extend(target.rsplit('/'));
                }
            }
        }
    }
    true
}

/// Writes what lies in `root` as one archive: names sorted, no times, no owners. Empty directories are not part
/// of a package.
///
/// # Errors
/// When the disk refuses.
pub fn pack(root: &Path, into: &Path) -> Result<(), TreeError> {
    let mut paths = Vec::new();
    list(root, "", &mut paths)?;
    paths.sort();
    let file = File::create(into).map_err(failed(into))?;
    let mut archive = tar::Builder::new(io::BufWriter::new(file));
    for path in paths {
        let full = root.join(&path);
        let metadata = full.symlink_metadata().map_err(failed(&full))?;
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        if metadata.is_symlink() {
            let target = fs::read_link(&full).map_err(failed(&full))?;
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            archive
                .append_link(&mut header, &path, target)
                .map_err(failed(into))?;
        } else {
            header.set_mode(metadata.permissions().mode() & 0o777);
            header.set_size(metadata.len());
            let content = File::open(&full).map_err(failed(&full))?;
            archive
                .append_data(&mut header, &path, content)
                .map_err(failed(into))?;
        }
    }
    let written = archive.into_inner().and_then(|mut file| file.flush());
    written.map_err(failed(into))
}

fn list(root: &Path, relative: &str, paths: &mut Vec<String>) -> Result<(), TreeError> {
    let dir = root.join(relative);
    for entry in fs::read_dir(&dir).map_err(failed(&dir))? {
        let entry = entry.map_err(failed(&dir))?;
        let name = entry.file_name();
        // All of them were written by `Tree`, from UTF-8.
        let name = name.to_string_lossy();
        let path = if relative.is_empty() {
            name.into_owned()
        } else {
            format!("{relative}/{name}")
        };
        match entry.file_type().map_err(failed(&dir))?.is_dir() {
            true => list(root, &path, paths)?,
            false => paths.push(path),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::archive::unpack_tar;
    use super::*;

    fn filled(entries: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let limits = PackageLimits::default();
        let mut tree = Tree::new(root, &limits);
        for (path, text) in entries {
            match text.strip_prefix("-> ") {
                Some(target) => tree.link(path.as_bytes(), target.as_bytes()).unwrap(),
                None => {
                    let executable = text.starts_with("#!");
                    tree.file(path.as_bytes(), executable, &mut text.as_bytes())
                        .unwrap();
                }
            }
        }
        let root = tree.finish(false).unwrap();
        (dir, root)
    }

    /// The lock files of everybody name packages by this form: it stays for ever.
    #[test]
    fn the_same_files_are_the_same_archive_today_and_tomorrow() {
        let long = format!("{}/x", "directory/".repeat(20));
        let files = [
            ("b", "text"),
            ("a/run", "#!/bin/sh"),
            (&*long, "y"),
            ("l", "-> a/run"),
            ("ü", ""),
        ];
        let (dir, root) = filled(&files);
        let archive = dir.path().join("archive");
        pack(&root, &archive).unwrap();
        let bytes = fs::read(&archive).unwrap();
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), PINNED);

        let other = files.iter().rev().copied();
        let (dir, root) = filled(&other.collect::<Vec<_>>());
        pack(&root, &dir.path().join("archive")).unwrap();
        assert_eq!(fs::read(dir.path().join("archive")).unwrap(), bytes);

        let limits = PackageLimits::default();
        let again = dir.path().join("again");
        fs::create_dir(&again).unwrap();
        let mut tree = Tree::new(again, &limits);
        unpack_tar(&bytes[..], &mut tree).unwrap();
        let again = tree.finish(false).unwrap();
        assert_eq!(fs::read_to_string(again.join(&long)).unwrap(), "y");
        assert_eq!(
            fs::metadata(again.join("l")).unwrap().permissions().mode() & 0o777,
            0o755
        );
        pack(&again, &dir.path().join("archive")).unwrap();
        assert_eq!(fs::read(dir.path().join("archive")).unwrap(), bytes);
    }

    const PINNED: &str = "814c587963754479e1e30bf0b94ff8a43c8bf975a3578ec539e5e61066cc0fe2";

    #[test]
    fn links_are_followed_as_the_system_follows_them() {
        let links = |list: &[(&'static str, &'static str)]| -> BTreeMap<&str, &str> {
            list.iter().copied().collect()
        };
        let all = links(&[
            ("a", "b/c"),
            ("b/c", "../d"),
            ("up", "a/.."),
            ("deep/er", "../.."),
            ("out", "deep/er/../x"),
        ]);
        assert!(stays("a", &all) && stays("b/c", &all) && stays("up", &all));
        // `deep/er` is two levels below the root and leads one above it.
        assert!(!stays("deep/er", &links(&[("deep/er", "../../..")])));
        assert!(!stays(
            "out",
            &links(&[("deep/er", ".."), ("out", "deep/er/../x")])
        ));
        assert!(stays(
            "in",
            &links(&[("deep/er", ".."), ("in", "deep/er/x")])
        ));
        assert!(!stays("a", &links(&[("a", "a")])) && !stays("a", &links(&[("a", "/etc")])));
    }
}
