//! The files that are remembered: their contents, stamps and paths.
//!
//! Owns the list, which is shared with whoever looks at all of them, and the way from a path to its place there. Does not know
//! whether a file is still what it was.
//! Invariant: a list does not change; what is learnt later makes a new one.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use rustc_hash::{FxBuildHasher, FxHashMap};
use serde::{Deserialize, Serialize};

use super::hash::Hash;
use super::stamp::Stamp;
use crate::lang::text::Text;

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The stamp that the content was read under.
    pub stamp: Stamp,
    /// Hash of the content.
    pub hash: Hash,
    /// Whether a later change would show in the stamp.
    pub settled: bool,
}

/// A file with what is known of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Known {
    /// Relative to the root, or absolute.
    pub path: Text,
    /// What is known of it.
    pub entry: Entry,
}

/// What is known of files, in path order; the persistent part of a [`FileTable`](super::files::FileTable).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SavedFiles(pub(super) Arc<Vec<Known>>);

/// The same, found by path.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    list: SavedFiles,
    places: HashTable<u32>,
}

impl Remembered {
    /// Finds what is in `list`.
    pub fn new(list: SavedFiles) -> Self {
        let mut places = HashTable::with_capacity(list.0.len());
        // Files beyond that many are read again.
        for (place, known) in (0..u32::MAX).zip(&*list.0) {
            places.insert_unique(hash(&known.path), place, |_| {
                unreachable!("there is room for all of them")
            });
        }
        Self { list, places }
    }

    /// All of them.
    pub fn list(&self) -> &SavedFiles {
        &self.list
    }

    /// The place of `path` in the list.
    pub fn place(&self, path: &str) -> Option<u32> {
        let is_it = |place: &u32| self.list.0[*place as usize].path == *path;
        self.places.find(hash(path), is_it).copied()
    }

    /// What was known of `path`, with its place in the list.
    pub fn get(&self, path: &str) -> Option<(u32, &Entry)> {
        let place = self.place(path)?;
        Some((place, &self.list.0[place as usize].entry))
    }

    /// The same after files were learnt, or went: those without an entry.
    pub fn with(self, mut learnt: FxHashMap<Text, Option<Entry>>) -> Self {
        drop(self.places);
        let mut list = Arc::unwrap_or_clone(self.list.0);
        list.retain_mut(|known| match learnt.remove(&known.path) {
            None => true,
            Some(now) => {
                known.entry = now.unwrap_or(known.entry);
                now.is_some()
            }
        });
        let new = learnt.into_iter().filter_map(|(path, entry)| {
            let entry = entry?;
            Some(Known { path, entry })
        });
        list.extend(new);
        list.sort_by(|a, b| a.path.cmp(&b.path));
        Self::new(SavedFiles(Arc::new(list)))
    }
}

fn hash(path: &str) -> u64 {
    FxBuildHasher.hash_one(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(content: &str) -> Entry {
        let stamp = Stamp {
            size_bytes: content.len() as u64,
            mtime_ns: 0,
            ctime_ns: 0,
            inode: 0,
            mode: 0,
        };
        Entry {
            stamp,
            hash: Hash::of(content.as_bytes()),
            settled: true,
        }
    }

    #[test]
    fn what_is_learnt_changes_comes_and_goes_in_path_order() {
        let learnt = |list: &[(&str, Option<&str>)]| {
            let list = list.iter();
            let learnt = list.map(|(path, content)| ((*path).into(), content.map(entry)));
            learnt.collect::<FxHashMap<Text, _>>()
        };
        let files = Remembered::default();
        let files = files.with(learnt(&[("b", Some("b")), ("d", Some("d"))]));
        let files = files.with(learnt(&[
            ("b", Some("new")),
            ("c", Some("c")),
            ("d", None),
            ("e", None),
        ]));
        let paths: Vec<&str> = files.list().0.iter().map(|known| &*known.path).collect();
        assert_eq!(paths, ["b", "c"]);
        assert_eq!(files.get("b"), Some((0, &entry("new"))));
        assert_eq!(files.get("c"), Some((1, &entry("c"))));
        assert_eq!(files.place("d"), None);
    }
}
