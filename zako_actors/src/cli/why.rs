//! `zako why`: what caused a target's last run, and what would cause the next.
//!
//! Owns the words and the chain of causes. Does not know how causes are found.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use super::args::{Global, WhyArgs};
use super::opened::{Opened, Targets, failure};
use super::{Exit, Failure, print, print_json};
use crate::engine::cause::Cause;
use crate::engine::graph::Graph;
use crate::engine::members::script_of;
use crate::engine::plan::{Plan, Planned};
use crate::engine::reasons::{LastRun, Reasons};
use crate::lang::label::{Label, LabelPattern};
use crate::lang::suggest::nearest;
use crate::lang::target::{Target, Work};
use crate::lang::text::Text;

/// Things that are not up to date and are named for one target.
const SHOWN: usize = 10;

/// Said of what ran once and is no target now.
const GONE: &str = "not described any more";

/// Prints both.
pub fn run(global: &Global, args: &WhyArgs) -> Result<Exit, Failure> {
    Opened::look(global, |opened| explain(opened, args))
}

fn explain(opened: &mut Opened, args: &WhyArgs) -> Result<Exit, Failure> {
    let targets = opened.load()?;
    let mut patterns = opened.patterns(&args.labels)?;
    let gone = take_gone(opened, &targets.graph, &mut patterns)?;
    let asked = targets
        .graph
        .matching(&patterns, &|_| true)
        .map_err(|error| opened.unselected(&error))?;
    let wanted = targets.graph.with_deps(asked.clone());
    let plan = opened
        .session
        .plan(&targets.graph, &wanted, &targets.describer, false)
        .map_err(|error| failure(&error))?;
    let why = Why {
        root: &opened.session.workspace.root,
        graph: &targets.graph,
        now: plan
            .nodes
            .iter()
            .filter_map(|node| {
                let target = targets.graph.target(node.id);
                Some((target.label.clone(), causes(opened, &targets, node)?))
            })
            .collect(),
        reasons: opened.session.reasons(),
        writers: writers(opened, &targets, &plan),
    };
    let labels = asked.iter().map(|id| &targets.graph.target(*id).label);
    let labels = labels.chain(&gone);
    if args.json {
        print_json(&labels.map(|label| why.json(label)).collect::<Vec<_>>())?;
    } else {
        let texts: Vec<String> = labels.map(|label| why.text(label)).collect();
        print(texts.join("\n").as_bytes())?;
    }
    Ok(Exit::Done)
}

/// Takes the labels out of `patterns` that no target has any more and that ran when one had.
fn take_gone(
    opened: &Opened,
    graph: &Graph,
    patterns: &mut Vec<LabelPattern>,
) -> Result<Vec<Label>, Failure> {
    let (mut gone, mut left) = (Vec::new(), Vec::new());
    for pattern in patterns.drain(..) {
        match pattern {
            LabelPattern::One(label) if graph.find(&label).is_none() => {
                let reasons = opened.session.reasons();
                if reasons.get(&label).is_some() {
                    gone.push(label);
                } else if let Some(near) = near_gone(reasons, graph, &label) {
                    return Err(Failure::usage(format!(
                        "no target `{label}`; did you mean `{near}`, which is not described any more?"
                    )));
                } else {
                    left.push(LabelPattern::One(label));
                }
            }
            pattern => left.push(pattern),
        }
    }
    *patterns = left;
    Ok(gone)
}

/// What `label` is likely to be a slip of, when that is no target any more.
fn near_gone(reasons: &Reasons, graph: &Graph, label: &Label) -> Option<String> {
    let described = graph
        .targets()
        .iter()
        .map(|target| target.label.to_string());
    let ran = reasons.labels().map(Label::to_string);
    let known: BTreeSet<String> = described.chain(ran).collect();
    let near = nearest(&label.to_string(), known.iter().map(String::as_str))?;
    let is_gone = graph
        .targets()
        .iter()
        .all(|target| target.label.to_string() != near);
    is_gone.then(|| near.to_owned())
}

/// Why a target is not up to date; as exactly as what is known of its last run allows.
pub fn causes(opened: &Opened, targets: &Targets, node: &Planned) -> Option<Vec<Cause>> {
    let cause = node.cause()?;
    if cause == Cause::Recipe {
        let target = targets.graph.target(node.id);
        let tool = node.tool.as_deref();
        let parts = opened
            .session
            .changed_parts(target, tool, &targets.describer);
        if !parts.is_empty() {
            return Some(parts);
        }
    }
    Some(vec![cause])
}

/// All of them, for a person.
fn in_full(causes: &[Cause]) -> String {
    let all: Vec<String> = causes.iter().map(Cause::in_full).collect();
    all.join("; ")
}

/// Who wrote which file, by the records of the targets in `plan`.
fn writers(opened: &Opened, targets: &Targets, plan: &Plan) -> FxHashMap<Text, Label> {
    let mut writers = FxHashMap::default();
    for node in &plan.nodes {
        let label = &targets.graph.target(node.id).label;
        for item in opened
            .session
            .record(label)
            .into_iter()
            .flat_map(|r| r.outputs.iter())
        {
            writers.insert(item.path.clone(), label.clone());
        }
    }
    writers
}

