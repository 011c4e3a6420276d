//! Packages of the npm registry.
//!
//! Owns what is asked of a registry and how its answer is read. Does not know HTTP, nor archives.
//! Invariant: a package comes with a digest that its registry vouches for, or not at all.

use std::collections::BTreeMap;

use serde::Deserialize;
use url::Url;

use crate::lang::integrity::Integrity;

/// The short form of what a registry knows about a package.
pub const ACCEPT: &str = "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8";
/// Most bytes of that.
pub const LONGEST: u64 = 256 << 20;

/// The registry whose addresses are replaced by those of the one that is asked, as npm does.
const USUAL_HOST: &str = "registry.npmjs.org";

/// What a registry says about a package.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    versions: BTreeMap<String, Version>,
    #[serde(default, rename = "dist-tags")]
    tags: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Version {
    dist: Dist,
}

#[derive(Deserialize)]
struct Dist {
    tarball: String,
    #[serde(default)]
    integrity: Option<String>,
}

/// Where an archive is and what it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Tarball {
    /// Its address.
    pub url: Url,
    /// Its digest.
    pub integrity: Integrity,
}

/// Where a registry describes package `name`.
pub fn document(registry: &Url, name: &str) -> Option<Url> {
    registry
        .join(&format!("./{}", name.replace('/', "%2f")))
        .ok()
}

/// Reads the description of package `name`.
///
/// # Errors
/// What is missing.
pub fn tarball(text: &[u8], registry: &Url, name: &str, version: &str) -> Result<Tarball, String> {
    let known: Document = serde_json::from_slice(text)
        .map_err(|error| format!("what {registry} says about `{name}` cannot be read: {error}"))?;
    let Some(found) = known.versions.get(version) else {
        let latest = known.tags.get("latest");
        let latest = latest.map_or(String::new(), |latest| format!("; the latest is {latest}"));
        return Err(format!(
            "{registry} has no version {version} of `{name}`{latest}"
        ));
    };
    let integrity = found.dist.integrity.as_deref().map(Integrity::parse);
    let Some(Ok(integrity)) = integrity else {
        return Err(format!(
            "{registry} knows no digest of `{name}` {version} that is worth anything (sha256 or better); take its archive by \
             `url` and `integrity`"
        ));
    };
    let url = Url::parse(&found.dist.tarball).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(mut url) = url else {
        return Err(format!(
            "{registry} has `{name}` at `{}`, which is no address",
            found.dist.tarball
        ));
    };
    if url.host_str() == Some(USUAL_HOST) && registry.host_str() != Some(USUAL_HOST) {
        let path = url.path().trim_start_matches('/').to_owned();
        url = registry.join(&path).map_err(|error| error.to_string())?;
    }
    // The secret for the registry would go where it has the archive.
    if registry.scheme() == "https" && url.scheme() == "http" {
        return Err(format!(
            "{registry} has `{name}` at {url}, where whoever is on the way can read what is sent; tell whoever runs it to name \
             https://, or take the archive by `url` and `integrity`"
        ));
    }
    Ok(Tarball { url, integrity })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::integrity::{Function, Hashing};

    fn read(dist: &str, registry: &str) -> Result<String, String> {
        let text = format!(
            "{{\"dist-tags\": {{\"latest\": \"2.0.0\"}}, \"versions\": {{\"1.0.0\": {{\"dist\": {{{dist}}}}}}}}}"
        );
        let registry = Url::parse(registry).unwrap();
        tarball(text.as_bytes(), &registry, "@a/b", "1.0.0").map(|tarball| tarball.url.to_string())
    }

    #[test]
    fn an_archive_has_an_address_and_a_digest() {
        let digest = format!(
            "\"integrity\": \"{}\"",
            Hashing::new(Function::Sha512).finish()
        );
        let usual =
            format!("\"tarball\": \"https://registry.npmjs.org/@a/b/-/b-1.0.0.tgz\", {digest}");
        assert_eq!(
            read(&usual, USUAL).unwrap(),
            "https://registry.npmjs.org/@a/b/-/b-1.0.0.tgz"
        );
        assert_eq!(
            read(&usual, "http://mirror/npm/").unwrap(),
            "http://mirror/npm/@a/b/-/b-1.0.0.tgz"
        );
        let downgrade = format!("\"tarball\": \"http://safe.org/b.tgz\", {digest}");
        let refused = read(&downgrade, "https://safe.org/").unwrap_err();
        assert!(refused.contains("http://safe.org/b.tgz"), "{refused}");
        let elsewhere = format!("\"tarball\": \"https://cdn.org/b.tgz\", {digest}");
        assert_eq!(
            read(&elsewhere, "http://mirror/npm/").unwrap(),
            "https://cdn.org/b.tgz"
        );
        assert!(
            read(
                "\"tarball\": \"https://cdn.org/b.tgz\", \"shasum\": \"ab\"",
                USUAL
            )
            .unwrap_err()
            .contains("no digest")
        );
        assert!(
            read(&format!("\"tarball\": \"ftp://x\", {digest}"), USUAL)
                .unwrap_err()
                .contains("no address")
        );
        assert!(
            read(&digest, USUAL)
                .unwrap_err()
                .contains("missing field `tarball`")
        );
        let registry = Url::parse(USUAL).unwrap();
        assert_eq!(
            document(&registry, "@a/b").unwrap().as_str(),
            "https://registry.npmjs.org/@a%2fb"
        );
        let old = tarball(
            b"{\"dist-tags\": {\"latest\": \"2.0.0\"}}",
            &registry,
            "x",
            "9.0.0",
        )
        .unwrap_err();
        assert_eq!(
            old,
            "https://registry.npmjs.org/ has no version 9.0.0 of `x`; the latest is 2.0.0"
        );
    }

    const USUAL: &str = "https://registry.npmjs.org/";
}
