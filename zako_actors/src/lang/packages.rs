//! Other packages: what `@name//dir:target` means.
//!
//! Owns the step from a label as it is written to a label of the workspace: a package is a directory
//! of the workspace, declared under `[dependencies]` of `zako.toml` or fetched to a place of its own, whose
//! own files write labels from their own root. Does not know which targets there are, nor what was fetched.
//! Invariants: what is returned belongs to the workspace; whatever a person writes as a label comes through here.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::dependency::{Dependency, plain_path};
pub use super::label::{FETCHED_DIR, fetched_dir};
use super::label::{Label, LabelError, LabelPattern, dir_below, is_within, package_of};
use super::manifest::MANIFEST;
use super::suggest::did_you_mean;

/// The packages that `zako.toml` declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packages {
    /// Directories from the workspace root, or why there is none.
    roots: BTreeMap<String, Result<String, String>>,
}

/// Why a text is no label of the workspace; answered by correcting it or `zako.toml`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PackageError {
    /// It is no label at all.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// Nobody declares the package.
    #[error("`{label}`: {MANIFEST} declares no dependency `{package}`{hint}")]
    Unknown {
        /// As written.
        label: String,
        /// The name after `@`.
        package: String,
        /// The nearest name, or all of them.
        hint: String,
    },
    /// The package is declared, but not as a directory of the workspace.
    #[error("`{label}`: dependency `{package}` {why}")]
    Unusable {
        /// As written.
        label: String,
        /// The name after `@`.
        package: String,
        /// What is in the way, and what to do.
        why: String,
    },
}

impl Packages {
    /// Without a single one.
    pub const NONE: Self = Self {
        roots: BTreeMap::new(),
    };

    /// Those of a manifest.
    pub fn new(dependencies: &BTreeMap<String, Dependency>) -> Self {
        let root = |name: &str, dependency: &Dependency| {
            match dependency {
            Dependency::Directory { path } => plain_path(path)
                .ok_or_else(|| format!("is at `{path}`, which is no directory of the workspace; move or check it out below the root")),
            Dependency::Fetched(_) => Ok(fetched_dir(name)),
        }
        };
        let roots = dependencies
            .iter()
            .map(|(name, dependency)| (name.clone(), root(name, dependency)));
        Self {
            roots: roots.collect(),
        }
    }

    /// Reads a label that is written in a build file of directory `here`.
    ///
    /// # Errors
    /// When it is no label, or one of a package that is not there.
    pub fn parse(&self, text: &str, here: &str) -> Result<Label, PackageError> {
        let label = Label::parse(text, here)?;
        // A package's own files count from its own root.
        match self.around(here) {
            Some(root) if text.starts_with("//") => {
                Ok(Label::new(&dir_below(root, label.dir()), label.name())?)
            }
            _ => self.resolve(&label),
        }
    }

