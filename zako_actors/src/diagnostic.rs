//! What a user is told about a mistake in a source file.
//!
//! Owns: the [`Diagnostic`] type, its rendering, and code frames.
//! Does not know: who found the mistake (transpiler, loader, JavaScript engine, engine of the build).
//! Invariant: lines and columns are 1-based, columns count Unicode scalar values, paths are relative to the workspace.

use std::borrow::Cow;
use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The operation did not succeed.
    Error,
    /// The operation went on.
    Warning,
}

/// A place in a source file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Location {
    /// Path relative to the workspace root, separated by `/`.
    pub path: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path, self.line, self.column)
    }
}

/// One mistake, with everything that a person needs to mend it.
///
/// ```
/// use zako_actors::diagnostic::Diagnostic;
/// let d = Diagnostic::error("`srcss` is not an option of target()")
///     .at("BUILD.ts", "export default target({ srcss: [] });", 24, 5)
///     .with_help("did you mean `srcs`?");
/// let text = d.to_string();
/// assert!(text.contains("--> BUILD.ts:1:25") && text.contains("^^^^^"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// What was wrong, in one sentence without a full stop at its end.
    pub message: String,
    /// Where, when a place is known.
    pub location: Option<Location>,
    /// The lines around the place, with a marker below it.
    pub frame: Option<Box<str>>,
    /// What to do.
    pub help: Option<String>,
    /// The label of the target whose mistake it is, when that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Box<str>>,
}

impl Diagnostic {
    /// An error without a place.
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            location: None,
            frame: None,
            help: None,
            target: None,
        }
    }

    /// A warning without a place.
    pub fn warning(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(message)
        }
    }

    /// Sets place and code frame from a byte range of `source`.
    #[must_use]
    pub fn at(self, path: &str, source: &str, start_bytes: usize, length_bytes: usize) -> Self {
        let (line, column) = line_and_column(source, start_bytes);
        let end = floor_char_boundary(source, start_bytes.saturating_add(length_bytes));
        let start = floor_char_boundary(source, start_bytes).min(end);
        self.at_line(
            path,
            Some(source),
            line,
            column,
            source[start..end].chars().count(),
        )
    }

    /// Sets the place from a line and a column (both from 1), and the code frame when the source is at hand.
    #[must_use]
    pub fn at_line(
        mut self,
        path: &str,
        source: Option<&str>,
        line: u32,
        column: u32,
        length_chars: usize,
    ) -> Self {
        self.location = Some(Location {
            path: path.to_owned(),
            line,
            column,
        });
        self.frame = source.and_then(|text| code_frame(text, line, column, length_chars));
        self
    }

    /// Says whose mistake it is.
    #[must_use]
    pub fn about(mut self, target: &impl fmt::Display) -> Self {
        self.target = Some(target.to_string().into());
        self
    }

    /// Leaves out the middle of a message, of a line of advice, and of the whole advice, that is longer than anybody reads: scripts
    /// write them, too.
    ///
    /// ```
    /// use zako_actors::diagnostic::Diagnostic;
    /// let short = Diagnostic::error("x".repeat(1_000_000)).shortened();
    /// assert!(short.message.len() < 5_000 && short.message.contains("x … 995904 bytes left out … x"));
    /// ```
    #[must_use]
    pub fn shortened(mut self) -> Self {
        if let Some(short) = without_middle(&self.message, MESSAGE_BYTES) {
            self.message = short;
        }
        if let Some(help) = &mut self.help
            && help.len() > MESSAGE_BYTES
        {
            let lines = help.lines();
            let lines = lines
                .map(|line| without_middle(line, MESSAGE_BYTES).unwrap_or_else(|| line.to_owned()));
            let lines = lines.collect::<Vec<_>>().join("\n");
            *help = without_middle(&lines, HELP_BYTES).unwrap_or(lines);
        }
        self
    }

    /// Sets the advice.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}", visible(&self.message))?;
        if let Some(location) = &self.location {
            write!(f, "\n  --> {location}")?;
        }
        if let Some(frame) = &self.frame {
            write!(f, "\n{}", visible(frame))?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  = help: {}", visible(help).replace('\n', "\n    "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// `text` with a picture for each character that a terminal would obey, lines and tabs apart: scripts write messages, too.
///
/// ```
/// use zako_actors::diagnostic::visible;
/// assert_eq!(visible("a\u{1b}[2J\n\u{9b}"), "a␛[2J\n\u{fffd}");
/// ```
pub fn visible(text: &str) -> Cow<'_, str> {
    let is_obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let picture = |c: char| match u32::from(c) {
        _ if !is_obeyed(c) => c,
        0x7f => '\u{2421}',
        code => char::from_u32(0x2400 + code)
            .filter(|_| code < 0x20)
            .unwrap_or(char::REPLACEMENT_CHARACTER),
    };
    Cow::Owned(text.chars().map(picture).collect())
}

