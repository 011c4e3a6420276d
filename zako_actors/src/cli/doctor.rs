//! `zako doctor`: what this machine offers, what zako makes of it, and what to mend.

use std::fs;
use std::num::NonZeroU32;
use std::path::Path;

use cas_actor::{UpstreamConfig, without_credentials};
use clap::ValueEnum;
use serde::Serialize;

use super::args::{DoctorArgs, Global};
use super::cache::bytes;
use super::options::{
    EVALUATION_HEAP, EVALUATION_SECONDS, SANDBOX, cache_dir, directory, evaluation_limits, jobs,
    pool_size, said, search_path,
};
use super::{Exit, Failure, print_json, print_line};
use crate::engine::action::find_program;
use crate::engine::locks;
use crate::engine::sandbox::{Mode, mechanism};
use crate::engine::workspace::{Layout, Workspace, WorkspaceError};
use crate::isolate::engine_version;
use crate::lang::manifest::{MANIFEST, Manifest, Settings};
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
    let found = Workspace::find(&directory(global));
    let none = Settings::default();
    let manifest = found.as_ref().map(|workspace| &workspace.manifest.settings);
    tools(manifest.unwrap_or(&none), &mut findings);
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
    match said("ZAKO_JOBS").map(|text| jobs(&text)) {
        Some(Err(error)) => warn(findings, "jobs", "ZAKO_JOBS is no number of steps", &error),
        in_environment => {
            let in_environment = in_environment.and_then(Result::ok).map(NonZeroU32::get);
            let from = source(
                in_environment.and(Some("ZAKO_JOBS")),
                settings.jobs.is_some(),
            );
            let jobs = in_environment.or(settings.jobs);
            let jobs = jobs.map_or(machine.defaults().jobs, |jobs| jobs.max(1) as usize);
            add(findings, "jobs", format!("{jobs} steps at a time ({from})"));
        }
    }
    how_steps_run(settings, findings);
    match pool_size(settings, machine.defaults().pool) {
        Ok(size) => {
            let idle = size.idle.as_secs();
            let range = |size: PoolSize| format!("{} to {}", size.min, size.max);
            add(
                findings,
                "isolates",
                format!(
                    "{}, idle ones leave after {idle} s ({})",
                    range(size),
                    pool_sources(settings)
                ),
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

/// Which of the settings of pools were said, and where.
fn pool_sources(settings: &Settings) -> String {
    let all = [
        ("ZAKO_MIN_WORKERS", settings.min_workers.is_some()),
        ("ZAKO_MAX_WORKERS", settings.max_workers.is_some()),
        (
            "ZAKO_WORKER_IDLE_SECONDS",
            settings.worker_idle_seconds.is_some(),
        ),
    ];
    let from = all.map(|(name, in_manifest)| source(said(name).map(|_| name), in_manifest));
    let [min, max, idle] = from;
    if min == max && max == idle {
        return min.to_owned();
    }
    format!("least: {min}, most: {max}, idle: {idle}")
}

/// Where a setting comes from: the variable that says it, otherwise the manifest if it does.
fn source(variable: Option<&'static str>, in_manifest: bool) -> &'static str {
    variable.unwrap_or(if in_manifest { MANIFEST } else { "default" })
}

/// Sandbox, remote cache, PATH, and the limits of build files.
fn how_steps_run(settings: &Settings, findings: &mut Vec<Finding>) {
    sandbox(settings, findings);
    let named = said("ZAKO_REMOTE");
    let from = source(
        named.as_ref().map(|_| "ZAKO_REMOTE"),
        settings.remote.is_some(),
    );
    match named.as_ref().or(settings.remote.as_ref()) {
        Some(address) => {
            let shown = format!("{} ({from})", without_credentials(address));
            match usable(address) {
                Ok(()) => add(findings, "remote cache", shown),
                Err(error) => warn(findings, "remote cache", shown, &error),
            }
        }
        None => add(findings, "remote cache", "none"),
    }
    switches(findings);
    let from = source(None, settings.path.is_some());
    let from = if settings.path.is_some() {
        from
    } else {
        "PATH, so that another one builds everything again"
    };
    let path = search_path(settings);
    add(findings, "PATH of steps", format!("{path} ({from})"));
    match evaluation_limits(settings) {
        Ok(limits) => {
            let from = |name: &'static str, in_manifest: bool| {
                source(said(name).map(|_| name), in_manifest)
            };
            let heap_from = from(EVALUATION_HEAP, settings.evaluation_heap.is_some());
            let from = from(EVALUATION_SECONDS, settings.evaluation_seconds.is_some());
            add(
                findings,
                "a build file",
                format!(
                    "{} of heap ({heap_from}), {} s of computing, {} s by the clock ({from})",
                    bytes(limits.heap_bytes as u64),
                    limits.cpu.as_secs(),
                    limits.wall.as_secs()
                ),
            );
        }
        Err(error) => warn(findings, "a build file", error.text(), "correct it"),
    }
}

/// Whether a remote cache can have this address.
///
/// # Errors
/// Why not, and what addresses look like.
fn usable(address: &str) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let _entered = runtime.enter();
    let connected = UpstreamConfig::at(address).connect();
    connected
        .map(drop)
        .map_err(|error| error.problem().to_owned())
}

/// What the environment alone says.
fn switches(findings: &mut Vec<Finding>) {
    if let Some(locked) = said("ZAKO_LOCKED") {
        let is_off = matches!(
            &*locked.to_lowercase(),
            "n" | "no" | "f" | "false" | "off" | "0"
        );
        let shown = format!(
            "{} (ZAKO_LOCKED={locked})",
            if is_off { "no" } else { "yes" }
        );
        add(findings, "locked", shown);
    }
    if let Some(to) = said("ZAKO_OTEL") {
        let shown = format!("{} (ZAKO_OTEL)", without_credentials(&to));
        let is_address = to.starts_with("http://") || to.starts_with("https://");
        if to == "stdout" || is_address {
            add(findings, "spans", shown);
        } else {
            warn(
                findings,
                "spans",
                shown,
                "write `stdout`, or the http:// address of a collector",
            );
        }
    }
}

/// How strictly commands are held to what they declare.
fn sandbox(settings: &Settings, findings: &mut Vec<Finding>) {
    let named = said(SANDBOX).map(|text| Mode::from_str(&text, false));
    let mode = match named {
        Some(Err(_)) => {
            let advice = "choose off, warn or strict";
            return warn(findings, "sandbox", "ZAKO_SANDBOX is no mode", advice);
        }
        Some(Ok(mode)) => mode,
        None => settings.sandbox.unwrap_or_default(),
    };
    let mode = match mode {
        Mode::Off => "off",
        Mode::Warn => "warn",
        Mode::Strict => "strict",
    };
    let from = source(said(SANDBOX).map(|_| SANDBOX), settings.sandbox.is_some());
    add(findings, "sandbox", format!("{mode} ({from})"));
}

fn tools(settings: &Settings, findings: &mut Vec<Finding>) {
    let path = search_path(settings);
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
        Err(WorkspaceError::Manifest(mistake)) => {
            let at = mistake.location.as_ref();
            let at = at.map_or(String::new(), |at| format!("{at}: "));
            let said = format!("{at}{}", mistake.message);
            let advice = "correct it; what is said above holds without it";
            warn(findings, "workspace", said, advice);
            return;
        }
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
    let about = about(&workspace.manifest);
    if !about.is_empty() {
        add(findings, "package", about);
    }
    lock_files(&workspace, findings);
    let cache = match cache_dir(global, Some(&workspace)) {
        Ok(cache) => cache,
        Err(_) => return,
    };
    let layout = Layout::new(&workspace.root, cache.as_deref());
    let others = [
        (
            "cache",
            &layout.store,
            "make it writable, or choose another directory with --cache-dir",
        ),
        (
            "scratch",
            &layout.scratch,
            "make it writable: zako runs commands and keeps its lists there, wherever the cache is",
        ),
    ];
    for (name, dir, advice) in others {
        match writable(dir) {
            Ok(()) => add(findings, name, dir.display().to_string()),
            Err(error) => warn(
                findings,
                name,
                format!("{}: {error}", dir.display()),
                advice,
            ),
        }
    }
}

/// Which lock files of package managers are understood.
fn lock_files(workspace: &Workspace, findings: &mut Vec<Finding>) {
    for (name, what) in locks::survey(&workspace.root) {
        let Some(what) = what else {
            let value = "a change concerns the packages that use what changed";
            add(findings, name, value);
            continue;
        };
        let advice = match name {
            locks::OPAQUE => "`bun install --save-text-lockfile` writes bun.lock, which is read",
            _ => "have the package manager write it anew; zako may be too old for it",
        };
        warn(findings, name, format!("{what}; {}", locks::WHOLE), advice);
    }
}

/// What the manifest says for people: description, licence, authors.
fn about(manifest: &Manifest) -> String {
    let license = manifest.license.iter().map(|it| format!("licence {it}"));
    let authors = Some(manifest.authors.join(", ")).filter(|names| !names.is_empty());
    let authors = authors.into_iter().map(|names| format!("by {names}"));
    let parts = manifest.description.iter().cloned();
    let parts: Vec<String> = parts.chain(license).chain(authors).collect();
    parts.join("; ")
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
