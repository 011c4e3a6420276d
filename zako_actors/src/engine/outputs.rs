//! Outputs on their way between scratch directory, store and workspace.
//!
//! Owns collecting what a command left, storing it, and putting it into the workspace. Does not know how an output
//! came to be, nor how it goes (`removal`).
//! Invariants: a file appears in the workspace whole or not at all; every installed file's stamp is known afterwards.

mod error;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use cas_actor::{Digest, Export, Store};

pub use error::OutputError;
use error::failed;

use super::files::{FileFact, FileTable};
use super::hash::Hash;
use super::ledger::{Ledger, Mark};
use super::record::{OutputItem, OutputKind};
use super::stamp::{Stamp, kept_mode};
use crate::lang::target::{Output, join};
use crate::lang::text::Text;

/// Permission bits, those of set-user-ID and the like included.
const MODE_BITS: u32 = 0o7777;

/// What a command left, by its path.
pub type Collected = BTreeMap<Text, Metadata>;

/// Finds what a command left under `work` according to `declared`, sorted by path.
///
/// # Errors
/// When something declared is missing or of the wrong kind.
pub fn collect(work: &Path, declared: &[Output]) -> Result<Collected, OutputError> {
    let mut found = Collected::new();
    for output in declared {
        match output {
            Output::File(path) => {
                let full = work.join(path);
                let metadata =
                    fs::symlink_metadata(&full).map_err(|_| OutputError::Missing(path.into()))?;
                if metadata.is_dir() {
                    return Err(OutputError::IsDirectory(path.into()));
                }
                take(path.clone(), metadata, &mut found)?;
            }
            Output::Tree(path) => {
                let full = work.join(path);
                match fs::symlink_metadata(&full) {
                    Err(_) => return Err(OutputError::Missing(format!("{path}/"))),
                    Ok(metadata) if metadata.is_symlink() => {
                        return Err(OutputError::IsLink(path.into()));
                    }
                    Ok(metadata) if !metadata.is_dir() => {
                        return Err(OutputError::IsFile(path.into()));
                    }
                    Ok(_) => walk(&full, path, &|_| true, &mut found)?,
                }
            }
            Output::Glob(pattern) => {
                // What it matches may be another one's as well, and found already.
                let is_found = Cell::new(false);
                let is_wanted = |path: &str| {
                    let is_wanted = pattern.matches(path);
                    is_found.set(is_found.get() || is_wanted);
                    is_wanted
                };
                let base = pattern.base();
                if work.join(base).is_dir() {
                    walk(&work.join(base), base, &is_wanted, &mut found)?;
                }
                if !is_found.get() {
                    return Err(OutputError::Missing(format!("anything matching {pattern}")));
                }
            }
        }
    }
    Ok(found)
}

/// Like [`collect`], but what is not there is not missed, and a declared directory may be a file.
///
/// # Errors
/// When something is there that cannot be an output.
pub fn collect_what_is_there(root: &Path, declared: &[Output]) -> Result<Collected, OutputError> {
    let mut found = Collected::new();
    for output in declared {
        match output {
            Output::File(path) | Output::Tree(path) => {
                let full = root.join(path);
                match fs::symlink_metadata(&full) {
                    Ok(metadata) if metadata.is_dir() => walk(&full, path, &|_| true, &mut found)?,
                    Ok(metadata) => take(path.clone(), metadata, &mut found)?,
                    Err(_) => {}
                }
            }
            Output::Glob(pattern) => {
                let base = root.join(pattern.base());
                if base.is_dir() {
                    walk(
                        &base,
                        pattern.base(),
                        &|path| pattern.matches(path),
                        &mut found,
                    )?;
                }
            }
        }
    }
    Ok(found)
}

fn take(path: Text, metadata: Metadata, found: &mut Collected) -> Result<(), OutputError> {
    let kind = metadata.file_type();
    if path.contains('\n') {
        return Err(OutputError::BadName(path.as_str().into()));
    }
    if !(kind.is_file() || kind.is_symlink() || kind.is_dir()) {
        return Err(OutputError::Special(path.to_string()));
    }
    found.insert(path, metadata);
    Ok(())
}

fn walk(
    full: &Path,
    dir: &str,
    wanted: &dyn Fn(&str) -> bool,
    found: &mut Collected,
) -> Result<(), OutputError> {
    let mut empty = true;
    for entry in fs::read_dir(full).map_err(failed("list", full))? {
        let entry = entry.map_err(failed("list", full))?;
        empty = false;
        let path = entry.path();
        let name = entry.file_name();
        // The list of outputs has a line for each.
        let Some(name) = name.to_str().filter(|name| !name.contains('\n')) else {
            return Err(OutputError::BadName(path));
        };
        let relative = join(dir, name);
        let metadata = entry.metadata().map_err(failed("look at", &path))?;
        if metadata.is_dir() {
            walk(&path, &relative, wanted, found)?;
        } else if wanted(&relative) {
            take(relative.into(), metadata, found)?;
        }
    }
    if empty && wanted(dir) {
        let metadata = fs::symlink_metadata(full).map_err(failed("look at", full))?;
        found.insert(dir.into(), metadata);
    }
    Ok(())
}

