//! `.gitignore` as patterns: what a person says is not a source.
//!
//! Owns the translation of one file's lines. Does not know the file system.
//! Invariant: a file is left out only when git certainly ignores it; where a line cannot be
//! translated, or a later line may take files back, more is kept, which costs a rerun, never a
//! stale result.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use super::label::is_within;
use super::pattern::Pattern;

/// What is ignored below directories, by what lies in these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    by_dir: BTreeMap<String, Vec<Pattern>>,
}

impl Hash for Ignored {
    /// There is one for all scripts: looking at all of it for each would take as long as both together.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.by_dir.len().hash(state);
    }
}

impl Ignored {
    /// Adds what the text of the `.gitignore` in `dir` leaves out; what lies `deeper` may take files back.
    pub fn add<'t>(&mut self, dir: &str, text: &'t str, deeper: impl IntoIterator<Item = &'t str>) {
        let patterns = ignored(text, deeper);
        if !patterns.is_empty() {
            self.by_dir.insert(dir.to_owned(), patterns);
        }
    }

    /// Whether a directory below `dir` leaves something out.
    pub fn is_said_below(&self, dir: &str) -> bool {
        let prefix = match dir {
            "" => String::new(),
            dir => format!("{dir}/"),
        };
        let mut from = self.by_dir.range(prefix.clone()..);
        from.find(|(it, _)| !it.is_empty())
            .is_some_and(|(it, _)| it.starts_with(&prefix))
    }

    /// Whether a directory between `dir`, which says nothing here, and the file at `path` leaves that out.
    pub fn has(&self, dir: &str, path: &str) -> bool {
        let mut between = self.between(dir, path);
        between.any(|(below, pattern)| pattern.matches(below))
    }

    /// Whether that leaves out all of the directory at `path`.
    pub fn has_all_of(&self, dir: &str, path: &str) -> bool {
        let mut between = self.between(dir, path);
        between.any(|(below, pattern)| pattern.means_all_of(below))
    }

    fn between<'a>(
        &'a self,
        dir: &'a str,
        path: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Pattern)> {
        let ends = path.match_indices('/').map(|(end, _)| end);
        let above = ends.filter(move |end| *end > dir.len() && is_within(&path[..*end], dir));
        above.flat_map(move |end| {
            let patterns = self.by_dir.get(&path[..end]).into_iter().flatten();
            patterns.map(move |pattern| (&path[end + 1..], pattern))
        })
    }
}

