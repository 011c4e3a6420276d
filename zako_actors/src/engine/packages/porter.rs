//! One package, brought beside others.
//!
//! Owns the way from the store, or from elsewhere, to the package's place. Does not know which packages there are,
//! nor how anything travels (`fetch`).
//! Invariant: what is not whole lies in a directory of its own, which is gone when it is not needed any more.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cas_actor::{Digest, Store};
use tokio::runtime::Handle;

use super::place::Place;
use super::tree::{self, Tree};
use super::{LockPolicy, NEW_DIR, Package, Problem, archive, changed, local};
use crate::engine::workspace::Workspace;
use crate::lang::integrity::Integrity;
use crate::lang::lockfile::{LOCK, Locked};
use crate::lang::package_limits::PackageLimits;
use crate::lang::packages::FETCHED_DIR;

/// What brings one package, beside others.
pub(super) struct Porter<'a> {
    pub workspace: &'a Workspace,
    pub policy: &'a LockPolicy,
    pub tell: &'a (dyn Fn(&str) + Sync),
    pub store: Store,
    pub runtime: Handle,
}

/// What was fetched, before it is put to its place.
pub(super) struct Brought {
    /// The directory that holds its files.
    pub dir: PathBuf,
    pub commit: Option<String>,
    pub integrity: Option<Integrity>,
}

impl Porter<'_> {
    /// Has one package lie at its place.
    pub(super) fn bring_one(&self, package: &Package<'_>) -> Result<Locked, Problem> {
        let place = Place::new(&self.workspace.root, package.name);
        // Before anything is read: what changes later has another one.
        let mark = local::mark(&self.workspace.root, package.fetched);
        if let Some(locked) = package.locked {
            if self.is_as_locked(package, locked)?
                && let Some(dir) = self.restore(package, &locked.tree)?
            {
                place.put(&dir.1, package.fetched, &locked.tree, &mark)?;
                return Ok(locked.clone());
            }
        } else if self.policy.locked {
            return Err(Problem {
                message: format!(
                    "{LOCK} does not know this package as it is declared here, and it is locked"
                ),
                help: Some(
                    "run `zako build` without --locked, and commit what it writes there".to_owned(),
                ),
            });
        }
        let source = package.fetched.origin.source();
        (self.tell)(&format!("fetching {} from {source}", package.name));
        let new = NewDir::create(&self.workspace.root, package.name)?;
        let brought = self.fetch(package, &new)?;
        let archive = new.0.join("package.tar");
        tree::pack(&brought.dir, &archive)?;
        let tree = self.store.blocking().put_file(&archive)?;
        let locked = Locked {
            source,
            commit: brought.commit,
            integrity: brought.integrity,
            tree,
        };
        if let Some(before) = package.locked
            && before.tree != locked.tree
        {
            return Err(changed(
                &before.source,
                &before.tree.to_string(),
                &tree.to_string(),
            ));
        }
        place.put(&brought.dir, package.fetched, &tree, &mark)?;
        Ok(locked)
    }

    /// Whether the archive of the workspace that a package comes from is what was locked, as far as that is known; others are not
    /// asked for again.
    fn is_as_locked(&self, package: &Package<'_>, locked: &Locked) -> Result<bool, Problem> {
        let limit = self.workspace.manifest.settings.packages.max_download;
        let archive = local::archive(&self.workspace.root, &package.fetched.origin);
        match (archive, &locked.integrity) {
            (None, _) => Ok(true),
            (Some(_), None) => Ok(false),
            (Some(archive), locked) => archive.check(limit, locked.as_ref()).map(|()| true),
        }
    }

    /// Takes a package out of the store, if it is there: where its files lie then.
    fn restore(
        &self,
        package: &Package<'_>,
        tree: &Digest,
    ) -> Result<Option<(NewDir, PathBuf)>, Problem> {
        let store = self.store.blocking();
        if !store.contains(&[*tree])?.iter().all(|here| *here) {
            return Ok(None);
        }
        // What was damaged on the disk is fetched again.
        let Ok(content) = store.get(tree) else {
            return Ok(None);
        };
        let limits = PackageLimits {
            max_size: u64::MAX,
            max_files: u64::MAX,
            ..PackageLimits::default()
        };
        let new = NewDir::create(&self.workspace.root, package.name)?;
        let mut files = Tree::new(new.empty("files")?, &limits);
        archive::unpack_tar(&content[..], &mut files)?;
        let dir = files.finish(false)?;
        Ok(Some((new, dir)))
    }
}

/// Where things are brought to before they are whole; gone when dropped.
pub(super) struct NewDir(pub PathBuf);

impl NewDir {
    fn create(root: &Path, name: &str) -> io::Result<Self> {
        let new = Self(root.join(FETCHED_DIR).join(NEW_DIR).join(name));
        fs::create_dir_all(&new.0)?;
        Ok(new)
    }

    pub fn empty(&self, name: &str) -> io::Result<PathBuf> {
        let dir = self.0.join(name);
        fs::create_dir(&dir)?;
        Ok(dir)
    }
}

impl Drop for NewDir {
    fn drop(&mut self) {
        // Otherwise the next one does it.
        drop(fs::remove_dir_all(&self.0));
    }
}
