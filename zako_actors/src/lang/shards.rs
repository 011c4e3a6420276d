//! Tests in several parts that run side by side: what `shards` of a test means.
//!
//! Owns the names of the parts and how each learns which it is: `{shard}` (from 1) and `{shards}` in
//! its command, for runners such as `vitest --shard={shard}/{shards}`; TEST_SHARD_INDEX (from 0) and
//! TEST_TOTAL_SHARDS, as Bazel has them. Does not know how a runner divides its tests.
//! Invariant: all parts differ in these only, so each is cached and tried again by itself.

use std::sync::Arc;

use super::label::{Label, LabelError};
use super::target::{EnvValue, Target, Work};

/// The parts of `test`, and the target of its name that stands for all of them.
///
/// # Errors
/// When a part can have no name.
pub fn split(test: &Target, shards: u64) -> Result<Vec<Arc<Target>>, LabelError> {
    let mut targets = Vec::new();
    let mut parts = Vec::new();
    for shard in 1..=shards {
        let name = format!("{}~{shard}", test.label.name());
        let mut part = test.clone();
        part.label = Label::new(test.label.dir(), &name)?;
        if let Work::Command(command) = &mut part.work {
            for word in &mut command.argv {
                *word = word
                    .replace("{shards}", &shards.to_string())
                    .replace("{shard}", &shard.to_string());
            }
            for (name, value) in [
                ("TEST_SHARD_INDEX", shard - 1),
                ("TEST_TOTAL_SHARDS", shards),
            ] {
                let value = EnvValue::Text(value.to_string());
                command.env.insert(name.to_owned(), value);
            }
        }
        parts.push(part.label.clone());
        targets.push(Arc::new(part));
    }
    targets.push(Arc::new(Target {
        srcs: Vec::new(),
        deps: parts,
        work: Work::Group,
        // Wildcards find the parts, which are tests; this is none.
        manual: true,
        ..test.clone()
    }));
    Ok(targets)
}
