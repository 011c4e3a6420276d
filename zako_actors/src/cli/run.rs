//! `zako run`: build a target, then become the program that it made.
//!
//! Owns the choice of the program among a target's outputs. Does not know how it is built.
//! Invariant: the lock is given back before the program starts, so that a server does not keep
//! others from building.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use super::args::{BuildArgs, Global, RunArgs};
use super::build::bring_up_to_date;
use super::opened::{Opened, Targets};
use super::options;
use super::summary::summarise;
use super::{Exit, Failure, say};
use crate::engine::event::Summary;
use crate::engine::open_files;
use crate::engine::record::{OutputItem, OutputKind};
use crate::engine::step::manager::of_machine;
use crate::engine::step::{search_path, shell_line};
use crate::engine::umask;
use crate::lang::label::{Label, LabelPattern};
use crate::lang::scripts::variables::line_with;
use crate::lang::target::{Target, Work};

/// Builds and runs. Returns only when there is nothing to run.
pub fn run(global: &Global, args: &RunArgs, begin: Instant) -> Result<Exit, Failure> {
    let mut opened = Opened::open(global, Some(&args.build()))?;
    let chosen = prepare(global, args, &mut opened, begin);
    opened.close();
    let mut command = match chosen? {
        Chosen::Program(command) => command,
        Chosen::Nothing(exit) => return Ok(exit),
    };
    open_files::restore();
    umask::restore();
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
    let target = targets
        .graph
        .find(&label)
        .map(|id| targets.graph.target(id));
    if let Some(target) = target.filter(|target| target.in_place().is_some()) {
        let mistakes = targets.graph.find(&label);
        let mistakes = mistakes.map_or(&[][..], |id| targets.graph.mistakes_of(id));
        if !mistakes.is_empty() {
            return Err(Failure::mistakes(mistakes));
        }
        return script(global, args, opened, &targets, target, begin);
    }
    let summary = bring_up_to_date(global, &args.build(), opened, &targets, begin)?;
    if let Some(exit) = unfinished(&summary) {
        return Ok(Chosen::Nothing(exit));
    }
    // Rules may have said more meanwhile.
    let targets = opened.load()?;
    let outputs = outputs(opened, &targets, &label);
    let program = program(&label, &outputs, args.bin.as_deref())?;
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

fn unfinished(summary: &Summary) -> Option<Exit> {
    if summary.failed == 0 && !summary.interrupted {
        return None;
    }
    say(&summarise(summary));
    Some(if summary.interrupted {
        Exit::Interrupted
    } else {
        Exit::Failed
    })
}

/// A script of a package: what it needs is built, it itself is started with the terminal.
fn script(
    global: &Global,
    args: &RunArgs,
    opened: &mut Opened,
    targets: &Targets,
    target: &Target,
    begin: Instant,
) -> Result<Chosen, Failure> {
    let (Some(command), Some(step)) = (target.command(), target.in_place()) else {
        return Err(Failure::work("this is no script"));
    };
    if !target.deps.is_empty() {
        let build = BuildArgs {
            labels: target.deps.iter().map(ToString::to_string).collect(),
            ..args.build()
        };
        let summary = bring_up_to_date(global, &build, opened, targets, begin)?;
        if let Some(exit) = unfinished(&summary) {
            return Ok(Chosen::Nothing(exit));
        }
    }
    let root = &opened.session.workspace.root;
    let words: Vec<String> = args
        .args
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let line = match words.is_empty() {
        true => command.argv.last().cloned().unwrap_or_default(),
        false => line_with(command, &shell_line(&words)),
    };
    let path = options::search_path(&opened.session.workspace.manifest.settings);
    let path = search_path(root, step, &path);
    let env = targets.describer.environment(command);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &line])
        .envs(of_machine((root, &command.dir), &env, &path))
        .envs(env.iter())
        .env("PATH", path)
        .current_dir(root.join(target.label.dir()));
    Ok(Chosen::Program(shell))
}

/// What `label` left behind; for a group, what its members did.
fn outputs(opened: &Opened, targets: &Targets, label: &Label) -> Vec<OutputItem> {
    let of = |label: &Label| {
        opened
            .session
            .record(label)
            .map(|record| record.outputs.iter())
    };
    let graph = &targets.graph;
    let target = graph.find(label).map(|id| graph.target(id));
    match target.filter(|target| target.work == Work::Group) {
        Some(group) => {
            let members = group.deps.iter().filter_map(of).flatten();
            members
                .filter(|item| group.takes(&item.path))
                .cloned()
                .collect()
        }
        None => of(label).into_iter().flatten().cloned().collect(),
    }
}

/// What a target made that can be run: its one executable file, or its one script for Node.js.
fn program(label: &Label, outputs: &[OutputItem], bin: Option<&str>) -> Result<Box<str>, Failure> {
    let files: Vec<(&str, u32)> = outputs
        .iter()
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