/// Line and column (both from 1, columns in characters) of a byte offset.
pub fn line_and_column(source: &str, offset_bytes: usize) -> (u32, u32) {
    let before = &source[..floor_char_boundary(source, offset_bytes)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before[line_start..].chars().count() + 1;
    (
        u32::try_from(line).unwrap_or(u32::MAX),
        u32::try_from(column).unwrap_or(u32::MAX),
    )
}

/// What is shown of a message, a quarter of it from its end.
const MESSAGE_BYTES: usize = 4 << 10;

/// What is shown of the advice: all calls that led to a mistake have room in it.
const HELP_BYTES: usize = 16 << 10;

/// The beginning and the end of a text of more than `most_bytes`, and how much lies between them.
fn without_middle(text: &str, most_bytes: usize) -> Option<String> {
    let tail_bytes = most_bytes / 4;
    if text.len() <= most_bytes {
        return None;
    }
    let head = floor_char_boundary(text, most_bytes - tail_bytes);
    let tail = floor_char_boundary(text, text.len() - tail_bytes);
    let (head, tail, between) = (&text[..head], &text[tail..], tail - head);
    Some(format!("{head} … {between} bytes left out … {tail}"))
}

fn floor_char_boundary(text: &str, offset_bytes: usize) -> usize {
    let mut offset = offset_bytes.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// Lines longer than this (bundles, generated code) are cut around the marker.
const FRAME_WIDTH_CHARS: usize = 160;

/// The line itself with two lines before it, and a row of carets below the range.
fn code_frame(source: &str, line: u32, column: u32, length_chars: usize) -> Option<Box<str>> {
    let line_index = usize::try_from(line.checked_sub(1)?).ok()?;
    let column_index = usize::try_from(column.checked_sub(1)?).ok()?;
    // The line behind the last line end is one, too: where a file ends too soon.
    let lines: Vec<&str> = source
        .split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .skip(line_index.saturating_sub(2))
        .take(3)
        .collect();
    let before = line_index.min(2);
    let target = *lines.get(before)?;
    let skip = column_index.saturating_sub(FRAME_WIDTH_CHARS / 2);
    let cut = |text: &str| -> String {
        let clean = text.replace('\t', " ");
        clean.chars().skip(skip).take(FRAME_WIDTH_CHARS).collect()
    };
    let digits = line.to_string().len();
    let mut frame = format!("{:digits$} |", "");
    for (index, text) in lines.iter().take(before + 1).enumerate() {
        let number = line_index + 1 - before + index;
        frame.push_str(format!("\n{number:digits$} | {}", cut(text)).trim_end());
    }
    let room = target.chars().count().saturating_sub(column_index).max(1);
    let carets = "^".repeat(length_chars.clamp(1, room.min(FRAME_WIDTH_CHARS / 2)));
    frame.push_str(&format!(
        "\n{:digits$} | {:pad$}{carets}",
        "",
        "",
        pad = column_index - skip
    ));
    Some(frame.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_marks_the_range() {
        let source = "one\ntwo\nlet é = srcss;\nlast";
        let offset = source.find("srcss").unwrap();
        let text = Diagnostic::error("unknown key")
            .at("a/BUILD.ts", source, offset, 5)
            .with_help("did you mean `srcs`?")
            .to_string();
        assert_eq!(
            text,
            "error: unknown key\n  --> a/BUILD.ts:3:9\n  |\n1 | one\n2 | two\n3 | let é = srcss;\n  |         ^^^^^\n  = help: did you mean `srcs`?"
        );
    }

    #[test]
    fn advice_of_very_many_lines_is_shortened() {
        let long = Diagnostic::error("m").with_help("line\n".repeat(200_000));
        let help = long.shortened().help.unwrap();
        assert!(help.len() < HELP_BYTES + 100, "{}", help.len());
        assert!(help.starts_with("line\nline\n") && help.contains(" bytes left out … "));
    }

    #[test]
    fn where_a_file_ends_too_soon_is_shown() {
        let source = "a(\r\n  b,\n";
        let text = Diagnostic::error("x").at("a.ts", source, source.len(), 0);
        assert_eq!(
            text.to_string(),
            "error: x\n  --> a.ts:3:1\n  |\n1 | a(\n2 |   b,\n3 |\n  | ^"
        );
    }

    #[test]
    fn positions_outside_the_source_do_not_panic() {
        let d = Diagnostic::error("x").at("a.ts", "é", 1, 90);
        assert_eq!(d.location.unwrap().column, 1);
        assert!(
            Diagnostic::error("x")
                .at_line("a.ts", Some("a"), 7, 1, 1)
                .frame
                .is_none()
        );
        assert!(
            Diagnostic::error("x")
                .at_line("a.ts", Some("a"), 0, 0, 1)
                .frame
                .is_none()
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_marker() {
        let source = format!("{}bad{}", "a".repeat(5000), "b".repeat(5000));
        let frame = Diagnostic::error("x")
            .at("a.js", &source, 5000, 3)
            .frame
            .unwrap();
        assert!(frame.lines().all(|line| line.chars().count() < 200));
        let lines: Vec<&str> = frame.lines().collect();
        assert_eq!(lines[1].find("bad"), lines[2].find("^^^"));
    }
}
