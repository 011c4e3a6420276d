//! Where another package comes from: one entry of `[dependencies]`.
//!
//! Owns the fields of an entry and the answers to mistakes in them. Does not fetch anything.
//! Invariant: an [`Origin`] is complete: what it says can be asked for as it stands.

use std::collections::BTreeMap;

use toml::Spanned;

use super::integrity::Integrity;
use super::suggest::did_you_mean;

/// Another package, by the name that labels use after `@`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dependency {
    /// A directory of the workspace.
    Directory {
        /// Path from the workspace root.
        path: String,
    },
    /// Something that has to be fetched.
    Fetched(Fetched),
}

impl Dependency {
    /// The path from the workspace root of the archive in the workspace that it comes from.
    pub fn archive(&self) -> Option<String> {
        let Self::Fetched(Fetched {
            origin: Origin::Archive { url, .. },
            ..
        }) = self
        else {
            return None;
        };
        plain_path(url.strip_prefix("file:")?.trim_start_matches("//"))
    }
}

/// `path` without needless parts; `None` when it does not lead below the root.
pub(super) fn plain_path(path: &str) -> Option<String> {
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

/// A package from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where it comes from.
    pub origin: Origin,
    /// A file of the workspace that describes its targets, when it does not do so itself.
    pub build_file: Option<String>,
}

/// What is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An archive.
    Archive {
        /// `https://…`, `http://…`, or `file:` and a path from the workspace root.
        url: String,
        /// What it must be.
        integrity: Option<Integrity>,
    },
    /// A package of the npm registry.
    Npm {
        /// With its scope.
        name: String,
        /// Exactly this one.
        version: String,
    },
    /// A state of a git repository.
    Git {
        /// Address, or a path from the workspace root.
        repo: String,
        /// Commit, branch or tag.
        checkout: String,
    },
}

impl Origin {
    /// One line that says all of it but the digest: what the lock file calls it.
    pub fn source(&self) -> String {
        match self {
            Self::Archive { url, .. } => url.clone(),
            Self::Npm { name, version } => format!("npm:{name}@{version}"),
            Self::Git { repo, checkout } => format!("git:{repo}#{checkout}"),
        }
    }

    /// Whether `text` names a commit and nothing else.
    pub fn is_commit(text: &str) -> bool {
        matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
    }
}

/// The fields of an entry, each with its place.
pub type Fields = BTreeMap<String, Spanned<toml::Value>>;

const FIELDS: [&str; 7] = [
    "path",
    "url",
    "integrity",
    "package",
    "repo",
    "checkout",
    "build",
];

const FORMS: &str = "needs one of: `path`; `url`; `package`; `repo` and `checkout`";

/// What is wrong, and the byte at which it stands.
pub type Wrong = (usize, String);

/// Reads entry `name` of `[dependencies]`, which begins at byte `start`.
///
/// # Errors
/// The first mistake.
pub fn read(name: &str, start: usize, fields: &Fields) -> Result<Dependency, Wrong> {
    let mut texts: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    for (field, value) in fields {
        let at = value.span().start;
        if !FIELDS.contains(&field.as_str()) {
            let hint = did_you_mean(field, FIELDS);
            return Err((
                at,
                format!("dependency `{name}` {FORMS}; `{field}` is unknown{hint}"),
            ));
        }
        match value.as_ref() {
            toml::Value::String(text) if text.trim() == text && !text.is_empty() => {
                texts.insert(field, (text, at));
            }
            other => {
                let found = match other {
                    toml::Value::String(text) => format!("{text:?}"),
                    other => format!("a value of type {}", other.type_str()),
                };
                let message = format!(
                    "dependency `{name}`: `{field}` is a text without spaces around it, not {found}"
                );
                return Err((at, message));
            }
        }
    }
    let entry = Entry { name, start, texts };
    entry.read()
}

/// An entry whose fields are known and texts.
struct Entry<'a> {
    name: &'a str,
    start: usize,
    texts: BTreeMap<&'a str, (&'a str, usize)>,
}

