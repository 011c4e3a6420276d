//! What scripts ask about the machine, and the answers.
//!
//! Owns the questions of toolchains and options: variables, programs, what a program says about
//! itself. Does not know who asks.
//! Invariant: every answer comes with a hash by which a later process sees whether it still holds,
//! without asking a program again.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::engine::action::find_program;
use crate::engine::files::FileTable;
use crate::engine::hash::{Hash, KeyWriter};
use crate::engine::process::ends_before;

/// A program that says something about itself has this long.
const PATIENCE: Duration = Duration::from_secs(10);
/// And may say this much.
const MAX_OUTPUT_BYTES: u64 = 1 << 20;

/// A question as scripts put it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Question {
    /// The value of a variable.
    Env {
        /// Its name.
        env: String,
    },
    /// The first of some programs.
    Which {
        /// Names or absolute paths.
        which: Vec<String>,
    },
    /// What a program prints.
    Output {
        /// Absolute path and arguments.
        output: Vec<String>,
    },
    /// The text of a file.
    Read {
        /// Workspace-relative.
        read: String,
        /// Its writer: a label, `#` for an action of the target that asks; none for a source.
        from: Option<String>,
    },
}

/// An answered question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// The question as JSON.
    pub question: Box<str>,
    /// Changes when the answer may.
    pub check: Hash,
}

/// Looks at the machine.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    /// Stat cache.
    pub files: &'a FileTable,
    /// PATH.
    pub search: &'a str,
}

impl Machine<'_> {
    /// Whether a remembered answer still holds.
    pub fn holds(&self, fact: &Fact) -> bool {
        serde_json::from_str(&fact.question)
            .is_ok_and(|question| self.check(&question) == Some(fact.check))
    }

    /// The answer to `question`, as JSON, with the hash to remember.
    ///
    /// # Errors
    /// When a program cannot be asked.
    pub fn answer(&self, question: &Question) -> Result<(Value, Hash), String> {
        let check = self
            .check(question)
            .ok_or_else(|| "this can be asked by a rule only".to_owned())?;
        let value = match question {
            Question::Env { env } => variable(env).map_or(Value::Null, Value::from),
            Question::Which { which } => self.which(which).map_or(
                Value::Null,
                |(path, hash)| json!({ "$tool": path, "digest": hash.to_string() }),
            ),
            Question::Output { output } => Value::from(self.ask(output)?),
            Question::Read { .. } => Value::Null,
        };
        Ok((value, check))
    }

    fn check(&self, question: &Question) -> Option<Hash> {
        let mut key = KeyWriter::new("zako fact");
        match question {
            Question::Env { env } => match variable(env) {
                Some(value) => key.number(1).text(&value),
                None => key.number(0),
            },
            Question::Which { which } => match self.which(which) {
                Some((path, hash)) => key.text(&path).hash(&hash),
                None => key.number(0),
            },
            // The same program says the same.
            Question::Output { output } => {
                match output.first().map(|program| self.files.fact(program)) {
                    Some(Ok(fact)) => key.hash(&fact.hash),
                    _ => key.number(0),
                }
            }
            Question::Read { .. } => return None,
        };
        Some(key.finish())
    }

    fn which(&self, names: &[String]) -> Option<(String, Hash)> {
        names.iter().find_map(|name| {
            let path = find_program(name, self.search)?.to_str()?.to_owned();
            let fact = self.files.fact(&path).ok()?;
            Some((path, fact.hash))
        })
    }

    fn ask(&self, argv: &[String]) -> Result<String, String> {
        let [program, arguments @ ..] = argv else {
            return Err("no program was named".into());
        };
        let wrong = |what: String| format!("`{}` {what}", argv.join(" "));
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", self.search)
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| wrong(format!("cannot be started: {error}")))?;
        let pipe = child.stdout.take();
        let reader = thread::spawn(move || {
            let mut bytes = Vec::new();
            let read = pipe.map(|pipe| pipe.take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes));
            read.transpose().map(|_| bytes)
        });
        let ended = ends_before(&child, Instant::now() + PATIENCE);
        if !matches!(ended, Ok(true)) {
            // It may have ended meanwhile.
            drop(child.kill());
        }
        let status = child.wait();
        let status = match ended {
            Ok(true) => status.map_err(|error| wrong(format!("cannot be waited for: {error}")))?,
            Ok(false) => return Err(wrong(format!("did not end within {PATIENCE:?}"))),
            Err(error) => return Err(wrong(format!("cannot be watched: {error}"))),
        };
        if !status.success() {
            return Err(wrong(format!("ended with {status}")));
        }
        match reader.join() {
            Ok(Ok(bytes)) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            _ => Err(wrong("could not be read".into())),
        }
    }
}

fn variable(name: &str) -> Option<String> {
    let valid = !name.is_empty() && !name.contains(['=', '\0']);
    valid.then(|| std::env::var(name).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::files::SavedFiles;

    #[test]
    fn questions_are_answered_and_the_answers_hold() {
        let dir = tempfile::tempdir().unwrap();
        let files = FileTable::new(dir.path().into(), SavedFiles::default());
        let machine = Machine {
            files: &files,
            search: "/usr/bin:/bin",
        };
        let ask = |text: &str| {
            machine
                .answer(&serde_json::from_str(text).unwrap())
                .unwrap()
        };
        let (tool, check) = ask(r#"{"which": ["no-such-program", "sh"]}"#);
        assert!(tool["$tool"].as_str().unwrap().ends_with("/sh"));
        assert!(machine.holds(&Fact {
            question: r#"{"which": ["no-such-program", "sh"]}"#.into(),
            check
        }));
        assert_eq!(ask(r#"{"which": ["no-such-program"]}"#).0, Value::Null);
        assert_eq!(ask(r#"{"env": "ZAKO_NO_SUCH_VARIABLE"}"#).0, Value::Null);
        let echo = tool["$tool"].as_str().unwrap();
        let said = ask(&json!({ "output": [echo, "-c", "echo hello"] }).to_string()).0;
        assert_eq!(said, "hello\n");
        let failing = Question::Output {
            output: vec![echo.into(), "-c".into(), "exit 3".into()],
        };
        assert!(
            machine
                .answer(&failing)
                .unwrap_err()
                .contains("exit status: 3")
        );
    }
}
