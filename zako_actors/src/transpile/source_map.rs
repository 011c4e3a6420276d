//! Source maps of transpiled files.
//!
//! Owns: shifting the map below the generated prologue, mapping the prologue's own lines, and the
//! `sources` entry.
//! Invariant: every line of the prologue that came from a statement of the source maps to it.

use std::borrow::Cow;

use oxc_sourcemap::{SourceMap, Token};

/// A line of the prologue and the byte offset of the statement that it came from.
pub(super) struct PrologueLine {
    /// Line in the prologue, from 0.
    pub line: u32,
    /// Byte offset in the source.
    pub source_offset: u32,
}

/// The map of `prologue + body`, given the map of the body alone.
pub(super) fn with_prologue<'a>(
    map: SourceMap<'a>,
    source: &str,
    prologue_lines: u32,
    mapped: &[PrologueLine],
) -> SourceMap<'a> {
    let mut parts = map.into_parts();
    let mut tokens: Vec<Token> = mapped
        .iter()
        .map(|entry| {
            let (line, column) = line_and_utf16_column(source, entry.source_offset as usize);
            Token::new(entry.line, 0, line, column, Some(0), None)
        })
        .collect();
    tokens.extend(parts.tokens.iter().map(|token| {
        Token::new(
            token.get_dst_line() + prologue_lines,
            token.get_dst_col(),
            token.get_src_line(),
            token.get_src_col(),
            token.get_source_id(),
            token.get_name_id(),
        )
    }));
    parts.tokens = tokens.into_boxed_slice();
    SourceMap::from_parts(parts)
}

/// The JSON text of the map, its only source named `source_name`.
pub(super) fn to_json(map: SourceMap<'_>, file: Option<&str>, source_name: &str) -> String {
    let mut parts = map.into_parts();
    parts.file = file.map(|name| Cow::Owned(name.to_owned()));
    parts.sources = vec![Cow::Owned(source_name.to_owned())];
    let mut json = SourceMap::from_parts(parts).to_json_string();
    // It was made with room for several times as much, and is kept.
    json.shrink_to_fit();
    json
}

/// Line and column from 0, columns in UTF-16 units as source maps count them.
fn line_and_utf16_column(source: &str, offset_bytes: usize) -> (u32, u32) {
    let before = source.get(..offset_bytes).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count();
    let column = before[line_start..].encode_utf16().count();
    (
        u32::try_from(line).unwrap_or(u32::MAX),
        u32::try_from(column).unwrap_or(u32::MAX),
    )
}
