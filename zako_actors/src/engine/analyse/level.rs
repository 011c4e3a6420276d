//! One level of uses: none of them needs another of them.
//!
//! Owns what a rule is told about a use, the key of that, and the batches in which rules are asked.
//! Does not know the order of levels.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde_json::{Map, Value, json};

use super::{Analyser, Analysis, Known, Mistaken, Reading, Shared, Stage};
use crate::diagnostic::Diagnostic;
use crate::engine::hash::{Hash, KeyWriter};
use crate::engine::load::EvaluationJob;
use crate::engine::state::{Analysed, ReadFact};
use crate::isolate::ContextKind;
use crate::lang::described::unfinished;
use crate::lang::file_ref::FileRef;
use crate::lang::label::Label;
use crate::lang::rule_use::{Attr, AttrSource, RuleUse};
use crate::lang::target::Source;

/// Uses per evaluation: enough to make little of a runtime's start, few enough to share the work.
const BATCH: usize = 64;
/// An implementation reads one output after another; more rounds than this are a mistake.
const MAX_ROUNDS: usize = 256;

/// A use that a rule is asked about.
pub(super) struct Asked {
    pub used: Arc<RuleUse>,
    pub key: Hash,
    /// What the rule is told, as it is told.
    told: Value,
    /// Answers so far.
    pub known: Map<String, Value>,
    pub reads: Vec<ReadFact>,
    /// How many times it was told something.
    pub turn: u32,
    /// When it put which question.
    pub asked: FxHashMap<String, u32>,
    /// Whether it reads what it writes itself.
    pub reads_own: bool,
}

impl Analyser<'_, '_> {
    /// Brings every use of `level` to a stage.
    pub(super) fn level(
        &mut self,
        level: &[&Arc<RuleUse>],
        shared: &Shared,
        stages: &mut FxHashMap<Label, Stage>,
        analysis: &mut Analysis,
    ) -> Result<(), Mistaken> {
        let mut mistakes = Vec::new();
        let mut asked = Vec::new();
        for used in level {
            let told = match self.env.mistaken.contains(&used.label) {
                true => {
                    analysis.readings.push(Reading::given_up(&used.label));
                    Ok(None)
                }
                false => self.tell(used, shared, stages),
            };
            match told {
                Err(found) => mistakes.extend(found.0),
                Ok(None) => {
                    analysis.targets.push(unfinished(used));
                    stages.insert(used.label.clone(), Stage::Unfinished);
                }
                Ok(Some(one)) => match self.remembered(&one) {
                    Some(known) => self.take(&known, used, stages, analysis),
                    None => asked.push(one),
                },
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes.into());
        }
        let mut rounds = 0;
        while !asked.is_empty() {
            rounds += 1;
            if rounds > MAX_ROUNDS {
                let used = &asked[0].used;
                let message = format!(
                    "rule {} reads one file after another without an end",
                    used.rule
                );
                return Err(vec![self.mistake(used, None, message)].into());
            }
            asked = self.ask(asked, shared, stages, analysis)?;
        }
        Ok(())
    }

    fn remembered(&self, asked: &Asked) -> Option<Analysed> {
        let known = self.env.memory.uses.get(&asked.used.label)?;
        let sources = self.env.memory.rules.get(asked.used.file.as_str())?;
        let unchanged = known.key == asked.key
            && known.code == sources.digest()
            && sources.is_unchanged(self.env.files)
            && known.reads.iter().all(|read| self.holds(read));
        unchanged.then(|| known.clone())
    }

    fn take(
        &self,
        known: &Analysed,
        used: &RuleUse,
        stages: &mut FxHashMap<Label, Stage>,
        analysis: &mut Analysis,
    ) {
        analysis.targets.extend(known.targets.iter().cloned());
        let described = known.targets.iter().map(|target| target.label.clone());
        let reading = Reading::of(&used.label, described.collect(), &known.reads, &[]);
        analysis.readings.extend(reading);
        let providers = serde_json::from_str(&known.providers).unwrap_or_default();
        let known = Known::new(known.files.clone(), providers);
        stages.insert(used.label.clone(), Stage::Known(Arc::new(known)));
    }

