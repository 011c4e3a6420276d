//! How scripts of packages hang together with all other targets.
//!
//! Owns the edges from scripts to whatever writes what they read, and what is said of labels that no target has. Does not know
//! what scripts read of packages that theirs depends on.
//! Invariants: without a word of people about inputs, and without build files, this costs nothing to speak of; an edge that
//! nobody wrote never closes a cycle: what would, is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use petgraph::algo::kosaraju_scc;
use petgraph::graph::DiGraph;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::engine::analyse::reading;
use crate::engine::flaws::Broken;
use crate::lang::label::Label;
use crate::lang::pattern::Pattern;
use crate::lang::place::{Place, start};
use crate::lang::rule_use::RuleUse;
use crate::lang::scripts::{Described, Links};
use crate::lang::target::{Output, Source, Target, Work, join};

/// What build files describe, as scripts have to know it.
pub(super) fn described<'a>(
    targets: &'a [Arc<Target>],
    uses: &'a [Arc<RuleUse>],
    broken: &'a [Broken],
) -> Described<'a> {
    let plain = targets.iter().map(|target| {
        let leaves = match &target.work {
            Work::Command(command) => !command.outs.is_empty(),
            Work::Transpile(_) | Work::Group | Work::Unfinished { .. } => true,
        };
        (&target.label, (target.deps.iter().collect(), leaves))
    });
    let uses = uses.iter().map(|used| (&used.label, (used.deps(), true)));
    Described {
        targets: plain.chain(uses).collect(),
        unread: broken.iter().map(|it| it.target.label.dir()).collect(),
    }
}

/// Adds the edges that follow from what scripts read, and takes away those to labels that no target has; tells which.
pub(super) fn link(targets: &mut [Arc<Target>], links: &Links, broken: &[Broken]) -> Vec<String> {
    let told = drop_unknown(targets, links, broken);
    let reads_named = |target: &Arc<Target>| target.in_place().is_some_and(|step| step.named > 0);
    let is_script = |target: &Arc<Target>| target.in_place().is_some();
    let has_scripts = targets.iter().any(is_script);
    let has_others = || !targets.iter().all(is_script);
    if !has_scripts || !(links.shared.is_some() || targets.iter().any(reads_named) || has_others())
    {
        return told;
    }
    let mut edges = Writers::of(targets).edges(targets, links);
    without_cycles(targets, &mut edges);
    let mut by_reader: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (reader, writer) in edges {
        by_reader.entry(reader).or_default().push(writer);
    }
    let labels: Vec<Label> = targets.iter().map(|target| target.label.clone()).collect();
    for (reader, writers) in by_reader {
        let target = Arc::make_mut(&mut targets[reader]);
        target
            .deps
            .extend(writers.into_iter().map(|it| labels[it].clone()));
        target.deps.sort_unstable();
    }
    told
}

fn drop_unknown(targets: &mut [Arc<Target>], links: &Links, broken: &[Broken]) -> Vec<String> {
    if links.asked.is_empty() {
        return Vec::new();
    }
    let known: FxHashSet<&Label> = targets.iter().map(|target| &target.label).collect();
    let unread: FxHashSet<&str> = broken.iter().map(|it| it.target.label.dir()).collect();
    let is_unknown =
        |(label, _): &&(Label, Label)| !known.contains(label) && !unread.contains(label.dir());
    let unknown: Vec<(Label, Label)> = links.asked.iter().filter(is_unknown).cloned().collect();
    let told = unknown
        .iter()
        .filter(|(label, _)| reading::owner(&known, label).is_none());
    let told = told.map(|(label, asker)| {
        format!("warning: {asker} depends on {label}, but there is no such target; correct it or remove it")
    });
    let told: BTreeSet<String> = told.collect();
    let unknown: FxHashSet<Label> = unknown.into_iter().map(|(label, _)| label).collect();
    for target in targets
        .iter_mut()
        .filter(|target| target.in_place().is_some())
    {
        if target.deps.iter().any(|dep| unknown.contains(dep)) {
            Arc::make_mut(target)
                .deps
                .retain(|dep| !unknown.contains(dep));
        }
    }
    told.into_iter().collect()
}

/// What is left behind, by where it lies.
struct Writers {
    /// Sorted by path.
    places: Vec<(Output, usize)>,
    /// Targets of build files by their directories.
    described: FxHashMap<String, Vec<usize>>,
}

