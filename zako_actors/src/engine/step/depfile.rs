//! Depfiles: which of its inputs a command really read.
//!
//! Owns the reading of make's dependency lines, and the memory of what a command read, by the names
//! of all that it could have read. Does not know compilers.
//! A result goes by two keys: by what the command read, which needs that memory, and by all that it
//! could have read, which anybody can compute.
//! Invariants: a key that leaves an input's content out still holds its name, so that a file that
//! appears or vanishes is noticed; what is read without being declared fails the step; sources are described
//! once, before the command runs, so that a result goes by the content that it was made of, whatever is
//! saved meanwhile.

use std::path::Path;

use cas_actor::ActionEntry;

use super::{StepEnv, StepFailure, StepJob};
use crate::diagnostic::Diagnostic;
use crate::engine::action::{Action, ActionError, Before, resolve};
use crate::engine::hash::Hash;
use crate::engine::scratch::Scratch;
use crate::lang::target::Command;
use crate::lang::text::Text;

/// Describes the action of `job`, narrowed to what its command read the last time, here or in
/// another workspace with this store. Blocks.
pub fn describe(env: &StepEnv, job: &StepJob) -> Result<Action, ActionError> {
    let deps = job.deps.iter().map(|outputs| &**outputs);
    let before = Before::default();
    let action = env
        .describer
        .describe(job.target(), &job.sources, deps, before, &env.files)?;
    let Some(names) = action.names else {
        return Ok(action);
    };
    if let Some(previous) = &job.previous {
        let narrowed = action.clone().narrowed(&previous.read());
        if previous.key == narrowed.key {
            return Ok(narrowed);
        }
    }
    Ok(match recall(env, &names) {
        Some(read) => action.narrowed(&read),
        None => action,
    })
}

/// Narrowed to what the command read on another machine, where that is not known here.
pub fn narrowed_from_afar(env: &StepEnv, job: &StepJob, action: &Action) -> Option<Action> {
    let names = action.names.filter(|_| action.read.is_none())?;
    let note = env.remote.as_ref()?.note(&names, &job.cancel)?;
    let read: Vec<Text> = postcard::from_bytes(&note).ok()?;
    keep(env, &names, &read);
    Some(action.clone().narrowed(&read))
}

/// The action by what its command read just now; itself when it writes no depfile.
pub fn narrow(
    env: &StepEnv,
    job: &StepJob,
    scratch: &Scratch,
    action: Action,
) -> Result<Action, StepFailure> {
    let Some((command, path)) = depfile_of(job) else {
        return Ok(action);
    };
    let mistake = |text: String| StepFailure::Sources(vec![Diagnostic::error(text)]);
    let text = std::fs::read_to_string(scratch.work().join(path))
        .map_err(|error| mistake(format!("its depfile {path}: {error}")))?;
    let mut read: Vec<Text> = Vec::new();
    let mut undeclared = Vec::new();
    for name in parse(&text) {
        let Some(path) = in_workspace(env, command, scratch, &name) else {
            continue;
        };
        let declared = action
            .inputs
            .binary_search_by(|input| (*input.path).cmp(&*path));
        if declared.is_ok() {
            read.push(path.into());
        } else if env.files.root().join(&path).exists() {
            undeclared.push(Diagnostic::error(advice(job, &path)));
        }
    }
    if !undeclared.is_empty() {
        return Err(StepFailure::Sources(undeclared));
    }
    read.sort_unstable();
    read.dedup();
    if let Some(names) = &action.names {
        keep(env, names, &read);
        if let (Some(remote), Ok(note)) = (&env.remote, postcard::to_stdvec(&read)) {
            remote.keep_note(names, note);
        }
    }
    Ok(action.narrowed(&read))
}

