//! Import specifiers in the output.
//!
//! Owns: the mapping from what a TypeScript source imports (`./a`, `./a.ts`, `./dir`) to what
//! Node.js can load (`./a.js`, `./dir/index.js`), and the name of an output file.
//! Does not know: the file system. It sees only the set of files that the caller names.

/// Source extensions in the order in which `tsc` tries them, with the extension of their output.
const EXTENSIONS: [(&str, &str); 8] = [
    ("ts", "js"),
    ("tsx", "js"),
    ("mts", "mjs"),
    ("cts", "cjs"),
    ("js", "js"),
    ("jsx", "js"),
    ("mjs", "mjs"),
    ("cjs", "cjs"),
];

/// The path of the output of a source: `a/b.tsx` becomes `a/b.js`, `c.mts` becomes `c.mjs`.
/// `None` for declaration files and for what the transpiler does not read.
///
/// ```
/// use zako_actors::transpile::output_path;
/// assert_eq!(output_path("src/a.tsx").as_deref(), Some("src/a.js"));
/// assert_eq!(output_path("src/a.d.ts"), None);
/// ```
pub fn output_path(source_path: &str) -> Option<String> {
    let (stem, extension) = source_path.rsplit_once('.')?;
    let out = output_extension(extension)?;
    let declaration = stem.ends_with(".d") && matches!(extension, "ts" | "mts" | "cts");
    (!declaration).then(|| format!("{stem}.{out}"))
}

/// The path of the declarations of what becomes `output_path`.
///
/// ```
/// use zako_actors::transpile::declaration_path;
/// assert_eq!(declaration_path("dist/a.mjs"), "dist/a.d.mts");
/// ```
pub fn declaration_path(output_path: &str) -> String {
    let (stem, extension) = output_path.rsplit_once('.').unwrap_or((output_path, "js"));
    let declaration = match extension {
        "mjs" => "d.mts",
        "cjs" => "d.cts",
        _ => "d.ts",
    };
    format!("{stem}.{declaration}")
}

/// The sources that may become `path`, or its declarations or map: of `a.js` these are `a.ts`, `a.tsx`, `a.jsx` and, as for all, not
/// itself.
///
/// ```
/// use zako_actors::transpile::source_paths;
/// assert!(source_paths("a.d.mts.map").eq(["a.mts", "a.mjs"]));
/// assert_eq!(source_paths("a.css").next(), None);
/// ```
pub fn source_paths(path: &str) -> impl Iterator<Item = String> {
    let made = path.strip_suffix(".map").unwrap_or(path);
    let (stem, extension) = made.rsplit_once('.').unwrap_or((made, ""));
    let (stem, out) = match (stem.strip_suffix(".d"), extension) {
        (Some(stem), "ts") => (stem, "js"),
        (Some(stem), "mts") => (stem, "mjs"),
        (Some(stem), "cts") => (stem, "cjs"),
        _ => (stem, extension),
    };
    let sources = EXTENSIONS.iter().filter(move |(_, its)| *its == out);
    let sources = sources.map(move |(source, _)| format!("{stem}.{source}"));
    sources.filter(move |source| source != path)
}

fn output_extension(extension: &str) -> Option<&'static str> {
    EXTENSIONS
        .iter()
        .find(|(source, _)| *source == extension)
        .map(|(_, out)| *out)
}

