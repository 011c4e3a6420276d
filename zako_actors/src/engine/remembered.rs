//! The files that are remembered: their contents, stamps and paths.
//!
//! Owns the list, which is shared with whoever looks at all of them, and the way from a path to its place there. Does not know
//! whether a file is still what it was.
//! Invariant: a list does not change; what is learnt later makes a new one.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;
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

    /// The text of `path` in the list.
    pub fn text(&self, path: &str) -> Option<&Text> {
        let place = self.place(path)?;
        Some(&self.list.0[place as usize].path)
    }

    /// The same after files were learnt, or went: those without an entry. Where there were none before, what was learnt becomes
    /// the list, and is never in memory twice.
    pub fn with(self, learnt: Learnt) -> Self {
        let mut news = learnt.list;
        drop(learnt.places);
        let mut changed = Vec::new();
        news.retain(|(path, now)| match self.place(path) {
            Some(place) => {
                changed.push((place, *now));
                false
            }
            None => now.is_some(),
        });
        drop(self.places);
        let mut list = Arc::unwrap_or_clone(self.list.0);
        let mut gone = Vec::new();
        for (place, now) in changed {
            match now {
                Some(now) => list[place as usize].entry = now,
                None => gone.push(place),
            }
        }
        gone.sort_unstable();
        let mut places = 0_u32..;
        list.retain(|_| {
            let place = places.next();
            place.is_some_and(|place| gone.binary_search(&place).is_err())
        });
        let known = |(path, entry): (Text, Option<Entry>)| {
            Some(Known {
                path,
                entry: entry?,
            })
        };
        let news = news.into_iter().filter_map(known);
        if list.is_empty() {
            // In the memory that they are in.
            list = news.collect();
        } else {
            list.extend(news);
        }
        list.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        list.shrink_to_fit();
        Self::new(SavedFiles(Arc::new(list)))
    }
}

/// What was learnt of files since: the latest of each.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    /// Nothing of files that went.
    list: Vec<(Text, Option<Entry>)>,
    places: HashTable<u32>,
}

impl Learnt {
    /// Whether it is nothing.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What was learnt of `path`.
    pub fn get(&self, path: &str) -> Option<&Option<Entry>> {
        let is_it = |place: &u32| self.list[*place as usize].0 == *path;
        let place = self.places.find(hash(path), is_it)?;
        Some(&self.list[*place as usize].1)
    }

    /// Takes note of what `path` holds now, which `text` is.
    pub fn insert(&mut self, path: &str, text: impl FnOnce() -> Text, now: Option<Entry>) {
        let list = &mut self.list;
        let is_it = |place: &u32| list[*place as usize].0 == *path;
        if let Some(place) = self.places.find(hash(path), is_it) {
            list[*place as usize].1 = now;
            return;
        }
        // Files beyond that many are read again.
        let Ok(place) = u32::try_from(list.len()) else {
            return;
        };
        list.push((text(), now));
        let hash_of = |place: &u32| hash(&list[*place as usize].0);
        self.places.insert_unique(hash(path), place, hash_of);
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

    fn learnt(list: &[(&str, Option<&str>)]) -> Learnt {
        let mut learnt = Learnt::default();
        for (path, content) in list {
            learnt.insert(path, || (*path).into(), content.map(entry));
        }
        learnt
    }

    #[test]
    fn what_is_learnt_changes_comes_and_goes_in_path_order() {
        let files = Remembered::default();
        let files = files.with(learnt(&[("d", Some("d")), ("x", None), ("b", Some("b"))]));
        let files = files.with(learnt(&[
            ("b", Some("new")),
            ("c", Some("c")),
            ("a", Some("a")),
            ("d", None),
            ("e", None),
        ]));
        let paths: Vec<&str> = files.list().0.iter().map(|known| &*known.path).collect();
        assert_eq!(paths, ["a", "b", "c"]);
        assert_eq!(files.get("b"), Some((1, &entry("new"))));
        assert_eq!(files.get("c"), Some((2, &entry("c"))));
        assert_eq!(files.place("d"), None);
        let files = files.with(learnt(&[("a", None), ("b", None), ("c", None)]));
        assert!(files.list().0.is_empty());
    }

    #[test]
    fn the_latest_that_was_learnt_counts() {
        let learnt = learnt(&[
            ("a", Some("1")),
            ("b", Some("b")),
            ("a", None),
            ("b", Some("c")),
        ]);
        assert_eq!(learnt.get("a"), Some(&None));
        assert_eq!(learnt.get("b"), Some(&Some(entry("c"))));
        assert_eq!(learnt.get("c"), None);
        assert_eq!(learnt.list.len(), 2);
    }
}
