//! The lock file `zako.lock`: what packages from elsewhere were when they were fetched first.
//!
//! Owns its text. Does not know how a package is fetched, nor when an entry holds.
//! Invariants: equal entries give equal bytes; an unknown field never passes silently.

use std::collections::BTreeMap;
use std::fmt::Write;

use cas_actor::Digest;
use serde::Deserialize;
use toml::Spanned;

use super::integrity::Integrity;
use super::locate::{At, mistake};
use crate::diagnostic::Diagnostic;

/// File name of the lock file, beside the manifest.
pub const LOCK: &str = "zako.lock";

const HEAD: &str = "\
# Written by zako: what the packages from elsewhere in zako.toml are. Keep it under version control.
# `zako build --update-lock` fetches them again and writes it anew.
version = 1
";

/// What one package was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locked {
    /// Where it came from, in one line.
    pub source: String,
    /// The commit, when it came from git.
    pub commit: Option<String>,
    /// The digest of its archive, when it had one.
    pub integrity: Option<Integrity>,
    /// The digest of what it holds: of a tar archive in a fixed form.
    pub tree: Digest,
}

/// All of them by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockFile {
    /// By the names that labels use after `@`.
    pub packages: BTreeMap<String, Locked>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    version: Spanned<i64>,
    #[serde(default)]
    package: BTreeMap<String, RawLocked>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLocked {
    source: String,
    commit: Option<Spanned<String>>,
    integrity: Option<Spanned<String>>,
    tree: Spanned<String>,
}

impl LockFile {
    /// Reads the text of a lock file.
    ///
    /// # Errors
    /// The first mistake, with its line.
    pub fn parse(text: &str) -> Result<Self, Diagnostic> {
        let wrong = |at: usize, message: String| {
            let mistake = mistake(&At::offset(LOCK, text, at), message, text);
            mistake.with_help("take it from version control, or remove it and run `zako build`")
        };
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            wrong(start, error.message().replace('\n', "; "))
        })?;
        if *raw.version.as_ref() != 1 {
            let message = format!(
                "version {} is not known to this zako; it knows 1",
                raw.version.as_ref()
            );
            return Err(wrong(raw.version.span().start, message));
        }
        let mut packages = BTreeMap::new();
        for (name, entry) in raw.package {
            let integrity = entry.integrity.map(|text| {
                Integrity::parse(text.as_ref())
                    .map_err(|expected| wrong(text.span().start, expected))
            });
            let commit = entry.commit.map(|text| match is_hex(text.as_ref()) {
                true => Ok(text.as_ref().clone()),
                false => Err(wrong(
                    text.span().start,
                    format!("`{}` is no commit", text.as_ref()),
                )),
            });
            let tree = entry.tree.as_ref();
            let digest = tree
                .strip_prefix("blake3-")
                .and_then(|rest| rest.parse().ok());
            let digest = digest.ok_or_else(|| {
                wrong(
                    entry.tree.span().start,
                    format!("`{tree}` is no digest; expected blake3-HASH/SIZE"),
                )
            })?;
            let locked = Locked {
                source: entry.source,
                commit: commit.transpose()?,
                integrity: integrity.transpose()?,
                tree: digest,
            };
            packages.insert(name, locked);
        }
        Ok(Self { packages })
    }

    /// Its text.
    pub fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        let quoted = |text: &str| toml::Value::from(text).to_string();
        for (name, locked) in &self.packages {
            let _ = write!(
                text,
                "\n[package.{}]\nsource = {}\n",
                quoted(name),
                quoted(&locked.source)
            );
            if let Some(commit) = &locked.commit {
                let _ = writeln!(text, "commit = {}", quoted(commit));
            }
            if let Some(integrity) = &locked.integrity {
                let _ = writeln!(text, "integrity = {}", quoted(&integrity.to_string()));
            }
            let _ = writeln!(text, "tree = \"blake3-{}\"", locked.tree);
        }
        text
    }
}

fn is_hex(text: &str) -> bool {
    super::dependency::Origin::is_commit(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::integrity::{Function, Hashing};
    use crate::lang::locate::flat;

    fn locked(source: &str) -> Locked {
        Locked {
            source: source.to_owned(),
            commit: None,
            integrity: None,
            tree: Digest::of(b"tree"),
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_has_one_form() {
        let archive = Locked {
            integrity: Some(Hashing::new(Function::Sha512).finish()),
            ..locked("https://x.org/\"quoted\"\\.tar.gz")
        };
        let git = Locked {
            commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
            ..locked("git:r#main")
        };
        let packages = [("b.c", archive), ("a", git)];
        let lock = LockFile {
            packages: packages
                .map(|(name, locked)| (name.to_owned(), locked))
                .into(),
        };
        let text = lock.text();
        assert_eq!(LockFile::parse(&text).unwrap(), lock);
        assert!(
            text.find("[package.\"a\"]") < text.find("[package.\"b.c\"]"),
            "{text}"
        );
        assert_eq!(LockFile::parse(HEAD).unwrap(), LockFile::default());
        assert_eq!(LockFile::default().text(), HEAD);
    }

    #[test]
    fn damage_is_answered_with_its_place() {
        let whole = LockFile {
            packages: [("a".to_owned(), locked("s"))].into(),
        };
        let whole = whole.text();
        for (from, to, place, expected) in [
            (
                "version = 1",
                "version = 2",
                "zako.lock:3:11",
                "version 2 is not known",
            ),
            ("source", "sauce", "zako.lock:6:1", "unknown field `sauce`"),
            ("blake3-", "", "zako.lock:7:8", "expected blake3-HASH/SIZE"),
            ("[package", "[[package", "zako.lock:5", ""),
            (
                "\ntree",
                "\ncommit = \"main\"\ntree",
                "zako.lock:7:10",
                "`main` is no commit",
            ),
            (
                "\ntree",
                "\nintegrity = \"x\"\ntree",
                "zako.lock:7:13",
                "is no digest",
            ),
        ] {
            let damaged = whole.replacen(from, to, 1);
            let said = flat(&LockFile::parse(&damaged).unwrap_err());
            assert!(
                said.starts_with(place) && said.contains(expected),
                "{from}: {said}"
            );
        }
    }
}
