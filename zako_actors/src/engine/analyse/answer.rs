//! What rules answer: targets, questions, mistakes.
//!
//! Owns the way from an answer to targets and memory, and the texts that rules read. Does not know
//! how rules are asked.

use std::fs;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde_json::Value;

use super::facts::Question;
use super::level::Asked;
use super::{Analyser, Analysis, Known, Reading, Stage};
use crate::diagnostic::Diagnostic;
use crate::engine::hash::Hash;
use crate::engine::load::EvaluationFailure;
use crate::engine::state::{Analysed, ReadFact};
use crate::lang::described::{Described, read_described, unfinished};
use crate::lang::file_ref::FileRef;
use crate::lang::label::{Label, is_within};
use crate::lang::rule_use::RuleUse;
use crate::lang::target::Target;
use crate::texts;

impl Analyser<'_, '_> {
    /// Puts the target into a rule's mistake.
    pub(super) fn blame(&self, batch: &[Asked], failure: EvaluationFailure) -> Vec<Diagnostic> {
        let subject = failure.subject.as_deref();
        let used = batch.iter().map(|one| &one.used);
        let used = used
            .into_iter()
            .find(|used| Some(used.label.to_string().as_str()) == subject);
        let Some(used) = used else {
            return failure.diagnostics;
        };
        let label = &used.label;
        let place = format!("in rule {} for {} ({})", used.rule, used.label, used.at);
        let tell = |found: Diagnostic| {
            // A rule that ships is not the reader's to mend.
            let ships = |path: &str| path.starts_with("zako:");
            if found.location.as_ref().is_none_or(|at| ships(&at.path)) {
                let mut told =
                    self.mistake(used, None, format!("{}: {}", used.label, found.message));
                told.help = found.help.filter(|help| !help.starts_with("called from:"));
                if let Some(help) = &mut told.help
                    && let Some((advice, _)) = help.split_once("\ncalled from:")
                {
                    *help = advice.to_owned();
                }
                return told;
            }
            let help = found
                .help
                .as_ref()
                .map_or(place.clone(), |help| format!("{help}\n{place}"));
            found.with_help(help)
        };
        let found = failure.diagnostics.into_iter();
        found.map(|found| tell(found).about(label)).collect()
    }

    /// Takes one rule's answer in; gives the use back when it has new answers to go on with.
    pub(super) fn hear(
        &mut self,
        mut one: Asked,
        answer: Value,
        stages: &mut FxHashMap<Label, Stage>,
        analysis: &mut Analysis,
    ) -> Result<Option<Asked>, Box<Diagnostic>> {
        let text = self.text(&one.used.at.path);
        let described = read_described(&one.used, answer, &text, one.reads_own)
            .map_err(|mistake| Box::new(mistake.about(&one.used.label)))?;
        let is_open = |question: &String| !one.known.contains_key(question);
        if described.done && described.open.iter().any(is_open) {
            let message = format!(
                "rule {} for {} returned before its ctx.read() was answered; write `await ctx.read(...)`",
                one.used.rule, one.used.label
            );
            return Err(Box::new(self.mistake(&one.used, None, message)));
        }
        let mut waiting = Vec::new();
        let mut has_news = false;
        for question in &described.open {
            if one.known.contains_key(question) {
                continue;
            }
            let (mut read, text) = self.read(&mut one, question, &described)?;
            let turn = one.turn;
            read.turn = *one.asked.entry(question.clone()).or_insert(turn);
            match text {
                Some(text) => {
                    one.known.insert(question.clone(), text.into());
                    one.reads.push(read);
                    has_news = true;
                }
                None => waiting.extend(read.writer),
            }
        }
        if has_news {
            one.turn += 1;
            return Ok(Some(one));
        }
        let label = &one.used.label;
        let mut names: Vec<Label> = described
            .targets
            .iter()
            .map(|it| it.label.clone())
            .collect();
        if !waiting.is_empty() {
            names.push(label.clone());
        }
        let reading = Reading::of(label, names, &one.reads, &waiting);
        analysis.readings.extend(reading);
        analysis.targets.extend(described.targets.iter().cloned());
        if !described
            .open
            .iter()
            .all(|question| one.known.contains_key(question))
        {
            self.env.memory.uses.remove(label);
            analysis.targets.push(unfinished(&one.used));
            stages.insert(label.clone(), Stage::Unfinished);
            return Ok(None);
        }
        if !described.done {
            let message = format!(
                "{label}: rule {} waits for a promise that nothing will ever settle",
                one.used.rule
            );
            return Err(Box::new(self.mistake(&one.used, None, message)));
        }
        let code = self.env.memory.rules.get(one.used.file.as_str());
        let analysed = Analysed {
            key: one.key,
            code: code.map_or_else(|| Hash::of(b""), |sources| sources.digest()),
            reads: one.reads,
            targets: described.targets,
            files: described.files.clone(),
            providers: Value::Object(described.providers.clone())
                .to_string()
                .into(),
        };
        self.env.memory.uses.insert(label.clone(), analysed);
        let known = Known::new(described.files, described.providers);
        stages.insert(label.clone(), Stage::Known(Arc::new(known)));
        Ok(None)
    }