/// What the text of the `.gitignore` in a directory leaves out, as patterns from that directory; what lies `deeper` may take
/// files back.
pub fn ignored<'t>(text: &'t str, deeper: impl IntoIterator<Item = &'t str>) -> Vec<Pattern> {
    let texts = std::iter::once(text).chain(deeper);
    let taken_back: Vec<&str> = texts
        .flat_map(lines)
        .filter_map(|line| line.strip_prefix('!'))
        .map(|line| line.trim_matches('/'))
        .collect();
    lines(text)
        .filter(|line| !line.starts_with(['!', '\\']))
        .filter(|line| !taken_back.iter().any(|back| may_take_back(back, line)))
        .flat_map(translate)
        .filter_map(|pattern| Pattern::parse(&pattern).ok())
        .collect()
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim_end);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Whether the line `!back` may mean something of what `line` leaves out. Below a directory that is left out git looks for nothing,
/// so a wildcard has to mean that directory, or a name what the wildcard of the line means.
fn may_take_back(back: &str, line: &str) -> bool {
    let name = line.trim_matches('/');
    match (Pattern::is_wild(back), Pattern::is_wild(line)) {
        (true, true) => true,
        (true, false) => means(last(back), last(name)),
        (false, true) => back.split('/').any(|part| means(last(name), part)),
        (false, false) => back.starts_with(name) || back.ends_with(name),
    }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Whether the wildcard `glob` means `name`, as git does it: names with a dot in front are like others.
fn means(glob: &str, name: &str) -> bool {
    let is_dotted = name.starts_with('.') && !glob.starts_with('.');
    let name = match name.strip_prefix('.').filter(|_| is_dotted) {
        Some(rest) => format!("x{rest}"),
        None => name.to_owned(),
    };
    let is_known = !glob.contains("**") && !glob.contains(['[', '\\']);
    let glob = Pattern::parse(glob).ok().filter(|_| is_known);
    glob.is_none_or(|glob| glob.matches(&name))
}

fn translate(line: &str) -> Vec<String> {
    let name = line.trim_start_matches('/').trim_end_matches('/');
    let name = name.strip_suffix("/**").unwrap_or(name);
    if name.is_empty() {
        return Vec::new();
    }
    // A slash anywhere but at the end ties the name to this directory.
    let tied = line.trim_end_matches('/').contains('/');
    let mut patterns = vec![format!("{name}/**")];
    if !tied {
        patterns.push(format!("**/{name}/**"));
    }
    // With a slash at the end only directories are meant.
    if !line.ends_with('/') {
        patterns.push(name.to_owned());
        if !tied {
            patterns.push(format!("**/{name}"));
        }
    }
    patterns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves_out(text: &str, path: &str) -> bool {
        ignored(text, [])
            .iter()
            .any(|pattern| pattern.matches(path))
    }

    #[test]
    fn names_directories_and_paths_are_understood() {
        let text = "# made\ndist/\n*.log\n/build\n.turbo\ncoverage/**\na/b\n";
        for path in [
            "dist/x.js",
            "src/dist/x.js",
            "x.log",
            "deep/x.log",
            "build/x",
            "coverage/lcov.info",
            "a/b",
            "a/b/c",
        ] {
            assert!(leaves_out(text, path), "{path}");
        }
        for path in ["src/build/x", "src/x.ts", "c/a/b", "dist"] {
            assert!(!leaves_out(text, path), "{path}");
        }
    }

    #[test]
    fn what_lies_deeper_says_what_is_ignored_there() {
        let mut ignored = Ignored::default();
        ignored.add("a/b", "out/\n*.log\n", []);
        ignored.add("a", "", []);
        assert!(ignored.has("", "a/b/out/x") && ignored.has("a", "a/b/c/x.log"));
        assert!(ignored.has_all_of("a", "a/b/out") && !ignored.has_all_of("a", "a/b/src"));
        // Whoever lies there has said it already.
        assert!(!ignored.has("a/b", "a/b/x.log") && !ignored.has("", "a/x.log"));
        assert!(ignored.is_said_below("") && ignored.is_said_below("a"));
        assert!(!ignored.is_said_below("a/b") && !ignored.is_said_below("b"));
    }

    #[test]
    fn what_may_be_taken_back_is_kept() {
        assert!(!leaves_out("*.log\n!keep.log\n", "x.log"));
        assert!(!leaves_out("dist\n!dist/keep.js\n", "dist/x.js"));
        assert!(leaves_out("dist\n!other.js\n", "dist/x.js"));
        assert!(leaves_out("dist\n!*.js\n", "dist/x.js"));
        assert!(!leaves_out("dist\n!d*\n", "dist/x.js"));
        for back in ["!*", "!*config", "!/*", "!.con*", "!?config", "![.]config"] {
            assert!(
                !leaves_out(&format!(".config\n{back}\n"), ".config/x"),
                "{back}"
            );
        }
        assert!(leaves_out("*.gen\n!keep\n", "x.gen"));
        assert!(!leaves_out("build/*\n!build/keep\n", "build/x"));
        assert!(!leaves_out("d*\n!dist/keep\n", "dist/x"));
    }

    #[test]
    fn what_lies_deeper_may_take_back() {
        let is_left_out = |deeper| {
            let patterns = ignored("lib/\n*.log\nout\n", deeper);
            ["a/lib/x", "x.log", "out"].map(|path| patterns.iter().any(|it| it.matches(path)))
        };
        assert_eq!(is_left_out(["", "out2\n"]), [true, true, true]);
        assert_eq!(is_left_out(["", "!/lib/\n"]), [false, true, true]);
        assert_eq!(is_left_out(["!src/**\n", ""]), [false, false, false]);
    }
}
