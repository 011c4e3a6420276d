//! Which entry of which dialect a path means.
//!
//! Owns: the paths of all dialects.
//! Does not know: methods, headers or the store.
//! Invariants: total: every path is an entry, a fixed page of a dialect, an error that says what
//! is wrong, or nobody's; a key never has an empty, `.` or `..` part, nor anything but letters,
//! digits and `._-~+=@,:`; two different keys of one space stay different.
#![forbid(unsafe_code)]

use crate::BlobName;
use crate::front::Space;

/// Longer keys than any client makes.
const LONGEST_KEY: usize = 1024;

/// What a path means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route<'p> {
    /// `/`.
    Index,
    /// An entry under an arbitrary key.
    Entry(Entry<'p>),
    /// A blob under its own hash, of either function.
    Blob(BlobName),
    /// `/v8/artifacts/status`.
    TurborepoStatus,
    /// `/v8/artifacts/events`.
    TurborepoEvents,
    /// A WebDAV collection: every path in `/sccache/` that ends with a slash.
    Collection,
    /// Not of any dialect.
    Unclaimed,
}

/// An entry under an arbitrary key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'p> {
    pub(crate) space: Space,
    /// What separates users within a space: the instance or prefix of Bazel, the team of
    /// Turborepo.
    pub(crate) part: Part<'p>,
    pub(crate) key: &'p str,
}

/// A division of a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'p> {
    /// The space is one.
    Whole,
    /// The action cache of an instance; its key is the digest of an action.
    Actions { instance: &'p str },
    /// The artifacts of a team.
    Team { id: &'p str, slug: &'p str },
}

/// A path that belongs to a dialect and is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RouteError {
    #[error("the key is empty")]
    Empty,
    #[error("the key has {0} characters, the limit is {LONGEST_KEY}")]
    Long(usize),
    #[error("`{0}` is no part of a key: parts are not empty, `.` or `..`")]
    Part(String),
    #[error("`{0}` cannot be in a key: letters, digits and ._-~+=@,: can")]
    Character(char),
    #[error("`{0}` is not a hash: 64 lower-case hex characters (SHA-256 or BLAKE3) are")]
    Hash(String),
}

/// Reads the path and the query of a request.
pub(crate) fn route<'p>(path: &'p str, query: Option<&'p str>) -> Result<Route<'p>, RouteError> {
    if path == "/" {
        return Ok(Route::Index);
    }
    if !path.starts_with('/') {
        return Ok(Route::Unclaimed);
    }
    // sccache joins an address that ends with a slash and a path that begins with one.
    let path = path.trim_start_matches('/');
    // What is asked for most is looked for first.
    if let Some(name) = path.strip_prefix("cas/").and_then(blob_name) {
        return Ok(Route::Blob(name));
    }
    for (prefix, space) in [
        ("ccache/", Space::Ccache),
        ("gradle/", Space::Gradle),
        ("v1/cache/", Space::Nx),
    ] {
        if let Some(rest) = path.strip_prefix(prefix) {
            return entry(space, Part::Whole, rest);
        }
    }
    if let Some(rest) = path.strip_prefix("sccache/") {
        if rest.is_empty() || rest.ends_with('/') {
            return Ok(Route::Collection);
        }
        return entry(Space::Sccache, Part::Whole, rest);
    }
    if path == "sccache" {
        return Ok(Route::Collection);
    }
    match path.strip_prefix("v8/artifacts/") {
        Some("status") => Ok(Route::TurborepoStatus),
        Some("events") => Ok(Route::TurborepoEvents),
        Some(rest) => entry(Space::Turborepo, team(query.unwrap_or_default()), rest),
        None => bazel(path),
    }
}

fn entry<'p>(space: Space, part: Part<'p>, key: &'p str) -> Result<Route<'p>, RouteError> {
    check_key(key)?;
    Ok(Route::Entry(Entry { space, part, key }))
}

/// `[prefix/]ac/HASH` and `[prefix/]cas/HASH`.
fn bazel(path: &str) -> Result<Route<'_>, RouteError> {
    let Some((front, hash)) = path.rsplit_once('/') else {
        return Ok(Route::Unclaimed);
    };
    let (instance, kind) = front.rsplit_once('/').unwrap_or(("", front));
    let is_blob = match kind {
        "cas" => true,
        "ac" => false,
        _ => return Ok(Route::Unclaimed),
    };
    let name = blob_name(hash).ok_or_else(|| RouteError::Hash(shortened(hash)))?;
    if !instance.is_empty() {
        check_key(instance)?;
    }
    if is_blob {
        return Ok(Route::Blob(name));
    }
    entry(Space::Bazel, Part::Actions { instance }, hash)
}

fn team(query: &str) -> Part<'_> {
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.find(|(key, _)| *key == name);
        found.map_or("", |(_, value)| value)
    };
    Part::Team {
        id: value("teamId"),
        slug: value("slug"),
    }
}