    /// Reads what a person typed in directory `here` of the workspace.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn pattern(&self, text: &str, here: &str) -> Result<LabelPattern, PackageError> {
        Ok(match LabelPattern::parse(text, here)? {
            LabelPattern::One(label) => LabelPattern::One(self.resolve(&label)?),
            LabelPattern::Package(dir) => LabelPattern::Package(self.dir(dir, &text)?),
            LabelPattern::Tree(dir) => LabelPattern::Tree(self.dir(dir, &text)?),
            LabelPattern::Named(dir, name) => LabelPattern::Named(self.dir(dir, &text)?, name),
        })
    }

    /// What `label` means in the workspace.
    ///
    /// # Errors
    /// When its package is not there.
    pub fn resolve(&self, label: &Label) -> Result<Label, PackageError> {
        if package_of(label.dir()).is_none() {
            return Ok(label.clone());
        }
        let dir = self.dir(label.dir().to_owned(), label)?;
        Ok(Label::new(&dir, label.name())?)
    }

    /// The directory that is meant where the directory `dir` is named by the label `shown`.
    fn dir(&self, dir: String, shown: &dyn Display) -> Result<String, PackageError> {
        let Some((package, below)) = package_of(&dir) else {
            return Ok(dir);
        };
        match self.roots.get(package) {
            Some(Ok(root)) => Ok(dir_below(root, below)),
            Some(Err(why)) => Err(PackageError::Unusable {
                label: shown.to_string(),
                package: package.to_owned(),
                why: why.clone(),
            }),
            None => Err(PackageError::Unknown {
                label: shown.to_string(),
                package: package.to_owned(),
                hint: self.hint(package),
            }),
        }
    }

    /// The other name of `label`, when it lies in a directory of the workspace that is declared as a package.
    pub fn other_name(&self, label: &Label) -> Option<String> {
        let roots = self.roots.iter();
        let roots = roots.filter_map(|(name, root)| Some((name, root.as_deref().ok()?)));
        let around = roots.filter(|(_, root)| is_within(label.dir(), root));
        let (name, root) = around.max_by_key(|(_, root)| root.len())?;
        let below = label.dir()[root.len()..].trim_start_matches('/');
        let other = format!("@{name}//{below}:{}", label.name());
        (other != label.to_string()).then_some(other)
    }

    /// Those that are directories of the workspace, by name.
    pub fn directories(&self) -> impl Iterator<Item = (&str, &str)> {
        let roots = self.roots.iter();
        let roots = roots.filter_map(|(name, root)| Some((name.as_str(), root.as_deref().ok()?)));
        roots.filter(|(_, root)| package_of(root).is_none())
    }

    fn hint(&self, package: &str) -> String {
        let names: Vec<&str> = self.roots.keys().map(String::as_str).collect();
        match did_you_mean(package, names.iter().copied()) {
            hint if !hint.is_empty() => hint,
            _ if names.is_empty() => "; it declares none".into(),
            _ => format!("; it declares {}", names.join(", ")),
        }
    }

    /// The innermost package around `dir`.
    fn around(&self, dir: &str) -> Option<&str> {
        let roots = self.roots.values().filter_map(|root| root.as_deref().ok());
        roots
            .filter(|root| is_within(dir, root))
            .max_by_key(|root| root.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::dependency::{Fetched, Origin};
    use super::*;

    fn packages() -> Packages {
        let path = |path: &str| Dependency::Directory { path: path.into() };
        let web = Dependency::Fetched(Fetched {
            origin: Origin::Archive {
                url: "https://x.org/a.tar".into(),
                integrity: None,
            },
            build_file: None,
        });
        Packages::new(&BTreeMap::from([
            ("zlib".to_owned(), path("./third/zlib/")),
            ("far".to_owned(), path("../far")),
            ("web".to_owned(), web),
        ]))
    }

    fn show(text: &str, here: &str) -> String {
        let label = packages().parse(text, here);
        label.map_or_else(|error| error.to_string(), |label| label.to_string())
    }

    #[test]
    fn packages_are_directories_with_roots_of_their_own() {
        assert_eq!(show("@zlib//src:z", "app"), "//third/zlib/src:z");
        assert_eq!(show("@zlib//:z", ""), "//third/zlib:z");
        assert_eq!(show("//src:z", "third/zlib/test"), "//third/zlib/src:z");
        assert_eq!(show(":t", "third/zlib/test"), "//third/zlib/test:t");
        assert_eq!(show("//src:z", "third/zlib2"), "//src:z");
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        assert_eq!(
            show("@zilb//:z", ""),
            "`@zilb//:z`: zako.toml declares no dependency `zilb`; did you mean `zlib`?"
        );
        assert!(show("@other//:z", "").ends_with("; it declares far, web, zlib"));
        assert!(
            show("@far//:x", "").contains("is at `../far`, which is no directory of the workspace")
        );
    }

    #[test]
    fn what_was_fetched_has_a_place_and_a_name() {
        assert_eq!(show("@web//a:x", ""), "@web//a:x");
        assert_eq!(show("//a:x", ".zako/packages/web/b"), "@web//a:x");
        assert_eq!(show("//.zako/packages/web/a:x", "app"), "@web//a:x");
        assert!(show("//.zako/packages/wbe:x", "").contains("did you mean `web`?"));
        let other = |text: &str| packages().other_name(&Label::parse(text, "").unwrap());
        assert_eq!(other("@web//a:x"), None);
        assert_eq!(other("//third/zlib/a:x"), Some("@zlib//a:x".into()));
        assert_eq!(other("//third:x"), None);
    }

    #[test]
    fn patterns_name_packages_as_labels_do() {
        let show = |text: &str| {
            let pattern = packages().pattern(text, "app");
            pattern.map_or_else(|error| error.to_string(), |it| it.to_string())
        };
        for (text, meant) in [
            ("@web//...", "@web//..."),
            ("@web//a:x", "@web//a:x"),
            ("@web//...:lint", "@web//...:lint"),
            ("@zlib//:all", "//third/zlib:*"),
            ("@zlib//src/...", "//third/zlib/src/..."),
            ("x", "//app:x"),
        ] {
            assert_eq!(show(text), meant);
        }
        assert_eq!(
            show("@zilb//..."),
            "`@zilb//...`: zako.toml declares no dependency `zilb`; did you mean `zlib`?"
        );
    }
}
