//! Labels: the names of targets, `//path/sub:target`, of a package from elsewhere `@pkg//path/sub:target`.
//!
//! Owns the grammar and its errors, how a label is shown, and the patterns of the command line (`//...`).
//! Does not know which labels exist, nor which packages.
//! Invariants: every `Label` is absolute; `dir` is the path of a directory from the workspace root, that of a package the one that it is
//! fetched to, without leading, trailing or double slash or any `.` or `..` segment; what is shown reads back as the same label.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::text::Text;

/// Where packages that were fetched lie, each in a directory of its name.
pub const FETCHED_DIR: &str = ".zako/packages";

/// The directory of the fetched package `name`, from the workspace root.
pub fn fetched_dir(name: &str) -> String {
    format!("{FETCHED_DIR}/{name}")
}

/// The package that has the directory `dir`, and the way from its root to there.
pub fn package_of(dir: &str) -> Option<(&str, &str)> {
    let below = dir.strip_prefix(FETCHED_DIR)?.strip_prefix('/')?;
    Some(below.split_once('/').unwrap_or((below, "")))
}

/// A directory as labels write it: `//path`, of a package from elsewhere `@pkg//path`.
#[derive(Clone, Copy, Debug)]
pub struct DirName<'a>(pub &'a str);

impl fmt::Display for DirName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match package_of(self.0) {
            Some((package, below)) => write!(f, "@{package}//{below}"),
            None => write!(f, "//{}", self.0),
        }
    }
}

/// The absolute name of a target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct Label {
    /// Directory and name, one behind the other.
    text: Text,
    /// Where the name begins in it.
    name: u32,
}

/// A label as it is read, before anybody has looked whether it is one.
#[derive(Deserialize)]
struct Parts {
    text: Text,
    name: u32,
}

impl TryFrom<Parts> for Label {
    type Error = &'static str;

    fn try_from(Parts { text, name }: Parts) -> Result<Self, Self::Error> {
        text.is_char_boundary(name as usize)
            .then_some(Self { text, name })
            .ok_or("a label whose parts are not in it")
    }
}

impl Ord for Label {
    fn cmp(&self, other: &Self) -> Ordering {
        let parts = |label| (Self::dir(label), Self::name(label));
        parts(self).cmp(&parts(other))
    }
}

impl PartialOrd for Label {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Why a text is not a label. Each variant is answered by correcting the text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LabelError {
    /// Nothing was written.
    #[error("a label is empty; write `//path:name` or `:name`")]
    Empty,
    /// `@pkg` without `//`.
    #[error("label `{0}`: `//` is missing after the package name")]
    NoSlashes(String),
    /// A relative label where only absolute ones make sense.
    #[error("label `{0}` does not start with `//` or `:`; write `//{0}` or `:{0}`")]
    NotAbsolute(String),
    /// `.` or `..` as a segment, or a name with `...`, which means subtrees.
    #[error(
        "label `{0}`: `.`, `..` and `...` name nothing here; write the path from the workspace root"
    )]
    DotSegment(String),
    /// `//a//b`, `//a/` and the like.
    #[error("label `{0}` has an empty path segment")]
    EmptySegment(String),
    /// `//a:` or `//`.
    #[error("label `{0}` has no target name after `:`")]
    NoName(String),
    /// A character outside the grammar.
    #[error("label `{label}`: `{found}` is not allowed; use letters, digits and `_ - . + ~ / @ =`")]
    BadCharacter {
        /// The whole text.
        label: String,
        /// The first offending character.
        found: char,
    },
}

fn allowed(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '~' | '@' | '=')
}

fn check_dir(dir: &str, whole: &str) -> Result<(), LabelError> {
    if dir.is_empty() {
        return Ok(());
    }
    for segment in dir.split('/') {
        match segment {
            "" => return Err(LabelError::EmptySegment(whole.into())),
            "." | ".." => return Err(LabelError::DotSegment(whole.into())),
            _ => check_characters(segment, whole)?,
        }
    }
    Ok(())
}

fn check_characters(text: &str, whole: &str) -> Result<(), LabelError> {
    match text.chars().find(|&c| !allowed(c)) {
        Some(found) => Err(LabelError::BadCharacter {
            label: whole.into(),
            found,
        }),
        None => Ok(()),
    }
}

