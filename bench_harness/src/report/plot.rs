//! Plots as SVG text, drawn for a width of 480, so that text is readable on a phone, and scaled by the page.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use super::{Scaling, escape};
use crate::latency::Latency;
use crate::measure::{Outcome, Row};
use crate::table::number;

const WIDTH: f64 = 480.0;
/// Where bars begin; names stand left of it.
const LEFT: f64 = 160.0;
/// Where they end at most; figures stand right of it.
const RIGHT: f64 = 330.0;
const ROW: f64 = 24.0;

/// Horizontal bars, a block per variant, ours in colour, with the range of all runs as a whisker.
pub(super) fn bars(outcome: &Outcome) -> String {
    let mut variants: Vec<&str> = Vec::new();
    for row in &outcome.results {
        if !variants.contains(&row.variant.as_str()) {
            variants.push(&row.variant);
        }
    }
    let mut svg = String::new();
    let mut top = 0.0;
    for variant in variants {
        let mut rows: Vec<&Row> = outcome
            .results
            .iter()
            .filter(|row| row.variant == variant)
            .collect();
        let best_first = |a: &&Row, b: &&Row| {
            let order = b.median.total_cmp(&a.median);
            if outcome.less_is_better() {
                order.reverse()
            } else {
                order
            }
        };
        rows.sort_by(best_first);
        let most = rows
            .iter()
            .map(|row| row.max)
            .fold(f64::MIN_POSITIVE, f64::max);
        let _ = writeln!(
            svg,
            "<text x=\"0\" y=\"{:.0}\" font-weight=\"600\">{}</text>",
            top + 16.0,
            escape(variant)
        );
        top += ROW;
        for row in rows {
            bar(&mut svg, outcome, row, most, top);
            top += ROW;
        }
        top += 8.0;
    }
    frame(
        &svg,
        top,
        &format!("{} by implementation", outcome.scenario),
    )
}

fn bar(svg: &mut String, outcome: &Outcome, row: &Row, most: f64, top: f64) {
    let at = |value: f64| LEFT + (RIGHT - LEFT) * value / most;
    let class = if row.is_ours() { "ours" } else { "peer" };
    let middle = top + ROW / 2.0 - 2.0;
    let _ = write!(
        svg,
        "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
         <rect class=\"{class}\" x=\"{LEFT:.0}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.0}\" rx=\"2\"/>\
         <path class=\"range\" d=\"M{:.1} {middle:.1}H{:.1}M{:.1} {:.1}v8M{:.1} {:.1}v8\"/>",
        LEFT - 8.0,
        middle + 5.0,
        escape(&row.implementation),
        (at(row.median) - LEFT).max(1.0),
        ROW - 6.0,
        at(row.min),
        at(row.max),
        at(row.min),
        middle - 4.0,
        at(row.max),
        middle - 4.0,
    );
    let ratio = match outcome.ratio(row) {
        Some(ratio) => format!(" (ours {ratio:.1} ×)"),
        None if !row.valid => " (invalid)".into(),
        None => String::new(),
    };
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\">{}<tspan class=\"soft\">{}</tspan></text>",
        RIGHT + 8.0,
        middle + 5.0,
        number(row.median),
        ratio
    );
}

fn frame(content: &str, height: f64, title: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{}\">{content}</svg>\n",
        escape(title)
    )
}

/// Told apart on white and on black. Curves beyond them have the same colours again and are dashed.
const COLOURS: [&str; 8] = [
    "#0969da", "#1a7f37", "#bc4c00", "#8250df", "#bf3989", "#57606a", "#b8860b", "#0a8f9c",
];

/// How the curve of this index is drawn: no two of a report alike.
fn stroke(index: usize) -> String {
    const DASHES: [&str; 3] = ["none", "7 3", "2 3"];
    let (colour, dash) = (
        COLOURS[index % COLOURS.len()],
        DASHES[index / COLOURS.len() % DASHES.len()],
    );
    format!("stroke=\"{colour}\" stroke-dasharray=\"{dash}\"")
}

