//! `bench_harness`: the program. See the crate documentation for the rules it measures by.
#![forbid(unsafe_code)]

mod cli;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bench_harness::measure::{OURS, Outcome, check_names, measure};
use bench_harness::options::Options;
use bench_harness::report::{self, Scaling};
use bench_harness::scenario::Scenario;
use bench_harness::soak::Ruling;
use bench_harness::{alloc_count, gate, latency, machine, profile, scenario, soak, stress, table};
use clap::Parser as _;

use cli::{Cli, Command, LoadArgs};

#[global_allocator]
static ALLOCATOR: alloc_count::Counting = alloc_count::Counting;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<Inconclusive>() {
                ExitCode::from(Inconclusive::STATUS)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// A soak that neither passed nor failed.
#[derive(Debug)]
struct Inconclusive(String);

impl Inconclusive {
    /// Neither that of a failure nor that of wrong flags.
    const STATUS: u8 = 3;
}

impl std::fmt::Display for Inconclusive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Inconclusive {}

fn start() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::List => {
            print!("{}", scenario::list());
            Ok(())
        }
        Command::Run {
            scenarios,
            load,
            json,
        } => run(&scenarios, &load, json, false),
        Command::Compare {
            scenarios,
            load,
            json,
        } => {
            if !cfg!(feature = "peers") {
                bail!(
                    "the peers are not compiled in; run\n  \
                     cargo run --release -p bench_harness --features peers -- compare …"
                );
            }
            run(&scenarios, &load, json, true)
        }
        Command::Latency {
            cores,
            repeat,
            quick,
            json,
        } => {
            let run = latency::run(&cli::latency_options(&cores, quick)?, repeat);
            print(json, &run, || latency::render(&run))
        }
        Command::Stress { scale, json } => {
            let shapes = stress::run_apart(scale)?;
            print(json, &shapes, || stress::render(&shapes))?;
            if shapes.iter().all(|shape| shape.intact) {
                Ok(())
            } else {
                bail!("not everything sent arrived")
            }
        }
        Command::Soak { minutes, json } => {
            let verdict = soak::run(Duration::from_secs_f64(minutes * 60.0))?;
            print(json, &verdict, || soak::render(&verdict))?;
            match verdict.ruling {
                Ruling::Passed => Ok(()),
                Ruling::Failed => bail!("{}", verdict.verdict),
                Ruling::Inconclusive => Err(Inconclusive(verdict.verdict).into()),
            }
        }
        Command::Check {
            baseline,
            update: true,
            force,
            scenarios,
            ..
        } => renew(&baseline, force, &scenarios),
        Command::Check {
            baseline,
            threshold,
            scenarios,
            ..
        } => check(&baseline, threshold, &scenarios),
        Command::Profile {
            scenario,
            svg,
            massif,
            load,
            json,
        } => {
            let svg = svg.unwrap_or_else(|| format!("{scenario}.svg").into());
            let massif =
                massif.map(|file| file.unwrap_or_else(|| format!("{scenario}.massif").into()));
            profile(&scenario, &svg, massif.as_deref(), &load, json)
        }
        Command::Report {
            out,
            scenarios,
            load,
        } => report(&out, scenarios, &load),
        Command::Probe { probe } => probe.answer(),
    }
}

fn print(
    json: bool,
    value: &impl serde::Serialize,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(value)?);
    } else {
        print!("{}", text());
    }
    Ok(())
}

fn run(names: &[String], load: &LoadArgs, json: bool, peers: bool) -> anyhow::Result<()> {
    let options = load.options()?;
    let options = Options {
        peers: peers || options.peers,
        ..options
    };
    let scenarios = cli::scenarios(names)?;
    check_names(&scenarios, &options)?;
    for scenario in scenarios {
        name_ignored(load, scenario);
        let outcome = measure(scenario, &options)?;
        print(json, &outcome, || table::render(&outcome) + "\n")?;
    }
    Ok(())
}

/// Whoever gives a flag that means nothing to a scenario is told so.
fn name_ignored(load: &LoadArgs, scenario: &Scenario) {
    if let Some(ignored) = load.ignored_by(scenario) {
        eprintln!("{}: {ignored}", scenario.name);
    }
}

