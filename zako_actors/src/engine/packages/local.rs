//! Archives that somebody put into the workspace, or beside it: `file:` and a path.
//!
//! Owns where one lies, and whether it is still the one that was looked at. Does not know what is in it.
//! Invariant: one that the file system says is as it was is not read again.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::fetch::verified;
use super::{Fetched, Problem};
use crate::engine::stamp::{Stamp, now_ns};
use crate::lang::dependency::Origin;
use crate::lang::integrity::Integrity;
use crate::lang::manifest::MANIFEST;

/// The archive that `origin` names, when it is one of the workspace at `root`.
pub(super) fn archive<'o>(root: &Path, origin: &'o Origin) -> Option<Archive<'o>> {
    let Origin::Archive { url, integrity } = origin else {
        return None;
    };
    let path = url.strip_prefix("file:")?.trim_start_matches("//");
    Some(Archive {
        path: root.join(path),
        url,
        declared: integrity.as_ref(),
    })
}

/// The mark of the archive that `fetched` comes from now.
pub(super) fn mark(root: &Path, fetched: &Fetched) -> Mark {
    match archive(root, &fetched.origin) {
        None => Mark::None,
        Some(archive) => archive.mark(),
    }
}

/// What the file system says about an archive, to be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The package comes from no archive of the workspace.
    None,
    /// The archive may change without another mark: it is not there, or was changed just now.
    Unsure,
    /// It does not change without another mark.
    Sure(Stamp),
}

impl Mark {
    /// Whether `text` was written down of it, so that there is no need to look into it.
    pub fn is_that(&self, text: &str) -> bool {
        !matches!(self, Self::Unsure) && text == self.to_string()
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Unsure => f.write_str("?"),
            Self::Sure(stamp) => write!(
                f,
                "{}-{}-{}-{}",
                stamp.size_bytes, stamp.mtime_ns, stamp.ctime_ns, stamp.inode
            ),
        }
    }
}

/// An archive of the workspace.
pub(super) struct Archive<'o> {
    path: PathBuf,
    url: &'o str,
    declared: Option<&'o Integrity>,
}

impl Archive<'_> {
    fn mark(&self) -> Mark {
        let now = now_ns();
        let stamp = fs::metadata(&self.path).map(|it| Stamp::of(&it));
        match stamp.ok().filter(|stamp| stamp.is_settled(now)) {
            Some(stamp) => Mark::Sure(stamp),
            None => Mark::Unsure,
        }
    }

    /// Copies it to `to`, unless it is larger than `limit`.
    pub fn copy(&self, limit: u64, to: &Path) -> Result<(), Problem> {
        let copied = self
            .is_readable(limit)
            .and_then(|()| fs::copy(&self.path, to));
        copied.map(drop).map_err(|error| self.unreadable(&error))
    }

    /// Looks whether it is what the manifest says and what was `locked`.
    pub fn check(&self, limit: u64, locked: Option<&Integrity>) -> Result<(), Problem> {
        self.is_readable(limit)
            .map_err(|error| self.unreadable(&error))?;
        verified(self.url, &self.path, self.declared, locked).map(drop)
    }

    fn is_readable(&self, limit: u64) -> io::Result<()> {
        let metadata = fs::metadata(&self.path)?;
        match metadata.is_file() && metadata.len() <= limit {
            true => Ok(()),
            false => Err(io::Error::other(
                "it is no file, or larger than `max-download` in [settings.packages] allows",
            )),
        }
    }

    fn unreadable(&self, error: &io::Error) -> Problem {
        Problem {
            message: format!("cannot read {}: {error}", self.path.display()),
            help: Some(format!(
                "`file:` in {MANIFEST} is followed by a path from the workspace root"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mark_that_would_change_with_the_archive_is_believed() {
        let stamp = |mtime_ns| Stamp {
            size_bytes: 1,
            mtime_ns,
            ctime_ns: 3,
            inode: 4,
            mode: 0o100_644,
        };
        let written = Mark::Sure(stamp(2)).to_string();
        assert_eq!(written, "1-2-3-4");
        assert!(Mark::Sure(stamp(2)).is_that(&written));
        assert!(!Mark::Sure(stamp(5)).is_that(&written));
        assert!(!Mark::Sure(stamp(2)).is_that(""));
        assert!(!Mark::Unsure.is_that(&Mark::Unsure.to_string()));
        assert!(Mark::None.is_that("") && !Mark::None.is_that(&written));
    }
}
