//! Commands as build files describe them.
//!
//! Owns the meaning of the fields of `target()` and `test()`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::amount::bytes;
use super::descriptor::{Reader, present};
use super::target::{Command, EnvValue, Multiplex, Special, Uses};
use crate::diagnostic::Diagnostic;

impl Reader<'_> {
    /// Reads a command.
    pub(super) fn command(
        &self,
        fields: &Map<String, Value>,
        test: bool,
    ) -> Result<Command, Diagnostic> {
        let mut argv = self.strings(fields, "cmd")?;
        let worker = self.worker(fields, &mut argv)?;
        if argv.first().is_none_or(String::is_empty) {
            return Err(self.wrong("cmd", "a non-empty list: the program, then its arguments"));
        }
        let mut outs = Vec::new();
        for text in self.strings(fields, "outs")? {
            let output = self.output(&text)?;
            if outs.contains(&output) {
                return Err(self.mistake(Some(&text), format!("output `{text}` is listed twice")));
            }
            outs.push(output);
        }
        let env = present(fields, "env").map_or(Ok(BTreeMap::new()), |value| {
            EnvValue::read_all(value).map_err(|expected| self.wrong("env", expected))
        })?;
        Ok(Command {
            argv,
            // One worker serves all packages, so it stands in none of them.
            dir: worker.as_ref().map_or(self.file.dir, |_| "").into(),
            outs,
            env,
            special: Special {
                tools: Vec::new(),
                depfile: None,
                timeout_ms: self.milliseconds(fields, "timeoutSeconds")?,
                test_retries: if test {
                    let retries = self.number(fields, "retries")?.unwrap_or(0);
                    Some(
                        u32::try_from(retries)
                            .map_err(|_| self.wrong("retries", "a small number"))?,
                    )
                } else {
                    None
                },
                uses: self.uses(fields)?,
                network: fields.get("network") == Some(&Value::Bool(true)),
                multiplex: self.multiplex(fields, worker.is_some())?,
                worker,
            }
            .into(),
            in_place: None,
        })
    }

    /// The arguments of each request to a worker; those that `cmd` ends with, as Bazel has it, are taken
    /// from there.
    fn worker(
        &self,
        fields: &Map<String, Value>,
        argv: &mut Vec<String>,
    ) -> Result<Option<Vec<String>>, Diagnostic> {
        match present(fields, "worker") {
            None | Some(Value::Bool(false)) => Ok(None),
            Some(Value::Bool(true)) => {
                let last = argv.pop_if(|word| word.starts_with('@'));
                let last = last.ok_or_else(|| {
                    self.mistake(
                        Some("worker"),
                        "`worker: true` wants `@FILE` as the last word of `cmd`: a file with one argument a line; or \
                         write the arguments of each request, `worker: [\"-o\", \"out\"]`",
                    )
                })?;
                Ok(Some(vec![last]))
            }
            Some(_) => self.strings(fields, "worker").map(Some),
        }
    }

    /// How many requests a worker process takes at a time, and whether it can give one up.
    pub(super) fn multiplex(
        &self,
        fields: &Map<String, Value>,
        has_worker: bool,
    ) -> Result<Option<Multiplex>, Diagnostic> {
        let Some(value) = present(fields, "multiplex") else {
            return Ok(None);
        };
        if !has_worker {
            let message = "`multiplex` is for targets with `worker`: it says how many requests its process takes at a time";
            return Err(self.mistake(Some("multiplex"), message));
        }
        let requests = value.get("requests").unwrap_or(value).as_u64();
        let requests = requests.and_then(|requests| u32::try_from(requests).ok());
        let requests = requests.filter(|requests| (2..=1000).contains(requests));
        let requests = requests.ok_or_else(|| {
            self.wrong(
                "multiplex",
                "a whole number from 2 to 1000, or { requests: 8, cancel: true }",
            )
        })?;
        let cancel = value.get("cancel") == Some(&Value::Bool(true));
        Ok(Some(Multiplex { requests, cancel }))
    }

    pub(super) fn uses(&self, fields: &Map<String, Value>) -> Result<Uses, Diagnostic> {
        let mut uses = Uses::default();
        let wrong = || self.wrong("uses", "an object such as `{ cpu: 2, memory: \"1g\" }`");
        let Some(value) = present(fields, "uses") else {
            return Ok(uses);
        };
        for (name, amount) in value.as_object().ok_or_else(wrong)? {
            let number = amount
                .as_f64()
                .filter(|n| n.is_finite() && *n >= 0.0 && *n < 1e15);
            let milli = || number.map(|n| (n * 1e3) as u64).ok_or_else(wrong);
            match name.as_str() {
                "cpu" => uses.cpu_milli = milli()?,
                "memory" => {
                    let text = amount
                        .as_str()
                        .map_or_else(|| amount.to_string(), str::to_owned);
                    uses.memory_bytes = bytes(&text).ok_or_else(wrong)?;
                }
                _ => drop(uses.named_milli.insert(name.clone(), milli()?)),
            }
        }
        Ok(uses)
    }
}