impl Writers {
    fn of(targets: &[Arc<Target>]) -> Self {
        let (mut places, mut described) = (Vec::new(), FxHashMap::<String, Vec<usize>>::default());
        for (index, target) in targets.iter().enumerate() {
            match &target.work {
                Work::Command(command) => {
                    places.extend(command.outs.iter().map(|out| (out.clone(), index)));
                }
                Work::Transpile(step) => {
                    places.push((Output::Tree(step.out.as_str().into()), index))
                }
                Work::Group | Work::Unfinished { .. } => {}
            }
            let leaves = match &target.work {
                Work::Command(command) => command.in_place.is_none() && !command.outs.is_empty(),
                Work::Transpile(_) => true,
                // That of a script with a mistake has no rule.
                Work::Unfinished { .. } => target.rule.is_some(),
                Work::Group => false,
            };
            if leaves {
                let here = described.entry(target.label.dir().to_owned()).or_default();
                here.push(index);
            }
        }
        places.sort_by(|(a, _), (b, _)| start(a).cmp(start(b)));
        Self { places, described }
    }

    /// From who reads to who writes, each once, without those that are there already.
    fn edges(&self, targets: &[Arc<Target>], links: &Links) -> Vec<(usize, usize)> {
        let shared = links
            .shared
            .iter()
            .flat_map(|source| self.writers(source, targets));
        let shared: BTreeSet<usize> = shared.collect();
        // Many packages name the same.
        let mut known: FxHashMap<&Source, BTreeSet<usize>> = FxHashMap::default();
        let mut edges = Vec::new();
        for (reader, target) in targets.iter().enumerate() {
            let Some(step) = target.in_place() else {
                continue;
            };
            let mut writers = shared.clone();
            for source in target.srcs.iter().take(step.named) {
                let of_it = known.entry(source);
                writers.extend(
                    of_it
                        .or_insert_with(|| self.writers(source, targets))
                        .iter(),
                );
            }
            if step.reads_usual {
                // What lies in a package by its own build file is the package's, whether git ignores it or not.
                writers.extend(self.described.get(target.label.dir()).into_iter().flatten());
            }
            let is_new = |writer: &usize| {
                // What a script depends on is sorted.
                let label = &targets[*writer].label;
                *writer != reader && target.deps.binary_search(label).is_err()
            };
            edges.extend(
                writers
                    .into_iter()
                    .filter(is_new)
                    .map(|writer| (reader, writer)),
            );
        }
        edges
    }

    /// Who writes what `source` names.
    fn writers(&self, source: &Source, targets: &[Arc<Target>]) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let Source::Glob {
            dir,
            include,
            exclude,
            ..
        } = source
        else {
            return found;
        };
        let rooted = |pattern: &Pattern| Pattern::parse(&join(dir, pattern.as_str())).ok();
        let exclude: Vec<Pattern> = exclude.iter().filter_map(rooted).collect();
        for pattern in include.iter().filter_map(rooted) {
            let place = Place::of(&pattern);
            let above = std::iter::successors(Some(place.base()), |path| {
                path.rsplit_once('/').map(|(above, _)| above)
            });
            // What lies around it, and what lies below.
            let around = above.flat_map(|path| {
                let from = self.places.partition_point(|(out, _)| start(out) < path);
                self.places[from..]
                    .iter()
                    .take_while(move |(out, _)| start(out) == path)
            });
            let root = self
                .places
                .iter()
                .take_while(|(out, _)| start(out).is_empty());
            let prefix = match place.base() {
                "" => String::new(),
                base => format!("{base}/"),
            };
            let from = self
                .places
                .partition_point(|(out, _)| *start(out) < *prefix);
            let below = self.places[from..].iter();
            let below = below.take_while(|(out, _)| start(out).starts_with(&prefix));
            let meant = around.chain(root).chain(below).filter(|(out, writer)| {
                let is_script = targets[*writer].in_place().is_some();
                !place.is_left_out(out, &exclude) && place.means(out, is_script)
            });
            found.extend(meant.map(|(_, writer)| *writer));
        }
        found
    }
}

/// Takes away edges within a circle that they close.
fn without_cycles(targets: &[Arc<Target>], edges: &mut Vec<(usize, usize)>) {
    if edges.is_empty() {
        return;
    }
    let labels = targets.iter().enumerate();
    let places: FxHashMap<&Label, usize> = labels.map(|(at, it)| (&it.label, at)).collect();
    let mut leads_to = DiGraph::<(), ()>::with_capacity(targets.len(), edges.len());
    for _ in targets {
        leads_to.add_node(());
    }
    for (reader, target) in targets.iter().enumerate() {
        let deps = target.deps.iter().filter_map(|dep| places.get(dep));
        leads_to.extend_with_edges(deps.map(|writer| (reader as u32, *writer as u32)));
    }
    leads_to.extend_with_edges(
        edges
            .iter()
            .map(|(reader, writer)| (*reader as u32, *writer as u32)),
    );
    let mut circle_of = vec![0; targets.len()];
    for (number, circle) in kosaraju_scc(&leads_to).iter().enumerate() {
        for node in circle {
            circle_of[node.index()] = number;
        }
    }
    edges.retain(|(reader, writer)| circle_of[*reader] != circle_of[*writer]);
}
