//! The command line: parsed flags, kept apart from the options they become.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};

use bench_harness::gate::{SUBJECTS, Subject};
use bench_harness::options::{Options, Scale, WaitKind};
use bench_harness::payload::SIZES;
use bench_harness::probe::Probe;
use bench_harness::scenario::flags::Flag;
use bench_harness::scenario::{self, Scenario};

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
        /// Prints one JSON object per scenario instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Measures ours and every peer in the same run, and prints the ratios.
    Compare {
        /// Names from `list`.
        #[arg(required = true)]
        scenarios: Vec<String>,
        #[command(flatten)]
        load: LoadArgs,
        /// Prints one JSON object per scenario instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// One-way and round-trip latency, corrected for coordinated omission.
    Latency {
        /// Cores to use, for example `0,1`: the first is the far side's, the last the near side's; all by default.
        #[arg(long, value_delimiter = ',')]
        cores: Vec<usize>,
        /// Rounds of all paths; the medians are printed.
        #[arg(long, default_value_t = 3, value_parser = at_least_one)]
        repeat: usize,
        /// A fifth of the messages.
        #[arg(long)]
        quick: bool,
        /// Prints JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// A million actors × 64 B, 100,000 × 1 KiB, 10,000 × 10 KiB: everything sent must arrive.
    Stress {
        /// Part of the full size.
        #[arg(long, default_value_t = 1.0, value_parser = positive)]
        scale: f64,
        /// Prints JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Mixed load with injected faults: leak rate, error rate, a verdict.
    Soak {
        /// How long.
        #[arg(long, default_value_t = 10.0, value_parser = positive)]
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
        /// Worse by more than this is a regression.
        #[arg(long, value_name = "PERCENT", default_value_t = 15.0, value_parser = percent, conflicts_with = "update")]
        threshold: f64,
        /// Writes the baseline instead.
        #[arg(long)]
        update: bool,
        /// With --update: writes it although the machine was busy or the build is of no commit.
        #[arg(long, requires = "update")]
        force: bool,
        /// Names from `list`, and `latency` for the percentiles of all paths; by default those that are steady enough.
        scenarios: Vec<String>,
    },
    /// A flame graph, allocation counts and system calls of one scenario.
    Profile {
        /// A name from `list`.
        scenario: String,
        /// Where the flame graph goes [default: SCENARIO.svg].
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
        /// Also runs under valgrind's massif, which leaves its file here [default: SCENARIO.massif].
        #[arg(long, value_name = "FILE", num_args = 0..=1)]
        massif: Option<Option<PathBuf>>,
        #[command(flatten)]
        load: LoadArgs,
        /// Prints JSON instead of text.
        #[arg(long)]
        json: bool,
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
    /// What the others have done in a process of its own.
    #[command(hide = true)]
    Probe {
        /// As JSON.
        #[arg(value_parser = probe)]
        probe: Probe,
    },
}

/// How to measure.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Only these implementations (as named in the tables).
    #[arg(long = "impl", value_name = "NAME")]
    only: Vec<String>,
    /// Writing threads or actors.
    #[arg(long, value_parser = at_least_one)]
    producers: Option<usize>,
    /// Reading threads or actors.
    #[arg(long, value_parser = at_least_one)]
    consumers: Option<usize>,
    /// Slots of the ring (rounded up to a power of two) or mailbox [default: 1024].
    #[arg(long, value_parser = at_least_one)]
    capacity: Option<usize>,
    /// Items per batch [default: 64].
    #[arg(long, value_parser = at_least_one)]
    batch: Option<usize>,
    /// Bytes per item of a ring: 8, 16, 64, 256, 1024 or 4096 [default: 8].
    #[arg(long, value_name = "BYTES", value_parser = payload_bytes)]
    payload: Option<usize>,
    /// Targets, steps or packages of a build, or idle actors, instead of the usual number.
    #[arg(long, value_parser = at_least_one)]
    count: Option<usize>,
    /// Cores to use, for example `0,1`; all by default.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    /// How threads wait in rings of ours [default: spin].
    #[arg(long, value_enum)]
    wait: Option<WaitKind>,
    /// Measured runs of each case [default: 5, with --quick 3].
    #[arg(long, value_parser = at_least_one)]
    repeat: Option<usize>,
    /// A fifth of the work.
    #[arg(long)]
    quick: bool,
    /// As little as still means something: for the tests.
    #[arg(long, hide = true, conflicts_with = "quick")]
    tiny: bool,
}

impl LoadArgs {
    /// The flags that were given but mean nothing to this scenario.
    pub fn ignored_by(&self, scenario: &Scenario) -> Option<String> {
        let given = [
            (Flag::Producers, self.producers.is_some()),
            (Flag::Consumers, self.consumers.is_some()),
            (Flag::Capacity, self.capacity.is_some()),
            (Flag::Batch, self.batch.is_some()),
            (Flag::Payload, self.payload.is_some()),
            (Flag::Count, self.count.is_some()),
            (Flag::Wait, self.wait.is_some()),
        ];
        let ignored: Vec<String> = given
            .iter()
            .filter(|(flag, given)| *given && !scenario.heeds(*flag))
            .map(|(flag, _)| {
                format!(
                    "{} means nothing here, only to {}",
                    flag.name(),
                    flag.where_heeded()
                )
            })
            .collect();
        (!ignored.is_empty()).then(|| ignored.join("; "))
    }

    /// The options these flags mean.
    pub fn options(&self) -> anyhow::Result<Options> {
        let defaults = Options::default();
        let capacity = self.capacity.unwrap_or(defaults.capacity);
        Ok(Options {
            producers: self.producers,
            consumers: self.consumers,
            capacity: capacity.next_power_of_two(),
            mailbox: capacity,
            batch: self.batch.unwrap_or(defaults.batch),
            payload: self.payload.unwrap_or(defaults.payload),
            count: self.count.map(|count| count as u64),
            cores: cores(&self.cores)?,
            wait: self.wait.unwrap_or(defaults.wait),
            repeat: self.repeat.unwrap_or(if self.quick { 3 } else { 5 }),
            scale: if self.tiny {
                Scale::Tiny
            } else {
                scale(self.quick)
            },
            only: self.only.clone(),
            // Who names a peer wants it.
            peers: !self.only.is_empty(),
        })
    }
}

/// The options of `latency`.
pub fn latency_options(cores_given: &[usize], quick: bool) -> anyhow::Result<Options> {
    Ok(Options {
        cores: cores(cores_given)?,
        scale: scale(quick),
        ..Options::default()
    })
}

fn scale(quick: bool) -> Scale {
    if quick { Scale::Quick } else { Scale::Full }
}

/// The cores that were asked for, or all.
fn cores(asked: &[usize]) -> anyhow::Result<Vec<usize>> {
    let available = bench_harness::pin::available();
    if asked.is_empty() {
        return Ok(available);
    }
    for (index, core) in asked.iter().enumerate() {
        if !available.contains(core) {
            bail!("core {core} is not available here; these are: {available:?}");
        }
        if asked[..index].contains(core) {
            bail!("--cores names core {core} twice");
        }
    }
    Ok(asked.to_vec())
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    // A thousand years, and more actors than fit into any memory.
    let sensible = number > 0.0 && number < 1e6;
    sensible
        .then_some(number)
        .ok_or_else(|| "must be more than 0 and less than 1000000".into())
}

fn percent(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let sensible = number > 0.0 && number < 100.0;
    sensible.then_some(number).ok_or_else(|| {
        "must be more than 0 and less than 100: nothing can be worse by all of it".into()
    })
}

/// More than anything of which there are many, and so little that products of two are numbers still.
const MOST: usize = 1 << 30;

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=MOST) => Ok(number),
        Ok(_) => Err(format!("must be at least 1 and at most {MOST}")),
        Err(_) => Err("not a whole number".into()),
    }
}

