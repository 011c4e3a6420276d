//! Groups: what a target without an action hands on.
//!
//! Owns the list of its files. Does not know who asks, nor when.
//! Invariant: a group owns nothing; what it hands on is a source or belongs to a dependency.

use super::action::ActionError;
use super::files::FileTable;
use super::record::{OutputItem, OutputKind};
use crate::lang::target::Target;
use crate::lang::text::Text;

/// Its sources, and of the outputs of its dependencies those that it takes; sorted by path.
///
/// # Errors
/// When a source cannot be read.
pub fn outputs<'a>(
    target: &Target,
    sources: &[Text],
    dep_outputs: impl Iterator<Item = &'a [OutputItem]>,
    files: &FileTable,
) -> Result<Vec<OutputItem>, ActionError> {
    let mut items = Vec::new();
    for path in sources {
        let fact = files.fact(path).map_err(|source| ActionError::Source {
            path: path.into(),
            source,
        })?;
        items.push(OutputItem {
            path: path.clone(),
            kind: OutputKind::File {
                hash: fact.hash,
                size_bytes: fact.stamp.size_bytes,
                mode: fact.stamp.kept_mode(),
            },
        });
    }
    for outputs in dep_outputs {
        let taken = outputs.iter().filter(|item| target.takes(&item.path));
        items.extend(taken.cloned());
    }
    items.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    items.dedup_by(|a, b| a.path == b.path);
    Ok(items)
}
