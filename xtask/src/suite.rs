//! The whole test suite, as a person and CI both run it.
//!
//! Owns which checks there are and their order: the cheap ones first, so that a small mistake is
//! told in seconds. Knows nothing of what the tests contain.
//! Invariant: every cargo call builds with the same engine and features, so that each crate is
//! compiled once per mode (clippy, test, loom).

use anyhow::Result;

use crate::command::{Steps, succeeds};
use crate::engine::{Engine, EngineKind};
use crate::setup;
use crate::tidy;
use crate::workspace::Workspace;

/// Runs everything.
pub fn test(workspace: &Workspace, asked: Option<EngineKind>) -> Result<()> {
    let engine = setup::prepare(workspace, asked, &setup::FOR_EXAMPLES)?;
    let mut steps = Steps::default();
    let result = whole_suite(workspace, &engine, &mut steps);
    steps.print_times();
    result?;
    println!("\nall tests passed, with {}", engine.name());
    Ok(())
}

fn whole_suite(workspace: &Workspace, engine: &Engine, steps: &mut Steps) -> Result<()> {
    steps.call("tidy: the house rules", || tidy::run(workspace))?;
    steps.run(
        "formatting",
        &mut workspace.cargo(&["fmt", "--all", "--check"]),
    )?;
    if succeeds("cargo", &["deny", "--version"]) {
        let mut deny = workspace.cargo(&["deny", "check", "licenses", "bans", "sources"]);
        steps.run("licences and sources of dependencies", &mut deny)?;
    }

    let mut clippy = workspace.cargo(&["clippy", "--locked", "--all-targets"]);
    engine.for_workspace(&mut clippy);
    clippy.args(["--", "-D", "warnings"]);
    steps.run("lints", &mut clippy)?;

    let mut build = workspace.cargo(&["build", "--locked", "--bin", "zako"]);
    engine.for_workspace(&mut build);
    steps.run("build zako", &mut build)?;

    let mut tests = workspace.cargo(&["test", "--locked", "--no-run"]);
    engine.for_workspace(&mut tests);
    steps.run("build the tests", &mut tests)?;

    let mut tests = workspace.cargo(&["test", "--locked", "--no-fail-fast"]);
    engine.for_workspace(&mut tests);
    tests.env("ZAKO_BIN", workspace.zako("debug"));
    steps.run(
        "unit, integration, example and documentation tests",
        &mut tests,
    )?;

    let mut loom = workspace.cargo(&["test", "--locked", "--package", "actor_rt", "--lib"]);
    // A target directory of its own: the flag would otherwise rebuild everything back and forth.
    // Without a bound on preemptions some models run for hours; with three they find what is
    // ever found in practice (loom's own advice is two or three).
    loom.args(["--release", "--no-default-features"])
        .env("CARGO_TARGET_DIR", workspace.target().join("loom"))
        .env("RUSTFLAGS", "--cfg loom")
        .env("LOOM_MAX_PREEMPTIONS", "3");
    steps.run("models of the lock-free parts (loom)", &mut loom)?;
    Ok(())
}

/// Builds zako with an engine and runs the tests that touch it.
pub fn smoke(workspace: &Workspace, asked: Option<EngineKind>) -> Result<()> {
    let engine = setup::prepare(workspace, asked, &setup::FOR_EXAMPLES)?;
    let mut steps = Steps::default();
    let result = smoke_steps(workspace, &engine, &mut steps);
    steps.print_times();
    result?;
    println!("\nsmoke tests passed, with {}", engine.name());
    Ok(())
}

fn smoke_steps(workspace: &Workspace, engine: &Engine, steps: &mut Steps) -> Result<()> {
    let mut build = workspace.cargo(&["build", "--locked", "--bin", "zako"]);
    engine.for_package(&mut build);
    steps.run("build zako", &mut build)?;

    let mut units = workspace.cargo(&["test", "--locked", "--lib"]);
    engine.for_package(&mut units);
    units.args(["--", "isolate"]);
    steps.run("tests of the isolate actors", &mut units)?;

    let mut whole = workspace.cargo(&["test", "--locked", "--package", "zako_tests"]);
    whole
        .args(["--test", "smoke"])
        .env("ZAKO_BIN", workspace.zako("debug"));
    steps.run("smoke tests of the whole program", &mut whole)?;
    Ok(())
}
