//! The command line as it is written.
//!
//! Owns flags, their help, and nothing else: what they mean is decided in `options` and in the
//! commands. Does not know the engine.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::options::name_and_value;
use crate::engine::sandbox::Mode;

const EXAMPLES: &str = "\
Examples:
  zako init                       make a workspace here
  zako build                      build everything except tests
  zako build //libs/ui:bundle     build one target and what it needs
  zako build //libs/...           build everything below libs
  zako build -k -j 8              keep going after a failure, eight steps at a time
  zako build --since main         build what changes since `main` concern
  zako build --dry                say what would run, and why
  zako test                       run all tests; results are cached
  zako watch                      build, and again whenever a file changes
  zako run //tool:count -- -w a   build a program, then run it
  zako why //libs/ui:bundle       the file, flag or variable that made it run
  zako query 'rdeps(//libs/ui)'   everything that needs a target
  zako graph -o graph.html        a picture of all targets
  zako cache stats                what the cache holds

Labels: `//dir:name` from the workspace root, `:name` in this directory, `//dir/...` for a subtree.
`@FILE` is replaced by the arguments in FILE, one a line.
Exit status: 0 done; 1 a step failed; 2 wrong use or a mistake in a build file; 130 interrupted.
Environment: ZAKO_CACHE_DIR, ZAKO_JOBS, ZAKO_REMOTE, ZAKO_OTEL, ZAKO_EVALUATION_SECONDS, ZAKO_MIN_WORKERS,
ZAKO_MAX_WORKERS, ZAKO_WORKER_IDLE_SECONDS, ZAKO_BACKTRACE, NO_COLOR, RUST_LOG.";

/// Commands by what they are for; a test keeps the list complete.
const TEMPLATE: &str = "\
{about}

{usage-heading} {usage}

Build:
  build        Bring targets up to date
  test         Run tests and what they need; results are cached
  run          Build a target, then run the program that it made
  watch        Build again whenever a file changes
  clean        Remove what was built; the cache stays

Look inside:
  why          Tell what made a target run, or would make it run now
  query        Ask about the target graph
  graph        Draw the target graph, as DOT or as a page
  affected     List the targets that changes since a commit concern
  cache        Look into the cache, put blobs in, get them out
  doctor       Check this machine and print the settings derived from it

Set up:
  init         Make a workspace in the current directory
  types        Write type definitions, so that editors know labels and functions
  completions  Print a completion script for a shell

Serve:
  node         Serve: the actor system with its store, health and metrics over HTTP

{options}{after-help}";

/// Builds TypeScript and mixed-language workspaces, and runs only what changed.
#[derive(Debug, Parser)]
#[command(name = "zako", version, about, after_help = EXAMPLES, max_term_width = 100)]
#[command(
    help_template = TEMPLATE,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
}

/// Flags of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Work in DIR instead of the current directory
    #[arg(
        short = 'C',
        long = "directory",
        value_name = "DIR",
        global = true,
        help_heading = "Global options"
    )]
    pub directory: Option<PathBuf>,
    /// Keep blobs, results and state in DIR [default: .zako in the workspace]
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        env = "ZAKO_CACHE_DIR",
        hide_env = true,
        help_heading = "Global options"
    )]
    pub cache_dir: Option<PathBuf>,
    /// Tell internal errors with all calls that led there, and errors of scripts with their whole stacks
    #[arg(
        long,
        global = true,
        env = "ZAKO_BACKTRACE",
        hide_env = true,
        value_parser = clap::builder::FalseyValueParser::new(),
        help_heading = "Global options"
    )]
    pub backtrace: bool,
    /// Set an option that a rule declares; wins over `[config]` of zako.toml
    #[arg(
        long,
        value_name = "NAME=VALUE",
        value_parser = name_and_value,
        global = true,
        help_heading = "Global options"
    )]
    pub set: Vec<(String, String)>,
    /// Say more: why steps run, what was cached
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub verbose: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring targets up to date
    #[command(after_help = BUILD_HELP)]
    Build(BuildArgs),
    /// Run tests and what they need; results are cached
    Test(BuildArgs),
    /// Build a target, then run the program that it made
    Run(RunArgs),
    /// Build again whenever a file changes
    Watch(WatchArgs),
    /// Tell what made a target run, or would make it run now
    Why(WhyArgs),
    /// Ask about the target graph
    #[command(after_help = QUERY_HELP)]
    Query(QueryArgs),
    /// Draw the target graph, as DOT or as a page
    Graph(GraphArgs),
    /// List the targets that changes since a commit concern
    Affected(AffectedArgs),
    /// Remove what was built; the cache stays
    Clean(CleanArgs),
    /// Look into the cache, put blobs in, get them out
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Serve: the actor system with its store, health and metrics over HTTP
    Node(NodeArgs),
    /// Check this machine and print the settings derived from it
    Doctor(DoctorArgs),
    /// Make a workspace in the current directory
    Init(InitArgs),
    /// Write type definitions, so that editors know labels and functions
    Types,
    /// Print a completion script for a shell
    #[command(
        after_help = "Example: zako completions bash > ~/.local/share/bash-completion/completions/zako"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
}

