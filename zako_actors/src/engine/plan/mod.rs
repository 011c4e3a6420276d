//! The plan: which targets, which sources, and what is up to date already.
//!
//! Owns the expansion of sources and the survey that answers a no-op. Does not run anything. A plan goes on as another
//! one that begins with it, once rules have said more.
//! Invariants: what a rule may still describe otherwise is not in the plan; a target is fresh only when everything it needs is fresh, its key is the recorded
//! one, and every recorded output is in the workspace as it was left; nodes are in dependency
//! order.

mod sources;

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::diagnostic::Diagnostic;
use crate::engine::action::{Before, Describer, Tool};
use crate::engine::cause::Cause;
use crate::engine::dirs::DirTable;
use crate::engine::earlier::Asked;
use crate::engine::files::FileTable;
use crate::engine::gates::{Gate, Gates, Item};
use crate::engine::graph::{Graph, NodeId};
use crate::engine::group;
use crate::engine::outputs::is_intact;
use crate::engine::record::{OutputItem, Record};
use crate::lang::label::Label;
use crate::lang::target::{Target, Work};
use crate::lang::text::Text;
use sources::Globs;

/// A target to be brought up to date.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its place in the graph of the plan that had it first.
    pub id: NodeId,
    /// The target.
    pub target: Arc<Target>,
    /// Indices of what it needs, all smaller than its own.
    pub deps: Vec<u32>,
    /// Indices of those whose outputs it reads, where these are not just `deps`: a script that
    /// runs in the workspace sees everything that was built before it.
    pub reads: Option<Vec<u32>>,
    /// Source files, workspace-relative, sorted.
    pub sources: Arc<[Text]>,
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

/// The targets of one build as far as they are described, dependencies first.
#[derive(Debug)]
pub struct Plan {
    /// The whole graph.
    pub graph: Arc<Graph>,
    /// What this build is about.
    pub nodes: Vec<Planned>,
    /// Rules that go on when something is built.
    pub waits: Vec<Wait>,
    /// Rules that may go on at once.
    pub ready: Vec<Read>,
    /// What is asked for as well, but depends on what rules are yet to say.
    pub left: Vec<Left>,
}

/// A rule that waits for outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Whose rule it is.
    pub target: Label,
    /// Indices of those that write what it reads.
    pub writers: Vec<u32>,
}

/// Outputs that a rule may read: they are up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Whose rule it is.
    pub target: Label,
    /// Who wrote them.
    pub writers: Vec<Label>,
}

/// A target that cannot be planned yet.
#[derive(Clone, Debug)]
pub struct Left {
    /// The target, as far as it is known.
    pub target: Arc<Target>,
    /// Whose rule has to go on before: its own, or that of something that it needs.
    pub rule: Label,
}

/// The place of a target that is not planned.
const NOWHERE: u32 = u32::MAX;

/// How far planning is.
struct Places {
    /// Indices of the plan by target.
    of: Vec<u32>,
    is_open: Vec<bool>,
    /// Targets that are left, with whose rule has to go on before.
    left: FxHashMap<NodeId, Label>,
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
    pub records: &'a FxHashMap<Label, Arc<Record>>,
    /// Reads a build file again, for the frame of an error.
    pub text_of: &'a dyn Fn(&str) -> String,
    /// Takes every target for stale.
    pub force: bool,
    /// The last plan of the same.
    pub earlier: Option<&'a Asked<'a>>,
    /// Files that are written meanwhile by whoever plans: no glob means them.
    pub written: &'a [String],
    /// Whether zako wrote a file that nobody describes now: no glob means it either.
    pub undescribed: &'a dyn Fn(&str) -> bool,
    /// Targets with a mistake: they are left, and what needs them.
    pub mistaken: &'a FxHashSet<Label>,
    /// The beginning of the plan, when it is one that goes on: these targets stay what and where they are.
    pub begun: &'a [Planned],
    /// Whether the rule of the first target may read outputs of the second one.
    pub may_read: &'a dyn Fn(&Label, &Label) -> bool,
}

