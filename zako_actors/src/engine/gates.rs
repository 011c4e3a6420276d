//! Which targets wait until a rule has read what others write.
//!
//! Owns the edges that a graph does not have: from what a rule describes to what the rule reads. Does not know what is
//! up to date.
//! Invariants: what a rule describes lies behind the gate of the turn that it was described in, so nothing is built by
//! a description that may still change; targets and gates come after what they wait for, or a cycle is named.

use rustc_hash::{FxHashMap, FxHashSet};

use super::analyse::Reading;
use super::graph::{Graph, NodeId};
use crate::diagnostic::Diagnostic;
use crate::lang::label::Label;
use crate::lang::locate::mistake;

/// A rule's way from one turn to the next.
#[derive(Debug)]
pub struct Gate {
    /// Whose rule it is.
    pub target: Label,
    /// Gates that open before: the turn before, and rules that this one depends on.
    pub before: Vec<u32>,
    /// Who writes what is read here.
    pub writers: Vec<NodeId>,
    /// Whether the rule has not been told it.
    pub open: bool,
}

/// All gates of a graph, each after those that open before it.
#[derive(Debug, Default)]
pub struct Gates {
    gates: Vec<Gate>,
    /// The gate that a target lies behind.
    of: FxHashMap<NodeId, u32>,
}

/// A target or a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A place in the graph.
    Target(NodeId),
    /// A place among the gates.
    Gate(u32),
}

impl Gates {
    /// The gates of `readings`, which come after those that they depend on.
    pub fn new(graph: &Graph, readings: &[Reading]) -> Self {
        let mut gates = Self::default();
        let mut last: FxHashMap<&Label, u32> = FxHashMap::default();
        for reading in readings {
            let before = reading.after.iter().filter_map(|label| last.get(label));
            let mut before: Vec<u32> = before.copied().collect();
            let described = reading.described.iter().filter_map(|it| graph.find(it));
            let mut described: FxHashSet<NodeId> = described.collect();
            let turns = reading.turns.len();
            for (turn, writers) in reading.turns.iter().enumerate() {
                let writers = writers.iter().filter_map(|label| graph.find(label));
                let writers: Vec<NodeId> = writers.collect();
                // What is read now was described before.
                if let Some(&gate) = before.first() {
                    let gate = match before.as_slice() {
                        [_] => gate,
                        _ => gates.join(reading, &mut before),
                    };
                    let own = take_below(graph, &writers, &mut described);
                    gates.of.extend(own.into_iter().map(|id| (id, gate)));
                } else {
                    take_below(graph, &writers, &mut described);
                }
                let open = reading.open && turn + 1 == turns;
                before = vec![gates.push(reading, std::mem::take(&mut before), writers, open)];
            }
            if let Some(&gate) = before.first() {
                let gate = match before.as_slice() {
                    [_] => gate,
                    _ => gates.join(reading, &mut before),
                };
                gates.of.extend(described.into_iter().map(|id| (id, gate)));
                last.insert(&reading.target, gate);
            }
        }
        gates
    }

    /// One gate for several.
    fn join(&mut self, reading: &Reading, before: &mut Vec<u32>) -> u32 {
        let gate = self.push(reading, std::mem::take(before), Vec::new(), false);
        before.push(gate);
        gate
    }

    fn push(
        &mut self,
        reading: &Reading,
        before: Vec<u32>,
        writers: Vec<NodeId>,
        open: bool,
    ) -> u32 {
        self.gates.push(Gate {
            target: reading.target.clone(),
            before,
            writers,
            open,
        });
        self.gates.len() as u32 - 1
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.gates.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.gates.is_empty()
    }

    /// The gate at `place`.
    pub fn gate(&self, place: u32) -> &Gate {
        &self.gates[place as usize]
    }

    /// The gate that `id` lies behind.
    pub fn of(&self, id: NodeId) -> Option<u32> {
        self.of.get(&id).copied()
    }

    /// What lies behind gates where something is read of what `writers` write.
    pub fn behind(&self, writers: &FxHashSet<NodeId>) -> FxHashSet<NodeId> {
        let mut opens_anew: Vec<bool> = Vec::with_capacity(self.len());
        for gate in &self.gates {
            let mut before = gate.before.iter();
            let reads = gate.writers.iter().any(|id| writers.contains(id));
            opens_anew.push(reads || before.any(|it| opens_anew[*it as usize]));
        }
        let behind = self
            .of
            .iter()
            .filter(|(_, gate)| opens_anew[**gate as usize]);
        behind.map(|(id, _)| *id).collect()
    }

