//! The remote cache out of flags, environment and manifest.
//!
//! Owns the precedence, and where secrets come from. Does not know how the cache is spoken to.
//! Invariant: a secret comes from the environment only, and is neither printed nor part of a key.

use std::path::Path;

use cas_actor::UpstreamConfig;

use super::Failure;
use super::args::StepArgs;
use crate::lang::manifest::Settings;

/// The remote cache of a build in the workspace at `root`; none when nobody names one.
///
/// # Errors
/// When the manifest names a variable that is not set.
pub fn remote(
    args: &StepArgs,
    settings: &Settings,
    root: &Path,
) -> Result<Option<UpstreamConfig>, Failure> {
    let address = args.remote.as_ref().or(settings.remote.as_ref());
    let Some(address) = address.filter(|address| !address.is_empty()) else {
        return Ok(None);
    };
    let access = &settings.remote_access;
    let file = |path: &Option<String>| path.as_ref().map(|path| root.join(path));
    Ok(Some(UpstreamConfig {
        bearer: secret(access.token_env.as_deref(), "ZAKO_REMOTE_TOKEN")?,
        user: secret(access.user_env.as_deref(), "ZAKO_REMOTE_USER")?,
        password: secret(access.password_env.as_deref(), "ZAKO_REMOTE_PASSWORD")?,
        ca: file(&access.ca),
        certificate: file(&access.certificate),
        key: file(&access.key),
        ..UpstreamConfig::at(address)
    }))
}

/// What variable `named` holds, which must be set then; otherwise what `usual` holds, if it is.
fn secret(named: Option<&str>, usual: &str) -> Result<Option<String>, Failure> {
    let value = std::env::var(named.unwrap_or(usual)).ok();
    let value = value.filter(|value| !value.is_empty());
    match (value, named) {
        (None, Some(name)) => Err(Failure::usage(format!(
            "[settings.remote-access] of zako.toml takes a secret from variable {name}, which is not set; set it, or build with \
             --remote \"\""
        ))),
        (value, _) => Ok(value),
    }
}
