//! The runtime under ThreadSanitizer.
//!
//! Owns what it needs (a nightly toolchain with the sources of the standard library), and says so where it is missing.
//! Knows nothing of what the tests contain.
//!
//! The standard library is built again with the sanitizer: it cannot see the synchronisation inside one that was not.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{Steps, output};
use crate::workspace::Workspace;

const TOOLCHAIN: &str = "+nightly";
const FLAGS: &str = "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer";
const MISSING: &str = "ThreadSanitizer needs a nightly toolchain with the sources of the standard library:\n    \
    rustup toolchain install nightly --component rust-src";

/// Runs the unit tests of `actor_rt` under ThreadSanitizer.
///
/// # Errors
/// When the toolchain lacks something, or a race or a failing test was found.
pub fn run(workspace: &Workspace) -> Result<()> {
    let sysroot =
        output(Command::new("rustc").args([TOOLCHAIN, "--print", "sysroot"])).context(MISSING)?;
    if !Path::new(sysroot.trim())
        .join("lib/rustlib/src/rust/library")
        .is_dir()
    {
        bail!("{MISSING}");
    }
    let version = output(Command::new("rustc").args([TOOLCHAIN, "-vV"]))?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("`rustc -vV` names no host")?
        .to_owned();
    let mut steps = Steps::default();
    let mut tests = Command::new("cargo");
    tests
        .args([TOOLCHAIN, "test", "-Zbuild-std", "--target", &host])
        .args(["--package", "actor_rt", "--no-default-features", "--lib"])
        .current_dir(workspace.root())
        // A target directory of its own: the flags would otherwise rebuild everything back and forth.
        .env("CARGO_TARGET_DIR", workspace.target().join("sanitize"))
        .env("RUSTFLAGS", FLAGS);
    steps.check("unit tests under ThreadSanitizer", &mut tests);
    steps.verdict()
}
