//! Where a scenario spends its time: a flame graph, its allocations, its system calls.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use actor_rt::System;
use anyhow::Context as _;
use serde::Serialize;

use crate::alloc_count::{self, Counts};
use crate::measure::{Case, OWN, chosen};
use crate::options::{Options, Scale};
use crate::pin;
use crate::probe::Probe;
use crate::report::flame::{self, Stack};
use crate::scenario::{self, Scenario};
use crate::usage::{Mark, Usage};

/// Samples per second; a prime, so as not to beat with periodic work.
const FREQUENCY: i32 = 997;
/// A scenario is run again and again for so long, so that there is something to see.
const LEAST: Duration = Duration::from_secs(2);

/// What a profile found, beside the flame graph.
#[derive(Debug, Clone, Serialize)]
pub struct Profile {
    /// Times that every variant was run.
    pub runs: u64,
    /// Of all these runs.
    pub allocations: Counts,
    /// Bytes that the runtime's slabs took from the system meanwhile: actors, mailboxes and messages, which are no
    /// allocations.
    pub slab_bytes: u64,
    /// What the measured runs used of the machine, storage included.
    pub usage: Usage,
    /// Samples in the flame graph.
    pub samples: u64,
    /// Calls per system call, if `strace` is there.
    pub system_calls: Option<BTreeMap<String, u64>>,
}

/// Ours in a scenario, or the implementations that the options name.
fn profiled(scenario: &Scenario, options: &Options) -> anyhow::Result<Vec<Case>> {
    let mut cases = chosen(scenario, options)?;
    if options.only.is_empty() {
        cases.retain(|case| OWN.contains(&case.implementation));
    }
    Ok(cases)
}

fn run_each(cases: &[Case], options: &Options) {
    for case in cases {
        pin::among(&options.cores, || (case.run)());
    }
}

/// Runs once what [`run`] profiles of the scenario with this name.
///
/// # Errors
/// When there is no such scenario, or it has none of the implementations that the options name.
pub fn once(name: &str, options: &Options) -> anyhow::Result<()> {
    let scenario =
        scenario::find(name).with_context(|| format!("there is no scenario `{name}`"))?;
    run_each(&profiled(scenario, options)?, options);
    Ok(())
}

/// Profiles ours in one scenario, or the implementations that the options name, and writes the flame graph to `svg`.
///
/// # Errors
/// When the scenario has none of those, the profiler cannot start or the file cannot be written.
pub fn run(scenario: &Scenario, options: &Options, svg: &Path) -> anyhow::Result<Profile> {
    let cases = profiled(scenario, options)?;
    let run = || run_each(&cases, options);
    run();
    let guard = pprof::ProfilerGuardBuilder::default()
        .frequency(FREQUENCY)
        .build()
        .context("the profiler cannot start")?;
    let mark = Mark::begin();
    let (began, mut runs) = (Instant::now(), 0);
    let slabs = System::memory().reserved_bytes;
    let (allocations, ()) = alloc_count::count(|| {
        while runs < options.repeat as u64 || began.elapsed() < LEAST {
            run();
            runs += 1;
        }
    });
    let slab_bytes = System::memory().reserved_bytes - slabs;
    let usage = mark.until_now();
    let report = guard
        .report()
        .build()
        .context("the profiler has no report")?;
    drop(guard);
    let stacks: Vec<Stack> = report
        .data
        .iter()
        .map(|(frames, count)| {
            // Innermost first in the profiler; a flame graph begins with the outermost.
            let names = frames
                .frames
                .iter()
                .rev()
                .flat_map(|inlined| inlined.iter().rev().map(pprof::Symbol::name));
            Stack {
                frames: names.collect(),
                count: u64::try_from(*count).unwrap_or(0),
            }
        })
        .collect();
    let samples = stacks.iter().map(|stack| stack.count).sum();
    std::fs::write(svg, flame::render(scenario.name, &stacks))
        .with_context(|| format!("cannot write {}", svg.display()))?;
    Ok(Profile {
        runs,
        allocations,
        slab_bytes,
        usage,
        samples,
        system_calls: None,
    })
}

