//! The `zako` binary under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The binary: the one that `ZAKO_BIN` names, otherwise freshly built by cargo.
///
/// # Panics
/// When it is not there or cannot be built.
pub fn zako() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let binary = match std::env::var_os("ZAKO_BIN") {
            Some(path) => PathBuf::from(path),
            None => build(),
        };
        assert!(binary.is_file(), "no zako at {}", binary.display());
        binary
    })
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let status = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--package",
            "zako_actors",
            "--bin",
            "zako",
        ])
        .current_dir(root)
        .status()
        .expect("cargo can be started");
    assert!(status.success(), "cargo cannot build zako: {status}");
    // <target>/debug/deps/<this test>-<hash>
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("tests lie two directories deep");
    profile.join(format!("zako{}", std::env::consts::EXE_SUFFIX))
}
