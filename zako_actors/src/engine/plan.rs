//! The plan: which targets, which sources, and what is up to date already.
//!
//! Owns the expansion of sources and the survey that answers a no-op. Does not run anything.
//! Invariants: a target is fresh only when everything it needs is fresh, its key is the recorded
//! one, and every recorded output is in the workspace as it was left; nodes are in dependency
//! order.

use std::collections::BTreeSet;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::action::{Before, Describer, Tool};
use super::cause::Cause;
use super::dirs::DirTable;
use super::earlier::Asked;
use super::files::FileTable;
use super::graph::{Graph, NodeId};
use super::group;
use super::outputs::is_intact;
use super::record::{OutputItem, Record};
use crate::diagnostic::Diagnostic;
use crate::lang::label::Label;
use crate::lang::locate::{At, mistake};
use crate::lang::pattern::Pattern;
use crate::lang::suggest::did_you_mean;
use crate::lang::target::{Source, Target, Work};

/// A target to be brought up to date.
#[derive(Debug)]
pub struct Planned {
    /// Its place in the graph.
    pub id: NodeId,
    /// Indices of what it needs, all smaller than its own.
    pub deps: Vec<u32>,
    /// Indices of those whose outputs it reads, where these are not just `deps`: a script that
    /// runs in the workspace sees everything that was built before it.
    pub reads: Option<Vec<u32>>,
    /// Source files, workspace-relative, sorted.
    pub sources: Vec<String>,
    /// Fresh, or why not.
    pub state: Freshness,
    /// The program of a command, as far as it was looked for.
    pub tool: Option<Arc<Tool>>,
}

/// Whether a planned target has to be looked at.
#[derive(Clone, Debug)]
pub enum Freshness {
    /// Up to date; these are its outputs.
    Fresh(Arc<[OutputItem]>),
    /// For this reason not.
    Stale(Cause),
    /// Something that it needs is not fresh.
    Unknown,
}

/// The targets of one build, dependencies first.
#[derive(Debug)]
pub struct Plan {
    /// The whole graph.
    pub graph: Arc<Graph>,
    /// What this build is about.
    pub nodes: Vec<Planned>,
}

/// What planning looks at.
pub struct Planner<'a> {
    /// The whole graph.
    pub graph: Arc<Graph>,
    /// Stat cache.
    pub files: &'a FileTable,
    /// Listing cache.
    pub dirs: &'a mut DirTable,
    /// Describes actions.
    pub describer: &'a Describer,
    /// Memory of finished targets.
    pub records: &'a FxHashMap<Label, Record>,
    /// Reads a build file again, for the frame of an error.
    pub text_of: &'a dyn Fn(&str) -> String,
    /// Takes every target for stale.
    pub force: bool,
    /// The last plan of the same.
    pub earlier: Option<&'a Asked<'a>>,
    /// Files that are written meanwhile by whoever plans: no glob means them.
    pub written: &'a [String],
}

/// Expanded globs of one plan, by directory and patterns: targets of one package often share them.
type Globs = FxHashMap<(String, Vec<Pattern>, Vec<Pattern>), Vec<String>>;

