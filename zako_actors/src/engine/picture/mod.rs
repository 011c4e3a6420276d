//! A picture of the target graph: as DOT, as SVG, and as a page that needs nothing else.
//!
//! Owns what a picture shows: all targets, or all packages and each package by itself. How it is
//! written is told in `write`, where things lie is decided in `layout`. Does not know the command
//! line.
//! Invariants: every target that is asked for can be seen; a package is shown with whatever its
//! targets need and are needed by.

mod layout;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{Graph, NodeId};
use super::query::kind_of;
use crate::lang::label::{DirName, Label};

/// More targets than this are drawn by package in a picture, unless somebody asks for targets.
pub const READABLE: usize = 400;
/// More neighbours of a package than this are drawn by package.
const NEIGHBOURS: usize = 40;

/// What is drawn.
#[derive(Debug)]
pub struct Picture {
    /// Everything; then, when that is packages, each of them.
    views: Vec<View>,
}

#[derive(Debug, Default)]
struct View {
    name: String,
    boxes: Vec<Node>,
    /// For each box the boxes that it needs.
    deps: Vec<BTreeSet<usize>>,
}

#[derive(Debug)]
struct Node {
    name: String,
    kind: String,
    /// Lines for a reader who points at it.
    details: Vec<String>,
    /// Where there is more to see of it.
    view: Option<usize>,
    /// A neighbour of the package that is shown.
    guest: bool,
}

/// What a box stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Target(NodeId),
    Package(&'a str),
}

/// A view that is being put together.
struct Sketch<'a> {
    view: View,
    places: BTreeMap<Key<'a>, usize>,
    scene: &'a Scene<'a>,
}

/// What the views are taken from.
struct Scene<'a> {
    graph: &'a Graph,
    note: &'a dyn Fn(&Label) -> Option<String>,
    /// The targets of each package.
    packages: BTreeMap<&'a str, Vec<NodeId>>,
    /// The view of each package.
    views: BTreeMap<&'a str, usize>,
}

impl Picture {
    /// Draws each of `wanted`, dependencies first. `note` adds a line about a target, such as how
    /// long it took.
    pub fn targets(
        graph: &Graph,
        wanted: &[NodeId],
        title: &str,
        note: &dyn Fn(&Label) -> Option<String>,
    ) -> Self {
        let scene = Scene {
            graph,
            note,
            packages: BTreeMap::new(),
            views: BTreeMap::new(),
        };
        let mut sketch = Sketch::new(&scene, title.to_owned());
        for id in wanted {
            sketch.place(Key::Target(*id), false);
        }
        for id in wanted {
            for dep in graph.deps(*id) {
                if sketch.places.contains_key(&Key::Target(*dep)) {
                    sketch.link(Key::Target(*id), Key::Target(*dep), (false, false));
                }
            }
        }
        Self {
            views: vec![sketch.view],
        }
    }

    /// Draws one box for each package of `wanted`, and behind it the package's targets; see
    /// [`targets`](Self::targets).
    pub fn packages(
        graph: &Graph,
        wanted: &[NodeId],
        title: &str,
        note: &dyn Fn(&Label) -> Option<String>,
    ) -> Self {
        let mut order = Vec::new();
        let mut packages: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
        let mut users: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for id in wanted {
            let dir = graph.target(*id).label.dir();
            let inside = packages.entry(dir).or_default();
            if inside.is_empty() {
                order.push(dir);
            }
            inside.push(*id);
            users.entry(*id).or_default();
            for dep in graph.deps(*id) {
                users.entry(*dep).or_default().push(*id);
            }
        }
        let views = order.iter().enumerate().map(|(at, dir)| (*dir, at + 1));
        let scene = Scene {
            graph,
            note,
            packages,
            views: views.collect(),
        };
        let mut all = Sketch::new(&scene, title.to_owned());
        for dir in &order {
            all.place(Key::Package(dir), false);
        }
        for (dep, users) in &users {
            for user in users {
                let [from, to] = [user, dep].map(|id| Key::Package(scene.dir(*id)));
                all.link(from, to, (false, false));
            }
        }
        let mut views = vec![all.view];
        views.extend(order.iter().map(|dir| scene.package(dir, &users)));
        Self { views }
    }
}

impl<'a> Scene<'a> {
    fn dir(&self, id: NodeId) -> &'a str {
        self.graph.target(id).label.dir()
    }

    /// The targets of a package with what they need and what needs them.
    fn package(&self, dir: &'a str, users: &BTreeMap<NodeId, Vec<NodeId>>) -> View {
        let inside = &self.packages[dir];
        let mut links = Vec::new();
        for id in inside {
            let needed = self.graph.deps(*id).iter();
            links.extend(
                needed
                    .filter(|dep| users.contains_key(dep))
                    .map(|dep| (*id, *dep)),
            );
            let from_others = users[id].iter().filter(|user| self.dir(**user) != dir);
            links.extend(from_others.map(|user| (*user, *id)));
        }
        let is_guest = |id: NodeId| self.dir(id) != dir;
        let both = links.iter().flat_map(|(from, to)| [*from, *to]);
        let guests: BTreeSet<NodeId> = both.filter(|id| is_guest(*id)).collect();
        let by_package = guests.len() > NEIGHBOURS;
        let key = |id: NodeId| match is_guest(id) && by_package {
            true => Key::Package(self.dir(id)),
            false => Key::Target(id),
        };
        let mut sketch = Sketch::new(self, package_name(dir));
        for id in inside {
            sketch.place(Key::Target(*id), false);
        }
        for (from, to) in links {
            sketch.link(key(from), key(to), (is_guest(from), is_guest(to)));
        }
        sketch.view
    }
}

impl<'a> Sketch<'a> {
    fn new(scene: &'a Scene<'a>, name: String) -> Self {
        Self {
            view: View {
                name,
                ..View::default()
            },
            places: BTreeMap::new(),
            scene,
        }
    }

    /// The box of `key`, new or known.
    fn place(&mut self, key: Key<'a>, guest: bool) -> usize {
        if let Some(place) = self.places.get(&key) {
            return *place;
        }
        let scene = self.scene;
        let (name, kind, details, dir) = match key {
            Key::Target(id) => {
                let target = scene.graph.target(id);
                let mut details = vec![format!("{} in {}", kind_of(target), target.at)];
                details.extend((scene.note)(&target.label));
                let dir = target.label.dir();
                (
                    target.label.to_string(),
                    kind_of(target),
                    details,
                    guest.then_some(dir),
                )
            }
            Key::Package(dir) => {
                let targets = scene.packages[dir].len();
                let noun = if targets == 1 { "target" } else { "targets" };
                (
                    package_name(dir),
                    "package",
                    vec![format!("{targets} {noun}")],
                    Some(dir),
                )
            }
        };
        self.view.boxes.push(Node {
            name,
            kind: kind.to_owned(),
            details,
            view: dir.map(|dir| scene.views[dir]),
            guest,
        });
        self.view.deps.push(BTreeSet::new());
        let place = self.view.boxes.len() - 1;
        self.places.insert(key, place);
        place
    }

    /// `from` needs `to`; whether each is a guest, should it be new.
    fn link(&mut self, from: Key<'a>, to: Key<'a>, guests: (bool, bool)) {
        let (from, to) = (self.place(from, guests.0), self.place(to, guests.1));
        if from != to {
            self.view.deps[from].insert(to);
        }
    }
}

fn package_name(dir: &str) -> String {
    DirName(dir).to_string()
}

#[cfg(test)]
mod tests;
