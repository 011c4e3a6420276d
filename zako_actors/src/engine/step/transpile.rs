//! Transpile steps: TypeScript to JavaScript in process, file by file over all transpilers.
//!
//! Owns which inputs are transpiled, the per-file action cache, and the writing of results.
//! Does not know the language.
//! Invariants: a file whose text and facts did not change is not transpiled again, in whichever
//! target or workspace; nothing is written when any file has a mistake; all mistakes of all files
//! are reported together.

use std::sync::Arc;
use std::time::Instant;

use actor_rt::PoolError;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::repeat::difference;
use super::results::tell_of_unsound;
use super::sound::is_of_file;
use super::{
    Lookup, StepEnv, StepFailure, StepJob, StepReport, blocking, decode, encode, look_up,
    put_in_place, record, remember,
};
use crate::diagnostic::Diagnostic;
use crate::engine::action::Action;
use crate::engine::event::Outcome;
use crate::engine::hash::{Hash, KeyWriter};
use crate::engine::outputs::{OutputError, restore, write};
use crate::engine::record::{ActionResult, InputContent, OutputItem, OutputKind};
use crate::engine::scratch::ScratchError;
use crate::lang::label::is_within;
use crate::lang::target::{Target, Work, join};
use crate::transpile::{
    ModuleIndex, TranspileJob, TranspileOptions, declaration_path, output_path,
};

/// Files in flight per step.
const WINDOW: usize = 64;
/// Mode of everything that is written.
const MODE: u32 = 0o644;

/// One file on its way.
struct Unit {
    path: String,
    hash: Hash,
    out: String,
    source: Arc<str>,
}

/// What became of one file.
struct Made {
    items: Vec<OutputItem>,
    /// Contents parallel to `items`; empty when they are in the store only.
    contents: Vec<String>,
}

/// Carries a transpile step out.
pub async fn run(env: &Arc<StepEnv>, job: &Arc<StepJob>) -> Result<StepReport, StepFailure> {
    let begin = Instant::now();
    let prepared = {
        let (env, job) = (Arc::clone(env), Arc::clone(job));
        blocking(move || prepare(&env, &job)).await?
    };
    let (action, units) = match prepared {
        Prepared::Answered(report) => return Ok(*report),
        Prepared::Run(action, units) => (action, units),
    };
    let Work::Transpile(work) = &job.target().work else {
        return Err(StepFailure::Lost);
    };
    let step: &StepJob = job;
    let index = survey(env, job, &units).await?;
    let recipe = env.describer.transpile_recipe(work);
    let results: Vec<Result<Made, Vec<Diagnostic>>> = stream::iter(0..units.len())
        .map(|number| {
            let unit = &units[number];
            let job = TranspileJob {
                source: Arc::clone(&unit.source),
                path: unit.path.clone(),
                options: TranspileOptions {
                    output_path: Some(unit.out.clone()),
                    ..work.options.clone()
                },
                facts: index.facts(&unit.path),
            };
            make((env, step), unit, job, recipe)
        })
        .buffered(WINDOW)
        .try_collect()
        .await?;
    let mut made = Vec::with_capacity(results.len());
    let mut mistakes = Vec::new();
    for result in results {
        match result {
            Ok(file) => made.push(file),
            Err(found) => mistakes.extend(found),
        }
    }
    if !mistakes.is_empty() {
        return Err(StepFailure::Sources(mistakes));
    }
    let (env, job) = (Arc::clone(env), Arc::clone(job));
    blocking(move || finish(&env, &job, &action, &made, begin)).await
}

enum Prepared {
    Answered(Box<StepReport>),
    Run(Box<Action>, Vec<Unit>),
}