    /// What the rule of `used` has to be told; `None` when a dependency is unfinished.
    fn tell(
        &mut self,
        used: &Arc<RuleUse>,
        shared: &Shared,
        stages: &FxHashMap<Label, Stage>,
    ) -> Result<Option<Asked>, Mistaken> {
        let mut key = KeyWriter::new("zako use");
        key.hash(&self.context_hash);
        key.text(&used.label.to_string())
            .text(&used.file)
            .text(&used.rule);
        for (ids, values) in [
            (&used.config, &shared.options),
            (&used.toolchains, &shared.toolchains),
        ] {
            for id in ids {
                key.text(id)
                    .text(&values.get(id).unwrap_or(&Value::Null).to_string());
            }
        }
        let mut attrs = Map::new();
        for (name, attr) in &used.attrs {
            key.text(name);
            let told = match attr {
                Attr::Plain(json) => {
                    key.text(json);
                    serde_json::from_str(json).unwrap_or(Value::Null)
                }
                Attr::Sources { items, one } => {
                    let Some(files) = self.files_of(used, items, shared, stages, &mut key)? else {
                        return Ok(None);
                    };
                    if *one && files.len() != 1 {
                        let message = format!(
                            "`{name}` of {} is {} files; it must be one",
                            used.label,
                            files.len()
                        );
                        return Err(vec![self.mistake(used, None, message)].into());
                    }
                    json!({ "$files": files, "one": one })
                }
                Attr::Deps {
                    labels,
                    one,
                    provides,
                } => {
                    let mut deps = Vec::new();
                    for label in labels {
                        let Some(known) = self.known(used, label, shared, stages)? else {
                            return Ok(None);
                        };
                        key.text(&label.to_string()).hash(&known.result);
                        if let Some(lacking) = provides
                            .iter()
                            .find(|id| !known.providers.contains_key(*id))
                        {
                            return Err(vec![self.lacks(used, name, label, lacking)].into());
                        }
                        let files: Vec<Value> = known.files.iter().map(FileRef::to_json).collect();
                        deps.push(json!({
                            "label": label.to_string(), "files": files, "providers": known.providers,
                        }));
                    }
                    json!({ "$deps": deps, "one": one })
                }
            };
            attrs.insert(name.clone(), told);
        }
        let told = json!({
            "label": used.label.to_string(), "dir": used.label.dir(), "name": used.label.name(), "attrs": attrs,
        });
        Ok(Some(Asked {
            used: Arc::clone(used),
            key: key.finish(),
            told,
            known: Map::new(),
            reads: Vec::new(),
            turn: 0,
            asked: FxHashMap::default(),
            reads_own: false,
        }))
    }

    fn files_of(
        &mut self,
        used: &RuleUse,
        items: &[AttrSource],
        shared: &Shared,
        stages: &FxHashMap<Label, Stage>,
        key: &mut KeyWriter,
    ) -> Result<Option<Vec<Value>>, Mistaken> {
        let mut files = Vec::new();
        for item in items {
            match item {
                AttrSource::Source(Source::File(path)) => {
                    key.text(path);
                    files.push(json!({ "$file": path }));
                }
                AttrSource::Source(Source::Glob {
                    dir,
                    include,
                    exclude,
                }) => {
                    let glob = (dir.clone(), include.clone(), exclude.clone());
                    let found = self.globs.expand(glob, self.env.dirs, self.env.wrote);
                    let found = found.map_err(|error| {
                        vec![self.mistake(used, None, format!("{}: {error}", used.label))]
                    })?;
                    if found.is_empty() {
                        let shown: Vec<&str> = include.iter().map(|p| p.as_str()).collect();
                        let message = format!(
                            "glob \"{}\" of {} matches no file in //{dir}; correct it or remove it",
                            shown.join("\", \""),
                            used.label
                        );
                        return Err(
                            vec![self.mistake(used, shown.first().copied(), message)].into()
                        );
                    }
                    key.texts(found.iter().map(String::as_str));
                    files.extend(found.iter().map(|path| json!({ "$file": path })));
                }
                AttrSource::Target(label) => {
                    let Some(known) = self.known(used, label, shared, stages)? else {
                        return Ok(None);
                    };
                    key.text(&label.to_string()).hash(&known.result);
                    files.extend(known.files.iter().map(FileRef::to_json));
                }
            }
        }
        Ok(Some(files))
    }