const BUILD_HELP: &str = "\
How a step runs: in a directory of its own that mirrors the workspace and holds only the files of
`srcs` and the outputs of `deps`; with PATH, LANG, HOME, TMPDIR and the target's `env`, nothing else.
Directories of declared output files exist before it starts. Outputs go to the cache and to the
package directory. A step runs again only when its command, tool, environment or inputs changed.";

const QUERY_HELP: &str = "\
Functions: deps(X[, N])       X and what it needs, at most N steps away
           rdeps(X[, N])      X and what needs it
           somepath(X, Y)     one chain of dependencies from X to Y
           allpaths(X, Y)     everything on any such chain
           kind(KIND, X)      those of X that are of a kind: command, script, test, transpile,
                              group, or the name of a rule
           attr(NAME, TEXT, X)  those of X whose attribute contains TEXT
           tests(X)           those of X that are tests
X is a label, `//dir/...`, `//dir:*`, a function, or two of them with `union` (+), `except` (-) or
`intersect` (^) between. Attributes: cmd, deps, env, file, kind, label, options, outs, retries, srcs.
Example: zako query 'rdeps(//libs/core:build) ^ tests(//...)'";

/// Flags of `build` and `test`.
#[derive(Clone, Debug, Default, Args)]
pub struct BuildArgs {
    /// What to build: labels, `//dir/...`, `//dir:*` [default: //...]
    #[arg(value_name = "LABEL")]
    pub labels: Vec<String>,
    /// Run at most N steps at a time [default: one per CPU]
    #[arg(short, long, value_name = "N", env = "ZAKO_JOBS", hide_env = true)]
    pub jobs: Option<std::num::NonZeroU32>,
    /// After a failure, build everything that does not depend on it
    #[arg(short, long)]
    pub keep_going: bool,
    /// Run steps even when a result is known
    #[arg(long)]
    pub force: bool,
    /// Look for results in the cache at URL, and hand new ones on: http://HOST:PORT or grpc://HOST:PORT
    #[arg(long, value_name = "URL", env = "ZAKO_REMOTE", hide_env = true)]
    pub remote: Option<String>,
    /// Hold commands to what they declare: off, warn or strict [default: off, or `sandbox` of zako.toml]
    #[arg(long, value_name = "MODE", value_enum)]
    pub sandbox: Option<Mode>,
    /// Run each command N times, cached or not, and fail where it does not leave the same each time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100))]
    pub check_determinism: Option<u32>,
    /// Leave the directory of a failed step, to look at it and to rerun the command there
    #[arg(long)]
    pub keep_scratch: bool,
    /// Only what changes since REF (a commit, branch or tag) concern, and what that needs
    #[arg(long, value_name = "REF")]
    pub since: Option<String>,
    /// Say what would run and why; run nothing
    #[arg(long)]
    pub dry: bool,
    /// Write one JSON object per event to FILE
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// Write a trace to FILE, to be opened in Perfetto (ui.perfetto.dev) or chrome://tracing
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Send spans of the build and its steps: `stdout`, or the address of an OpenTelemetry collector
    #[arg(long, value_name = "WHERE", env = "ZAKO_OTEL", hide_env = true)]
    pub otel: Option<String>,
    /// Print the summary as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

/// Flags of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// What to build and run
    pub label: String,
    /// Which of its outputs, when it makes several programs
    #[arg(long, value_name = "NAME")]
    pub bin: Option<String>,
    /// Run at most N steps at a time [default: one per CPU]
    #[arg(short, long, value_name = "N", env = "ZAKO_JOBS", hide_env = true)]
    pub jobs: Option<std::num::NonZeroU32>,
    /// Arguments of the program
    #[arg(last = true)]
    pub args: Vec<std::ffi::OsString>,
}

