//! What dependencies may be licensed under.
//!
//! Owns the comparison of cargo's answer with the list in `deny.toml`, which `cargo deny` reads
//! too: the rule holds where that program is not installed. Knows nothing of licence texts.

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::Finding;
use crate::command::output;
use crate::workspace::Workspace;

/// Asks cargo for every dependency's licence and compares with `deny.toml`.
pub fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let text = std::fs::read_to_string(workspace.root().join("deny.toml"))
        .context("cannot read deny.toml")?;
    let allowed = allowed_licences(&text)?;
    let mut tree = workspace.cargo(&["tree", "--locked", "--workspace", "--all-features"]);
    tree.args([
        "--prefix",
        "none",
        "--format",
        "{p}|{l}",
        "--edges",
        "normal,build",
    ]);
    let listing = output(&mut tree).context("cannot list the dependencies")?;
    Ok(compare(&listing, &allowed))
}

fn allowed_licences(deny: &str) -> Result<Vec<String>> {
    let deny: Table = deny.parse().context("deny.toml is no TOML")?;
    let names = deny
        .get("licenses")
        .and_then(|licenses| licenses.get("allow"))
        .and_then(Value::as_array)
        .context("deny.toml has no `licenses.allow`")?;
    Ok(names
        .iter()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect())
}

fn compare(listing: &str, allowed: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for line in listing.lines() {
        let Some((package, licence)) = line.split_once('|') else {
            continue;
        };
        let licence = licence.trim_end_matches(" (*)");
        if !is_allowed(licence, allowed) {
            let message =
                format!("{package} is licensed `{licence}`, which deny.toml does not list");
            let finding = Finding::new("Cargo.lock", 0, message);
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    findings
}

/// Whether an SPDX expression can be met with allowed licences: one side of an `OR`, every side of
/// an `AND`. `/` is the old way to write `OR`.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.trim();
    if let Some(sides) = split_outside_brackets(expression, &[" OR ", "/"]) {
        return sides.iter().any(|side| is_allowed(side, allowed));
    }
    if let Some(sides) = split_outside_brackets(expression, &[" AND "]) {
        return sides.iter().all(|side| is_allowed(side, allowed));
    }
    match expression
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
    {
        Some(inner) => is_allowed(inner, allowed),
        None => allowed.iter().any(|name| name == expression),
    }
}

/// The parts between separators that stand in no brackets; `None` when there is no separator.
fn split_outside_brackets<'a>(text: &'a str, separators: &[&str]) -> Option<Vec<&'a str>> {
    let mut parts = Vec::new();
    let (mut depth, mut start, mut at) = (0_i32, 0, 0);
    while at < text.len() {
        let rest = &text[at..];
        let separator = separators
            .iter()
            .find(|separator| rest.starts_with(**separator));
        if depth == 0
            && let Some(separator) = separator
        {
            parts.push(&text[start..at]);
            at += separator.len();
            start = at;
            continue;
        }
        match rest.as_bytes()[0] {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        at += rest.chars().next().map_or(1, char::len_utf8);
    }
    if parts.is_empty() {
        return None;
    }
    parts.push(&text[start..]);
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> Vec<String> {
        ["MIT", "Apache-2.0", "Unicode-3.0"]
            .map(str::to_owned)
            .to_vec()
    }

    #[test]
    fn expressions_are_weighed_as_spdx_means_them() {
        for licence in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0/MIT",
            "(MIT OR GPL-2.0) AND Unicode-3.0",
            "Unlicense OR (MIT AND Apache-2.0)",
        ] {
            assert!(is_allowed(licence, &allowed()), "{licence}");
        }
        for licence in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT AND GPL-3.0) OR LGPL-2.1",
            "MITX",
        ] {
            assert!(!is_allowed(licence, &allowed()), "{licence}");
        }
    }

    #[test]
    fn a_breach_names_the_package_once() {
        let listing = "good v1.0.0|MIT\nbad v2.0.0|GPL-3.0-only\nbad v2.0.0|GPL-3.0-only (*)\n\n";
        let findings = compare(listing, &allowed());
        assert_eq!(findings.len(), 1);
        assert!(findings[0].message.starts_with("bad v2.0.0"));
    }

    #[test]
    fn the_list_is_read() {
        let deny = "[licenses]\nallow = [\"MIT\", \"ISC\"]\n";
        assert_eq!(allowed_licences(deny).unwrap(), ["MIT", "ISC"]);
        assert!(allowed_licences("[bans]\n").is_err());
    }
}