struct Why<'a> {
    root: &'a Path,
    graph: &'a Graph,
    now: FxHashMap<Label, Vec<Cause>>,
    reasons: &'a Reasons,
    writers: FxHashMap<Text, Label>,
}

impl Why<'_> {
    fn text(&self, label: &Label) -> String {
        let mut text = format!("{label}\n");
        match self.now.get(label) {
            None if self.is_gone(label) => {
                let _ = writeln!(text, "  now: {}", self.gone(label));
            }
            None => text.push_str("  now: up to date\n"),
            Some(causes) if *causes == [Cause::Dependency] => {
                let _ = writeln!(text, "  now: {}:", Cause::Dependency);
                for (dep, causes) in self.stale_below(label).take(SHOWN) {
                    let _ = writeln!(text, "    {dep}: {}", in_full(causes));
                }
            }
            Some(causes) => {
                let _ = writeln!(text, "  now: not up to date: {}", in_full(causes));
            }
        }
        let target = self.graph.find(label).map(|id| self.graph.target(id));
        if let Some(script) = target.and_then(|target| self.replaces(target)) {
            let _ = writeln!(text, "  it stands for {script}");
        }
        if let Some(group) = target.filter(|target| target.work == Work::Group) {
            text.push_str("  it runs nothing itself; it stands for what these leave behind:\n");
            for dep in &group.deps {
                let _ = writeln!(text, "    {dep}");
            }
            return text;
        }
        match self.reasons.get(label) {
            None => text.push_str("  last run: none is remembered\n"),
            Some(run) => {
                let _ = writeln!(text, "  last run: {}", when_and_how(&run));
                text.push_str("  because:\n");
                self.causes(&mut text, &run, 2, &mut BTreeSet::from([label.clone()]));
            }
        }
        text
    }

    /// What is known of a target that is not described.
    fn gone(&self, label: &Label) -> String {
        match self.graph.unread_at(label).next() {
            None => GONE.to_owned(),
            Some(id) => format!(
                "{} has a mistake, so that it is not known",
                self.graph.target(id).at.path
            ),
        }
    }

    /// The script that a target of a build file stands for.
    fn replaces(&self, target: &Target) -> Option<String> {
        let script = match target.in_place() {
            None => script_of(self.root, &target.label)?,
            Some(_) => return None,
        };
        let (file, name) = (script.file, script.name);
        Some(format!("the script `{name}` of {file}, which is not run"))
    }

    fn is_gone(&self, label: &Label) -> bool {
        self.graph.find(label).is_none()
    }

    /// What `label` needs and is not up to date by itself.
    fn stale_below(&self, label: &Label) -> impl Iterator<Item = (&Label, &[Cause])> {
        let from = self.graph.find(label).into_iter().collect();
        self.graph
            .with_deps(from)
            .into_iter()
            .map(|id| &self.graph.target(id).label)
            .filter_map(|dep| Some((dep, &**self.now.get(dep)?)))
            .filter(|(_, causes)| *causes != [Cause::Dependency])
    }

    fn causes(&self, text: &mut String, run: &LastRun, depth: usize, seen: &mut BTreeSet<Label>) {
        let indent = "  ".repeat(depth);
        if run.causes.is_empty() {
            let _ = writeln!(text, "{indent}it is not known");
        }
        for cause in &run.causes {
            let _ = write!(text, "{indent}{}", cause.in_full());
            let Some(writer) = cause.path().and_then(|path| self.writers.get(path)) else {
                text.push('\n');
                continue;
            };
            let _ = writeln!(text, ", written by {writer}");
            if !seen.insert(writer.clone()) {
                continue;
            }
            if let Some(run) = self.reasons.get(writer) {
                let _ = writeln!(text, "{indent}  which {}, because:", run.outcome);
                self.causes(text, &run, depth + 2, seen);
            }
        }
    }

    fn json(&self, label: &Label) -> Value {
        let run = self.reasons.get(label).map(|run| {
            json!({
                "at": timestamp(run.at_s),
                "outcome": run.outcome,
                "duration_us": run.duration_us,
                "causes": run.causes.iter().map(|cause| json!({
                    "cause": cause.in_full(),
                    "path": cause.path(),
                    "writtenBy": cause.path()
                        .and_then(|path| self.writers.get(path))
                        .map(ToString::to_string),
                })).collect::<Vec<_>>(),
            })
        });
        json!({
            "label": label.to_string(),
            "standsFor": self.graph.find(label).and_then(|id| self.replaces(self.graph.target(id))),
            "now": match self.now.get(label) {
                None => self.is_gone(label).then(|| self.gone(label)),
                Some(causes) => Some(in_full(causes)),
            },
            "lastRun": run,
        })
    }
}

fn when_and_how(run: &LastRun) -> String {
    let seconds = run.duration_us as f64 / 1e6;
    format!("{}, {} ({seconds:.2} s)", timestamp(run.at_s), run.outcome)
}

/// `2026-11-21T05:41:11Z`.
fn timestamp(at_s: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(at_s)).to_string()
}
