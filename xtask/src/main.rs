//! `cargo xtask`: the one entry for setting up, running, testing and checking this workspace.
//!
//! Owns the order of those jobs. Knows nothing of what Zako does: it drives `cargo`, the system's
//! package manager and the finished `zako` binary from outside, so it builds in seconds and before
//! anything else can.
//!
//! Invariant: every command works on a fresh clone; none asks for an earlier one.
#![forbid(unsafe_code)]

mod builds;
mod command;
mod coverage;
mod engine;
mod left_out;
mod main_job;
mod packages;
mod sanitize;
mod setup;
mod suite;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::engine::EngineKind;
use crate::workspace::Workspace;

const USAGE: &str = "\
Usage: cargo xtask COMMAND [OPTIONS]

Commands:
  run     Set up, build zako, build examples/rxjs with it cold and again, print the figures
  test    Set up, then check style, lints and licences and run every test
  tidy    Check the house rules only: layering, file lengths, unsafe code, leftovers
  setup   Install or name what is missing and say which JavaScript engine will be built
  sanitize
          Run the unit tests of actor_rt in Miri and under ThreadSanitizer (needs a nightly toolchain)
  coverage
          Run the tests of a package with counters and print how many lines of each file they ran
  builds  Build the benchmark harness without LTO, with it, and with it and a profile; measure them in turns
  clients Install what tests drive and benchmarks compare with: ccache, Bazel, nginx, BuildGrid, Turborepo, esbuild, swc
          and others. `test` ends with what was left out for want of them; with ZAKO_REQUIRE_CLIENTS=1 it fails
  help    Print this

Options of run, test and setup:
  --engine v8|quickjs   Do not choose: use this engine
Options of test:
  --smoke               Only build zako and run the tests that touch the JavaScript engine
Options of coverage:
  -p, --package NAME    The package (default: actor_rt, which fails below 90 %)

V8 comes as a prebuilt library: from RUSTY_V8_ARCHIVE, from ../shared/v8, from
~/.cache/zako/v8, or downloaded by its crate. Where none of these works, QuickJS is built.
";

fn main() -> ExitCode {
    match dispatch(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: Vec<String>) -> Result<()> {
    let mut arguments = arguments.into_iter();
    let command = arguments.next().unwrap_or_else(|| "help".to_owned());
    let options = Options::parse(arguments)?;
    if options.smoke && command != "test" {
        bail!("--smoke belongs to `cargo xtask test`");
    }
    if options.package.is_some() && command != "coverage" {
        bail!("--package belongs to `cargo xtask coverage`");
    }
    let workspace = Workspace::locate()?;
    match command.as_str() {
        "run" => main_job::run(&workspace, options.engine),
        "test" if options.smoke => suite::smoke(&workspace, options.engine),
        "test" => suite::test(&workspace, options.engine),
        "tidy" => tidy::run(&workspace),
        "setup" => setup::prepare(&workspace, options.engine, &setup::FOR_EXAMPLES).map(|_| ()),
        "sanitize" => sanitize::run(&workspace),
        "coverage" => coverage::run(&workspace, options.package.as_deref()),
        "builds" => builds::run(&workspace),
        "clients" => setup::clients(&workspace),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => bail!("no command `{other}`\n\n{USAGE}"),
    }
}

/// What may follow a command's name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    engine: Option<EngineKind>,
    smoke: bool,
    package: Option<String>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--smoke" => options.smoke = true,
                "-p" | "--package" => {
                    let name = arguments.next();
                    options.package = Some(name.context("--package wants a name after it")?);
                }
                "--engine" => {
                    let name = arguments
                        .next()
                        .context("--engine wants `v8` or `quickjs` after it")?;
                    options.engine = Some(name.parse()?);
                }
                other => bail!("no option `{other}`; `cargo xtask help` lists them"),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options> {
        Options::parse(words.iter().map(|word| (*word).to_owned()))
    }

    #[test]
    fn options_are_read_in_any_order() {
        let expected = Options {
            engine: Some(EngineKind::QuickJs),
            smoke: true,
            package: None,
        };
        assert_eq!(
            parse(&["--smoke", "--engine", "quickjs"]).unwrap(),
            expected
        );
        assert_eq!(
            parse(&["--engine", "quickjs", "--smoke"]).unwrap(),
            expected
        );
        assert_eq!(parse(&[]).unwrap(), Options::default());
        let named = parse(&["-p", "xtask"]).unwrap();
        assert_eq!(named.package.as_deref(), Some("xtask"));
        assert_eq!(named, parse(&["--package", "xtask"]).unwrap());
    }

    #[test]
    fn a_wrong_option_is_named() {
        assert!(
            parse(&["--fast"])
                .unwrap_err()
                .to_string()
                .contains("--fast")
        );
        assert!(
            parse(&["--engine", "spidermonkey"])
                .unwrap_err()
                .to_string()
                .contains("spidermonkey")
        );
        assert!(parse(&["--engine"]).is_err());
        assert!(parse(&["-p"]).is_err());
    }
}