impl Entry<'_> {
    fn wrong(&self, field: &str, message: &str) -> Wrong {
        let at = self.texts.get(field).map_or(self.start, |(_, at)| *at);
        (at, format!("dependency `{}`: {message}", self.name))
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.texts.get(field).map(|(text, _)| *text)
    }

    /// Only these fields may stand beside each other.
    fn only(&self, allowed: &[&str]) -> Result<(), Wrong> {
        let other = self.texts.keys().find(|field| !allowed.contains(field));
        other.map_or(Ok(()), |field| {
            let message = format!("`{field}` does not go with `{}`", allowed[0]);
            Err(self.wrong(field, &message))
        })
    }

    fn read(&self) -> Result<Dependency, Wrong> {
        if let Some(path) = self.text("path") {
            self.only(&["path"])?;
            return Ok(Dependency::Directory {
                path: path.to_owned(),
            });
        }
        let origin = if let Some(url) = self.text("url") {
            self.only(&["url", "integrity", "build"])?;
            self.archive(url)?
        } else if let Some(package) = self.text("package") {
            self.only(&["package", "build"])?;
            self.npm(package)?
        } else if let Some(repo) = self.text("repo") {
            self.only(&["repo", "checkout", "build"])?;
            self.git(repo)?
        } else {
            return Err((self.start, format!("dependency `{}` {FORMS}", self.name)));
        };
        self.check_name()?;
        let build_file = self.text("build").map(str::to_owned);
        if let Some(path) = &build_file
            && (path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\\'))
        {
            let message =
                format!("`build` is the path of a file from the workspace root, not `{path}`");
            return Err(self.wrong("build", &message));
        }
        Ok(Dependency::Fetched(Fetched { origin, build_file }))
    }

    /// The name becomes that of a directory.
    fn check_name(&self) -> Result<(), Wrong> {
        let good = |c: char| c.is_ascii_alphanumeric() || "_-.+~".contains(c);
        let name = self.name;
        match !name.is_empty()
            && !name.starts_with('.')
            && name.len() <= 100
            && name.chars().all(good)
        {
            true => Ok(()),
            false => Err((
                self.start,
                format!(
                    "dependency `{name}`: the name of a package that is fetched has letters, digits, `_ - . + ~`, at most 100, \
                     and begins with none of `.`"
                ),
            )),
        }
    }

    fn archive(&self, url: &str) -> Result<Origin, Wrong> {
        let integrity = self.text("integrity").map(Integrity::parse).transpose();
        let integrity = integrity.map_err(|expected| self.wrong("integrity", &expected))?;
        let known = match url.split_once(':') {
            Some(("file", path)) => !path.is_empty(),
            Some(("https" | "http", _)) => url::Url::parse(url).is_ok_and(|url| url.has_host()),
            _ => false,
        };
        if !known {
            let message = format!(
                "`url` is https://…, http://…, or file: and a path from the workspace root, not `{url}`"
            );
            return Err(self.wrong("url", &message));
        }
        let parsed = url::Url::parse(url).ok();
        if parsed.is_some_and(|url| !url.username().is_empty() || url.password().is_some()) {
            let message =
                "no name or password stands in `url`: it would be written down in zako.lock";
            return Err(self.wrong("url", message));
        }
        if url.starts_with("http:") && integrity.is_none() {
            let message = "whoever is on the way can replace what comes by http://; write https://, or `integrity` \
                           with the digest of the archive";
            return Err(self.wrong("url", message));
        }
        Ok(Origin::Archive {
            url: url.to_owned(),
            integrity,
        })
    }

    fn npm(&self, package: &str) -> Result<Origin, Wrong> {
        let wrong = |why: &str| {
            let message = format!(
                "`package` is npm:NAME@VERSION, such as npm:left-pad@1.3.0; `{package}` {why}"
            );
            self.wrong("package", &message)
        };
        let Some(rest) = package.strip_prefix("npm:") else {
            return Err(wrong("names no registry that is known"));
        };
        let Some((name, version)) = rest.rsplit_once('@').filter(|(name, _)| !name.is_empty())
        else {
            return Err(wrong("has no version"));
        };
        let part = |text: &str| {
            let good = |c: char| c.is_ascii_alphanumeric() || "_-.~".contains(c);
            !text.is_empty() && !text.starts_with('.') && text.chars().all(good)
        };
        let good = match name.strip_prefix('@') {
            Some(scoped) => scoped
                .split_once('/')
                .is_some_and(|(scope, name)| part(scope) && part(name)),
            None => part(name),
        };
        if !good {
            return Err(wrong("has no name of npm's"));
        }
        if !super::identity::is_semver(version) {
            return Err(wrong(
                "has no exact version: ranges and tags are not resolved",
            ));
        }
        Ok(Origin::Npm {
            name: name.to_owned(),
            version: version.to_owned(),
        })
    }

    fn git(&self, repo: &str) -> Result<Origin, Wrong> {
        let Some(checkout) = self.text("checkout") else {
            return Err(self.wrong(
                "repo",
                "`checkout` is missing: the commit (all digits), or a tag or branch",
            ));
        };
        // Git would take them for options, or for programs to start.
        if repo.starts_with('-') || repo.contains("::") {
            let message = format!("`repo` is the address of a repository, not `{repo}`");
            return Err(self.wrong("repo", &message));
        }
        let good = |c: char| c.is_ascii_graphic() && !"~^:?*[\\#".contains(c);
        if checkout.starts_with(['-', '/'])
            || checkout.contains("..")
            || !checkout.chars().all(good)
        {
            let message = format!("`checkout` is a commit, tag or branch, not `{checkout}`");
            return Err(self.wrong("checkout", &message));
        }
        let is_open = repo.starts_with("http:") || repo.starts_with("git:");
        if is_open && !Origin::is_commit(checkout) {
            let message = "whoever is on the way can replace what comes by http:// and git://; write https://, or the \
                               commit (all digits) as `checkout`";
            return Err(self.wrong("repo", message));
        }
        Ok(Origin::Git {
            repo: repo.to_owned(),
            checkout: checkout.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::lang::locate::flat;
    use crate::lang::manifest::Manifest;

    use super::*;

    const HEAD: &str = "group = \"g\"\nartifact = \"a\"\nversion = \"1.0.0\"\n[dependencies]\n";

    fn origin(entry: &str) -> Result<String, String> {
        let manifest = Manifest::parse(&format!("{HEAD}x = {{ {entry} }}\n"));
        match manifest
            .map_err(|mistake| flat(&mistake))?
            .dependencies
            .remove("x")
        {
            Some(Dependency::Fetched(fetched)) => Ok(fetched.origin.source()),
            other => Ok(format!("{other:?}")),
        }
    }

    #[test]
    fn every_form_is_read() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        for (entry, source) in [
            ("url = \"https://x.org/a.tar.gz\"", "https://x.org/a.tar.gz"),
            (
                "url = \"file:third/a.zip\", build = \"third/a.ts\"",
                "file:third/a.zip",
            ),
            ("package = \"npm:left-pad@1.3.0\"", "npm:left-pad@1.3.0"),
            (
                "package = \"npm:@types/node@20.0.0-rc.1\"",
                "npm:@types/node@20.0.0-rc.1",
            ),
            ("repo = \"../lib\", checkout = \"v1.0\"", "git:../lib#v1.0"),
        ] {
            assert_eq!(origin(entry).as_deref(), Ok(source));
        }
        assert!(
            Origin::is_commit(commit)
                && !Origin::is_commit("main")
                && !Origin::is_commit(&commit[1..])
        );
    }

    #[test]
    fn mistakes_name_their_place_and_what_was_expected() {
        for (entry, at, expected) in [
            ("git = \"r\"", "5:13", "needs one of: `path`"),
            ("urll = \"r\"", "5:14", "did you mean `url`?"),
            ("url = 3", "5:13", "`url` is a text"),
            (
                "url = \" https://x.org \"",
                "5:13",
                "without spaces around it",
            ),
            (
                "url = \"x.tar.gz\"",
                "5:13",
                "file: and a path from the workspace root",
            ),
            (
                "url = \"http://x.org/a\"",
                "5:13",
                "write https://, or `integrity`",
            ),
            (
                "url = \"https://me:secret@x.org/a\"",
                "5:13",
                "no name or password",
            ),
            (
                "url = \"file:a\", integrity = \"sha256-x\"",
                "5:35",
                "is no digest",
            ),
            (
                "url = \"file:a\", path = \"b\"",
                "5:13",
                "`url` does not go with `path`",
            ),
            (
                "url = \"file:a\", build = \"../x\"",
                "5:31",
                "the path of a file",
            ),
            ("package = \"left-pad@1.3.0\"", "5:17", "names no registry"),
            ("package = \"npm:left-pad\"", "5:17", "has no version"),
            (
                "package = \"npm:left-pad@^1\"",
                "5:17",
                "has no exact version",
            ),
            (
                "package = \"npm:../x@1.0.0\"",
                "5:17",
                "has no name of npm's",
            ),
            ("repo = \"r\"", "5:14", "`checkout` is missing"),
            (
                "repo = \"ext::sh -c x\", checkout = \"a\"",
                "5:14",
                "the address of a repository",
            ),
            (
                "repo = \"http://x.org/r\", checkout = \"main\"",
                "5:14",
                "write https://, or the commit",
            ),
            (
                "repo = \"r\", checkout = \"--x\"",
                "5:30",
                "is a commit, tag or branch",
            ),
            (
                "repo = \"r\", checkout = \"a..b\"",
                "5:30",
                "is a commit, tag or branch",
            ),
        ] {
            let said = origin(entry).unwrap_err();
            assert!(
                said.starts_with(&format!("zako.toml:{at}: dependency `x`")),
                "{entry}: {said}"
            );
            assert!(said.contains(expected), "{entry}: {said}");
        }
        let name =
            Manifest::parse(&format!("{HEAD}\"../x\" = {{ url = \"file:a\" }}\n")).unwrap_err();
        assert!(flat(&name).contains("the name of a package that is fetched"));
    }
}
