//! Steps under `--sandbox warn`: run by strace, and what is said of what they read undeclared.
//!
//! Owns the command line and the words. Does not know how a trace is read (`sandbox`).

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::{StepEnv, StepFailure, StepJob};
use crate::engine::action::{Action, find_program};
use crate::engine::sandbox::undeclared;
use crate::engine::scratch::Scratch;
use crate::lang::label::{Label, is_within};

/// What is not the workspace's own work: installed packages are known by their lock file.
const NOT_SOURCES: [&str; 4] = ["node_modules", ".git", ".zako", ".yarn"];
/// What no target can declare.
const PRIVATE: [&str; 2] = [".git", ".zako"];
/// More files than this are counted, not named.
const MOST: usize = 10;

/// The command line that runs `program` and writes down which files it opens.
pub fn traced(
    search: &str,
    program: &Path,
    argv: &[String],
    trace: &Path,
) -> Result<(PathBuf, Vec<String>), StepFailure> {
    let strace = find_program("strace", search).ok_or(StepFailure::NoTracer)?;
    let file = trace.display().to_string();
    let words = "strace -f -y -qq -e trace=%file -s 4096 -o";
    let mut traced: Vec<String> = words.split(' ').map(str::to_owned).collect();
    traced.extend([file, "--".to_owned(), program.display().to_string()]);
    traced.extend_from_slice(&argv[1..]);
    Ok((strace, traced))
}

/// What a command in a scratch directory read of the workspace, or looked for in vain because it does not declare it, with what to
/// do about it.
pub fn of_command(env: &StepEnv, job: &StepJob, scratch: &Scratch) -> String {
    let target = job.target();
    let dir = target.label.dir();
    let mut found = seen(env, job, scratch, &scratch.work());
    let is_private = |path: &str| path.split('/').any(|part| PRIVATE.contains(&part));
    found.retain(|path| !target.declares(path) && !is_private(path));
    told(job, found, |path| line_for(env, path, dir))
}

/// What declares `path` for a target of the package in `dir`.
pub fn line_for(env: &StepEnv, path: &str, dir: &str) -> String {
    line(env.claims.writer(path).as_ref(), path, dir)
}

fn line(writer: Option<&Label>, path: &str, dir: &str) -> String {
    if let Some(writer) = writer {
        let written = match writer.dir() == dir {
            true => format!(":{}", writer.name()),
            false => writer.to_string(),
        };
        format!("add \"{written}\", which writes it, to its `deps`")
    } else if is_within(path, dir) {
        let name = path[dir.len()..].trim_start_matches('/');
        format!("add \"{name}\" to its `srcs`")
    } else {
        "add the target of that package to its `deps`".to_owned()
    }
}

/// What a script read that neither belongs to its key nor is its own, with what to do about it.
pub fn of_script(env: &StepEnv, job: &StepJob, action: &Action, scratch: &Scratch) -> String {
    let outs = job
        .target()
        .command()
        .map_or(&[][..], |command| &command.outs);
    let inputs = &action.inputs;
    let mut found = seen(env, job, scratch, env.files.root());
    found.retain(|path| {
        let declared = inputs
            .binary_search_by(|input| (*input.path).cmp(path))
            .is_ok();
        let mut installed = job
            .target()
            .in_place()
            .into_iter()
            .flat_map(|step| &step.installed);
        let declared = declared || installed.any(|it| it.lock == *path);
        let foreign = path.split('/').any(|part| NOT_SOURCES.contains(&part));
        !declared && !foreign && !outs.iter().any(|out| out.covers(path))
    });
    told(job, found, |path| {
        format!("add \"{path}\" to `script-inputs` in [settings] of zako.toml")
    })
}

/// Files of the workspace that the trace shows; the command began in its directory below `top`.
fn seen(env: &StepEnv, job: &StepJob, scratch: &Scratch, top: &Path) -> Vec<String> {
    let trace = fs::read(scratch.trace()).unwrap_or_default();
    let command = job.target().command();
    let cwd = top.join(command.map_or("", |command| &command.dir));
    let trace = String::from_utf8_lossy(&trace);
    let found = undeclared(
        &trace,
        env.files.root(),
        (env.scratches.parent(), top),
        &cwd,
    );
    found.into_iter().collect()
}

fn told(job: &StepJob, found: Vec<String>, advice: impl Fn(&str) -> String) -> String {
    let mut text = String::new();
    let at = &job.target().at;
    for path in found.iter().take(MOST) {
        let advice = advice(path);
        let _ = write!(
            text,
            "\nwarning: it reads {path}, which it does not declare; {advice} ({at})"
        );
    }
    if found.len() > MOST {
        let more = match found.len() - MOST {
            1 => "1 more file".to_owned(),
            more => format!("{more} more files"),
        };
        let _ = write!(text, "\nwarning: it reads {more} that it does not declare");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_whose_name_begins_alike_is_another_one() {
        let source = |path, dir| line(None, path, dir);
        assert_eq!(source("lib/x.h", "lib"), "add \"x.h\" to its `srcs`");
        assert_eq!(source("lib/x.h", ""), "add \"lib/x.h\" to its `srcs`");
        assert!(source("library/x.h", "lib").contains("`deps`"));
    }
}
