//! JavaScript exceptions as diagnostics.
//!
//! Owns: mapping stack frames back to the sources, choosing the frame to blame, and the advice
//! that belongs to well-known mistakes.
//! Does not know: how the code was run.
//! Invariant: no path outside the workspace and no embedded module appears in a message.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use deno_core::error::{JsError, JsStackFrame};
use deno_core::sourcemap::SourceMap;

use crate::diagnostic::{Diagnostic, Location, line_and_column};

use super::embedded::is_embedded;
use super::loader::path_of_url;
use super::modules::ModuleGraph;

/// Frames shown in a stack.
const MAX_FRAMES: usize = 12;

/// Globals that build files do not have, and why.
const ABSENT_GLOBALS: &[(&str, &str)] = &[
    ("Date", "the time differs from one run to the next"),
    ("Temporal", "the time differs from one run to the next"),
    ("performance", "timings differ from one run to the next"),
    ("Intl", "its results depend on the machine's locale"),
    ("crypto", "random numbers differ from one run to the next"),
    ("Crypto", "random numbers differ from one run to the next"),
    ("WeakRef", "its result depends on garbage collection"),
    (
        "FinalizationRegistry",
        "its result depends on garbage collection",
    ),
    ("setTimeout", "build files have no clock"),
    ("setInterval", "build files have no clock"),
    ("setImmediate", "build files have no event loop to wait on"),
    ("SharedArrayBuffer", "there are no threads to share it with"),
    ("Atomics", "there are no threads to share memory with"),
    ("WebAssembly", "build files are TypeScript only"),
    ("ArrayBuffer", NO_BINARY),
    ("DataView", NO_BINARY),
    ("Uint8Array", NO_BINARY),
    ("Buffer", NO_BINARY),
    ("eval", "code cannot be made from strings"),
    ("Deno", "build files have no access to the system"),
    (
        "process",
        "build files have no access to the system; declare what a target needs in its `env`",
    ),
    ("require", "build files are ES modules; use import"),
    ("fetch", "build files have no network"),
];

/// What engines say of a change to something frozen.
const FROZEN: [&str; 4] = [
    "object is not extensible",
    "read only property",
    "read-only",
    "is frozen",
];

/// deno_core's words for a module whose top-level await cannot end.
const NEVER_SETTLED: &str = "Top-level await promise never resolved";

const NO_BINARY: &str = "build files describe targets; let a target read and write binary data";

/// One frame in terms of the sources.
struct Frame {
    function: Option<String>,
    location: Location,
}

/// Turns an exception into a diagnostic. Whether the engine `notes_places`, which scripts may turn off, tells what to think of
/// one without any.
pub(super) fn to_diagnostic(
    error: &JsError,
    graph: &ModuleGraph,
    notes_places: bool,
) -> Diagnostic {
    let frames = source_frames(&error.frames, graph);
    let (message, mut help) = message_and_help(error, notes_places);
    let mut diagnostic = Diagnostic::error(message);
    for inner in error.aggregated.iter().flatten().take(MAX_FRAMES) {
        let (message, _) = message_and_help(inner, notes_places);
        let _ = write!(diagnostic.message, "\n  {message}");
        if let Some(frame) = source_frames(&inner.frames, graph).first() {
            let _ = write!(diagnostic.message, " ({})", frame.location);
        }
    }
    if frames.is_empty() {
        return without_frames(error, diagnostic.message, help, graph);
    }
    if let Some(frame) = frames.first() {
        let Location { path, line, column } = &frame.location;
        let source = graph.get(path).map(|module| module.source.as_str());
        diagnostic = diagnostic.at_line(path, source, *line, *column, 1);
    }
    if crate::backtrace::is_wanted() {
        let above = help.map(|help| format!("{help}\n")).unwrap_or_default();
        help = Some(format!("{above}{}", whole_stack(error, graph)));
    } else if frames.len() > 1 {
        let mut text = help
            .take()
            .map(|help| format!("{help}\n"))
            .unwrap_or_default();
        text.push_str("called from:");
        for frame in frames.iter().skip(1).take(MAX_FRAMES) {
            let function = frame.function.as_deref().unwrap_or("the top of the module");
            let _ = write!(text, "\n  {function} ({})", frame.location);
        }
        help = Some(text);
    }
    diagnostic.help = help;
    diagnostic
}

/// Every frame, those of embedded modules included, and the stacks of its causes.
fn whole_stack(error: &JsError, graph: &ModuleGraph) -> String {
    let mut text = String::from("stack:");
    for frame in &error.frames {
        let function = function_name(frame);
        let function = function.as_deref().unwrap_or("the top of the module");
        let own = source_frames(std::slice::from_ref(frame), graph);
        let place = match own.first() {
            Some(frame) => frame.location.to_string(),
            None => {
                let file = frame.file_name.as_deref().unwrap_or("the engine");
                format!("{file}:{}", frame.line_number.unwrap_or_default())
            }
        };
        let _ = write!(text, "\n  {function} ({place})");
    }
    if let Some(cause) = &error.cause {
        let message = cause.exception_message.trim_start_matches("Uncaught ");
        let _ = write!(text, "\ncaused by {message}\n{}", whole_stack(cause, graph));
    }
    text
}

