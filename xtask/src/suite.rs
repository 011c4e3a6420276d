//! The whole test suite, as a person and CI both run it.
//!
//! Owns which checks there are and their order: the cheap ones first, so that a small mistake is
//! told in seconds. Knows nothing of what the tests contain.
//! Invariant: every cargo call builds with the same engine and features, so that each crate is
//! compiled once per mode (clippy, test, loom).

use std::ffi::OsString;

use anyhow::Result;

use crate::command::{Steps, succeeds};
use crate::engine::{Engine, EngineKind};
use crate::left_out::{LeftOut, all_there, is_required};
use crate::setup;
use crate::tidy;
use crate::workspace::Workspace;

/// Runs everything, also after a failure: one run tells all that is wrong.
pub fn test(workspace: &Workspace, asked: Option<EngineKind>) -> Result<()> {
    let engine = setup::prepare(workspace, asked, &setup::FOR_EXAMPLES)?;
    let mut steps = Steps::default();
    let missing = setup::missing_for_tests(workspace);
    check_style(workspace, &engine, &mut steps);
    if is_required() {
        steps.check_call("everything that tests need", || all_there(&missing));
    }
    let left_out = LeftOut::new(workspace)?;
    run_tests(workspace, &engine, &left_out.lets(&missing), &mut steps);
    let verdict = steps.verdict();
    if verdict.is_ok() {
        println!("\nall tests passed, with {}", engine.name());
    }
    print!("{}", left_out.told());
    verdict
}

fn check_style(workspace: &Workspace, engine: &Engine, steps: &mut Steps) {
    steps.check_call("tidy: the house rules", || tidy::run(workspace));
    let mut format = workspace.cargo(&["fmt", "--all", "--check"]);
    steps.check("formatting", &mut format);
    if succeeds("cargo", &["deny", "--version"]) {
        let mut deny = workspace.cargo(&["deny", "check", "licenses", "bans", "sources"]);
        steps.check("licences and sources of dependencies", &mut deny);
    }
    let mut clippy = workspace.cargo(&["clippy", "--locked", "--all-targets"]);
    engine.for_workspace(&mut clippy);
    clippy.args(["--", "-D", "warnings"]);
    steps.check("lints", &mut clippy);
    // The workspace has all features of it; who takes it as a library chooses.
    for features in ["", "derive", "remote", "topology"] {
        let mut clippy = workspace.cargo(&["clippy", "--locked", "--all-targets"]);
        clippy.args(["--package", "actor_rt", "--no-default-features"]);
        clippy.args(["--features", features, "--", "-D", "warnings"]);
        let with = if features.is_empty() {
            "no feature"
        } else {
            features
        };
        steps.check(&format!("lints of actor_rt with {with}"), &mut clippy);
    }
}

fn run_tests(
    workspace: &Workspace,
    engine: &Engine,
    lacking: &[(&str, OsString)],
    steps: &mut Steps,
) {
    let mut build = workspace.cargo(&["build", "--locked", "--bin", "zako"]);
    engine.for_workspace(&mut build);
    steps.check("build zako", &mut build);

    let mut tests = workspace.cargo(&["test", "--locked", "--no-run"]);
    engine.for_workspace(&mut tests);
    steps.check("build the tests", &mut tests);

    let mut tests = workspace.cargo(&["test", "--locked", "--no-fail-fast"]);
    engine.for_workspace(&mut tests);
    tests
        .env("ZAKO_BIN", workspace.zako("debug"))
        .envs(lacking.iter().map(|(name, value)| (name, value)));
    let title = "unit, integration, example and documentation tests";
    steps.check(title, &mut tests);

    let mut loom = workspace.cargo(&["test", "--locked", "--package", "actor_rt", "--lib"]);
    // A target directory of its own: the flag would otherwise rebuild everything back and forth.
    // Without a bound on preemptions some models run for hours; with three they find what is
    // ever found in practice (loom's own advice is two or three).
    loom.args(["--release", "--no-default-features"])
        .env("CARGO_TARGET_DIR", workspace.target().join("loom"))
        .env("RUSTFLAGS", "--cfg loom")
        .env("LOOM_MAX_PREEMPTIONS", "3");
    steps.check("models of the lock-free parts (loom)", &mut loom);
}

/// Builds zako with an engine and runs the tests that touch it.
pub fn smoke(workspace: &Workspace, asked: Option<EngineKind>) -> Result<()> {
    let engine = setup::prepare(workspace, asked, &setup::FOR_EXAMPLES)?;
    let mut steps = Steps::default();

    let mut build = workspace.cargo(&["build", "--locked", "--bin", "zako"]);
    engine.for_package(&mut build);
    steps.run("build zako", &mut build)?;

    let mut units = workspace.cargo(&["test", "--locked", "--lib"]);
    engine.for_package(&mut units);
    units.args(["--", "isolate"]);
    steps.check("tests of the isolate actors", &mut units);

    let mut whole = workspace.cargo(&["test", "--locked", "--package", "zako_tests"]);
    whole
        .args(["--test", "smoke"])
        .env("ZAKO_BIN", workspace.zako("debug"));
    steps.check("smoke tests of the whole program", &mut whole);
    steps.verdict()?;
    println!("\nsmoke tests passed, with {}", engine.name());
    Ok(())
}