/// Counts system calls of a process of its own that does once what is profiled, with a fifth of the work; `None`
/// without `strace`.
///
/// # Errors
/// When the program cannot be started, or fails.
pub fn system_calls(
    scenario: &Scenario,
    options: &Options,
) -> anyhow::Result<Option<BTreeMap<String, u64>>> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-q", "--"]);
    let output = match quick_run(&mut strace, scenario, options)?.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.context("strace cannot run")?,
    };
    anyhow::ensure!(
        output.status.success(),
        "the run under strace failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(Some(parse_strace(&String::from_utf8_lossy(&output.stderr))))
}

/// Has a tool look at a process that does once what is profiled.
fn quick_run<'a>(
    tool: &'a mut Command,
    scenario: &Scenario,
    options: &Options,
) -> anyhow::Result<&'a mut Command> {
    let scale = match options.scale {
        Scale::Full => Scale::Quick,
        less => less,
    };
    let probe = Probe::Scenario {
        name: scenario.name.into(),
        options: Options {
            scale,
            ..options.clone()
        },
    };
    Ok(tool.args(probe.words()?).stdout(Stdio::null()))
}

/// The table of `strace -c`: the last column is the name, the fourth the calls.
fn parse_strace(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let calls = columns.get(3)?.parse().ok()?;
        columns.first()?.parse::<f64>().ok()?;
        let name = columns.last().filter(|name| **name != "total")?;
        Some(((*name).to_owned(), calls))
    };
    text.lines().filter_map(line).collect()
}

/// Runs a scenario under valgrind's massif; answers where the file is, `None` without valgrind.
///
/// # Errors
/// When the program cannot be started.
pub fn massif(scenario: &Scenario, options: &Options, file: &Path) -> anyhow::Result<Option<()>> {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .arg("--tool=massif")
        .arg(format!("--massif-out-file={}", file.display()));
    match quick_run(&mut valgrind, scenario, options)?.status() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => {
            anyhow::ensure!(
                other.context("valgrind cannot run")?.success(),
                "the run under valgrind failed"
            );
            Ok(Some(()))
        }
    }
}

/// For people.
pub fn render(profile: &Profile) -> String {
    use std::fmt::Write as _;
    let counts = profile.allocations;
    let mut text = String::new();
    let _ = writeln!(text, "samples      {}", profile.samples);
    let _ = writeln!(
        text,
        "allocations  {} in {} runs ({} bytes, at most {} alive)",
        counts.allocations, profile.runs, counts.bytes, counts.peak_bytes
    );
    let _ = writeln!(
        text,
        "slabs        {} bytes more from the system once warm",
        profile.slab_bytes
    );
    let usage = profile.usage;
    let _ = writeln!(
        text,
        "used         {:.0} % of all cores, {:.1} MiB read, {:.1} MiB written",
        usage.cpu_percent, usage.storage_mib.0, usage.storage_mib.1
    );
    match &profile.system_calls {
        None => text.push_str("system calls: not counted (strace is not installed)\n"),
        Some(calls) => {
            let mut calls: Vec<_> = calls.iter().collect();
            text.push_str("system calls of one quick run\n");
            calls.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            for (name, count) in calls.into_iter().take(10) {
                let _ = writeln!(text, "  {name:<20}{count:>10}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_strace_is_read() {
        let text = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 91.01    0.002106           4       482         3 futex
  8.99    0.000208           2       100           sched_yield
------ ----------- ----------- --------- --------- ----------------
100.00    0.002314           3       582         3 total
";
        let calls = parse_strace(text);
        assert_eq!(calls.get("futex"), Some(&482));
        assert_eq!(calls.get("sched_yield"), Some(&100));
        assert_eq!(calls.len(), 2);
    }

    /// Nor are they counted or sampled.
    #[test]
    fn those_that_ours_stands_beside_are_not_profiled_unless_named() {
        let options = Options::tiny();
        for scenario in scenario::ALL {
            for case in profiled(scenario, &options).unwrap() {
                assert!(OWN.contains(&case.implementation), "{}", scenario.name);
            }
        }
        #[cfg(feature = "store")]
        {
            let beside = scenario::find("store_writers").unwrap();
            let all = (beside.cases)(&options).len();
            assert!(profiled(beside, &options).unwrap().len() < all);
            let probe = Probe::Scenario {
                name: beside.name.into(),
                options,
            };
            // What tools from outside see is the same.
            probe.answer().unwrap();
        }
    }
}
