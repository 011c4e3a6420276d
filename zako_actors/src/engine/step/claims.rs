//! Who writes which path in this build.
//!
//! Owns the check that two targets do not write one file when only running them shows it (globs,
//! directory trees, transpiled files). Does not know outputs that are declared by name: the graph
//! refuses these before.
//! Invariants: a path is claimed by one label per build; while outputs are put in place nothing is taken away, so that no directory goes
//! that is about to be filled.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use rustc_hash::{FxHashMap, FxHashSet};

use super::Doubt;
use crate::engine::graph::Graph;
use crate::engine::plan::{Freshness, Plan, Planned};
use crate::lang::label::Label;
use crate::lang::target::{Source, Work};
use crate::lang::text::{AsText, Text};

/// Two targets that write one path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{first} and {second} both write {path}{}; give one of them another output{}",
    if *.is_shared { ", and not the same" } else { "" },
    if *.is_shared { ", or delete the file where one has ceased to write it" } else { "" })]
pub struct Clash {
    /// The path, workspace-relative.
    pub path: String,
    /// Who had it.
    pub first: Label,
    /// Who wants it.
    pub second: Label,
    /// Whether both may write where it lies, as long as they write other files there.
    pub is_shared: bool,
}

/// Claims on output paths.
#[derive(Debug, Default)]
pub struct Claims {
    /// Whose fresh targets have theirs already; the last one of a build that grows.
    plan: Mutex<Option<Arc<Plan>>>,
    /// Made when the first step has outputs: no step has to wait for it to begin.
    owners: OnceLock<Mutex<Owners>>,
    sources: Mutex<Sources>,
    /// Asked for only where something stands in the way of outputs, or would go.
    named: Mutex<Named>,
    /// Of scripts whose outputs are not known for certain.
    doubts: Mutex<Vec<(Label, Doubt)>>,
    /// What steps leave as a directory with nothing in it, with who does, unless several do.
    directories: Mutex<FxHashMap<Text, Option<Label>>>,
    /// Shared by who puts outputs in place. Taken before the owners.
    places: RwLock<()>,
}

type Owners = FxHashMap<Text, Label>;

/// What the first nodes of the plan read.
#[derive(Debug, Default)]
struct Sources {
    nodes: usize,
    paths: FxHashSet<Text>,
}

/// The files that targets name as their sources, of this build or not.
#[derive(Debug, Default)]
struct Named {
    /// The targets that they are of.
    graph: Option<Arc<Graph>>,
    paths: FxHashSet<Text>,
}

impl Claims {
    /// The outputs of what is fresh in `plan` belong to it.
    pub fn of(plan: Arc<Plan>) -> Self {
        Self {
            plan: Mutex::new(Some(plan)),
            ..Self::default()
        }
    }