fn prepare(env: &StepEnv, job: &StepJob) -> Result<Prepared, StepFailure> {
    let action = match look_up(env, job)? {
        Lookup::Answered(report) => return Ok(Prepared::Answered(report)),
        Lookup::Run(action) => action,
    };
    let target = job.target();
    let Work::Transpile(step) = &target.work else {
        return Err(StepFailure::Lost);
    };
    let mut units = Vec::new();
    for input in &action.inputs {
        let InputContent::File { hash, .. } = input.content else {
            continue;
        };
        let is_source = job
            .sources
            .binary_search_by(|s| s.as_str().cmp(&input.path))
            .is_ok();
        // An input of a rule's step is one of its sources.
        let is_meant = is_source || target.rule.is_some() || takes(target, &input.path);
        if !is_meant || !is_within(&input.path, &step.root) {
            continue;
        }
        let dir = target.label.dir();
        let from_package = input
            .path
            .strip_prefix(dir)
            .unwrap_or(&input.path)
            .trim_start_matches('/');
        if !step.include.is_empty() && !step.include.iter().any(|p| p.matches(from_package)) {
            continue;
        }
        let below = input.path[step.root.len()..].trim_start_matches('/');
        let Some(out) = output_path(below) else {
            continue;
        };
        let source =
            std::fs::read_to_string(env.files.root().join(&*input.path)).map_err(|source| {
                ScratchError::Io {
                    action: "read",
                    path: (*input.path).into(),
                    source,
                }
            })?;
        if Hash::of(source.as_bytes()) != hash {
            return Err(ScratchError::Changed(input.path.to_string()).into());
        }
        units.push(Unit {
            path: input.path.to_string(),
            hash,
            out: join(&step.out, &out),
            // Before `#!` the mark would be a mistake, and it says nothing.
            source: source.strip_prefix('\u{feff}').unwrap_or(&source).into(),
        });
    }
    let mut by_out: Vec<&Unit> = units.iter().collect();
    by_out.sort_by(|a, b| a.out.cmp(&b.out));
    if let Some([one, other]) = by_out.array_windows().find(|[a, b]| a.out == b.out) {
        let message = format!(
            "{} and {} would both become {}; leave one out, or rename it",
            one.path, other.path, one.out
        );
        return Err(StepFailure::Sources(vec![Diagnostic::error(message)]));
    }
    if units.is_empty() {
        let message = format!(
            "no TypeScript file below `{}` among its sources and the outputs of its dependencies; correct `srcs`, `deps` or `root`",
            step.root
        );
        return Err(StepFailure::Sources(vec![Diagnostic::error(message)]));
    }
    Ok(Prepared::Run(action, units))
}

/// Whether an output of a dependency is meant by the target's `srcs`; without any, all are.
fn takes(target: &Target, path: &str) -> bool {
    target.srcs.is_empty() || target.srcs.iter().any(|source| source.takes(path))
}

/// What the files say about each other.
async fn survey(env: &StepEnv, step: &StepJob, units: &[Unit]) -> Result<ModuleIndex, StepFailure> {
    let surveys: Vec<_> = stream::iter(0..units.len())
        .map(|number| {
            let unit = &units[number];
            let ask = env.transpilers.survey(
                unit.path.clone(),
                Arc::clone(&unit.source),
                step.cancel.token(),
            );
            async move {
                let survey = ask.await.map_err(|error| refused(step, &error))?;
                Ok::<_, StepFailure>((unit.path.clone(), survey))
            }
        })
        .buffered(WINDOW)
        .try_collect()
        .await?;
    Ok(ModuleIndex::new(surveys))
}

async fn make(
    (env, step): (&StepEnv, &StepJob),
    unit: &Unit,
    job: TranspileJob,
    recipe: Hash,
) -> Result<Result<Made, Vec<Diagnostic>>, StepFailure> {
    if let Some(reason) = step.cancel.reason() {
        return Err(StepFailure::Cancelled(reason));
    }
    let key = file_key(unit, &job, recipe);
    if !env.force {
        let entry = env
            .store
            .get_complete_action(key.bytes())
            .await
            .ok()
            .flatten();
        if let Some(result) = entry.and_then(|entry| decode(&entry)) {
            if is_of_file(&unit.out, &result.outputs) {
                return Ok(Ok(Made {
                    items: result.outputs.to_vec(),
                    contents: Vec::new(),
                }));
            }
            tell_of_unsound(env, &format!("what becomes of {}", unit.path));
        }
    }
    let begin = Instant::now();
    let output = match transpiled((env, step), unit, job.clone()).await? {
        Ok(output) => output,
        Err(mistakes) => return Ok(Err(mistakes)),
    };
    for _ in 1..env.repeat {
        let again = transpiled((env, step), unit, job.clone()).await?;
        same(&output, &again.unwrap_or_default())?;
    }
    let mut made = Made {
        items: Vec::new(),
        contents: Vec::new(),
    };
    for (path, content) in output {
        let digest = env
            .store
            .put(content.clone().into_bytes())
            .await
            .map_err(|source| OutputError::Store {
                path: path.clone(),
                source,
            })?;
        made.items.push(OutputItem {
            path: path.into(),
            kind: OutputKind::File {
                hash: Hash::new(*digest.hash()),
                size_bytes: digest.size_bytes(),
                mode: MODE,
            },
        });
        made.contents.push(content);
    }
    let result = ActionResult {
        outputs: made.items.as_slice().into(),
        duration_us: u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX),
    };
    if let Some(entry) = encode(&result)
        && let Err(error) = env.store.put_action(key.bytes(), entry).await
    {
        tracing::warn!("a result was not cached: {error}");
    }
    Ok(Ok(made))
}