impl RunArgs {
    /// As the build that comes first.
    pub fn build(&self) -> BuildArgs {
        BuildArgs {
            labels: vec![self.label.clone()],
            jobs: self.jobs,
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
    /// Run at most N steps at a time [default: one per CPU]
    #[arg(short, long, value_name = "N", env = "ZAKO_JOBS", hide_env = true)]
    pub jobs: Option<std::num::NonZeroU32>,
}

/// Flags of `why`.
#[derive(Clone, Debug, Args)]
pub struct WhyArgs {
    /// The targets
    #[arg(value_name = "LABEL", required = true)]
    pub labels: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `query`.
#[derive(Clone, Debug, Args)]
pub struct QueryArgs {
    /// The question
    #[arg(value_name = "QUERY", required = true)]
    pub query: Vec<String>,
    /// Print every attribute of each target as JSON
    #[arg(long)]
    pub json: bool,
}

/// How a graph is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// For Graphviz
    Dot,
    /// A page with picture, search and highlighting
    Html,
}

/// Flags of `graph`.
#[derive(Clone, Debug, Args)]
pub struct GraphArgs {
    /// What to draw, with everything that it needs [default: //...]
    #[arg(value_name = "LABEL")]
    pub labels: Vec<String>,
    /// How to write it [default: by the name of the file, otherwise dot]
    #[arg(long, value_enum)]
    pub format: Option<GraphFormat>,
    /// Write to FILE
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// One box for each package
    #[arg(long)]
    pub packages: bool,
}

/// Flags of `affected`.
#[derive(Clone, Debug, Args)]
pub struct AffectedArgs {
    /// A commit, branch or tag to compare with; what is not committed counts as changed
    #[arg(long, value_name = "REF")]
    pub since: String,
    /// Only tests
    #[arg(long)]
    pub tests: bool,
    /// Print JSON, with the files that changed
    #[arg(long)]
    pub json: bool,
}

/// Flags of `clean`.
#[derive(Clone, Debug, Args)]
pub struct CleanArgs {
    /// Remove the cache and all state as well
    #[arg(long)]
    pub all: bool,
}

/// The commands of `cache`.
#[derive(Clone, Debug, Subcommand)]
pub enum CacheCommand {
    /// Count blobs, results and bytes
    Stats {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the blob DIGEST to standard output, or to a file
    Get {
        /// 64 hex characters, with or without `/SIZE`; the first ones are enough
        digest: String,
        /// Write here
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Store files and print their digests
    Put {
        /// The files; `-` is standard input
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Read everything again; what is damaged is set aside
    Verify {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Evict what was not used for the longest time
    Gc {
        /// Keep at most so much, for instance 500M, 20G or 0
        #[arg(long, value_name = "SIZE", value_parser = parse_size)]
        keep: u64,
        /// Spare what was used within so many minutes
        #[arg(long, value_name = "MINUTES", default_value_t = 0)]
        spare: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write everything to files below DIR: blobs to cas/HASH, results to ac/KEY
    Export {
        /// The directory
        dir: PathBuf,
    },
    /// Store what `export` wrote below DIR, or any files cas/HASH named by BLAKE3 or SHA-256
    Import {
        /// The directory
        dir: PathBuf,
    },
}

/// A number of bytes with an optional K, M, G or T behind it, each 1024 times the one before.
fn parse_size(text: &str) -> Result<u64, String> {
    let upper = text.to_ascii_uppercase();
    let digits = upper.trim_end_matches(|c: char| !c.is_ascii_digit());
    let power = match &upper[digits.len()..] {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 1,
        "M" | "MB" | "MIB" => 2,
        "G" | "GB" | "GIB" => 3,
        "T" | "TB" | "TIB" => 4,
        unit => return Err(format!("`{unit}` is no unit; there are K, M, G and T")),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "a size is a number, with K, M, G or T behind it or not".to_owned())?;
    number
        .checked_mul(1024_u64.pow(power))
        .ok_or_else(|| "that is more than any disk holds".to_owned())
}

/// Flags of `node`.
#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// Keep the store in DIR [default: $XDG_DATA_HOME/zako or ~/.local/share/zako]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Answer HTTP on ADDR [default: 127.0.0.1:7471]
    #[arg(long, value_name = "ADDR")]
    pub http: Option<std::net::SocketAddr>,
    /// Answer on ADDR as well, for gRPC [default: gRPC is answered where HTTP is]
    #[arg(long, value_name = "ADDR")]
    pub grpc: Option<std::net::SocketAddr>,
    /// Answer at a socket in the file system as well
    #[arg(long, value_name = "PATH")]
    pub unix: Option<PathBuf>,
    /// Speak TLS with the certificate in FILE (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Let only clients in for whose certificate FILE (PEM) vouches
    #[arg(long, value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// Look for what is not here in the cache at ADDR, and keep it: http[s]://HOST[:PORT][/PATH],
    /// grpc[s]://HOST:PORT[/INSTANCE] or s3://BUCKET[/PREFIX]; credentials, TLS and handing on what
    /// is stored here are set in [upstream] of the configuration
    #[arg(long, value_name = "ADDR")]
    pub upstream: Option<String>,
    /// Read settings from FILE (TOML); flags win. examples/node.toml shows all of them
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Flags of `doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `init`.
#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// The package's group [default: local]
    #[arg(long)]
    pub group: Option<String>,
    /// The package's name [default: that of package.json, or of the directory]
    #[arg(long)]
    pub name: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_its_help_complete() {
        let cli = Cli::command();
        cli.clone().debug_assert();
        for command in cli.get_subcommands() {
            let about = command
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default();
            let line = format!("  {:<12} {about}\n", command.get_name());
            assert!(TEMPLATE.contains(&line), "{line}");
        }
    }
}
