//! Questions about the target graph: `deps(//app:bundle)`, `rdeps(//libs/core) except tests(//...)`.
//!
//! Owns what the functions mean. The grammar is in `parse`. Does not know the command line, nor
//! whether anything is up to date.
//! Invariant: an answer is a set in dependency order; `somepath` alone answers with a path.

mod parse;

use std::collections::BTreeSet;

use super::graph::{Graph, NodeId, SelectError};
use crate::lang::packages::PackageError;
use crate::lang::suggest::did_you_mean;
use crate::lang::target::{EnvValue, Source, Target, Work};
use crate::transpile::TranspileOptions;
pub use parse::{Expr, parse};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum QueryError {
    /// The text breaks the grammar.
    #[error("{message}, at column {column} of the query")]
    Grammar {
        /// What is wrong.
        message: String,
        /// Counts from 1.
        column: usize,
    },
    /// A word that is neither a function nor a label.
    #[error(transparent)]
    Label(#[from] PackageError),
    /// A label that names nothing.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// A kind that no target can be of.
    #[error("there is no kind `{name}`{hint}; kinds are {known}")]
    Kind {
        /// As asked for.
        name: String,
        /// The nearest name.
        hint: String,
        /// All names.
        known: String,
    },
    /// An attribute that no target has.
    #[error("there is no attribute `{name}`{hint}; attributes are {known}")]
    Attribute {
        /// As asked for.
        name: String,
        /// The nearest name.
        hint: String,
        /// All names.
        known: String,
    },
}

/// Names of attributes.
pub const ATTRIBUTES: [&str; 11] = [
    "cmd", "deps", "env", "file", "kind", "label", "options", "outs", "retries", "rule", "srcs",
];

/// The kinds of targets that no rule describes.
pub const KINDS: [&str; 5] = ["command", "script", "test", "transpile", "group"];

/// Answers `expr` over `graph`.
///
/// # Errors
/// When a label, a kind or an attribute does not exist.
pub fn answer(graph: &Graph, expr: &Expr) -> Result<Vec<NodeId>, QueryError> {
    Ok(match expr {
        Expr::Targets(pattern) => {
            let asked = graph.matching(std::slice::from_ref(pattern), &|_| true)?;
            in_order(graph, asked.into_iter().collect())
        }
        Expr::Deps(of, depth) => near(graph, answer(graph, of)?, *depth, &|id| graph.deps(id)),
        Expr::Dependants(of, depth) => near(graph, answer(graph, of)?, *depth, &|id| {
            graph.dependants(id)
        }),
        Expr::SomePath(from, to) => some_path(graph, &answer(graph, from)?, &answer(graph, to)?),
        Expr::AllPaths(from, to) => {
            let below: BTreeSet<_> = graph.with_deps(answer(graph, from)?).into_iter().collect();
            let mut between = graph.with_dependants(answer(graph, to)?);
            between.retain(|id| below.contains(id));
            between
        }
        Expr::Kind(kind, of) => {
            check_kind(graph, kind)?;
            keep(graph, of, |target| kind_of(target) == kind)?
        }
        Expr::Tests(of) => keep(graph, of, Target::is_test)?,
        Expr::Attribute(name, text, of) => {
            if !ATTRIBUTES.contains(&name.as_str()) {
                return Err(QueryError::Attribute {
                    hint: did_you_mean(name, ATTRIBUTES),
                    name: name.clone(),
                    known: ATTRIBUTES.join(", "),
                });
            }
            keep(graph, of, |target| {
                attribute(target, name)
                    .iter()
                    .any(|value| value.contains(text))
            })?
        }
        Expr::Union(a, b) => {
            let mut all: BTreeSet<_> = answer(graph, a)?.into_iter().collect();
            all.extend(answer(graph, b)?);
            in_order(graph, all)
        }
        Expr::Except(a, b) => {
            let without: BTreeSet<_> = answer(graph, b)?.into_iter().collect();
            let mut rest = answer(graph, a)?;
            rest.retain(|id| !without.contains(id));
            rest
        }
        Expr::Intersect(a, b) => {
            let with: BTreeSet<_> = answer(graph, b)?.into_iter().collect();
            let mut both = answer(graph, a)?;
            both.retain(|id| with.contains(id));
            both
        }
    })
}

/// One that no target is of is no kind, unless it is one without any rule.
fn check_kind(graph: &Graph, kind: &str) -> Result<(), QueryError> {
    if KINDS.contains(&kind) {
        return Ok(());
    }
    let rules = graph.targets().iter().map(|target| kind_of(target));
    let rules: BTreeSet<&str> = rules.filter(|rule| !KINDS.contains(rule)).collect();
    if rules.contains(kind) {
        return Ok(());
    }
    let known: Vec<&str> = KINDS.into_iter().chain(rules).collect();
    Err(QueryError::Kind {
        name: kind.to_owned(),
        hint: did_you_mean(kind, known.iter().copied()),
        known: known.join(", "),
    })
}

fn keep(
    graph: &Graph,
    of: &Expr,
    wanted: impl Fn(&Target) -> bool,
) -> Result<Vec<NodeId>, QueryError> {
    let mut ids = answer(graph, of)?;
    ids.retain(|id| wanted(graph.target(*id)));
    Ok(ids)
}

fn in_order(graph: &Graph, ids: BTreeSet<NodeId>) -> Vec<NodeId> {
    graph
        .order()
        .iter()
        .copied()
        .filter(|id| ids.contains(id))
        .collect()
}

/// What is reached from `from` in at most `depth` steps, `from` included.
fn near<'a>(
    graph: &Graph,
    from: Vec<NodeId>,
    depth: Option<u32>,
    next: &dyn Fn(NodeId) -> &'a [NodeId],
) -> Vec<NodeId> {
    let mut reached: BTreeSet<NodeId> = from.iter().copied().collect();
    let mut edge = from;
    let mut left = depth.unwrap_or(u32::MAX);
    while left > 0 && !edge.is_empty() {
        left -= 1;
        edge = edge
            .into_iter()
            .flat_map(|id| next(id).iter().copied())
            .filter(|id| reached.insert(*id))
            .collect();
    }
    in_order(graph, reached)
}

