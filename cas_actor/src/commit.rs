//! Stores groups of writes so that a crash at any moment leaves the old state or the new one.
//!
//! Owns: the order of writes, syncs and renames, and their grouping.
//! Does not know: whether a blob is present, what an entry means, or who waits.
//! Invariants, in the order in which they hold:
//! 1. large content is complete in a temporary file before anything is renamed;
//! 2. with a durable write in the group, every large content of the group and everything unsynced
//!    from earlier is on disk before the first rename or record
//!    (`a_failing_sync_names_nothing`);
//! 3. a durable write is answered after its name or its record is on disk;
//! 4. a write that fails leaves neither name nor temporary file, and its record is not in the
//!    index.
#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;

use crate::digest::HASH_BYTES;
use crate::error::{During, IoFailure};
use crate::fs::Fs;
use crate::layout::Layout;
use crate::pack::{Header, Packs};
use crate::staging::{Content, StagedFile, Staging};
use crate::stats::{Counters, count};

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// After it would survive a power cut.
    #[default]
    Durable,
    /// At once; it survives a killed process, and a power cut after the next durable write that
    /// follows it (an action entry that points to it, or [`Store::sync`](crate::Store::sync)).
    /// For build outputs: the entry that names them makes the group durable.
    Relaxed,
    /// At once; it survives a killed process. After a power cut it may be missing or damaged,
    /// which readers notice by the digest. Nothing waits for the disk, not even action entries.
    Volatile,
}

/// One thing to be written.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) what: Target,
    pub(crate) durability: Durability,
}

/// Where it goes.
#[derive(Debug)]
pub(crate) enum Target {
    /// A record in the packs.
    Record(Header, Bytes),
    /// A file of its own.
    File([u8; HASH_BYTES], Content),
}

/// A large content, complete in a temporary file.
struct Ready {
    /// Its place in the group.
    index: usize,
    staged: StagedFile,
    durable: bool,
    hash: [u8; HASH_BYTES],
}

/// A group on its way.
#[derive(Default)]
struct Group {
    answers: Answers,
    /// Which writes are answered after a sync.
    durable: Vec<bool>,
    ready: Vec<Ready>,
    records: Vec<(Header, Bytes)>,
    /// The place in the group of each record.
    owners: Vec<usize>,
    /// Whether the group leaves something behind that a later sync must cover.
    unsynced: bool,
}

/// Counts what all shards of a store have written without syncing, and how much of that a sync
/// has covered since. One sync of the file system covers every shard.
///
/// All accesses are `Relaxed`: who must see a count has got a message that was sent after it.
#[derive(Debug)]
pub(crate) struct Unsynced {
    written: AtomicU64,
    synced: AtomicU64,
}

impl Unsynced {
    /// Starts as unsynced: an earlier process may have been killed before its sync.
    pub(crate) fn new() -> Self {
        Self {
            written: AtomicU64::new(1),
            synced: AtomicU64::new(0),
        }
    }

    fn add(&self) {
        self.written.fetch_add(1, Relaxed);
    }

    fn any(&self) -> bool {
        self.written.load(Relaxed) > self.synced.load(Relaxed)
    }
}

/// Commits groups of writes of one shard.
pub(crate) struct Committer<F> {
    pub(crate) fs: F,
    layout: Arc<Layout>,
    pub(crate) staging: Arc<Staging>,
    counters: Arc<Counters>,
    unsynced: Arc<Unsynced>,
    /// Fan directories that exist.
    fans: HashSet<u8>,
}

type Answers = Vec<Result<(), IoFailure>>;

impl<F: Fs> Committer<F> {
    pub(crate) fn new(
        fs: F,
        layout: Arc<Layout>,
        staging: Arc<Staging>,
        counters: Arc<Counters>,
        unsynced: Arc<Unsynced>,
    ) -> Self {
        Self {
            fs,
            layout,
            staging,
            counters,
            unsynced,
            fans: HashSet::new(),
        }
    }

    /// Writes a group; the answers are in its order.
    pub(crate) fn commit(&mut self, packs: &mut Packs<F>, group: Vec<Write>) -> Answers {
        count(&self.counters.commits, 1);
        let mut group = self.prepare(group);
        if group.durable.contains(&true)
            && let Err(failure) = self.sync_contents(&group.ready)
        {
            return vec![Err(failure); group.answers.len()];
        }
        let directories = self.name_files(&mut group);
        let synced = self.record(packs, &mut group, &directories);
        if let Err(failure) = synced {
            group.unsynced = true;
            for (answer, durable) in group.answers.iter_mut().zip(&group.durable) {
                if *durable && answer.is_ok() {
                    *answer = Err(failure.clone());
                }
            }
        }
        if group.unsynced {
            self.unsynced.add();
        }
        group.answers
    }

    /// Brings large contents into temporary files and gathers the records.
    fn prepare(&self, writes: Vec<Write>) -> Group {
        let mut group = Group::default();
        for (index, write) in writes.into_iter().enumerate() {
            group.answers.push(Ok(()));
            let durable = write.durability == Durability::Durable;
            group.durable.push(durable);
            group.unsynced |= write.durability == Durability::Relaxed;
            match write.what {
                Target::Record(header, payload) => {
                    group.records.push((header, payload));
                    group.owners.push(index);
                }
                Target::File(hash, content) => match self.stage(content) {
                    Err(failure) => group.answers[index] = Err(failure),
                    Ok(staged) => group.ready.push(Ready {
                        index,
                        staged,
                        durable,
                        hash,
                    }),
                },
            }
        }
        group
    }

