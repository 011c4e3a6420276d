//! Causes: why a target is run, in terms of files, digests, flags and variables.
//!
//! Owns the kinds of difference between what was and what is, and their words. Does not know when
//! a target ran, nor who asks.
//! Invariant: what is called changed really differs; the first cause is the first difference in
//! path order.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::hash::Hash;
use super::record::{Input, InputContent, Record, UNKNOWN};
use crate::diagnostic::visible;
use crate::lang::text::Text;

/// Characters of a text that are shown where it changed, and how many of them before that place.
const SHOWN_CHARS: usize = 80;
const CONTEXT_CHARS: usize = 24;

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Never finished here.
    New,
    /// The command, its environment, its tool or what is installed for it; what of it is not known.
    Recipe,
    /// One part of the recipe: a word of the command, a variable, a tool, an output.
    Part {
        /// Its name, such as `cmd[2]` or `env.NODE_ENV`.
        name: Box<str>,
        /// Its value before, when it had one.
        was: Option<Box<str>>,
        /// Its value now, when it has one.
        now: Option<Box<str>>,
    },
    /// The content of a file.
    Changed {
        /// Workspace-relative.
        path: Text,
        /// What it held, as a short digest.
        was: Box<str>,
        /// What it holds.
        now: Box<str>,
    },
    /// This file was not an input before.
    Added(Text),
    /// This file is no longer an input.
    Removed(Text),
    /// An output is gone or was edited.
    Output(Text),
    /// Something that it needs is not up to date; whether that matters shows once that is built.
    Dependency,
    /// A person asked for it.
    Forced,
    /// Its results are not kept.
    Uncached,
    /// What a lock file says of a package that its own needs.
    Package {
        /// Its name.
        name: Box<str>,
        /// Its versions before, as far as these are not the same now.
        was: Option<Box<str>>,
        /// Its versions now.
        now: Option<Box<str>>,
        /// The lock file.
        lock: Box<str>,
    },
    /// It ended well, but its result was not kept.
    NotKept,
}

impl Cause {
    /// The workspace file that it is about.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Changed { path, .. }
            | Self::Added(path)
            | Self::Removed(path)
            | Self::Output(path) => Some(path),
            _ => None,
        }
    }

    /// With digests and values, for a person who wants to know exactly.
    pub fn in_full(&self) -> String {
        match self {
            Self::Changed { was, now, .. } => format!("{self} ({was} → {now})"),
            Self::Part { was, now, .. } => match (was, now) {
                (Some(was), Some(now)) => {
                    let (was, now) = excerpts(was, now);
                    format!("{self}: `{was}` → `{now}`")
                }
                (Some(was), None) => format!("{self}: it was `{}`", excerpts(was, "").0),
                (None, Some(now)) => format!("{self}: `{}`", excerpts(now, "").0),
                (None, None) => self.to_string(),
            },
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("never built here"),
            Self::Recipe => {
                f.write_str("its command, environment, tool or installed packages changed")
            }
            Self::Part { name, was, now } => match (was, now) {
                (None, Some(_)) => write!(f, "{name} is new"),
                (Some(_), None) => write!(f, "{name} is gone"),
                _ => write!(f, "{name} changed"),
            },
            Self::Changed { path, .. } => write!(f, "{path} changed"),
            Self::Added(path) => write!(f, "{path} is a new input"),
            Self::Removed(path) => write!(f, "{path} is no longer an input"),
            Self::Dependency => f.write_str("something that it needs is not up to date"),
            Self::Forced => f.write_str("forced"),
            Self::NotKept => f.write_str("its result was not kept"),
            Self::Uncached => f.write_str("its results are not cached"),
            Self::Output(path) => write!(f, "output {path} is missing or was edited"),
            Self::Package {
                name,
                was,
                now,
                lock,
            } => match (was, now) {
                (Some(was), Some(now)) if was == now => {
                    write!(f, "what {lock} says of {name} {now} changed")
                }
                (Some(was), Some(now)) => write!(f, "{name} {was} → {now} in {lock}"),
                (None, Some(now)) => write!(f, "{name} {now} is new in {lock}"),
                (Some(was), None) => write!(f, "{name} {was} is gone from {lock}"),
                (None, None) => write!(f, "what {lock} says of {name} changed"),
            },
        }
    }
}

/// What is shown of two texts: all of them where they are short, otherwise where they begin to differ, on one line.
fn excerpts(was: &str, now: &str) -> (String, String) {
    let [was, now] = [was, now].map(|text| visible(text).replace('\n', "\\n"));
    let same = was.chars().zip(now.chars()).take_while(|(a, b)| a == b);
    let same = same.count();
    let excerpt = |text: &str| {
        let length = text.chars().count();
        if length <= SHOWN_CHARS {
            return text.to_owned();
        }
        let begin = same.saturating_sub(CONTEXT_CHARS).min(length - SHOWN_CHARS);
        let shown: String = text.chars().skip(begin).take(SHOWN_CHARS).collect();
        let (before, behind) = (begin > 0, begin + SHOWN_CHARS < length);
        let dots = |are_left_out| if are_left_out { "…" } else { "" };
        format!("{}{shown}{}", dots(before), dots(behind))
    };
    (excerpt(&was), excerpt(&now))
}

/// The parts of a recipe by name, so that a later process can tell which of them changed. Values of variables of somebody's
/// environment, and what else may be a secret, are kept as digests.
pub type RecipeParts = BTreeMap<Box<str>, Box<str>>;