/// A shortest chain of dependencies from one of `from` to one of `to`; empty when there is none.
fn some_path(graph: &Graph, from: &[NodeId], to: &[NodeId]) -> Vec<NodeId> {
    let goal: BTreeSet<NodeId> = to.iter().copied().collect();
    let mut before: Vec<Option<NodeId>> = vec![None; graph.len()];
    let mut seen: BTreeSet<NodeId> = from.iter().copied().collect();
    let mut queue: std::collections::VecDeque<NodeId> = from.iter().copied().collect();
    while let Some(id) = queue.pop_front() {
        if goal.contains(&id) {
            let mut path = vec![id];
            while let Some(previous) = before[path[path.len() - 1].index()] {
                path.push(previous);
            }
            path.reverse();
            return path;
        }
        for dep in graph.deps(id) {
            if seen.insert(*dep) {
                before[dep.index()] = Some(id);
                queue.push_back(*dep);
            }
        }
    }
    Vec::new()
}

/// What kind of target it is: `command`, `script`, `test`, `transpile`, or the rule that describes it.
pub fn kind_of(target: &Target) -> &str {
    match (&target.rule, &target.work) {
        (Some(rule), _) if !target.manual => rule,
        (_, work) => kind_of_work(target, work),
    }
}

fn kind_of_work(target: &Target, work: &Work) -> &'static str {
    match work {
        Work::Command(_) if target.is_test() => "test",
        Work::Command(command) if command.in_place.is_some() => "script",
        Work::Command(_) => "command",
        Work::Transpile(_) => "transpile",
        Work::Group | Work::Unfinished { .. } => "group",
    }
}

/// The values of one attribute; none when the target does not have it.
pub fn attribute(target: &Target, name: &str) -> Vec<String> {
    let command = target.command();
    match name {
        "label" => vec![target.label.to_string()],
        "file" => vec![target.at.to_string()],
        "kind" => vec![kind_of(target).to_owned()],
        "deps" => target.deps.iter().map(ToString::to_string).collect(),
        "srcs" => target.srcs.iter().flat_map(sources).collect(),
        "cmd" => command.map_or_else(Vec::new, |command| command.argv.clone()),
        "env" => command.map_or_else(Vec::new, |command| {
            let shared = command.in_place.iter().flat_map(|step| &step.shared_env);
            let shared = shared.map(|name| format!("{name}=env({name})"));
            let own = command.env.iter().map(|(name, value)| match value {
                EnvValue::Text(text) => format!("{name}={text}"),
                EnvValue::Pass { name: outer, .. } => format!("{name}=env({outer})"),
            });
            own.chain(shared).collect()
        }),
        "outs" => match &target.work {
            Work::Command(command) => command.outs.iter().map(|out| out.show()).collect(),
            Work::Transpile(step) => vec![format!("{}/", step.out)],
            Work::Group => target.srcs.iter().flat_map(sources).collect(),
            Work::Unfinished { .. } => Vec::new(),
        },
        "rule" => target.rule.iter().map(ToString::to_string).collect(),
        "retries" => command
            .and_then(|command| command.special.test_retries)
            .map_or_else(Vec::new, |retries| vec![retries.to_string()]),
        "options" => match &target.work {
            Work::Command(_) | Work::Group | Work::Unfinished { .. } => Vec::new(),
            Work::Transpile(step) => options(&step.options),
        },
        _ => Vec::new(),
    }
}

