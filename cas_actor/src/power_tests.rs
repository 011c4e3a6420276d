//! The shard's core under power cuts: what was not synced may be lost, cut short, or garbage.
//!
//! Killing a process leaves the page cache alone, so it cannot show a missing sync. [`PowerFs`]
//! can: it notes what was made durable, and [`PowerFs::cut`] harms everything else. A sync can be made
//! to fail as Linux does: what it should have written is taken for written, so that later syncs succeed,
//! and is lost.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use crate::action::ActionEntry;
use crate::commit::Durability;
use crate::digest::{Digest, Hasher};
use crate::error::GetError;
use crate::fs::{Fs, RealFs};
use crate::group::Put;
use crate::shard::Shard;
use crate::shard_tests::{PACKED, damage, get, shard};
use crate::staging::Verified;

/// What is on the platter.
#[derive(Debug, Default)]
struct Durable {
    /// Bytes of each inode that were synced.
    bytes: HashMap<u64, u64>,
    /// Names that lead to an inode, directories included.
    names: HashSet<(PathBuf, u64)>,
    /// Ranges of each inode that a failed sync has lost.
    lost: HashMap<u64, Vec<(u64, u64)>>,
    /// What lies under a name on the platter while another file has that name, and where those are.
    replaced: HashMap<PathBuf, PathBuf>,
    aside: Option<tempfile::TempDir>,
    /// So many syncs until one fails.
    fails_after: Option<u64>,
    /// Whether one has.
    has_failed: bool,
    /// Bytes of what the disk cannot read back any more.
    unreadable: Option<Vec<u8>>,
}

/// The operating system, with notes on what it was made to keep.
#[derive(Debug, Clone, Default)]
pub(crate) struct PowerFs(Arc<Mutex<Durable>>);

impl PowerFs {
    /// Starts from a tree that is all on the platter.
    fn settled(root: &Path) -> Self {
        let fs = Self::default();
        fs.note_tree(root);
        fs
    }

    fn note_tree(&self, directory: &Path) {
        self.note_names(directory);
        for path in entries(directory) {
            match path.is_dir() {
                true => self.note_tree(&path),
                false => self.note_bytes(&File::open(&path).unwrap()),
            }
        }
    }

    fn note_bytes(&self, file: &File) {
        let metadata = file.metadata().unwrap();
        let mut durable = self.0.lock().unwrap();
        durable.bytes.insert(metadata.ino(), metadata.len());
    }

    /// Lets so many syncs pass, then one fails.
    pub(crate) fn fail_after(&self, syncs: u64) {
        self.0.lock().unwrap().fails_after = Some(syncs);
    }

    /// Whatever holds these bytes cannot be read back any more.
    pub(crate) fn make_unreadable(&self, bytes: Vec<u8>) {
        self.0.lock().unwrap().unreadable = Some(bytes);
    }

    fn fail_never(&self) {
        self.0.lock().unwrap().fails_after = None;
    }

    /// Whether a sync has failed since this was asked.
    fn take_failed(&self) -> bool {
        std::mem::take(&mut self.0.lock().unwrap().has_failed)
    }

    fn strikes(&self) -> bool {
        let mut durable = self.0.lock().unwrap();
        let strikes = durable.fails_after == Some(0);
        durable.fails_after = match durable.fails_after {
            Some(0) | None => None,
            Some(syncs) => Some(syncs - 1),
        };
        durable.has_failed |= strikes;
        strikes
    }

    /// What is not on the platter never gets there.
    fn lose_bytes(&self, file: &File) {
        let metadata = file.metadata().unwrap();
        let mut durable = self.0.lock().unwrap();
        let kept = durable.bytes.get(&metadata.ino()).copied().unwrap_or(0);
        let lost = durable.lost.entry(metadata.ino()).or_default();
        lost.push((kept, metadata.len()));
    }

    fn lose_tree(&self, directory: &Path) {
        for path in entries(directory) {
            match path.is_dir() {
                true => self.lose_tree(&path),
                false => self.lose_bytes(&File::open(&path).unwrap()),
            }
        }
    }

    /// What is written over what was lost is not.
    fn note_write(&self, file: &File, start: u64, end: u64) {
        let inode = file.metadata().unwrap().ino();
        let mut durable = self.0.lock().unwrap();
        if start == 0 {
            // A new file; the inode may have been another's.
            durable.bytes.remove(&inode);
            durable.lost.remove(&inode);
        }
        for lost in durable.lost.get_mut(&inode).into_iter().flatten() {
            if lost.0 < end && start < lost.1 {
                lost.1 = start.max(lost.0);
            }
        }
    }

