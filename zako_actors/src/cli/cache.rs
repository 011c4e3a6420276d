//! `zako cache`: the store by hand.
//!
//! Invariant: only what puts something in makes a store where there is none.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cas_actor::{
    Blocking, Digest, Durability, ExportError, GetError, Store, StoreError, Transfer, VerifyReport,
};
use clap::CommandFactory;
use serde_json::json;

use super::args::{CacheArgs, CacheCommand, Cli, Global};
use super::options::{cache_dir, directory};
use super::{Exit, Failure, print, print_json, print_line, say};
use crate::engine::services::{ServiceError, Services};
use crate::engine::workspace::{Layout, Workspace, WorkspaceError};

/// Runs one of the commands.
pub fn run(global: &Global, args: CacheArgs) -> Result<Exit, Failure> {
    let root = store_root(global)?;
    let makes_one = matches!(
        args.command,
        CacheCommand::Put { .. } | CacheCommand::Import { .. }
    );
    if !makes_one && !Store::is_at(&root) {
        return Err(Failure::usage(format!(
            "there is no cache at {}; a build makes one, and so do `zako cache put` and `zako cache import`",
            root.display()
        )));
    }
    let services = Services::new(root);
    let exit = {
        // What a person puts in by hand cannot be built again.
        let store = open(&services, args.wait)?.with_durability(Durability::Durable);
        let store = store.blocking();
        match args.command {
            CacheCommand::Stats { json } => stats(store, json),
            CacheCommand::Get { digest, output } => get(store, &digest, output.as_deref()),
            CacheCommand::Put { files } => put(store, &files),
            CacheCommand::Verify { json } => verify(store, json),
            CacheCommand::Gc { keep, spare, json } => gc(store, keep, spare, json),
            CacheCommand::Export { dir } => export(store, &dir),
            CacheCommand::Import { dir } => import(store, &dir),
        }
    };
    services.end();
    exit
}

/// The store. Waits for a build that has it, and says so; for a node only if told to.
fn open(services: &Services, wait: bool) -> Result<&Store, Failure> {
    let locked = match services.store_now() {
        Err(ServiceError::Store(locked @ StoreError::Locked { .. })) => locked,
        opened => return opened.map_err(Failure::work),
    };
    if let StoreError::Locked { pid: Some(pid), .. } = locked
        && is_node(pid)
        && !wait
    {
        return Err(Failure::work(format!(
            "{locked}, a running `zako node`, which shows its figures at /metrics, evicts by itself (`max-bytes`) and \
             reads everything again in the background (`scrub_bytes_per_second`); end it first, or wait for its end \
             with --wait"
        )));
    }
    say(&format!("{locked}; waiting for its end"));
    services.store().map_err(Failure::work)
}

/// Whether a process was started as `zako node`.
fn is_node(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    starts_node(&line)
}

/// Whether the command of a command line, whose words end with a zero, is `node`: the word may be the name of
/// something else.
fn starts_node(line: &[u8]) -> bool {
    let words = line.strip_suffix(&[0]).unwrap_or(line);
    let words = words.split(|byte| *byte == 0).map(OsStr::from_bytes);
    // Another version may have other flags.
    let cli = Cli::command().ignore_errors(true);
    let found = cli.try_get_matches_from(words);
    found.is_ok_and(|found| found.subcommand_name() == Some("node"))
}

/// The store of the workspace, or of `--cache-dir` anywhere.
fn store_root(global: &Global) -> Result<PathBuf, Failure> {
    match Workspace::find(&directory(global)) {
        Ok(workspace) => {
            let cache = cache_dir(global, Some(&workspace))?;
            Ok(Layout::new(&workspace.root, cache.as_deref()).store)
        }
        Err(WorkspaceError::NotFound(from)) => match cache_dir(global, None)? {
            Some(cache) => Ok(cache.join("store")),
            None => Err(Failure::usage(WorkspaceError::NotFound(from))),
        },
        Err(error) => Err(super::opened::workspace_failure(error)),
    }
}

