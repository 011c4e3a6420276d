//! The directory that a worker process lives in, request after request.
//!
//! Owns what lies there: before each request exactly that request's inputs. Does not know processes.
//! Invariants: a file stays from one request to the next only when it is the same input, untouched;
//! the directory itself is never replaced, because the process stands in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::files::{FileTable, Stamp};
use crate::engine::record::{Input, InputContent};
use crate::engine::scratch::{Scratch, ScratchError, Scratches, failed, needed, remove_tree};

/// A scratch directory whose inputs change.
#[derive(Debug)]
pub struct Mirror {
    scratch: Scratch,
    placed: BTreeMap<Box<str>, Placed>,
}

#[derive(Debug)]
struct Placed {
    content: InputContent,
    /// Of the copy, as it was made.
    stamp: Stamp,
}

impl Mirror {
    /// An empty one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn create(scratches: &Arc<Scratches>) -> Result<Self, ScratchError> {
        let mut scratch = scratches.take(false)?;
        scratch.empty()?;
        Ok(Self {
            scratch,
            placed: BTreeMap::new(),
        })
    }

    /// The scratch directory.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Has exactly `inputs` and `directories` lie there.
    ///
    /// # Errors
    /// When the disk refuses, or a source is not what the key says any more.
    pub fn show<'a>(
        &mut self,
        files: &FileTable,
        inputs: &'a [Input],
        directories: impl Iterator<Item = &'a str>,
    ) -> Result<(), ScratchError> {
        let directories = needed(inputs, directories);
        let mut parents = BTreeSet::new();
        for dir in &directories {
            let mut dir = *dir;
            while !dir.is_empty() && parents.insert(dir) {
                dir = dir.rsplit_once('/').map_or("", |(above, _)| above);
            }
        }
        let mut kept = std::mem::take(&mut self.placed);
        kept.retain(|path, placed| {
            let at = inputs.binary_search_by(|input| input.path.cmp(path));
            at.is_ok_and(|at| inputs[at].content == placed.content)
        });
        let work = self.scratch.work();
        let mut untouched = BTreeSet::new();
        sweep(&work, "", &parents, &kept, &mut untouched)?;
        kept.retain(|path, _| untouched.contains(&**path));
        self.scratch.make(directories.iter())?;
        for input in inputs {
            if input.content == InputContent::Directory || kept.contains_key(&input.path) {
                continue;
            }
            self.scratch.place(files, input)?;
            let copy = work.join(&*input.path);
            let metadata = fs::symlink_metadata(&copy).map_err(failed("read", &copy))?;
            let placed = Placed {
                content: input.content.clone(),
                stamp: Stamp::of(&metadata),
            };
            kept.insert(input.path.clone(), placed);
        }
        self.placed = kept;
        Ok(())
    }
}

/// Removes everything below `relative` of `work` that is neither in `directories` nor untouched and in
/// `kept`; the files that stay are listed in `untouched`.
fn sweep(
    work: &Path,
    relative: &str,
    directories: &BTreeSet<&str>,
    kept: &BTreeMap<Box<str>, Placed>,
    untouched: &mut BTreeSet<String>,
) -> Result<(), ScratchError> {
    let dir: PathBuf = work.join(relative);
    for entry in fs::read_dir(&dir).map_err(failed("read", &dir))? {
        let entry = entry.map_err(failed("read", &dir))?;
        let path = entry.path();
        // A name that is not UTF-8 is nobody's input.
        let inner = entry.file_name().into_string().map(|name| match relative {
            "" => name,
            _ => format!("{relative}/{name}"),
        });
        let metadata = entry.metadata().map_err(failed("read", &path))?;
        let same = |inner: &str| {
            let placed = kept.get(inner);
            placed.is_some_and(|placed| placed.stamp == Stamp::of(&metadata))
        };
        match inner {
            Ok(inner) if metadata.is_dir() && directories.contains(&*inner) => {
                sweep(work, &inner, directories, kept, untouched)?;
            }
            _ if metadata.is_dir() => remove_tree(&path).map_err(failed("remove", &path))?,
            Ok(inner) if same(&inner) => drop(untouched.insert(inner)),
            _ => fs::remove_file(&path).map_err(failed("remove", &path))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::files::SavedFiles;
    use crate::engine::hash::Hash;

    #[test]
    fn a_request_sees_its_inputs_as_they_are_and_nothing_of_the_one_before() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [("p/a", "a"), ("p/b", "b"), ("q/c", "c")] {
            let full = root.path().join(path);
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(full, text).unwrap();
        }
        let files = FileTable::new(root.path().into(), SavedFiles::default());
        let input = |path: &str| Input {
            path: path.into(),
            content: InputContent::File {
                hash: Hash::of(&path.as_bytes()[path.len() - 1..]),
                executable: false,
            },
        };
        let mut mirror = Mirror::create(&Scratches::new(root.path().join(".zako"))).unwrap();
        let work = mirror.scratch().work();
        let first = [input("p/a"), input("q/c")];
        mirror.show(&files, &first, ["out"].into_iter()).unwrap();
        let same = Stamp::of(&fs::metadata(work.join("p/a")).unwrap());

        // What a request leaves, spoils and takes away is put right for the next one.
        fs::write(work.join("out/result"), "").unwrap();
        fs::write(work.join("left"), "").unwrap();
        fs::create_dir_all(work.join("deep/er")).unwrap();
        fs::write(work.join("q/c"), "spoilt").unwrap();
        let second = [input("p/a"), input("p/b"), input("q/c")];
        mirror.show(&files, &second, ["p"].into_iter()).unwrap();
        let text = |path: &str| fs::read_to_string(work.join(path)).unwrap();
        assert_eq!((text("p/b"), text("q/c")), ("b".into(), "c".into()));
        for gone in ["out", "left", "deep"] {
            assert!(!work.join(gone).exists(), "{gone}");
        }
        assert_eq!(Stamp::of(&fs::metadata(work.join("p/a")).unwrap()), same);

        fs::remove_file(work.join("p/b")).unwrap();
        mirror.show(&files, &second, ["p"].into_iter()).unwrap();
        assert_eq!(text("p/b"), "b");
        mirror.show(&files, &[], [""].into_iter()).unwrap();
        assert_eq!(fs::read_dir(&work).unwrap().count(), 0);
    }
}
