//! One level of uses: none of them needs another of them.
//!
//! Owns what a rule is told about a use, the key of that, and the batches in which rules are asked.
//! Does not know the order of levels.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde_json::{Map, Value, json};

use super::system::file_of;
use super::{Analyser, Analysis, Known, Mistaken, Reading, Shared, Stage, give_up};
use crate::diagnostic::Diagnostic;
use crate::engine::hash::{Hash, KeyWriter};
use crate::engine::load::EvaluationJob;
use crate::engine::state::{Analysed, ReadFact};
use crate::isolate::ContextKind;
use crate::lang::described::unfinished;
use crate::lang::file_ref::FileRef;
use crate::lang::label::{DirName, Label};
use crate::lang::rule_use::{Attr, AttrSource, RuleUse};
use crate::lang::target::{Source, Work};

/// Uses per evaluation: enough to make little of a runtime's start, few enough to share the work.
const BATCH: usize = 64;
/// An implementation reads one file after another; more rounds than this are a mistake.
const MAX_ROUNDS: u32 = 250;
/// A rule that failed for so many targets of a level is not asked about others.
const MAX_FAILURES: usize = 64;

/// A use that a rule is asked about.
pub(super) struct Asked {
    pub used: Arc<RuleUse>,
    pub key: Hash,
    /// What the rule is told, as it is told.
    told: Value,
    /// Answers so far.
    pub known: Map<String, Value>,
    pub reads: Vec<ReadFact>,
    /// How long they are together.
    pub text_bytes: u64,
    /// How many times it was told something.
    pub turn: u32,
    /// When it put which question.
    pub asked: FxHashMap<String, u32>,
    /// Whether it reads what it writes itself.
    pub reads_own: bool,
}

/// What tells rules from each other.
fn rule_of(used: &RuleUse) -> (String, String) {
    (used.file.clone(), used.rule.clone())
}

/// Why a rule is not asked any more, and what to do if that is its own mistake.
fn why_not(
    one: &Asked,
    failures: &FxHashMap<(String, String), usize>,
) -> Option<(String, Option<&'static str>)> {
    let RuleUse { rule, label, .. } = &*one.used;
    if one.turn > MAX_ROUNDS {
        let message = format!(
            "rule {rule} for {label} reads one file after another, and has done so {MAX_ROUNDS} times"
        );
        return Some((message, Some(ONE_AFTER_ANOTHER)));
    }
    let failures = failures.get(&rule_of(&one.used)).copied().unwrap_or(0);
    (failures >= MAX_FAILURES).then(|| {
        let message = format!(
            "rule {rule} was not asked about {label}: it failed for too many others, or was stopped"
        );
        (message, None)
    })
}

const ONE_AFTER_ANOTHER: &str = "look for a loop without an end around `ctx.read`; many files that do not depend on one another are read together: `await ctx.all(files.map((file) => ctx.read(file)))`";

/// Uses that one evaluation is for: no more than it can be told about. A use alone was never told more.
fn batches_of(uses: Vec<Asked>, most_text_bytes: u64) -> Vec<Vec<Asked>> {
    let mut batches: Vec<Vec<Asked>> = Vec::new();
    let mut text_bytes = 0_u64;
    for one in uses {
        text_bytes = text_bytes.saturating_add(one.text_bytes);
        match batches.last_mut() {
            Some(last) if last.len() < BATCH && text_bytes <= most_text_bytes => last.push(one),
            _ => {
                text_bytes = one.text_bytes;
                batches.push(vec![one]);
            }
        }
    }
    batches
}

/// What is wrong with the options and toolchains of `used`: a toolchain may fail for want of an option.
fn mistake_of_system(used: &RuleUse, shared: &Shared) -> Option<Vec<Diagnostic>> {
    let ids = used.config.iter().chain(&used.toolchains);
    let files = ids.filter_map(|id| file_of(id));
    files
        .filter_map(|file| shared.mistaken.get(file))
        .next()
        .cloned()
}

