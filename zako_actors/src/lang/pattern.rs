//! Glob patterns over slash-separated paths.
//!
//! Owns the grammar: `*` and `?` within a segment, `**` over whole segments, `[a-z]` / `[!a-z]`
//! classes, `{a,b}` alternatives (expanded when the pattern is read).
//! Does not know any file. Matching needs no table to be built, so that ten thousand patterns cost
//! a cold process nothing.
//! Invariants: a dot file is matched only where the pattern writes the dot; `base` is the longest
//! leading part without wildcards, so a walk starts there.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Alternatives in one pattern are refused above this number, before they eat the memory.
const MAX_ALTERNATIVES: usize = 256;
/// So are `{`, before they eat the stack.
const MAX_BRACES: usize = 64;

/// A validated pattern; relative to the directory that it was written in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pattern {
    text: Box<str>,
    alternatives: Vec<Box<str>>,
}

/// Why a text is no pattern.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PatternError {
    /// Nothing was written.
    #[error("a glob pattern is empty")]
    Empty,
    /// An absolute path.
    #[error("glob `{0}` is absolute; write it relative to the build file's directory")]
    Absolute(String),
    /// `.`/`..`/empty segment.
    #[error("glob `{0}`: `.`, `..` and empty segments are not allowed")]
    DotSegment(String),
    /// `{` or `[` that is never closed, or `}` without `{`.
    #[error("glob `{0}`: `{1}` has no partner")]
    Unbalanced(String, char),
    /// `{…}` multiplies out too far.
    #[error("glob `{0}` expands to more than {MAX_ALTERNATIVES} alternatives")]
    TooMany(String),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When the text breaks the grammar.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.starts_with('/') {
            return Err(PatternError::Absolute(text.into()));
        }
        if text.matches('{').count() > MAX_BRACES {
            return Err(PatternError::TooMany(text.into()));
        }
        let mut alternatives = Vec::new();
        expand(text, text, &mut alternatives)?;
        for alternative in &alternatives {
            check(alternative, text)?;
        }
        Ok(Self {
            text: text.into(),
            alternatives,
        })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the text contains a wildcard at all.
    pub fn is_wild(text: &str) -> bool {
        text.contains(['*', '?', '[', '{'])
    }

    /// Whether `path` (relative, slash-separated) matches.
    pub fn matches(&self, path: &str) -> bool {
        self.alternatives.iter().any(|p| match_path(p, path))
    }

    /// Whether a file `name` in some directory could match: most that a walk meets could not.
    pub fn may_match_name(&self, name: &str) -> bool {
        self.alternatives.iter().any(|p| {
            let last = p.rsplit('/').next().unwrap_or_default();
            last == "**" || match_segment(last, name)
        })
    }

    /// Whether something below directory `dir` could match; false prunes a walk.
    pub fn may_match_below(&self, dir: &str) -> bool {
        self.alternatives.iter().any(|p| match_prefix(p, dir))
    }

    /// Whether it writes `name` as the last part of what it matches.
    pub fn ends_in(&self, name: &str) -> bool {
        let mut all = self.alternatives.iter();
        all.any(|p| p.rsplit('/').next() == Some(name))
    }

    /// Whether something below directory `dir` could match, and the pattern says more of that directory's name than `**`.
    pub fn names(&self, dir: &str) -> bool {
        self.alternatives.iter().any(|p| match_named(p, dir))
    }

    /// Whether the name of one file could be what both end with.
    pub fn may_end_alike(&self, other: &Self) -> bool {
        let ends = |pattern: &'_ Self| -> Vec<String> {
            let all = pattern.alternatives.iter();
            let ends = all.map(|p| p.rsplit(['*', '?', ']', '/']).next().unwrap_or_default());
            ends.map(str::to_owned).collect()
        };
        let others = ends(other);
        let mut own = ends(self).into_iter();
        own.any(|a| others.iter().any(|b| a.ends_with(b) || b.ends_with(&a)))
    }

    /// Whether it means all of directory `dir`, as `dist/**` does of `dist`.
    pub fn means_all_of(&self, dir: &str) -> bool {
        let mut all = self.alternatives.iter();
        all.any(|p| p.strip_suffix("/**").is_some_and(|p| match_path(p, dir)))
    }

    /// The longest leading directory that is free of wildcards; empty for the root.
    pub fn base(&self) -> &str {
        let mut base = wildless_dir(&self.alternatives[0]);
        for other in &self.alternatives[1..] {
            base = common_dir(base, wildless_dir(other));
        }
        base
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn check(alternative: &str, whole: &str) -> Result<(), PatternError> {
    for segment in alternative.split('/') {
        if matches!(segment, "" | "." | "..") {
            return Err(PatternError::DotSegment(whole.into()));
        }
        let mut rest = segment;
        while let Some(open) = rest.find('[') {
            let inside = &rest[open + 1..];
            let Some(end) = class_end(inside) else {
                return Err(PatternError::Unbalanced(whole.into(), '['));
            };
            rest = &inside[end + 1..];
        }
    }
    Ok(())
}

/// Where the class ends whose text after `[` begins `inside`: at its `]`, which right after `[` or
/// `[!` is a member.
fn class_end(inside: &str) -> Option<usize> {
    let members = usize::from(inside.starts_with('!'));
    let (second, _) = inside[members..].char_indices().nth(1)?;
    let tail = members + second;
    Some(tail + inside[tail..].find(']')?)
}

/// Multiplies out the first `{…}` and recurses on each result.
fn expand(text: &str, whole: &str, out: &mut Vec<Box<str>>) -> Result<(), PatternError> {
    let Some(open) = text.find(['{', '}']) else {
        if out.len() == MAX_ALTERNATIVES {
            return Err(PatternError::TooMany(whole.into()));
        }
        out.push(text.into());
        return Ok(());
    };
    if text[open..].starts_with('}') {
        return Err(PatternError::Unbalanced(whole.into(), '}'));
    }
    let (mut depth, mut start, mut parts, mut close) = (0, open + 1, Vec::new(), None);
    for (at, byte) in text.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b',' if depth == 1 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    parts.push(&text[start..at]);
                    close = Some(at);
                    break;
                }
            }
            _ => {}
        }
    }
    let close = close.ok_or_else(|| PatternError::Unbalanced(whole.into(), '{'))?;
    for part in parts {
        let joined = [&text[..open], part, &text[close + 1..]].concat();
        expand(&joined, whole, out)?;
    }
    Ok(())
}

