//! States of git repositories.
//!
//! Owns the calls of the installed `git`. Does not know what becomes of the files.
//! Invariants: nothing of the repository is run: no hook, no filter, no program that an address names; what comes
//! is what was committed, whatever the user's configuration makes of line ends; no more comes than an archive may be, nor
//! for longer than anybody waits.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::archive::unpack_tar;
use super::tree::{Tree, TreeError};
use crate::engine::since::git;
use crate::lang::dependency::Origin;

/// Why there are no files of a repository.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no git.
    #[error("git cannot be started: {0}; packages with `repo` need it")]
    Start(std::io::Error),
    /// It refused.
    #[error("git {what} failed: {said}")]
    Failed {
        /// What it was to do.
        what: &'static str,
        /// What it said.
        said: String,
    },
    /// There is no such commit, tag or branch.
    #[error("{repo} has no commit, tag or branch `{checkout}`: {said}")]
    Missing {
        /// The repository.
        repo: String,
        /// What was asked for.
        checkout: String,
        /// What git said.
        said: String,
    },
    /// It is too much.
    #[error(
        "git fetches more than {limit} bytes of {repo}; `max-download` in [settings.packages] of zako.toml allows more"
    )]
    TooLarge {
        /// The repository.
        repo: String,
        /// The limit.
        limit: u64,
    },
    /// It does not end.
    #[error("git did not fetch {repo} within {} s", limit.as_secs())]
    TooLong {
        /// The repository.
        repo: String,
        /// The limit.
        limit: Duration,
    },
    /// What was committed is not taken.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Overrides what a repository says about its files: they come as they were committed.
const ATTRIBUTES: &str =
    "* -export-ignore -export-subst -filter -ident -text -working-tree-encoding\n";

/// How long one fetch may take, however much comes.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// Between two looks at how much has come.
const PAUSE: Duration = Duration::from_millis(20);

/// A repository without files of its own, to fetch into.
pub struct Repository {
    dir: PathBuf,
    /// Most bytes that it may hold.
    max_bytes: u64,
    /// Longest time of a fetch.
    patience: Duration,
}

impl Repository {
    /// An empty one in the directory `dir`, which is not there yet; it may come to `max_bytes`.
    ///
    /// # Errors
    /// When git cannot make it.
    pub fn create(dir: PathBuf, max_bytes: u64) -> Result<Self, GitError> {
        let mut init = command();
        // Without the user's templates, which may have hooks.
        init.args(["init", "--quiet", "--bare", "--template="])
            .arg(&dir);
        run(&mut init, "init")?;
        let attributes = dir.join("info/attributes");
        let written =
            fs::create_dir_all(dir.join("info")).and_then(|()| fs::write(&attributes, ATTRIBUTES));
        written.map_err(|source| TreeError::Disk {
            path: attributes,
            source,
        })?;
        Ok(Self {
            dir,
            max_bytes,
            patience: PATIENCE,
        })
    }

    fn git(&self) -> Command {
        let mut git = command();
        git.arg("--git-dir").arg(&self.dir);
        git
    }

    /// Fetches what `checkout` names in `repo`, seen from `root`; the commit.
    ///
    /// # Errors
    /// When there is none.
    pub fn fetch(&self, root: &Path, repo: &str, checkout: &str) -> Result<String, GitError> {
        let fetch = |what: &[&str]| {
            let mut git = self.git();
            git.current_dir(root)
                .args(["fetch", "--quiet", "--no-write-fetch-head", "--force"]);
            self.run_bounded(git.args(what), repo)
        };
        let wanted = format!("{checkout}:refs/zako/wanted");
        let mut fetched = fetch(&["--depth=1", "--no-tags", "--", repo, &wanted]);
        let is_refused = matches!(fetched, Err(GitError::Failed { .. }));
        if is_refused && Origin::is_commit(checkout) {
            // Some servers give only what a branch or tag names, with what came before.
            fetched = fetch(&["--tags", "--", repo, "+refs/heads/*:refs/zako/heads/*"]);
        }
        let missing = |said: String| GitError::Missing {
            repo: repo.to_owned(),
            checkout: checkout.to_owned(),
            said,
        };
        fetched.map_err(|error| match error {
            GitError::Failed { said, .. } => missing(said),
            other => other,
        })?;
        let name = match Origin::is_commit(checkout) {
            true => checkout,
            false => "refs/zako/wanted",
        };
        let mut parse = self.git();
        parse.args(["rev-parse", "--verify", "--quiet"]);
        let commit = run(parse.arg(format!("{name}^{{commit}}")), "rev-parse");
        let commit = commit.map_err(|_| missing("it is no commit".to_owned()))?;
        Ok(commit.trim().to_owned())
    }

