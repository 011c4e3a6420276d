//! Why outputs are not where they belong, in words that let a person mend it.

use std::io;
use std::path::{Path, PathBuf};

use cas_actor::{ExportError, PutError};

/// Why a step's outputs are not in place.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The command succeeded without writing what it declares.
    #[error("the command succeeded but did not write {0}; correct `outs` or the command")]
    Missing(String),
    /// A directory where a file is declared.
    #[error("{0} is a directory; declare it as `{0}/`")]
    IsDirectory(String),
    /// A file where a directory is declared.
    #[error("{0} is a file; declare it without the `/` at its end")]
    IsFile(String),
    /// A link where a directory is declared.
    #[error(
        "{0} is a symbolic link; declare it without the `/` at its end, or have the command make a directory"
    )]
    IsLink(String),
    /// A socket, pipe or device.
    #[error("{0} is neither file, directory nor symbolic link; only these can be outputs")]
    Special(String),
    /// A name that labels and build files cannot express.
    #[error("output {0:?} has a name that is not UTF-8, or has a line break; give it another name")]
    BadName(PathBuf),
    /// A person's file.
    #[error(
        "{0} exists and zako did not write it, as far as it knows; correct `outs`, or move that file away. Where zako's list of outputs was lost \
         (`.zako`), `--overwrite` replaces all such files, but for sources and what git knows"
    )]
    NotOurs(String),
    /// A person's directory, or one with files of a person.
    #[error("{}", in_the_way(path, inside.as_deref()))]
    Directory {
        /// Workspace-relative.
        path: String,
        /// A file in it.
        inside: Option<String>,
    },
    /// The store refused.
    #[error("cannot store {path}: {source}")]
    Store {
        /// Workspace-relative.
        path: String,
        /// Why.
        source: PutError,
    },
    /// The store's answer could not be written to the workspace.
    #[error("cannot restore from the cache: {0}")]
    Export(#[from] ExportError),
    /// The disk refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// As a verb.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn in_the_way(path: &str, inside: Option<&str>) -> String {
    let what = match inside {
        Some(inside) => format!(
            "{path} is a directory, and zako did not write {inside}, as far as it knows, or it was changed since, or git knows it"
        ),
        None => format!("{path} is a directory, and zako did not make it, as far as it knows"),
    };
    format!(
        "{what}; correct `outs`, or move that directory away: `--overwrite` replaces files only"
    )
}

pub(super) fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> OutputError + 'a {
    move |source| OutputError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
