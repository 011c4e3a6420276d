//! Who a package is.
//!
//! Owns what is taken where nobody says it, and what a version looks like. Does not know where names come from.

/// Who a package is that does not say so: only what it gives to others is known by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Second part of the id.
    pub artifact: String,
    /// Semantic version.
    pub version: String,
}

/// The group of a package that names none.
pub(super) const LOCAL: &str = "local";

impl Identity {
    /// By the name and version of a `package.json`; whatever cannot be part of an id is replaced.
    pub fn of(name: &str, version: &str) -> Self {
        let is_good = |c: char| c.is_alphanumeric() || "_-.".contains(c);
        let word = name.chars().map(|c| if is_good(c) { c } else { '-' });
        let version = if is_semver(version) { version } else { "0.0.0" };
        Self {
            artifact: word.collect(),
            version: version.to_owned(),
        }
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::of("workspace", "")
    }
}

/// `MAJOR.MINOR.PATCH` with optional `-pre` and `+build`, as semver.org has it.
pub(super) fn is_semver(text: &str) -> bool {
    let (text, build) = text
        .split_once('+')
        .map_or((text, None), |(t, b)| (t, Some(b)));
    let (core, pre) = text
        .split_once('-')
        .map_or((text, None), |(t, p)| (t, Some(p)));
    let number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let tag = |part: &str| {
        part.split('.')
            .all(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
    };
    let numbers: Vec<_> = core.split('.').collect();
    numbers.len() == 3
        && numbers.iter().all(|part| number(part))
        && pre.is_none_or(tag)
        && build.is_none_or(tag)
}
