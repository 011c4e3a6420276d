//! Depfiles: which of its inputs a command really read.
//!
//! Owns the reading of make's dependency lines, and the memory of what a command read, by the names
//! of all that it could have read. Does not know compilers.
//! A result goes by two keys: by what the command read, which needs that memory, and by all that it
//! could have read, which anybody can compute.
//! Invariants: a key that leaves an input's content out still holds its name, so that a file that
//! appears or vanishes is noticed; what is read without being declared fails the step, and so does what is neither the workspace's nor
//! the machine's, because nobody would notice its change; sources are described
//! once, before the command runs, so that a result goes by the content that it was made of, whatever is
//! saved meanwhile.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cas_actor::ActionEntry;

use super::{StepEnv, StepFailure, StepJob};
use crate::diagnostic::Diagnostic;
use crate::engine::action::{Action, ActionError, Before, resolve};
use crate::engine::hash::Hash;
use crate::engine::sandbox::{follow, home, normal};
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
    let mut outside = BTreeSet::new();
    let places = Places::new(env, (command, &action), scratch);
    let names = parse(&text).ok_or_else(|| {
        mistake(format!(
            "its depfile {path} has no rule as make writes them, such as `main.o: main.c main.h`"
        ))
    })?;
    for name in names {
        let path = match places.locate(&name) {
            Whose::Workspace(path) => path,
            Whose::Machine => continue,
            Whose::Nobody(path) => {
                outside.insert(path);
                continue;
            }
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
    if !outside.is_empty() {
        undeclared.push(Diagnostic::error(advice_on_others(job, &outside)));
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

/// As many files outside the workspace are named; more are counted.
const MOST: usize = 3;

fn advice_on_others(job: &StepJob, paths: &BTreeSet<PathBuf>) -> String {
    let named = paths.iter().take(MOST);
    let named: Vec<String> = named.map(|path| path.display().to_string()).collect();
    let more = match paths.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "it reads {}{more}, outside the workspace, where a change would not be noticed; take it into the workspace, as files or as a package, \
         install it to a system directory such as /usr/local, or name its directory in `sandbox-read` of [settings] if it belongs to \
         the machine ({})",
        named.join(", "),
        job.target().at
    )
}

/// Whose a file is that a command names.
enum Whose {
    /// The workspace's, with its path there.
    Workspace(String),
    /// The system's, that of a program, or one that the step made for itself and nobody has afterwards.
    Machine,
    /// None of these.
    Nobody(PathBuf),
}

/// What tells whose files are.
struct Places<'a> {
    command: &'a Command,
    work: PathBuf,
    /// By the directory in which they lie, the innermost first, each also without links: the mirror of the workspace that the command
    /// ran in, what else it has of its own, and the workspace. What is its own nobody has afterwards.
    dirs: [(PathBuf, bool); 6],
    machine: Vec<PathBuf>,
}

impl<'a> Places<'a> {
    fn new(env: &StepEnv, (command, action): (&'a Command, &Action), scratch: &Scratch) -> Self {
        let (work, root) = (scratch.work(), env.files.root());
        let tools = command.special.tools.iter().map(Path::new);
        let program = action.tool.iter().map(|tool| tool.program.as_path());
        let programs = program.chain(tools).filter(|path| path.is_absolute());
        let machine = env.readable.of_machine(programs, home().as_deref());
        let real = |dir: &Path| follow(dir).1;
        let dirs = [
            (real(&work), true),
            (work.clone(), true),
            (real(scratch.dir()), false),
            (scratch.dir().to_owned(), false),
            (real(root), true),
            (root.to_owned(), true),
        ];
        Self {
            command,
            work,
            dirs,
            machine,
        }
    }

    fn locate(&self, name: &str) -> Whose {
        if !name.starts_with('/')
            && let Some(path) = resolve(&self.command.dir, name)
        {
            return Whose::Workspace(path);
        }
        let named = self.work.join(&*self.command.dir).join(name);
        let written = normal(&named);
        let known = self.of_known(&written);
        // Links are looked at only where a name does not say whose it is: most are the system's.
        let known = known.or_else(|| self.of_known(&follow(&named).1));
        known.unwrap_or_else(|| match named.is_file() {
            true => Whose::Nobody(written),
            false => Whose::Machine,
        })
    }

    fn of_known(&self, path: &Path) -> Option<Whose> {
        let mut dirs = self.dirs.iter();
        let found =
            dirs.find_map(|(dir, is_mirror)| Some((path.strip_prefix(dir).ok()?, is_mirror)));
        match found {
            Some((below, true)) => Some(Whose::Workspace(below.to_str()?.to_owned())),
            Some((_, false)) => Some(Whose::Machine),
            None => {
                let mut machine = self.machine.iter();
                machine
                    .find(|dir| path.starts_with(dir))
                    .map(|_| Whose::Machine)
            }
        }
    }
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

/// The prerequisites of the rules in `text`: `out: a b \` and so on, with make's escapes. Nothing where it says something else.
fn parse(text: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    let is_empty = joined.trim().is_empty();
    let mut rules = joined.lines().filter_map(prerequisites).peekable();
    if !is_empty && rules.peek().is_none() {
        return None;
    }
    for rest in rules {
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
    Some(names)
}

/// What stands behind the target of the rule in `line`.
fn prerequisites(line: &str) -> Option<&str> {
    let mut colons = line.match_indices(':').map(|(at, _)| at);
    let is_end = |at: &usize| {
        let is_escaped = line[..*at].ends_with('\\');
        let rest = &line[at + 1..];
        !is_escaped && (rest.is_empty() || rest.starts_with(char::is_whitespace))
    };
    colons.find(is_end).map(|at| &line[at + 1..])
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
        assert_eq!(parse(text).unwrap(), names);
        assert_eq!(parse("a.o:\ta.c\tb.h\n").unwrap(), ["a.c", "b.h"]);
        assert_eq!(parse("a.o:\\\n a.c\n").unwrap(), ["a.c"]);
        assert_eq!(parse("c:/a.o: a.c\n").unwrap(), ["a.c"]);
        assert!(parse("a.o:\n").unwrap().is_empty() && parse("\n").unwrap().is_empty());
        assert_eq!(parse("{\"inputs\":[\"a.c\"]}"), None);
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
