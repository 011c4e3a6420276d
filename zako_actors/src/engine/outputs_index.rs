//! Who declares which output.
//!
//! Owns clash detection between targets and the questions "is this path an output?", which keeps
//! outputs out of source globs, and "whose?". Does not know what is on disk.
//! Invariants: no path belongs to the declared files or trees of two targets, and none is declared as a file and holds another.

use std::path::Path;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::graph::NodeId;
use super::workspace::PRIVATE_DIR;
use crate::diagnostic::Diagnostic;
use crate::lang::label::is_within;
use crate::lang::locate::{At, mistake};
use crate::lang::packages::FETCHED_DIR;
use crate::lang::pattern::Pattern;
use crate::lang::target::{Output, Source, Target, Work, join};
use crate::lang::text::Text;
use crate::transpile::source_paths;

/// Declared outputs by path.
#[derive(Debug, Default)]
pub struct OutputIndex {
    files: FxHashSet<Text>,
    trees: FxHashSet<Text>,
    /// By the directory that the pattern starts in.
    globs: FxHashMap<String, Vec<Pattern>>,
    /// Where results lie beside their sources, and where those begin.
    others: Vec<(Text, Text)>,
}

/// Scripts of one package often name one directory; who writes which file shows when they run.
fn both_in_place(a: &Target, b: &Target) -> bool {
    a.in_place().is_some() && b.in_place().is_some()
}

impl OutputIndex {
    /// Indexes the declared outputs of `targets`. Tells whose declarations are mistakes: two targets declare one output, an output
    /// lies in one that is declared as a file, or a target names its own source as output.
    pub fn new<'t>(
        targets: &'t [Arc<Target>],
        text_of: &dyn Fn(&str) -> String,
    ) -> (Self, Vec<(NodeId, Diagnostic)>) {
        let index = Self::of(targets);
        let mut mistakes = Vec::new();
        let mut owners: FxHashMap<&'t str, (NodeId, &'t Target)> = FxHashMap::default();
        owners.reserve(targets.len());
        let mut above = Above::default();
        let mut in_files = Vec::new();
        for (target, id) in targets.iter().zip((0..).map(NodeId)) {
            if let Work::Transpile(step) = &target.work {
                let file = index.files.get(step.out.as_str()).map(Text::as_str);
                let file = file.or_else(|| above.file(&index, &step.out));
                in_files.extend(file.map(|file| (file, step.out.as_str(), id)));
            }
            let Some(command) = target.command() else {
                continue;
            };
            for out in &command.outs {
                let path = path_of(out);
                let file = above.file(&index, path);
                in_files.extend(file.map(|file| (file, path, id)));
                let own = check_not_a_source(target, out, text_of);
                let own = own.and_then(|()| check_not_private(target, path, out, text_of));
                mistakes.extend(own.err().map(|mistake| (id, mistake)));
                if let Some(other) = owners.insert(path, (id, target))
                    && !both_in_place(other.1, target)
                {
                    match other.0 == id {
                        // A list names nothing twice, but for the `/` of a directory.
                        true => in_files.push((path, path, id)),
                        false => mistakes.extend(clash((id, target), other, out, text_of)),
                    }
                }
            }
        }
        let mut told = FxHashSet::default();
        for (file, path, id) in in_files {
            let target = &*targets[id.index()];
            // What a script declares without a `/` may be a directory.
            let owner = owners.get(file).filter(|(_, it)| it.in_place().is_none());
            if let Some(owner) = owner.filter(|owner| told.insert((id, owner.0))) {
                mistakes.extend(in_a_file((id, target), *owner, (path, file), text_of));
            }
        }
        if index.trees.is_empty() {
            return (index, mistakes);
        }
        let within = |(&path, &owner): (&&'t str, &(NodeId, &'t Target))| {
            let mut trees = ancestors(path)
                .skip(1)
                .filter(|tree| index.trees.contains(*tree));
            let other = trees.find_map(|tree| {
                let other = owners.get(tree)?;
                let clashes = other.0 != owner.0 && !both_in_place(other.1, owner.1);
                clashes.then_some(*other)
            });
            Some((path, owner, other?))
        };
        // By path, so that mistakes always read the same; of two targets the first.
        let mut within: Vec<_> = owners.iter().filter_map(within).collect();
        within.sort_by_key(|(path, ..)| *path);
        for (path, owner, other) in within {
            if told.insert((owner.0, other.0)) {
                let out = Output::File(path.into());
                mistakes.extend(clash(owner, other, &out, text_of));
            }
        }
        (index, mistakes)
    }

    /// Indexes the declared outputs of `targets`, whether they clash or not.
    pub fn of(targets: &[Arc<Target>]) -> Self {
        let mut index = Self::default();
        index.files.reserve(targets.len());
        for target in targets {
            // The results of a transpile step share a directory with others by design; a clash of
            // single files shows when its sources are known.
            match transpiled_tree(target) {
                Some(tree) => drop(index.trees.insert(tree.into())),
                None => {
                    if let Work::Transpile(step) = &target.work {
                        let (out, root) = (step.out.as_str(), step.root.as_str());
                        index.others.push((out.into(), root.into()));
                    }
                }
            }
            for out in target.command().iter().flat_map(|command| &command.outs) {
                match out {
                    Output::File(path) => drop(index.files.insert(path.clone())),
                    Output::Tree(path) => drop(index.trees.insert(path.clone())),
                    Output::Glob(pattern) => index
                        .globs
                        .entry(pattern.base().to_owned())
                        .or_default()
                        .push(pattern.clone()),
                }
            }
        }
        index
    }

    /// Whether there are outputs that are not declared: results of a transpile step that lie beside its sources.
    pub fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// The same as [`covers`](Self::covers), or a target may write `path` without declaring it.
    pub fn may_cover(&self, path: &str) -> bool {
        self.covers(path) || self.others.iter().any(|(dir, _)| is_within(path, dir))
    }

    /// The same as [`may_cover`](Self::may_cover) in the workspace at `root`, by the sources that are there now.
    pub fn may_still_cover(&self, root: &Path, path: &str) -> bool {
        let is_source = |source: &str| self.covers(source) || root.join(source).exists();
        self.covers(path)
            || self.others.iter().any(|(dir, from)| {
                is_within(path, dir) && {
                    let below = path[dir.len()..].trim_start_matches('/');
                    let mut sources = source_paths(below).map(|source| join(from, &source));
                    sources.any(|source| source != path && is_source(&source))
                }
            })
    }

    /// Whether some target declares `path`, or the tree around it.
    pub fn covers(&self, path: &str) -> bool {
        self.files.contains(path)
            || ancestors(path).any(|dir| {
                self.trees.contains(dir)
                    || self
                        .globs
                        .get(dir)
                        .is_some_and(|list| list.iter().any(|pattern| pattern.matches(path)))
            })
            || self
                .globs
                .get("")
                .is_some_and(|list| list.iter().any(|pattern| pattern.matches(path)))
    }
}

