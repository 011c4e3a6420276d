//! Usable settings out of flags, environment, manifest and machine, in this order.
//!
//! Owns the precedence and the defaults. Does not know the engine's insides.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Failure;
use super::args::{BuildArgs, Global};
use crate::engine::analyse::Given;
use crate::engine::workspace::Workspace;
use crate::isolate::Limits;
use crate::lang::amount::bytes;
use crate::lang::manifest::Settings;
use crate::machine::{Machine, PoolSize};

/// The least heap that a build file may be given: with less the engine itself does not start.
const MIN_HEAP_BYTES: u64 = 32 << 20;

/// Settings of one command in one workspace.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Steps at a time.
    pub jobs: usize,
    /// Workers of each pool.
    pub pool: PoolSize,
    /// The cache, when it is not in the workspace.
    pub cache: Option<PathBuf>,
    /// What one build file may use.
    pub evaluation: Limits,
    /// Options of rules that were set.
    pub given: Given,
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
        let machine = Machine::look().defaults();
        let jobs = build
            .and_then(|build| build.steps.jobs)
            .map(std::num::NonZeroU32::get)
            .or(settings.jobs)
            .map_or(machine.jobs, |jobs| jobs.max(1) as usize);
        Ok(Self {
            jobs,
            pool: pool_size(settings, machine.pool)?,
            cache: cache_dir(global, Some(workspace))?,
            evaluation: evaluation_limits(settings)?,
            given: Given {
                flags: global.set.iter().cloned().collect(),
                manifest: workspace.manifest.config_values.clone(),
            },
        })
    }
}

/// What one build file may use: environment, then manifest, then the usual.
///
/// # Errors
/// When what was said is no time, or no size that a heap can have.
pub fn evaluation_limits(settings: &Settings) -> Result<Limits, Failure> {
    let seconds = number(settings.evaluation_seconds, EVALUATION_SECONDS)?;
    let limits = seconds.map_or_else(Limits::default, |seconds| {
        Limits::computing(Duration::from_secs(seconds))
    });
    let (heap, place) = match said(EVALUATION_HEAP) {
        Some(text) => {
            let place = format!("{EVALUATION_HEAP}={text}");
            (Some(bytes(&text).unwrap_or(0)), place)
        }
        None => (
            settings.evaluation_heap,
            "`evaluation-heap` in [settings] of zako.toml".to_owned(),
        ),
    };
    let Some(heap) = heap else {
        return Ok(limits);
    };
    let most = Machine::look().memory_bytes;
    if !(MIN_HEAP_BYTES..=most.max(MIN_HEAP_BYTES)).contains(&heap) {
        return Err(Failure::usage(format!(
            "{place}: a size from 32m to the {}m that this machine has, such as 512m or 2g",
            most >> 20
        )));
    }
    Ok(Limits {
        heap_bytes: usize::try_from(heap).unwrap_or(usize::MAX),
        ..limits
    })
}

/// The variables that say what a build file may use.
pub const EVALUATION_SECONDS: &str = "ZAKO_EVALUATION_SECONDS";
/// See there.
pub const EVALUATION_HEAP: &str = "ZAKO_EVALUATION_HEAP";
/// The variable that says how strictly commands are held to what they declare.
pub const SANDBOX: &str = "ZAKO_SANDBOX";

/// What a variable of the environment says, when it says something.
pub fn said(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// Where steps find programs: as the workspace says, otherwise as this process does.
pub fn search_path(settings: &Settings) -> String {
    match &settings.path {
        Some(path) => path.as_str().to_owned(),
        None => std::env::var("PATH").unwrap_or_default(),
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

/// `NAME=VALUE` in two parts.
///
/// # Errors
/// When it has no name or no `=`.
pub fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not NAME=VALUE")),
    }
}

/// The size of pools: environment, then manifest, then what is `derived` from the machine. A minimum above
/// the maximum raises it, unless both were said.
///
/// # Errors
/// When what was said makes no sense.
pub fn pool_size(settings: &Settings, derived: PoolSize) -> Result<PoolSize, Failure> {
    let workers = |said: Option<usize>, name| {
        let said = number(said.map(|said| said as u64), name)?;
        Ok(said.map(|said| usize::try_from(said).unwrap_or(usize::MAX)))
    };
    let min: Option<usize> = workers(settings.min_workers, "ZAKO_MIN_WORKERS")?;
    let max: Option<usize> = workers(settings.max_workers, "ZAKO_MAX_WORKERS")?;
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        return Err(Failure::usage(format!(
            "pools of at least {min} and at most {max} workers: raise `max-workers` or lower `min-workers` in [settings] of \
             zako.toml (ZAKO_MAX_WORKERS, ZAKO_MIN_WORKERS)"
        )));
    }
    let max = max.unwrap_or_else(|| derived.max.max(min.unwrap_or(0)));
    let idle = number(settings.worker_idle_seconds, "ZAKO_WORKER_IDLE_SECONDS")?;
    Ok(PoolSize {
        min: min.unwrap_or(derived.min).min(max),
        max,
        idle: idle.map_or(derived.idle, Duration::from_secs),
    })
}

/// The number in variable `name` of the environment, otherwise `said` in the manifest; at least 1.
fn number(in_manifest: Option<u64>, name: &str) -> Result<Option<u64>, Failure> {
    let (number, place) = match said(name) {
        Some(text) => {
            let place = format!("{name}={text}");
            (Some(text.parse().unwrap_or(0)), place)
        }
        None => (
            in_manifest,
            format!("{name}, or its like in [settings] of zako.toml"),
        ),
    };
    match number {
        Some(0) => Err(Failure::usage(format!(
            "{place}: a whole number, at least 1"
        ))),
        number => Ok(number),
    }
}

/// A number of steps at a time, as a person writes it.
pub(super) fn jobs(text: &str) -> Result<std::num::NonZeroU32, String> {
    text.parse().map_err(|_| {
        "expected a whole number from 1; without it there is one step per CPU, and one more"
            .to_owned()
    })
}
