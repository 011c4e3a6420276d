//! Other packages: what `@name//dir:target` means.
//!
//! Owns the step from a label as it is written to a label of the workspace: a package is a directory
//! of the workspace, declared under `[dependencies]` of `zako.toml` or fetched to a place of its own, whose
//! own files write labels from their own root. Does not know which targets there are, nor what was fetched.
//! Invariant: what is returned belongs to the workspace; no label of another package goes further.

use std::collections::BTreeMap;

use super::dependency::Dependency;
use super::label::{Label, LabelError, LabelPattern, is_within};
use super::manifest::MANIFEST;
use super::suggest::did_you_mean;
use super::target::join;

/// Where packages that were fetched lie, each in a directory of its name.
pub const FETCHED_DIR: &str = ".zako/packages";

/// The directory of the fetched package `name`, from the workspace root.
pub fn fetched_dir(name: &str) -> String {
    join(FETCHED_DIR, name)
}

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
            Dependency::Directory { path } => directory(path)
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
        if !label.package().is_empty() {
            return self.resolve(&label);
        }
        // A package's own files count from its own root.
        match self.around(here) {
            Some(root) if text.starts_with("//") => {
                Ok(Label::new(&below(root, label.dir()), label.name())?)
            }
            _ => Ok(label),
        }
    }

    /// What `label` means in the workspace.
    ///
    /// # Errors
    /// When its package is not there.
    pub fn resolve(&self, label: &Label) -> Result<Label, PackageError> {
        let package = label.package();
        if package.is_empty() {
            return Ok(label.clone());
        }
        match self.roots.get(package) {
            Some(Ok(root)) => Ok(Label::new(&below(root, label.dir()), label.name())?),
            Some(Err(why)) => Err(PackageError::Unusable {
                label: label.to_string(),
                package: package.to_owned(),
                why: why.clone(),
            }),
            None => Err(PackageError::Unknown {
                label: label.to_string(),
                package: package.to_owned(),
                hint: self.hint(package),
            }),
        }
    }

    /// What `pattern` of a command line means in the workspace.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_pattern(&self, pattern: LabelPattern) -> Result<LabelPattern, PackageError> {
        match pattern {
            LabelPattern::One(label) => self.resolve(&label).map(LabelPattern::One),
            other => Ok(other),
        }
    }

    /// How another file writes `label` when it belongs to a package; the second is whether that is the only way
    /// that a person should write it.
    pub fn written(&self, label: &Label) -> Option<(String, bool)> {
        let roots = self.roots.iter();
        let roots = roots.filter_map(|(name, root)| Some((name, root.as_deref().ok()?)));
        let around = roots.filter(|(_, root)| is_within(label.dir(), root));
        let (name, root) = around.max_by_key(|(_, root)| root.len())?;
        let dir = label.dir()[root.len()..].trim_start_matches('/');
        let own = is_within(root, FETCHED_DIR);
        Some((format!("@{name}//{dir}:{}", label.name()), own))
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

fn below(root: &str, dir: &str) -> String {
    if dir.is_empty() {
        root.to_owned()
    } else {
        join(root, dir)
    }
}

/// `path` without needless parts; `None` when it is no directory below the root.
fn directory(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "." => {}
            "" if path.starts_with('/') => return None,
            "" => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/")).filter(|path| !path.is_empty())
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
        assert_eq!(show("@web//a:x", ""), "//.zako/packages/web/a:x");
        assert_eq!(
            show("//a:x", ".zako/packages/web/b"),
            "//.zako/packages/web/a:x"
        );
        let written = |text: &str| packages().written(&Label::parse(text, "").unwrap());
        assert_eq!(
            written("//.zako/packages/web/a:x"),
            Some(("@web//a:x".into(), true))
        );
        assert_eq!(
            written("//.zako/packages/web:x"),
            Some(("@web//:x".into(), true))
        );
        assert_eq!(
            written("//third/zlib/a:x"),
            Some(("@zlib//a:x".into(), false))
        );
        assert_eq!(written("//third:x"), None);
    }
}
