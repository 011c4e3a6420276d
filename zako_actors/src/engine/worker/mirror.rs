//! The directory that a worker process lives in, request after request.
//!
//! Owns what lies there: before each request exactly that request's inputs. Does not know processes.
//! Invariants: a file stays from one request to the next only when it is the same input, untouched;
//! a change within one clock tick of the copying does not show in the stamp, so until a file was found
//! unchanged after that tick, it is its content that is compared; what lies there for one request is never replaced for another
//! that comes while it is under way;
//! the directory itself is never replaced, because the process stands in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::files::{FileTable, read};
use crate::engine::record::{Input, InputContent};
use crate::engine::scratch::{Scratch, ScratchError, Scratches, failed, needed, remove_tree};
use crate::engine::stamp::{Stamp, now_ns};
use crate::lang::text::Text;

/// A scratch directory whose inputs change.
#[derive(Debug)]
pub struct Mirror {
    scratch: Scratch,
    placed: BTreeMap<Text, Placed>,
}

#[derive(Debug)]
struct Placed {
    content: InputContent,
    /// Of the copy, as it was made.
    stamp: Stamp,
    /// Whether a change would show in the stamp.
    settled: bool,
}

impl Placed {
    /// Whether the file at `path`, which has this `metadata`, is the copy as it was made.
    fn is_untouched(&mut self, path: &Path, metadata: &Metadata) -> bool {
        let now = now_ns();
        let same = self.stamp == Stamp::of(metadata) && (self.settled || self.is_at(path));
        self.settled |= same && self.stamp.is_settled(now);
        same
    }

    /// Whether what is to be at `path` is there.
    fn is_at(&self, path: &Path) -> bool {
        match &self.content {
            InputContent::File { hash, .. } => {
                read(path).is_ok_and(|found| found == (*hash, self.stamp))
            }
            InputContent::Link(to) => fs::read_link(path).is_ok_and(|at| *at == *Path::new(&**to)),
            InputContent::Directory => false,
        }
    }
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
        let mut untouched = BTreeMap::new();
        sweep(&work, "", &parents, &mut kept, &mut untouched)?;
        let mut kept = untouched;
        self.scratch.make(directories.iter())?;
        for input in inputs {
            if input.content == InputContent::Directory || kept.contains_key(&input.path) {
                continue;
            }
            kept.insert(input.path.clone(), self.place(files, input)?);
        }
        self.placed = kept;
        Ok(())
    }

    /// Has `inputs` and `directories` lie there, and leaves everything else: others need it. Tells whether it could; nothing
    /// is done where something else lies in the place of one of them.
    ///
    /// # Errors
    /// As [`show`](Self::show).
    pub fn add<'a>(
        &mut self,
        files: &FileTable,
        inputs: &'a [Input],
        directories: impl Iterator<Item = &'a str>,
    ) -> Result<bool, ScratchError> {
        let work = self.scratch.work();
        let mut missing = Vec::new();
        for input in inputs {
            if input.content == InputContent::Directory {
                continue;
            }
            let Some(placed) = self.placed.get_mut(&input.path) else {
                missing.push(input);
                continue;
            };
            let copy = work.join(&*input.path);
            let untouched = fs::symlink_metadata(&copy)
                .is_ok_and(|metadata| placed.is_untouched(&copy, &metadata));
            if placed.content != input.content || !untouched {
                return Ok(false);
            }
        }
        self.scratch.make(needed(inputs, directories).iter())?;
        for input in missing {
            let copy = work.join(&*input.path);
            // What a request left is in the way, and nobody's input.
            if fs::symlink_metadata(&copy).is_ok() {
                fs::remove_file(&copy).map_err(failed("remove", &copy))?;
            }
            let placed = self.place(files, input)?;
            self.placed.insert(input.path.clone(), placed);
        }
        Ok(true)
    }

    fn place(&self, files: &FileTable, input: &Input) -> Result<Placed, ScratchError> {
        self.scratch.place(files, input)?;
        let copy = self.scratch.work().join(&*input.path);
        let metadata = fs::symlink_metadata(&copy).map_err(failed("read", &copy))?;
        Ok(Placed {
            content: input.content.clone(),
            stamp: Stamp::of(&metadata),
            settled: false,
        })
    }
}

/// Removes everything below `relative` of `work` that is neither in `directories` nor untouched and in
/// `kept`; the files that stay go from there to `untouched`.
fn sweep(
    work: &Path,
    relative: &str,
    directories: &BTreeSet<&str>,
    kept: &mut BTreeMap<Text, Placed>,
    untouched: &mut BTreeMap<Text, Placed>,
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
        match inner {
            Ok(inner) if metadata.is_dir() && directories.contains(&*inner) => {
                sweep(work, &inner, directories, kept, untouched)?;
            }
            _ if metadata.is_dir() => remove_tree(&path).map_err(failed("remove", &path))?,
            inner => {
                let placed = inner.ok().and_then(|inner| kept.remove_entry(&*inner));
                let same = placed.and_then(|(inner, mut placed)| {
                    placed
                        .is_untouched(&path, &metadata)
                        .then_some((inner, placed))
                });
                match same {
                    Some((inner, placed)) => drop(untouched.insert(inner, placed)),
                    None => fs::remove_file(&path).map_err(failed("remove", &path))?,
                }
            }
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
    fn a_change_that_the_stamp_does_not_show_is_noticed_while_it_may_have_happened() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), "right").unwrap();
        let files = FileTable::new(root.path().into(), SavedFiles::default());
        let inputs = [Input {
            path: "a".into(),
            content: InputContent::File {
                hash: Hash::of(b"right"),
                executable: false,
            },
        }];
        let mut mirror = Mirror::create(&Scratches::new(root.path().join(".zako"))).unwrap();
        let copy = mirror.scratch().work().join("a");
        let mut spoilt = |settled| {
            mirror.show(&files, &inputs, std::iter::empty()).unwrap();
            fs::write(&copy, "wrong").unwrap();
            // As if the clock had not ticked since it was copied.
            let placed = mirror.placed.get_mut("a").unwrap();
            placed.stamp = Stamp::of(&fs::symlink_metadata(&copy).unwrap());
            placed.settled = settled;
            mirror.show(&files, &inputs, std::iter::empty()).unwrap();
            fs::read_to_string(&copy).unwrap()
        };
        assert_eq!(spoilt(false), "right");
        assert_eq!(spoilt(true), "wrong", "a settled stamp is believed");
    }

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