/// What was said of how files are compiled, and what is so unless somebody says it, as `name=value`.
fn options(options: &TranspileOptions) -> Vec<String> {
    let said = serde_json::to_value(options).unwrap_or_default();
    let said = said.as_object().into_iter().flatten();
    let said = said.filter(|(_, value)| !value.is_null());
    let shown = said.map(|(name, value)| match value.as_str() {
        Some(text) => format!("{name}={text}"),
        None => format!("{name}={value}"),
    });
    shown.collect()
}

fn sources(source: &Source) -> Vec<String> {
    match source {
        Source::File(path) => vec![path.into()],
        Source::Glob {
            dir,
            include,
            exclude,
            ..
        } => {
            let whole = |pattern: &crate::lang::pattern::Pattern| {
                crate::lang::target::join(dir, pattern.as_str())
            };
            let taken = include.iter().map(whole);
            let left_out = exclude.iter().map(|pattern| format!("!{}", whole(pattern)));
            taken.chain(left_out).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::targets;
    use super::*;
    use crate::engine::flaws::Flaws;
    use crate::lang::packages::Packages;

    fn ask(text: &str) -> Result<Vec<String>, String> {
        let graph = Graph::new(
            targets(&[
                ("//a:x", &["//b:y", "//c:z"], &["x.out"]),
                ("//b:y", &["//c:z"], &[]),
                ("//c:z", &[], &[]),
                ("//d-e:w", &[], &[]),
            ]),
            &Flaws::default(),
            &|_| String::new(),
        );
        let ids = parse(text, "a", &Packages::NONE).and_then(|expr| answer(&graph, &expr));
        let name = |id: &NodeId| graph.target(*id).label.to_string();
        ids.map(|ids| ids.iter().map(name).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn functions_answer_in_dependency_order() {
        let answers = |text: &str| ask(text).unwrap();
        assert_eq!(answers("deps(:x)"), ["//c:z", "//b:y", "//a:x"]);
        assert_eq!(answers("deps(//b:y, 0)"), ["//b:y"]);
        assert_eq!(answers("rdeps(//c:z, 1)"), ["//c:z", "//b:y", "//a:x"]);
        assert_eq!(answers("somepath(//a:x, //c:z)"), ["//a:x", "//c:z"]);
        assert_eq!(
            answers("allpaths(//a:x, //c:z)"),
            ["//c:z", "//b:y", "//a:x"]
        );
        assert!(answers("somepath(//c:z, //a:x)").is_empty());
        assert_eq!(answers("//... except deps(//b:y) - //a:x"), ["//d-e:w"]);
        assert_eq!(
            answers("(//a:x + //b:y) ^ rdeps(//b:y)"),
            ["//b:y", "//a:x"]
        );
        assert_eq!(answers("attr(outs, 'x.out', //...)"), ["//a:x"]);
        assert_eq!(answers("kind(command, //d-e/...)"), ["//d-e:w"]);
        assert!(answers("tests(//...)").is_empty());
    }

    #[test]
    fn mistakes_are_placed_and_answered() {
        let error = |text: &str| ask(text).unwrap_err();
        assert!(
            error("dps(//a:x)").contains("did you mean `deps`?"),
            "{}",
            error("dps(//a:x)")
        );
        assert!(error("deps(//a:x").contains("`)` is missing"));
        assert!(error("deps(//a:q)").contains("no target `//a:q`"));
        assert!(error("//a:x //b:y").contains("at column 7"));
        assert!(error("attr(outz, 'x', //...)").contains("did you mean `outs`?"));
        let kind = error("kind(comand, //...)");
        assert!(
            kind.contains("did you mean `command`?") && kind.contains("kinds are command, script"),
            "{kind}"
        );
        assert!(error("").contains("is empty"));
        assert!(error("deps(//a:x, many)").contains("not a number of steps"));
        assert!(error(&"(".repeat(5000)).contains("nested too deeply"));
    }
}