/// The parts that differ.
pub fn changed_parts(was: &RecipeParts, now: &RecipeParts) -> Vec<Cause> {
    let names: std::collections::BTreeSet<&Box<str>> = was.keys().chain(now.keys()).collect();
    names
        .into_iter()
        .filter(|name| was.get(*name) != now.get(*name))
        .map(|name| Cause::Part {
            name: name.clone(),
            was: was.get(name).cloned(),
            now: now.get(name).cloned(),
        })
        .collect()
}

/// Twelve hex digits: enough to tell two versions of one file apart.
pub fn short(hash: &Hash) -> Box<str> {
    hash.to_string()[..12].into()
}

fn show(content: &InputContent) -> Box<str> {
    match content {
        InputContent::File {
            hash,
            executable: true,
        } => format!("{} executable", short(hash)).into(),
        InputContent::File { hash, .. } => short(hash),
        InputContent::Link(to) => format!("link to {to}").into(),
        InputContent::Directory => "directory".into(),
    }
}

/// The first `limit` differences between `old` and `new`, both sorted by path.
pub fn differences(old: &[Input], new: &[Input], limit: usize) -> Vec<Cause> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let mut found = Vec::new();
    while found.len() < limit {
        match (old.peek(), new.peek()) {
            (None, None) => break,
            (Some(gone), None) => {
                found.push(Cause::Removed(gone.path.clone()));
                old.next();
            }
            (None, Some(added)) => {
                found.push(Cause::Added(added.path.clone()));
                new.next();
            }
            (Some(a), Some(b)) if a.path < b.path => {
                found.push(Cause::Removed(a.path.clone()));
                old.next();
            }
            (Some(a), Some(b)) if a.path > b.path => {
                found.push(Cause::Added(b.path.clone()));
                new.next();
            }
            (Some(a), Some(b)) => {
                if a.content != b.content {
                    found.push(Cause::Changed {
                        path: b.path.clone(),
                        was: show(&a.content),
                        now: show(&b.content),
                    });
                }
                old.next();
                new.next();
            }
        }
    }
    found
}

impl Record {
    /// The first difference between this record's inputs and `now`, both sorted by path.
    pub fn cause(&self, recipe: &Hash, now: &[Input]) -> Option<Cause> {
        if self.recipe != *recipe {
            let is_kept = self.recipe != UNKNOWN;
            return Some(if is_kept {
                Cause::Recipe
            } else {
                Cause::NotKept
            });
        }
        differences(&self.inputs, now, 1).pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(path: &str, content: &str) -> Input {
        let hash = Hash::of(content.as_bytes());
        let content = InputContent::File {
            hash,
            executable: false,
        };
        Input {
            path: path.into(),
            content,
        }
    }

    #[test]
    fn the_cause_names_the_first_difference() {
        let recipe = Hash::of(b"r");
        let record = Record::of_nothing(recipe, vec![input("a", "1"), input("c", "1")]);
        let cause = |now: &[Input]| record.cause(&recipe, now);
        assert_eq!(cause(&record.inputs.clone()), None);
        let changed = cause(&[input("a", "2"), input("c", "1")]).unwrap();
        assert_eq!(changed.to_string(), "a changed");
        let digest = |text: &str| short(&Hash::of(text.as_bytes()));
        assert_eq!(
            changed.in_full(),
            format!("a changed ({} → {})", digest("1"), digest("2"))
        );
        assert_eq!(
            cause(&[input("a", "1"), input("b", "1")]),
            Some(Cause::Added("b".into()))
        );
        assert_eq!(cause(&[input("a", "1")]), Some(Cause::Removed("c".into())));
        assert_eq!(cause(&[input("c", "1")]), Some(Cause::Removed("a".into())));
        assert_eq!(record.cause(&Hash::of(b"x"), &[]), Some(Cause::Recipe));
        let mut forgotten = record.clone();
        forgotten.forget();
        let cause = forgotten.cause(&recipe, &record.inputs);
        assert_eq!(cause, Some(Cause::NotKept));
    }

    #[test]
    fn all_differences_are_found_up_to_the_limit() {
        let old = [input("a", "1"), input("b", "1"), input("d", "1")];
        let new = [input("b", "2"), input("c", "1"), input("d", "1")];
        let texts: Vec<String> = differences(&old, &new, 9)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            texts,
            ["a is no longer an input", "b changed", "c is a new input"]
        );
        assert_eq!(differences(&old, &new, 2).len(), 2);
    }

    #[test]
    fn parts_are_told_with_their_values() {
        let parts = |list: &[(&str, &str)]| -> RecipeParts {
            list.iter()
                .map(|(n, v)| ((*n).into(), (*v).into()))
                .collect()
        };
        let was = parts(&[("cmd[0]", "cc"), ("cmd[1]", "-O1")]);
        let now = parts(&[("cmd[0]", "cc"), ("cmd[1]", "-O2"), ("env.A", "1")]);
        let texts: Vec<String> = changed_parts(&was, &now)
            .iter()
            .map(Cause::in_full)
            .collect();
        assert_eq!(
            texts,
            ["cmd[1] changed: `-O1` → `-O2`", "env.A is new: `1`"]
        );
    }

    #[test]
    fn of_long_texts_the_place_is_shown_where_they_differ() {
        let long = |word: &str| format!("{}\n{word} {}", "a".repeat(200), "z".repeat(200));
        let (was, now) = excerpts(&long("-O1"), &long("-O2"));
        for (text, word) in [(was, "-O1"), (now, "-O2")] {
            assert!(text.contains(&format!("a\\n{word} z")), "{text}");
            assert!(text.starts_with('…') && text.ends_with('…'), "{text}");
            assert_eq!(text.chars().count(), SHOWN_CHARS + 2);
        }
        let (gone, _) = excerpts(&"x".repeat(100), "");
        assert_eq!(gone, format!("{}…", "x".repeat(SHOWN_CHARS)));
    }
}
