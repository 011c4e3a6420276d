//! What changed in the workspace since a commit, and what git knows.
//!
//! Owns the questions to git, and which commit is compared with. Does not know targets.
//! Invariants: a path is named whether it was committed, staged, edited, removed, or is new and not
//! ignored; the repository that is asked is the one where the files lie, whichever one called zako; a git that does not answer
//! is not one that knows nothing.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::locks::Before;

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
    let ask = |arguments: &[&str]| -> Result<Vec<String>, SinceError> {
        let output = git()
            .current_dir(root)
            .args(arguments)
            .output()
            .map_err(SinceError::NoGit)?;
        if !output.status.success() {
            let repository = git()
                .current_dir(root)
                .args(["rev-parse", "--git-dir"])
                .output();
            let message = match repository {
                Ok(found) if !found.status.success() => {
                    "there is no git repository here".to_owned()
                }
                _ => first_line(&output.stderr),
            };
            return Err(SinceError::Refused {
                reference: reference.to_owned(),
                message,
            });
        }
        Ok(names(&output.stdout).collect())
    };
    let left_at = ask(&["merge-base", reference, "HEAD"]).ok();
    let left_at = left_at.and_then(|said| Some(said.first()?.trim().to_owned()));
    let mut changes = Changes {
        commit: left_at.unwrap_or_else(|| reference.to_owned()),
        ..Changes::default()
    };
    let diff = ask(&[
        "diff",
        "--name-status",
        "--no-renames",
        "--relative",
        "-z",
        &changes.commit,
        "--",
        ".",
    ])?;
    // A letter, then the path.
    for change in diff.chunks_exact(2) {
        if matches!(&*change[0], "A" | "D") {
            changes.came_or_went.insert(change[1].clone());
        }
        changes.paths.insert(change[1].clone());
    }
    let new = ask(&["ls-files", "--others", "--exclude-standard", "-z"])?;
    changes.came_or_went.extend(new.iter().cloned());
    changes.paths.extend(new);
    Ok(changes)
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
