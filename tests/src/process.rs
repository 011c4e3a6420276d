//! Processes: what they printed, whether they still live, and certainty that they end.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

/// What a finished process left.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Outcome {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn of(command: &mut Command) -> Self {
        let output = command
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Both outputs, for looking for words wherever they are.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Expects status 0.
    ///
    /// # Panics
    /// When it failed.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert!(self.status.success(), "{}\n{}", self.status, self.text());
        self
    }

    /// Expects an orderly failure (no signal, no panic) that says all of `words`.
    ///
    /// # Panics
    /// When it succeeded, crashed, or said something else.
    #[track_caller]
    pub fn fails_saying(self, words: &[&str]) -> Self {
        let text = self.text();
        assert!(
            self.status.code().is_some_and(|code| code != 0),
            "{}\n{text}",
            self.status
        );
        assert!(!text.contains("panicked at"), "{text}");
        for word in words {
            assert!(text.contains(word), "does not say {word:?}:\n{text}");
        }
        let errors = text
            .lines()
            .filter(|line| line.starts_with("error"))
            .count();
        assert_eq!(errors, 1, "one error, not {errors}:\n{text}");
        self
    }
}

/// A process that is still running; killed at the latest when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    /// Starts a command with its standard output readable line by line.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdout = child.stdout.take().expect("standard output is a pipe");
        Self {
            child,
            stdout: BufReader::new(stdout),
        }
    }

    /// The next line of its standard output; empty at the end.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("lines of text");
        line.trim_end().to_owned()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        is_alive(&self.id().to_string())
    }

    /// Sends a signal by name: `INT`, `TERM`, `KILL`.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.id().to_string()])
            .status()
            .expect("kill is a program");
        assert!(status.success(), "cannot send {name}");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When its output cannot be read.
    pub fn wait(mut self) -> Outcome {
        let mut stdout = String::new();
        let mut stderr = String::new();
        self.stdout.read_to_string(&mut stdout).expect("text");
        let pipe = self.child.stderr.take();
        if let Some(mut pipe) = pipe {
            pipe.read_to_string(&mut stderr).expect("text");
        }
        Outcome {
            status: self.child.wait().expect("a child can be waited for"),
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has git do something in `directory`, as somebody.
///
/// # Panics
/// With what git says when it fails.
pub fn git(directory: &Path, arguments: &[&str]) {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
        .args(arguments);
    Outcome::of(&mut command).succeeds();
}

/// Whether a process is running; one that is dead and merely not reaped is not.
pub fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}
