//! Running a command again to see whether it leaves the same.
//!
//! Owns the second run and the comparison. Does not know what is done with the first run's outputs.
//! Invariant: what differs is named by output, and a file by its first differing byte; permissions count.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::command::{attempt, directories};
use super::{StepEnv, StepFailure, StepJob};
use crate::engine::action::Action;
use crate::engine::outputs::{Collected, collect};
use crate::engine::scratch::Scratch;
use crate::engine::stamp::kept_mode;

/// Bytes shown before and after the first difference.
const CONTEXT: usize = 24;

/// Runs the command of `job` once more, in a directory of its own, and compares what it leaves with
/// what the run in `first` left.
pub fn check(
    env: &StepEnv,
    job: &StepJob,
    action: &Action,
    first: &Scratch,
    found: &Collected,
) -> Result<(), StepFailure> {
    let target = job.target();
    let (Some(command), Some(tool)) = (target.command(), &action.tool) else {
        return Err(StepFailure::Lost);
    };
    let mut scratch = env.scratches.take(env.keep_scratch)?;
    let dirs = directories(command);
    scratch.fill(&env.files, &action.inputs, dirs)?;
    attempt(env, job, (command, tool), &mut scratch)?;
    let again = collect(&scratch.work(), &command.outs)?;
    compare(&first.work(), found, &scratch.work(), &again)
}

/// Compares what two runs left in `first` and `second`.
pub fn compare(
    first: &Path,
    found: &Collected,
    second: &Path,
    again: &Collected,
) -> Result<(), StepFailure> {
    let differs = |text: String| Err(StepFailure::NotDeterministic(text));
    for (path, one) in found {
        let Some(two) = again.get(path) else {
            return differs(format!("{path} was left by one run and not by another"));
        };
        let (a, b) = (first.join(path), second.join(path));
        let difference = match (one.file_type(), two.file_type()) {
            (x, y) if x != y => Some("is of different kinds".to_owned()),
            (x, _) if x.is_file() => first_difference(&a, &b)
                .map_err(StepFailure::Compare)?
                .or_else(|| modes(one, two)),
            (x, _) if x.is_symlink() => {
                (fs::read_link(&a).ok() != fs::read_link(&b).ok()).then(|| "links elsewhere".into())
            }
            _ => None,
        };
        if let Some(difference) = difference {
            return differs(format!("{path} {difference}"));
        }
    }
    match again.keys().find(|path| !found.contains_key(*path)) {
        Some(path) => differs(format!("{path} was left by one run and not by another")),
        None => Ok(()),
    }
}

/// How the permissions of two files differ.
fn modes(one: &Metadata, two: &Metadata) -> Option<String> {
    let (one, two) = (kept_mode(one.mode()), kept_mode(two.mode()));
    (one != two).then(|| format!("has the permissions {one:o} and {two:o}"))
}

/// Where two files differ first, and what stands there.
fn first_difference(a: &Path, b: &Path) -> io::Result<Option<String>> {
    Ok(difference(&fs::read(a)?, &fs::read(b)?))
}

/// Where two contents differ first, and what stands there.
pub fn difference(a: &[u8], b: &[u8]) -> Option<String> {
    if a == b {
        return None;
    }
    let same = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let around = |bytes: &[u8]| {
        let from = same.saturating_sub(CONTEXT).min(bytes.len());
        let to = (same + CONTEXT).min(bytes.len());
        bytes[from..to].escape_ascii().to_string()
    };
    Some(format!(
        "differs at byte {same} (counted from 0): \"{}\" and \"{}\"",
        around(a),
        around(b)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, b"same, then x").unwrap();
        fs::write(&b, b"same, then x").unwrap();
        assert_eq!(first_difference(&a, &b).unwrap(), None);
        fs::write(&b, b"same, then y!").unwrap();
        let text = first_difference(&a, &b).unwrap().unwrap();
        assert!(
            text.starts_with("differs at byte 11 ") && text.contains("then y!"),
            "{text}"
        );
        fs::write(&b, b"same").unwrap();
        assert!(
            first_difference(&a, &b)
                .unwrap()
                .unwrap()
                .contains("byte 4")
        );
    }
}