    fn plan(&self) -> MutexGuard<'_, Option<Arc<Plan>>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owners(&self) -> MutexGuard<'_, Owners> {
        let owners = self.owners.get_or_init(|| {
            let plan = self.plan();
            let nodes = plan.iter().flat_map(|plan| &plan.nodes);
            Mutex::new(fresh(nodes).collect())
        });
        owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The build goes on as `plan`: the outputs of what is fresh there belong to it, too.
    pub fn go_on(&self, plan: &Arc<Plan>) {
        let mut owners = self.owners();
        let before = self.plan().replace(Arc::clone(plan));
        let before = before.map_or(0, |before| before.nodes.len());
        owners.extend(fresh(&plan.nodes[before..]));
    }

    fn doubted(&self) -> MutexGuard<'_, Vec<(Label, Doubt)>> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a `doubt` about what `label` has left.
    pub fn doubt(&self, label: &Label, doubt: Doubt) {
        self.doubted().push((label.clone(), doubt));
    }

    /// What lay where the outputs of `label` go, and nobody is known to have left.
    pub fn strangers_of(&self, label: &Label) -> Vec<Text> {
        let doubts = self.doubted();
        let strangers = doubts.iter().filter(|(it, _)| it == label);
        let strangers = strangers.filter_map(|(_, doubt)| match doubt {
            Doubt::Strangers(paths) => Some(paths),
            Doubt::Nothing => None,
        });
        strangers.flatten().cloned().collect()
    }

    /// The doubts that are left now that others have claimed what is theirs.
    pub fn doubts(&self) -> Vec<(Label, Doubt)> {
        let mut doubts = std::mem::take(&mut *self.doubted());
        if !doubts.is_empty() {
            let owners = self.owners();
            doubts.retain_mut(|(_, doubt)| match doubt {
                Doubt::Strangers(paths) => {
                    paths.retain(|path| !owners.contains_key(path));
                    !paths.is_empty()
                }
                Doubt::Nothing => true,
            });
        }
        doubts
    }

    /// Until the end of this nothing is taken away. Whoever has it claims nothing.
    pub fn placing(&self) -> RwLockReadGuard<'_, ()> {
        self.places.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this build does, as far as it is known.
    pub fn planned(&self) -> Option<Arc<Plan>> {
        self.plan().clone()
    }

    /// Takes out of `paths` what somebody has who is up to date in this build.
    pub fn take_out_owned(&self, paths: &mut Vec<Text>) {
        let owners = self.owners();
        paths.retain(|path| !owners.contains_key(path));
    }

    /// The targets of this build, and all others.
    pub fn graph(&self) -> Option<Arc<Graph>> {
        Some(Arc::clone(&self.plan().as_ref()?.graph))
    }

    /// Who declares to write `path`.
    pub fn writer(&self, path: &str) -> Option<Label> {
        let plan = self.plan();
        let graph = &plan.as_ref()?.graph;
        let writer = *graph.writers(path).first()?;
        Some(graph.target(writer).label.clone())
    }

    /// Whether `path` is a source of this build.
    pub fn is_source(&self, path: &str) -> bool {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = &*self.plan() {
            let new = &plan.nodes[sources.nodes..];
            sources.nodes = plan.nodes.len();
            let new = new.iter().flat_map(|node| node.sources.iter().cloned());
            sources.paths.extend(new);
        }
        sources.paths.contains(path)
    }

    /// Whether a target names `path` as its source, or this build reads it.
    pub fn names_source(&self, path: &str) -> bool {
        let graph = self.graph();
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(graph) = graph
            && !named
                .graph
                .as_ref()
                .is_some_and(|it| Arc::ptr_eq(it, &graph))
        {
            let sources = graph.targets().iter().flat_map(|target| &target.srcs);
            let files = sources.filter_map(|source| match source {
                Source::File(path) => Some(path.clone()),
                Source::Glob { .. } => None,
            });
            named.paths = files.collect();
            named.graph = Some(graph);
        }
        named.paths.contains(path) || self.is_source(path)
    }

    /// Calls `remove` for those of `paths` that nobody has, or `label`; nobody gets one before that is done.
    pub fn unclaimed<'a>(
        &self,
        label: Option<&Label>,
        paths: impl Iterator<Item = &'a str>,
        remove: impl FnOnce(&mut dyn Iterator<Item = &'a str>),
    ) {
        let _alone = self.places.write().unwrap_or_else(PoisonError::into_inner);
        let claims = self.owners();
        let directories = self.directories();
        let is_free = |path: &&str| {
            let keeper = directories.get(*path);
            claims.get(*path).is_none_or(|owner| Some(owner) == label)
                && keeper.is_none_or(|keeper| label.is_some() && keeper.as_ref() == label)
        };
        remove(&mut paths.filter(is_free));
    }

    fn directories(&self) -> MutexGuard<'_, FxHashMap<Text, Option<Label>>> {
        let directories = self.directories.lock();
        directories.unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nobody but `label` takes away these directories.
    pub fn keep<'a>(&self, label: &Label, directories: impl Iterator<Item = &'a Text>) {
        let mut kept = self.directories();
        for path in directories {
            let keeper = kept.entry(path.clone());
            let keeper = keeper.or_insert_with(|| Some(label.clone()));
            if keeper.as_ref() != Some(label) {
                *keeper = None;
            }
        }
    }