    fn note_names(&self, directory: &Path) {
        let mut durable = self.0.lock().unwrap();
        for path in entries(directory) {
            let inode = fs::metadata(&path).unwrap().ino();
            durable.replaced.remove(&path);
            durable.names.insert((path, inode));
        }
    }

    /// Until the directory is synced, the name leads to the old file on the platter.
    fn note_replaced(&self, to: &Path) {
        let Ok(metadata) = fs::metadata(to) else {
            return;
        };
        let mut durable = self.0.lock().unwrap();
        if durable.names.contains(&(to.to_owned(), metadata.ino())) {
            let aside = durable
                .aside
                .take()
                .unwrap_or_else(|| tempfile::tempdir().unwrap());
            let old = aside.path().join(metadata.ino().to_string());
            durable.aside = Some(aside);
            if !old.exists() {
                fs::hard_link(to, &old).unwrap();
            }
            durable.replaced.insert(to.to_owned(), old);
        }
    }

    /// Harms what was not synced, as `random` decides.
    fn cut(&self, directory: &Path, random: &mut impl FnMut(u64) -> u64) {
        for path in entries(directory) {
            let mut metadata = fs::metadata(&path).unwrap();
            let name = (path.clone(), metadata.ino());
            let durable = self.0.lock().unwrap();
            if let Some(old) = durable.replaced.get(&path)
                && !durable.names.contains(&name)
                && random(2) == 0
            {
                fs::rename(old, &path).unwrap();
                metadata = fs::metadata(&path).unwrap();
            }
            let (named, kept) = (
                durable.names.contains(&name) || durable.replaced.contains_key(&path),
                durable.bytes.get(&metadata.ino()).copied().unwrap_or(0),
            );
            let lost = durable.lost.get(&metadata.ino()).cloned();
            drop(durable);
            match (named, metadata.is_dir()) {
                (false, true) if random(2) == 0 => fs::remove_dir_all(&path).unwrap(),
                (false, false) if random(2) == 0 => fs::remove_file(&path).unwrap(),
                (_, true) => self.cut(&path, random),
                (_, false) => {
                    lost.iter().flatten().for_each(|range| blank(&path, *range));
                    harm(&path, kept, metadata.len(), random);
                }
            }
        }
    }
}

/// Makes a range of a file zeros, as far as there is a file.
fn blank(path: &Path, (start, end): (u64, u64)) {
    let end = end.min(fs::metadata(path).unwrap().len());
    if start < end {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        let zeros = vec![0; (end - start) as usize];
        file.write_all_at(&zeros, start).unwrap();
    }
}

