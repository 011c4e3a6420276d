//! One self-contained HTML file: plots as inline SVG, tables, the machine; readable on a phone.
#![forbid(unsafe_code)]

pub mod flame;
mod plot;

use std::fmt::Write as _;

use crate::latency::{Latency, Run};
use crate::machine::Machine;
use crate::measure::Outcome;
use crate::table::number;

/// Throughput over a number of threads, for the scaling lines.
#[derive(Debug, Clone)]
pub struct Scaling {
    /// Scenario and variant.
    pub name: String,
    /// Unit of the values.
    pub unit: String,
    /// Cores used and the median there.
    pub points: Vec<(usize, f64)>,
}

/// Text that is safe inside HTML and SVG.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#59636e;--line:#d1d9e0;--paper:#fff;--ours:#0969da;--peer:#9aa4af;--warn:#9a6700}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9198a1;--line:#3d444d;--paper:#0d1117;--ours:#4493f8;--peer:#656c76;--warn:#d29922}}
*{box-sizing:border-box}body{margin:0 auto;padding:1rem;max-width:52rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.15rem;margin:2rem 0 .25rem}p{margin:.25rem 0}.soft{color:var(--soft)}.warn{color:var(--warn)}
svg{display:block;width:100%;max-width:40rem;height:auto;margin:.5rem 0}svg text{font:13px system-ui,sans-serif;fill:var(--ink)}svg .soft{fill:var(--soft)}
.ours{fill:var(--ours)}.peer{fill:var(--peer)}.axis{stroke:var(--line)}.range{stroke:var(--ink);stroke-width:1.5}.curve{fill:none;stroke-width:2}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.875rem}td,th{padding:.15rem .6rem;text-align:right;border-bottom:1px solid var(--line)}td:first-child,th:first-child{text-align:left;padding-left:0;min-width:11rem}
";

/// The whole page.
pub fn html(
    machine: &Machine,
    outcomes: &[Outcome],
    left_out: &[String],
    latencies: Option<&Run>,
    scaling: &[Scaling],
) -> String {
    let mut page = String::new();
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>Zako benchmarks</title><style>{STYLE}</style></head><body>\n<h1>Zako benchmarks</h1>\n"
    );
    about(&mut page, machine);
    let common = machine.doubts();
    for scenario in left_out {
        let _ = writeln!(page, "<p class=\"warn\">Not here: {}</p>", escape(scenario));
    }
    for outcome in outcomes {
        let _ = writeln!(
            page,
            "<h2>{}</h2><p class=\"soft\">{}, median with the range of all runs ({}); {}</p>",
            escape(&outcome.scenario),
            escape(&outcome.unit),
            escape(&outcome.options.told()),
            if outcome.less_is_better() {
                "shorter bars are better"
            } else {
                "longer bars are better"
            }
        );
        notes(&mut page, &outcome.notes, &common);
        page.push_str(&plot::bars(outcome));
    }
    if let Some(run) = latencies {
        let latencies = &run.paths;
        page.push_str("<h2>Latency</h2><p class=\"soft\">Nanoseconds by percentile, counted from when a message was due.</p>\n");
        notes(&mut page, &run.notes, &common);
        page.push_str(&plot::curves(latencies));
        latency_table(&mut page, latencies);
    }
    if !scaling.is_empty() {
        page.push_str("<h2>Scaling</h2><p class=\"soft\">Throughput over cores.</p>\n");
        scaling
            .iter()
            .for_each(|line| page.push_str(&plot::line(line)));
    }
    page.push_str("</body></html>\n");
    page
}

/// What a reader must know of a run; what holds for the machine as such stands at the top.
fn notes(page: &mut String, notes: &[String], common: &[String]) {
    for note in notes.iter().filter(|note| !common.contains(note)) {
        let _ = writeln!(page, "<p class=\"warn\">{}</p>", escape(note));
    }
}

fn about(page: &mut String, machine: &Machine) {
    let _ = writeln!(
        page,
        "<p class=\"soft\">{}, {} cores, {} MiB, {} NUMA node(s), Linux {}, {}; commit {}.</p>",
        escape(&machine.cpu),
        machine.cores,
        machine.memory_mib,
        machine.numa_nodes,
        escape(&machine.kernel),
        escape(&machine.target),
        escape(machine.commit)
    );
    for doubt in machine.doubts() {
        let _ = writeln!(page, "<p class=\"warn\">{}</p>", escape(&doubt));
    }
}

fn latency_table(page: &mut String, latencies: &[Latency]) {
    page.push_str("<div class=\"scroll\"><table><tr><th>ns</th>");
    for (name, _) in &latencies[0].percentiles {
        let _ = write!(page, "<th>{name}</th>");
    }
    page.push_str("</tr>\n");
    for latency in latencies {
        let _ = write!(page, "<tr><td>{}</td>", escape(&latency.path));
        for (_, value) in &latency.percentiles {
            let _ = write!(page, "<td>{}</td>", number(*value as f64));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Options, WaitKind};

    #[test]
    fn a_page_says_what_was_measured_where_and_what_is_doubtful() {
        let mut options = Options {
            wait: WaitKind::Busy,
            ..Options::tiny()
        };
        options.cores.truncate(1);
        let spsc = crate::scenario::find("spsc").unwrap();
        let outcome = crate::measure::measure(spsc, &options).unwrap();
        assert!(!outcome.valid);
        let scaling = Scaling {
            name: "a <b>".into(),
            unit: "M/s".into(),
            points: vec![(1, 1.0), (2, 1.5), (4, 2.0)],
        };
        let page = html(
            &Machine::look(),
            &[outcome],
            &["big FAILED: <lost>".into()],
            None,
            &[scaling],
        );
        assert!(page.contains("Not a valid comparison"));
        assert!(page.contains("> (invalid)<"));
        assert!(page.contains("Not here: big FAILED: &lt;lost&gt;"));
        assert!(page.contains("commit") && page.contains("NUMA"));
        assert!(page.contains("a &lt;b&gt;") && page.contains("<polyline"));
        // Self-contained: nothing is fetched.
        for outside in ["<script", "<link", "src=", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