    /// Claims `paths` for `label`, all or up to the first clash.
    ///
    /// # Errors
    /// When another label has one of them.
    pub fn claim<'a, P: AsText + ?Sized + 'a>(
        &self,
        label: &Label,
        paths: impl Iterator<Item = &'a P>,
    ) -> Result<(), Clash> {
        let mut claims = self.owners();
        for path in paths {
            match claims.get(path.letters()) {
                Some(other) if other != label => return Err(clash(path.letters(), label, other)),
                Some(_) => {}
                None => drop(claims.insert(path.to_text(), label.clone())),
            }
        }
        Ok(())
    }

    /// Makes sure that nobody but `label` has one of `paths`.
    ///
    /// # Errors
    /// When another label has one of them.
    pub fn check<'a>(
        &self,
        label: &Label,
        mut paths: impl Iterator<Item = &'a str>,
    ) -> Result<(), Clash> {
        let claims = self.owners();
        paths.try_for_each(|path| match claims.get(path) {
            Some(other) if other != label => Err(clash(path, label, other)),
            _ => Ok(()),
        })
    }
}

fn clash(path: &str, one: &Label, other: &Label) -> Clash {
    Clash {
        path: path.to_owned(),
        first: one.min(other).clone(),
        second: one.max(other).clone(),
        is_shared: false,
    }
}

/// Fresh targets have built side by side before, so they do not clash.
fn fresh<'a>(nodes: impl IntoIterator<Item = &'a Planned>) -> impl Iterator<Item = (Text, Label)> {
    nodes.into_iter().flat_map(|node| {
        let outputs = match &node.state {
            Freshness::Fresh(outputs) if node.target.work != Work::Group => &**outputs,
            _ => &[],
        };
        let paths = outputs.iter().map(|item| item.path.clone());
        paths.map(|path| (path, node.target.label.clone()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_claims_is_in_doubt_no_more() {
        let label = |text: &str| Label::parse(text, "").unwrap();
        let claims = Claims::default();
        let strangers = |paths: &[&str]| {
            let paths = paths.iter().map(|path| (*path).into());
            Doubt::Strangers(paths.collect())
        };
        claims.doubt(&label("//a:x"), strangers(&["o", "p"]));
        claims.doubt(&label("//a:y"), strangers(&["o"]));
        claims.doubt(&label("//a:z"), Doubt::Nothing);
        claims.claim(&label("//a:z"), ["o"].into_iter()).unwrap();
        let left = [
            (label("//a:x"), strangers(&["p"])),
            (label("//a:z"), Doubt::Nothing),
        ];
        assert_eq!(claims.doubts(), left);
    }

    #[test]
    fn a_path_has_one_owner() {
        let label = |text: &str| Label::parse(text, "").unwrap();
        let claims = Claims::default();
        claims
            .claim(&label("//b:y"), ["o", "p"].into_iter())
            .unwrap();
        claims.claim(&label("//b:y"), ["o"].into_iter()).unwrap();
        let clash = claims
            .claim(&label("//a:x"), ["p"].into_iter())
            .unwrap_err();
        assert_eq!(
            clash.to_string(),
            "//a:x and //b:y both write p; give one of them another output"
        );
        let free = |label: Option<&Label>| {
            let mut free = Vec::new();
            claims.unclaimed(label, ["o", "p", "q"].into_iter(), |paths| {
                free.extend(paths);
            });
            free
        };
        assert_eq!(free(None), ["q"]);
        assert_eq!(free(Some(&label("//a:x"))), ["q"]);
        assert_eq!(free(Some(&label("//b:y"))), ["o", "p", "q"]);
    }
}
