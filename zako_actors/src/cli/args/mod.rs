//! The command line as it is written.
//!
//! Owns the commands, their flags (a file for each kind of command) and their help, and nothing
//! else: what they mean is decided in `options` and in the commands. Does not know the engine.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::options::name_and_value;

mod build;
mod cache;
mod look;
mod machine;

pub use build::{BuildArgs, CleanArgs, RunArgs, StepArgs, WatchArgs};
pub use cache::{CacheArgs, CacheCommand};
pub use look::{AffectedArgs, GraphArgs, GraphFormat, QueryArgs, TraceArgs, WhyArgs};
pub use machine::{DoctorArgs, InitArgs, NodeArgs};

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
  zako trace                      the longest chain and the slowest steps
  zako cache stats                what the cache holds

Labels: `//dir:name` from the workspace root, `:name` in this directory, `//dir/...` for a subtree.
`@name//dir:target` is a target of package `name`, declared in [dependencies] of zako.toml: { path = \"DIR\" },
{ url = \"https://…\" or \"file:…\", integrity = \"sha256-…\" }, { package = \"npm:NAME@VERSION\" },
{ repo = \"…\", checkout = \"COMMIT\" }. Fetched once, then zako.lock says what it was.
`@FILE` is replaced by the arguments in FILE, one a line.
Exit status: 0 done; 1 a step failed; 2 wrong use or a mistake in a build file; 130 interrupted.
Environment: ZAKO_CACHE_DIR, ZAKO_JOBS, ZAKO_REMOTE, ZAKO_SANDBOX, ZAKO_OTEL, ZAKO_EVALUATION_SECONDS, ZAKO_EVALUATION_HEAP,
ZAKO_MIN_WORKERS, ZAKO_MAX_WORKERS, ZAKO_WORKER_IDLE_SECONDS, ZAKO_LOCKED, ZAKO_BACKTRACE, NO_COLOR, RUST_LOG.";

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
  graph        Draw the target graph, as a page, an image or DOT
  affected     List the targets that changes since a commit concern
  trace        Tell where the time of a build goes, and what more jobs would bring
  cache        Look into the cache, put blobs in, get them out
  doctor       Check this machine and print the settings derived from it

Set up:
  init         Make a workspace in the current directory
  types        Write type definitions, so that editors know labels and functions
  completions  Print a completion script for a shell
  help         Print the help of a command

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
#[derive(Clone, Debug, Default, Args)]
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
        value_parser = clap::builder::BoolishValueParser::new(),
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
    /// Leave zako.lock as it is, and fail where a package from elsewhere is not in it
    #[arg(
        long,
        global = true,
        env = "ZAKO_LOCKED",
        hide_env = true,
        value_parser = clap::builder::FalseyValueParser::new(),
        help_heading = "Global options"
    )]
    pub locked: bool,
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
    /// Draw the target graph, as a page, an image or DOT
    Graph(GraphArgs),
    /// List the targets that changes since a commit concern
    Affected(AffectedArgs),
    /// Tell where the time of a build goes, and what more jobs would bring
    Trace(TraceArgs),
    /// Remove what was built; the cache stays
    Clean(CleanArgs),
    /// Look into the cache, put blobs in, get them out
    Cache(CacheArgs),
    /// Serve: the actor system with its store, health and metrics over HTTP
    Node(NodeArgs),
    /// Check this machine and print the settings derived from it
    Doctor(DoctorArgs),
    /// Make a workspace in the current directory
    Init(InitArgs),
    /// Write type definitions, so that editors know labels and functions
    Types,
    /// Print the help of a command
    Help {
        /// The command
        command: Vec<String>,
    },
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
                              group, or the name of the rule that the build file calls
           attr(NAME, TEXT, X)  those of X whose attribute contains TEXT
           tests(X)           those of X that are tests
X is a label, `//dir/...`, `//dir:*`, a function, or two of them with `union` (+), `except` (-) or
`intersect` (^) between. Attributes: cmd, deps, env, file, kind, label, options, outs, retries,
rule (the rule that described it, also where it is one step of several), srcs.
Examples: zako query 'rdeps(//libs/core:build) ^ tests(//...)'
          zako query 'kind(ccLibrary, //...)'
          zako query 'attr(rule, ccLibrary, //libs/...)'";

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

    #[test]
    fn the_help_of_queries_names_every_kind_and_attribute() {
        use crate::engine::query::{ATTRIBUTES, KINDS};
        let (kinds, attributes) = QUERY_HELP.split_once("Attributes: ").unwrap();
        for (part, names) in [(kinds, &KINDS[..]), (attributes, &ATTRIBUTES)] {
            for name in names {
                let mut words = part.split(|c: char| !c.is_alphanumeric());
                assert!(words.any(|word| word == *name), "{name}");
            }
        }
    }
}
