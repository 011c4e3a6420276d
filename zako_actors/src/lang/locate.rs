//! Places in files: where a mistake stands.
//!
//! Owns line and column arithmetic and the search for a name in a build file.
//! Does not know any grammar: a search looks for quoted text, good enough to point a reader at the
//! right line, and says nothing when it finds nothing.

use std::fmt;

use crate::diagnostic::Diagnostic;
use crate::lang::text::Text;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

/// A place in a file of the workspace. Lines and columns count from 1; 0 means unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// Workspace-relative path.
    pub path: Text,
    /// Line, or 0.
    pub line: u32,
    /// Column in characters, or 0.
    pub column: u32,
}

impl At {
    /// A whole file.
    pub fn file(path: impl Into<Text>) -> Self {
        Self {
            path: path.into(),
            line: 0,
            column: 0,
        }
    }

    /// The place of byte `offset` in `text`.
    pub fn offset(path: impl Into<Text>, text: &str, offset: usize) -> Self {
        let before = &text[..text.floor_char_boundary(offset.min(text.len()))];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            path: path.into(),
            line: counted(before.matches('\n').count() + 1),
            column: counted(before[line_start..].chars().count() + 1),
        }
    }

    /// Where target `name` mentions the string `needle` in build file `text`; the target's own
    /// line when the string is built in some other way; the file when even that fails.
    pub fn in_target(path: &str, text: &str, name: &str, needle: Option<&str>) -> Self {
        let start = find_key(text, name);
        let from = start.unwrap_or(0);
        let quoted = needle.and_then(|needle| find_quoted(&text[from..], needle));
        match (quoted, start) {
            (Some(at), _) => Self::offset(path, text, from + at),
            (None, Some(at)) => Self::offset(path, text, at),
            (None, None) => Self::file(path),
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if self.column > 0 {
            write!(f, ":{}", self.column)?;
        }
        Ok(())
    }
}

/// Where each of the targets `names` begins in build file `text`, as [`At::in_target`] says for one of
/// them, but in one pass over the text. Those that are not found are left out.
pub fn places<'n>(
    path: &str,
    text: &str,
    names: impl Iterator<Item = &'n str>,
) -> FxHashMap<&'n str, At> {
    let mut missing: FxHashSet<&'n str> = names.filter(|name| !name.is_empty()).collect();
    let mut lengths: Vec<usize> = missing.iter().map(|name| name.len()).collect();
    lengths.sort_unstable();
    lengths.dedup();
    let mut found = Vec::with_capacity(missing.len());
    let ends = text.match_indices(KEY_ENDS).map(|(at, _)| {
        let before = text[..at].trim_end().trim_end_matches(KEY_QUOTES);
        before.len()
    });
    for end in ends {
        for start in lengths.iter().filter_map(|length| end.checked_sub(*length)) {
            if let Some(name) = text.get(start..end)
                && begins_word(text, start)
                && let Some(name) = missing.take(name)
            {
                found.push((start, name));
            }
        }
    }
    found.sort_unstable();
    let mut cursor = Cursor::default();
    let at = |(start, name)| (name, cursor.advance(path, text, start));
    found.into_iter().map(at).collect()
}

/// A place that moves forward through a text.
#[derive(Default)]
struct Cursor {
    offset: usize,
    lines: usize,
    /// Characters since the last line break.
    columns: usize,
}

impl Cursor {
    /// The place of byte `offset`, a boundary of characters that is not before the last one.
    fn advance(&mut self, path: &str, text: &str, offset: usize) -> At {
        let passed = &text[self.offset..offset];
        self.columns = match passed.rfind('\n') {
            Some(newline) => passed[newline + 1..].chars().count(),
            None => self.columns + passed.chars().count(),
        };
        self.lines += passed.matches('\n').count();
        self.offset = offset;
        At {
            path: path.into(),
            line: counted(self.lines + 1),
            column: counted(self.columns + 1),
        }
    }
}

fn counted(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// A user's mistake in a file of the workspace, at `at`; answered by editing that file, whose
/// content is `text`.
pub fn mistake(at: &At, message: impl Into<String>, text: &str) -> Diagnostic {
    let message = message.into();
    if at.line == 0 {
        return Diagnostic::error(format!("{}: {message}", at.path));
    }
    Diagnostic::error(message).at_line(at.path.as_str(), Some(text), at.line, at.column, 1)
}

/// `path:line:column: message`, for tests.
#[cfg(test)]
pub(crate) fn flat(diagnostic: &Diagnostic) -> String {
    match &diagnostic.location {
        Some(location) => format!("{location}: {}", diagnostic.message),
        None => diagnostic.message.clone(),
    }
}

fn find_quoted(text: &str, needle: &str) -> Option<usize> {
    ['"', '\'', '`']
        .into_iter()
        .filter_map(|quote| text.find(&format!("{quote}{needle}{quote}")))
        .min()
        .map(|at| at + 1)
}

/// What may stand around the key of a target, and behind it.
const KEY_QUOTES: [char; 2] = ['"', '\''];
const KEY_ENDS: [char; 4] = [':', ',', '=', '}'];

/// Whether the text at `at` does not go on with a word that began before.
fn begins_word(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back();
    before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '$')
}

/// The first `name:` or `"name":` that stands as a whole word.
fn find_key(text: &str, name: &str) -> Option<usize> {
    if name.is_empty() {
        return None;
    }
    let mut from = 0;
    while let Some(at) = text[from..].find(name).map(|at| from + at) {
        let after = text[at + name.len()..]
            .trim_start_matches(KEY_QUOTES)
            .trim_start();
        if begins_word(text, at) && after.starts_with(KEY_ENDS) {
            return Some(at);
        }
        from = at + name.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "import { target } from \"zako:build\";\nexport default {\n  a: target({ cmd: [\"x\"] }),\n  \"b\": target({\n    deps: [\":a\", \"//c:d\"],\n  }),\n};\n";

    #[test]
    fn a_dependency_is_found_in_its_own_target() {
        let at = At::in_target("BUILD.ts", TEXT, "b", Some("//c:d"));
        assert_eq!(at.to_string(), "BUILD.ts:5:19");
    }

    #[test]
    fn what_is_not_written_falls_back_to_the_target_then_the_file() {
        assert_eq!(
            At::in_target("f", TEXT, "a", Some("no")).to_string(),
            "f:3:3"
        );
        assert_eq!(At::in_target("f", TEXT, "zz", None).to_string(), "f");
        assert_eq!(At::in_target("f", TEXT, "", None).to_string(), "f");
    }

    #[test]
    fn all_targets_are_found_at_once_where_each_is_found_alone() {
        let text = "import { x } from \"y\";\nconst é = 1; export default {\n  a, \"a.b\" : 1, xa: 2,\n 'a=b': 3,\
                    \tab: a = 4, \"é\": é }";
        let names = ["a", "a.b", "xa", "a=b", "ab", "b", "é", "none", "", "x"];
        let all = places("f", text, names.into_iter());
        for name in names {
            let alone = At::in_target("f", text, name, None);
            let found = all.get(name).cloned().unwrap_or_else(|| At::file("f"));
            assert_eq!(found, alone, "{name}");
        }
        assert_eq!(all["ab"].to_string(), "f:4:12");
        assert!(!all.contains_key("none"));
    }
}
