//! Outputs of each kind at one place: the targets that leave them, and what is there then.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What lies at a place; all kinds exclude each other there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A symbolic link that leads nowhere.
    Link,
    /// A symbolic link to the directory [`SIDE`] beside the place's own.
    Side,
    /// A directory with nothing in it.
    Empty,
    /// A directory with files.
    Tree,
    /// A directory with a file and a directory.
    Deep,
    /// Files that match a pattern.
    Pattern,
    /// One file in a directory that is not declared.
    Inner,
}

/// All of them.
pub const KINDS: [Kind; 8] = [
    Kind::File,
    Kind::Link,
    Kind::Side,
    Kind::Empty,
    Kind::Tree,
    Kind::Deep,
    Kind::Pattern,
    Kind::Inner,
];

/// Where a link leads that leads to a directory.
pub const SIDE: &str = "side";

/// What lies where: the content of a file, `-> TO` for a link, `/` for a directory with nothing in it.
pub type Found = BTreeMap<String, String>;

impl Kind {
    /// A target that leaves this at `DIR/NAME`, made of `words`.
    pub fn target(self, place: &str, words: &[&str]) -> String {
        let all = words.join(" ");
        let (line, out) = match self {
            Self::File => (format!("echo {all} > {place}"), place.to_owned()),
            Self::Link => (format!("ln -s {} {place}", words[0]), place.to_owned()),
            Self::Side => (format!("ln -s ../{SIDE} {place}"), place.to_owned()),
            Self::Empty => (format!("mkdir -p {place}"), format!("{place}/")),
            Self::Tree => (
                format!("mkdir -p {place}; for f in {all}; do echo $f > {place}/$f; done"),
                format!("{place}/"),
            ),
            Self::Deep => (
                format!(
                    "mkdir -p {place}/deep; for f in {all}; do echo $f > {place}/deep/$f; done; echo b > {place}/b"
                ),
                format!("{place}/"),
            ),
            Self::Pattern => (
                format!("mkdir -p {place}; for f in {all}; do echo $f > {place}/$f.g; done"),
                format!("{place}/*.g"),
            ),
            Self::Inner => (
                format!("mkdir -p {place}; echo {all} > {place}/inner"),
                format!("{place}/inner"),
            ),
        };
        format!("target({{ cmd: [\"sh\", \"-ec\", {line:?}], outs: [{out:?}] }})")
    }

    /// What that leaves.
    pub fn left(self, place: &str, words: &[&str]) -> Found {
        let all = words.join(" ");
        let each = |dir: &str, end: &str| -> Found {
            let files = words.iter();
            let files =
                files.map(|word| (format!("{place}/{dir}{word}{end}"), format!("{word}\n")));
            files.collect()
        };
        let one = |path: String, content: String| Found::from([(path, content)]);
        match self {
            Self::File => one(place.to_owned(), format!("{all}\n")),
            Self::Link => one(place.to_owned(), format!("-> {}", words[0])),
            Self::Side => one(place.to_owned(), format!("-> ../{SIDE}")),
            Self::Empty => one(place.to_owned(), "/".into()),
            Self::Tree => each("", ""),
            Self::Deep => {
                let mut found = each("deep/", "");
                found.insert(format!("{place}/b"), "b\n".into());
                found
            }
            Self::Pattern => each("", ".g"),
            Self::Inner => one(format!("{place}/inner"), format!("{all}\n")),
        }
    }
}

/// What lies in the directory `dir` of `root`, and below.
///
/// # Panics
/// When it cannot be read.
pub fn found(root: &Path, dir: &str) -> Found {
    let mut found = Found::new();
    let Ok(entries) = fs::read_dir(root.join(dir)) else {
        return found;
    };
    for entry in entries {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a name");
        let path = format!("{dir}/{name}");
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            let below = self::found(root, &path);
            match below.is_empty() {
                true => drop(found.insert(path, "/".into())),
                false => found.extend(below),
            }
        } else if kind.is_symlink() {
            let to = fs::read_link(entry.path()).expect("a link");
            found.insert(path, format!("-> {}", to.display()));
        } else {
            let content = fs::read_to_string(entry.path()).expect("a text");
            found.insert(path, content);
        }
    }
    found
}