    /// `asked` and everything that it waits for, each after what it waits for itself; those that are `mistaken` wait for
    /// nothing.
    ///
    /// # Errors
    /// A cycle, as a mistake of one that waits.
    pub fn order(
        &self,
        graph: &Graph,
        asked: Vec<NodeId>,
        mistaken: &dyn Fn(&Label) -> bool,
        text_of: &dyn Fn(&str) -> String,
    ) -> Result<Vec<Item>, Diagnostic> {
        if self.is_empty() {
            let wanted = graph.with_deps(asked);
            return Ok(wanted.into_iter().map(Item::Target).collect());
        }
        let mut walk = Walk {
            gates: self,
            graph,
            mistaken,
            targets: vec![Mark::New; graph.len()],
            marks: vec![Mark::New; self.len()],
            order: Vec::new(),
        };
        for id in asked {
            if let Err(cycle) = walk.visit(Item::Target(id)) {
                return Err(self.cycle(graph, &cycle, text_of));
            }
        }
        Ok(walk.order)
    }

    /// What `item` waits for directly, one by one.
    fn needed(&self, graph: &Graph, item: Item, place: usize) -> Option<Item> {
        match item {
            Item::Target(id) => match (self.of(id), place) {
                (Some(gate), 0) => Some(Item::Gate(gate)),
                (gate, place) => {
                    let dep = graph.deps(id).get(place - usize::from(gate.is_some()));
                    dep.copied().map(Item::Target)
                }
            },
            Item::Gate(gate) => {
                let Gate {
                    before, writers, ..
                } = self.gate(gate);
                match before.get(place) {
                    Some(gate) => Some(Item::Gate(*gate)),
                    None => writers.get(place - before.len()).copied().map(Item::Target),
                }
            }
        }
    }

    fn label<'a>(&'a self, graph: &'a Graph, item: Item) -> &'a Label {
        match item {
            Item::Target(id) => &graph.target(id).label,
            Item::Gate(gate) => &self.gate(gate).target,
        }
    }

    /// Names those who wait for each other; each of `cycle` waits for the next one, the last for the first.
    fn cycle(&self, graph: &Graph, cycle: &[Item], text_of: &dyn Fn(&str) -> String) -> Diagnostic {
        let next = cycle.iter().cycle().skip(1);
        let edges = cycle.iter().zip(next).map(|(from, to)| {
            let reads = matches!((from, to), (Item::Gate(_), Item::Target(_)));
            let link = if reads { "reads" } else { "→" };
            (self.label(graph, *from), link, self.label(graph, *to))
        });
        // A target and its own gates are one to a person.
        let mut edges: Vec<_> = edges.filter(|(from, _, to)| from != to).collect();
        let smallest = (0..edges.len()).min_by_key(|place| edges[*place].0);
        edges.rotate_left(smallest.unwrap_or(0));
        let mut path = edges
            .first()
            .map_or_else(String::new, |it| it.0.to_string());
        for (_, link, to) in &edges {
            path.push_str(&format!(" {link} {to}"));
        }
        let message = format!("dependency cycle: {path}; remove one of these dependencies");
        let first = edges.first().and_then(|it| graph.find(it.0));
        match first.map(|id| graph.target(id)) {
            Some(first) => {
                let text = text_of(&first.at.path);
                mistake(&first.at, message, &text).about(&first.label)
            }
            None => Diagnostic::error(message),
        }
    }
}

/// Those of `described` that `writers` are or need; they are taken out.
fn take_below(graph: &Graph, writers: &[NodeId], described: &mut FxHashSet<NodeId>) -> Vec<NodeId> {
    let mut pending = writers.to_vec();
    let mut taken = Vec::new();
    while let Some(id) = pending.pop() {
        // Nobody else stands between two of them.
        if described.remove(&id) {
            taken.push(id);
            pending.extend_from_slice(graph.deps(id));
        }
    }
    taken
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    Below,
    Done,
}

struct Walk<'a> {
    gates: &'a Gates,
    graph: &'a Graph,
    mistaken: &'a dyn Fn(&Label) -> bool,
    targets: Vec<Mark>,
    marks: Vec<Mark>,
    order: Vec<Item>,
}

