//! The shard's core under power cuts: what was not synced may be lost, cut short, or garbage.
//!
//! Killing a process leaves the page cache alone, so it cannot show a missing sync. [`PowerFs`]
//! can: it notes what was made durable, and [`PowerFs::cut`] harms everything else.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
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
use crate::shard_tests::{PACKED, get, shard};
use crate::staging::Verified;

/// What is on the platter.
#[derive(Debug, Default)]
struct Durable {
    /// Bytes of each inode that were synced.
    bytes: HashMap<u64, u64>,
    /// Names that lead to an inode, directories included.
    names: HashSet<(PathBuf, u64)>,
}

/// The operating system, with notes on what it was made to keep.
#[derive(Debug, Clone, Default)]
struct PowerFs(Arc<Mutex<Durable>>);

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

    fn note_names(&self, directory: &Path) {
        let mut durable = self.0.lock().unwrap();
        for path in entries(directory) {
            let inode = fs::metadata(&path).unwrap().ino();
            durable.names.insert((path, inode));
        }
    }

    /// Harms what was not synced, as `random` decides.
    fn cut(&self, directory: &Path, random: &mut impl FnMut(u64) -> u64) {
        for path in entries(directory) {
            let metadata = fs::metadata(&path).unwrap();
            let name = (path.clone(), metadata.ino());
            let durable = self.0.lock().unwrap();
            let (named, kept) = (
                durable.names.contains(&name),
                durable.bytes.get(&metadata.ino()).copied().unwrap_or(0),
            );
            drop(durable);
            match (named, metadata.is_dir()) {
                (false, true) if random(2) == 0 => fs::remove_dir_all(&path).unwrap(),
                (false, false) if random(2) == 0 => fs::remove_file(&path).unwrap(),
                (_, true) => self.cut(&path, random),
                (_, false) => harm(&path, kept, metadata.len(), random),
            }
        }
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
    fn sync_file(&self, file: &File) -> io::Result<()> {
        self.note_bytes(file);
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.note_names(path);
        Ok(())
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        self.note_tree(path);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.rename(from, to)
    }
}

#[derive(Debug, Clone)]
enum Op {
    Put(Vec<u8>, Durability),
    PutAction(u8),
    Delete(u8),
    Sync,
    Checkpoint,
    Compact,
    Close,
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
        2 => any::<u64>().prop_map(Op::PowerCut),
    ]
}

/// Half of the names are large blobs.
fn content(name: u8) -> Vec<u8> {
    vec![name; 500 * usize::from(name) + PACKED * usize::from(name % 2)]
}

fn key(name: u8) -> [u8; 32] {
    [name; 32]
}

/// What the store owes its callers.
#[derive(Default)]
struct Promises {
    /// Acknowledged, and due after a power cut.
    durable: HashSet<u8>,
    /// Acknowledged, and due after the next entry or sync.
    relaxed: HashSet<u8>,
    actions: HashSet<u8>,
}

impl Promises {
    fn settle(&mut self) {
        self.durable.extend(self.relaxed.drain());
    }
}

struct Rig {
    directory: tempfile::TempDir,
    fs: PowerFs,
    shard: Shard<PowerFs>,
    promises: Promises,
}

impl Rig {
    fn new() -> Self {
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

    fn apply(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Put(names, durability) => {
                let blob = |name: &u8| Verified::hash(content(*name).into(), Hasher::new());
                let puts = names.iter().map(|name| Put::Blob(blob(name), durability));
                for answer in self.shard.put_group(puts.collect()) {
                    answer.unwrap();
                }
                match durability {
                    Durability::Durable => self.promises.durable.extend(names),
                    _ => self.promises.relaxed.extend(names),
                }
            }
            Op::PutAction(name) => {
                let entry = ActionEntry::new(vec![name]).encode(&key(name));
                let put = Put::Action(key(name), entry.into(), Durability::Durable);
                self.shard.put_group(vec![put]).remove(0).unwrap();
                self.promises.settle();
                self.promises.actions.insert(name);
            }
            Op::Delete(name) => {
                self.shard.delete(&Digest::of(&content(name))).unwrap();
                self.promises.durable.remove(&name);
                self.promises.relaxed.remove(&name);
            }
            Op::Sync => {
                self.shard.sync().unwrap();
                self.promises.settle();
            }
            Op::Checkpoint => self.shard.open_packs().unwrap().0.checkpoint().unwrap(),
            Op::Compact => drop(self.shard.open_packs().unwrap().0.compact(90).unwrap()),
            Op::Close => self.shard.close(),
            Op::PowerCut(seed) => self.cut(seed)?,
        }
        Ok(())
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
        let lost = self.promises.relaxed.drain().collect::<HashSet<_>>();
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
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_power_cut_takes_nothing_that_was_promised(ops in prop::collection::vec(op(), 1..40), seed in any::<u64>()) {
        let mut rig = Rig::new();
        for op in ops {
            rig.apply(op)?;
        }
        rig.apply(Op::PowerCut(seed))?;
    }
}