/// A hash as every client writes it.
fn blob_name(text: &str) -> Option<BlobName> {
    // Capital letters would be other keys of the same meaning. Looked for without stopping early,
    // which takes a few instructions for all of them.
    let capitals = text.bytes().map(|byte| byte.is_ascii_uppercase());
    let is_lower = !capitals.fold(false, |any, this| any | this);
    BlobName::from_hex(text).ok().filter(|_| is_lower)
}

/// The bytes that keys are made of, by a look into a table: every request passes here.
const IN_KEYS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut others: &[u8] = b"/._-~+=@,:";
    while let [other, rest @ ..] = others {
        table[*other as usize] = true;
        others = rest;
    }
    table
};

fn check_key(key: &str) -> Result<(), RouteError> {
    if key.is_empty() {
        return Err(RouteError::Empty);
    }
    if key.len() > LONGEST_KEY {
        return Err(RouteError::Long(key.len()));
    }
    if !key.bytes().all(|byte| IN_KEYS[usize::from(byte)]) {
        let other = key.chars().find(|c| !c.is_ascii() || !IN_KEYS[*c as usize]);
        return Err(RouteError::Character(other.unwrap_or_default()));
    }
    match key.split('/').find(|part| matches!(*part, "" | "." | "..")) {
        Some(part) => Err(RouteError::Part(part.to_owned())),
        None => Ok(()),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn key_of(path: &str) -> (Space, String) {
        match route(path, None) {
            Ok(Route::Entry(entry)) => (entry.space, entry.key.to_owned()),
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn every_dialect_has_its_space() {
        assert_eq!(key_of("/ccache/ab/cdef"), (Space::Ccache, "ab/cdef".into()));
        assert_eq!(key_of("/ccache/abcdef"), (Space::Ccache, "abcdef".into()));
        let bazel_layout = format!("/ccache/ac/{HASH}");
        assert_eq!(key_of(&bazel_layout), (Space::Ccache, format!("ac/{HASH}")));
        assert_eq!(key_of("/gradle/0123"), (Space::Gradle, "0123".into()));
        assert_eq!(key_of("/v1/cache/42"), (Space::Nx, "42".into()));
        let check = || (Space::Sccache, ".sccache_check".into());
        assert_eq!(key_of("/sccache/.sccache_check"), check());
        assert_eq!(key_of("//sccache/.sccache_check"), check());
        assert_eq!(route("/sccache/a/b/", None), Ok(Route::Collection));
        assert_eq!(
            route("/v8/artifacts/status", None),
            Ok(Route::TurborepoStatus)
        );
    }

    #[test]
    fn bazel_may_have_a_prefix() {
        for (path, instance) in [("/ac/", ""), ("/main/ac/", "main"), ("/a/b/ac/", "a/b")] {
            let path = format!("{path}{HASH}");
            let part = Part::Actions { instance };
            let expected = Entry {
                space: Space::Bazel,
                part,
                key: HASH,
            };
            assert_eq!(route(&path, None), Ok(Route::Entry(expected)));
        }
        let blob = format!("/any/cas/{HASH}");
        let name = BlobName::from_hex(HASH).unwrap();
        assert_eq!(route(&blob, None), Ok(Route::Blob(name)));
        assert!(matches!(route("/cas/abc", None), Err(RouteError::Hash(_))));
        assert!(route(&format!("/cas/{}", HASH.to_uppercase()), None).is_err());
    }

    #[test]
    fn teams_are_kept_apart() {
        let team = |query| match route("/v8/artifacts/x", Some(query)) {
            Ok(Route::Entry(entry)) => entry.part,
            other => panic!("{other:?}"),
        };
        let part = |id, slug| Part::Team { id, slug };
        assert_eq!(team("teamId=t1"), part("t1", ""));
        assert_eq!(team("slug=s&teamId=t"), part("t", "s"));
        assert_eq!(team("nonsense&x=y"), part("", ""));
    }

    #[test]
    fn nothing_climbs_out_of_its_space() {
        for path in [
            "/ccache/../etc/passwd",
            "/ccache/a/../../b",
            "/ccache/%2e%2e/x",
            "/ccache/a//b",
            "/ccache//etc",
            "/sccache/./x",
            "/gradle/",
            "/gradle/a\\b",
            "/gradle/a\0b",
            "/v1/cache/..",
            "/v8/artifacts/../x",
            &format!("/../ac/{HASH}"),
            &format!("/gradle/{}", "k".repeat(LONGEST_KEY + 1)),
        ] {
            assert!(route(path, None).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_has_an_answer(path in "(/(ccache|gradle|sccache|ac|cas|v1|v8|\\.\\.|.{0,9})){0,6}/?", query in ".{0,30}") {
            if let Ok(Route::Entry(entry)) = route(&path, Some(&query)) {
                prop_assert!(!entry.key.split('/').any(|part| part.is_empty() || part == ".."));
                prop_assert!(path.ends_with(entry.key));
            }
        }

        #[test]
        fn any_text_has_an_answer(path in any::<String>(), query in any::<String>()) {
            let _ = route(&path, Some(&query));
        }
    }
}
