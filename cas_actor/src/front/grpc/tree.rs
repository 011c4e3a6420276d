//! Trees of directories, and what a result of an action points at.
//!
//! Owns: walking them.
//! Does not know: calls.
//! Invariants: a directory is read once however often it appears, so a walk ends; a walk is
//! bounded.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use prost::Message;
use tonic::{Code, Status};

use super::api::re;
use super::failure::failed;
use super::{Api, Function, Name};
use crate::BlobName;

/// More directories than any tree that somebody builds.
const MOST_DIRECTORIES: usize = 1_000_000;
/// Directories of one message unless the client says less.
const PAGE: usize = 500;

impl Api {
    /// All directories below `root` that are here, it first, in pages.
    pub(super) async fn tree(
        &self,
        root: Name,
        page_size: i32,
    ) -> Result<Vec<Vec<re::Directory>>, Status> {
        let page = usize::try_from(page_size).ok().filter(|size| *size > 0);
        let page = page.unwrap_or(PAGE).min(PAGE);
        let mut pages = vec![Vec::new()];
        let mut seen = HashSet::from([root.hash]);
        let mut waiting = vec![root];
        let mut is_root = true;
        while let Some(name) = waiting.pop() {
            let content = match self.content(&name).await {
                // The rest is still of use to the client.
                Err(status) if status.code() == Code::NotFound && !is_root => continue,
                content => content?,
            };
            is_root = false;
            let directory = re::Directory::decode(content)
                .map_err(|error| Status::invalid_argument(format!("no directory: {error}")))?;
            for child in &directory.directories {
                let child = Name::required(child.digest.as_ref(), name.function, "digest")?;
                if seen.insert(child.hash) {
                    waiting.push(child);
                }
            }
            if seen.len() > MOST_DIRECTORIES {
                let said = format!("the tree has more than {MOST_DIRECTORIES} directories");
                return Err(Status::invalid_argument(said));
            }
            if pages.last().is_some_and(|last| last.len() >= page) {
                pages.push(Vec::new());
            }
            if let Some(last) = pages.last_mut() {
                last.push(directory);
            }
        }
        Ok(pages)
    }

    /// Whether everything that a result points at is here; counts as a use of it.
    pub(super) async fn is_complete(
        &self,
        result: &re::ActionResult,
        function: Function,
    ) -> Result<bool, Status> {
        let mut names = Vec::new();
        let files = result.output_files.iter().map(|file| file.digest.as_ref());
        let texts = [result.stdout_digest.as_ref(), result.stderr_digest.as_ref()];
        for digest in files.chain(texts).flatten() {
            names.push(Name::read(digest, function)?);
        }
        for directory in &result.output_directories {
            let Some(tree) = &directory.tree_digest else {
                continue;
            };
            let content = match self.content(&Name::read(tree, function)?).await {
                Err(status) if status.code() == Code::NotFound => return Ok(false),
                content => content?,
            };
            let Ok(tree) = re::Tree::decode(content) else {
                return Ok(false);
            };
            let directories = tree.root.iter().chain(&tree.children);
            for file in directories.flat_map(|directory| &directory.files) {
                names.push(Name::required(file.digest.as_ref(), function, "digest")?);
            }
        }
        let names: Vec<BlobName> = names.iter().map(Name::blob).collect();
        // What only the cache behind the store has is brought: the client relies on it from now on.
        let brought = self.shared.store.bring(&names).await.map_err(failed)?;
        Ok(brought.iter().all(Option::is_some))
    }
}
