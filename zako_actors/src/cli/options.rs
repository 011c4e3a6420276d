//! Usable settings out of flags, environment, manifest and machine, in this order.
//!
//! Owns the precedence and the defaults. Does not know the engine's insides.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Failure;
use super::args::{BuildArgs, Global};
use crate::engine::workspace::Workspace;

/// Settings of one command in one workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Steps at a time.
    pub jobs: usize,
    /// The cache, when it is not in the workspace.
    pub cache: Option<PathBuf>,
    /// Time limit of one build file.
    pub evaluation: Duration,
}

impl Options {
    /// Settles everything for `workspace`.
    ///
    /// # Errors
    /// When a variable of the environment makes no sense.
    pub fn settle(
        global: &Global,
        build: Option<&BuildArgs>,
        workspace: &Workspace,
    ) -> Result<Self, Failure> {
        let settings = &workspace.manifest.settings;
        let jobs = build
            .and_then(|build| build.jobs)
            .map(std::num::NonZeroU32::get)
            .or(settings.jobs)
            .map_or_else(cpus, |jobs| jobs.max(1) as usize);
        Ok(Self {
            jobs,
            cache: cache_dir(global, Some(workspace))?,
            evaluation: evaluation_limit()?,
        })
    }
}

/// The cache directory, when it is not the workspace's own; absolute.
pub fn cache_dir(
    global: &Global,
    workspace: Option<&Workspace>,
) -> Result<Option<PathBuf>, Failure> {
    let absolute = |base: &Path, path: &Path| {
        std::path::absolute(base.join(path))
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
    };
    if let Some(dir) = global
        .cache_dir
        .as_deref()
        .filter(|dir| !dir.as_os_str().is_empty())
    {
        return absolute(Path::new(""), dir).map(Some);
    }
    let Some(workspace) = workspace else {
        return Ok(None);
    };
    match &workspace.manifest.settings.cache_dir {
        Some(dir) => absolute(&workspace.root, Path::new(dir)).map(Some),
        None => Ok(None),
    }
}

/// The directory that a command works in.
pub fn directory(global: &Global) -> PathBuf {
    global
        .directory
        .clone()
        .unwrap_or_else(|| PathBuf::from("."))
}

/// CPUs that this process may use.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn evaluation_limit() -> Result<Duration, Failure> {
    const NAME: &str = "ZAKO_EVALUATION_SECONDS";
    match std::env::var(NAME) {
        Err(_) => Ok(Duration::from_secs(30)),
        Ok(text) => match text.parse() {
            Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
            _ => Err(Failure::usage(format!(
                "{NAME}={text}: a number of seconds, at least 1"
            ))),
        },
    }
}
