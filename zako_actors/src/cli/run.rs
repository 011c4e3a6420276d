//! `zako run`: build a target, then become the program that it made.
//!
//! Owns the choice of the program among a target's outputs. Does not know how it is built.
//! Invariant: the lock is given back before the program starts, so that a server does not keep
//! others from building.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use super::args::{Global, RunArgs};
use super::build::bring_up_to_date;
use super::opened::Opened;
use super::summary::summarise;
use super::{Exit, Failure, say};
use crate::engine::record::{OutputKind, Record};
use crate::lang::label::{Label, LabelPattern};

/// Builds and runs. Returns only when there is nothing to run.
pub fn run(global: &Global, args: &RunArgs, begin: Instant) -> Result<Exit, Failure> {
    let mut opened = Opened::open(global, Some(&args.build()))?;
    let chosen = prepare(global, args, &mut opened, begin);
    opened.close();
    let mut command = match chosen? {
        Chosen::Program(command) => command,
        Chosen::Nothing(exit) => return Ok(exit),
    };
    let error = command.exec();
    Err(Failure::work(format!(
        "cannot start {}: {error}",
        command.get_program().display()
    )))
}

enum Chosen {
    Program(Command),
    Nothing(Exit),
}

fn prepare(
    global: &Global,
    args: &RunArgs,
    opened: &mut Opened,
    begin: Instant,
) -> Result<Chosen, Failure> {
    let targets = opened.load()?;
    let pattern = opened
        .patterns(std::slice::from_ref(&args.label))?
        .remove(0);
    let LabelPattern::One(label) = pattern else {
        return Err(Failure::usage(format!(
            "`{}` means several targets; name one to run",
            args.label
        )));
    };
    let summary = bring_up_to_date(global, &args.build(), opened, &targets, begin)?;
    if summary.failed > 0 || summary.interrupted {
        say(&summarise(&summary));
        return Ok(Chosen::Nothing(if summary.interrupted {
            Exit::Interrupted
        } else {
            Exit::Failed
        }));
    }
    let record = opened.session.record(&label);
    let program = program(&label, record, args.bin.as_deref())?;
    let path = opened.session.workspace.root.join(&*program);
    let mut command = if is_script(&program) {
        let mut node = Command::new("node");
        node.arg(&path);
        node
    } else {
        Command::new(PathBuf::from(&path))
    };
    command.args(&args.args);
    Ok(Chosen::Program(command))
}

/// What a target made that can be run: its one executable file, or its one script for Node.js.
fn program(label: &Label, record: Option<&Record>, bin: Option<&str>) -> Result<Box<str>, Failure> {
    let outputs = record.into_iter().flat_map(|record| record.outputs.iter());
    let files: Vec<(&str, u32)> = outputs
        .filter_map(|item| match item.kind {
            OutputKind::File { mode, .. } => Some((&*item.path, mode)),
            _ => None,
        })
        .collect();
    if let Some(bin) = bin {
        return files
            .iter()
            .find(|(path, _)| *path == bin || path.rsplit('/').next() == Some(bin))
            .map(|(path, _)| (*path).into())
            .ok_or_else(|| Failure::usage(format!("{label} does not make `{bin}`")));
    }
    let runnable = |wanted: &dyn Fn(&str, u32) -> bool| -> Vec<&str> {
        let found = files.iter().filter(|(path, mode)| wanted(path, *mode));
        found.map(|(path, _)| *path).collect()
    };
    let mut candidates = runnable(&|_, mode| mode & 0o111 != 0);
    if candidates.is_empty() {
        candidates = runnable(&|path, _| is_script(path));
    }
    match candidates.as_slice() {
        [one] => Ok((*one).into()),
        [] => Err(Failure::usage(format!(
            "{label} makes nothing that can be run: no executable file and no script"
        ))),
        many => Err(Failure::usage(format!(
            "{label} makes {} programs: {}; choose with --bin NAME",
            many.len(),
            many[..many.len().min(8)].join(", ")
        ))),
    }
}

fn is_script(path: &str) -> bool {
    [".js", ".mjs", ".cjs"]
        .iter()
        .any(|end| path.ends_with(end))
}
