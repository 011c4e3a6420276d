//! What it costs to start steps: thousands of commands that do nothing, with nothing remembered.
#![forbid(unsafe_code)]

use std::fs;
use std::io::ErrorKind;

use super::ZAKO;
use super::noop::Planned;
use super::tree::{Steps, Tree, is_installed};
use crate::elapsed::{Elapsed, timed};
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::probe::beside;
use crate::scenario::{Family, Scenario};
use crate::threads::Threads;

/// `build_cold`.
pub const SCENARIO: Scenario = Scenario {
    name: "build_cold",
    family: Family::Build,
    about: "10,000 steps that run `true` in a shell, nothing remembered (2,000 with --quick)",
    unit: Unit::Milliseconds,
    cases,
};

fn cases(options: &Options) -> Vec<Case> {
    let steps = options.targets(10_000, 8);
    if !(options.peers && beside("zako").is_some()) {
        let variant = format!("{steps} steps, in this process");
        return vec![case(ZAKO, variant, steps, in_process)];
    }
    let variant = format!("{steps} steps, a process");
    let mut cases = vec![case(ZAKO, variant.clone(), steps, Tree::zako_cold)];
    if is_installed("ninja") {
        // What its steps write is never there, so that every run is the first.
        cases.push(case("ninja", variant, steps, Tree::ninja_cold));
    }
    cases
}

fn case(
    implementation: &'static str,
    variant: String,
    steps: u64,
    run: fn(&Tree) -> (Elapsed, u64),
) -> Case {
    let tree = std::cell::OnceCell::new();
    let run = move || {
        let tree = tree.get_or_init(|| Tree::new(steps, Steps::True));
        for directory in [tree.cache(), tree.root().join(".zako")] {
            match fs::remove_dir_all(&directory) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    panic!("cannot empty {}: {error}", directory.display())
                }
                _ => {}
            }
        }
        let (elapsed, ran) = run(tree);
        Sample::time(elapsed, ran)
    };
    Case::new(implementation, variant, Threads::anywhere(), run).expecting(move || steps)
}

fn in_process(tree: &Tree) -> (Elapsed, u64) {
    timed(|| Planned::of(tree).build())
}