fn stats(store: Blocking<'_>, as_json: bool) -> Result<Exit, Failure> {
    let stats = store.stats().map_err(Failure::work)?;
    if as_json {
        print_json(&json!({
            "blobs": stats.blobs,
            "blob_bytes": stats.blob_bytes,
            "actions": stats.actions,
            "action_bytes": stats.action_bytes,
        }))?;
    } else {
        print_line(&format!(
            "blobs    {:>10}  {}",
            stats.blobs,
            bytes(stats.blob_bytes)
        ))?;
        print_line(&format!(
            "results  {:>10}  {}",
            stats.actions,
            bytes(stats.action_bytes)
        ))?;
    }
    Ok(Exit::Done)
}

fn get(store: Blocking<'_>, text: &str, output: Option<&Path>) -> Result<Exit, Failure> {
    let digest = resolve(store, text)?;
    let missing = |error: GetError| match error {
        GetError::NotFound(_) => Failure::work(format!("no blob {text} in the cache")),
        other => Failure::work(other),
    };
    match output {
        None => print(&store.get(&digest).map_err(missing)?.into_bytes())?,
        Some(path) => store
            .export(&digest, path, 0o644)
            .map_err(|error| match error {
                ExportError::Get(error) => missing(error),
                other => Failure::work(other),
            })?,
    }
    Ok(Exit::Done)
}

/// A digest written in full, or the one blob whose hash begins with `text`.
fn resolve(store: Blocking<'_>, text: &str) -> Result<Digest, Failure> {
    if text.contains('/') {
        return text
            .parse()
            .map_err(|error| Failure::usage(format!("{text}: {error}")));
    }
    if let Some(found) = text.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(Failure::usage(format!(
            "{text}: `{found}` is not a hex digit (0-9, a-f)"
        )));
    }
    if text.len() < 4 || text.len() > 64 {
        return Err(Failure::usage(format!(
            "{text}: a digest has 4 to 64 hex characters here"
        )));
    }
    let wanted = text.to_ascii_lowercase();
    // The blob of no bytes is always there and never listed.
    let empty = Digest::of(b"");
    let listed = store.list().map_err(Failure::work)?;
    let mut hits = listed
        .into_iter()
        .filter(|digest| !digest.is_empty_blob())
        .chain([empty])
        .filter(|digest| digest.hex().starts_with(&wanted));
    match (hits.next(), hits.next()) {
        (None, _) => Err(Failure::work(format!("no blob {text} in the cache"))),
        (Some(digest), None) => Ok(digest),
        (Some(_), Some(_)) => Err(Failure::usage(format!(
            "{text} begins several digests; write more of it"
        ))),
    }
}

fn put(store: Blocking<'_>, files: &[PathBuf]) -> Result<Exit, Failure> {
    for file in files {
        let stored = if file.as_os_str() == "-" {
            store.put_reader(io::stdin().lock(), None)
        } else {
            store.put_file(file)
        };
        let digest = stored.map_err(Failure::work)?;
        print_line(&format!("{digest}  {}", file.display()))?;
    }
    Ok(Exit::Done)
}

