//! From uses of rules to targets: the implementations of rules, asked once per content.
//!
//! Owns the order in which rules are asked (dependencies first, so that providers are there), what
//! they are told, and the memory of their answers. Does not know how a rule is evaluated, nor
//! builds anything: a rule that reads an output which is not there yet stays unfinished, and says
//! which target has to be built before it is asked again.
//! Invariants: an answer is remembered under everything that the rule saw; what depends on an
//! unfinished target is unfinished; nothing is evaluated when nothing changed; what is described is no source of a rule, whoever
//! was asked first.

mod answer;
mod facts;
mod level;
mod options;
pub mod reading;
mod sources;
mod system;

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{Map, Value};

use super::flaws::{Broken, Gaps};
use super::hash::{Hash, KeyWriter};
use super::load::{EvaluationJob, EvaluationOutput, LoadEnv};
use super::state::Analysed;
use crate::diagnostic::Diagnostic;
use crate::lang::described::unfinished;
use crate::lang::file_ref::FileRef;
use crate::lang::label::{DirName, Label};
use crate::lang::locate::{At, mistake};
use crate::lang::packages::Packages;
use crate::lang::pattern::Pattern;
use crate::lang::rule_use::RuleUse;
use crate::lang::suggest::did_you_mean;
use crate::lang::target::{Source, Target};
use crate::texts::read_text;
pub use facts::Fact;
pub use options::Given;
use options::Targets;
pub use reading::Reading;
use sources::{Glob, Globs, labels};

/// What rules describe may be no sources of others, which then describe something else; after so many rounds it never ends.
const MAX_ROUNDS: usize = 256;

