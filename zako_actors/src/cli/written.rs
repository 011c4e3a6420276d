//! Files that a command is told to write.
//!
//! Owns where they lie, and the refusal to write over somebody's work or where something else is written. Does not know what is
//! written, nor when.
//! Invariant: a file that git tracks, one that says what the targets are, and one that a target names as its source is not
//! written; what only a glob means is: it may be what an earlier command wrote.

use std::fs;
use std::path::{Path, PathBuf};

use super::Failure;
use super::args::{BuildArgs, StepArgs};
use super::opened::{Opened, Targets};
use crate::engine::locks::{LOCK_FILES, OPAQUE};
use crate::engine::since::is_tracked;
use crate::isolate::FileKind;
use crate::lang::lockfile::LOCK;
use crate::lang::manifest::MANIFEST;
use crate::lang::package_json::{PACKAGE_JSON, PNPM_WORKSPACE};
use crate::lang::target::Source;
use crate::lang::turbo::TURBO_FILES;

/// Other names of the standard output.
const STDOUT: [&str; 3] = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

/// The flags that name a file, and the files.
fn files(steps: &StepArgs) -> impl Iterator<Item = (&'static str, &Path)> {
    let files = [("--events", &steps.events), ("--trace", &steps.trace)];
    let files = files.into_iter();
    files.filter_map(|(flag, file)| Some((flag, file.as_deref()?)))
}

/// The files that a command is told to write, by their paths without links.
pub fn files_to_write(steps: &StepArgs) -> Vec<PathBuf> {
    files(steps)
        .filter_map(|(_, path)| place_of(path))
        .collect()
}

/// The path without links of a file that may not be there yet.
fn place_of(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path).ok().or_else(|| {
        let whole = std::path::absolute(path).ok()?;
        let dir = fs::canonicalize(whole.parent()?).ok()?;
        Some(dir.join(whole.file_name()?))
    })
}

/// Refuses flags that cannot be together: nothing happens that could be written down when nothing is run, and what a script
/// reads from the standard output must not have something else in it.
///
/// # Errors
/// Which ones.
pub fn refuse_pairs(args: &BuildArgs) -> Result<(), Failure> {
    if let Some((flag, _)) = files(&args.steps).next().filter(|_| args.dry) {
        return Err(Failure::usage(format!(
            "--dry runs nothing, so that nothing happens which {flag} could write down; `--dry --json` prints what would run, \
             and `zako trace` draws a build out of the times of earlier ones"
        )));
    }
    let json = args.json.then(|| "--json".to_owned());
    let spans = args.steps.otel.as_deref() == Some("stdout") && !args.dry;
    let spans = spans.then(|| "--otel stdout (ZAKO_OTEL)".to_owned());
    let files =
        files(&args.steps).filter(|(_, path)| STDOUT.iter().any(|it| *path == Path::new(it)));
    let files = files.map(|(flag, path)| format!("{flag} {}", path.display()));
    let all: Vec<String> = json.into_iter().chain(spans).chain(files).collect();
    if let (Some(one), Some(other)) = (&args.steps.events, &args.steps.trace)
        && place_of(one).is_some_and(|place| place_of(other) == Some(place))
    {
        return Err(Failure::usage(format!(
            "--events and --trace both write to {}; name another file for one of them",
            one.display()
        )));
    }
    match &all[..] {
        [one, other, ..] => Err(Failure::usage(format!(
            "{one} and {other} both write to the standard output, where nobody could tell them apart; use one of them, or a \
             file (--events FILE), or a collector (--otel URL), for the other"
        ))),
        _ => Ok(()),
    }
}

/// Refuses to write over files that are somebody's work whatever the targets are.
///
/// # Errors
/// What would be lost.
pub fn refuse_known(steps: &StepArgs) -> Result<(), Failure> {
    files(steps).try_for_each(|(flag, path)| match known(path) {
        Some(why) => Err(refusal(flag, path, &why)),
        None => Ok(()),
    })
}

/// The same, and over what `targets` read.
///
/// # Errors
/// What would be lost.
pub fn refuse(steps: &StepArgs, opened: &Opened, targets: &Targets) -> Result<(), Failure> {
    files(steps).try_for_each(|(flag, path)| refuse_one(flag, path, opened, targets))
}

/// The same of the file at `path`, which `flag` names.
///
/// # Errors
/// What would be lost.
pub fn refuse_one(
    flag: &str,
    path: &Path,
    opened: &Opened,
    targets: &Targets,
) -> Result<(), Failure> {
    let why = known(path).or_else(|| {
        let place = place_of(path).filter(|place| place.is_file())?;
        let below = place.strip_prefix(&opened.session.workspace.root).ok()?;
        // What a target names is text.
        let below = below.to_str()?;
        if opened.session.scripts().contains_key(below) {
            return Some("which the targets are described in".to_owned());
        }
        let names = |source: &Source| matches!(source, Source::File(file) if *file == *below);
        let mut all = targets.graph.targets().iter();
        let reader = all.find(|target| target.srcs.iter().any(names))?;
        Some(format!("a source of {}", reader.label))
    });
    why.map_or(Ok(()), |why| Err(refusal(flag, path, &why)))
}

fn refusal(flag: &str, path: &Path, why: &str) -> Failure {
    Failure::usage(format!(
        "{flag} would overwrite {}, {why}; name another file",
        path.display()
    ))
}

/// Why the file at `path` is somebody's work, as far as its name and git say so.
fn known(path: &Path) -> Option<String> {
    let place = place_of(path).filter(|place| place.is_file())?;
    let name = place.file_name()?.to_string_lossy();
    let manifests = [MANIFEST, LOCK, PACKAGE_JSON, PNPM_WORKSPACE, OPAQUE];
    let mut manifests = manifests.iter().chain(&LOCK_FILES).chain(&TURBO_FILES);
    let is_library = matches!(FileKind::of(&name), FileKind::Library | FileKind::Script);
    if !is_library || manifests.any(|it| **it == *name) {
        return Some("which says what the targets are".to_owned());
    }
    is_tracked(&place).then(|| "which git tracks".to_owned())
}
