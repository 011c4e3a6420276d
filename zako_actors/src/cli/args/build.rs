//! Flags of the commands that build, and of the one that takes it back.

use std::path::PathBuf;

use clap::Args;

use crate::engine::sandbox::Mode;

/// How steps are carried out and who hears of it: flags of every command that builds.
#[derive(Clone, Debug, Default, Args)]
pub struct StepArgs {
    /// Run at most N steps at a time [default: one per CPU, and one more]
    #[arg(short, long, value_name = "N", value_parser = crate::cli::options::jobs, env = "ZAKO_JOBS", hide_env = true)]
    pub jobs: Option<std::num::NonZeroU32>,
    /// After a failure, build everything that does not depend on it; `watch` always does
    #[arg(short, long)]
    pub keep_going: bool,
    /// Run steps even when a result is known; `watch` does so in its first round
    #[arg(long)]
    pub force: bool,
    /// Look for results in the cache at URL, and hand new ones on: http://HOST:PORT or grpc://HOST:PORT
    #[arg(long, value_name = "URL", env = "ZAKO_REMOTE", hide_env = true)]
    pub remote: Option<String>,
    /// Hold commands to what they declare: off, warn or strict [default: off, or `sandbox` of zako.toml]
    #[arg(long, value_name = "MODE", value_enum, env = crate::cli::options::SANDBOX, hide_env = true)]
    pub sandbox: Option<Mode>,
    /// Replace files that zako does not know to have written where outputs go, as after `.zako` was lost; sources and what git
    /// knows stay
    #[arg(long)]
    pub overwrite: bool,
    /// Leave the directory of a failed step, to look at it and to rerun the command there
    #[arg(long)]
    pub keep_scratch: bool,
    /// Write one JSON object per event to FILE
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// Write a trace to FILE, to be opened in Perfetto (ui.perfetto.dev) or chrome://tracing; of `watch`, the last round's
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Send spans of the build and its steps: `stdout`, or the address of an OpenTelemetry collector
    #[arg(long, value_name = "WHERE", env = "ZAKO_OTEL", hide_env = true)]
    pub otel: Option<String>,
}

/// Flags of `build` and `test`.
#[derive(Clone, Debug, Default, Args)]
pub struct BuildArgs {
    /// What to build: labels, `//dir/...`, `//dir:*` [default: //...]
    #[arg(value_name = "LABEL")]
    pub labels: Vec<String>,
    /// Of every command that builds.
    #[command(flatten)]
    pub steps: StepArgs,
    /// Run each command N times, cached or not, and fail where it does not leave the same each time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100))]
    pub check_determinism: Option<u32>,
    /// Only what changes since HEAD left REF (a commit, branch or tag; from the merge base on) concern, and what that needs
    #[arg(long, value_name = "REF")]
    pub since: Option<String>,
    /// Fetch packages from elsewhere again (all, or those NAMEd with commas between) and write zako.lock anew
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, value_delimiter = ',')]
    pub update_lock: Option<Vec<String>>,
    /// Say what would run and why; run nothing. There are no events then, so not with --events and --trace
    #[arg(long)]
    pub dry: bool,
    /// Print the summary as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

/// Flags of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// What to build and run
    #[arg(value_name = "LABEL")]
    pub label: String,
    /// Which of its outputs, when it makes several programs
    #[arg(long, value_name = "NAME")]
    pub bin: Option<String>,
    /// Of every command that builds.
    #[command(flatten)]
    pub steps: StepArgs,
    /// Arguments of the program
    #[arg(last = true)]
    pub args: Vec<std::ffi::OsString>,
}

impl RunArgs {
    /// As the build that comes first.
    pub fn build(&self) -> BuildArgs {
        BuildArgs {
            labels: vec![self.label.clone()],
            steps: self.steps.clone(),
            ..BuildArgs::default()
        }
    }
}

/// Flags of `watch`.
#[derive(Clone, Debug, Args)]
pub struct WatchArgs {
    /// What to build: labels, `//dir/...`, `//dir:*` [default: //...]
    #[arg(value_name = "LABEL")]
    pub labels: Vec<String>,
    /// Run tests, too
    #[arg(long)]
    pub tests: bool,
    /// Of every command that builds.
    #[command(flatten)]
    pub steps: StepArgs,
}

/// Flags of `clean`.
#[derive(Clone, Debug, Args)]
pub struct CleanArgs {
    /// Remove the cache and all state as well
    #[arg(long)]
    pub all: bool,
}