/// What an analysis looks at.
pub struct Analyser<'l, 'a> {
    /// What build files are read with.
    pub env: &'l mut LoadEnv<'a>,
    /// `executionContext` of every evaluation.
    pub context: Value,
    /// Everything beside files that evaluations depend on.
    pub context_hash: Hash,
    globs: Globs,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Analysis {
    /// The targets of all uses, and their actions.
    pub targets: Vec<Arc<Target>>,
    /// Rules whose answers rest on outputs, after those that they depend on.
    pub readings: Vec<Reading>,
    /// How many evaluations it took.
    pub evaluated: usize,
    /// What is wrong with which target.
    pub mistakes: Vec<Diagnostic>,
}

/// Mistakes: of one target, or such that nothing can be known beside them.
#[derive(Debug)]
pub struct Mistaken(pub Vec<Diagnostic>);

impl From<Vec<Diagnostic>> for Mistaken {
    fn from(mistakes: Vec<Diagnostic>) -> Self {
        Self(mistakes)
    }
}

/// What others may know of a target.
#[derive(Clone, Debug)]
struct Known {
    /// Changes when anything below does.
    result: Hash,
    files: Vec<FileRef>,
    providers: Map<String, Value>,
}

/// How far a target is.
#[derive(Clone, Debug)]
enum Stage {
    Known(Arc<Known>),
    Unfinished,
}

/// What all uses share.
struct Shared {
    options: Map<String, Value>,
    toolchains: Map<String, Value>,
    /// Targets that no rule describes.
    plain: FxHashMap<Label, Arc<Target>>,
    /// The labels of all uses.
    uses: FxHashSet<Label>,
    /// Directories of which nobody knows what is described there.
    gaps: Gaps<()>,
    /// Files of toolchains and options that gave no values, with what is wrong.
    mistaken: FxHashMap<String, Vec<Diagnostic>>,
}

impl<'l, 'a> Analyser<'l, 'a> {
    /// Reads build files with `env`.
    pub fn new(env: &'l mut LoadEnv<'a>, context: Value, context_hash: Hash) -> Self {
        Self {
            env,
            context,
            context_hash,
            globs: Globs::default(),
        }
    }
}

impl Analyser<'_, '_> {
    /// Asks the rules of all `uses`, in a workspace that also has the targets `plain` and those of `broken` build files.
    ///
    /// # Errors
    /// Mistakes that concern all of them. One that is a single use's leaves its target undescribed, and what needs that.
    pub fn analyse(
        mut self,
        uses: &[Arc<RuleUse>],
        plain: &[Arc<Target>],
        broken: &[Broken],
        given: &Given,
    ) -> Result<Analysis, Mistaken> {
        let ids = |of: fn(&RuleUse) -> &Vec<String>| -> Vec<&str> {
            let mut ids: Vec<&str> = uses
                .iter()
                .flat_map(|used| of(used))
                .map(String::as_str)
                .collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let labels = plain.iter().map(|target| &target.label);
        let labels = labels.chain(uses.iter().map(|used| &used.label));
        let gaps = Gaps::new(broken.iter().map(|it| (it, ())), labels);
        let packages = Packages::new(&self.env.workspace.manifest.dependencies);
        let targets = Targets {
            uses,
            plain,
            packages: &packages,
            gaps: &gaps,
        };
        let (options, mut mistaken) = self.options(&ids(|used| &used.config), given, targets)?;
        if uses.is_empty() {
            self.env.memory.uses.clear();
            return Ok(Analysis::default());
        }
        let (toolchains, failed) = self.toolchains(&ids(|used| &used.toolchains), &options);
        mistaken.extend(failed);
        let shared = Shared {
            options,
            toolchains,
            mistaken,
            plain: plain
                .iter()
                .map(|target| (target.label.clone(), Arc::clone(target)))
                .collect(),
            uses: uses.iter().map(|used| used.label.clone()).collect(),
            gaps,
        };
        self.until_settled(uses, plain, &shared)
    }

    /// Asks all rules until what they describe is none of their sources: what a rule is going to write may lie there from
    /// a build that nobody remembers.
    fn until_settled(
        mut self,
        uses: &[Arc<RuleUse>],
        plain: &[Arc<Target>],
        shared: &Shared,
    ) -> Result<Analysis, Mistaken> {
        let known: FxHashSet<&Label> = uses.iter().map(|used| &used.label).collect();
        let described = self.described(plain, &[]);
        let is_told =
            |uses: &FxHashMap<Label, Analysed>| known.iter().all(|it| uses.contains_key(it));
        self.globs = Globs::beside(&described, !is_told(&self.env.memory.uses));
        let mut analysis = Analysis::default();
        let mut glob = None;
        for _ in 0..MAX_ROUNDS {
            let evaluated = analysis.evaluated;
            let asked = self.in_order(uses, shared, &mut analysis);
            let before = self.env.memory.uses.len();
            self.env
                .memory
                .uses
                .retain(|label, _| known.contains(label));
            let is_as_before = asked.is_ok()
                && analysis.evaluated == evaluated
                && self.env.memory.uses.len() == before;
            if is_as_before {
                return Ok(analysis);
            }
            let described = self.described(plain, &analysis.targets);
            let has_undescribed =
                !is_told(&self.env.memory.uses) || (self.env.has_left)(&labels(&described));
            let next = Globs::beside(&described, has_undescribed);
            let differs = self.globs.differs(&next, self.env.dirs, self.env.wrote);
            if differs.is_none() && !self.reads_output_of(&next) {
                return asked.map(|()| analysis);
            }
            glob = differs.cloned();
            self.globs = next;
            (analysis.targets, analysis.readings, analysis.mistakes) = Default::default();
        }
        Err(vec![self.unsettled(uses, glob)].into())
    }

    /// Everything that is described: the targets `plain`, those `now`, and those of rules that were not asked.
    fn described(&self, plain: &[Arc<Target>], now: &[Arc<Target>]) -> Vec<Arc<Target>> {
        let known = self.env.memory.uses.values();
        let known = known.flat_map(|known| &known.targets);
        plain.iter().chain(now).chain(known).cloned().collect()
    }

    /// Whether a rule took for a source what by `next` is an output.
    fn reads_output_of(&self, next: &Globs) -> bool {
        let known = self.env.memory.uses.values();
        let mut read = known.flat_map(|known| &known.reads);
        let is_output = |path: &str| next.is_output(path) && !self.globs.is_output(path);
        read.any(|it| it.writer.is_none() && is_output(&it.path))
    }

    /// What is wrong where `glob` of one of `uses` means other files each time that rules are asked.
    fn unsettled(&self, uses: &[Arc<RuleUse>], glob: Option<Glob>) -> Diagnostic {
        let is_it = |source: &Source| match (source, &glob) {
            (
                Source::Glob {
                    dir,
                    include,
                    exclude,
                    ..
                },
                Some(it),
            ) => (&**dir, include, exclude) == (&*it.0, &it.1, &it.2),
            _ => false,
        };
        let used = uses
            .iter()
            .find(|used| used.sources().any(is_it))
            .unwrap_or(&uses[0]);
        let shown: Vec<&str> = glob
            .iter()
            .flat_map(|it| &it.1)
            .map(Pattern::as_str)
            .collect();
        let message = format!(
            "glob \"{}\" of {} takes files that become outputs when it takes them, and are none when it does not; narrow it",
            shown.join("\", \""),
            used.label
        );
        self.mistake(used, shown.first().copied(), message)
    }

    /// Level by level: each holds the uses whose dependencies are in the levels before.
    fn in_order(
        &mut self,
        uses: &[Arc<RuleUse>],
        shared: &Shared,
        analysis: &mut Analysis,
    ) -> Result<(), Mistaken> {
        let place: FxHashMap<&Label, usize> = uses
            .iter()
            .enumerate()
            .map(|(index, used)| (&used.label, index))
            .collect();
        let mut missing = vec![0_usize; uses.len()];
        let mut dependants = vec![Vec::new(); uses.len()];
        for (index, used) in uses.iter().enumerate() {
            for dep in used.deps() {
                if let Some(&on) = place.get(dep) {
                    missing[index] += 1;
                    dependants[on].push(index);
                }
            }
        }
        let mut stages: FxHashMap<Label, Stage> = FxHashMap::default();
        let mut ready: Vec<usize> = (0..uses.len())
            .filter(|index| missing[*index] == 0)
            .collect();
        let mut done: Vec<usize> = Vec::new();
        while !ready.is_empty() {
            done.extend(&ready);
            let level: Vec<&Arc<RuleUse>> = ready.iter().map(|index| &uses[*index]).collect();
            self.level(&level, shared, &mut stages, analysis)?;
            let mut next = Vec::new();
            for index in ready {
                for &dependant in &dependants[index] {
                    missing[dependant] -= 1;
                    if missing[dependant] == 0 {
                        next.push(dependant);
                    }
                }
            }
            ready = next;
        }
        // Every other one waits for another: that is told when they are linked.
        for (index, used) in uses
            .iter()
            .enumerate()
            .filter(|(index, _)| missing[*index] > 0)
        {
            give_up(used, Vec::new(), &mut stages, analysis);
            done.push(index);
        }
        if !analysis.readings.is_empty() {
            let in_order = done.iter().map(|index| &*uses[*index]);
            let readings = std::mem::take(&mut analysis.readings);
            analysis.readings = reading::spread(readings, in_order, &self.env.memory.uses);
        }
        Ok(())
    }

    /// A mistake in what a build file says about `used`.
    fn mistake(&self, used: &RuleUse, needle: Option<&str>, message: String) -> Diagnostic {
        let text = self.text(&used.at.path);
        let at = At::in_target(&used.at.path, &text, used.label.name(), needle);
        let at = if at.line == 0 { used.at.clone() } else { at };
        mistake(&at, message, &text).about(&used.label)
    }

    /// What is wrong with the dependencies of `used`: there is none of that name.
    fn unknown(&self, used: &RuleUse, shared: &Shared) -> Option<Diagnostic> {
        let is_known = |dep: &Label| {
            shared.uses.contains(dep)
                || shared.plain.contains_key(dep)
                || shared.gaps.of(dep.dir()).next().is_some()
        };
        let dep = used.deps().into_iter().find(|dep| !is_known(dep))?;
        let names = shared.uses.iter().chain(shared.plain.keys());
        let names: Vec<String> = names.map(ToString::to_string).collect();
        let hint = did_you_mean(&dep.to_string(), names.iter().map(String::as_str));
        let written = [
            dep.to_string(),
            format!(":{}", dep.name()),
            DirName(dep.dir()).to_string(),
        ];
        let text = self.text(&used.at.path);
        let is_there = |needle: &&String| {
            ['"', '\'']
                .iter()
                .any(|quote| text.contains(&format!("{quote}{needle}{quote}")))
        };
        let needle = written.iter().find(is_there).map(String::as_str);
        let message = format!(
            "{} depends on {dep}, which does not exist{hint}",
            used.label
        );
        Some(self.mistake(used, needle, message))
    }

    fn text(&self, path: &str) -> String {
        read_text(&self.env.workspace.root.join(path)).unwrap_or_default()
    }

    fn evaluate_one(&mut self, job: EvaluationJob) -> Result<EvaluationOutput, Mistaken> {
        let mut outputs = self.env.evaluator.evaluate(vec![job]);
        match outputs.pop() {
            Some(Ok(output)) => Ok(output),
            Some(Err(failed)) => {
                self.env.evaluator.tell(failed.logs);
                Err(failed.diagnostics.into())
            }
            None => Err(vec![Diagnostic::error("nothing was evaluated")].into()),
        }
    }
}

/// Leaves the target of `used` undescribed, for these mistakes or those of others.
fn give_up(
    used: &RuleUse,
    mistakes: Vec<Diagnostic>,
    stages: &mut FxHashMap<Label, Stage>,
    analysis: &mut Analysis,
) {
    let mistakes = mistakes.into_iter();
    let mistakes = mistakes.map(|mistake| mistake.about(&used.label));
    analysis.mistakes.extend(mistakes);
    analysis.readings.push(Reading::given_up(&used.label));
    analysis.targets.push(unfinished(used));
    stages.insert(used.label.clone(), Stage::Unfinished);
}

impl Known {
    fn new(files: Vec<FileRef>, providers: Map<String, Value>) -> Self {
        let mut key = KeyWriter::new("zako described");
        for file in &files {
            key.text(&file.path).number(u64::from(file.directory));
            key.text(
                &file
                    .from
                    .as_ref()
                    .map_or_else(String::new, ToString::to_string),
            );
        }
        key.text(&Value::Object(providers.clone()).to_string());
        Self {
            result: key.finish(),
            files,
            providers,
        }
    }
}
