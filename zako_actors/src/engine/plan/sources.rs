//! The source files of targets.
//!
//! Owns their expansion, and what is said of one that is not there. Does not know whether a target is up to date.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Planner;
use crate::diagnostic::Diagnostic;
use crate::engine::graph::{Graph, NodeId};
use crate::lang::label::DirName;
use crate::lang::locate::{At, mistake};
use crate::lang::suggest::did_you_mean;
use crate::lang::target::{Source, Target, Work};
use crate::lang::text::Text;

/// Expanded globs of one plan: targets of one package often share them.
pub(super) type Globs = FxHashMap<Source, Vec<Text>>;

impl Planner<'_> {
    pub(super) fn sources(
        &mut self,
        id: NodeId,
        globs: &mut Globs,
    ) -> Result<Vec<Text>, Diagnostic> {
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
                Source::Glob { dir, include, .. } => {
                    if !globs.contains_key(source) {
                        let found = self.expanded(target, source)?;
                        globs.insert(source.clone(), found);
                    }
                    let found = &globs[source];
                    // A transpile step also takes what its dependencies write.
                    let may_be_empty = target.in_place().is_some()
                        || (matches!(target.work, Work::Transpile(_)) && !target.deps.is_empty());
                    if found.is_empty() && !may_be_empty {
                        let shown: Vec<&str> = include.iter().map(|p| p.as_str()).collect();
                        let message = format!(
                            "glob \"{}\" of {} matches no file in {}; correct it or remove it",
                            shown.join("\", \""),
                            target.label,
                            DirName(dir),
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

    fn expanded(&mut self, target: &Target, glob: &Source) -> Result<Vec<Text>, Diagnostic> {
        let Source::Glob {
            dir,
            include,
            exclude,
            ignored,
        } = glob
        else {
            return Ok(Vec::new());
        };
        let (written, undescribed) = (self.written, self.undescribed);
        let (graph, root) = (&self.graph, self.files.root());
        let is_ignored = |path: &str| {
            ignored.as_ref().is_some_and(|it| {
                it.has(dir, path) || (it.has_all_of(dir, path) && root.join(path).is_dir())
            })
        };
        let skip = |path: &str| {
            graph.outputs().covers(path)
                || undescribed(path)
                || written.iter().any(|file| file == path)
                || is_ignored(path)
        };
        // A script sees all that is there, whatever its key holds.
        let found = match target.in_place() {
            Some(_) => self.dirs.expand(dir, include, exclude, &skip),
            None => self.dirs.expand_sources(dir, include, exclude, &skip),
        };
        let found = found
            .map_err(|error| self.mistake(target, None, format!("{}: {error}", target.label)))?;
        Ok(found.into_iter().map(Text::from).collect())
    }

    /// Looks whether the files that a target names are there, to say so with their place in the build
    /// file.
    pub(super) fn check_sources(&self, id: NodeId) -> Result<(), Diagnostic> {
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
            Err(_) if let Ok(to) = std::fs::read_link(&full) => Err(self.mistake(
                target,
                Some(written),
                format!(
                    "source {path} of {} is a symbolic link to {}, which does not exist",
                    target.label,
                    to.display()
                ),
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
        mistake(&at, message, &text).about(&target.label)
    }
}
