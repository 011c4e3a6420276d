//! Trees of directories, and what a result of an action points at.
//!
//! Owns: walking them.
//! Does not know: calls.
//! Invariants: a directory or a tree is read once however often it appears, so a walk ends; a walk is
//! bounded, and holds one page at a time; a tree, which may be large, is read by a thread that may wait.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::sync::Arc;

use prost::Message;
use tonic::{Code, Status};

use super::api::re;
use super::call::FACTOR;
use super::failure::{failed, whole};
use super::weight::{DIRECTORY, Field, Kind, PLAIN, entry, weight};
use super::{Api, Function, MESSAGE_BYTES, Name};
use crate::blob::Blob;
use crate::front::held::Share;
use crate::{BlobName, HASH_BYTES};

/// More directories than any tree that somebody builds.
const MOST_DIRECTORIES: usize = 1_000_000;
/// Directories of one message unless the client says less.
const PAGE: usize = 500;
/// A message ends with the directory that goes beyond this.
const PAGE_BYTES: u64 = 1024 * 1024;

/// What a directory that was seen costs: its name, in two places.
const SEEN_BYTES: u64 = 256;

/// What the digests of a tree's files cost in memory, per byte of the tree.
const FILES_FACTOR: u64 = 2;
/// What a file's name costs, here and on its way to the store.
const NAME_BYTES: u64 = (size_of::<Name>() + size_of::<BlobName>()) as u64;

/// [`re::Tree`] without what is not asked for: a tree is one message, and may be a large one.
#[derive(Clone, PartialEq, prost::Message)]
struct TreeFiles {
    #[prost(message, optional, tag = "1")]
    root: Option<DirectoryFiles>,
    #[prost(message, repeated, tag = "2")]
    children: Vec<DirectoryFiles>,
}

/// [`re::Directory`] the same way.
#[derive(Clone, PartialEq, prost::Message)]
struct DirectoryFiles {
    #[prost(message, repeated, tag = "1")]
    files: Vec<FileDigest>,
}

/// [`re::FileNode`] the same way.
#[derive(Clone, PartialEq, prost::Message)]
struct FileDigest {
    #[prost(message, optional, tag = "2")]
    digest: Option<re::Digest>,
}

static DIRECTORY_FILES: Kind = Kind(&[(1, Field::Many(entry::<FileDigest>(), &PLAIN))]);
static TREE_FILES: Kind = Kind(&[
    (1, Field::One(&DIRECTORY_FILES)),
    (2, Field::Many(entry::<DirectoryFiles>(), &DIRECTORY_FILES)),
]);

/// A walk through all directories below a root that are here, the root first.
pub(super) struct Walk {
    api: Api,
    share: Arc<Share>,
    /// Directories of one page.
    page: usize,
    seen: HashSet<[u8; HASH_BYTES]>,
    waiting: Vec<Name>,
    /// What the page before the last one holds, and what the last one does.
    held_bytes: [u64; 2],
}

impl Walk {
    pub(super) fn new(api: Api, root: Name, page_size: i32, share: Arc<Share>) -> Self {
        let page = usize::try_from(page_size).ok().filter(|size| *size > 0);
        Self {
            api,
            share,
            page: page.unwrap_or(PAGE).min(PAGE),
            seen: HashSet::from([root.hash]),
            waiting: vec![root],
            held_bytes: [0; 2],
        }
    }