/// Puts collected outputs into the store.
///
/// # Errors
/// When the store refuses.
pub fn store(
    store: &Store,
    work: &Path,
    found: &Collected,
) -> Result<Vec<OutputItem>, OutputError> {
    found
        .iter()
        .map(|(path, metadata)| {
            let full = work.join(path);
            let kind = if metadata.is_symlink() {
                let to = fs::read_link(&full).map_err(failed("read", &full))?;
                let to = to
                    .to_str()
                    .ok_or_else(|| OutputError::BadName(full.clone()))?;
                OutputKind::Link(to.into())
            } else if metadata.is_dir() {
                OutputKind::Directory
            } else {
                let digest =
                    store
                        .blocking()
                        .put_file(&full)
                        .map_err(|source| OutputError::Store {
                            path: path.to_string(),
                            source,
                        })?;
                OutputKind::File {
                    hash: Hash::new(*digest.hash()),
                    size_bytes: digest.size_bytes(),
                    mode: kept_mode(metadata.mode()),
                }
            };
            Ok(OutputItem {
                path: path.clone(),
                kind,
            })
        })
        .collect()
}

/// Moves stored outputs from a scratch directory into the workspace.
///
/// # Errors
/// When the workspace cannot be written.
pub fn install(files: &FileTable, work: &Path, items: &[OutputItem]) -> Result<(), OutputError> {
    for item in items {
        let from = work.join(&*item.path);
        let to = files.root().join(&*item.path);
        match &item.kind {
            OutputKind::File { hash, mode, .. } => {
                make_parent(&to)?;
                move_file(work, &from, &to)?;
                let look = || fs::symlink_metadata(&to).map_err(failed("look at", &to));
                let mut found = look()?;
                // As it will be when it is restored.
                if found.mode() & MODE_BITS != *mode {
                    let allowed = fs::set_permissions(&to, fs::Permissions::from_mode(*mode));
                    allowed.map_err(failed("set the permissions of", &to))?;
                    found = look()?;
                }
                wrote(files, item, *hash, &found);
            }
            _ => place_other(&to, &item.kind)?,
        }
    }
    Ok(())
}

/// Moves a file out of the scratch directory `work`, also of a directory there that its step left read-only.
fn move_file(work: &Path, from: &Path, to: &Path) -> Result<(), OutputError> {
    let mut moved = fs::rename(from, to);
    // A link on the way may lead to what is not the step's.
    let is_here = |dir: &Path| {
        let mut below = dir.ancestors().take_while(|dir| *dir != work);
        below.all(|dir| fs::symlink_metadata(dir).is_ok_and(|it| it.is_dir()))
    };
    if let (Err(error), Some(dir)) = (&moved, from.parent())
        && error.kind() == ErrorKind::PermissionDenied
        && is_here(dir)
        && fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).is_ok()
    {
        moved = fs::rename(from, to);
    }
    match moved {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => copy_whole(from, to),
        done => done.map_err(failed("write", to)),
    }
}

/// Tells the stat cache about outputs that a step left where they belong.
///
/// # Errors
/// When one is gone already.
pub fn adopt(files: &FileTable, items: &[OutputItem]) -> Result<(), OutputError> {
    items.iter().try_for_each(|item| note(files, item))
}

/// Writes outputs from the store into the workspace, where they are not there already.
///
/// # Errors
/// When a blob is gone or the workspace cannot be written.
pub fn restore(files: &FileTable, store: &Store, items: &[OutputItem]) -> Result<(), OutputError> {
    let missing: Vec<&OutputItem> = items
        .iter()
        .filter(|item| !is_intact(files, item))
        .collect();
    let mut exports = Vec::with_capacity(missing.len());
    for item in &missing {
        let to = files.root().join(&*item.path);
        match &item.kind {
            OutputKind::File {
                hash,
                size_bytes,
                mode,
            } => {
                make_parent(&to)?;
                exports.push(Export {
                    digest: Digest::new(*hash.bytes(), *size_bytes),
                    path: to,
                    mode: kept_mode(*mode),
                });
            }
            kind => place_other(&to, kind)?,
        }
    }
    store.blocking().export_many(&exports)?;
    missing.iter().try_for_each(|item| note(files, item))
}

