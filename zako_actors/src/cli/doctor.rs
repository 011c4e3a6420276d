//! `zako doctor`: what this machine offers, what zako makes of it, and what to mend.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::args::{DoctorArgs, Global};
use super::cache::bytes;
use super::options::{cache_dir, directory, pool_size};
use super::{Exit, Failure, print_json, print_line};
use crate::engine::action::find_program;
use crate::engine::sandbox::mechanism;
use crate::engine::workspace::{Layout, Workspace, WorkspaceError};
use crate::isolate::engine_version;
use crate::lang::manifest::Settings;
use crate::machine::{Machine, PoolSize, cpus};

/// One finding.
#[derive(Debug, Serialize)]
struct Finding {
    ok: bool,
    name: String,
    value: String,
    /// What to do, when it is not well.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// Prints the findings.
pub fn run(global: &Global, args: &DoctorArgs) -> Result<Exit, Failure> {
    let mut findings = Vec::new();
    machine(&mut findings);
    tools(&mut findings);
    let found = Workspace::find(&directory(global));
    let none = Settings::default();
    let manifest = found.as_ref().map(|workspace| &workspace.manifest.settings);
    settings(manifest.unwrap_or(&none), &mut findings);
    workspace(global, found, &mut findings);
    if args.json {
        print_json(&findings)?;
    } else {
        for finding in &findings {
            let mark = if finding.ok { "ok  " } else { "warn" };
            print_line(&format!("{mark}  {:<18} {}", finding.name, finding.value))?;
            if let Some(advice) = &finding.advice {
                print_line(&format!("      {:<18} → {advice}", ""))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn add(findings: &mut Vec<Finding>, name: &str, value: impl Into<String>) {
    findings.push(Finding {
        ok: true,
        name: name.into(),
        value: value.into(),
        advice: None,
    });
}

fn warn(findings: &mut Vec<Finding>, name: &str, value: impl Into<String>, advice: &str) {
    findings.push(Finding {
        ok: false,
        name: name.into(),
        value: value.into(),
        advice: Some(advice.into()),
    });
}

fn machine(findings: &mut Vec<Finding>) {
    let machine = Machine::look();
    add(findings, "version", env!("CARGO_PKG_VERSION"));
    if cfg!(feature = "quickjs") {
        warn(
            findings,
            "JavaScript engine",
            engine_version(),
            "build files are evaluated more slowly; a build of zako with V8 is faster",
        );
    } else {
        add(findings, "JavaScript engine", engine_version());
    }
    add(findings, "CPUs", cpus().to_string());
    add(findings, "NUMA nodes", machine.numa_nodes.to_string());
    let memory = bytes(machine.memory_bytes);
    if machine.memory_bytes < 1 << 30 {
        warn(
            findings,
            "memory",
            memory,
            "less than 1 GiB; lower `jobs` in [settings] of zako.toml",
        );
    } else {
        add(findings, "memory", memory);
    }
    match mechanism() {
        Some(mechanism) => add(findings, "strict sandbox", mechanism),
        None => warn(
            findings,
            "strict sandbox",
            "not available",
            "--sandbox strict needs user namespaces or Landlock (Linux 5.13 or newer)",
        ),
    }
}

/// What is in force: flags do not reach this command, everything else does.
fn settings(settings: &Settings, findings: &mut Vec<Finding>) {
    let machine = Machine::look();
    let jobs = settings
        .jobs
        .map_or(machine.defaults().jobs, |jobs| jobs.max(1) as usize);
    add(findings, "jobs", format!("{jobs} steps at a time"));
    match pool_size(settings, machine.defaults().pool) {
        Ok(size) => {
            let idle = size.idle.as_secs();
            let range = |size: PoolSize| format!("{} to {}", size.min, size.max);
            add(
                findings,
                "isolates",
                format!("{}, idle ones leave after {idle} s", range(size)),
            );
            add(
                findings,
                "transpilers",
                format!(
                    "{}, idle ones leave after {idle} s",
                    range(size.at_most(machine.cpus))
                ),
            );
            add(
                findings,
                "worker processes",
                format!(
                    "{} beside busy ones, idle ones leave after {idle} s",
                    size.max
                ),
            );
        }
        Err(error) => warn(findings, "pools", error.text(), "correct it"),
    }
    let defaults = machine.defaults();
    add(
        findings,
        "uploads",
        format!("{} at a time", defaults.network_jobs),
    );
    let store = cas_actor::StoreConfig::new("");
    add(findings, "memory tier", bytes(store.memory.capacity_bytes));
}

fn tools(findings: &mut Vec<Finding>) {
    let path = std::env::var("PATH").unwrap_or_default();
    if path.is_empty() {
        warn(
            findings,
            "PATH",
            "empty",
            "steps find their programs on PATH; set it",
        );
        return;
    }
    for tool in ["sh", "node", "gcc", "clang", "git"] {
        match find_program(tool, &path) {
            Some(found) => add(findings, tool, found.display().to_string()),
            None if tool == "sh" => {
                warn(
                    findings,
                    tool,
                    "not found",
                    "steps that say `sh -c` will fail; install a shell",
                );
            }
            None => add(
                findings,
                tool,
                "not found (needed only by steps that name it)",
            ),
        }
    }
}

fn workspace(
    global: &Global,
    found: Result<Workspace, WorkspaceError>,
    findings: &mut Vec<Finding>,
) {
    let workspace = match found {
        Ok(workspace) => workspace,
        Err(error) => {
            warn(
                findings,
                "workspace",
                error.to_string(),
                "work inside a workspace, or make one with `zako init`",
            );
            return;
        }
    };
    add(
        findings,
        "workspace",
        format!("{} ({})", workspace.root.display(), workspace.manifest.id()),
    );
    let cache = match cache_dir(global, Some(&workspace)) {
        Ok(cache) => cache,
        Err(_) => return,
    };
    let layout = Layout::new(&workspace.root, cache.as_deref());
    for (name, dir) in [("cache", &layout.store), ("scratch", &layout.scratch)] {
        match writable(dir) {
            Ok(()) => add(findings, name, dir.display().to_string()),
            Err(error) => warn(
                findings,
                name,
                format!("{}: {error}", dir.display()),
                "make this directory writable, or choose another with --cache-dir",
            ),
        }
    }
}

/// Whether files can be made in `dir`, or in the nearest directory above it that exists.
fn writable(dir: &Path) -> std::io::Result<()> {
    let existing = dir
        .ancestors()
        .find(|dir| dir.is_dir())
        .unwrap_or(Path::new("/"));
    let probe = existing.join(format!(".zako-doctor-{}", std::process::id()));
    fs::write(&probe, b"")?;
    fs::remove_file(probe)
}
