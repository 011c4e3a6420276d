//! Where steps find programs, as a workspace sets it.
//!
//! Owns what a directory may be. Does not look whether it is there.

use serde::Deserialize;

/// `path` of `[settings]`: directories, joined as `PATH` has them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct SearchPath(Box<str>);

impl SearchPath {
    /// As the value of `PATH`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<Vec<String>> for SearchPath {
    type Error = String;

    fn try_from(dirs: Vec<String>) -> Result<Self, String> {
        if dirs.is_empty() {
            return Err("`path` names no directory; steps would find no program".into());
        }
        match dirs
            .iter()
            .find(|dir| !dir.starts_with('/') || dir.contains(':'))
        {
            Some(dir) => Err(format!(
                "`{dir}` in `path` is no absolute directory; programs of the workspace are named by their path in `cmd`"
            )),
            None => Ok(Self(dirs.join(":").into())),
        }
    }
}