/// The directory that `text` means, the beginning of `whole`.
fn read_dir(text: &str, whole: &str) -> Result<String, LabelError> {
    let (root, below) = match text.strip_prefix('@') {
        None => {
            let below = text.strip_prefix("//");
            let below = below.ok_or_else(|| LabelError::NotAbsolute(whole.into()))?;
            (String::new(), below)
        }
        Some(text) => {
            let parts = text.split_once("//");
            let (package, below) = parts.ok_or_else(|| LabelError::NoSlashes(whole.into()))?;
            check_characters(package, whole)?;
            match package {
                "" => (String::new(), below),
                package => (fetched_dir(package), below),
            }
        }
    };
    let dir = dir_below(&root, below);
    check_dir(&dir, whole)?;
    Ok(dir)
}

/// The directory `below` the directory `root`; either may be the root of all.
pub fn dir_below(root: &str, below: &str) -> String {
    match (root, below) {
        ("", dir) | (dir, "") => dir.to_owned(),
        (root, below) => format!("{root}/{below}"),
    }
}

impl Label {
    /// The label of target `name` in directory `dir` of the workspace.
    ///
    /// # Errors
    /// When either part breaks the grammar.
    pub fn new(dir: &str, name: &str) -> Result<Self, LabelError> {
        let whole = format!("{}:{name}", DirName(dir));
        check_dir(dir, &whole)?;
        Self::checked(dir, name, &whole)
    }

    fn checked(dir: &str, name: &str, whole: &str) -> Result<Self, LabelError> {
        if name.is_empty() {
            return Err(LabelError::NoName(whole.into()));
        }
        // `...` is a subtree where labels are typed.
        if name == "." || name == ".." || name.contains("...") {
            return Err(LabelError::DotSegment(whole.into()));
        }
        check_characters(name, whole)?;
        Ok(Self {
            text: [dir, name].concat().into(),
            name: u32::try_from(dir.len()).expect("a label has less than 4 GiB"),
        })
    }

    /// Reads a label written in a build file of directory `here`.
    ///
    /// `//a/b` means `//a/b:b`; `:t` means target `t` of `here`; `@p//a:t` means what lies where `p` is fetched to.
    ///
    /// # Errors
    /// When the text breaks the grammar.
    pub fn parse(text: &str, here: &str) -> Result<Self, LabelError> {
        if text.is_empty() {
            return Err(LabelError::Empty);
        }
        if let Some(name) = text.strip_prefix(':') {
            return Self::checked(here, name, text);
        }
        let (dir, name) = match text.split_once(':') {
            Some((dir, name)) => (dir, name),
            None => (text, text.rsplit('/').next().unwrap_or_default()),
        };
        Self::checked(&read_dir(dir, text)?, name, text)
    }

    /// Directory from the workspace root, without slashes at the ends; empty for the root itself.
    pub fn dir(&self) -> &str {
        &self.text[..self.name as usize]
    }

    /// The target's own name.
    pub fn name(&self) -> &str {
        &self.text[self.name as usize..]
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", DirName(self.dir()), self.name())
    }
}

/// What a command line may name: one target, one directory's targets, or a whole subtree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelPattern {
    /// Exactly this target.
    One(Label),
    /// Every target defined in this directory (`//a:*`).
    Package(String),
    /// Every target in this directory and below (`//a/...`).
    Tree(String),
    /// Every target of this name in this directory and below (`//a/...:lint`).
    Named(String, String),
}

impl LabelPattern {
    /// Everything in the workspace, `//...`.
    pub fn everything() -> Self {
        Self::Tree(String::new())
    }

