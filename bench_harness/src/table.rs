//! Results for people to read in a terminal.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use crate::measure::Outcome;

/// A table of one scenario: a block per variant, the best first, ratios where there is a peer.
pub fn render(outcome: &Outcome) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{} ({})", outcome.scenario, outcome.unit);
    let mut variants: Vec<&str> = Vec::new();
    for row in &outcome.results {
        if !variants.contains(&row.variant.as_str()) {
            variants.push(&row.variant);
        }
    }
    for variant in variants {
        let _ = writeln!(text, "  {variant}");
        let _ = writeln!(
            text,
            "    {:<22}{:>10}{:>10}{:>10}  {:>8}  checksum",
            "", "median", "min", "max", "ours is"
        );
        let mut rows: Vec<_> = outcome
            .results
            .iter()
            .filter(|row| row.variant == variant)
            .collect();
        rows.sort_by_key(|row| !row.is_ours());
        for row in rows {
            let ratio = match outcome.ratio(row) {
                Some(ratio) => format!("{ratio:.2} ×"),
                None if !row.valid => "invalid".into(),
                None => String::new(),
            };
            let _ = writeln!(
                text,
                "    {:<22}{:>10}{:>10}{:>10}  {ratio:>8}  {:016x}",
                row.implementation,
                number(row.median),
                number(row.min),
                number(row.max),
                row.checksum
            );
        }
    }
    let _ = writeln!(text, "  measured: {}", outcome.options.told());
    let usage = outcome.usage;
    let _ = writeln!(
        text,
        "  used: {:.0} % of all cores (others {:.0} %, waiting for disks {:.0} %), {:.0} MiB at most{}, {:.0} MiB read, {:.0} MiB written",
        usage.cpu_percent,
        usage.others_percent,
        usage.io_wait_percent,
        usage.peak_mib,
        if usage.peak_is_own {
            ""
        } else {
            " since the program began"
        },
        usage.storage_mib.0,
        usage.storage_mib.1
    );
    if let Some(bottleneck) = usage.bottleneck() {
        let _ = writeln!(text, "  held back by: {bottleneck}");
    }
    for note in &outcome.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    text
}

/// Four digits that matter.
pub fn number(value: f64) -> String {
    match value.abs() {
        1000.0.. => format!("{value:.0}"),
        100.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}