impl Planner<'_> {
    /// Plans `wanted` (dependencies first).
    ///
    /// # Errors
    /// When a source is missing or a glob matches nothing.
    pub fn plan(mut self, wanted: &[NodeId]) -> Result<Plan, Diagnostic> {
        let mut place = vec![0; self.graph.len()];
        let mut globs = Globs::default();
        let mut nodes: Vec<Planned> = Vec::with_capacity(wanted.len());
        for id in wanted {
            place[id.index()] = nodes.len() as u32;
            let deps = self.graph.deps(*id).iter();
            let deps: Vec<u32> = deps.map(|dep| place[dep.index()]).collect();
            let target = self.graph.target(*id);
            let known = self
                .earlier
                .and_then(|earlier| earlier.sources(*id, target));
            let sources = match known {
                Some(sources) => sources,
                None => self.sources(*id, &mut globs)?,
            };
            let in_place = self.graph.target(*id).in_place().is_some();
            let reads = in_place.then(|| everything_below(&deps, &nodes));
            let (state, tool) = self.survey(*id, &sources, reads.as_ref().unwrap_or(&deps), &nodes);
            // What is fresh has been looked at.
            if !matches!(state, Freshness::Fresh(_)) {
                self.check_sources(*id)?;
            }
            nodes.push(Planned {
                id: *id,
                deps,
                reads,
                sources,
                state,
                tool,
            });
        }
        Ok(Plan {
            graph: self.graph,
            nodes,
        })
    }

    fn sources(&mut self, id: NodeId, globs: &mut Globs) -> Result<Vec<String>, Diagnostic> {
        let graph = Arc::clone(&self.graph);
        let target = graph.target(id);
        let mut sources = Vec::new();
        for source in &target.srcs {
            match source {
                Source::File(path) => {
                    let is_output = graph.outputs().covers(path);
                    // An output of a dependency arrives with the dependency.
                    if !is_output {
                        sources.push(path.clone());
                    }
                }
                Source::Glob {
                    dir,
                    include,
                    exclude,
                } => {
                    let key = (dir.clone(), include.clone(), exclude.clone());
                    let found = match globs.entry(key) {
                        Entry::Occupied(known) => known.into_mut(),
                        Entry::Vacant(new) => {
                            let written = self.written;
                            let found = self.dirs.expand(dir, include, exclude, &|path| {
                                graph.outputs().covers(path)
                                    || written.iter().any(|file| file == path)
                            });
                            let found = found.map_err(|error| {
                                self.mistake(target, None, format!("{}: {error}", target.label))
                            })?;
                            new.insert(found)
                        }
                    };
                    // A transpile step also takes what its dependencies write.
                    let may_be_empty = target.in_place().is_some()
                        || (matches!(target.work, Work::Transpile(_)) && !target.deps.is_empty());
                    if found.is_empty() && !may_be_empty {
                        let shown: Vec<&str> = include.iter().map(|p| p.as_str()).collect();
                        let message = format!(
                            "glob \"{}\" of {} matches no file in //{dir}; correct it or remove it",
                            shown.join("\", \""),
                            target.label,
                        );
                        return Err(self.mistake(target, shown.first().copied(), message));
                    }
                    sources.extend(found.iter().cloned());
                }
            }
        }
        sources.sort_unstable();
        sources.dedup();
        Ok(sources)
    }

    /// Looks whether the files that a target names are there, to say so with their place in the build
    /// file.
    fn check_sources(&self, id: NodeId) -> Result<(), Diagnostic> {
        let target = self.graph.target(id);
        let named = target.srcs.iter().filter_map(|source| match source {
            Source::File(path) => Some(path),
            Source::Glob { .. } => None,
        });
        named
            // What a rule describes names its writers.
            .filter(|path| target.rule.is_none() || !self.graph.outputs().covers(path))
            .try_for_each(|path| self.check_source(&self.graph, id, path))
    }

    fn check_source(&self, graph: &Graph, id: NodeId, path: &str) -> Result<(), Diagnostic> {
        let target = graph.target(id);
        let dir = target.label.dir();
        let written = path
            .strip_prefix(dir)
            .unwrap_or(path)
            .trim_start_matches('/');
        let all = if written.is_empty() {
            "**".to_owned()
        } else {
            format!("{written}/**")
        };
        if graph.outputs().covers(path) {
            let writers = graph.writers(path);
            let arrives = |writer: &NodeId| *writer == id || graph.deps(id).contains(writer);
            return match writers.first() {
                Some(first) if !writers.iter().any(arrives) => Err(self.mistake(
                    target,
                    Some(written),
                    format!(
                        "source {path} of {} is written by {}; add that label to `deps`",
                        target.label,
                        graph.target(*first).label
                    ),
                )),
                _ => Ok(()),
            };
        }
        let full = self.files.root().join(path);
        match std::fs::metadata(&full) {
            Ok(metadata) if metadata.is_file() => Ok(()),
            Ok(metadata) if metadata.is_dir() => Err(self.mistake(
                target,
                Some(written),
                format!(
                    "source {} of {} is a directory; write `glob(\"{all}\")`",
                    if written.is_empty() { "." } else { path },
                    target.label
                ),
            )),
            Ok(_) => Err(self.mistake(
                target,
                Some(written),
                format!("source {path} of {} is not a regular file", target.label),
            )),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let parent = full
                    .parent()
                    .map(std::path::Path::to_owned)
                    .unwrap_or_default();
                let names: Vec<String> = std::fs::read_dir(parent)
                    .into_iter()
                    .flatten()
                    .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                    .collect();
                let name = path.rsplit('/').next().unwrap_or(path);
                let hint = did_you_mean(name, names.iter().map(String::as_str));
                Err(self.mistake(
                    target,
                    Some(written),
                    format!("source {path} of {} does not exist{hint}", target.label),
                ))
            }
            Err(error) => Err(self.mistake(
                target,
                Some(written),
                format!("source {path} of {}: {error}", target.label),
            )),
        }
    }

    fn mistake(&self, target: &Target, needle: Option<&str>, message: String) -> Diagnostic {
        let text = (self.text_of)(&target.at.path);
        let at = At::in_target(&target.at.path, &text, target.label.name(), needle);
        let at = if at.line == 0 { target.at.clone() } else { at };
        mistake(&at, message, &text)
    }

    /// A group is as fresh as what it is made of.
    fn survey_group(
        &self,
        target: &Target,
        sources: &[String],
        deps: &[u32],
        nodes: &[Planned],
    ) -> Freshness {
        let Some(dep_outputs) = fresh_outputs(deps, nodes) else {
            return Freshness::Unknown;
        };
        match group::outputs(target, sources, dep_outputs.into_iter(), self.files) {
            Ok(outputs) => Freshness::Fresh(outputs.into()),
            // The step itself says what is wrong, when its turn comes.
            Err(_) => Freshness::Stale(Cause::Recipe),
        }
    }

    fn survey(
        &self,
        id: NodeId,
        sources: &[String],
        deps: &[u32],
        nodes: &[Planned],
    ) -> (Freshness, Option<Arc<Tool>>) {
        let target = self.graph.target(id);
        let stale = |cause| (Freshness::Stale(cause), None);
        if target.work == Work::Group {
            return (self.survey_group(target, sources, deps, nodes), None);
        }
        let Some(record) = self.records.get(&target.label) else {
            return stale(Cause::New);
        };
        if self.force {
            return stale(Cause::Forced);
        }
        if target.in_place().is_some_and(|step| !step.cached) {
            return stale(Cause::Uncached);
        }
        let Some(dep_outputs) = fresh_outputs(deps, nodes) else {
            return (Freshness::Unknown, None);
        };
        let earlier = self.earlier.and_then(|earlier| {
            earlier.still_fresh(id, sources, (deps, nodes), record, self.files)
        });
        if let Some((outputs, tool)) = earlier {
            return (Freshness::Fresh(outputs), tool);
        }
        let read = target.command().and_then(|c| c.depfile.as_ref());
        let read = read.map(|_| record.read());
        let action = self.describer.describe(
            target,
            sources,
            dep_outputs.into_iter(),
            Before {
                read: read.as_deref(),
                record: Some(record),
            },
            self.files,
        );
        let Ok(action) = action else {
            // The step itself says what is wrong, when its turn comes.
            return stale(Cause::Recipe);
        };
        if action.key != record.key {
            let cause = record.cause(&action.recipe, action.counted());
            let state = Freshness::Stale(cause.unwrap_or(Cause::Recipe));
            return (state, action.tool.map(Arc::new));
        }
        let mut outputs = record.outputs.iter();
        let state = match outputs.find(|item| !is_intact(self.files, item)) {
            Some(item) => Freshness::Stale(Cause::Output(item.path.clone())),
            None => Freshness::Fresh(Arc::clone(&record.outputs)),
        };
        (state, action.tool.map(Arc::new))
    }
}

