//! Flags of the commands that look at the graph and at earlier builds.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

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
    /// An image
    Svg,
}

/// Flags of `graph`.
#[derive(Clone, Debug, Args)]
pub struct GraphArgs {
    /// What to draw, with everything that it needs [default: //...]
    #[arg(value_name = "LABEL")]
    pub labels: Vec<String>,
    /// How to write it [default: by the ending of FILE (.dot, .gv, .html, .svg), otherwise dot]
    #[arg(long, value_enum)]
    pub format: Option<GraphFormat>,
    /// Write to FILE; - is the standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// One box for each package; a page opens them [default for pages and images of more than 400 targets]
    #[arg(long, conflicts_with = "targets")]
    pub packages: bool,
    /// One box for each target, however many there are
    #[arg(long)]
    pub targets: bool,
}

/// Flags of `affected`.
#[derive(Clone, Debug, Args)]
pub struct AffectedArgs {
    /// A commit, branch or tag; compares with where HEAD left it (the merge base, which is REF itself where HEAD has all of it).
    /// What is not committed counts as changed
    #[arg(long, value_name = "REF")]
    pub since: String,
    /// Only tests
    #[arg(long)]
    pub tests: bool,
    /// Print JSON, with the files that changed
    #[arg(long)]
    pub json: bool,
}

/// Flags of `trace`.
#[derive(Clone, Debug, Args)]
pub struct TraceArgs {
    /// What would be built anew, with everything that it needs [default: //...]
    #[arg(value_name = "LABEL")]
    pub labels: Vec<String>,
    /// Think of N steps at a time [default: one per CPU, and one more]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<std::num::NonZeroU32>,
    /// Draw it to FILE instead, to be opened in Perfetto (ui.perfetto.dev) or chrome://tracing
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print JSON, times in microseconds
    #[arg(long)]
    pub json: bool,
}
