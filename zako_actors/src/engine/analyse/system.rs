//! Toolchains and options: what their files say on this machine.
//!
//! Owns the conversation with such a file until it has no question left, and the memory of it.
//! Does not know what the values are used for.

use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::facts::{Fact, Machine, Question};
use super::options::{Declared, Given, Targets, settle};
use super::{Analyser, Mistaken};
use crate::diagnostic::Diagnostic;
use crate::engine::hash::{Hash, KeyWriter};
use crate::engine::load::EvaluationJob;
use crate::engine::state::SystemFile;
use crate::isolate::ContextKind;
use crate::lang::locate::{At, mistake};

/// Questions that depend on answers are put in rounds; more than this is a mistake.
const MAX_ROUNDS: usize = 32;

/// What is wrong, by file.
type MistakenFiles = FxHashMap<String, Vec<Diagnostic>>;

/// One answer of such a file.
#[derive(Deserialize)]
struct Answer {
    name: String,
    #[serde(default)]
    open: Vec<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The part of `file#name` before the mark.
pub(super) fn file_of(id: &str) -> Option<&str> {
    id.rsplit_once('#').map(|(file, _)| file)
}

impl Analyser<'_, '_> {
    /// The values of all options in `ids` and of those of `zako.toml`, and what is wrong with the files that gave none.
    pub(super) fn options(
        &mut self,
        ids: &[&str],
        given: &Given,
        targets: Targets<'_>,
    ) -> Result<(Map<String, Value>, MistakenFiles), Mistaken> {
        let manifest = Declared::of_manifest(&self.env.workspace.manifest);
        let mut declared: Vec<(String, Declared)> = manifest
            .into_iter()
            .map(|option| (option.name.clone(), option))
            .collect();
        let mut mistaken = MistakenFiles::default();
        for file in files(ids) {
            match self.declared(file) {
                Ok(options) => declared.extend(options),
                Err(Mistaken(found)) => drop(mistaken.insert(file.to_owned(), found)),
            }
        }
        let is_whole = mistaken.is_empty() && targets.gaps.is_empty();
        let settled = settle(&declared, given, targets, is_whole);
        let (settled, wrong) = settled.map_err(|error| vec![error])?;
        for (id, message) in wrong {
            let file = file_of(&id).unwrap_or(&id);
            let option = declared.iter().find(|(other, _)| *other == id);
            let default = option.and_then(|(_, option)| option.default.as_str());
            let text = self.text(file);
            let at = At::in_target(file, &text, "", default);
            let found = mistaken.entry(file.to_owned()).or_default();
            found.push(mistake(&at, message, &text));
        }
        Ok((settled, mistaken))
    }

    /// The options that `file` declares, by `file#name`.
    fn declared(&mut self, file: &str) -> Result<Vec<(String, Declared)>, Mistaken> {
        let request = json!({ "kind": "config", "file": file, "platform": platform() });
        let answers = self.converse(file, ContextKind::Config, request)?;
        let options = answers.into_iter().map(|answer| {
            let mut fields = answer.rest;
            fields.insert("name".into(), answer.name.as_str().into());
            let option = serde_json::from_value(Value::Object(fields));
            let option = option.map_err(|error| {
                vec![Diagnostic::error(format!(
                    "{file}: option {}: {error}",
                    answer.name
                ))]
            })?;
            Ok((format!("{file}#{}", answer.name), option))
        });
        options.collect()
    }

    /// The values of all toolchains in `ids`, and what is wrong with the files that gave none.
    pub(super) fn toolchains(
        &mut self,
        ids: &[&str],
        options: &Map<String, Value>,
    ) -> (Map<String, Value>, MistakenFiles) {
        let mut values = Map::new();
        let mut mistaken = MistakenFiles::default();
        for file in files(ids) {
            let request = json!({
                "kind": "toolchain", "file": file, "config": options, "platform": platform(),
            });
            let answers = match self.converse(file, ContextKind::Toolchain, request) {
                Ok(answers) => answers,
                Err(Mistaken(found)) => {
                    mistaken.insert(file.to_owned(), found);
                    continue;
                }
            };
            for mut answer in answers {
                let value = answer.rest.remove("value").unwrap_or(Value::Null);
                values.insert(format!("{file}#{}", answer.name), value);
            }
        }
        (values, mistaken)
    }

    /// Has `file` answer `request`, answering its questions; remembered.
    fn converse(
        &mut self,
        file: &str,
        kind: ContextKind,
        mut request: Value,
    ) -> Result<Vec<Answer>, Mistaken> {
        let context = self.context_of(kind);
        let key = self.key(&context, &request);
        let machine = Machine {
            files: self.env.files,
            search: self.env.search,
        };
        if let Some(known) = self.env.memory.system.get(file)
            && known.key == key
            && known.sources.is_unchanged(self.env.files)
            && known.facts.iter().all(|fact| machine.holds(fact))
            && let Ok(answers) = serde_json::from_str(&known.answers)
        {
            return Ok(answers);
        }
        let mut known = Map::new();
        let mut facts: Vec<Fact> = Vec::new();
        for _ in 0..MAX_ROUNDS {
            request["known"] = Value::Object(known.clone());
            let job = EvaluationJob {
                path: file.to_owned(),
                kind,
                context: context.clone(),
                call: Some(request.clone()),
            };
            let output = self.evaluate_one(job)?;
            let answers: Vec<Answer> = serde_json::from_value(output.value.clone())
                .map_err(|error| vec![Diagnostic::error(format!("{file}: {error}"))])?;
            let open: Vec<&String> = answers.iter().flat_map(|answer| &answer.open).collect();
            if open.iter().all(|question| known.contains_key(*question)) {
                let remembered = SystemFile {
                    key,
                    sources: output.sources(),
                    facts,
                    answers: output.value.to_string().into(),
                };
                self.env.memory.system.insert(file.into(), remembered);
                // Each round says what those before it said.
                self.env.evaluator.tell(output.logs);
                return Ok(answers);
            }
            for text in open {
                let wrong = |error: String| vec![Diagnostic::error(format!("{file}: {error}"))];
                let question: Question =
                    serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
                let (value, check) = machine.answer(&question).map_err(wrong)?;
                facts.push(Fact {
                    question: text.as_str().into(),
                    check,
                });
                known.insert(text.clone(), value);
            }
        }
        let message = format!("{file} asks one question after another without an end");
        Err(vec![Diagnostic::error(message)].into())
    }

    /// What is told to all files, as a file of this kind sees it.
    fn context_of(&self, kind: ContextKind) -> Value {
        let mut context = self.context.clone();
        context["context"] = kind.name().into();
        context
    }

    fn key(&self, context: &Value, request: &Value) -> Hash {
        KeyWriter::new("zako system file")
            .hash(&self.context_hash)
            .text(&context.to_string())
            .text(&request.to_string())
            .finish()
    }
}

/// The files of `ids`, each once, in order.
fn files<'a>(ids: &[&'a str]) -> Vec<&'a str> {
    let mut files: Vec<&str> = ids.iter().filter_map(|id| file_of(id)).collect();
    files.sort_unstable();
    files.dedup();
    files
}

/// What scripts are told about the machine without asking.
pub(super) fn platform() -> Value {
    json!({ "os": std::env::consts::OS, "arch": std::env::consts::ARCH })
}
