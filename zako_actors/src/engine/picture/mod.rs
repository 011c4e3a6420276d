//! A picture of the target graph: as DOT, and as a page that needs nothing else.
//!
//! Owns what a picture shows and how it is written. Where things lie is decided in `layout`. Does
//! not know the command line.
//! Invariants: text from build files is escaped wherever it goes; an edge that follows from
//! others is left out, so that what is drawn is as little as says the same.

mod layout;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;

use super::graph::{Graph, NodeId};
use super::query::kind_of;
use crate::lang::label::Label;
use layout::Layout;

/// More targets than this are drawn by package.
pub const READABLE: usize = 400;

/// What is drawn.
#[derive(Debug)]
pub struct Picture {
    boxes: Vec<Node>,
    /// For each box the boxes that it needs.
    deps: Vec<Vec<usize>>,
}

#[derive(Debug)]
struct Node {
    name: String,
    kind: String,
    /// Lines for a reader who points at it.
    details: Vec<String>,
}

impl Picture {
    /// Draws `wanted`, dependencies first; one box for a package when `by_package`. `note` adds a
    /// line about a target, such as how long it took.
    pub fn new(
        graph: &Graph,
        wanted: &[NodeId],
        by_package: bool,
        note: &dyn Fn(&Label) -> Option<String>,
    ) -> Self {
        let mut place: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut packages: BTreeMap<&str, usize> = BTreeMap::new();
        let mut boxes: Vec<Node> = Vec::new();
        for id in wanted {
            let target = graph.target(*id);
            if by_package {
                let dir = target.label.dir();
                let at = *packages.entry(dir).or_insert_with(|| {
                    boxes.push(Node {
                        name: format!("//{dir}"),
                        kind: "package".to_owned(),
                        details: Vec::new(),
                    });
                    boxes.len() - 1
                });
                boxes[at].details.push(target.label.to_string());
                place.insert(*id, at);
                continue;
            }
            place.insert(*id, boxes.len());
            let mut details = vec![format!("{} in {}", kind_of(target), target.at)];
            details.extend(note(&target.label));
            boxes.push(Node {
                name: target.label.to_string(),
                kind: kind_of(target).to_owned(),
                details,
            });
        }
        let mut deps = vec![Vec::new(); boxes.len()];
        for id in wanted {
            let from = place[id];
            for dep in graph.deps(*id).iter().filter_map(|dep| place.get(dep)) {
                if *dep != from && !deps[from].contains(dep) {
                    deps[from].push(*dep);
                }
            }
        }
        Self {
            deps: layout::reduce(&deps),
            boxes,
        }
    }

    /// In the language of Graphviz.
    pub fn dot(&self) -> String {
        let mut text = String::from(
            "digraph zako {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n",
        );
        for node in &self.boxes {
            let shape = if node.kind == "test" {
                " [style=\"rounded,dashed\"]"
            } else {
                ""
            };
            let _ = writeln!(text, "  {}{shape};", quoted(&node.name));
        }
        for (from, deps) in self.deps.iter().enumerate() {
            for dep in deps {
                let (from, dep) = (&self.boxes[from].name, &self.boxes[*dep].name);
                let _ = writeln!(text, "  {} -> {};", quoted(from), quoted(dep));
            }
        }
        text.push_str("}\n");
        text
    }

    /// As a page with the picture, a search, and what depends on what under the pointer.
    pub fn html(&self, title: &str) -> String {
        let widths: Vec<f64> = self
            .boxes
            .iter()
            .map(|node| node.name.chars().count() as f64 * 7.3 + 24.0)
            .collect();
        let layout = Layout::new(&self.deps, &widths);
        let nodes: Vec<_> = self
            .boxes
            .iter()
            .zip(&layout.places)
            .zip(&widths)
            .map(|((node, (x, y)), width)| {
                json!({
                    "name": node.name, "kind": node.kind, "details": node.details,
                    "x": x.round(), "y": y.round(), "w": width.round(),
                })
            })
            .collect();
        let edges: Vec<_> = layout
            .edges
            .iter()
            .map(|edge| {
                let points: Vec<_> = edge
                    .points
                    .iter()
                    .map(|(x, y)| [x.round(), y.round()])
                    .collect();
                json!({"needs": edge.needs, "by": edge.by, "points": points})
            })
            .collect();
        let data = json!({
            "title": title, "width": layout.width.round(), "height": layout.height.round(),
            "nodes": nodes, "edges": edges,
        });
        // Inside a script element nothing but `</` and `<!--` could end the data.
        let data = data.to_string().replace('<', "\\u003c");
        include_str!("page.html").replace("\"$DATA\"", &data)
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::targets;
    use super::*;
    use crate::engine::flaws::Flaws;

    fn picture(by_package: bool) -> Picture {
        let graph = Graph::new(
            targets(&[
                ("//a:x", &["//b:y", "//c:z"], &[]),
                ("//b:y", &["//c:z"], &[]),
                ("//c:z", &[], &[]),
                ("//c:w", &["//c:z"], &[]),
            ]),
            &Flaws::default(),
            &|_| String::new(),
        );
        Picture::new(&graph, graph.order(), by_package, &|_| None)
    }

    #[test]
    fn an_edge_that_follows_from_others_is_left_out() {
        let dot = picture(false).dot();
        assert!(dot.contains("\"//a:x\" -> \"//b:y\";") && dot.contains("\"//b:y\" -> \"//c:z\";"));
        assert!(!dot.contains("\"//a:x\" -> \"//c:z\";"), "{dot}");
    }

    #[test]
    fn packages_are_drawn_as_one_box_each() {
        let dot = picture(true).dot();
        assert!(
            dot.contains("\"//c\"") && !dot.contains("\"//c\" -> \"//c\""),
            "{dot}"
        );
    }

    #[test]
    fn a_page_holds_its_data_and_nothing_from_elsewhere() {
        let html = picture(false).html("</script><b>");
        assert!(!html.contains("</script><b>") && html.contains("//a:x"));
        assert!(!html.contains("src=") && !html.contains("$DATA"));
    }
}
