//! The last line of a build.
//!
//! Owns its words and figures. Does not know where it is shown.

use crate::engine::event::Summary;

/// The last line of a build.
pub fn summarise(summary: &Summary) -> String {
    let plural = |count: usize, word: &str| {
        format!(
            "{} {word}{}",
            group(count),
            if count == 1 { "" } else { "s" }
        )
    };
    let targets = plural(summary.targets, "target");
    let files = plural(summary.files, "file");
    let time = duration(summary.duration_us);
    let mut parts = Vec::new();
    for (count, word) in [
        (summary.failed, "failed"),
        (summary.cancelled, "stopped"),
        (summary.skipped, "skipped"),
        (summary.executed, "ran"),
        (summary.flaky, "flaky"),
        (summary.cached, "from the cache"),
        (summary.up_to_date, "up to date"),
    ] {
        if count > 0 {
            parts.push(format!("{} {word}", group(count)));
        }
    }
    if parts.is_empty() {
        parts.push("nothing to do".into());
    }
    format!(
        "{targets}, {files}: {} · {} · {time}",
        parts.join(", "),
        summary.engine
    )
}

fn duration(us: u64) -> String {
    let seconds = us as f64 / 1e6;
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.2} s")
    }
}

/// `12,345`.
fn group(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_what_happened() {
        let summary = Summary {
            targets: 5,
            files: 1153,
            executed: 3,
            up_to_date: 2,
            duration_us: 1_240_000,
            engine: "V8 150".into(),
            ..Summary::default()
        };
        assert_eq!(
            summarise(&summary),
            "5 targets, 1,153 files: 3 ran, 2 up to date · V8 150 · 1.24 s"
        );
        assert_eq!(group(1_234_567), "1,234,567");
    }
}