fn wildless_dir(pattern: &str) -> &str {
    let wild = pattern.find(['*', '?', '[']).unwrap_or(pattern.len());
    pattern[..wild]
        .rfind('/')
        .map_or("", |slash| &pattern[..slash])
}

fn common_dir<'a>(a: &'a str, b: &str) -> &'a str {
    let mut end = 0;
    for (at, segment) in a
        .split('/')
        .scan(0, |at, segment| {
            *at += segment.len() + 1;
            Some((*at - 1, segment))
        })
        .take_while({
            let mut other = b.split('/');
            move |(_, segment)| other.next() == Some(*segment)
        })
    {
        let _ = segment;
        end = at;
    }
    &a[..end]
}

fn split_first(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    }
}

fn match_path(pattern: &str, path: &str) -> bool {
    let (first, rest) = split_first(pattern);
    if first == "**" {
        let Some(rest) = rest else {
            return !path.is_empty() && path.split('/').all(|segment| !segment.starts_with('.'));
        };
        let mut tail = path;
        loop {
            if match_path(rest, tail) {
                return true;
            }
            match split_first(tail) {
                (skipped, Some(next)) if !skipped.starts_with('.') => tail = next,
                _ => return false,
            }
        }
    }
    let (segment, path_rest) = split_first(path);
    match_segment(first, segment)
        && match (rest, path_rest) {
            (None, None) => true,
            (Some(rest), Some(path_rest)) => match_path(rest, path_rest),
            _ => false,
        }
}

