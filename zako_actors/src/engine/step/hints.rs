//! What is said of a command that failed, beside what it said itself: files that it named and does not declare, and what a strict
//! sandbox kept from it.
//!
//! Owns the guesses and their words. They rest on what the command printed, so they may miss something, but nothing is named that
//! the workspace does not have.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use super::traced::line_for;
use super::{StepEnv, StepJob};
use crate::engine::action::{Action, resolve};
use crate::engine::sandbox::Mode;
use crate::engine::scratch::Scratch;
use crate::engine::workspace::PRIVATE_DIR;
use crate::lang::target::Command;

/// Lines with one of these, in lower case, name a file that was not there.
const MISSING: [&str; 9] = [
    "no such file",
    "not found",
    "cannot find",
    "can't find",
    "cannot open",
    "can't open",
    "unable to open",
    "enoent",
    "permission denied",
];
/// What programs say, in lower case, when there is no network.
const UNREACHABLE: [&str; 11] = [
    "network is unreachable",
    "enetunreach",
    "could not resolve",
    "couldn't resolve",
    "unable to resolve",
    "name resolution",
    "name or service not known",
    "getaddrinfo",
    "eai_again",
    "connection refused",
    "econnrefused",
];
/// More files than this are not named.
const MOST: usize = 5;

/// What to add to `said`, the output of a command that failed in `scratch`.
pub fn of_failure(
    env: &StepEnv,
    job: &StepJob,
    (command, action): (&Command, &Action),
    scratch: &Scratch,
    said: &str,
) -> String {
    let mut text = String::new();
    let (target, at) = (job.target(), &job.target().at);
    // A compiler that writes a depfile has been answered already.
    if command.special.depfile.is_none() {
        let places = [&*scratch.work(), env.files.root()];
        let named = said.lines().filter(|line| says(line, &MISSING));
        let named = named.flat_map(|line| words(line, &command.dir, places));
        let is_hidden = |path: &String| {
            let declared = |input: &str| input.cmp(path);
            let inputs = &action.inputs;
            inputs
                .binary_search_by(|input| declared(&input.path))
                .is_err()
                && !target.declares(path)
                && !path
                    .split('/')
                    .any(|part| [PRIVATE_DIR, ".git"].contains(&part))
                && env.files.root().join(path).is_file()
        };
        let hidden: BTreeSet<String> = named.filter(is_hidden).take(MOST).collect();
        for path in hidden {
            let advice = line_for(env, &path, target.label.dir());
            let _ = write!(
                text,
                "\nnote: the workspace has {path}, but it does not declare that; {advice} ({at})"
            );
        }
    }
    if env.sandbox == Mode::Strict {
        text.push_str("\nnote: it ran confined to what it declares (--sandbox strict); --sandbox warn names what it reads undeclared");
        if !command.special.network && said.lines().any(|line| says(line, &UNREACHABLE)) {
            let _ = write!(
                text,
                "\nnote: it has no network; `network: true` in the target gives it one ({at})"
            );
        }
    }
    text
}

fn says(line: &str, phrases: &[&str]) -> bool {
    let line = line.to_lowercase();
    phrases.iter().any(|phrase| line.contains(phrase))
}

/// The workspace paths that words of `line` may mean to a command in `dir`, below one of `places` where they are absolute.
fn words<'a>(
    line: &'a str,
    dir: &'a str,
    places: [&'a Path; 2],
) -> impl Iterator<Item = String> + 'a {
    let ends = |c: char| c.is_whitespace() || "'\"`‘’“”:;,()[]<>=".contains(c);
    let words = line.split(ends).filter(|word| !word.is_empty());
    words.filter_map(move |word| {
        let path = Path::new(word);
        if !path.is_absolute() {
            return resolve(dir, word.trim_end_matches('.'));
        }
        let mut below = places
            .iter()
            .filter_map(|place| path.strip_prefix(place).ok());
        resolve("", below.next()?.to_str()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_in_what_programs_say() {
        let places = [Path::new("/w/.zako/1/work"), Path::new("/w")];
        let found = |line| words(line, "p", places).collect::<Vec<_>>();
        let said = "cat: ../a/b.txt: No such file or directory";
        assert!(says(said, &MISSING) && found(said).contains(&"a/b.txt".to_owned()));
        let said = "Error: Cannot find module '/w/.zako/1/work/p/x.js'.";
        assert!(says(said, &MISSING) && found(said).contains(&"p/x.js".to_owned()));
        let said = "sh: 1: cannot open /w/q: No such file";
        assert!(found(said).contains(&"q".to_owned()));
        assert!(!says("p/x.js:3: a mistake", &MISSING));
    }
}
