//! What changed in the workspace since a commit, and what git knows.
//!
//! Owns the questions to git, and which commit is compared with. Does not know targets.
//! Invariants: a path is named whether it was committed, staged, edited, removed, or is new and not
//! ignored, also in a submodule, of which the commit is compared with that the other commit names; the repository that is asked is
//! the one where the files lie, whichever one called zako; a git that does not answer is not one that knows nothing.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::locks::Before;
use crate::lang::target::join;

/// Why git did not answer.
#[derive(Debug, thiserror::Error)]
pub enum SinceError {
    /// It cannot be started.
    #[error("cannot start git: {0}; --since compares with a commit")]
    NoGit(std::io::Error),
    /// It refused.
    #[error("git cannot tell what changed since `{reference}`: {message}")]
    Refused {
        /// As asked for.
        reference: String,
        /// Its own words.
        message: String,
    },
    /// What would be taken for a flag.
    #[error("`{0}` is no commit")]
    NoReference(String),
}

/// What differs between a commit and the files on disk, by workspace-relative paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The commit.
    pub commit: String,
    /// Everything.
    pub paths: BTreeSet<String>,
    /// Of that, what is there on one side only.
    pub came_or_went: BTreeSet<String>,
    /// What changed lock files said.
    pub locks: Before,
}

impl Changes {
    fn add(&mut self, path: String, came_or_went: bool) {
        if came_or_went {
            self.came_or_went.insert(path.clone());
        }
        self.paths.insert(path);
    }
}

/// What the file at `path` held in `commit`; nothing where it was none, or no text.
pub fn text_at(root: &Path, commit: &str, path: &str) -> Option<String> {
    let mut asked = git();
    let asked = asked.current_dir(root).arg("show");
    let output = asked.arg(format!("{commit}:./{path}")).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(text)
}

/// What differs between the files on disk and the commit where they left `reference`: what was committed there since is nobody's
/// change here. Where there is no such commit, as in a shallow clone, `reference` itself is compared with.
///
/// # Errors
/// When git is missing, this is no repository, or there is no such commit.
pub fn changed_since(root: &Path, reference: &str) -> Result<Changes, SinceError> {
    if reference.is_empty() || reference.starts_with('-') {
        return Err(SinceError::NoReference(reference.to_owned()));
    }
    let asked = Asked { reference };
    let left_at = asked.ask(root, &["merge-base", reference, "HEAD"]).ok();
    let left_at = left_at.and_then(|said| Some(said.first()?.trim().to_owned()));
    let mut changes = Changes {
        commit: left_at.unwrap_or_else(|| reference.to_owned()),
        ..Changes::default()
    };
    let commit = changes.commit.clone();
    asked.differing(root, "", &commit, &mut changes)?;
    Ok(changes)
}

/// The mode of what is a repository of its own, in git's words.
const SUBMODULE: &str = "160000";

/// What git is asked on behalf of.
struct Asked<'a> {
    reference: &'a str,
}