/// The directory that a transpile step fills with nothing but outputs.
fn transpiled_tree(target: &Target) -> Option<&str> {
    match &target.work {
        Work::Transpile(step) if !is_within(&step.root, &step.out) => Some(&step.out),
        _ => None,
    }
}

/// Targets by what they declare. Made when somebody is to be named: a no-op names nobody.
#[derive(Debug, Default)]
pub struct Writers {
    /// Of files and trees.
    paths: FxHashMap<String, Vec<NodeId>>,
    /// By the directory that the pattern starts in.
    globs: FxHashMap<String, Vec<(Pattern, NodeId)>>,
    /// Those whose results lie beside their sources, with where.
    others: Vec<(Text, NodeId)>,
}

impl Writers {
    /// Who declares what of `targets`.
    pub fn new(targets: &[Arc<Target>]) -> Self {
        let mut writers = Self::default();
        for (index, target) in targets.iter().enumerate() {
            let id = NodeId(index as u32);
            let mut add = |path: &str| writers.paths.entry(path.to_owned()).or_default().push(id);
            match (transpiled_tree(target), &target.work) {
                (Some(tree), _) => add(tree),
                (None, Work::Transpile(step)) => {
                    writers.others.push((step.out.as_str().into(), id));
                }
                _ => {}
            }
            for out in target.command().iter().flat_map(|command| &command.outs) {
                match out {
                    Output::File(path) | Output::Tree(path) => add(path),
                    Output::Glob(pattern) => {
                        let globs = writers.globs.entry(pattern.base().to_owned());
                        globs.or_default().push((pattern.clone(), id));
                    }
                }
            }
        }
        writers
    }

