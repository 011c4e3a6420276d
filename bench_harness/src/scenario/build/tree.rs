//! Generated workspaces of many targets, for zako and for ninja, and the two programs run in them.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::elapsed::{Elapsed, timed};
use crate::probe::beside;

/// Targets per build file.
const PACKAGE: u64 = 100;

/// What the targets do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// Copy a file each.
    Copy,
    /// The same, after two earlier ones each.
    Linked,
    /// Nothing, each in a shell of its own, which is what ninja starts.
    True,
}

/// A workspace.
pub struct Tree {
    root: PathBuf,
    targets: u64,
    /// Removed with this, if it is ours.
    _directory: Option<tempfile::TempDir>,
}

impl Tree {
    /// So many targets in build files of a hundred, and the same in one `build.ninja`.
    pub fn new(targets: u64, steps: Steps) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the workspace");
        let tree = Self::in_directory(directory, targets);
        tree.write(
            "zako.toml",
            "group = \"bench\"\nartifact = \"targets\"\nversion = \"1.0.0\"\n",
        );
        let mut ninja = String::from(match steps {
            Steps::Copy | Steps::Linked => "rule step\n  command = cp $in $out\n",
            Steps::True => "rule step\n  command = true $number\n",
        });
        for package in 0..targets.div_ceil(PACKAGE) {
            let mut build =
                String::from("import { target } from \"zako:build\";\nexport default {\n");
            for number in package * PACKAGE..targets.min((package + 1) * PACKAGE) {
                let _ = match steps {
                    Steps::Copy | Steps::Linked => {
                        let earlier = match steps {
                            Steps::Linked => earlier(number),
                            _ => Vec::new(),
                        };
                        let deps = earlier
                            .iter()
                            .map(|it| format!("\"//p{}:t{it}\", ", it / PACKAGE));
                        let deps: String = deps.collect();
                        let after = earlier
                            .iter()
                            .map(|it| format!(" p{}/ninja{it}.txt", it / PACKAGE));
                        let after = format!(" |{}", after.collect::<String>());
                        tree.write(&format!("p{package}/in{number}.txt"), &number.to_string());
                        let _ = writeln!(
                            ninja,
                            "build p{package}/ninja{number}.txt: step p{package}/in{number}.txt{after}"
                        );
                        writeln!(
                            build,
                            "  t{number}: target({{ cmd: [\"cp\", \"in{number}.txt\", \"out{number}.txt\"], \
                             srcs: [\"in{number}.txt\"], deps: [{deps}], outs: [\"out{number}.txt\"] }}),"
                        )
                    }
                    Steps::True => {
                        let _ = writeln!(ninja, "build n{number}: step\n  number = {number}");
                        writeln!(
                            build,
                            "  t{number}: target({{ cmd: [\"/bin/sh\", \"-c\", \"true {number}\"] }}),"
                        )
                    }
                };
            }
            tree.write(&format!("p{package}/BUILD.ts"), &(build + "};\n"));
        }
        tree.write("build.ninja", &ninja);
        tree
    }

    /// One that somebody else fills.
    pub fn in_directory(directory: tempfile::TempDir, targets: u64) -> Self {
        Self {
            root: directory.path().to_owned(),
            targets,
            _directory: Some(directory),
        }
    }

    /// One that another process has made.
    pub fn existing(root: PathBuf) -> Self {
        Self {
            root,
            targets: 0,
            _directory: None,
        }
    }

    /// Writes a file below the root, its directory included.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("the disk has room");
        fs::write(path, text).expect("the disk has room");
    }

    /// How many targets it was made with.
    pub fn targets(&self) -> u64 {
        self.targets
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where zako keeps what it built.
    pub fn cache(&self) -> PathBuf {
        self.root().join(".cache")
    }

    /// A call of the `zako` binary beside this program.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(beside("zako").expect("looked for before"));
        command
            .args(arguments)
            .current_dir(self.root())
            .env("ZAKO_CACHE_DIR", self.cache());
        command
    }

    /// The time that `zako build` takes with nothing to do, and how many targets it found up to date.
    pub fn zako_noop(&self) -> (Elapsed, u64) {
        let (elapsed, said) = run(&mut self.command(&["build"]));
        (elapsed, number_before(&said, " up to date"))
    }

    /// The time that `zako build` takes, and how many steps it ran.
    pub fn zako_cold(&self) -> (Elapsed, u64) {
        let (elapsed, said) = run(&mut self.command(&["build"]));
        (elapsed, number_before(&said, " ran"))
    }

    /// The time that `ninja` takes, and what it says.
    pub fn ninja(&self) -> (Elapsed, String) {
        run(Command::new("ninja").current_dir(self.root()))
    }

    /// The time that `ninja` takes, and how many steps it ran.
    pub fn ninja_cold(&self) -> (Elapsed, u64) {
        let (elapsed, said) = self.ninja();
        // The last of its lines begins with `[20/20]`.
        let last = said.lines().last().unwrap_or_default();
        (elapsed, number_before(last, "/"))
    }

    /// How many files ninja is asked to make, by itself.
    pub fn ninja_targets(&self) -> u64 {
        let mut command = Command::new("ninja");
        command.args(["-t", "targets", "rule", "step"]);
        let (_, said) = run(command.current_dir(self.root()));
        said.lines().count() as u64
    }
}

/// The number, with commas or without, before the last place of these words in a text; none when they are not there.
pub fn number_before(text: &str, words: &str) -> u64 {
    let Some((before, _)) = text.rsplit_once(words) else {
        return 0;
    };
    let digit = |letter: char| letter.is_ascii_digit() || letter == ',';
    let start = before.trim_end_matches(digit).len();
    before[start..].replace(',', "").parse().unwrap_or(0)
}

/// What target `number` comes after.
fn earlier(number: u64) -> Vec<u64> {
    let mut earlier = vec![number / 2, number / 3];
    earlier.dedup();
    earlier.retain(|it| *it < number);
    earlier
}

/// Whether a peer is on this machine.
pub fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A program that `cargo xtask clients` has installed with npm.
pub fn npm_client(name: &str) -> Option<PathBuf> {
    let path = node_modules().join(".bin").join(name);
    path.exists().then_some(path)
}

/// Where `cargo xtask clients` installs what comes from npm.
pub fn node_modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients/node_modules")
}

/// The time that a command takes, which must succeed, and what it says: into a file, so that nobody has to run beside it to
/// read it.
pub fn run(command: &mut Command) -> (Elapsed, String) {
    let mut said = tempfile::tempfile().expect("a file");
    let other = said.try_clone().expect("file descriptors are left");
    command.stdout(other);
    let other = said.try_clone().expect("file descriptors are left");
    command.stderr(other);
    let (elapsed, status) = timed(|| command.status().expect("it starts"));
    let mut text = String::new();
    said.rewind().expect("a file");
    said.read_to_string(&mut text).expect("text");
    assert!(status.success(), "{command:?} failed: {text}");
    (elapsed, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_understood() {
        let zako =
            "[1/2] //p0:t0  0.01 s\n12,345 targets, 1 file: 12,340 ran, 5 up to date · V8 · 1 ms\n";
        assert_eq!(number_before(zako, " ran"), 12_340);
        assert_eq!(number_before(zako, " up to date"), 5);
        assert_eq!(number_before("[20/20] true 19", "/"), 20);
        assert_eq!(
            number_before(" Tasks:    200 successful, 200 total", " total"),
            200
        );
        assert_eq!(number_before("ninja: no work to do.", " ran"), 0);
    }
}