fn probe(text: &str) -> Result<Probe, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn payload_bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes) if SIZES.contains(&bytes) => Ok(bytes),
        _ => {
            let sizes = SIZES.map(|bytes| bytes.to_string());
            Err(format!("must be one of {}", sizes.join(", ")))
        }
    }
}

/// What `check` measures under these names, or by default, and what it would measure if it were compiled in.
pub fn subjects(names: &[String]) -> anyhow::Result<(Vec<Subject>, Vec<String>)> {
    let subject = |name: &String| match name.as_str() {
        "latency" => Ok(Subject::Latency),
        _ => Ok(Subject::Scenario(scenarios(std::slice::from_ref(name))?[0])),
    };
    let (mut names, mut absent) = (names.to_vec(), Vec::new());
    if names.is_empty() {
        for name in SUBJECTS {
            match scenario::missing_feature(name) {
                Some(feature) => absent.push(format!(
                    "{name}: not compiled in; build with --features {feature}"
                )),
                None => names.push(name.into()),
            }
        }
    }
    let subjects: anyhow::Result<_> = names.iter().map(subject).collect();
    Ok((subjects?, absent))
}

/// The scenarios with these names, or an error that names all there are.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gated_by_default_and_not_compiled_in_is_named() {
        let (subjects, absent) = subjects(&[]).unwrap();
        assert_eq!(subjects.len() + absent.len(), SUBJECTS.len());
        assert_eq!(absent.is_empty(), cfg!(feature = "build"), "{absent:?}");
        assert!(absent.iter().all(|it| it.contains("--features")));
        let named = super::subjects(&["graph_memory".into()]);
        assert_eq!(named.is_ok(), cfg!(feature = "build"));
    }
}