    /// The targets that declare `path`, or the tree around it, by label.
    pub fn of(&self, path: &str) -> Vec<NodeId> {
        let mut found: Vec<NodeId> = Vec::new();
        for at in ancestors(path).chain([""]) {
            found.extend(self.paths.get(at).into_iter().flatten());
            let globs = self.globs.get(at).into_iter().flatten();
            found.extend(globs.filter(|(it, _)| it.matches(path)).map(|(_, id)| *id));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The same, and those that may write `path` without declaring it.
    pub fn may_write(&self, path: &str) -> Vec<NodeId> {
        let mut found = self.of(path);
        let others = self.others.iter().filter(|(dir, _)| is_within(path, dir));
        found.extend(others.map(|(_, id)| *id));
        found
    }
}

/// `path` itself, then each directory around it, without the root.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(dir, _)| dir))
}

fn check_not_a_source(
    target: &Target,
    out: &Output,
    text_of: &dyn Fn(&str) -> String,
) -> Result<(), Diagnostic> {
    let own = target.srcs.iter().find_map(|source| match source {
        Source::File(path) if out.covers(path) => Some(path),
        _ => None,
    });
    match own {
        None => Ok(()),
        Some(path) => Err(mistake(
            &target.at.clone(),
            format!(
                "{} names {path} both in `srcs` and in `outs`; a step may not change its own input",
                target.label
            ),
            &text_of(&target.at.path),
        )
        .about(&target.label)),
    }
}

/// Directories that belong to zako and to git: a step that wrote there would pull the ground from under
/// both.
fn check_not_private(
    target: &Target,
    path: &str,
    out: &Output,
    text_of: &dyn Fn(&str) -> String,
) -> Result<(), Diagnostic> {
    let places = [PRIVATE_DIR, ".git"];
    let Some(name) = places.into_iter().find(|name| is_within(path, name)) else {
        return Ok(());
    };
    // A package that was fetched has its outputs beside its sources, as every other.
    if is_within(target.label.dir(), FETCHED_DIR) && is_within(path, target.label.dir()) {
        return Ok(());
    }
    let text = text_of(&target.at.path);
    let shown = out.show();
    let at = At::in_target(&target.at.path, &text, target.label.name(), Some(&shown));
    let at = if at.line == 0 { target.at.clone() } else { at };
    Err(mistake(
        &at,
        format!(
            "output {shown} of {} lies in {name}/, which is not for outputs; choose another place",
            target.label
        ),
        &text,
    )
    .about(&target.label))
}

fn path_of(out: &Output) -> &str {
    match out {
        Output::File(path) | Output::Tree(path) => path,
        Output::Glob(pattern) => pattern.as_str(),
    }
}

/// Which output that is declared as a file lies around others: of one directory it is found once.
#[derive(Default)]
struct Above<'p, 'i> {
    dir: &'p str,
    file: Option<&'i str>,
}

impl<'p, 'i> Above<'p, 'i> {
    fn file(&mut self, index: &'i OutputIndex, path: &'p str) -> Option<&'i str> {
        let (dir, _) = path.rsplit_once('/')?;
        if self.dir != dir {
            let mut files = ancestors(dir).filter_map(|dir| index.files.get(dir));
            (self.dir, self.file) = (dir, files.next().map(Text::as_str));
        }
        self.file
    }
}

/// What is wrong where `path` lies in `file`, which `owner` declares as a file, or is that as well.
fn in_a_file(
    target: (NodeId, &Target),
    owner: (NodeId, &Target),
    (path, file): (&str, &str),
    text_of: &dyn Fn(&str) -> String,
) -> Vec<(NodeId, Diagnostic)> {
    let (_, writer) = target;
    let text = text_of(&writer.at.path);
    let dir = writer.label.dir();
    let [shown, outer] =
        [path, file].map(|it| it.strip_prefix(dir).unwrap_or(it).trim_start_matches('/'));
    let at = At::in_target(&writer.at.path, &text, writer.label.name(), Some(shown));
    let at = if at.line == 0 { writer.at.clone() } else { at };
    let message = match owner.0 == target.0 {
        true if path == file => format!(
            "{} declares {file} as a file and as a directory; it can be one of them only",
            writer.label
        ),
        true => format!(
            "{} declares {file} as a file, and {path} in it; if {file} is a directory, declare it as `{outer}/`",
            writer.label
        ),
        false => {
            let what = match path == file {
                true => "makes it a directory".to_owned(),
                false => format!("writes {path} in it"),
            };
            format!(
                "{} declares {file} as a file, and {} {what}; give one of them another output",
                owner.1.label, writer.label
            )
        }
    };
    let found = mistake(&at, message, &text);
    let mut all = vec![(target.0, found.clone().about(&writer.label))];
    if owner.0 != target.0 {
        all.push((owner.0, found.about(&owner.1.label)));
    }
    all
}

/// What is wrong with two targets: nobody knows which of them is to have the output.
fn clash(
    target: (NodeId, &Target),
    other: (NodeId, &Target),
    out: &Output,
    text_of: &dyn Fn(&str) -> String,
) -> [(NodeId, Diagnostic); 2] {
    // In a stable order, whichever was met first: places are in that of labels.
    let ((first_id, first), (second_id, second)) = if target.0 <= other.0 {
        (target, other)
    } else {
        (other, target)
    };
    let text = text_of(&second.at.path);
    let shown = out.show();
    let needle = shown
        .strip_prefix(second.label.dir())
        .unwrap_or(&shown)
        .trim_start_matches('/');
    let at = At::in_target(&second.at.path, &text, second.label.name(), Some(needle));
    let at = if at.line == 0 { second.at.clone() } else { at };
    let message = format!(
        "{} and {} both write {shown}; give one of them another output",
        first.label, second.label
    );
    let found = mistake(&at, message, &text);
    [
        (first_id, found.clone().about(&first.label)),
        (second_id, found.about(&second.label)),
    ]
}

#[cfg(test)]
mod tests;
