//! A throw-away workspace with a record of the steps that ran in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::binary::zako;
use crate::process::{Outcome, Running};

/// A workspace in a temporary directory.
///
/// Build files may say `$RAN`: a file outside the workspace to which a step appends its name, so
/// that a test sees which steps ran. (Real steps must not do such things; these are spies.)
#[derive(Debug)]
pub struct Project {
    directory: TempDir,
}

impl Default for Project {
    fn default() -> Self {
        Self::new()
    }
}

impl Project {
    /// A workspace that holds nothing but a manifest.
    ///
    /// # Panics
    /// When the temporary directory cannot be written, as every function here.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("zako-test-")
            .tempdir()
            .expect("a temporary directory");
        let project = Self { directory };
        fs::create_dir_all(project.root()).expect("a workspace");
        project.write(
            "zako.toml",
            "group = \"test\"\nartifact = \"project\"\nversion = \"1.0.0\"\n",
        );
        project
    }

    /// A workspace whose root directory has this build file.
    pub fn with_build(build_file: &str) -> Self {
        let project = Self::new();
        project.write("BUILD.ts", build_file);
        project
    }

    /// The workspace root.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("workspace")
    }

    /// The directory around the workspace, for what must not be seen as a source.
    pub fn outside(&self) -> &Path {
        self.directory.path()
    }

    /// Where the workspace's cache lies.
    pub fn cache(&self) -> PathBuf {
        self.root().join(".zako")
    }

    /// Writes a file of the workspace, its directories included.
    pub fn write(&self, path: &str, text: &str) {
        let ran = self.directory.path().join("ran");
        let text = text.replace("$RAN", &ran.to_string_lossy());
        let path = self.root().join(path);
        let directory = path.parent().expect("a file has a directory");
        fs::create_dir_all(directory).expect("a directory");
        // Whole at once: who watches never sees it empty.
        let new = self.directory.path().join("new");
        fs::write(&new, text).expect("a file");
        match fs::symlink_metadata(&path) {
            Ok(old) if old.is_file() => {
                fs::set_permissions(&new, old.permissions()).expect("permissions");
                fs::rename(new, path).expect("the same file system");
            }
            Ok(_) => drop(fs::copy(new, path).expect("a file")),
            Err(_) => fs::rename(new, path).expect("the same file system"),
        }
    }

    /// Reads a file of the workspace.
    pub fn read(&self, path: &str) -> String {
        let path = self.root().join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Whether a file of the workspace is there.
    pub fn has(&self, path: &str) -> bool {
        self.root().join(path).exists()
    }

    /// The steps that ran since the last call, sorted.
    pub fn ran(&self) -> Vec<String> {
        let path = self.directory.path().join("ran");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
        names.sort();
        // It may never have been written.
        let _ = fs::remove_file(path);
        names
    }

    /// A call of zako in the workspace root, with an environment of its own.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(zako());
        command.args(arguments);
        self.settle(&mut command);
        command
    }

    /// A shell line in which `"$ZAKO"` is the binary.
    pub fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("ZAKO", zako());
        self.settle(&mut command);
        command
    }

    fn settle(&self, command: &mut Command) {
        command
            .current_dir(self.root())
            .env("HOME", self.directory.path().join("home"))
            .env("NO_COLOR", "1")
            .env_remove("ZAKO_CACHE_DIR")
            .env_remove("RUST_LOG");
        for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
    }

    /// Runs zako to its end.
    pub fn zako(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(&mut self.command(arguments))
    }

    /// Builds and expects success.
    pub fn build(&self) -> Outcome {
        self.zako(&["build"]).succeeds()
    }

    /// Starts zako and leaves it running.
    pub fn start(&self, arguments: &[&str]) -> Running {
        Running::start(&mut self.command(arguments))
    }

    /// Checks that everything in the store is what its name says, if there is one.
    pub fn store_is_intact(&self) {
        if self.has(".zako/store/VERSION") {
            self.zako(&["cache", "verify"]).succeeds();
        }
    }
}
