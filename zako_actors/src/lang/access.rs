//! How the remote cache is told who we are.
//!
//! Owns what the manifest says about it. Does not know the environment, nor the cache.

use serde::Deserialize;

/// `[settings.remote-access]`: what stands here may be read by everybody, so that secrets are named by the
/// variable of the environment that holds them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RemoteAccess {
    /// Variable with a bearer token [usually ZAKO_REMOTE_TOKEN].
    pub token_env: Option<String>,
    /// Variable with the name of a user [usually ZAKO_REMOTE_USER].
    pub user_env: Option<String>,
    /// Variable with the user's password [usually ZAKO_REMOTE_PASSWORD].
    pub password_env: Option<String>,
    /// Who vouches for the server: a PEM file, from the workspace root.
    pub ca: Option<String>,
    /// Our certificate: a PEM file, from the workspace root.
    pub certificate: Option<String>,
    /// Its private key: a PEM file, from the workspace root.
    pub key: Option<String>,
}
