//! A flame graph as SVG: width is time, the outermost caller at the bottom; titles show on hovering.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::escape;

/// One call stack, outermost first, and how often it was seen.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Names of functions.
    pub frames: Vec<String>,
    /// Samples.
    pub count: u64,
}

#[derive(Default)]
struct Node {
    count: u64,
    callees: BTreeMap<String, Node>,
}

impl Node {
    fn depth(&self) -> usize {
        1 + self.callees.values().map(Self::depth).max().unwrap_or(0)
    }
}

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 17.0;
/// Narrower boxes are left out.
const NARROWEST: f64 = 0.5;

/// The graph of these stacks.
pub fn render(title: &str, stacks: &[Stack]) -> String {
    let mut root = Node::default();
    for stack in stacks {
        root.count += stack.count;
        let mut node = &mut root;
        for frame in &stack.frames {
            node = node.callees.entry(frame.clone()).or_default();
            node.count += stack.count;
        }
    }
    let height = HEIGHT * (root.depth() as f64 + 2.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"monospace\" font-size=\"11\">\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/><text x=\"4\" y=\"13\">{}: {} samples</text>\n",
        escape(title),
        root.count
    );
    let total = root.count.max(1);
    draw(&mut svg, &root, total, 0.0, height - HEIGHT);
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, node: &Node, total: u64, left: f64, bottom: f64) {
    let mut x = left;
    for (name, callee) in &node.callees {
        let width = WIDTH * callee.count as f64 / total as f64;
        if width >= NARROWEST {
            let letters = (width / 6.7) as usize;
            let short: String = if letters < 3 {
                String::new()
            } else {
                name.chars().take(letters).collect()
            };
            let _ = writeln!(
                svg,
                "<g><title>{} ({:.1} %)</title><rect x=\"{x:.1}\" y=\"{bottom:.0}\" width=\"{width:.1}\" height=\"{:.0}\" fill=\"{}\"/>\
                 <text x=\"{:.1}\" y=\"{:.0}\">{}</text></g>",
                escape(name),
                100.0 * callee.count as f64 / total as f64,
                HEIGHT - 1.0,
                colour(name),
                x + 2.0,
                bottom + 12.0,
                escape(&short)
            );
            draw(svg, callee, total, x, bottom - HEIGHT);
        }
        x += width;
    }
}

/// Warm, and the same for the same name.
fn colour(name: &str) -> String {
    let hash = name.bytes().fold(17_u32, |hash, byte| {
        hash.wrapping_mul(31).wrapping_add(u32::from(byte))
    });
    format!("hsl({},80%,{}%)", 15 + hash % 40, 62 + (hash >> 8) % 14)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_callers_are_merged_and_names_are_escaped() {
        let stack = |frames: &[&str], count| Stack {
            frames: frames.iter().map(|frame| (*frame).into()).collect(),
            count,
        };
        let svg = render(
            "test",
            &[stack(&["main", "a<T>"], 3), stack(&["main", "b"], 1)],
        );
        assert!(svg.contains("4 samples"));
        assert_eq!(svg.matches("<title>main (100.0 %)</title>").count(), 1);
        assert!(svg.contains("<title>a&lt;T&gt; (75.0 %)</title>"));
    }
}
