//! What elements of JSX become calls of.
//!
//! Owns: the names that the classic runtime calls, as options and the comments of a file say them.
//! Does not know how elements become calls; oxc does.
//! Invariant: comments count that oxc reads, those before the first statement, the last one of a kind.

use oxc::ast::ast::Program;
use oxc::span::GetSpan;

use super::options::Jsx;

/// The names that have to be there where an element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Factories<'a> {
    /// `React` of `React.createElement`, or `h` of `@jsx h`.
    pub element: &'a str,
    /// `React` of `React.Fragment`, or `F` of `@jsxFrag F`.
    pub fragment: &'a str,
}

/// Nothing where elements stay, or call what is imported for them.
pub(super) fn factories<'a>(program: &Program<'a>, jsx: Jsx) -> Option<Factories<'a>> {
    let first = program.body.first()?.span().start;
    if jsx == Jsx::Preserve || !program.source_type.is_jsx() {
        return None;
    }
    let mut is_classic = jsx == Jsx::Classic;
    let mut found = Factories {
        element: "React",
        fragment: "React",
    };
    let comments = program.comments.iter();
    for comment in comments.take_while(|comment| comment.span.start < first) {
        let text = comment.content_span().source_text(program.source_text);
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            while let Some(word) = words.next() {
                let word = word.trim_start_matches('*');
                if !matches!(word, "@jsx" | "@jsxFrag" | "@jsxRuntime") {
                    continue;
                }
                let value = words.next().unwrap_or_default();
                let name = value.split('.').next().unwrap_or_default();
                match word {
                    "@jsxRuntime" if value == "classic" => is_classic = true,
                    "@jsxRuntime" if value == "automatic" => is_classic = false,
                    "@jsx" if !name.is_empty() => found.element = name,
                    "@jsxFrag" if !name.is_empty() => found.fragment = name,
                    _ => {}
                }
            }
        }
    }
    is_classic.then_some(found)
}
