//! Running a test over many seeds.
//!
//! Owns: which seeds run, and the command that reruns the one that failed.
//! Does not know: what is tested.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

/// The variable that names the only seed to run.
const VARIABLE: &str = "SEED";

/// Runs `test` for each seed, or only for the one that the environment variable `SEED` names. When one
/// fails, the command that reruns it alone is printed, and the failure goes on.
///
/// ```
/// use actor_rt::testkit::{Simulation, each_seed};
/// each_seed(0..100, |seed| {
///     let simulation = Simulation::new(seed);
///     // Start actors, tell them things, and then:
///     simulation.run();
///     assert_eq!(simulation.system().stats().dead_letters, 0);
/// });
/// ```
///
/// # Panics
/// As `test` does; and if `SEED` is no number.
pub fn each_seed(seeds: Range<u64>, test: impl Fn(u64)) {
    let seeds = match std::env::var(VARIABLE) {
        Err(_) => seeds,
        Ok(text) => match text.parse() {
            Ok(seed) => seed..seed + 1,
            Err(error) => panic!("{VARIABLE}={text} is not a seed: {error}"),
        },
    };
    for seed in seeds {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
            eprintln!(
                "seed {seed} failed; to rerun it alone:\n    {}",
                rerun(seed)
            );
            resume_unwind(payload);
        }
    }
}

/// The command that reruns the running test with one seed.
pub(crate) fn rerun(seed: u64) -> String {
    let program = std::env::current_exe().unwrap_or_default();
    // Cargo tells a running test its package; libtest names its thread.
    let package = std::env::var("CARGO_PKG_NAME").ok();
    let test = std::thread::current();
    command(seed, package.as_deref(), &program, test.name())
}

fn command(seed: u64, package: Option<&str>, program: &Path, test: Option<&str>) -> String {
    let mut command = format!("{VARIABLE}={seed} cargo test");
    if let Some(package) = package {
        command.push_str(&format!(" -p {package}"));
        // The file's name is the target's and a hash.
        let file = program.file_stem().and_then(|stem| stem.to_str());
        let target = file.and_then(|file| file.rsplit_once('-'));
        match target.map(|(target, _)| target) {
            Some(target) if target == package.replace('-', "_") => command.push_str(" --lib"),
            Some(target) => command.push_str(&format!(" --test {target}")),
            None => {}
        }
    }
    // Tests that run one at a time run on the main thread.
    if let Some(test) = test.filter(|&name| name != "main") {
        command.push_str(&format!(" -- --exact {test}"));
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn the_command_names_the_target_and_the_test() {
        let program = Path::new("target/debug/deps/simulation-0123abcd");
        assert_eq!(
            command(7, Some("actor_rt"), program, Some("nothing_is_lost")),
            "SEED=7 cargo test -p actor_rt --test simulation -- --exact nothing_is_lost"
        );
        let program = Path::new("target/debug/deps/my_crate-0123abcd");
        assert_eq!(
            command(8, Some("my-crate"), program, Some("main")),
            "SEED=8 cargo test -p my-crate --lib"
        );
        assert_eq!(command(9, None, program, None), "SEED=9 cargo test");
    }

    #[test]
    fn seeds_run_in_order_until_one_fails() {
        let seen = RefCell::new(Vec::new());
        let ran = catch_unwind(AssertUnwindSafe(|| {
            each_seed(3..9, |seed| {
                seen.borrow_mut().push(seed);
                assert!(seed < 5, "as told");
            });
        }));
        assert!(ran.is_err());
        assert_eq!(*seen.borrow(), [3, 4, 5]);
    }
}
