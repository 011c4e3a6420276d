//! `.npmrc`: which registry npm is told to ask, and who we are there.
//!
//! Owns its lines, and the choice among several files. Does not know the environment, nor the registry.
//! Invariant: a token goes to the server and path that it was given for, and to no other.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use url::Url;

/// Where packages come from unless something else is said.
const USUAL: &str = "https://registry.npmjs.org/";

/// What npm was told, the strongest voice first.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Npmrc {
    values: BTreeMap<String, String>,
}

/// Tokens stay out of logs.
impl fmt::Debug for Npmrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl Npmrc {
    /// Adds the lines of a file, which do not change what is known already. `variable` knows the
    /// environment, for `${NAME}`. A line that means nothing to us is left to npm.
    pub fn add(&mut self, text: &str, variable: &dyn Fn(&str) -> Option<String>) {
        for line in text.lines().map(str::trim) {
            if line.starts_with(['#', ';']) {
                continue;
            }
            if let Some((key, value)) = line.split_once('=') {
                let value = expanded(unquoted(value.trim()), variable);
                self.set(&expanded(key.trim(), variable), &value);
            }
        }
    }

    /// Adds one value, unless it is known already.
    pub fn set(&mut self, key: &str, value: &str) {
        let known = self.values.entry(key.to_owned());
        known.or_insert_with(|| value.to_owned());
    }

    /// The registry that has package `name`, with a slash at its end.
    ///
    /// # Errors
    /// The text that is no address.
    pub fn registry(&self, name: &str) -> Result<Url, String> {
        let scope = name
            .split_once('/')
            .map(|(scope, _)| format!("{scope}:registry"));
        let scoped = scope.and_then(|key| self.values.get(&key));
        let text = scoped.or_else(|| self.values.get("registry"));
        let text = text.map_or(USUAL, String::as_str);
        let slashed = format!("{}/", text.trim_end_matches('/'));
        let url = Url::parse(&slashed).ok();
        url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| text.to_owned())
    }

    /// What goes into `Authorization` when `url` is asked.
    pub fn authorization(&self, url: &Url) -> Option<String> {
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        let mut place = format!("//{}{port}{}", url.host_str()?, url.path());
        // The longest place that anything was said about.
        while let Some(slash) = place.rfind('/').filter(|slash| *slash > 1) {
            place.truncate(slash);
            for place in [format!("{place}/"), place.clone()] {
                let value = |key: &str| self.values.get(&format!("{place}:{key}"));
                if let Some(token) = value("_authToken") {
                    return Some(format!("Bearer {token}"));
                }
                if let Some(both) = value("_auth") {
                    return Some(format!("Basic {both}"));
                }
                if let (Some(user), Some(password)) = (value("username"), value("_password")) {
                    let password = STANDARD.decode(password).ok()?;
                    let both = [user.as_bytes(), b":", &password].concat();
                    return Some(format!("Basic {}", STANDARD.encode(both)));
                }
            }
        }
        None
    }

    /// Who vouches for servers, if not the system's list: the path of a PEM file.
    pub fn authorities(&self) -> Option<&str> {
        self.values.get("cafile").map(String::as_str)
    }
}

fn unquoted(text: &str) -> &str {
    let inner = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    inner.unwrap_or(text)
}

/// `text` with the values of `${NAME}`; one that is not set stays as it is written.
fn expanded(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out += before;
        let Some((name, behind)) = after.split_once('}') else {
            rest = &rest[before.len()..];
            break;
        };
        match variable(name) {
            Some(value) => out += &value,
            None => out += &format!("${{{name}}}"),
        }
        rest = behind;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npmrc(text: &str) -> Npmrc {
        let mut npmrc = Npmrc::default();
        npmrc.add(text, &|name| (name == "TOKEN").then(|| "secret".to_owned()));
        npmrc
    }

    #[test]
    fn the_registry_is_that_of_the_scope_then_the_usual_one() {
        let said = npmrc(
            "# x\n; y\nregistry = \"https://a.org/npm\"\n@b:registry=http://b.org\nregistry=https://late.org\n",
        );
        assert_eq!(said.registry("x").unwrap().as_str(), "https://a.org/npm/");
        assert_eq!(said.registry("@b/x").unwrap().as_str(), "http://b.org/");
        assert_eq!(
            said.registry("@c/x").unwrap().as_str(),
            "https://a.org/npm/"
        );
        assert_eq!(Npmrc::default().registry("x").unwrap().as_str(), USUAL);
        assert_eq!(
            npmrc("registry=ftp://x").registry("x").unwrap_err(),
            "ftp://x"
        );
    }

    #[test]
    fn a_token_goes_where_it_belongs() {
        let said = npmrc(
            "//a.org/npm/:_authToken=${TOKEN}\n//a.org/:_auth=dXNlcg==\n//b.org:8080/:username=me\n\
             //b.org:8080/:_password=cHc=\n//c.org/:_authToken=${NONE}\n",
        );
        let of = |url: &str| said.authorization(&Url::parse(url).unwrap());
        assert_eq!(of("https://a.org/npm/x/-/x.tgz").unwrap(), "Bearer secret");
        assert_eq!(of("https://a.org/npm").unwrap(), "Basic dXNlcg==");
        assert_eq!(of("https://a.org/npmx/y").unwrap(), "Basic dXNlcg==");
        assert_eq!(
            of("http://b.org:8080/x").unwrap(),
            format!("Basic {}", STANDARD.encode("me:pw"))
        );
        assert_eq!(of("http://b.org/x"), None);
        assert_eq!(of("https://a.org.evil.org/npm/"), None);
        assert_eq!(of("https://c.org/").unwrap(), "Bearer ${NONE}");
        assert!(!format!("{said:?}").contains("secret"));
    }
}