/// Files with their contents.
type Written = Vec<(String, String)>;

/// What becomes of one file: code, and its map and declarations where these are wanted.
async fn transpiled(
    (env, step): (&StepEnv, &StepJob),
    unit: &Unit,
    job: TranspileJob,
) -> Result<Result<Written, Vec<Diagnostic>>, StepFailure> {
    let answer = env.transpilers.run(job, step.cancel.token()).await;
    let answer = answer.map_err(|error| refused(step, &error))?;
    Ok(answer.map(|output| {
        let map = output.map.map(|map| (format!("{}.map", unit.out), map));
        let declarations = output.declarations;
        let declarations = declarations.map(|text| (declaration_path(&unit.out), text));
        let code = (unit.out.clone(), output.code);
        std::iter::once(code)
            .chain(map)
            .chain(declarations)
            .collect()
    }))
}

/// Compares what two runs made of a file.
fn same(first: &Written, second: &Written) -> Result<(), StepFailure> {
    for (path, content) in first {
        let again = second.iter().find(|(other, _)| other == path);
        let again = again.map_or("", |(_, content)| content);
        if let Some(difference) = difference(content.as_bytes(), again.as_bytes()) {
            return Err(StepFailure::NotDeterministic(format!(
                "{path} {difference}"
            )));
        }
    }
    Ok(())
}

/// Why a transpiler gave no answer.
fn refused(step: &StepJob, error: &PoolError) -> StepFailure {
    match (error, step.cancel.reason()) {
        (PoolError::Cancelled, Some(reason)) => StepFailure::Cancelled(reason),
        _ => StepFailure::Transpiler(error.to_string()),
    }
}

fn file_key(unit: &Unit, job: &TranspileJob, recipe: Hash) -> Hash {
    let mut key = KeyWriter::new("zako transpiled file");
    key.hash(&recipe)
        .text(&unit.path)
        .text(&unit.out)
        .hash(&unit.hash);
    // Both are sorted, so equal facts are equal bytes.
    key.number(job.facts.resolved.len() as u64);
    for (specifier, path) in &job.facts.resolved {
        key.text(specifier).text(path);
    }
    key.number(job.facts.type_only.len() as u64);
    for (specifier, name) in &job.facts.type_only {
        key.text(specifier).text(name);
    }
    key.finish()
}

fn finish(
    env: &StepEnv,
    job: &StepJob,
    action: &Action,
    made: &[Made],
    begin: Instant,
) -> Result<StepReport, StepFailure> {
    let mut outputs: Vec<OutputItem> = made.iter().flat_map(|file| file.items.clone()).collect();
    outputs.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    put_in_place(env, job, &outputs, || {
        let threads = env.writers.clamp(1, made.len().max(1));
        std::thread::scope(|scope| {
            let parts = made.chunks(made.len().div_ceil(threads));
            let writers: Vec<_> = parts.map(|part| scope.spawn(|| place(env, part))).collect();
            writers
                .into_iter()
                .try_for_each(|writer| match writer.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
        })
    })?;
    let duration_us = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
    let result = ActionResult {
        outputs: outputs.into(),
        duration_us,
    };
    remember(env, job, action, &result);
    Ok(StepReport::success(
        Outcome::Executed,
        record(job, action, result),
    ))
}

fn place(env: &StepEnv, made: &[Made]) -> Result<(), OutputError> {
    for file in made {
        if file.contents.is_empty() {
            restore(&env.files, &env.store, &file.items)?;
        }
        for (item, content) in file.items.iter().zip(&file.contents) {
            write(&env.files, item, content.as_bytes())?;
        }
    }
    Ok(())
}