/// Whether `dir` can be the beginning of a match of `pattern`.
fn match_prefix(pattern: &str, dir: &str) -> bool {
    if dir.is_empty() {
        return true;
    }
    let (first, rest) = split_first(pattern);
    let (segment, dir_rest) = split_first(dir);
    if first == "**" {
        return !segment.starts_with('.')
            && dir_rest.is_none_or(|rest| match_prefix(pattern, rest))
            || rest.is_some_and(|rest| match_prefix(rest, dir));
    }
    match_segment(first, segment)
        && rest.is_some_and(|rest| dir_rest.is_none_or(|dir_rest| match_prefix(rest, dir_rest)))
}

/// Like [`match_prefix`], where the last segment of `dir` is not skipped by `**`.
fn match_named(pattern: &str, dir: &str) -> bool {
    let (first, rest) = split_first(pattern);
    let (segment, dir_rest) = split_first(dir);
    if first == "**" {
        return rest.is_some_and(|rest| match_named(rest, dir))
            || !segment.starts_with('.') && dir_rest.is_some_and(|dir| match_named(pattern, dir));
    }
    match_segment(first, segment)
        && rest.is_some_and(|rest| dir_rest.is_none_or(|dir_rest| match_named(rest, dir_rest)))
}

/// One segment against one name: the classic two-cursor wildcard match, linear for one `*`.
fn match_segment(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match step(&pattern[p..], &name[n..]) {
            Step::Star => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Step::Taken(pattern_len, name_len) => {
                p += pattern_len;
                n += name_len;
            }
            Step::No => match retry {
                Some((after_star, from)) => {
                    let next = from + char_len(name.as_bytes()[from]);
                    retry = Some((after_star, next));
                    (p, n) = (after_star, next);
                }
                None => return false,
            },
        }
    }
    pattern[p..].bytes().all(|b| b == b'*')
}

enum Step {
    Star,
    Taken(usize, usize),
    No,
}

fn char_len(first: u8) -> usize {
    match first {
        0..0x80 => 1,
        0x80..0xE0 => 2,
        0xE0..0xF0 => 3,
        _ => 4,
    }
}

/// The first element of `pattern` against the beginning of `name`, which is not empty.
fn step(pattern: &str, name: &str) -> Step {
    let first = name.as_bytes()[0];
    match pattern.as_bytes().first() {
        None => Step::No,
        Some(b'*') => Step::Star,
        Some(b'?') => Step::Taken(1, char_len(first)),
        Some(b'[') => class(&pattern[1..], name),
        Some(&literal) if literal == first => {
            let length = char_len(first);
            if pattern.as_bytes().get(..length) == name.as_bytes().get(..length) {
                Step::Taken(length, length)
            } else {
                Step::No
            }
        }
        Some(_) => Step::No,
    }
}