/// Message and advice: embedded checks put their advice after `help: `.
fn message_and_help(error: &JsError, notes_places: bool) -> (String, Option<String>) {
    let name = error.name.as_deref().unwrap_or("Error");
    let text = error.message.as_deref().unwrap_or_default();
    if let Some(absent) = absent_global(text) {
        let (global, why) = absent;
        return (
            format!("{global} is not available in build files: {why}"),
            None,
        );
    }
    let (message, help) = match text.split_once("\nhelp: ") {
        Some((message, help)) => (message, Some(help.to_owned())),
        None => (text, None),
    };
    if error.exception_message.contains(NEVER_SETTLED) {
        return (
            "the script waits for a promise that nothing will ever settle".to_owned(),
            Some("build files have no timers and no input: look for a promise whose resolve is never called".to_owned()),
        );
    }
    if is_thrown_value(error) {
        let thrown = error.exception_message.trim_start_matches("Uncaught ");
        let thrown = thrown.trim_start_matches("(in promise) ");
        return (
            format!("the script threw a value that is not an Error: {thrown}"),
            Some("throw new Error(\"…\") keeps the place where it happened".to_owned()),
        );
    }
    if FROZEN.iter().any(|words| text.contains(words)) && help.is_none() {
        let message = format!("{name}: {text}");
        return (message, Some("what a rule file holds is frozen before its functions are called, as what is built in always is: an answer must not depend on what was asked before; make inside the function what it changes".to_owned()));
    }
    if text.contains("call stack size exceeded") && error.frames.is_empty() && notes_places {
        // A recursion has places. The engine hands all of them to one function, which is never entered.
        return (
            "more promises were rejected than the engine can tell of".to_owned(),
            Some("nothing waits for them, and each is a mistake: await them, such as with Promise.all(), or handle each by .catch()".to_owned()),
        );
    }
    if text.contains("call stack size exceeded") || text.contains("stack overflow") {
        return (
            "the script's recursion is too deep".to_owned(),
            Some("look for a function that calls itself without an end, or for data that is nested too deeply for one that does".to_owned()),
        );
    }
    // Errors of the embedded checks speak for themselves; the class of others tells something.
    let message =
        if help.is_some() || name == "Error" || name == "TypeError" && text.contains("(): ") {
            message.to_owned()
        } else {
            format!("{name}: {message}")
        };
    (message, help)
}

/// Whether what was thrown is no Error.
fn is_thrown_value(error: &JsError) -> bool {
    error.name.is_none() && error.message.is_none()
}

/// A mistake of which the engine notes no place: where the files throw what is no Error, or ask for any of several promises, and
/// the name of the file at least.
fn without_frames(
    error: &JsError,
    message: String,
    help: Option<String>,
    graph: &ModuleGraph,
) -> Diagnostic {
    let needle = match error.name.as_deref() {
        _ if is_thrown_value(error) => "throw ",
        Some("AggregateError") => "Promise.any(",
        _ => "",
    };
    // One that makes an Error was another.
    let is_other = |source: &str, at: usize| source[at..].starts_with("throw new ");
    let files = graph.files().filter(|_| !needle.is_empty());
    let places = files.flat_map(|(path, module)| {
        let source = module.source.as_str();
        let found = source.match_indices(needle);
        let found = found.filter(move |(at, _)| !is_other(source, *at));
        found.map(move |(at, _)| (path, source, at))
    });
    // One more shows that there are others.
    let places: Vec<_> = places.take(MAX_FRAMES + 1).collect();
    let entry = graph.entry();
    let mut diagnostic = match places.as_slice() {
        [(path, source, at), ..] => {
            let length_bytes = needle.trim_end_matches([' ', '(']).len();
            Diagnostic::error(message).at(path, source, *at, length_bytes)
        }
        [] if is_embedded(entry) => Diagnostic::error(message),
        [] => Diagnostic::error(format!("{entry}: {message}")),
    };
    let others = places.iter().skip(1).map(|(path, source, at)| {
        let (line, column) = line_and_column(source, *at);
        format!("or {path}:{line}:{column}")
    });
    let help: Vec<String> = help.into_iter().chain(others).collect();
    diagnostic.help = (!help.is_empty()).then(|| help.join("\n"));
    diagnostic
}

/// `X is not defined` for a global that was taken away.
fn absent_global(message: &str) -> Option<(&'static str, &'static str)> {
    let name = message.strip_suffix(" is not defined")?.trim_matches('\'');
    ABSENT_GLOBALS
        .iter()
        .find(|(global, _)| *global == name)
        .copied()
}

/// Frames of workspace files, innermost first, mapped to the sources.
fn source_frames(frames: &[JsStackFrame], graph: &ModuleGraph) -> Vec<Frame> {
    let mut maps: BTreeMap<String, Option<SourceMap>> = BTreeMap::new();
    frames
        .iter()
        .filter_map(|frame| {
            let path = path_of_url(frame.file_name.as_deref()?)?;
            let module = graph.get(&path)?;
            let line = u32::try_from(frame.line_number?).ok()?;
            let column = u32::try_from(frame.column_number.unwrap_or(1)).ok()?;
            let map = maps.entry(path.clone()).or_insert_with(|| {
                let json = module.map.as_deref()?;
                SourceMap::from_slice(json.as_bytes()).ok()
            });
            let (line, column) = mapped(map.as_ref(), line, column);
            Some(Frame {
                function: function_name(frame),
                location: Location { path, line, column },
            })
        })
        .collect()
}

fn mapped(map: Option<&SourceMap>, line: u32, column: u32) -> (u32, u32) {
    let token =
        map.and_then(|map| map.lookup_token(line.checked_sub(1)?, column.saturating_sub(1)));
    match token {
        Some(token) => (token.get_src_line() + 1, token.get_src_col() + 1),
        None => (line, column),
    }
}

fn function_name(frame: &JsStackFrame) -> Option<String> {
    let name = frame
        .function_name
        .as_deref()
        .or(frame.method_name.as_deref())?;
    (!name.is_empty()).then(|| name.to_owned())
}
