//! The table of promises in `PLAN.md`.
//!
//! Owns the shape of that table: every row of the plan is there once, with a status, and a row that
//! is called done points at its proof. Knows nothing of whether the proof holds.

use super::Finding;

/// The letters of the rows and how many rows each has.
const ROWS: [(char, u32); 5] = [('Z', 12), ('M', 6), ('H', 5), ('P', 10), ('A', 9)];

const STATUSES: [&str; 3] = ["open", "part", "done"];

/// Checks the text of `PLAN.md`. A row is `| Z1 | what | status | proof |`.
pub fn check(text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |line: usize, message: String| {
        findings.push(Finding::new("PLAN.md", line, message));
    };
    let mut seen: Vec<&str> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some(cells) = cells(line) else { continue };
        let Some(id) = cells.first().copied().filter(|cell| is_row(cell)) else {
            continue;
        };
        let number = index + 1;
        if seen.contains(&id) {
            find(number, format!("row {id} is there twice"));
        }
        seen.push(id);
        let [_, _, status, proof] = cells[..] else {
            find(
                number,
                format!("row {id} wants four cells: row, what, status, proof"),
            );
            continue;
        };
        if !STATUSES.contains(&status) {
            find(
                number,
                format!("row {id}: `{status}` is none of {}", STATUSES.join(", ")),
            );
        }
        if status != "open" && proof.is_empty() {
            find(
                number,
                format!("row {id} is {status} without a test, bench or command"),
            );
        }
    }
    for (letter, count) in ROWS {
        for row in (1..=count).map(|number| format!("{letter}{number}")) {
            if !seen.contains(&row.as_str()) {
                find(0, format!("row {row} is missing"));
            }
        }
    }
    findings
}

fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

fn is_row(cell: &str) -> bool {
    let mut letters = cell.chars();
    let letter = letters.next();
    ROWS.iter().any(|(row, _)| Some(*row) == letter)
        && letters.clone().next().is_some()
        && letters.all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(change: impl Fn(&str) -> String) -> Vec<String> {
        let mut text =
            "# Plan\n\n| row | what | status | proof |\n| --- | --- | --- | --- |\n".to_owned();
        for (letter, count) in ROWS {
            for number in 1..=count {
                text.push_str(&change(&format!("{letter}{number}")));
                text.push('\n');
            }
        }
        check(&text)
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    }

    #[test]
    fn a_full_table_is_fine() {
        assert!(table(|row| format!("| {row} | x | open | |")).is_empty());
        assert!(table(|row| format!("| {row} | x | done | `cargo test` |")).is_empty());
    }

    #[test]
    fn a_missing_row_is_named() {
        let found = table(|row| match row {
            "P10" => String::new(),
            _ => format!("| {row} | x | open | |"),
        });
        assert_eq!(found, ["row P10 is missing"]);
    }

    #[test]
    fn a_row_without_proof_or_with_an_odd_status_is_named() {
        let found = table(|row| match row {
            "Z1" => "| Z1 | x | done | |".to_owned(),
            "Z2" => "| Z2 | x | nearly | x |".to_owned(),
            "Z3" => "| Z3 | open |".to_owned(),
            _ => format!("| {row} | x | open | |"),
        });
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("Z1 is done without"));
        assert!(found[1].contains("`nearly`"));
        assert!(found[2].contains("four cells"));
    }
}
