//! `[settings]` of the manifest: how a workspace is built, when not by default.
//!
//! Owns the fields and their names. Does not know what any of them does.
//! Invariant: a field that is not known is a mistake.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::access::RemoteAccess;
use super::amount;
use super::package_limits::PackageLimits;
use super::search_path::SearchPath;

/// How strictly commands are held to what they declare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SandboxMode {
    /// A directory with the declared inputs only; an absolute path still reaches everything
    #[default]
    Off,
    /// As off, and files of the workspace that are read without being declared are named (strace)
    Warn,
    /// Only declared inputs, tools and system directories can be read, nothing else written, no network
    Strict,
}

/// `[settings]`: the build of this workspace; flags and environment override each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Steps at a time.
    pub jobs: Option<u32>,
    /// Workers that each pool keeps.
    pub min_workers: Option<usize>,
    /// Workers that each pool may grow to.
    pub max_workers: Option<usize>,
    /// Seconds after which a worker without work is let go.
    #[serde(default, deserialize_with = "amount::number")]
    pub worker_idle_seconds: Option<u64>,
    /// Seconds that a build file may compute.
    #[serde(default, deserialize_with = "amount::number")]
    pub evaluation_seconds: Option<u64>,
    /// Bytes of memory that a build file may use, as `"512m"`.
    #[serde(default, deserialize_with = "amount::some")]
    pub evaluation_heap: Option<u64>,
    /// Cache directory, from the workspace root.
    pub cache_dir: Option<String>,
    /// Where steps find programs, instead of the PATH that zako is started with; part of every key.
    pub path: Option<SearchPath>,
    /// Variables that every step is given, part of every key; `*` at the end means all that begin so.
    #[serde(default)]
    pub pass_env: Vec<String>,
    /// Variables that every step is given and that are part of no key, such as proxies.
    #[serde(default)]
    pub untracked_env: Vec<String>,
    /// Whether scripts of `package.json` are targets; they are unless this says no.
    pub scripts: Option<bool>,
    /// Globs of files that every script reads, from the workspace root.
    #[serde(default)]
    pub script_inputs: Vec<String>,
    /// Scripts, as `name` or `package#name`, that `strict` lets use the network.
    #[serde(default)]
    pub script_network: Vec<String>,
    /// Address of a remote cache.
    pub remote: Option<String>,
    /// Who we are there, and whom we believe.
    #[serde(default)]
    pub remote_access: RemoteAccess,
    /// How strictly commands are held to what they declare.
    pub sandbox: Option<SandboxMode>,
    /// Directories and files that `strict` shows to every command, absolute or `~/…`.
    #[serde(default)]
    pub sandbox_read: Vec<String>,
    /// How many of each named resource there are, for `uses`.
    #[serde(default)]
    pub resources: BTreeMap<String, u32>,
    /// How much a package from elsewhere may be.
    #[serde(default)]
    pub packages: PackageLimits,
}