/// Joins `specifier` to the directory of `importer`; `None` when it climbs above the root.
pub(crate) fn join_relative(importer: &str, specifier: &str) -> Option<String> {
    let mut parts: Vec<&str> = importer.split('/').collect();
    parts.pop();
    for part in specifier.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// Whether a specifier is relative (`./`, `../`, `.`, `..`).
pub(crate) fn is_relative(specifier: &str) -> bool {
    specifier == "."
        || specifier == ".."
        || specifier.starts_with("./")
        || specifier.starts_with("../")
}

/// The path among known files that a relative specifier means, as `tsc` finds it.
pub(super) fn resolve_among(
    importer: &str,
    specifier: &str,
    exists: impl Fn(&str) -> bool,
) -> Option<String> {
    if !is_relative(specifier) {
        return None;
    }
    let target = join_relative(importer, specifier)?;
    let with_extension = |stem: &str| {
        let candidates = EXTENSIONS
            .iter()
            .map(|(source, _)| format!("{stem}.{source}"));
        candidates.into_iter().find(|path| exists(path))
    };
    if !names_directory(specifier) {
        if exists(&target) {
            return Some(target);
        }
        // `./a.js` in a source means what will be `a.js`.
        if let Some((stem, extension)) = target.rsplit_once('.') {
            let sources = EXTENSIONS.iter().filter(|(_, out)| *out == extension);
            let found = sources
                .map(|(source, _)| format!("{stem}.{source}"))
                .find(|p| exists(p));
            if found.is_some() {
                return found;
            }
        }
        if let Some(path) = with_extension(&target) {
            return Some(path);
        }
    }
    let index = if target.is_empty() {
        "index".to_owned()
    } else {
        format!("{target}/index")
    };
    with_extension(&index)
}

fn names_directory(specifier: &str) -> bool {
    matches!(specifier.rsplit('/').next(), Some("" | "." | ".."))
}

/// What the output should import instead of `specifier`, or `None` to leave it; `resolved` is the
/// source file that it means, when that is known.
///
/// `complete` asks for a file name that Node.js finds as an ES module; without it (CommonJS) only
/// TypeScript extensions are replaced.
pub(super) fn rewritten(specifier: &str, resolved: Option<&str>, complete: bool) -> Option<String> {
    if !is_relative(specifier) {
        return None;
    }
    let extension = (!names_directory(specifier))
        .then(|| specifier.rsplit_once('.').map(|(_, extension)| extension))
        .flatten();
    if let Some(extension) = extension {
        if matches!(extension, "ts" | "tsx" | "mts" | "cts") {
            // A declaration file has no output: Node.js then reports the import best.
            return output_path(specifier);
        }
        if matches!(extension, "js" | "mjs" | "cjs" | "json" | "node") {
            return None;
        }
    }
    let output = output_path(resolved.filter(|_| complete)?)?;
    let (stem, out) = output.rsplit_once('.')?;
    let prefix = specifier.trim_end_matches('/');
    let last = prefix.rsplit('/').next().unwrap_or(prefix);
    let is_file = !names_directory(specifier) && stem.rsplit('/').next() == Some(last);
    // `./index` may mean a file `index.ts` or a directory `index/`.
    let index_in_directory = stem.ends_with(&format!("{last}/index"));
    Some(if is_file && !index_in_directory {
        format!("{prefix}.{out}")
    } else {
        format!("{prefix}/index.{out}")
    })
}

/// `target` as seen from the directory of `from`, both relative to the same root.
pub(super) fn relative_path(from: &str, target: &str) -> String {
    let from_dir: Vec<&str> = from.split('/').collect();
    let from_dir = &from_dir[..from_dir.len() - 1];
    let target_parts: Vec<&str> = target.split('/').collect();
    let shared = from_dir
        .iter()
        .zip(&target_parts[..target_parts.len() - 1])
        .take_while(|(left, right)| left == right)
        .count();
    let mut out = "../".repeat(from_dir.len() - shared);
    out.push_str(&target_parts[shared..].join("/"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 6] = [
        "src/index.ts",
        "src/a.ts",
        "src/b.tsx",
        "src/dir/index.ts",
        "src/v1.2.ts",
        "src/m.mts",
    ];

    fn rewrite_in(importer: &str, specifier: &str, complete: bool) -> Option<String> {
        let resolved = resolve_among(importer, specifier, |path| KNOWN.contains(&path));
        rewritten(specifier, resolved.as_deref(), complete)
    }

    fn esm(specifier: &str) -> Option<String> {
        rewrite_in("src/main.ts", specifier, true)
    }

    #[test]
    fn relative_specifiers_become_complete() {
        assert_eq!(esm("./a").as_deref(), Some("./a.js"));
        assert_eq!(esm("./b").as_deref(), Some("./b.js"));
        assert_eq!(esm("./m").as_deref(), Some("./m.mjs"));
        assert_eq!(esm("./index").as_deref(), Some("./index.js"));
        assert_eq!(esm("./dir").as_deref(), Some("./dir/index.js"));
        assert_eq!(esm("./dir/").as_deref(), Some("./dir/index.js"));
        assert_eq!(esm(".").as_deref(), Some("./index.js"));
        assert_eq!(esm("../src").as_deref(), Some("../src/index.js"));
        assert_eq!(esm("./v1.2").as_deref(), Some("./v1.2.js"));
        assert_eq!(esm("./a.ts").as_deref(), Some("./a.js"));
        assert_eq!(
            rewrite_in("src/dir/x.ts", "..", true).as_deref(),
            Some("../index.js")
        );
    }

    #[test]
    fn others_stay() {
        assert_eq!(esm("rxjs"), None);
        assert_eq!(esm("./a.js"), None);
        assert_eq!(esm("./missing"), None);
        assert_eq!(esm("./data.json"), None);
        assert_eq!(rewrite_in("src/main.ts", "./a", false), None);
        assert_eq!(
            rewrite_in("src/main.ts", "./a.tsx", false).as_deref(),
            Some("./a.js")
        );
    }

    #[test]
    fn paths_between_files() {
        assert_eq!(
            relative_path("dist/esm/a/b.js", "src/a/b.ts"),
            "../../../src/a/b.ts"
        );
        assert_eq!(relative_path("a.js", "a.ts"), "a.ts");
        assert_eq!(relative_path("x/a.js", "x/a.ts"), "a.ts");
        assert_eq!(join_relative("a/b.ts", "../../c"), None);
    }
}