/// Whether `used` needs something that cannot be read.
fn needs_broken(used: &RuleUse, shared: &Shared) -> bool {
    let is_broken = |dep: &Label| match shared.plain.get(dep) {
        Some(target) => matches!(target.work, Work::Unfinished { .. }),
        None => !shared.uses.contains(dep) && shared.gaps.of(dep.dir()).next().is_some(),
    };
    used.deps().into_iter().any(is_broken)
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
        let mut asked = Vec::new();
        for used in level {
            let unknown = || Some(vec![self.unknown(used, shared)?]);
            let found = mistake_of_system(used, shared).or_else(unknown);
            let told = match found {
                _ if self.env.mistaken.contains(&used.label) => Err(Vec::new().into()),
                Some(found) => Err(found.into()),
                None if needs_broken(used, shared) => Err(Vec::new().into()),
                None => self.tell(used, shared, stages),
            };
            match told {
                Err(Mistaken(found)) => give_up(used, found, stages, analysis),
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
        let mut failures = FxHashMap::default();
        while !asked.is_empty() {
            asked.retain(|one| {
                let found = why_not(one, &failures);
                let found = found.map(|(message, help)| {
                    let found = self.mistake(&one.used, None, message);
                    match help {
                        Some(help) => found.with_help(help),
                        None => found,
                    }
                });
                let may_be = found.is_none();
                if let Some(found) = found {
                    give_up(&one.used, vec![found], stages, analysis);
                }
                may_be
            });
            asked = self.ask(asked, shared, stages, analysis, &mut failures)?;
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
                        let Some(known) = Self::known(label, shared, stages) else {
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
            text_bytes: 0,
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
                    ..
                }) => {
                    let glob = (dir.to_string(), include.clone(), exclude.clone());
                    let found = self.globs.expand(glob, self.env.dirs, self.env.wrote);
                    let found = found.map_err(|error| {
                        vec![self.mistake(used, None, format!("{}: {error}", used.label))]
                    })?;
                    if found.is_empty() {
                        let shown: Vec<&str> = include.iter().map(|p| p.as_str()).collect();
                        let message = format!(
                            "glob \"{}\" of {} matches no file in {}; correct it or remove it",
                            shown.join("\", \""),
                            used.label,
                            DirName(dir)
                        );
                        return Err(
                            vec![self.mistake(used, shown.first().copied(), message)].into()
                        );
                    }
                    key.texts(found.iter().map(String::as_str));
                    files.extend(found.iter().map(|path| json!({ "$file": path })));
                }
                AttrSource::Target(label) => {
                    let Some(known) = Self::known(label, shared, stages) else {
                        return Ok(None);
                    };
                    key.text(&label.to_string()).hash(&known.result);
                    files.extend(known.files.iter().map(FileRef::to_json));
                }
            }
        }
        Ok(Some(files))
    }

    /// What is known of a target that there is; nothing when it is unfinished.
    fn known(
        label: &Label,
        shared: &Shared,
        stages: &FxHashMap<Label, Stage>,
    ) -> Option<Arc<Known>> {
        match stages.get(label) {
            Some(Stage::Known(known)) => Some(Arc::clone(known)),
            Some(Stage::Unfinished) => None,
            None => {
                let files = FileRef::outputs_of(shared.plain.get(label)?);
                Some(Arc::new(Known::new(files, Map::new())))
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

    /// Asks the rules, and keeps what is finished; returns what is to be asked again: what has new answers to go on with, and
    /// whoever was asked about together with a mistake. Counts in `failures` those of each rule.
    fn ask(
        &mut self,
        asked: Vec<Asked>,
        shared: &Shared,
        stages: &mut FxHashMap<Label, Stage>,
        analysis: &mut Analysis,
        failures: &mut FxHashMap<(String, String), usize>,
    ) -> Result<Vec<Asked>, Mistaken> {
        let mut by_rule: BTreeMap<(String, String), Vec<Asked>> = BTreeMap::new();
        for one in asked {
            by_rule.entry(rule_of(&one.used)).or_default().push(one);
        }
        let most_text_bytes = self.env.evaluator.most_text_bytes();
        let batches = by_rule.into_values();
        let batches: Vec<Vec<Asked>> = batches
            .flat_map(|uses| batches_of(uses, most_text_bytes))
            .collect();
        let jobs: Vec<EvaluationJob> = batches
            .iter()
            .map(|batch| self.job(batch, shared))
            .collect();
        analysis.evaluated += jobs.len();
        let mut again = Vec::new();
        for (batch, answer) in batches.into_iter().zip(self.env.evaluator.evaluate(jobs)) {
            match answer {
                Err(mut failure) => {
                    self.env.evaluator.tell(std::mem::take(&mut failure.logs));
                    let subject = failure.subject.as_deref();
                    let is_it = |one: &Asked| Some(&*one.used.label.to_string()) == subject;
                    // Where nobody says whose it is, it is everybody's.
                    let is_known = batch.iter().any(is_it);
                    let found = self.blame(&batch, failure.clone());
                    for one in batch {
                        if is_known && !is_it(&one) {
                            again.push(one);
                            continue;
                        }
                        // The limits are for all of them together.
                        let more = if failure.is_stopped { MAX_FAILURES } else { 1 };
                        *failures.entry(rule_of(&one.used)).or_default() += more;
                        give_up(&one.used, found.clone(), stages, analysis);
                    }
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
                        let used = Arc::clone(&one.used);
                        match self.hear(one, answer, stages, analysis) {
                            Ok(more) => again.extend(more),
                            Err(mistake) => give_up(&used, vec![*mistake], stages, analysis),
                        }
                    }
                }
            }
        }
        Ok(again)
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
