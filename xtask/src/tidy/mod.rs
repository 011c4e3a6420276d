//! `cargo xtask tidy`: the house rules that the compiler does not know, as a tested program.
//!
//! Owns the list of rules and how a breach is told. The rules themselves: `layering` (who may
//! depend on whom), `source` (what a Rust file must and must not hold), `plan` (the table in
//! `PLAN.md`), `licences` (what dependencies may be licensed under).
//! Invariant: a rule is a pure function of file contents, so that each has tests beside it.

mod layering;
mod licences;
mod plan;
mod source;

pub use source::is_test;

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// One breach of a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// Counted from 1; 0 when the whole file is meant.
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// Checks every rule over every tracked file.
pub fn run(workspace: &Workspace) -> Result<()> {
    let mut findings = Vec::new();
    let files = workspace.files()?;
    let places = source::private_places(workspace.root());
    for path in &files {
        let bytes = std::fs::read(workspace.root().join(path))
            .with_context(|| format!("cannot read {path}"))?;
        // Files that are no text (images, archives) have no rules.
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        findings.extend(source::mentions_places(path, &text, &places));
        if path.ends_with(".rs") {
            findings.extend(source::check(path, &text));
            findings.extend(layering::check_source(path, &text));
        }
        if Path::new(path).file_name() == Some("Cargo.toml".as_ref()) {
            findings.extend(layering::check_manifest(path, &text)?);
        }
        if path == "PLAN.md" {
            findings.extend(plan::check(&text));
        }
    }
    findings.extend(licences::check(workspace)?);
    findings.sort();
    for finding in &findings {
        println!("    {finding}");
    }
    match findings.len() {
        0 => {
            println!("    {} files keep the house rules", files.len());
            Ok(())
        }
        count => bail!("{count} breaches of the house rules"),
    }
}