fn verify(store: Blocking<'_>, as_json: bool) -> Result<Exit, Failure> {
    let report = store.verify(|_| ()).map_err(Failure::work)?;
    let hex = |key: &[u8; 32]| {
        key.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    if as_json {
        print_json(&json!({
            "checked": report.checked,
            "checked_bytes": report.checked_bytes,
            "damaged_blobs": report.damaged_blobs.iter().map(Digest::hex).collect::<Vec<_>>(),
            "damaged_links": report.damaged_links,
            "damaged_results": report.damaged_actions.iter().map(hex).collect::<Vec<_>>(),
            "dropped_results": report.incomplete_actions.iter().map(hex).collect::<Vec<_>>(),
        }))?;
    }
    for digest in &report.damaged_blobs {
        say(&format!("damaged blob {}", digest.hex()));
    }
    for key in &report.damaged_actions {
        say(&format!("damaged result {}", hex(key)));
    }
    for key in &report.incomplete_actions {
        say(&format!("dropped result {}", hex(key)));
    }
    let verdict = verdict(&report)?;
    if !as_json {
        print_line(&verdict)?;
    }
    Ok(Exit::Done)
}

/// What a check has found, in a line. What is damaged is a failure; that a blob was evicted before the results
/// that name it is not.
fn verdict(report: &VerifyReport) -> Result<String, Failure> {
    let VerifyReport {
        checked,
        damaged_links,
        ..
    } = report;
    let damaged = (report.damaged_blobs.len() + report.damaged_actions.len()) as u64;
    if damaged + damaged_links > 0 {
        let links = match damaged_links {
            0 => String::new(),
            links => format!(", and {links} links from SHA-256 names, which were dropped"),
        };
        return Err(Failure::work(format!(
            "{damaged} of {checked} entries are damaged{links}; they were set aside, and a build makes them again"
        )));
    }
    let found = match report.incomplete_actions.len() {
        0 => "all intact".to_owned(),
        dropped => format!(
            "none damaged; {dropped} results were dropped, as a blob that they name is gone"
        ),
    };
    let read = bytes(report.checked_bytes);
    Ok(format!("{checked} entries checked, {read}, {found}"))
}

fn gc(store: Blocking<'_>, keep: u64, spare_minutes: u64, as_json: bool) -> Result<Exit, Failure> {
    let spare = Duration::from_secs(spare_minutes.saturating_mul(60));
    let report = store.gc_sparing(keep, spare).map_err(Failure::work)?;
    let left = report.before_bytes.saturating_sub(report.freed_bytes);
    if as_json {
        print_json(&json!({
            "before_bytes": report.before_bytes,
            "freed_bytes": report.freed_bytes,
            "evicted": report.evicted,
        }))?;
    } else {
        print_line(&format!(
            "{} entries evicted, {} freed, {} left",
            report.evicted,
            bytes(report.freed_bytes),
            bytes(left)
        ))?;
    }
    Ok(Exit::Done)
}

fn export(store: Blocking<'_>, directory: &Path) -> Result<Exit, Failure> {
    let transfer = store.export_all(directory).map_err(Failure::work)?;
    transferred(&transfer, "written")
}

fn import(store: Blocking<'_>, directory: &Path) -> Result<Exit, Failure> {
    if !directory.is_dir() {
        let told = format!("{} is no directory", directory.display());
        return Err(Failure::usage(told));
    }
    let transfer = store.import_all(directory).map_err(Failure::work)?;
    transferred(&transfer, "stored")
}

fn transferred(transfer: &Transfer, done: &str) -> Result<Exit, Failure> {
    for (path, why) in &transfer.left_out {
        say(&format!("left out {}: {why}", path.display()));
    }
    print_line(&format!(
        "{} blobs ({}) and {} results {done}",
        transfer.blobs,
        bytes(transfer.blob_bytes),
        transfer.actions
    ))?;
    match transfer.left_out.len() {
        0 => Ok(Exit::Done),
        number => Err(Failure::work(format!("{number} files were left out"))),
    }
}

/// A size for people.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_told_from_a_build_of_something_called_node() {
        let starts = |line: &str| starts_node(line.replace(' ', "\0").as_bytes());
        for line in [
            "zako node ",
            "/usr/bin/zako --cache-dir x -v node --http 127.0.0.1:0 ",
            "zako node --flag-of-another-version ",
        ] {
            assert!(starts(line), "{line}");
        }
        for line in [
            "",
            "zako run node ",
            "zako build -C node ",
            "zako -C node build ",
            "zako run //a:b -- node ",
            "zako cache put node ",
        ] {
            assert!(!starts(line), "{line}");
        }
    }

    #[test]
    fn what_is_damaged_or_dropped_is_not_called_intact() {
        let said = |report| match verdict(&report) {
            Ok(said) => (true, said),
            Err(failure) => (false, failure.text),
        };
        let intact = VerifyReport {
            checked: 7,
            ..Default::default()
        };
        assert_eq!(
            said(intact.clone()),
            (true, "7 entries checked, 0 B, all intact".into())
        );
        let links = VerifyReport {
            damaged_links: 2,
            ..intact.clone()
        };
        let (is_good, text) = said(links);
        assert!(!is_good && text.contains("2 links"), "{text}");
        let dropped = VerifyReport {
            incomplete_actions: vec![[1; 32]],
            ..intact
        };
        let (is_good, text) = said(dropped);
        assert!(is_good && text.contains("1 results were dropped"), "{text}");
        assert!(!text.contains("all intact"), "{text}");
    }
}