impl Walk<'_> {
    fn mark(&mut self, item: Item) -> &mut Mark {
        match item {
            Item::Target(id) => &mut self.targets[id.index()],
            Item::Gate(gate) => &mut self.marks[gate as usize],
        }
    }

    /// Appends `item` and everything that it waits for; a cycle is given back.
    fn visit(&mut self, item: Item) -> Result<(), Vec<Item>> {
        let mut path: Vec<(Item, usize)> = Vec::new();
        let mut enter = Some(item);
        loop {
            if let Some(item) = enter.take() {
                match *self.mark(item) {
                    Mark::Done => {}
                    Mark::Below => {
                        let items = path.iter().map(|(on, _)| *on);
                        return Err(items.skip_while(|on| *on != item).collect());
                    }
                    Mark::New => {
                        *self.mark(item) = Mark::Below;
                        path.push((item, 0));
                    }
                }
            }
            let Some((item, place)) = path.last_mut() else {
                return Ok(());
            };
            let is_mistaken = (self.mistaken)(self.gates.label(self.graph, *item));
            let needed = || self.gates.needed(self.graph, *item, *place);
            enter = (!is_mistaken).then(needed).flatten();
            *place += 1;
            if enter.is_none() {
                let item = *item;
                *self.mark(item) = Mark::Done;
                self.order.push(item);
                path.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::flaws::Flaws;
    use crate::engine::graph::tests::targets;
    use crate::lang::locate::flat;

    fn label(text: &str) -> Label {
        Label::parse(text, "").unwrap()
    }

    fn labels(texts: &[&str]) -> Vec<Label> {
        texts.iter().map(|text| label(text)).collect()
    }

    fn reading(target: &str, described: &[&str], after: &[&str], turns: &[&[&str]]) -> Reading {
        Reading {
            target: label(target),
            described: labels(described),
            after: labels(after),
            turns: turns.iter().map(|turn| labels(turn)).collect(),
            open: false,
        }
    }

    type Listed<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

    fn order(
        list: &[Listed<'_>],
        readings: &[Reading],
        asked: &str,
    ) -> Result<Vec<String>, String> {
        let graph = Graph::new(targets(list), &Flaws::default(), &|_| String::new());
        let gates = Gates::new(&graph, readings);
        let asked = vec![graph.find(&label(asked)).unwrap()];
        let order = gates.order(&graph, asked, &|_| false, &|_| String::new());
        let order = order.map_err(|mistake| flat(&mistake))?;
        let name = |item: &Item| match item {
            Item::Target(id) => graph.target(*id).label.to_string(),
            Item::Gate(gate) => format!("gate of {}", gates.gate(*gate).target),
        };
        Ok(order.iter().map(name).collect())
    }

    #[test]
    fn what_a_rule_describes_comes_after_what_it_read_before() {
        let list: [Listed<'_>; 5] = [
            ("//:all", &["//:c"], &[]),
            ("//:a", &[], &[]),
            ("//:b", &[], &[]),
            ("//:c", &[], &[]),
            ("//:user", &[], &[]),
        ];
        let all = ["//:all", "//:a", "//:b", "//:c"];
        let readings = [
            reading("//:all", &all, &[], &[&["//:a"], &["//:b"]]),
            reading("//:user", &["//:user"], &["//:all"], &[]),
        ];
        let expected = [
            "//:a",
            "gate of //:all",
            "//:b",
            "gate of //:all",
            "//:user",
        ];
        assert_eq!(order(&list, &readings, "//:user").unwrap(), expected);
    }

    #[test]
    fn a_cycle_of_those_who_wait_is_named() {
        let list: [Listed<'_>; 4] = [
            ("//:all", &["//:done"], &[]),
            ("//:done", &[], &[]),
            ("//:list", &["//:made"], &[]),
            ("//:made", &["//:all"], &[]),
        ];
        let all = ["//:all", "//:done", "//:list"];
        let readings = [reading("//:all", &all, &[], &[&["//:list"]])];
        let cycle = "dependency cycle: //:all reads //:list → //:made → //:all;";
        for asked in ["//:all", "//:made", "//:list"] {
            let error = order(&list, &readings, asked).unwrap_err();
            assert!(error.contains(cycle), "{error}");
        }
        let error = order(&list, &readings, "//:done").unwrap_err();
        let cycle = "//:all reads //:list → //:made → //:all;";
        assert!(error.contains(cycle), "{error}");
    }
}