    /// The next page; `None` when there is none.
    pub(super) async fn page(&mut self) -> Result<Option<Vec<re::Directory>>, Status> {
        // By now the page before the last one is gone.
        let [before, last] = self.held_bytes;
        self.share.give_back(before);
        self.held_bytes = [last, 0];
        let mut page = Vec::new();
        let mut size_bytes = 0;
        while page.len() < self.page
            && size_bytes < PAGE_BYTES
            && let Some(name) = self.waiting.pop()
        {
            let is_root = self.seen.len() == 1;
            let content = match self.api.content(&name).await {
                // The rest is still of use to the client.
                Err(status) if status.code() == Code::NotFound && !is_root => continue,
                content => content?,
            };
            let bytes = content.len() as u64;
            if bytes > MESSAGE_BYTES as u64 {
                let said = format!("a directory of {bytes} bytes is more than a message holds");
                return Err(Status::invalid_argument(said));
            }
            let content = whole(content)?;
            let held = FACTOR * bytes + weight(&DIRECTORY, &content);
            self.share.add(held).map_err(failed)?;
            self.held_bytes[1] += held;
            size_bytes += bytes;
            let directory = re::Directory::decode(content)
                .map_err(|error| Status::invalid_argument(format!("no directory: {error}")))?;
            self.note(&directory, name.function)?;
            page.push(directory);
        }
        Ok((!page.is_empty()).then_some(page))
    }

    /// Has those directories wait that were not seen before.
    fn note(&mut self, directory: &re::Directory, function: Function) -> Result<(), Status> {
        for child in &directory.directories {
            let child = Name::required(child.digest.as_ref(), function, "digest")?;
            if self.seen.insert(child.hash) {
                self.share.add(SEEN_BYTES).map_err(failed)?;
                self.waiting.push(child);
            }
        }
        if self.seen.len() > MOST_DIRECTORIES {
            let said = format!("the tree has more than {MOST_DIRECTORIES} directories");
            return Err(Status::invalid_argument(said));
        }
        Ok(())
    }
}

/// The names of the files of a tree; `None` where this is none. May take long.
fn files_of(blob: Blob, function: Function, share: &Share) -> Result<Option<Vec<Name>>, Status> {
    // Its length comes first: counting its entries means to read it.
    let plain = FILES_FACTOR * blob.len() as u64;
    share.add(plain).map_err(failed)?;
    let content = whole(blob)?;
    let entries = weight(&TREE_FILES, &content);
    share.add(entries).map_err(failed)?;
    let Ok(tree) = TreeFiles::decode(content) else {
        return Ok(None);
    };
    let mut names = Vec::new();
    let directories = tree.root.iter().chain(&tree.children);
    for file in directories.flat_map(|directory| &directory.files) {
        names.push(Name::required(file.digest.as_ref(), function, "digest")?);
    }
    drop(tree);
    share.give_back(plain + entries);
    let held = NAME_BYTES * names.len() as u64;
    share.add(held).map_err(failed)?;
    Ok(Some(names))
}

impl Api {
    /// Whether everything that a result points at is here; counts as a use of it.
    pub(super) async fn is_complete(
        &self,
        result: &re::ActionResult,
        function: Function,
        share: &Arc<Share>,
    ) -> Result<bool, Status> {
        let mut names = Vec::new();
        let files = result.output_files.iter().map(|file| file.digest.as_ref());
        let texts = [result.stdout_digest.as_ref(), result.stderr_digest.as_ref()];
        for digest in files.chain(texts).flatten() {
            names.push(Name::read(digest, function)?);
        }
        let mut seen = HashSet::new();
        for directory in &result.output_directories {
            let Some(tree) = &directory.tree_digest else {
                continue;
            };
            let tree = Name::read(tree, function)?;
            if !seen.insert(tree.hash) {
                continue;
            }
            share.add(SEEN_BYTES).map_err(failed)?;
            let Some(content) = self.find(&tree).await? else {
                return Ok(false);
            };
            let share = Arc::clone(share);
            let read = tokio::task::spawn_blocking(move || files_of(content, function, &share));
            let read = read.await;
            let Some(files) = read.map_err(|_| Status::unavailable("the node ends"))?? else {
                return Ok(false);
            };
            names.extend(files);
        }
        let names: Vec<BlobName> = names.iter().map(Name::blob).collect();
        // What only the cache behind the store has is brought: the client relies on it from now on.
        let brought = self.shared.store.bring(&names).await.map_err(failed)?;
        Ok(brought.iter().all(Option::is_some))
    }
}
