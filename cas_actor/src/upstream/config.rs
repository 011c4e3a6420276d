//! The `[upstream]` table: which cache lies behind a store, and how it is used.
//!
//! Owns: its form, its defaults, and choosing the protocol by the address.
//! Does not know: the protocols.
//! Invariant: what cannot be used is an error at the start that names the key; a server that
//! cannot be reached is none, for it may come.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use hyper::header::HeaderValue;
use serde::Deserialize;
use tokio::runtime::Handle;

use super::connection::{self, Connection};
use super::http::HttpUpstream;
use super::{Tier, TierConfig, Upstream, UpstreamError, WriteThrough};
use crate::front::ReapiUpstream;

const FORMS: &str = "write http://HOST[:PORT][/PATH], https://…, grpc://HOST:PORT[/INSTANCE], \
    grpcs://…, or s3://BUCKET[/PREFIX]";

/// The `[upstream]` table.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Where it is: `http://` and `https://` as Bazel speaks to an HTTP cache, `grpc://` and
    /// `grpcs://` the Remote Execution API, `s3://` a bucket.
    pub address: String,
    /// Whether what is stored here is handed on.
    #[serde(default)]
    pub write: WriteThrough,
    /// Seconds that a call may take until it is answered, and then each piece of the answer.
    #[serde(default = "default_patience")]
    pub patience_seconds: u64,
    /// Blobs and results that may wait to be handed on.
    #[serde(default = "default_queue")]
    pub queue: usize,
    /// The token of `Authorization: Bearer`.
    #[serde(default)]
    pub bearer: Option<String>,
    /// The user of `Authorization: Basic`.
    #[serde(default)]
    pub user: Option<String>,
    /// The password of `Authorization: Basic`.
    #[serde(default)]
    pub password: Option<String>,
    /// Who vouches for the server (PEM); the system's list of authorities unless given.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Our certificate for servers that want one (PEM).
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// What `s3://` needs beyond the address.
    #[serde(default)]
    pub s3: S3Config,
}

/// The `[upstream.s3]` table. What is not given is taken from the environment
/// (`AWS_ACCESS_KEY_ID`, `AWS_REGION` and so on), as other tools do.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Config {
    /// A server that is not Amazon's: `http://…` or `https://…`.
    pub endpoint: Option<String>,
    /// The region of the bucket.
    pub region: Option<String>,
    /// Who we are.
    pub access_key_id: Option<String>,
    /// The secret that belongs to it.
    pub secret_access_key: Option<String>,
}

fn default_patience() -> u64 {
    TierConfig::default().patience.as_secs()
}

fn default_queue() -> usize {
    TierConfig::default().queue
}

/// The `[upstream]` table cannot be used. Fix the key that it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("[upstream] {key}{}: {problem}", value.as_ref().map(|value| format!(" = \"{value}\"")).unwrap_or_default())]
pub struct UpstreamConfigError {
    key: &'static str,
    value: Option<String>,
    problem: String,
}

impl UpstreamConfigError {
    pub(super) fn new(key: &'static str, problem: impl fmt::Display) -> Self {
        Self {
            key,
            value: None,
            problem: problem.to_string(),
        }
    }

