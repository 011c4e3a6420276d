//! How much a package from elsewhere may be.
//!
//! Owns the limits with their defaults. Does not know what is fetched.

use serde::Deserialize;

use super::amount;

/// `[settings.packages]`: what is larger is refused, before it fills the disk.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PackageLimits {
    /// Bytes that are downloaded for one package, as an archive or by git.
    #[serde(deserialize_with = "amount::read")]
    pub max_download: u64,
    /// Bytes that one package may hold.
    #[serde(deserialize_with = "amount::read")]
    pub max_size: u64,
    /// Files, directories and links that one package may hold.
    pub max_files: u64,
}

impl Default for PackageLimits {
    fn default() -> Self {
        Self {
            max_download: 1 << 30,
            max_size: 4 << 30,
            max_files: 200_000,
        }
    }
}
