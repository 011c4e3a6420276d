//! Why a step failed, in words that let a person mend it.
//!
//! Owns the wording and the command line to rerun. Does not print.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use super::claims::Clash;
use super::log::shorten;
use crate::diagnostic::Diagnostic;
use crate::engine::action::ActionError;
use crate::engine::cancel::CancelReason;
use crate::engine::outputs::OutputError;
use crate::engine::scratch::ScratchError;
use crate::lang::target::Target;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepFailure {
    /// The action could not be described.
    #[error(transparent)]
    Action(#[from] ActionError),
    /// The scratch directory could not be made.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// The outputs are not what was declared, or could not be put in place.
    #[error(transparent)]
    Outputs(#[from] OutputError),
    /// The command succeeded, but what it left is not what was declared, or could not be stored.
    #[error("{source}")]
    Left {
        /// What is wrong with it.
        source: Box<OutputError>,
        /// What the command printed.
        output: String,
    },
    /// Another target writes the same file.
    #[error(transparent)]
    Clash(Clash),
    /// The program could not be started.
    #[error("cannot start {program}: {source}{}", start_hint(source))]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A file of arguments for a worker cannot be read.
    #[error(
        "cannot read its arguments from @{path}: {source}; name an input, from the workspace root"
    )]
    ArgumentFile {
        /// As written, without `@`.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The command ran and failed.
    #[error("{}", .0.how)]
    Command(Box<CommandFailure>),
    /// It failed in the round before, and nothing that it reads has changed since.
    #[error("it failed before, and was not tried again: no file that it reads has changed since")]
    Before,
    /// `warn` without a tracer.
    #[error(
        "--sandbox warn looks at what commands read through `strace`, which is not on PATH; install it, or use --sandbox strict"
    )]
    NoTracer,
    /// It was run again and left something else.
    #[error("it does not always leave the same: {0}")]
    NotDeterministic(String),
    /// What two runs left could not be compared.
    #[error("cannot compare what two runs left: {0}")]
    Compare(io::Error),
    /// A transpiler gave no answer.
    #[error("a transpiler gave no answer: {0}; this is a mistake in zako, please report it")]
    Transpiler(String),
    /// Sources with mistakes.
    #[error("{} in its sources", if .0.len() == 1 { "a mistake".into() } else { format!("{} mistakes", .0.len()) })]
    Sources(Vec<Diagnostic>),
    /// The build came to its end before it began.
    #[error("it was not begun")]
    NotBegun,
    /// The build was stopped.
    #[error("{0}")]
    Cancelled(CancelReason),
    /// The step died without an answer.
    #[error("the step died without an answer; this is a mistake in zako, please report it")]
    Lost,
}

/// What to do about a program that does not start.
fn start_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; make it executable: chmod +x",
        io::ErrorKind::NotFound => {
            "; its first line, `#!…`, names a program that is not there, or its loader is missing"
        }
        io::ErrorKind::ArgumentListTooLong => "; hand the list over in a file",
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            "; it is no program for this machine, or a script without a first line `#!…`"
        }
        _ => "",
    }
}

/// A command that ran and failed.
#[derive(Debug)]
pub struct CommandFailure {
    /// `exit status 2`, `killed after 5 s (its timeout)`.
    pub how: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// What it printed, after what the tries before it did.
    pub output: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Its working directory, when it was kept.
    pub kept: Option<PathBuf>,
}

impl StepFailure {
    /// The whole text for a person: one line that names target and reason, then the details.
    pub fn explain(&self, target: &Target) -> String {
        let label = &target.label;
        let mut text = format!("error: {label} failed: {self}");
        match self {
            Self::Command(failure) => {
                let _ = write!(text, "\n  command: {}", shell_line(&failure.argv));
                if failure.output.trim().is_empty() {
                    text.push_str("\n  it printed nothing");
                } else {
                    let _ = write!(text, "\n  output:\n{}", indent(&shorten(&failure.output)));
                }
                match &failure.kept {
                    Some(dir) => {
                        let env = failure
                            .env
                            .iter()
                            .map(|(name, value)| quote(&format!("{name}={value}")));
                        let env: Vec<String> = env.collect();
                        let _ = write!(
                            text,
                            "\n  rerun it: cd {} && env -i {} {}",
                            quote(&dir.display().to_string()),
                            env.join(" "),
                            shell_line(&failure.argv)
                        );
                    }
                    None => {
                        let verb = if target.is_test() { "test" } else { "build" };
                        let _ = write!(
                            text,
                            "\n  rerun it: zako {verb} {label}    (--keep-scratch leaves its directory for a look)"
                        );
                    }
                }
            }
            Self::Left { output, .. } if !output.trim().is_empty() => {
                let _ = write!(text, "\n  output:\n{}", indent(&shorten(output)));
            }
            Self::Sources(diagnostics) => {
                for diagnostic in diagnostics {
                    // One "error:" per failure: the rest is detail of it.
                    let _ = write!(text, "\n{}", indent(&diagnostic.to_string()));
                }
            }
            _ => {}
        }
        text
    }
}

/// A command line that a shell reads back as `argv`.
pub fn shell_line(argv: &[String]) -> String {
    let words: Vec<String> = argv.iter().map(|word| quote(word)).collect();
    words.join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./:=+,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn indent(text: &str) -> String {
    let lines: Vec<String> = text
        .trim_end()
        .lines()
        .map(|line| format!("    {line}"))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::graph::tests::targets;

    #[test]
    fn a_failed_command_can_be_run_again_from_what_is_printed() {
        let failure = StepFailure::Command(Box::new(CommandFailure {
            how: "exit status 2".into(),
            argv: ["cc", "-DX=\"a b\"", "it's.c"].map(str::to_owned).to_vec(),
            env: BTreeMap::from([("A".to_owned(), "1 2".to_owned())]),
            output: "it's.c:1: no\n".into(),
            attempts: 1,
            kept: Some("/s/work".into()),
        }));
        let target = targets(&[("//a:x", &[], &[])]).remove(0);
        let text = failure.explain(&target);
        assert_eq!(
            text,
            "error: //a:x failed: exit status 2\n  command: cc '-DX=\"a b\"' 'it'\\''s.c'\n  output:\n    it's.c:1: no\n  \
             rerun it: cd /s/work && env -i 'A=1 2' cc '-DX=\"a b\"' 'it'\\''s.c'"
        );
    }
}