/// `abc]`, `a-z]`, `!…]` against one character; the closing bracket was checked when the pattern was
/// read.
fn class(inside: &str, name: &str) -> Step {
    let (Some(end), Some(found)) = (class_end(inside), name.chars().next()) else {
        return Step::No;
    };
    let members = &inside[..end];
    let negated = members.starts_with('!');
    let mut members = members[usize::from(negated)..].chars().peekable();
    let mut hit = false;
    while let Some(low) = members.next() {
        let mut ahead = members.clone();
        if ahead.next() == Some('-')
            && let Some(high) = ahead.next()
        {
            hit |= (low..=high).contains(&found);
            members = ahead;
        } else {
            hit |= low == found;
        }
    }
    if hit == negated {
        Step::No
    } else {
        // With both brackets.
        Step::Taken(end + 2, found.len_utf8())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(pattern: &str, path: &str) -> bool {
        let pattern = Pattern::parse(pattern).unwrap();
        let hit = pattern.matches(path);
        let name = path.rsplit('/').next().unwrap();
        assert!(!hit || pattern.may_match_name(name), "{pattern} {path}");
        hit
    }

    #[test]
    fn wildcards_keep_to_their_segments() {
        assert!(hit("*.ts", "a.ts") && !hit("*.ts", "x/a.ts"));
        assert!(hit("src/**", "src/a") && hit("src/**", "src/x/y/a.ts") && !hit("src/**", "src"));
        assert!(hit("**/*.ts", "a.ts") && hit("**/*.ts", "x/y/a.ts"));
        assert!(hit("a/**/b", "a/b") && hit("a/**/b", "a/x/y/b") && !hit("a/**/b", "a/x/c"));
        assert!(hit("**", "a/b/c") && hit("a?c", "abc") && !hit("a?c", "a/c"));
        assert!(hit("*a*b*", "xaxxbx") && !hit("*a*b", "xaxxbx"));
        assert!(hit("a?b", "aéb"));
    }

    #[test]
    fn dot_files_want_a_dot() {
        assert!(!hit("*", ".env") && hit(".*", ".env"));
        assert!(!hit("**", ".git/config") && !hit("**/*", "a/.cache/x"));
        assert!(hit(".github/**", ".github/x.yml"));
    }

    #[test]
    fn classes_and_alternatives() {
        assert!(hit("[a-c]x", "bx") && !hit("[!a-c]x", "bx") && hit("[]]x", "]x"));
        assert!(hit("[é-ü!]x", "éx") && hit("[!é]x", "èx") && !hit("[!é]x", "éx"));
        assert!(hit("[a-]x", "-x") && !hit("éx", "èx"));
        assert!(hit("*.{ts,tsx}", "a.tsx") && !hit("*.{ts,tsx}", "a.js"));
        assert!(hit("{src,lib/{a,b}}/*.c", "lib/b/x.c"));
    }

    #[test]
    fn bad_patterns_are_refused() {
        assert_eq!(Pattern::parse(""), Err(PatternError::Empty));
        assert!(matches!(
            Pattern::parse("/etc/*"),
            Err(PatternError::Absolute(_))
        ));
        assert!(matches!(
            Pattern::parse("../*"),
            Err(PatternError::DotSegment(_))
        ));
        assert!(matches!(
            Pattern::parse("{a,b"),
            Err(PatternError::Unbalanced(_, '{'))
        ));
        assert!(matches!(
            Pattern::parse("a}"),
            Err(PatternError::Unbalanced(_, '}'))
        ));
        assert!(matches!(
            Pattern::parse("[ab"),
            Err(PatternError::Unbalanced(_, '['))
        ));
        let bomb = "{a,b}".repeat(12);
        assert!(matches!(
            Pattern::parse(&bomb),
            Err(PatternError::TooMany(_))
        ));
        let nested = format!("{}a{}", "{".repeat(100_000), "}".repeat(100_000));
        assert!(matches!(
            Pattern::parse(&nested),
            Err(PatternError::TooMany(_))
        ));
    }

    #[test]
    fn a_walk_starts_at_the_base_and_is_pruned() {
        let base = |text: &str| Pattern::parse(text).unwrap().base().to_owned();
        assert_eq!(base("src/**/*.ts"), "src");
        assert_eq!(base("*.ts"), "");
        assert_eq!(base("a/b/c.ts"), "a/b");
        assert_eq!(base("src/{a,b}/*.ts"), "src");
        assert_eq!(base("{src,lib}/*.ts"), "");
        let pattern = Pattern::parse("src/*/test/**").unwrap();
        assert!(pattern.may_match_below("src") && pattern.may_match_below("src/x"));
        assert!(pattern.may_match_below("src/x/test/deep"));
        assert!(!Pattern::parse("**/a.ts").unwrap().may_match_name("b.ts"));
        assert!(!pattern.may_match_below("lib") && !pattern.may_match_below("src/x/main"));
    }
}
