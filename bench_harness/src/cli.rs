//! The command line: parsed flags, kept apart from the options they become.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};

use bench_harness::gate::Subject;
use bench_harness::options::{Options, Scale, WaitKind};
use bench_harness::scenario::{self, Family, Scenario};

/// Throughput, latency, stress and regression, against the peers.
#[derive(Debug, Parser)]
#[command(name = "bench_harness", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The scenarios, one line each.
    List,
    /// Measures ours alone.
    Run {
        /// Names from `list`.
        #[arg(required = true)]
        scenarios: Vec<String>,
        #[command(flatten)]
        load: LoadArgs,
    },
    /// Measures ours and every peer in the same run, and prints the ratios.
    Compare {
        /// Names from `list`.
        #[arg(required = true)]
        scenarios: Vec<String>,
        #[command(flatten)]
        load: LoadArgs,
    },
    /// One-way and round-trip latency, corrected for coordinated omission.
    Latency {
        #[command(flatten)]
        load: LoadArgs,
    },
    /// A million actors × 64 B, 100,000 × 1 KiB, 10,000 × 10 KiB: everything sent must arrive.
    Stress {
        /// Part of the full size.
        #[arg(long, default_value_t = 1.0)]
        scale: f64,
        /// Prints JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Mixed load with injected faults: leak rate, error rate, a verdict.
    Soak {
        /// How long.
        #[arg(long, default_value_t = 10.0)]
        minutes: f64,
        /// Prints JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// The regression gate: compares with a baseline file, or writes it.
    Check {
        /// The baseline file.
        #[arg(
            long,
            value_name = "FILE",
            default_value = "bench_harness/baseline.json"
        )]
        baseline: PathBuf,
        /// Slower than this is a regression.
        #[arg(long, value_name = "PERCENT", default_value_t = 15.0)]
        threshold: f64,
        /// Writes the baseline instead.
        #[arg(long)]
        update: bool,
        /// Names from `list`, and `latency` for the percentiles of all paths.
        #[arg(default_values_t = ["spsc", "mpsc", "mpmc", "multicast", "tell", "tell_batch", "ask", "ping_pong", "big", "latency"].map(String::from))]
        scenarios: Vec<String>,
    },
    /// A flame graph, allocation counts and system calls of one scenario.
    Profile {
        /// A name from `list`.
        scenario: String,
        /// Where the flame graph goes [default: SCENARIO.svg].
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
        /// Also runs under valgrind's massif and leaves its file here.
        #[arg(long, value_name = "FILE")]
        massif: Option<PathBuf>,
        #[command(flatten)]
        load: LoadArgs,
    },
    /// The tables of `compare` and `latency`, and one self-contained HTML file with their plots.
    Report {
        /// Where it goes.
        #[arg(long, value_name = "FILE", default_value = "bench_report.html")]
        out: PathBuf,
        /// Names from `list`; all by default.
        scenarios: Vec<String>,
        #[command(flatten)]
        load: LoadArgs,
    },
}

/// How to measure.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Only these implementations (as named in the tables).
    #[arg(long = "impl", value_name = "NAME")]
    only: Vec<String>,
    /// Writing threads or actors.
    #[arg(long)]
    producers: Option<usize>,
    /// Reading threads or actors.
    #[arg(long)]
    consumers: Option<usize>,
    /// Slots of the ring or mailbox.
    #[arg(long, default_value_t = 1024)]
    capacity: usize,
    /// Items per batch.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Bytes per item: 8, 64 or 1024.
    #[arg(long, default_value_t = 8, value_name = "BYTES")]
    payload: usize,
    /// Cores to pin to, for example `0,1`; all by default.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    /// How threads wait in rings of ours.
    #[arg(long, value_enum, default_value_t = WaitKind::Spin)]
    wait: WaitKind,
    /// Measured runs of each case [default: 5, with --quick 3].
    #[arg(long)]
    repeat: Option<usize>,
    /// A fifth of the work.
    #[arg(long)]
    quick: bool,
    /// Prints one JSON object per scenario instead of a table.
    #[arg(long)]
    pub json: bool,
}

impl LoadArgs {
    /// The flags that were given but mean nothing to scenarios of this family.
    pub fn ignored_by(&self, family: Family) -> Option<String> {
        let defaults = Options::default();
        let rings = family == Family::Rings;
        let actors = matches!(family, Family::Actors | Family::Savina(_));
        let flags = [
            ("--payload", self.payload != defaults.payload && !rings),
            ("--wait", self.wait != defaults.wait && !rings),
            ("--batch", self.batch != defaults.batch && !rings && !actors),
            (
                "--capacity",
                self.capacity != defaults.capacity && !rings && !actors,
            ),
        ];
        let ignored: Vec<&str> = flags
            .iter()
            .filter(|(_, ignored)| *ignored)
            .map(|(flag, _)| *flag)
            .collect();
        (!ignored.is_empty()).then(|| ignored.join(", "))
    }

    /// The options these flags mean.
    pub fn options(&self) -> anyhow::Result<Options> {
        let defaults = Options::default();
        if self.capacity == 0
            || self.batch == 0
            || self.producers == Some(0)
            || self.consumers == Some(0)
        {
            bail!("--capacity, --batch, --producers and --consumers must be at least 1");
        }
        let cores = if self.cores.is_empty() {
            defaults.cores
        } else {
            self.cores.clone()
        };
        let unknown = cores
            .iter()
            .find(|core| !bench_harness::pin::available().contains(core));
        if let Some(core) = unknown {
            bail!(
                "core {core} is not available here; these are: {:?}",
                bench_harness::pin::available()
            );
        }
        Ok(Options {
            producers: self.producers,
            consumers: self.consumers,
            capacity: self.capacity.next_power_of_two(),
            mailbox: self.capacity,
            batch: self.batch,
            payload: self.payload,
            cores,
            wait: self.wait,
            repeat: self.repeat.unwrap_or(if self.quick { 3 } else { 5 }).max(1),
            scale: if self.quick {
                Scale::Quick
            } else {
                Scale::Full
            },
            only: self.only.clone(),
            peers: false,
        })
    }
}

/// What `check` measures under these names.
pub fn subjects(names: &[String]) -> anyhow::Result<Vec<Subject>> {
    let subject = |name: &String| match name.as_str() {
        "latency" => Ok(Subject::Latency),
        _ => Ok(Subject::Scenario(scenarios(std::slice::from_ref(name))?[0])),
    };
    names.iter().map(subject).collect()
}

/// The scenarios with these names, or an error that names the nearest.
pub fn scenarios(names: &[String]) -> anyhow::Result<Vec<&'static Scenario>> {
    names
        .iter()
        .map(|name| {
            let all = || {
                scenario::ALL
                    .iter()
                    .map(|scenario| scenario.name)
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            if let Some(feature) = scenario::missing_feature(name) {
                bail!("`{name}` is not compiled in; build with --features {feature}");
            }
            scenario::find(name)
                .with_context(|| format!("there is no scenario `{name}`; these are: {}", all()))
        })
        .collect()
}
