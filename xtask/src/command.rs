//! Running other programs: as announced, timed steps, or quietly for their output.
//!
//! Owns how a step looks on the terminal. Knows nothing of what the programs do.
//! Invariant: a program that fails is reported with the line that reruns it.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Steps that were run, in order, with their wall times.
#[derive(Debug, Default)]
pub struct Steps {
    done: Vec<(String, Duration)>,
    failures: Vec<String>,
}

impl Steps {
    /// Announces and runs a step, with its output passed through.
    ///
    /// # Errors
    /// When the program cannot be started or ends with another status than 0.
    pub fn run(&mut self, title: &str, command: &mut Command) -> Result<Duration> {
        println!("\n==> {title}\n    {}", line(command));
        let begin = Instant::now();
        let status = command
            .status()
            .with_context(|| format!("{title}: cannot start `{}`", line(command)))?;
        let took = self.record(title, begin);
        if !status.success() {
            bail!("{title}: {status}; to run it again:\n    {}", line(command));
        }
        Ok(took)
    }

    /// Announces and runs a step that is a function of xtask itself.
    fn call(&mut self, title: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("\n==> {title}");
        let begin = Instant::now();
        let result = work();
        self.record(title, begin);
        result
    }

    /// Like [`Steps::run`], but a failure is kept for [`Steps::verdict`]: what follows runs too.
    pub fn check(&mut self, title: &str, command: &mut Command) {
        if let Err(error) = self.run(title, command) {
            self.failures.push(error.to_string());
        }
    }

    /// Like [`Steps::call`], with a failure kept likewise.
    pub fn check_call(&mut self, title: &str, work: impl FnOnce() -> Result<()>) {
        if let Err(error) = self.call(title, work) {
            self.failures.push(format!("{title}: {error:#}"));
        }
    }

    /// Prints the times; an error names every check that failed.
    pub fn verdict(&self) -> Result<()> {
        self.print_times();
        match self.failures.len() {
            0 => Ok(()),
            count => bail!("{count} failed\n{}", self.failures.join("\n")),
        }
    }

    fn record(&mut self, title: &str, begin: Instant) -> Duration {
        let took = begin.elapsed();
        self.done.push((title.to_owned(), took));
        took
    }

    /// Prints every step with its wall time.
    fn print_times(&self) {
        println!();
        for (title, took) in &self.done {
            println!("{:>8.1} s  {title}", took.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, took)| *took).sum();
        println!("{:>8.1} s  in all", total.as_secs_f64());
    }
}

/// The standard output of a program that must succeed. What it says beside that is shown only when
/// it fails.
pub fn output(command: &mut Command) -> Result<String> {
    let result = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    if !result.status.success() {
        let said = String::from_utf8_lossy(&result.stderr);
        bail!(
            "`{}`: {}\n{}",
            line(command),
            result.status,
            said.trim_end()
        );
    }
    String::from_utf8(result.stdout).with_context(|| format!("`{}` printed no text", line(command)))
}

/// Whether a program is there and answers with status 0. Nothing of it is shown.
pub fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether a program of that name can be started at all. Some of those that serve are on no path but root's.
pub fn exists(program: &str) -> bool {
    if Path::new("/usr/sbin").join(program).exists() {
        return true;
    }
    let started = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    !matches!(started, Err(error) if error.kind() == ErrorKind::NotFound)
}

/// The command as a line for a shell, with the variables that were set for it.
fn line(command: &Command) -> String {
    let variables = command
        .get_envs()
        .filter(|(name, _)| *name != "CARGO_TARGET_DIR")
        .filter_map(|(name, value)| Some((name, value?)))
        .map(|(name, value)| format!("{}={}", name.display(), quoted(&value.to_string_lossy())));
    let program = command.get_program().to_string_lossy();
    let program = program.rsplit('/').next().unwrap_or(&program).to_owned();
    let arguments = command
        .get_args()
        .map(|word| quoted(&word.to_string_lossy()));
    variables
        .chain(std::iter::once(program))
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_be_pasted_into_a_shell() {
        let mut command = Command::new("/opt/bin/cargo");
        command
            .args(["test", "a b", "it's"])
            .env("RUSTFLAGS", "--cfg loom");
        assert_eq!(
            line(&command),
            r"RUSTFLAGS='--cfg loom' cargo test 'a b' 'it'\''s'"
        );
    }

    #[test]
    fn a_failing_step_is_reported_with_its_line() {
        let mut steps = Steps::default();
        let mut command = Command::new("sh");
        command.args(["-c", "exit 3"]);
        let error = steps.run("three", &mut command).unwrap_err().to_string();
        assert!(error.contains("three: exit status: 3"), "{error}");
        assert!(error.contains("sh -c 'exit 3'"), "{error}");
    }

    #[test]
    fn checks_go_on_after_a_failure_and_the_verdict_names_it() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let mut steps = Steps::default();
        steps.check("first", &mut shell("exit 1"));
        steps.check("second", &mut shell("exit 0"));
        steps.check_call("third", || bail!("no"));
        assert_eq!(steps.done.len(), 3);
        let verdict = steps.verdict().unwrap_err().to_string();
        assert!(verdict.starts_with("2 failed\nfirst: "), "{verdict}");
        assert!(!verdict.contains("second") && verdict.contains("third: no"));
    }

    #[test]
    fn a_program_that_is_not_there_is_not_found() {
        assert!(!exists("no-such-program-at-all"));
        assert!(!succeeds("no-such-program-at-all", &[]));
        assert!(exists("sh"));
    }
}
