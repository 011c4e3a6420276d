//! The runtime under Miri and under ThreadSanitizer.
//!
//! Owns what they need (a nightly toolchain with two components), and says so where it is missing.
//! Knows nothing of what the tests contain.
//!
//! Miri interprets the modules with unsafe code that stand by themselves, and finds whatever is undefined: pointers
//! that outlive what they point to, uninitialised memory, races on plain memory. ThreadSanitizer runs all unit tests and some of whole
//! systems on real threads; the standard library is built again for it, because it cannot see the synchronisation inside one that was
//! built without.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{Steps, output};
use crate::workspace::Workspace;

const TOOLCHAIN: &str = "+nightly";
const FLAGS: &str = "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer";
const MISSING: &str = "Miri and ThreadSanitizer need a nightly toolchain with two components:\n    \
    rustup toolchain install nightly --component miri --component rust-src";

/// What Miri interprets: the names of tests contain one of these.
const SUBJECTS: [&str; 5] = ["ring::", "payload::", "slab::", "arena::", "clock::wheel::"];

/// What runs under ThreadSanitizer beside the unit tests: whole systems.
const WHOLE: [&str; 5] = ["basics", "supervision", "scheduling", "pool", "promises"];

/// Runs the unit tests of `actor_rt` under Miri, as far as it can interpret them, and these and more under ThreadSanitizer.
///
/// # Errors
/// When the toolchain lacks something, or undefined behaviour, a race or a failing test was found.
pub fn run(workspace: &Workspace) -> Result<()> {
    let host = nightly_host()?;
    let mut steps = Steps::default();

    let mut miri = Command::new("cargo");
    miri.args([TOOLCHAIN, "miri", "test"])
        .args(["--package", "actor_rt", "--no-default-features", "--lib"])
        .arg("--")
        .args(SUBJECTS)
        .current_dir(workspace.root())
        .env("CARGO_TARGET_DIR", workspace.target().join("miri"))
        // The slabs keep what they have carved for as long as the process lives.
        .env("MIRIFLAGS", "-Zmiri-ignore-leaks");
    steps.check("unit tests in Miri", &mut miri);

    let mut tests = Command::new("cargo");
    tests
        .args([TOOLCHAIN, "test", "-Zbuild-std", "--target", &host])
        .args(["--package", "actor_rt", "--no-default-features", "--lib"])
        .args(WHOLE.iter().flat_map(|test| ["--test", test]))
        .current_dir(workspace.root())
        // A test leaves a thread behind, to see that the drop of its system does not wait for ever.
        .env("TSAN_OPTIONS", "report_thread_leaks=0")
        // A target directory of its own: the flags would otherwise rebuild everything back and forth.
        .env("CARGO_TARGET_DIR", workspace.target().join("sanitize"))
        .env("RUSTFLAGS", FLAGS);
    steps.check("tests under ThreadSanitizer", &mut tests);
    steps.verdict()
}

/// The triple that the nightly toolchain builds for, if it has all that is needed.
fn nightly_host() -> Result<String> {
    let rustc = |arguments: &[&str]| output(Command::new("rustc").arg(TOOLCHAIN).args(arguments));
    let sysroot = rustc(&["--print", "sysroot"]).context(MISSING)?;
    let sources = std::path::Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    if !sources.is_dir() {
        bail!("{MISSING}\n(the component `rust-src` is not there)");
    }
    output(Command::new("cargo").args([TOOLCHAIN, "miri", "--version"]))
        .context(format!("{MISSING}\n(the component `miri` is not there)"))?;
    let version = rustc(&["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}
