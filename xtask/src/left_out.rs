//! Tests that could not run: what they may lack, and that this is seen.
//!
//! Owns: the variables by which tests learn what may be lacking and where they tell it, and the last lines of the suite.
//! Does not know: how anything is looked for (`setup`), or what the tests do without it (`zako_tests`).
//! Invariants: what was left out is printed whether the suite passed or not; with `ZAKO_REQUIRE_CLIENTS=1` no test is left
//! out for want of a program.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::setup::MAY_BE_LACKING;
use crate::workspace::Workspace;

/// Tests named in a line.
const NAMED: usize = 4;

/// Whether a missing program is a failure, as it is where all of them were just installed.
pub fn is_required() -> bool {
    std::env::var("ZAKO_REQUIRE_CLIENTS").is_ok_and(|value| value != "0" && !value.is_empty())
}

/// # Errors
/// When anything is missing.
pub fn all_there(missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "ZAKO_REQUIRE_CLIENTS is set, and these are not on this machine: {}; `cargo xtask clients` installs them",
        missing.join(", ")
    )
}

/// Where tests write down that they did not run.
pub struct LeftOut {
    path: PathBuf,
    is_required: bool,
}

impl LeftOut {
    /// Nothing is left out yet.
    ///
    /// # Errors
    /// When what an earlier suite left out cannot be removed.
    pub fn new(workspace: &Workspace) -> Result<Self> {
        let path = workspace.target().join("tests-left-out");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| path.display().to_string())
            }
            _ => Ok(Self {
                path,
                is_required: is_required(),
            }),
        }
    }

    /// The variables for tests, where these programs are missing.
    pub fn lets(&self, missing: &[&str]) -> [(&'static str, OsString); 2] {
        let missing = if self.is_required { &[] } else { missing };
        let without = [missing, &MAY_BE_LACKING].concat().join(",");
        [
            ("ZAKO_TESTS_WITHOUT", without.into()),
            ("ZAKO_TESTS_LEFT_OUT", self.path.clone().into()),
        ]
    }

    /// What was left out, a line for each thing that was lacking.
    pub fn told(&self) -> String {
        let notes = fs::read_to_string(&self.path).unwrap_or_default();
        lines(&notes)
    }
}

/// Notes are lines of what was lacking, a tab, and the test; those of one test may be many.
fn lines(notes: &str) -> String {
    let mut tests: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (lacking, test) in notes.lines().filter_map(|line| line.split_once('\t')) {
        let tests = tests.entry(lacking).or_default();
        if !tests.contains(&test) {
            tests.push(test);
        }
    }
    let mut text = String::new();
    for (lacking, mut tests) in tests {
        tests.sort_unstable();
        let count = tests.len();
        let more = match count.saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        tests.truncate(NAMED);
        let tests = tests.join(", ");
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "not tested, {count} in all, for want of `{lacking}`: {tests}{more}"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_is_told_once_for_each_thing_that_was_lacking() {
        let many: String = (0..7).map(|n| format!("Landlock\ttest_{n}\n")).collect();
        let notes = format!("{many}bazel\tb\nLandlock\ttest_1\nbazel\ta\nhalf a li");
        assert_eq!(
            lines(&notes),
            "not tested, 7 in all, for want of `Landlock`: test_0, test_1, test_2, test_3 and 3 more\n\
             not tested, 2 in all, for want of `bazel`: a, b\n"
        );
        assert_eq!(lines(""), "");
    }

    #[test]
    fn no_program_may_be_missing_where_all_are_required() {
        let left_out = |is_required| LeftOut {
            path: "p".into(),
            is_required,
        };
        let without = |is_required| {
            let [(name, value), _] = left_out(is_required).lets(&["bazel"]);
            assert_eq!(name, "ZAKO_TESTS_WITHOUT");
            value.into_string().unwrap()
        };
        assert!(without(false).starts_with("bazel,Landlock,"));
        assert!(without(true).starts_with("Landlock,"));
        assert!(all_there(&[]).is_ok());
        let error = all_there(&["bazel", "nginx"]).unwrap_err().to_string();
        assert!(error.contains("bazel, nginx"), "{error}");
    }
}