    /// Carries a fetch from `repo` out, and ends it where it goes beyond its bounds.
    fn run_bounded(&self, fetch: &mut Command, repo: &str) -> Result<(), GitError> {
        // A file is bounded as all of it is.
        let log = self.dir.join("said");
        let said = fs::File::create(&log).map_err(GitError::Start)?;
        let child = fetch.stdout(Stdio::null()).stderr(said).spawn();
        let mut child = child.map_err(GitError::Start)?;
        let begin = Instant::now();
        loop {
            let status = child.try_wait().map_err(GitError::Start)?;
            let beyond = if size_bytes(&self.dir) > self.max_bytes {
                Some(GitError::TooLarge {
                    repo: repo.to_owned(),
                    limit: self.max_bytes,
                })
            } else if status.is_none() && begin.elapsed() >= self.patience {
                Some(GitError::TooLong {
                    repo: repo.to_owned(),
                    limit: self.patience,
                })
            } else {
                None
            };
            match (beyond, status) {
                (Some(beyond), _) => {
                    // What it started ends with the pipes between them.
                    drop(child.kill());
                    drop(child.wait());
                    return Err(beyond);
                }
                (None, Some(status)) if status.success() => return Ok(()),
                (None, Some(_)) => {
                    let said = fs::read(&log).unwrap_or_default();
                    return Err(GitError::Failed {
                        what: "fetch",
                        said: shortened(&String::from_utf8_lossy(&said)),
                    });
                }
                (None, None) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Puts the files of `commit` into `tree`.
    ///
    /// # Errors
    /// When they are not taken.
    pub fn unpack(&self, commit: &str, tree: &mut Tree<'_>) -> Result<(), GitError> {
        let mut git = self.git();
        // Settings of the user are for the user's own files.
        git.env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        git.args([
            "-c",
            "tar.umask=0022",
            "-c",
            "core.autocrlf=false",
            "archive",
            "--format=tar",
            commit,
        ]);
        let mut child = git
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(GitError::Start)?;
        let unpacked = match child.stdout.take() {
            Some(mut files) => {
                let unpacked = unpack_tar(&mut files, tree);
                // What fills the tar archive up to a whole block; git would die of a closed pipe.
                if unpacked.is_ok() {
                    drop(std::io::copy(&mut files, &mut std::io::sink()));
                }
                unpacked
            }
            None => Ok(()),
        };
        if unpacked.is_err() {
            // It has ended already, or nobody wants to hear it.
            drop(child.kill());
        }
        let mut said = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            drop(stderr.read_to_string(&mut said));
        }
        let status = child.wait().map_err(GitError::Start)?;
        unpacked?;
        match status.success() {
            true => Ok(()),
            false => Err(GitError::Failed {
                what: "archive",
                said: shortened(&said),
            }),
        }
    }
}

fn command() -> Command {
    let mut git = git();
    git.args(["-c", "core.hooksPath=/dev/null"]);
    // A server that sends next to nothing is not waited for.
    git.args([
        "-c",
        "http.lowSpeedLimit=1000",
        "-c",
        "http.lowSpeedTime=60",
    ]);
    git.env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh")
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    git
}

fn run(git: &mut Command, what: &'static str) -> Result<String, GitError> {
    let output = git.output().map_err(GitError::Start)?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(GitError::Failed {
            what,
            said: shortened(&String::from_utf8_lossy(&output.stderr)),
        }),
    }
}

/// What the files below `dir` hold; what vanishes meanwhile is nothing.
fn size_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        Some(match metadata.is_dir() {
            true => size_bytes(&entry.path()),
            false => metadata.len(),
        })
    });
    sizes.sum()
}

/// The last lines, as one.
fn shortened(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_that_does_not_end_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let repository = Repository {
            dir: dir.path().to_owned(),
            max_bytes: 1 << 20,
            patience: Duration::ZERO,
        };
        let mut endless = Command::new("sleep");
        let ended = repository.run_bounded(endless.arg("600"), "r");
        let ended = ended.unwrap_err().to_string();
        assert_eq!(ended, "git did not fetch r within 0 s");
    }
}
