//! Where a package lies, and what is written down of it beside.
//!
//! Owns the note that says that all of it is there. Does not know what a package must be, nor how it comes.
//! Invariant: there is a note only beside a package that is whole, and it does not outlive it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use cas_actor::Digest;
use rustix::fs::syncfs;

use super::local::Mark;
use super::{Problem, write};
use crate::lang::dependency::Fetched;
use crate::lang::packages::{FETCHED_DIR, fetched_dir};

/// Says which package lies at a place, beside the places.
const KNOWN_DIR: &str = ".known";

/// What a package is described by that has no build file at all.
const USUAL_BUILD: &str = "\
// Written by zako: this package has no build file of its own. `build` in zako.toml names a better one.
import { fileGroup } from \"zako:rules\";
import { glob } from \"zako:build\";

export default {
  files: fileGroup({ srcs: [glob(\"**\", { exclude: [\"BUILD.ts\"] })] }),
};
";

/// Whether a package lies at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// As a whole.
    Whole,
    /// As a whole, but the archive of the workspace that it came from is not as it was left.
    Unchecked,
    /// No, or another one.
    Not,
}

/// Where a package lies.
pub(super) struct Place {
    dir: PathBuf,
    known: PathBuf,
}

impl Place {
    pub fn new(root: &Path, name: &str) -> Self {
        Self {
            dir: root.join(fetched_dir(name)),
            known: root.join(FETCHED_DIR).join(KNOWN_DIR).join(name),
        }
    }

    /// What lies here, as the file beside it says.
    fn what(tree: &Digest, fetched: &Fetched) -> String {
        // Without a build file of ours the package may have been given one.
        let described = if fetched.build_file.is_some() {
            "described"
        } else {
            "bare"
        };
        format!("{tree} {described}")
    }

    /// Whether the package lies here; the archive that it comes from has this `mark` now.
    pub fn holds(&self, tree: &Digest, fetched: &Fetched, mark: &Mark) -> Held {
        let note = fs::read_to_string(&self.known).unwrap_or_default();
        let below = note.strip_prefix(&Self::what(tree, fetched));
        let marked = below.and_then(|below| below.strip_suffix('\n'));
        match marked.filter(|_| self.dir.is_dir()) {
            None => Held::Not,
            Some(marked) if mark.is_that(marked.trim_start()) => Held::Whole,
            Some(_) if *mark == Mark::None => Held::Not,
            Some(_) => Held::Unchecked,
        }
    }

    /// Writes down that the package lies here, and came from an archive that has this `mark`.
    pub fn note(&self, tree: &Digest, fetched: &Fetched, mark: &Mark) -> io::Result<()> {
        let what = Self::what(tree, fetched);
        write(
            &self.known,
            &format!("{}\n", format!("{what} {mark}").trim_end()),
        )
    }

    pub fn clear(&self) -> io::Result<()> {
        // First that it is whole, then the rest: it may take long, and be interrupted.
        for removed in [fs::remove_file(&self.known), fs::remove_dir_all(&self.dir)] {
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Moves the directory `from` here; it comes from an archive that has this `mark`.
    pub fn put(
        &self,
        from: &Path,
        fetched: &Fetched,
        tree: &Digest,
        mark: &Mark,
    ) -> Result<(), Problem> {
        if fetched.build_file.is_none() && !has_build_file(from)? {
            fs::write(from.join("BUILD.ts"), USUAL_BUILD)?;
        }
        self.clear()?;
        fs::rename(from, &self.dir)?;
        if let Some(dir) = self.known.parent() {
            fs::create_dir_all(dir)?;
        }
        // The note says that all of it is there, and must not outlive it when the power goes.
        syncfs(File::open(&self.dir)?).map_err(io::Error::from)?;
        Ok(self.note(tree, fetched, mark)?)
    }
}

fn has_build_file(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let found = match entry.file_type()?.is_dir() {
            true => has_build_file(&entry.path())?,
            false => entry.file_name() == "BUILD.ts",
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}