impl Planner<'_> {
    /// Plans `items`, each after what it waits for.
    ///
    /// # Errors
    /// Where sources are missing or globs match nothing: all of that, but for what needs a target with such a mistake.
    pub fn plan(mut self, items: &[Item], gates: &Gates) -> Result<Plan, Vec<Diagnostic>> {
        let mut mistakes = Vec::new();
        let mut plan = Plan {
            graph: Arc::clone(&self.graph),
            nodes: Vec::with_capacity(items.len()),
            waits: Vec::new(),
            ready: Vec::new(),
            left: Vec::new(),
        };
        plan.nodes.extend_from_slice(self.begun);
        let begun = self.begun.iter().zip(0_u32..);
        let begun: FxHashMap<&Label, u32> = begun
            .map(|(node, place)| (&node.target.label, place))
            .collect();
        let mut places = Places {
            of: vec![NOWHERE; self.graph.len()],
            is_open: vec![false; gates.len()],
            left: FxHashMap::default(),
        };
        let mut globs = Globs::default();
        for item in items {
            match *item {
                Item::Gate(gate) => {
                    places.is_open[gate as usize] =
                        self.opens(gates.gate(gate), &places, &mut plan);
                }
                Item::Target(id) => {
                    let target = self.graph.target(id);
                    if let Some(known) = begun.get(&target.label) {
                        places.of[id.index()] = *known;
                    } else if let Some(rule) = self.awaited(gates, id, &places) {
                        places.left.insert(id, rule.clone());
                        let target = Arc::clone(&self.graph.targets()[id.index()]);
                        plan.left.push(Left { target, rule });
                    } else {
                        match self.planned(id, &places, &plan.nodes, &mut globs) {
                            Ok(node) => {
                                places.of[id.index()] = plan.nodes.len() as u32;
                                plan.nodes.push(node);
                            }
                            Err(mistake) => {
                                let label = self.graph.target(id).label.clone();
                                places.left.insert(id, label);
                                mistakes.push(mistake);
                            }
                        }
                    }
                }
            }
        }
        match mistakes.is_empty() {
            true => Ok(plan),
            false => Err(mistakes),
        }
    }

    /// Whether what lies behind `gate` is described for good. If not, `plan` notes what its rule waits for.
    fn opens(&self, gate: &Gate, places: &Places, plan: &mut Plan) -> bool {
        let writers = gate.writers.iter().map(|id| places.of[id.index()]);
        let writers: Vec<u32> = writers.collect();
        let mut before = gate.before.iter();
        if writers.contains(&NOWHERE) || !before.all(|it| places.is_open[*it as usize]) {
            return false;
        }
        let may_read = |writer: u32| (self.may_read)(&gate.target, plan.label(writer));
        let unread = |writer: &u32| !may_read(*writer);
        let unread: Vec<u32> = writers.into_iter().filter(unread).collect();
        let is_fresh = |writer: &u32| {
            let state = &plan.nodes[*writer as usize].state;
            matches!(state, Freshness::Fresh(_))
        };
        if unread.iter().all(is_fresh) {
            if gate.open && !unread.is_empty() {
                let writers = unread.iter().map(|writer| plan.label(*writer).clone());
                let writers = writers.collect();
                plan.ready.push(Read {
                    target: gate.target.clone(),
                    writers,
                });
            }
            return !gate.open;
        }
        plan.waits.push(Wait {
            target: gate.target.clone(),
            writers: unread,
        });
        false
    }

    /// Whose rule has to go on before `id` can be planned; of a target with a mistake, its own.
    fn awaited(&self, gates: &Gates, id: NodeId, places: &Places) -> Option<Label> {
        let label = &self.graph.target(id).label;
        if self.mistaken.contains(label) {
            return Some(label.clone());
        }
        let gate = gates.of(id).filter(|gate| !places.is_open[*gate as usize]);
        if let Some(gate) = gate {
            return Some(gates.gate(gate).target.clone());
        }
        if places.left.is_empty() {
            return None;
        }
        let mut deps = self.graph.deps(id).iter();
        deps.find_map(|dep| places.left.get(dep).cloned())
    }

    fn planned(
        &mut self,
        id: NodeId,
        places: &Places,
        nodes: &[Planned],
        globs: &mut Globs,
    ) -> Result<Planned, Diagnostic> {
        let graph = Arc::clone(&self.graph);
        let deps = graph.deps(id).iter();
        let deps: Vec<u32> = deps.map(|dep| places.of[dep.index()]).collect();
        let target = &graph.targets()[id.index()];
        let known = self.earlier.and_then(|earlier| earlier.sources(id, target));
        let sources = match known {
            Some(sources) => sources,
            None => self.sources(id, globs)?.into(),
        };
        let in_place = target.in_place().is_some();
        let reads = in_place.then(|| everything_below(&deps, nodes));
        let (state, tool) = self.survey(id, &sources, reads.as_ref().unwrap_or(&deps), nodes);
        // What is fresh has been looked at.
        if !matches!(state, Freshness::Fresh(_)) {
            self.check_sources(id)?;
        }
        Ok(Planned {
            id,
            target: Arc::clone(target),
            deps,
            reads,
            sources,
            state,
            tool,
        })
    }

    /// A group is as fresh as what it is made of.
    fn survey_group(
        &self,
        target: &Target,
        sources: &[Text],
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
        sources: &[Text],
        deps: &[u32],
        nodes: &[Planned],
    ) -> (Freshness, Option<Arc<Tool>>) {
        let target = self.graph.target(id);
        let stale = |cause| (Freshness::Stale(cause), None);
        match target.work {
            Work::Group => return (self.survey_group(target, sources, deps, nodes), None),
            Work::Unfinished { .. } => return (Freshness::Unknown, None),
            Work::Command(_) | Work::Transpile(_) => {}
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
        let read = target.command().and_then(|c| c.special.depfile.as_ref());
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
            return (state, action.tool);
        }
        let mut outputs = record.outputs.iter();
        let state = match outputs.find(|item| !is_intact(self.files, item)) {
            Some(item) => Freshness::Stale(Cause::Output(item.path.clone())),
            None => Freshness::Fresh(Arc::clone(&record.outputs)),
        };
        (state, action.tool)
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
        let mut nodes = self.nodes.iter();
        self.left.is_empty() && nodes.all(|node| matches!(node.state, Freshness::Fresh(_)))
    }

    /// Whether carrying it out may start processes.
    pub fn starts_processes(&self) -> bool {
        let stale = |node: &&Planned| !matches!(node.state, Freshness::Fresh(_));
        let mut stale = self.nodes.iter().filter(stale);
        !self.waits.is_empty() || stale.any(|node| node.target.command().is_some())
    }

    /// Whether worker processes may answer for some of its steps.
    pub fn asks_workers(&self) -> bool {
        let command = |node: &Planned| node.target.command()?.special.worker.as_ref().map(drop);
        self.nodes.iter().any(|node| command(node).is_some())
    }

    /// The target of node `index`.
    pub fn target(&self, index: u32) -> &Target {
        &self.nodes[index as usize].target
    }

    /// The label of node `index`.
    pub fn label(&self, index: u32) -> &Label {
        &self.target(index).label
    }
}
