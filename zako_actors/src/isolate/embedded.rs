//! The rules that ship: `zako:rules`, and `zako:rules/<topic>` for one topic.
//!
//! Owns: their sources, written in the build language like anybody's rules.
//! Does not know: what they say.
//! Invariant: their paths begin with `zako:rules/`, which no file of a workspace has.

/// All topics in one module.
pub(super) const ALL: &str = "zako:rules";

const PREFIX: &str = "zako:rules/";

/// Specifier, path and source.
const FILES: [(&str, &str, &str); 8] = [
    (
        ALL,
        "zako:rules/index.rule.ts",
        include_str!("rules/index.rule.ts"),
    ),
    (
        "zako:rules/files",
        "zako:rules/files.rule.ts",
        include_str!("rules/files.rule.ts"),
    ),
    (
        "zako:rules/shell",
        "zako:rules/shell.rule.ts",
        include_str!("rules/shell.rule.ts"),
    ),
    (
        "zako:rules/typescript",
        "zako:rules/typescript.rule.ts",
        include_str!("rules/typescript.rule.ts"),
    ),
    (
        "zako:rules/npm",
        "zako:rules/npm.rule.ts",
        include_str!("rules/npm.rule.ts"),
    ),
    (
        "zako:rules/cc",
        "zako:rules/cc.rule.ts",
        include_str!("rules/cc.rule.ts"),
    ),
    (
        "zako:rules/cc.config",
        "zako:rules/cc.config.ts",
        include_str!("rules/cc.config.ts"),
    ),
    (
        "zako:rules/cc.toolchain",
        "zako:rules/cc.toolchain.ts",
        include_str!("rules/cc.toolchain.ts"),
    ),
];

/// Specifiers of the topics, each with the path of its file.
pub(super) fn topics() -> impl Iterator<Item = (&'static str, &'static str)> {
    let topics = FILES.iter().filter(|(specifier, _, _)| *specifier != ALL);
    topics.map(|(specifier, path, _)| (*specifier, *path))
}

/// The path of the file that `specifier` means.
pub(super) fn path_of(specifier: &str) -> Option<&'static str> {
    let file = FILES.iter().find(|(known, _, _)| *known == specifier);
    file.map(|(_, path, _)| *path)
}

/// The path that an import of `target` means, which may say `.js` for `.ts`.
pub(super) fn find(target: &str) -> Option<&'static str> {
    let stem = |path: &'_ str| path.rsplit_once('.').map(|(stem, _)| stem.to_owned());
    let file = FILES
        .iter()
        .find(|(_, known, _)| stem(known) == stem(target));
    file.map(|(_, path, _)| *path)
}

/// Whether `path` is one of these files.
pub(super) fn is_embedded(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// The text of the file at `path`.
pub(super) fn source(path: &str) -> Option<&'static str> {
    let file = FILES.iter().find(|(_, known, _)| *known == path);
    file.map(|(_, _, source)| *source)
}

/// Changes whenever one of them does.
pub fn digest() -> String {
    let mut hasher = blake3::Hasher::new();
    for (_, path, source) in FILES {
        hasher.update(path.as_bytes()).update(source.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