/// What `check` measures with: enough for a figure, as often as a mood of the machine may take.
fn check_options() -> Options {
    Options {
        scale: bench_harness::options::Scale::Quick,
        ..Options::default()
    }
}

fn renew(path: &Path, force: bool, names: &[String]) -> anyhow::Result<()> {
    let doubted = |baseline: &gate::Baseline| match baseline.doubt() {
        Some(doubt) if !force => bail!("{doubt}; --force writes it all the same"),
        _ => Ok(()),
    };
    let (subjects, absent) = cli::subjects(names)?;
    tell(&absent);
    // What is known of the build is said before anything is measured.
    doubted(&gate::Baseline::empty())?;
    let baseline = gate::take(&subjects, &check_options())?;
    tell(&baseline.notes);
    doubted(&baseline)?;
    gate::write(path, &baseline)?;
    println!(
        "{} figures written to {}",
        baseline.figures.len(),
        path.display()
    );
    Ok(())
}

fn tell(notes: &[String]) {
    for note in notes {
        eprintln!("note: {note}");
    }
}

fn check(path: &Path, threshold: f64, names: &[String]) -> anyhow::Result<()> {
    let (subjects, absent) = cli::subjects(names)?;
    tell(&absent);
    let baseline = gate::read(path)?;
    if let Some(then) = &baseline.machine {
        let now = machine::Machine::look();
        if *then != format!("{}, {} cores", now.cpu, now.cores) {
            eprintln!(
                "the baseline is from another machine ({then}): renew it with --update to be sure"
            );
        }
    }
    let checked = gate::check(&baseline, &subjects, &check_options(), threshold)?;
    tell(&checked.notes);
    for name in &checked.not_in_baseline {
        println!("{:<20}{name}: not in the baseline", "NEW");
    }
    for name in &checked.not_measured {
        println!("{:<20}{name}: in the baseline, not measured", "GONE");
    }
    if checked.findings.is_empty() {
        bail!(
            "{} has none of these figures; renew it with --update",
            path.display()
        );
    }
    println!(
        "        {:>10}  {:>11}  {:<18}",
        "change", "fails below", "relative to"
    );
    for finding in &checked.findings {
        let mark = if finding.regressed {
            "WORSE"
        } else if !finding.gated {
            "told"
        } else if finding.change_percent < -threshold {
            "noise"
        } else {
            "ok"
        };
        println!(
            "{mark:<8}{:>+8.1} %  {:>9.1} %  {:<18}{}",
            finding.change_percent,
            -finding.fails_below_percent,
            finding.reference.label(),
            finding.name
        );
    }
    let told = checked.findings.iter().filter(|it| !it.gated).count();
    if told > 0 {
        println!(
            "{told} of {} figures are told, not gated: they scattered so much that only a change for the worse of more than {} % would show",
            checked.findings.len(),
            gate::GATED_UP_TO_PERCENT
        );
    }
    let worse = checked.findings.iter().filter(|it| it.regressed).count();
    if worse > 0 {
        bail!(
            "{worse} of {} figures are more than {threshold} % worse than in the baseline",
            checked.findings.len()
        );
    }
    Ok(())
}

fn profile(
    name: &str,
    svg: &Path,
    massif: Option<&Path>,
    load: &LoadArgs,
    json: bool,
) -> anyhow::Result<()> {
    let scenario = cli::scenarios(&[name.to_owned()])?[0];
    let options = load.options()?;
    check_names(&[scenario], &options)?;
    name_ignored(load, scenario);
    let mut found = profile::run(scenario, &options, svg)?;
    found.system_calls = profile::system_calls(scenario, &options)?;
    print(json, &found, || profile::render(&found))?;
    eprintln!("flame graph in {}", svg.display());
    if let Some(file) = massif {
        match profile::massif(scenario, &options, file)? {
            Some(()) => eprintln!("heap profile in {} (read it with ms_print)", file.display()),
            None => eprintln!("no heap profile: valgrind is not installed"),
        }
    }
    Ok(())
}