    fn known(
        &self,
        used: &RuleUse,
        label: &Label,
        shared: &Shared,
        stages: &FxHashMap<Label, Stage>,
    ) -> Result<Option<Arc<Known>>, Mistaken> {
        match (stages.get(label), shared.plain.get(label)) {
            (Some(Stage::Known(known)), _) => Ok(Some(Arc::clone(known))),
            (Some(Stage::Unfinished), _) => Ok(None),
            (None, Some(target)) => {
                let files = FileRef::outputs_of(target);
                Ok(Some(Arc::new(Known::new(files, Map::new()))))
            }
            (None, None) => {
                let names = shared.uses.iter().chain(shared.plain.keys());
                let names = names.map(ToString::to_string);
                let names: Vec<String> = names.collect();
                Err(vec![self.unknown(used, label, &names)].into())
            }
        }
    }

    fn lacks(&self, used: &RuleUse, attr: &str, dep: &Label, provider: &str) -> Diagnostic {
        let name = provider.rsplit('#').next().unwrap_or(provider);
        let message = format!(
            "{dep} does not provide {name}, which `{attr}` of {} needs; name a target whose rule provides it",
            used.label
        );
        self.mistake(used, Some(&format!(":{}", dep.name())), message)
    }

    /// Asks the rules, and keeps what is finished; returns what has new answers to go on with.
    fn ask(
        &mut self,
        asked: Vec<Asked>,
        shared: &Shared,
        stages: &mut FxHashMap<Label, Stage>,
        analysis: &mut Analysis,
    ) -> Result<Vec<Asked>, Mistaken> {
        let mut by_rule: BTreeMap<(String, String), Vec<Asked>> = BTreeMap::new();
        for one in asked {
            let rule = (one.used.file.clone(), one.used.rule.clone());
            by_rule.entry(rule).or_default().push(one);
        }
        let mut batches: Vec<Vec<Asked>> = Vec::new();
        for (_, mut uses) in by_rule {
            while !uses.is_empty() {
                let rest = uses.split_off(uses.len().min(BATCH));
                batches.push(std::mem::replace(&mut uses, rest));
            }
        }
        let jobs: Vec<EvaluationJob> = batches
            .iter()
            .map(|batch| self.job(batch, shared))
            .collect();
        analysis.evaluated += jobs.len();
        let mut mistakes = Vec::new();
        let mut again = Vec::new();
        for (batch, answer) in batches.into_iter().zip(self.env.evaluator.evaluate(jobs)) {
            match answer {
                Err(mut failure) => {
                    self.env.evaluator.tell(std::mem::take(&mut failure.logs));
                    mistakes.extend(self.blame(&batch, failure));
                }
                Ok(mut output) => {
                    self.env.evaluator.tell(std::mem::take(&mut output.logs));
                    let sources = output.sources();
                    self.env
                        .memory
                        .rules
                        .insert(batch[0].used.file.as_str().into(), sources);
                    let Value::Array(answers) = output.value else {
                        return Err(vec![Diagnostic::error("a rule did not answer")].into());
                    };
                    for (one, answer) in batch.into_iter().zip(answers) {
                        match self.hear(one, answer, stages, analysis) {
                            Ok(more) => again.extend(more),
                            Err(mistake) => mistakes.push(*mistake),
                        }
                    }
                }
            }
        }
        if mistakes.is_empty() {
            Ok(again)
        } else {
            mistakes.dedup();
            Err(mistakes.into())
        }
    }

    fn job(&self, batch: &[Asked], shared: &Shared) -> EvaluationJob {
        let used = &batch[0].used;
        let pick = |ids: &[String], values: &Map<String, Value>| -> Map<String, Value> {
            let pairs = ids
                .iter()
                .filter_map(|id| Some((id.clone(), values.get(id)?.clone())));
            pairs.collect()
        };
        let targets: Vec<Value> = batch
            .iter()
            .map(|one| {
                let mut told = one.told.clone();
                told["known"] = Value::Object(one.known.clone());
                told
            })
            .collect();
        EvaluationJob {
            path: used.file.clone(),
            kind: ContextKind::Rule,
            context: self.context.clone(),
            call: Some(json!({
                "kind": "rule", "file": used.file, "rule": used.rule, "targets": targets,
                "config": pick(&used.config, &shared.options),
                "toolchains": pick(&used.toolchains, &shared.toolchains),
            })),
        }
    }
}