/// Writes one output that is at hand in memory.
///
/// # Errors
/// When the workspace cannot be written.
pub fn write(files: &FileTable, item: &OutputItem, content: &[u8]) -> Result<(), OutputError> {
    let to = files.root().join(&*item.path);
    make_parent(&to)?;
    let temporary = temporary_beside(&to);
    fs::write(&temporary, content)
        .and_then(|()| match item.kind {
            // 0644 is what a new file gets under the umask of a build.
            OutputKind::File { mode, .. } if mode != 0o644 => {
                fs::set_permissions(&temporary, fs::Permissions::from_mode(mode))
            }
            _ => Ok(()),
        })
        .and_then(|()| fs::rename(&temporary, &to))
        .map_err(|error| {
            drop(fs::remove_file(&temporary));
            failed("write", &to)(error)
        })?;
    note(files, item)
}

/// Ends the names of files that are not whole yet.
const UNFINISHED: &str = ".zako-new";

fn temporary_beside(to: &Path) -> PathBuf {
    // A hidden one, which no glob means.
    let mut name = OsString::from(".");
    name.push(to.file_name().unwrap_or_default());
    name.push(UNFINISHED);
    to.with_file_name(name)
}

/// Whether this process gives outputs this path while it writes them, until they get their own.
pub fn is_unfinished(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.ends_with(UNFINISHED) || Export::is_temporary(name)
}

fn copy_whole(from: &Path, to: &Path) -> Result<(), OutputError> {
    let temporary = temporary_beside(to);
    fs::copy(from, &temporary)
        .and_then(|_| fs::rename(&temporary, to))
        .map_err(|error| {
            drop(fs::remove_file(&temporary));
            failed("write", to)(error)
        })
}

fn make_parent(to: &Path) -> Result<(), OutputError> {
    let Some(parent) = to.parent() else {
        return Ok(());
    };
    fs::create_dir_all(parent).map_err(failed("create", parent))
}

fn place_other(to: &Path, kind: &OutputKind) -> Result<(), OutputError> {
    make_parent(to)?;
    match kind {
        OutputKind::Directory => fs::create_dir_all(to).map_err(failed("create", to)),
        OutputKind::Link(target) => {
            match fs::remove_file(to) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(failed("replace", to)(error));
                }
                _ => {}
            }
            symlink(&**target, to).map_err(failed("create", to))
        }
        OutputKind::File { .. } => Ok(()),
    }
}

/// Tells the stat cache about a file that was just written.
fn note(files: &FileTable, item: &OutputItem) -> Result<(), OutputError> {
    if let OutputKind::File { hash, .. } = &item.kind {
        let full = files.root().join(&*item.path);
        let metadata = fs::symlink_metadata(&full).map_err(failed("look at", &full))?;
        wrote(files, item, *hash, &metadata);
    }
    Ok(())
}

fn wrote(files: &FileTable, item: &OutputItem, hash: Hash, metadata: &Metadata) {
    let stamp = Stamp::of(metadata);
    files.wrote(&item.path, FileFact { hash, stamp });
}

/// Whether the workspace holds exactly this.
pub fn is_intact(files: &FileTable, item: &OutputItem) -> bool {
    match &item.kind {
        OutputKind::File { hash, mode, .. } => files
            .fact_of_output(&item.path)
            .is_ok_and(|fact| fact.hash == *hash && fact.stamp.kept_mode() == kept_mode(*mode)),
        OutputKind::Link(target) => fs::read_link(files.root().join(&*item.path))
            .is_ok_and(|to| to.as_os_str().as_encoded_bytes() == target.as_bytes()),
        OutputKind::Directory => files.root().join(&*item.path).is_dir(),
    }
}

/// By what an output is known again.
fn mark(kind: &OutputKind) -> Mark {
    match kind {
        OutputKind::File { hash, .. } => mark_of(hash),
        OutputKind::Link(to) => mark_of(&Hash::of(to.as_bytes())),
        // It has no content.
        OutputKind::Directory => 0,
    }
}

/// By what content of this hash is known again.
pub fn mark_of(hash: &Hash) -> Mark {
    let [first, ..] = hash.bytes().as_chunks().0 else {
        unreachable!("a hash has 32 bytes")
    };
    Mark::from_le_bytes(*first)
}

/// Lists `items` as zako's, with what they hold, before they are written.
///
/// # Errors
/// When the list cannot be written.
pub fn list<'a>(
    ledger: &Ledger,
    items: impl Iterator<Item = &'a OutputItem>,
) -> Result<(), OutputError> {
    let listed = ledger.add(items.map(|item| (&item.path, mark(&item.kind))));
    listed.map_err(|source| OutputError::Io {
        action: "write",
        path: PathBuf::from("the list of outputs"),
        source,
    })
}