/// Adds to a compiler's complaint about a header where in the workspace it lies.
pub fn name_undeclared(env: &StepEnv, job: &StepJob, mut failure: StepFailure) -> StepFailure {
    if let (Some((command, _)), StepFailure::Command(told)) = (depfile_of(job), &mut failure) {
        for name in missing_headers(&told.output) {
            let dirs = [job.target().label.dir(), &command.dir];
            let mut found = dirs.into_iter().filter_map(|dir| resolve(dir, &name));
            if let Some(path) = found.find(|path| env.files.root().join(path).is_file()) {
                let advice = advice(job, &path);
                told.output.push_str(&format!("\n{advice}\n"));
            }
        }
    }
    failure
}

fn advice(job: &StepJob, path: &str) -> String {
    format!(
        "it reads {path}, which it does not declare; add it to the headers or sources of the target, or its library to `deps` ({})",
        job.target().at
    )
}

fn depfile_of(job: &StepJob) -> Option<(&Command, &str)> {
    let command = job.target().command()?;
    Some((command, command.special.depfile.as_deref()?))
}

/// The workspace path of a file that a command names; `None` for the system's.
fn in_workspace(env: &StepEnv, command: &Command, scratch: &Scratch, name: &str) -> Option<String> {
    if !name.starts_with('/') {
        return resolve(&command.dir, name);
    }
    let path = Path::new(name);
    let below = path
        .strip_prefix(scratch.work())
        .or_else(|_| path.strip_prefix(env.files.root()));
    resolve("", below.ok()?.to_str()?)
}

fn recall(env: &StepEnv, names: &Hash) -> Option<Vec<Text>> {
    let entry = env.store.blocking().get_complete_action(names.bytes());
    postcard::from_bytes(&entry.ok().flatten()?.payload).ok()
}

/// A store that refuses costs the entry, not the build.
fn keep(env: &StepEnv, names: &Hash, read: &[Text]) {
    let entry = postcard::to_stdvec(read).map(ActionEntry::new);
    let stored = entry.map(|entry| env.store.blocking().put_action(names.bytes(), entry));
    if let Ok(Err(error)) = stored {
        tracing::warn!("what a command read was not kept: {error}");
    }
}

/// The prerequisites of the rules in `text`: `out: a b \` and so on, with make's escapes.
fn parse(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    for line in joined.lines() {
        let Some((_, rest)) = line.split_once(": ") else {
            continue;
        };
        let mut name = String::new();
        let mut characters = rest.chars().peekable();
        while let Some(c) = characters.next() {
            match (c, characters.peek()) {
                ('\\', Some(&next @ (' ' | '#' | '\\'))) | ('$', Some(&next @ '$')) => {
                    characters.next();
                    name.push(next);
                }
                (' ' | '\t', _) => names.extend(Some(std::mem::take(&mut name))),
                _ => name.push(c),
            }
        }
        names.push(name);
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Headers that gcc or clang did not find.
fn missing_headers(output: &str) -> Vec<String> {
    output
        .lines()
        .filter_map(|line| {
            let text = line.split_once("fatal error: ")?.1;
            let gcc = text.strip_suffix(": No such file or directory");
            let clang = || text.strip_prefix('\'')?.strip_suffix("' file not found");
            gcc.or_else(clang).map(str::to_owned)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_make_are_read() {
        let text = "a/b.o: a/b.c a/x\\ y.h \\\n  /usr/include/stdio.h $$c.h\n\na/x.h:\n";
        let names = ["a/b.c", "a/x y.h", "/usr/include/stdio.h", "$c.h"];
        assert_eq!(parse(text), names);
    }

    #[test]
    fn missing_headers_are_found_in_what_compilers_print() {
        let gcc = "a.c:1:10: fatal error: lib/x.h: No such file or directory\n    1 | #include";
        assert_eq!(missing_headers(gcc), ["lib/x.h"]);
        assert_eq!(
            missing_headers("a.c:1:10: fatal error: 'x.h' file not found"),
            ["x.h"]
        );
    }
}