/// Cuts a file short somewhere behind `kept`, or leaves zeros or noise there, or leaves it alone.
fn harm(path: &Path, kept: u64, size: u64, random: &mut impl FnMut(u64) -> u64) {
    if kept >= size {
        return;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    let from = kept + random(size - kept);
    match random(4) {
        0 => file.set_len(from).unwrap(),
        1 => file
            .write_all_at(&vec![0; (size - from) as usize], from)
            .unwrap(),
        2 => file.write_all_at(&[0xa5; 3], from).unwrap(),
        _ => {}
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

impl Fs for PowerFs {
    fn write_new(&self, path: &Path, content: &[u8]) -> io::Result<File> {
        let file = RealFs.write_new(path, content)?;
        self.note_write(&file, 0, content.len() as u64);
        Ok(file)
    }

    fn write_at(&self, file: &File, content: &[u8], offset: u64) -> io::Result<()> {
        self.note_write(file, offset, offset + content.len() as u64);
        RealFs.write_at(file, content, offset)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        if self.strikes() {
            self.lose_bytes(file);
            return Err(io::Error::other("injected sync failure"));
        }
        self.note_bytes(file);
        Ok(())
    }

    /// Names stay to be written: a file system that cannot write its directories stops.
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        if self.strikes() {
            return Err(io::Error::other("injected sync failure"));
        }
        self.note_names(path);
        Ok(())
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        if self.strikes() {
            self.lose_tree(path);
            return Err(io::Error::other("injected sync failure"));
        }
        self.note_tree(path);
        Ok(())
    }

    fn read_back(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        RealFs.read_back(file, buffer, offset)?;
        let durable = self.0.lock().unwrap();
        match &durable.unreadable {
            Some(bad) if buffer.windows(bad.len()).any(|bytes| bytes == bad) => {
                Err(rustix::io::Errno::IO.into())
            }
            _ => Ok(()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note_replaced(to);
        RealFs.rename(from, to)
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Put(Vec<u8>, Durability),
    PutAction(u8),
    Delete(u8),
    Sync,
    Checkpoint,
    Compact,
    Close,
    Reopen,
    /// So many syncs from now, one fails.
    FailSync(u64),
    /// With this seed.
    PowerCut(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let name = 0u8..16;
    let durability = prop_oneof![Just(Durability::Durable), Just(Durability::Relaxed)];
    prop_oneof![
        6 => (prop::collection::vec(name.clone(), 1..12), durability)
            .prop_map(|(names, durability)| Op::Put(names, durability)),
        2 => name.clone().prop_map(Op::PutAction),
        1 => name.prop_map(Op::Delete),
        1 => Just(Op::Sync),
        1 => Just(Op::Checkpoint),
        1 => Just(Op::Compact),
        1 => Just(Op::Close),
        1 => Just(Op::Reopen),
        2 => (0u64..6).prop_map(Op::FailSync),
        2 => any::<u64>().prop_map(Op::PowerCut),
    ]
}

/// Half of the names are large blobs.
pub(crate) fn content(name: u8) -> Vec<u8> {
    vec![name; 500 * usize::from(name) + PACKED * usize::from(name % 2)]
}

fn key(name: u8) -> [u8; 32] {
    [name; 32]
}

/// What the store owes its callers.
#[derive(Default)]
pub(crate) struct Promises {
    /// Acknowledged, and due after a power cut.
    pub(crate) durable: HashSet<u8>,
    /// Acknowledged, and due after the next entry or sync.
    pub(crate) relaxed: HashSet<u8>,
    actions: HashSet<u8>,
    /// Refused, so here or not.
    refused: HashSet<u8>,
}

impl Promises {
    fn settle(&mut self) {
        self.durable.extend(self.relaxed.drain());
    }
}

pub(crate) struct Rig {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) fs: PowerFs,
    pub(crate) shard: Shard<PowerFs>,
    pub(crate) promises: Promises,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Makes the directories that opening a store makes durable.
        drop(shard(directory.path(), RealFs));
        let fs = PowerFs::settled(directory.path());
        Self {
            shard: shard(directory.path(), fs.clone()),
            directory,
            fs,
            promises: Promises::default(),
        }
    }

    pub(crate) fn apply(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Put(names, durability) => {
                let blob = |name: &u8| Verified::hash(content(*name).into(), Hasher::new());
                let puts = names.iter().map(|name| Put::Blob(blob(name), durability));
                let answers = self.shard.put_group(puts.collect());
                let failed = self.fs.take_failed();
                for (name, answer) in names.into_iter().zip(answers) {
                    let promises = match (answer, durability) {
                        (Ok(_), Durability::Durable) => &mut self.promises.durable,
                        (Ok(_), _) => &mut self.promises.relaxed,
                        (Err(error), _) => {
                            prop_assert!(failed, "{}", error);
                            &mut self.promises.refused
                        }
                    };
                    promises.insert(name);
                }
            }
            Op::PutAction(name) => {
                let entry = ActionEntry::new(vec![name]).encode(&key(name));
                let put = Put::Action(key(name), entry.into(), Durability::Durable);
                let answer = self.shard.put_group(vec![put]).remove(0);
                if self.succeeded(answer)? {
                    self.promises.settle();
                    self.promises.actions.insert(name);
                }
            }
            Op::Delete(name) => {
                self.shard.delete(&Digest::of(&content(name))).unwrap();
                self.promises.durable.remove(&name);
                self.promises.relaxed.remove(&name);
            }
            Op::Sync => {
                let answer = self.shard.sync();
                if self.succeeded(answer)? {
                    self.promises.settle();
                }
            }
            Op::Checkpoint => {
                let answer = self.shard.open_packs().unwrap().0.checkpoint();
                self.succeeded(answer)?;
            }
            Op::Compact => {
                let answer = self.shard.open_packs().unwrap().0.compact(90);
                self.succeeded(answer)?;
            }
            Op::Close => self.shard.close(),
            Op::Reopen => {
                self.fs.fail_never();
                self.shard.close();
                self.reopen();
                // The next process knows of no large blobs that it has to make durable.
                self.promises.refused.extend(self.promises.relaxed.drain());
            }
            Op::FailSync(syncs) => self.fs.fail_after(syncs),
            Op::PowerCut(seed) => self.cut(seed)?,
        }
        Ok(())
    }

    /// Another process goes on with what this one has left.
    pub(crate) fn reopen(&mut self) {
        self.shard = shard(self.directory.path(), self.fs.clone());
    }

    /// What fails, fails because a sync did.
    fn succeeded<T, E: Display>(&self, answer: Result<T, E>) -> Result<bool, TestCaseError> {
        let failed = self.fs.take_failed();
        if let Err(error) = &answer {
            prop_assert!(failed, "{}", error);
        }
        Ok(answer.is_ok())
    }

    fn cut(&mut self, seed: u64) -> Result<(), TestCaseError> {
        let mut state = seed | 1;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % below
        };
        let root = self.directory.path();
        self.fs.cut(root, &mut random);
        self.fs = PowerFs::settled(root);
        self.shard = shard(root, self.fs.clone());
        let mut lost = self.promises.relaxed.drain().collect::<HashSet<_>>();
        lost.extend(self.promises.refused.drain());
        lost.retain(|name| !self.promises.durable.contains(name));
        for name in 0..16 {
            let digest = Digest::of(&content(name));
            match get(&mut self.shard, &digest) {
                Ok(found) => prop_assert_eq!(&*found.blob, content(name)),
                Err(GetError::NotFound(_)) => {
                    prop_assert!(!self.promises.durable.contains(&name), "lost {}", name);
                }
                Err(GetError::Corrupt { .. }) => {
                    prop_assert!(lost.contains(&name), "damaged {}", name);
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
            let entry = self.shard.get_action(&key(name)).unwrap();
            let owed = self.promises.actions.contains(&name);
            prop_assert!(entry.is_some() || !owed, "lost entry {}", name);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_power_cut_takes_nothing_that_was_promised(ops in prop::collection::vec(op(), 1..40), seed in any::<u64>()) {
        let mut rig = Rig::new();
        for op in ops {
            rig.apply(op)?;
        }
        rig.apply(Op::PowerCut(seed))?;
    }
}

/// The kernel tells of an error once: the retry of a put was acknowledged though its pages were lost.
#[test]
fn a_failed_sync_is_not_made_good_by_another() {
    for relaxed_first in [false, true] {
        for name in [2, 3] {
            let mut rig = Rig::new();
            if relaxed_first {
                rig.apply(Op::Put(vec![name], Durability::Relaxed)).unwrap();
            }
            let promise = |rig: &mut Rig| match relaxed_first {
                true => rig.apply(Op::PutAction(name)).unwrap(),
                false => rig.apply(Op::Put(vec![name], Durability::Durable)).unwrap(),
            };
            rig.fs.fail_after(0);
            promise(&mut rig);
            assert!(rig.promises.durable.is_empty() && rig.promises.actions.is_empty());
            promise(&mut rig);
            assert!(rig.promises.durable.contains(&name));
            rig.apply(Op::PowerCut(7)).unwrap();
        }
    }
}

/// With a segment given up, a sync had nothing to do and said that all was well.
#[test]
fn records_of_a_segment_that_was_given_up_are_not_durable() {
    let mut rig = Rig::new();
    rig.apply(Op::Put(vec![2], Durability::Relaxed)).unwrap();
    rig.fs.fail_after(0);
    rig.apply(Op::Put(vec![4], Durability::Durable)).unwrap();
    rig.apply(Op::Checkpoint).unwrap();
    rig.apply(Op::Sync).unwrap();
    assert!(rig.promises.durable.contains(&2));
    rig.apply(Op::PowerCut(7)).unwrap();
}

/// What cannot be read back is told once, and can be put again.
#[test]
fn what_a_failed_sync_has_lost_is_told_and_healed_by_a_put() {
    for name in [2, 3] {
        let mut rig = Rig::new();
        rig.apply(Op::Put(vec![name], Durability::Relaxed)).unwrap();
        rig.fs.fail_after(0);
        rig.apply(Op::Sync).unwrap();
        let digest = Digest::of(&content(name));
        damage(&mut rig.shard, &digest, |bytes| bytes.fill(0));
        assert!(rig.shard.sync().is_err(), "it is lost");
        assert!(!rig.shard.contains(&digest));
        assert!(rig.shard.sync().is_ok());
        rig.apply(Op::Put(vec![name], Durability::Durable)).unwrap();
        rig.apply(Op::PowerCut(7)).unwrap();
    }
}
