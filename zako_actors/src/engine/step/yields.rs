//! Files that lie where outputs go and are not known as zako's: which of them may be replaced.
//!
//! Owns the question. Does not know what takes their place.
//! Invariants: what git knows, or may know, stays; otherwise content is lost only where whoever builds said so (`--overwrite`).

use std::fs;

use cas_actor::Digest;

use super::StepEnv;

/// Whether what lies at `path` gives way: zako wrote it before its list of outputs was lost, as far as the cache has the same
/// content, or all such files are to be replaced.
pub fn gives_way(env: &StepEnv, path: &str) -> bool {
    let full = env.files.root().join(path);
    let is_dir = fs::symlink_metadata(full).is_ok_and(|found| found.is_dir());
    if is_dir || !(env.overwrite || is_kept(env, path)) {
        return false;
    }
    env.known_to_git()
        .as_ref()
        .is_ok_and(|known| !known.contains(path))
}

/// Whether the cache has what lies there.
fn is_kept(env: &StepEnv, path: &str) -> bool {
    let Ok(fact) = env.files.fact_of_output(path) else {
        return false;
    };
    let digest = Digest::new(*fact.hash.bytes(), fact.stamp.size_bytes);
    let found = env.store.blocking().contains(&[digest]);
    found.is_ok_and(|found| found == [true])
}
