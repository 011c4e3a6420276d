//! Where things are: the checkout, cargo's target directory, the tracked files, the lock file.
//!
//! Owns every path that xtask derives. Knows nothing of what is done with them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

/// The checkout that this xtask belongs to.
#[derive(Debug)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Finds the checkout from where cargo put this program's sources and the target directory
    /// from where cargo put this program.
    pub fn locate() -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest
            .parent()
            .context("xtask lies directly under the workspace root")?
            .to_path_buf();
        let program = std::env::current_exe().context("cannot see where xtask itself lies")?;
        // <target>/<profile>/xtask, or <target>/<profile>/deps/xtask-<hash> under `cargo test`.
        let target = program
            .ancestors()
            .find(|place| place.ends_with("debug") || place.ends_with("release"))
            .and_then(Path::parent)
            .with_context(|| {
                format!(
                    "no target directory in {}; start it with `cargo xtask`",
                    program.display()
                )
            })?
            .to_path_buf();
        Ok(Self { root, target })
    }

    /// The directory of the workspace's `Cargo.toml`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's target directory.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Where cargo puts the `zako` binary of a profile (`debug` or `release`).
    pub fn zako(&self, profile: &str) -> PathBuf {
        let name = format!("zako{}", std::env::consts::EXE_SUFFIX);
        self.target.join(profile).join(name)
    }

    /// A `cargo` call in the workspace root, building into the same target directory.
    pub fn cargo(&self, arguments: &[&str]) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args(arguments)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// The version of a package in `Cargo.lock`.
    pub fn locked_version(&self, package: &str) -> Result<String> {
        let path = self.root.join("Cargo.lock");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        match version_in_lock(&text, package) {
            Some(version) => Ok(version),
            None => bail!("{} holds no package `{package}`", path.display()),
        }
    }

    /// The paths that git tracks or would track, relative to the root.
    pub fn files(&self) -> Result<Vec<String>> {
        let mut git = Command::new("git");
        git.args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(&self.root);
        let listing = command::output(&mut git).context("tidy reads the file list from git")?;
        let mut files: Vec<String> = listing.lines().map(str::to_owned).collect();
        // A file deleted but not yet committed is still listed.
        files.retain(|file| self.root.join(file).is_file());
        files.sort();
        files.dedup();
        Ok(files)
    }
}

fn version_in_lock(lock: &str, package: &str) -> Option<String> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    lines.next()?;
    let version = lines.next()?.strip_prefix("version = \"")?;
    version.strip_suffix('"').map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_answers_with_the_exact_package() {
        let lock = "[[package]]\nname = \"deno_v8\"\nversion = \"0.5.0\"\n\n\
                    [[package]]\nname = \"v8\"\nversion = \"150.4.0\"\n";
        assert_eq!(version_in_lock(lock, "v8").as_deref(), Some("150.4.0"));
        assert_eq!(version_in_lock(lock, "v9"), None);
    }

    #[test]
    fn the_checkout_is_found() {
        let workspace = Workspace::locate().unwrap();
        assert!(workspace.root().join("Cargo.lock").is_file());
        assert!(
            workspace
                .files()
                .unwrap()
                .contains(&"Cargo.toml".to_owned())
        );
    }
}