/// The outputs of `deps`, when all are fresh.
fn fresh_outputs<'a>(deps: &[u32], nodes: &'a [Planned]) -> Option<Vec<&'a [OutputItem]>> {
    deps.iter()
        .map(|dep| match &nodes[*dep as usize].state {
            Freshness::Fresh(outputs) => Some(&**outputs),
            _ => None,
        })
        .collect()
}

/// `deps` and all that they need.
fn everything_below(deps: &[u32], nodes: &[Planned]) -> Vec<u32> {
    let mut below: BTreeSet<u32> = deps.iter().copied().collect();
    for dep in deps {
        below.extend(nodes[*dep as usize].reads());
    }
    below.into_iter().collect()
}

impl Planned {
    /// Indices of those whose outputs it reads.
    pub fn reads(&self) -> &[u32] {
        self.reads.as_deref().unwrap_or(&self.deps)
    }

    /// Why it is not known to be up to date; `None` when it is.
    pub fn cause(&self) -> Option<Cause> {
        match &self.state {
            Freshness::Fresh(_) => None,
            Freshness::Stale(cause) => Some(cause.clone()),
            Freshness::Unknown => Some(Cause::Dependency),
        }
    }
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_fresh(&self) -> bool {
        self.nodes
            .iter()
            .all(|node| matches!(node.state, Freshness::Fresh(_)))
    }

    /// Whether carrying it out may start processes.
    pub fn starts_processes(&self) -> bool {
        let stale = |node: &&Planned| !matches!(node.state, Freshness::Fresh(_));
        let mut stale = self.nodes.iter().filter(stale);
        stale.any(|node| self.graph.target(node.id).command().is_some())
    }

    /// The target of node `index`.
    pub fn target(&self, index: u32) -> &Target {
        self.graph.target(self.nodes[index as usize].id)
    }
}
