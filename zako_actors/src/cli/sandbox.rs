//! What a build says of its sandbox before the first step starts, and what the manifest says of it.
//!
//! Owns what is told, and the meaning of `sandbox-read`. Does not know how anything is confined.

use std::path::{Path, PathBuf};

use super::Failure;
use crate::engine::event::Event;
use crate::engine::plan::Plan;
use crate::engine::sandbox::{Mode, home, mechanism};
use crate::engine::workspace::Workspace;
use crate::lang::manifest::MANIFEST;

/// What the manifest of `workspace` lets every command read.
pub fn readable(workspace: &Workspace) -> Result<Vec<PathBuf>, Failure> {
    let paths = workspace.manifest.settings.sandbox_read.iter();
    let read = |text: &String| {
        let wrong = |what: &str| {
            Failure::usage(format!(
                "`sandbox-read` of [settings] in {MANIFEST}: {text:?} {what}"
            ))
        };
        let path = match text.strip_prefix("~/") {
            Some(below) => home().map(|home| home.join(below)),
            None => Some(PathBuf::from(text)).filter(|path| path.is_absolute()),
        };
        let path = path.ok_or_else(|| wrong("is not absolute, nor `~/…` of a HOME that is"))?;
        let real = std::fs::canonicalize(&path);
        let real: &Path = real.as_deref().unwrap_or(&path);
        if workspace.root.starts_with(real) {
            return Err(wrong(
                "holds the workspace, which would give all of it away",
            ));
        }
        Ok(path)
    };
    paths.map(read).collect()
}

/// What holds the commands of `plan` to what they declare, when they are.
pub fn chosen(plan: &Plan, mode: Mode) -> Option<Event> {
    let (name, by) = match mode {
        Mode::Off => return None,
        _ if !plan.starts_processes() => return None,
        Mode::Warn if plan.asks_workers() => (
            "warn",
            "strace, which only looks, and not at steps with `worker`",
        ),
        Mode::Warn => ("warn", "strace, which only looks"),
        Mode::Strict => ("strict", mechanism()?),
    };
    Some(Event::SandboxChosen { mode: name, by })
}
