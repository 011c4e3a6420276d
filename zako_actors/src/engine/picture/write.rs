//! How a picture is written: for Graphviz, as an image, as a page.
//!
//! Invariants: text from build files is escaped wherever it goes; in what is laid out here an edge
//! that follows from others is left out, so that what is drawn is as little as says the same.
//! Graphviz gets every edge: `tred` leaves out the same ones.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::layout::{BOX, Layout, reduce};
use super::{Picture, View};

/// Of a character, in CSS pixels, and of what is around a name.
const CHARACTER: f64 = 7.3;
const PADDING: f64 = 12.0;

/// A tip of an arrow, in the colour of `$`.
const TIP: &str = r#"<marker id="tip$" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path class="tip" d="M0,.8L8,4L0,7.2z"/></marker>"#;

impl Picture {
    /// In the language of Graphviz, with every edge.
    pub fn dot(&self) -> String {
        let view = &self.views[0];
        let mut text = String::from(
            "digraph zako {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n",
        );
        for node in &view.boxes {
            let shape = if node.kind == "test" {
                " [style=\"rounded,dashed\"]"
            } else {
                ""
            };
            let _ = writeln!(text, "  {}{shape};", quoted(&node.name));
        }
        for (from, deps) in view.deps.iter().enumerate() {
            for dep in deps {
                let (from, dep) = (&view.boxes[from].name, &view.boxes[*dep].name);
                let _ = writeln!(text, "  {} -> {};", quoted(from), quoted(dep));
            }
        }
        text.push_str("}\n");
        text
    }

    /// As an image.
    pub fn svg(&self) -> String {
        let view = &self.views[0];
        let (layout, widths, _) = view.layout();
        let (width, height) = (layout.width.round(), layout.height.round());
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
             <title>{}</title>\n<style>\n{}</style>\n<defs>{}</defs>\n",
            escaped(&view.name),
            include_str!("look.css"),
            TIP.replace('$', ""),
        );
        for (x, y, width, height) in layout.frames.iter().map(rounded) {
            let _ = writeln!(
                text,
                "<rect class=\"frame\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
            );
        }
        for edge in &layout.edges {
            let _ = writeln!(text, "<path class=\"edge\" d=\"{}\"/>", edge.path());
        }
        for ((node, (x, y)), width) in view.boxes.iter().zip(&layout.places).zip(&widths) {
            let _ = writeln!(
                text,
                "<g class=\"node\" data-kind=\"{}\"><title>{}</title><rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{BOX}\"/>\
                 <text x=\"{}\" y=\"{}\">{}</text></g>",
                escaped(&node.kind),
                escaped(&node.details.join("\n")),
                x.round(),
                (y - BOX / 2.0).round(),
                width.round(),
                (x + PADDING).round(),
                y.round(),
                escaped(&node.name),
            );
        }
        text.push_str("</svg>\n");
        text
    }

    /// As a page with the picture, a search, what depends on what, and packages to open.
    pub fn html(&self) -> String {
        let views: Vec<Value> = self.views.iter().map(View::json).collect();
        let tips = ["", "-need", "-by"].map(|name| TIP.replace('$', name));
        // Inside a script element nothing but `</` and `<!--` could end the data.
        let data = json!({ "views": views })
            .to_string()
            .replace('<', "\\u003c");
        include_str!("page.html")
            .replace("$LOOK", include_str!("look.css"))
            .replace("$TIPS", &tips.concat())
            .replace("$SCRIPT", include_str!("page.js"))
            .replace("\"$DATA\"", &data)
    }
}

impl View {
    /// Where everything lies, the width of each box, and how many edges are left out.
    pub(super) fn layout(&self) -> (Layout, Vec<f64>, usize) {
        let deps: Vec<Vec<usize>> = self
            .deps
            .iter()
            .map(|d| d.iter().copied().collect())
            .collect();
        let letters = self.boxes.iter().map(|node| node.name.chars().count());
        let widths: Vec<f64> = letters
            .map(|letters| letters as f64 * CHARACTER + 2.0 * PADDING)
            .collect();
        let reduced = reduce(&deps);
        let count = |deps: &[Vec<usize>]| deps.iter().map(Vec::len).sum::<usize>();
        let implied = count(&deps) - count(&reduced);
        (Layout::new(&reduced, &widths), widths, implied)
    }

    fn json(&self) -> Value {
        let (layout, widths, implied) = self.layout();
        let nodes = self
            .boxes
            .iter()
            .zip(&layout.places)
            .zip(&widths)
            .zip(&self.deps);
        let nodes = nodes.map(|(((node, (x, y)), width), deps)| {
            let mut json = json!({
                "name": node.name, "kind": node.kind, "details": node.details, "needs": deps,
                "x": x.round(), "y": y.round(), "w": width.round(),
            });
            if let Some(view) = node.view {
                json["view"] = view.into();
            }
            if node.guest {
                json["guest"] = true.into();
            }
            json
        });
        let edges = layout.edges.iter();
        let edges = edges.map(|edge| json!({"by": edge.by, "needs": edge.needs, "d": edge.path()}));
        let frames: Vec<_> = layout.frames.iter().map(rounded).collect();
        json!({
            "name": self.name, "frames": frames, "width": layout.width.round(), "height": layout.height.round(),
            "start": layout.start, "implied": implied, "nodes": nodes.collect::<Vec<_>>(), "edges": edges.collect::<Vec<_>>(),
        })
    }
}

fn rounded((x, y, width, height): &(f64, f64, f64, f64)) -> (f64, f64, f64, f64) {
    (x.round(), y.round(), width.round(), height.round())
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// For the text and the attributes of XML.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            // XML has no way to write the others.
            _ if letter.is_control() && letter != '\n' && letter != '\t' => safe.push('\u{fffd}'),
            _ => safe.push(letter),
        }
    }
    safe
}