    /// Renames the large contents; returns the directories that must be synced.
    fn name_files(&mut self, group: &mut Group) -> BTreeSet<PathBuf> {
        let mut directories = BTreeSet::new();
        for ready in std::mem::take(&mut group.ready) {
            let (index, durable) = (ready.index, ready.durable);
            let mut touched = BTreeSet::new();
            match self.name(ready, &mut touched) {
                Err(failure) => group.answers[index] = Err(failure),
                Ok(()) if durable => directories.append(&mut touched),
                // A new directory: others may rely on its name later.
                Ok(()) => group.unsynced |= touched.len() > 1,
            }
        }
        directories
    }

    /// Appends the records and makes names and records durable. The error is that of the sync;
    /// records that could not be written have their answers.
    fn record(
        &self,
        packs: &mut Packs<F>,
        group: &mut Group,
        directories: &BTreeSet<PathBuf>,
    ) -> Result<(), IoFailure> {
        let must_sync = group.owners.iter().any(|index| group.durable[*index]);
        let appended = match group.records.is_empty() {
            true => Ok(Vec::new()),
            false => packs.append(&group.records),
        };
        let synced = match &appended {
            Ok(_) if must_sync => self.sync_names(directories, Some(packs)),
            _ => self.sync_names(directories, None),
        };
        let failure = match (appended, &synced) {
            (Err(failure), _) => failure,
            (Ok(_), Err(failure)) if must_sync => {
                packs.abandon();
                failure.clone()
            }
            (Ok(places), _) => {
                packs.publish(&group.records, &places);
                return synced;
            }
        };
        for index in &group.owners {
            group.answers[*index] = Err(failure.clone());
        }
        synced
    }

    /// Makes everything durable that was acknowledged earlier as relaxed.
    pub(crate) fn sync(&mut self) -> Result<(), IoFailure> {
        match self.unsynced.any() {
            true => self.sync_everything(),
            false => Ok(()),
        }
    }

    fn stage(&self, content: Content) -> Result<StagedFile, IoFailure> {
        match content {
            Content::Staged(staged) => Ok(staged),
            Content::Bytes(bytes) => {
                let path = self.staging.path();
                let file = self
                    .fs
                    .write_new(path.as_path(), &bytes)
                    .during("write", path.as_path())?;
                Ok(StagedFile { path, file })
            }
        }
    }

    /// One fdatasync for a single file, one journal commit for many: 64 files of 2 KiB took
    /// 11 ms with fdatasync each and 0.7 ms with syncfs (ext4, virtual disk).
    fn sync_contents(&self, ready: &[Ready]) -> Result<(), IoFailure> {
        let mut durable = ready.iter().filter(|ready| ready.durable);
        match (self.unsynced.any(), durable.next(), durable.next()) {
            (false, None, _) => Ok(()),
            (false, Some(only), None) => {
                count(&self.counters.fsyncs, 1);
                let StagedFile { path, file } = &only.staged;
                self.fs.sync_file(file).during("sync", path.as_path())
            }
            _ => self.sync_everything(),
        }
    }

    /// Makes names, and what was appended to the packs, durable.
    fn sync_names(
        &self,
        directories: &BTreeSet<PathBuf>,
        packs: Option<&mut Packs<F>>,
    ) -> Result<(), IoFailure> {
        match (directories.len(), directories.first(), packs) {
            (0, _, None) => Ok(()),
            (0, _, Some(packs)) => packs.sync(),
            (1, Some(only), None) => {
                count(&self.counters.fsyncs, 1);
                self.fs.sync_directory(only).during("sync", only)
            }
            _ => self.sync_everything(),
        }
    }

    fn sync_everything(&self) -> Result<(), IoFailure> {
        count(&self.counters.fsyncs, 1);
        let covered = self.unsynced.written.load(Relaxed);
        let root = self.layout.root();
        self.fs.sync_all(root).during("sync", root)?;
        self.unsynced.synced.fetch_max(covered, Relaxed);
        Ok(())
    }

    /// Renames a staged file to its name. `touched` gets the directory, and its parent when the
    /// directory had to be made.
    fn name(&mut self, ready: Ready, touched: &mut BTreeSet<PathBuf>) -> Result<(), IoFailure> {
        let path = self.layout.blob(&ready.hash);
        let fan = self.layout.fan(ready.hash[0]);
        if !self.fans.contains(&ready.hash[0]) {
            if make_directory(&fan)? {
                touched.insert(self.layout.blobs());
            }
            self.fans.insert(ready.hash[0]);
        }
        let StagedFile { path: temp, file } = ready.staged;
        set_read_only(&file);
        self.fs
            .rename(temp.as_path(), &path)
            .during("write", &path)?;
        temp.named();
        touched.insert(fan);
        Ok(())
    }
}

/// Guards against tools that edit files in place. A failure is harmless.
fn set_read_only(file: &File) {
    let _ = rustix::fs::fchmod(file, rustix::fs::Mode::from_raw_mode(0o444));
}

/// Says whether the directory is new.
fn make_directory(path: &Path) -> Result<bool, IoFailure> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(IoFailure::new("create", path, error)),
    }
}