/// Percentile curves: nanoseconds on a logarithmic axis, over percentiles that get finer towards the end.
pub(super) fn curves(latencies: &[Latency]) -> String {
    const TOP: f64 = 10.0;
    const BOTTOM: f64 = 260.0;
    const START: f64 = 60.0;
    let values = || {
        latencies
            .iter()
            .flat_map(|latency| latency.curve.iter().map(|point| point.1.max(1) as f64))
    };
    let low = values().fold(f64::MAX, f64::min).log10().floor();
    let high = values().fold(1.0, f64::max).log10().ceil().max(low + 1.0);
    let y = |ns: f64| BOTTOM - (BOTTOM - TOP) * (ns.max(1.0).log10() - low) / (high - low);
    let steps = latencies
        .iter()
        .map(|latency| latency.curve.len())
        .max()
        .unwrap_or(2)
        .max(2) as f64
        - 1.0;
    let x = |step: f64| START + (WIDTH - START - 10.0) * step / steps;
    let mut svg = String::new();
    for decade in low as i32..=high as i32 {
        let ns = 10_f64.powi(decade);
        let _ = writeln!(
            svg,
            "<path class=\"axis\" d=\"M{START} {0:.1}H{1}\"/><text class=\"soft\" x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\">{4}</text>",
            y(ns),
            WIDTH - 10.0,
            START - 6.0,
            y(ns) + 4.0,
            nanoseconds(ns)
        );
    }
    for (name, at) in [
        ("50 %", 50.0),
        ("90 %", 90.0),
        ("99 %", 99.0),
        ("99.9 %", 99.9),
        ("99.99 %", 99.99),
    ] {
        // The curve's own spacing: a step halves the distance to 100 % every 1.5 steps.
        let step = -1.5 * (1.0_f64 - at / 100.0).log2();
        let _ = writeln!(
            svg,
            "<text class=\"soft\" x=\"{:.1}\" y=\"{}\" text-anchor=\"{}\">{name}</text>",
            x(step),
            BOTTOM + 18.0,
            // The last one would be cut off at the edge.
            if at > 99.95 { "end" } else { "middle" }
        );
    }
    let mut legend = BOTTOM + 42.0;
    for (index, latency) in latencies.iter().enumerate() {
        let stroke = stroke(index);
        let points: Vec<String> = latency
            .curve
            .iter()
            .enumerate()
            .map(|(step, point)| format!("{:.1},{:.1}", x(step as f64), y(point.1 as f64)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline class=\"curve\" {stroke} points=\"{}\"/>\
             <path class=\"curve\" {stroke} d=\"M{START} {:.0}h24\"/>\
             <text x=\"{}\" y=\"{legend:.0}\">{}</text>",
            points.join(" "),
            legend - 5.0,
            START + 32.0,
            escape(&latency.path)
        );
        legend += 20.0;
    }
    frame(&svg, legend, "latency by percentile")
}

fn nanoseconds(ns: f64) -> String {
    match ns {
        1e9.. => format!("{:.0} s", ns / 1e9),
        1e6.. => format!("{:.0} ms", ns / 1e6),
        1e3.. => format!("{:.0} µs", ns / 1e3),
        _ => format!("{ns:.0} ns"),
    }
}

/// A line over the number of cores.
pub(super) fn line(scaling: &Scaling) -> String {
    // Below the title and the first figure.
    const TOP: f64 = 50.0;
    const BOTTOM: f64 = 180.0;
    const START: f64 = 60.0;
    let most = scaling
        .points
        .iter()
        .map(|point| point.1)
        .fold(f64::MIN_POSITIVE, f64::max);
    let cores = scaling
        .points
        .iter()
        .map(|point| point.0)
        .max()
        .unwrap_or(1)
        .max(2) as f64;
    let x = |count: usize| START + (WIDTH - START - 60.0) * (count as f64 - 1.0) / (cores - 1.0);
    let y = |value: f64| BOTTOM - (BOTTOM - TOP) * value / most;
    let points: Vec<String> = scaling
        .points
        .iter()
        .map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1)))
        .collect();
    let mut svg = format!(
        "<text x=\"0\" y=\"16\" font-weight=\"600\">{} ({})</text><path class=\"axis\" d=\"M{START} {BOTTOM}H{}\"/>\
         <polyline class=\"curve\" stroke=\"{}\" points=\"{}\"/>",
        escape(&scaling.name),
        escape(&scaling.unit),
        WIDTH - 40.0,
        COLOURS[0],
        points.join(" ")
    );
    for (count, value) in &scaling.points {
        let _ = write!(
            svg,
            "<circle class=\"ours\" cx=\"{0:.1}\" cy=\"{1:.1}\" r=\"4\"/><text x=\"{0:.1}\" y=\"{2:.1}\" text-anchor=\"middle\">{3}</text>\
             <text class=\"soft\" x=\"{0:.1}\" y=\"{4}\" text-anchor=\"middle\">{count}</text>",
            x(*count),
            y(*value),
            y(*value) - 8.0,
            number(*value),
            BOTTOM + 18.0
        );
    }
    frame(&svg, BOTTOM + 30.0, &scaling.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_curves_look_alike() {
        let strokes: std::collections::BTreeSet<String> = (0..13).map(stroke).collect();
        assert_eq!(strokes.len(), 13);
    }
}
