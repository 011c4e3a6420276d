//! Labels of a command line that select nothing.
//!
//! Owns what is said of them: the nearest name, or what there is. Does not know how targets are selected.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::lang::label::{DirName, Label, LabelPattern};
use crate::lang::suggest::did_you_mean;
use crate::lang::target::Target;

/// Why the command line's labels select nothing; answered by correcting them.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SelectError {
    /// No such target.
    #[error("no target `{label}`{hint}")]
    Unknown {
        /// As asked for.
        label: String,
        /// The nearest name, or what there is.
        hint: String,
    },
    /// A pattern that matches nothing.
    #[error("no target matches `{pattern}`{hint}")]
    NoMatch {
        /// As asked for.
        pattern: String,
        /// The nearest directory.
        hint: String,
    },
}

/// What is said of a label that no target has.
pub(super) fn unknown(all: &[Arc<Target>], label: &Label) -> SelectError {
    let wanted = label.to_string();
    let names: Vec<String> = all.iter().map(|t| t.label.to_string()).collect();
    let mut hint = did_you_mean(&wanted, names.iter().map(String::as_str));
    if hint.is_empty() {
        let here: Vec<_> = all
            .iter()
            .filter(|t| t.label.dir() == label.dir())
            .collect();
        let list = |targets: &[&Arc<Target>]| {
            let shown: Vec<_> = targets
                .iter()
                .take(8)
                .map(|t| t.label.to_string())
                .collect();
            shown.join(", ")
        };
        hint = if here.is_empty() {
            let all: Vec<_> = all.iter().collect();
            match all.len() {
                0 => "; this workspace defines no targets".into(),
                n => format!(
                    "; there are {n}: {}{}",
                    list(&all),
                    if n > 8 { ", …" } else { "" }
                ),
            }
        } else {
            match label.dir() {
                "" => format!("; the root package has {}", list(&here)),
                dir => format!("; {} has {}", DirName(dir), list(&here)),
            }
        };
    }
    SelectError::Unknown {
        label: wanted,
        hint,
    }
}

/// What is said of a pattern that means no target.
pub(super) fn no_match(all: &[Arc<Target>], pattern: &LabelPattern) -> SelectError {
    let name = |dir: &str| DirName(dir).to_string();
    let hint = match pattern {
        LabelPattern::Tree(dir) | LabelPattern::Package(dir) => {
            let dirs: BTreeSet<&str> = all.iter().map(|t| t.label.dir()).collect();
            let dirs: Vec<String> = dirs.into_iter().map(name).collect();
            did_you_mean(&name(dir), dirs.iter().map(String::as_str))
        }
        LabelPattern::Named(_, name) => {
            let here = all.iter().map(|target| &target.label);
            let here = here.filter(|label| pattern.covers(label.dir()));
            did_you_mean(name, here.map(Label::name))
        }
        LabelPattern::One(_) => String::new(),
    };
    SelectError::NoMatch {
        pattern: pattern.to_string(),
        hint,
    }
}