    /// What is wrong with the value, and what would be right.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

/// An address as it may be shown: without name and password before its host.
pub fn without_credentials(address: &str) -> String {
    apart(address).map_or_else(|| address.to_owned(), |(clean, _)| clean)
}

/// An address without what stands before `@`, and that; none where there is no `@` before the path.
fn apart(address: &str) -> Option<(String, &str)> {
    let (scheme, rest) = address.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (credentials, host) = authority.rsplit_once('@')?;
    Some((format!("{scheme}://{host}{path}"), credentials))
}

/// What `%40` and its like stand for.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).filter(|_| *first == b'%');
        let code = code.and_then(|code| u8::from_str_radix(str::from_utf8(code).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Secrets stay out of logs.
impl fmt::Debug for UpstreamConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamConfig")
            .field("address", &without_credentials(&self.address))
            .field("write", &self.write)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for S3Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Config")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl UpstreamConfig {
    /// The defaults for a cache at `address`: it is only read.
    pub fn at(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            write: WriteThrough::Never,
            patience_seconds: default_patience(),
            queue: default_queue(),
            bearer: None,
            user: None,
            password: None,
            ca: None,
            certificate: None,
            key: None,
            s3: S3Config::default(),
        }
    }

    /// The tier that the table describes; it works on `runtime`. Connects at the first call.
    ///
    /// # Errors
    /// When a value cannot be used; the message names it.
    pub fn tier(&self, runtime: Handle) -> Result<Tier, UpstreamConfigError> {
        if self.patience_seconds == 0 {
            let problem = "0 seconds are too few for any answer; at least 1 is needed";
            return Err(UpstreamConfigError::new("patience_seconds", problem));
        }
        let config = TierConfig {
            patience: Duration::from_secs(self.patience_seconds),
            write_through: self.write,
            queue: self.queue,
            ..TierConfig::default()
        };
        let entered = runtime.enter();
        let upstream = self.connect()?;
        drop(entered);
        Ok(Tier::new(upstream, config, runtime))
    }

    /// The server alone, without a tier. To be called within a tokio runtime.
    ///
    /// # Errors
    /// When a value cannot be used; the message names it.
    pub fn connect(&self) -> Result<Box<dyn Upstream>, UpstreamConfigError> {
        if let Some(apart) = self.with_credentials_apart() {
            return apart.connect();
        }
        let wrong = |problem: &str| UpstreamConfigError {
            value: Some(without_credentials(&self.address)),
            ..UpstreamConfigError::new("address", format!("{problem}; {FORMS}"))
        };
        let refused = |error: UpstreamError| wrong(&error.message);
        let parsed = self.address.split_once("://");
        let (scheme, rest) = parsed.ok_or_else(|| wrong("is no address"))?;
        if scheme != "s3" && self.s3 != S3Config::default() {
            let problem = "the address is no s3://BUCKET";
            return Err(UpstreamConfigError::new("s3", problem));
        }
        match scheme {
            "http" | "https" => {
                let connection = self.connection(scheme == "https")?;
                let upstream = HttpUpstream::new(&self.address, &connection).map_err(refused)?;
                Ok(Box::new(upstream))
            }
            "grpc" | "grpcs" => {
                let connection = self.connection(scheme == "grpcs")?;
                let (host, instance) = rest.split_once('/').unwrap_or((rest, ""));
                let http = if scheme == "grpcs" { "https" } else { "http" };
                let server = format!("{http}://{host}");
                let has_host = server.parse::<Uri>().is_ok_and(|uri| uri.host().is_some());
                if !has_host {
                    return Err(wrong("names no host"));
                }
                let upstream =
                    ReapiUpstream::new(&server, instance.trim_end_matches('/'), &connection);
                Ok(Box::new(upstream.map_err(refused)?))
            }
            "s3" => self.s3(rest),
            _ => Err(wrong("has an unknown scheme")),
        }
    }

    /// The same, where the address has `NAME:PASSWORD@` before its host, with these as user and password, unless others are given.
    fn with_credentials_apart(&self) -> Option<Self> {
        let (clean, credentials) = apart(&self.address)?;
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let text = |part| Some(decoded(part));
        let mut config = Self {
            address: clean,
            ..self.clone()
        };
        if self.bearer.is_none() && self.user.is_none() && self.password.is_none() {
            (config.user, config.password) = (text(user), text(password));
        }
        Some(config)
    }

    #[cfg(feature = "s3")]
    fn s3(&self, rest: &str) -> Result<Box<dyn Upstream>, UpstreamConfigError> {
        if self.bearer.is_some() || self.user.is_some() || self.password.is_some() {
            let problem = "S3 takes `access_key_id` and `secret_access_key` in [upstream.s3]";
            return Err(UpstreamConfigError::new("bearer, user", problem));
        }
        let endpoint = self.s3.endpoint.as_deref();
        let is_plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
        let upstream = super::s3::S3Upstream::new(rest, &self.s3, &self.connection(!is_plain)?);
        let upstream = upstream.map_err(|error| UpstreamConfigError::new("s3", error.message))?;
        Ok(Box::new(upstream))
    }

    #[cfg(not(feature = "s3"))]
    fn s3(&self, _: &str) -> Result<Box<dyn Upstream>, UpstreamConfigError> {
        let problem = "this build knows no S3; build with `--features s3`";
        Err(UpstreamConfigError::new("address", problem))
    }

    fn connection(&self, speaks_tls: bool) -> Result<Connection, UpstreamConfigError> {
        let own = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some((certificate.as_path(), key.as_path())),
            (None, None) => None,
            (Some(_), None) => return Err(UpstreamConfigError::new("key", "is missing")),
            (None, Some(_)) => return Err(UpstreamConfigError::new("certificate", "is missing")),
        };
        if !speaks_tls && (own.is_some() || self.ca.is_some()) {
            let problem = "certificates need an address that begins with https:// or grpcs://";
            return Err(UpstreamConfigError::new("ca, certificate", problem));
        }
        Ok(Connection {
            authorization: self.authorization()?,
            tls: match speaks_tls {
                true => Some(connection::tls(self.ca.as_deref(), own)?),
                false => None,
            },
        })
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, UpstreamConfigError> {
        let (key, text) = match (&self.bearer, &self.user, &self.password) {
            (None, None, None) => return Ok(None),
            (Some(token), None, None) => ("bearer", format!("Bearer {token}")),
            (None, Some(user), Some(password)) if !user.contains(':') => {
                let both = STANDARD.encode(format!("{user}:{password}"));
                ("user", format!("Basic {both}"))
            }
            _ => {
                let problem = "give either `bearer`, or `user` (without a colon) and `password`";
                return Err(UpstreamConfigError::new("bearer, user", problem));
            }
        };
        let mut value = HeaderValue::try_from(text)
            .map_err(|_| UpstreamConfigError::new(key, "has characters that no header may have"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(change: impl FnOnce(&mut UpstreamConfig), address: &str) -> String {
        let mut config = UpstreamConfig::at(address);
        change(&mut config);
        let tier = config.tier(Handle::current());
        tier.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn every_form_of_an_address_is_taken() {
        for address in [
            "http://cache",
            "http://cache:8080/prefix/",
            "http://[::1]:8080",
            "grpc://cache:9092",
            "grpc://cache:9092/main/second",
        ] {
            let tier = UpstreamConfig::at(address).tier(Handle::current());
            assert!(tier.is_ok(), "{address}: {tier:?}");
        }
    }

    #[test]
    fn credentials_in_an_address_are_sent_but_never_shown() {
        let header = |config: &UpstreamConfig| {
            let apart = config.with_credentials_apart().unwrap();
            assert_eq!(apart.address, "grpc://cache:9092/a@b");
            let header = apart.authorization().unwrap().unwrap();
            header.to_str().unwrap().to_owned()
        };
        let mut config = UpstreamConfig::at("grpc://bob:hunt%40r2@cache:9092/a@b");
        let basic = STANDARD.encode("bob:hunt@r2");
        assert_eq!(header(&config), format!("Basic {basic}"));
        config.bearer = Some("token".into());
        assert_eq!(header(&config), "Bearer token");
        assert!(!format!("{config:?}").contains("hunt"), "{config:?}");
        for wrong in ["ftp://bob:hunter2@cache", "http://bob:hunter2@"] {
            let said = UpstreamConfig::at(wrong).connect().err().unwrap();
            assert!(!said.to_string().contains("hunter2"), "{said}");
        }
        assert_eq!(without_credentials("http://a/b@c"), "http://a/b@c");
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_named() {
        let at = |address| refused(|_| (), address);
        for (said, word) in [
            (at("cache:8080"), "grpc://HOST:PORT"),
            (at("ftp://cache"), "unknown scheme"),
            (at("http://"), "http://"),
            (at("grpc://"), "names no host"),
            (at("grpc:///instance"), "names no host"),
            (
                refused(|c| c.patience_seconds = 0, "http://a"),
                "patience_seconds",
            ),
            (
                refused(|c| c.user = Some("ada".into()), "http://a"),
                "`password`",
            ),
            (
                refused(|c| c.bearer = Some("a\nb".into()), "http://a"),
                "bearer",
            ),
            (
                refused(|c| c.ca = Some("ca.pem".into()), "http://a"),
                "https://",
            ),
            (
                refused(|c| c.ca = Some("/none.pem".into()), "https://a"),
                "/none.pem",
            ),
            (
                refused(|c| c.key = Some("k".into()), "https://a"),
                "certificate",
            ),
            (
                refused(|c| c.s3.region = Some("r".into()), "http://a"),
                "s3://",
            ),
        ] {
            assert!(
                said.starts_with("[upstream] ") && said.contains(word),
                "{word}: {said}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_address_is_one_or_is_refused(
            scheme in "(https?|grpcs?|s3|[a-z]{0,5})(://)?", rest in ".{0,40}",
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let address = scheme + &rest;
            if let Err(error) = UpstreamConfig::at(&address).tier(runtime.handle().clone()) {
                prop_assert!(error.to_string().starts_with("[upstream] "), "{}", error);
            }
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let config = UpstreamConfig {
            bearer: Some("sesame".into()),
            password: Some("sesame".into()),
            s3: S3Config {
                secret_access_key: Some("sesame".into()),
                ..S3Config::default()
            },
            ..UpstreamConfig::at("http://a")
        };
        let said = format!("{config:?} {:?}", config.s3);
        assert!(!said.contains("sesame"), "{said}");
    }
}
