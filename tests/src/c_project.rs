//! A real project in C for compiler caches: the library zstd, whose sources every build of zako has fetched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const DIRECTORIES: [&str; 3] = ["common", "compress", "decompress"];

/// Copies the sources into a directory; the files to compile, from there.
///
/// # Panics
/// When cargo does not know the sources.
pub fn c_project(into: &Path) -> Vec<String> {
    let library = zstd().join("zstd/lib");
    let mut sources = Vec::new();
    for directory in ["", "common", "compress", "decompress"] {
        fs::create_dir_all(into.join(directory)).expect("a directory");
        let entries = fs::read_dir(library.join(directory)).expect("the sources of zstd");
        for entry in entries.flatten() {
            let name = entry.file_name().into_string().expect("a plain name");
            let is_source = name.ends_with(".c") && DIRECTORIES.contains(&directory);
            if !is_source && !name.ends_with(".h") {
                continue;
            }
            let path = Path::new(directory).join(&name);
            fs::copy(entry.path(), into.join(&path)).expect("a copy");
            if is_source {
                sources.push(path.to_str().expect("a plain path").to_owned());
            }
        }
    }
    sources.sort();
    assert!(sources.len() > 20, "{sources:?}");
    sources
}

/// Where cargo keeps the crate that brings the library.
fn zstd() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--locked"]);
    let output = command.current_dir(root).output().expect("cargo");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let zstd = packages
        .iter()
        .find(|package| package["name"] == "zstd-sys");
    let manifest = zstd.expect("zstd-sys")["manifest_path"].as_str();
    let manifest = Path::new(manifest.expect("a path"));
    manifest.parent().expect("a directory").to_owned()
}