    /// Reads a pattern typed in directory `here` of the workspace.
    ///
    /// On the command line a bare `name` is `:name`, and `...` is the subtree of `here`.
    ///
    /// # Errors
    /// When the text breaks the grammar.
    pub fn parse(text: &str, here: &str) -> Result<Self, LabelError> {
        if text == "..." {
            return Ok(Self::Tree(here.into()));
        }
        if let Some((tree, name)) = text.split_once("...:")
            && (tree.is_empty() || tree.ends_with('/'))
            && let Self::Tree(dir) = Self::parse(&format!("{tree}..."), here)?
        {
            let label = Label::checked(&dir, name, text)?;
            return Ok(Self::Named(dir, label.name().into()));
        }
        if text.starts_with(['/', '@'])
            && let Some(above) = text.strip_suffix("...")
        {
            let is_root = above.ends_with("//");
            let dir = above.strip_suffix('/').filter(|_| !is_root);
            return Ok(Self::Tree(read_dir(dir.unwrap_or(above), text)?));
        }
        if let Some(dir) = text.strip_suffix(":*").or(text.strip_suffix(":all")) {
            return Ok(Self::Package(match dir {
                "" => here.to_owned(),
                dir => read_dir(dir, text)?,
            }));
        }
        let bare = !text.is_empty() && !text.contains(['/', ':', '@']);
        let label = if bare {
            Label::parse(&format!(":{text}"), here)?
        } else {
            Label::parse(text, here)?
        };
        // Written in full it means the whole package.
        if label.name() == "all" {
            return Ok(Self::Package(label.dir().into()));
        }
        Ok(Self::One(label))
    }

    /// Whether something in `dir` may be meant.
    pub fn covers(&self, dir: &str) -> bool {
        match self {
            Self::One(label) => label.dir() == dir,
            Self::Package(own) => own == dir,
            Self::Tree(above) | Self::Named(above, _) => is_within(dir, above),
        }
    }

    /// Whether `label` is meant.
    pub fn matches(&self, label: &Label) -> bool {
        match self {
            Self::One(one) => one == label,
            Self::Package(dir) => label.dir() == dir,
            Self::Tree(dir) => is_within(label.dir(), dir),
            Self::Named(dir, name) => is_within(label.dir(), dir) && label.name() == name,
        }
    }
}

impl fmt::Display for LabelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(label) => label.fmt(f),
            Self::Package(dir) => write!(f, "{}:*", DirName(dir)),
            Self::Tree(dir) => write!(f, "{}", Below(dir)),
            Self::Named(dir, name) => write!(f, "{}:{name}", Below(dir)),
        }
    }
}

/// A directory and all below it, as patterns write it.
struct Below<'a>(&'a str);

impl fmt::Display for Below<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_root =
            self.0.is_empty() || package_of(self.0).is_some_and(|(_, dir)| dir.is_empty());
        let slash = if is_root { "" } else { "/" };
        write!(f, "{}{slash}...", DirName(self.0))
    }
}