impl Asked<'_> {
    /// What git lists in `dir`.
    fn ask(&self, dir: &Path, arguments: &[&str]) -> Result<Vec<String>, SinceError> {
        let output = git()
            .current_dir(dir)
            .args(arguments)
            .output()
            .map_err(SinceError::NoGit)?;
        if !output.status.success() {
            let repository = git()
                .current_dir(dir)
                .args(["rev-parse", "--git-dir"])
                .output();
            let message = match repository {
                Ok(found) if !found.status.success() => {
                    "there is no git repository here".to_owned()
                }
                _ => first_line(&output.stderr),
            };
            return Err(SinceError::Refused {
                reference: self.reference.to_owned(),
                message,
            });
        }
        Ok(names(&output.stdout).collect())
    }

    /// Adds what differs between `commit` and the files in `root`, submodules included, with `above` before their paths.
    fn differing(
        &self,
        root: &Path,
        above: &str,
        commit: &str,
        changes: &mut Changes,
    ) -> Result<(), SinceError> {
        let diff = self.ask(
            root,
            &[
                "diff",
                "--raw",
                "--no-abbrev",
                "--no-renames",
                "--ignore-submodules=none",
                "--relative",
                "-z",
                commit,
                "--",
                ".",
            ],
        )?;
        // `:MODE MODE COMMIT COMMIT LETTER`, of then and now, then the path.
        for change in diff.chunks_exact(2) {
            let (said, path) = (&change[0], &change[1]);
            let mut words = said.trim_start_matches(':').split(' ');
            let modes = [words.next(), words.next()];
            let (was_there, letter) = (words.next().unwrap_or_default(), words.nth(1));
            let is_there = root.join(path).join(".git").symlink_metadata().is_ok();
            match modes.map(|mode| mode == Some(SUBMODULE)) {
                [true, true] if is_there => {
                    self.below(
                        &root.join(path),
                        &join(above, path),
                        Some(was_there),
                        changes,
                    )?;
                }
                [false, true] if is_there => {
                    self.below(&root.join(path), &join(above, path), None, changes)?;
                }
                _ => changes.add(join(above, path), matches!(letter, Some("A" | "D"))),
            }
        }
        self.untracked(root, above, changes)
    }

    /// Adds what differs in the submodule `root` from its `commit`; everything where that is not known there.
    fn below(
        &self,
        root: &Path,
        above: &str,
        commit: Option<&str>,
        changes: &mut Changes,
    ) -> Result<(), SinceError> {
        let is_known = |commit: &&str| {
            let whole = format!("{commit}^{{commit}}");
            self.ask(root, &["cat-file", "-e", &whole]).is_ok()
        };
        if let Some(commit) = commit.filter(is_known) {
            return self.differing(root, above, commit, changes);
        }
        for listed in self.ask(root, &["ls-files", "--stage", "-z"])? {
            let Some((said, path)) = listed.split_once('\t') else {
                continue;
            };
            let full = root.join(path);
            let is_there = || full.join(".git").symlink_metadata().is_ok();
            if said.starts_with(SUBMODULE) && is_there() {
                self.below(&full, &join(above, path), None, changes)?;
            } else {
                changes.add(join(above, path), true);
            }
        }
        self.untracked(root, above, changes)
    }

    /// Adds what git does not know in `root` and does not ignore.
    fn untracked(&self, root: &Path, above: &str, changes: &mut Changes) -> Result<(), SinceError> {
        for path in self.ask(root, &["ls-files", "--others", "--exclude-standard", "-z"])? {
            match path.strip_suffix('/') {
                // A repository that is no submodule yet.
                Some(dir) => self.below(&root.join(dir), &join(above, dir), None, changes)?,
                None => changes.add(join(above, &path), true),
            }
        }
        Ok(())
    }
}

/// The files below `root` that git knows; none where there is no repository.
///
/// # Errors
/// When there seems to be one and git does not answer, in its own words.
pub fn tracked(root: &Path) -> Result<BTreeSet<String>, String> {
    let asked = git()
        .current_dir(root)
        .args(["ls-files", "--recurse-submodules", "-z"])
        .output();
    let refused = match asked {
        Ok(output) if output.status.success() => return Ok(names(&output.stdout).collect()),
        Ok(output) => first_line(&output.stderr),
        Err(error) => format!("it cannot be started: {error}"),
    };
    let may_know = |dir: &Path| dir.join(".git").symlink_metadata().is_ok();
    match root.ancestors().any(may_know) {
        true => Err(refused),
        false => Ok(BTreeSet::new()),
    }
}

/// Whether git tracks the file at `path`, in whichever repository it lies; not where git does not say so.
pub fn is_tracked(path: &Path) -> bool {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return false;
    };
    let mut asked = git();
    asked.args(["--literal-pathspecs", "ls-files", "--error-unmatch", "--"]);
    let asked = asked.current_dir(dir).arg(name).output();
    asked.is_ok_and(|output| output.status.success())
}

/// Those of `paths`, relative to `root`, that git ignores; none where it does not say so.
pub fn ignored(root: &Path, paths: &BTreeSet<String>) -> BTreeSet<String> {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut asked = git()
            .current_dir(root)
            .args(["check-ignore", "-z", "--stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut questions = asked.stdin.take();
        let text: String = paths.iter().map(|path| format!("{path}\0")).collect();
        // It answers while it reads.
        let ask = move || questions.as_mut().map(|to| to.write_all(text.as_bytes()));
        let answer = std::thread::scope(|scope| {
            scope.spawn(ask);
            asked.wait_with_output()
        });
        Ok(answer?.stdout)
    };
    let answer = ask().unwrap_or_default();
    names(&answer).collect()
}

/// Git, about the repository where it is run, and not the one whose hook called zako.
pub fn git() -> Command {
    let mut git = Command::new("git");
    for name in [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_QUARANTINE_PATH",
        "GIT_COMMON_DIR",
        "GIT_SHALLOW_FILE",
        "GIT_NAMESPACE",
        "GIT_PREFIX",
        "GIT_LITERAL_PATHSPECS",
        "GIT_GLOB_PATHSPECS",
        "GIT_NOGLOB_PATHSPECS",
        "GIT_ICASE_PATHSPECS",
    ] {
        git.env_remove(name);
    }
    git
}

/// Of what git says when it refuses.
fn first_line(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("fatal: ").to_owned()
}

/// What git lists with `-z`.
fn names(listed: &[u8]) -> impl Iterator<Item = String> + '_ {
    let names = listed.split(|byte| *byte == 0);
    let names = names.filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).into_owned())
}