    /// Whether a rule would read the same again.
    pub(super) fn holds(&self, read: &ReadFact) -> bool {
        let fact = self.env.files.fact(&read.path);
        fact.is_ok_and(|fact| fact.hash == read.hash)
            && (read.writer.is_some() || !self.globs.is_output(&read.path))
    }

    /// The text that a rule asks for, when it can be had now.
    fn read(
        &self,
        one: &mut Asked,
        question: &str,
        described: &Described,
    ) -> Result<(ReadFact, Option<String>), Box<Diagnostic>> {
        let used = Arc::clone(&one.used);
        let used: &RuleUse = &used;
        let wrong = |message: String| Box::new(self.mistake(used, None, message));
        let Ok(Question::Read { read: path, from }) = serde_json::from_str(question) else {
            return Err(wrong(format!(
                "rule {} asks what a rule cannot ask",
                used.rule
            )));
        };
        one.reads_own |= from.as_deref() == Some("#");
        let writer = match from.as_deref() {
            None => None,
            Some("#") => Some(own_writer(described, &path).ok_or_else(|| {
                wrong(format!(
                    "rule {} reads {path}, which none of its actions writes yet",
                    used.rule
                ))
            })?),
            Some(label) => Some(Label::parse(label, "").map_err(|error| wrong(error.to_string()))?),
        };
        if writer.as_ref().is_some_and(|it| needs_test(described, it)) {
            return Err(wrong(format!(
                "rule {} for {} reads {path}, which its own test has to leave first; read it in another rule",
                used.rule, used.label
            )));
        }
        if writer.is_none() && self.globs.is_output(&path) {
            return Err(wrong(format!(
                "rule {} for {} reads {path}, which another target writes; have it depend on that target instead of naming the file",
                used.rule, used.label
            )));
        }
        let mut read = ReadFact {
            path: path.as_str().into(),
            hash: Hash::of(b""),
            writer,
            turn: 0,
        };
        if read
            .writer
            .as_ref()
            .is_some_and(|writer| !(self.env.may_read)(&used.label, writer))
        {
            return Ok((read, None));
        }
        let full = self.env.workspace.root.join(&path);
        // Before it is read: there may be no room for it.
        let size = fs::metadata(&full).map_or(0, |found| found.len());
        one.text_bytes = one.text_bytes.saturating_add(size);
        let most = self.env.evaluator.most_text_bytes();
        if one.text_bytes > most {
            let others = match one.text_bytes - size {
                0 => String::new(),
                others => format!(", after {} before it", mebibytes(others)),
            };
            let message = format!(
                "rule {} for {} reads {path} of {}{others}; what a rule reads may be {} together",
                used.rule,
                used.label,
                mebibytes(size),
                mebibytes(most)
            );
            return Err(Box::new(
                self.mistake(used, None, message).with_help(TOO_LONG),
            ));
        }
        let bytes = texts::read(&full)
            .map_err(|error| wrong(format!("rule {} reads {path}: {error}", used.rule)))?;
        read.hash = Hash::of(&bytes);
        let text = String::from_utf8(bytes).map_err(|_| {
            wrong(format!(
                "rule {} reads {path}, which is not UTF-8 text",
                used.rule
            ))
        })?;
        Ok((read, Some(text)))
    }
}

const TOO_LONG: &str = "have a step write what the rule needs of it into a file, and read that; or raise `evaluation-heap` in [settings] of zako.toml, of which a sixteenth may be read, up to 64 MiB";

/// A size for people.
fn mebibytes(bytes: u64) -> String {
    const MIB: f64 = (1 << 20) as f64;
    format!("{:.1} MiB", bytes as f64 / MIB)
}

fn own_writer(described: &Described, path: &str) -> Option<Label> {
    let of = |file: &FileRef| file.path == path || (file.directory && is_within(path, &file.path));
    described
        .targets
        .iter()
        .find(|target| FileRef::outputs_of(target).iter().any(of))
        .map(|target| target.label.clone())
}

/// Whether `writer` is or needs the rule's own test: that gets the target's label when the rule has come to its end.
fn needs_test(described: &Described, writer: &Label) -> bool {
    let mut pending = vec![writer];
    let mut left: Vec<&Target> = described.targets.iter().map(|it| &**it).collect();
    while let Some(label) = pending.pop() {
        if let Some(place) = left.iter().position(|it| it.label == *label) {
            let target = left.swap_remove(place);
            if target.is_test() {
                return true;
            }
            pending.extend(&target.deps);
        }
    }
    false
}