/// Whether slash-separated `path` is `dir` or lies below it; the empty `dir` holds everything.
pub fn is_within(path: &str, dir: &str) -> bool {
    dir.is_empty()
        || path
            .strip_prefix(dir)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        Self::parse(text, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str, here: &str) -> String {
        Label::parse(text, here).map_or_else(|e| e.to_string(), |l| l.to_string())
    }

    #[test]
    fn short_forms_become_absolute() {
        assert_eq!(show("//a/b", ""), "//a/b:b");
        assert_eq!(show(":t", "libs/ui"), "//libs/ui:t");
        assert_eq!(show("//:t", "x"), "//:t");
        assert_eq!(show("@rx//src/core:lib", ""), "@rx//src/core:lib");
    }

    #[test]
    fn each_mistake_has_its_own_answer() {
        assert_eq!(Label::parse("", ""), Err(LabelError::Empty));
        assert!(matches!(
            Label::parse("a:b", ""),
            Err(LabelError::NotAbsolute(_))
        ));
        assert!(matches!(
            Label::parse("//a/../b", ""),
            Err(LabelError::DotSegment(_))
        ));
        assert!(matches!(
            Label::parse("//./b:x", ""),
            Err(LabelError::DotSegment(_))
        ));
        assert!(matches!(
            Label::parse("//a//b", ""),
            Err(LabelError::EmptySegment(_))
        ));
        assert!(matches!(
            Label::parse("//a/:b", ""),
            Err(LabelError::EmptySegment(_))
        ));
        assert!(matches!(
            Label::parse("//a:", ""),
            Err(LabelError::NoName(_))
        ));
        assert!(matches!(
            Label::parse("@a:b", ""),
            Err(LabelError::NoSlashes(_))
        ));
        assert!(matches!(
            Label::parse("//a b:c", ""),
            Err(LabelError::BadCharacter { found: ' ', .. })
        ));
    }

    #[test]
    fn labels_are_ordered_by_directory_and_name() {
        let texts = ["//:z", "@a//:a", "@b//:a", "//a:b", "//a/b:a", "//ab:a"];
        let mut labels = texts.map(|text| Label::parse(text, "").unwrap());
        labels.reverse();
        labels.sort();
        assert_eq!(labels.map(|label| label.to_string()), texts);
        let alike = ["//ab:c", "//a:bc", "@a//b:c"].map(|text| Label::parse(text, "").unwrap());
        assert!(alike[0] != alike[1] && alike[1] != alike[2] && alike[0] != alike[2]);
    }

    #[test]
    fn a_label_is_read_only_when_its_parts_are_in_it() {
        let read = |parts: (&str, u32)| {
            let bytes = postcard::to_stdvec(&parts).unwrap();
            postcard::from_bytes::<Label>(&bytes).map(|label| label.to_string())
        };
        assert_eq!(read(("abc", 2)), Ok("//ab:c".to_owned()));
        for wrong in [("abc", 4), ("ä", 1)] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_package_is_the_directory_that_it_is_fetched_to() {
        let label = Label::parse("@p//a/b:c", "x").unwrap();
        assert_eq!(label, Label::new(".zako/packages/p/a/b", "c").unwrap());
        assert_eq!(show("//.zako/packages/p:t", ""), "@p//:t");
        assert_eq!(show(":t", ".zako/packages/p/a"), "@p//a:t");
        assert_eq!(show("//.zako/packages2/p:t", ""), "//.zako/packages2/p:t");
        for wrong in ["@..//:t", "@.//a:t", "@p//../q:t"] {
            let found = Label::parse(wrong, "");
            assert_eq!(found, Err(LabelError::DotSegment(wrong.into())));
        }
        assert!(matches!(
            Label::parse("@p/q//:t", ""),
            Err(LabelError::BadCharacter { found: '/', .. })
        ));
    }

    #[test]
    fn display_reads_back() {
        for text in ["//:x", "//a:b", "@p//a/b:c"] {
            let label: Label = text.parse().unwrap();
            assert_eq!(label.to_string(), text);
        }
    }

    #[test]
    fn patterns_select_what_they_say() {
        let label = |text: &str| Label::parse(text, "").unwrap();
        let all = LabelPattern::parse("//...", "").unwrap();
        assert!(all.matches(&label("//a/b:c")));
        let tree = LabelPattern::parse("//a/...", "").unwrap();
        assert!(tree.matches(&label("//a:a")) && tree.matches(&label("//a/b:c")));
        assert!(!tree.matches(&label("//ab:c")));
        let here = LabelPattern::parse("...", "a").unwrap();
        assert_eq!(here, tree);
        let lint = LabelPattern::parse("//a/...:lint", "").unwrap();
        assert!(lint.matches(&label("//a/b:lint")) && !lint.matches(&label("//a/b:c")));
        assert_eq!(lint.to_string(), "//a/...:lint");
        assert_eq!(LabelPattern::parse("...:lint", "a").unwrap(), lint);
        let package = LabelPattern::parse("//a:*", "").unwrap();
        assert!(package.matches(&label("//a:z")) && !package.matches(&label("//a/b:z")));
        assert_eq!(
            LabelPattern::parse("esm", "libs/rx").unwrap(),
            LabelPattern::One(label("//libs/rx:esm"))
        );
        for (text, dir) in [
            ("@p//...", ".zako/packages/p"),
            ("@p//a/...", ".zako/packages/p/a"),
        ] {
            let tree = LabelPattern::parse(text, "x").unwrap();
            assert_eq!(tree, LabelPattern::Tree(dir.into()));
            assert_eq!(tree.to_string(), text);
        }
        for (text, shown) in [
            ("@p//:*", "@p//:*"),
            ("@p//a:all", "@p//a:*"),
            ("@p//...:lint", "@p//...:lint"),
        ] {
            assert_eq!(LabelPattern::parse(text, "x").unwrap().to_string(), shown);
        }
        let whole = LabelPattern::Package("a/all".into());
        for text in ["//a/all", "//a/all:all", "//a/all:*"] {
            assert_eq!(LabelPattern::parse(text, "").unwrap(), whole);
        }
    }
}
