//! The benchmark harness built in three ways, and what each is worth.
//!
//! Owns the flags of the three builds, the training of the profile, and the table. Knows nothing of what the scenarios do:
//! `bench_harness` measures, this reads its JSON.
//!
//! The builds take turns, so that what else the machine does meets all of them alike.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::command::{Steps, output};
use crate::workspace::Workspace;

/// What is measured, and what the profile is taken from. All are rates: more is better.
const SCENARIOS: [&str; 8] = [
    "spsc",
    "mpsc",
    "tell",
    "tell_batch",
    "ask",
    "ping_pong",
    "spawn",
    "big",
];

/// The build that has the profile.
const GUIDED: &str = "LTO and profile";

/// Turns of every build.
const ROUNDS: usize = 3;

const MISSING: &str = "a profile is merged by llvm-profdata, which comes with the compiler:\n    \
    rustup component add llvm-tools";

/// What one way to build has given.
struct Build {
    name: &'static str,
    program: PathBuf,
}

/// Builds the harness without link-time optimisation, with thin LTO, and with thin LTO and a profile of its own scenarios; runs the
/// scenarios in turns; prints every median and its ratio to the first build.
///
/// # Errors
/// When a build or a run fails, or `llvm-profdata` is missing.
pub fn run(workspace: &Workspace) -> Result<()> {
    let merger = profdata()?;
    let place = workspace.target().join("builds");
    let raw = place.join("profile");
    let merged = place.join("merged.profdata");
    let mut steps = Steps::default();
    let mut build = |name: &'static str, lto: &str, flags: String| -> Result<Build> {
        let target = place.join(directory(name));
        let mut cargo = Command::new("cargo");
        cargo
            .args([
                "build",
                "--release",
                "--locked",
                "--package",
                "bench_harness",
                "--no-default-features",
            ])
            .current_dir(workspace.root())
            .env("CARGO_TARGET_DIR", &target)
            .env("CARGO_PROFILE_RELEASE_LTO", lto)
            // One flag, which may have spaces in it.
            .env("CARGO_ENCODED_RUSTFLAGS", flags);
        steps.run(&format!("build: {name}"), &mut cargo)?;
        let program = format!("bench_harness{}", std::env::consts::EXE_SUFFIX);
        Ok(Build {
            name,
            program: target.join("release").join(program),
        })
    };

    let plain = build("no LTO", "off", String::new())?;
    let thin = build("thin LTO", "thin", String::new())?;
    let training = build(
        "training",
        "thin",
        format!("-Cprofile-generate={}", raw.display()),
    )?;
    // A profile of an earlier run belongs to an earlier program, and cargo does not see that a profile has changed.
    for stale in [&raw, &place.join(directory(GUIDED))] {
        if stale.exists() {
            std::fs::remove_dir_all(stale)
                .with_context(|| format!("cannot remove {}", stale.display()))?;
        }
    }
    output(
        Command::new(&training.program)
            .arg("run")
            .args(SCENARIOS)
            .arg("--quick"),
    )?;
    output(
        Command::new(&merger)
            .arg("merge")
            .arg("--output")
            .arg(&merged)
            .arg(&raw),
    )?;
    let guided = build(
        GUIDED,
        "thin",
        format!("-Cprofile-use={}", merged.display()),
    )?;
    print!("{}", table(&[plain, thin, guided])?);
    Ok(())
}

/// The target directory of a build, below those of all.
fn directory(name: &str) -> String {
    name.replace(' ', "-")
}

/// `llvm-profdata` of the compiler in use: another version's may not read what this one writes.
fn profdata() -> Result<PathBuf> {
    let libraries = output(Command::new("rustc").args(["--print", "target-libdir"]))?;
    let beside = Path::new(libraries.trim()).with_file_name("bin");
    let program = beside.join(format!("llvm-profdata{}", std::env::consts::EXE_SUFFIX));
    if !program.is_file() {
        bail!("{MISSING}\n({} is not there)", program.display());
    }
    Ok(program)
}

/// One line per scenario and variant: its unit, then for every build its median over the rounds and the ratio to the first.
fn table(builds: &[Build]) -> Result<String> {
    let mut lines = format!("\n{:<44}", "scenario, unit");
    for build in builds {
        lines += &format!("{:>24}", build.name);
    }
    for scenario in SCENARIOS {
        let mut seen: Vec<Vec<Vec<f64>>> = Vec::new();
        let mut titles = Vec::new();
        for round in 0..ROUNDS {
            for turn in 0..builds.len() {
                let which = (round + turn) % builds.len();
                let mut harness = Command::new(&builds[which].program);
                let text = output(harness.args(["run", scenario, "--quick", "--json"]))?;
                let (names, medians) = figures(&text)?;
                if titles.is_empty() {
                    titles = names;
                    seen = vec![vec![Vec::new(); builds.len()]; titles.len()];
                }
                for (variant, median) in medians.into_iter().enumerate() {
                    seen[variant][which].push(median);
                }
            }
        }
        for (title, builds) in titles.iter().zip(seen) {
            lines += &row(title, builds);
        }
    }
    Ok(lines + "\n")
}

/// What one run printed: a title for each variant, and its median.
fn figures(text: &str) -> Result<(Vec<String>, Vec<f64>)> {
    let report: Value = serde_json::from_str(text).context("bench_harness printed no JSON")?;
    let word = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let results = report["results"].as_array().context("it has no results")?;
    let title = |result: &Value| {
        let [scenario, unit] = ["scenario", "unit"].map(|key| word(&report, key));
        format!("{scenario}: {}, {unit}", word(result, "variant"))
    };
    let median = |result: &Value| result["median"].as_f64().context("a result has no median");
    let medians: Result<Vec<f64>> = results.iter().map(median).collect();
    Ok((results.iter().map(title).collect(), medians?))
}

/// A line of the table, from the medians that each build had.
fn row(title: &str, builds: Vec<Vec<f64>>) -> String {
    let middles: Vec<f64> = builds.into_iter().map(middle).collect();
    let mut line = format!("\n{title:<44}");
    for median in &middles {
        line += &format!("{median:>14.2} ({:>5.2} ×)", median / middles[0]);
    }
    line
}

/// The median; of none, zero.
fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_prints_is_read() {
        let text = r#"{"scenario": "ask", "unit": "M/s", "results": [
            {"variant": "a", "median": 2.5}, {"variant": "b", "median": 4.0}]}"#;
        let (titles, medians) = figures(text).unwrap();
        assert_eq!(titles, ["ask: a, M/s", "ask: b, M/s"]);
        assert_eq!(medians, [2.5, 4.0]);
        assert!(figures("no").is_err());
    }

    #[test]
    fn a_line_has_every_median_and_its_ratio_to_the_first() {
        let line = row("ask", vec![vec![1.0, 2.0, 9.0], vec![4.0, 5.0, 3.0]]);
        assert!(
            line.ends_with("2.00 ( 1.00 ×)          4.00 ( 2.00 ×)"),
            "{line}"
        );
    }
}