fn report(out: &Path, names: Vec<String>, load: &LoadArgs) -> anyhow::Result<()> {
    let all = || {
        scenario::ALL
            .iter()
            .map(|scenario| scenario.name.to_owned())
            .collect()
    };
    let names: Vec<String> = if names.is_empty() { all() } else { names };
    let options = Options {
        peers: cfg!(feature = "peers"),
        ..load.options()?
    };
    let machine = machine::Machine::look();
    let write = |outcomes: &[Outcome],
                 left_out: &[String],
                 latencies: Option<&latency::Run>,
                 scaling: &[Scaling]| {
        let page = report::html(&machine, outcomes, left_out, latencies, scaling);
        std::fs::write(out, page).with_context(|| format!("cannot write {}", out.display()))
    };
    let scenarios = cli::scenarios(&names)?;
    check_names(&scenarios, &options)?;
    let (mut outcomes, mut left_out, mut failed) = (Vec::new(), Vec::new(), 0);
    for scenario in scenarios {
        if !scenario.has_any(&options) {
            left_out.push(format!(
                "{}: none of the implementations asked for",
                scenario.name
            ));
            continue;
        }
        name_ignored(load, scenario);
        match attempt(scenario, &options) {
            Ok(outcome) => {
                println!("{}", table::render(&outcome));
                outcomes.push(outcome);
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                left_out.push(format!("{} FAILED: {error:#}", scenario.name));
                failed += 1;
            }
        }
        // A run of everything takes long: whatever ends it early, what was measured stays.
        write(&outcomes, &left_out, None, &[])?;
    }
    let latencies = latency::run(&options, options.repeat);
    println!("{}", latency::render(&latencies));
    write(&outcomes, &left_out, Some(&latencies), &[])?;
    write(&outcomes, &left_out, Some(&latencies), &scaling(&options)?)?;
    for scenario in &left_out {
        println!("left out: {scenario}");
    }
    println!("{}", out.display());
    if failed > 0 {
        bail!("{failed} scenarios failed");
    }
    Ok(())
}

/// Measures, and takes a panic for the failure that it is: the others are measured all the same.
fn attempt(scenario: &Scenario, options: &Options) -> anyhow::Result<Outcome> {
    let measured = std::panic::catch_unwind(|| measure(scenario, options));
    measured.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
        bail!(
            "{} panicked: {}",
            scenario.name,
            message.unwrap_or("no message")
        )
    })
}

/// Throughput of ours over the number of cores, where there are cores to scale over.
fn scaling(options: &Options) -> anyhow::Result<Vec<Scaling>> {
    let cores = options.cores.len();
    if cores < 2 || !options.wants(OURS) {
        return Ok(Vec::new());
    }
    let mut lines = Vec::new();
    for name in ["big", "tell"] {
        let scenario = scenario::find(name).expect("a known scenario");
        let (mut points, mut variant) = (Vec::new(), String::new());
        for count in (1..=cores).filter(|count| count.is_power_of_two() || *count == cores) {
            let cores = options.cores[..count].to_vec();
            let outcome = measure(
                scenario,
                &Options {
                    cores,
                    peers: false,
                    ..options.clone()
                },
            )?;
            let last = outcome.results.last().expect("a case ran");
            variant.clone_from(&last.variant);
            points.push((count, last.median));
        }
        lines.push(Scaling {
            name: format!("{name}, {variant}"),
            unit: scenario.unit.label(),
            points,
        });
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use bench_harness::measure::{Case, Sample, Unit};
    use bench_harness::scenario::Family;
    use bench_harness::threads::Threads;

    use super::*;

    /// A report goes on with the next scenario.
    #[test]
    fn a_scenario_that_panics_is_a_failure_and_not_the_end() {
        let scenario = |cases| Scenario {
            name: "planted",
            family: Family::Actors,
            about: "whatever the test wants",
            unit: Unit::Milliseconds,
            cases,
        };
        let run = |cases| attempt(&scenario(cases), &Options::tiny());
        let error = run(|_| {
            let run = || -> Sample { panic!("no room on {}", "the disk") };
            vec![Case::new(OURS, "a", Threads::anywhere(), run)]
        });
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "planted panicked: no room on the disk");
        let outcome = run(|_| {
            let run = || Sample::plain(1.0, 0);
            vec![Case::new(OURS, "a", Threads::anywhere(), run)]
        });
        assert_eq!(outcome.unwrap().results.len(), 1);
    }
}
