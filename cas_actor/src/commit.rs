//! Stores groups of writes so that a crash at any moment leaves the old state or the new one.
//!
//! Owns: the order of writes, syncs and renames, and their grouping; the syncs themselves (`durable`), and what
//! is left to the next process (`notes`).
//! Does not know: whether a blob is present, what an entry means, or who waits.
//! Invariants, in the order in which they hold:
//! 1. large content is complete in a temporary file before anything is renamed;
//! 2. the large content of a durable write is on disk before it is renamed
//!    (`a_failing_sync_names_nothing`); with a durable action entry in the group, so is
//!    everything that the shard acknowledged earlier, before the entry is written;
//! 3. a durable write is answered after its name or its record is on disk;
//! 4. a write that fails leaves neither name nor temporary file, and its record is not in the
//!    index; one whose sync failed may leave its name;
//! 5. what is acknowledged before it is durable is noted before (`notes`), so the next process, or a shard
//!    that is started again, makes it durable before its own next durable entry;
//! 6. what was not durable when a sync failed is written anew before it is called durable: another
//!    sync says nothing of it, since the kernel reports an error once. (Of names that is not so: a
//!    file system that cannot write its directories stops.) Closing does that too; a process that is
//!    killed between takes the knowledge with it, and the next believes its own syncs. So does one that cannot
//!    read what an earlier one has noted, and does not know which files are in doubt when its own sync fails.
#![forbid(unsafe_code)]

mod durable;
pub(crate) mod notes;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;

use self::notes::{Notes, RECORDS};
use crate::digest::HASH_BYTES;
use crate::error::{During, IoFailure};
use crate::fs::Fs;
use crate::layout::{Kind, Layout};
use crate::pack::{Header, Packs};
use crate::staging::{Content, StagedFile, Staging};
use crate::stats::{Counters, count};

/// More files or directories than this are made durable with one sync of the file system, which
/// may have to write what others left unwritten, instead of one call each: 64 files of 2 KiB took
/// 11 ms with fdatasync each and 0.7 ms with syncfs (ext4, virtual disk, nobody else writing).
const SYNC_EACH_UP_TO: usize = 8;

/// Large blobs that are remembered as not durable before they are made so unasked.
const REMEMBER_UNSYNCED: usize = 16 * 1024;

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// After it would survive a power cut.
    #[default]
    Durable,
    /// At once; it survives a killed process, and a power cut after the next action entry that is
    /// put with anything but `Volatile`, or after [`Store::sync`](crate::Store::sync). For build
    /// outputs: the entry that names them makes the group durable.
    Relaxed,
    /// At once; it survives a killed process. After a power cut it may be missing or damaged,
    /// which readers notice by the digest. Nothing waits for the disk, not even action entries.
    Volatile,
}

impl Durability {
    /// The one that promises more.
    pub(crate) fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Durable, _) | (_, Self::Durable) => Self::Durable,
            (Self::Relaxed, _) | (_, Self::Relaxed) => Self::Relaxed,
            (Self::Volatile, Self::Volatile) => Self::Volatile,
        }
    }
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
    durability: Durability,
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
}

impl Group {
    fn holds_durable_entry(&self) -> bool {
        let mut records = self.records.iter().zip(&self.owners);
        records.any(|((header, _), index)| header.kind == Kind::Action && self.durable[*index])
    }
}

/// Whether a shard has acknowledged something that is not durable. Set by the shard, read by the
/// handle, which asks those shards to sync before it has an action entry written.
///
/// Accesses are `Relaxed`: who must see it set has got a message that was sent after that.
pub(crate) type UnsyncedFlag = Arc<AtomicBool>;

/// Commits groups of writes of one shard.
pub(crate) struct Committer<F> {
    pub(crate) fs: F,
    layout: Arc<Layout>,
    pub(crate) staging: Arc<Staging>,
    counters: Arc<Counters>,
    pub(crate) flag: UnsyncedFlag,
    /// What the file system is synced through; opened with the store.
    pub(crate) root: Arc<File>,
    /// Fan directories that exist.
    fans: HashSet<u8>,
    /// Large blobs here of which it is not known that content and name are durable.
    unsynced: HashSet<[u8; HASH_BYTES]>,
    /// Those of them whose content no sync makes durable any more, for one has failed.
    doubtful: HashSet<[u8; HASH_BYTES]>,
    /// Those that could not be read back; the shard sets them aside.
    pub(crate) lost: Vec<[u8; HASH_BYTES]>,
    /// Whether fan directories were made whose names are not durable.
    unsynced_fans: bool,
    /// Whether anything in the store may not be durable: what an earlier shard has noted cannot be read.
    all_unsynced: bool,
    /// For who comes after this shard.
    notes: Notes,
}

type Answers = Vec<Result<(), IoFailure>>;

impl<F: Fs> Committer<F> {
    pub(crate) fn new(
        fs: F,
        layout: Arc<Layout>,
        staging: Arc<Staging>,
        counters: Arc<Counters>,
        flag: UnsyncedFlag,
        root: Arc<File>,
        notes: PathBuf,
    ) -> Self {
        let (notes, left) = Notes::open(notes);
        let mut committer = Self {
            fs,
            layout,
            staging,
            counters,
            flag,
            root,
            fans: HashSet::new(),
            unsynced: HashSet::new(),
            doubtful: HashSet::new(),
            lost: Vec::new(),
            unsynced_fans: false,
            all_unsynced: false,
            notes,
        };
        committer.take_over(&left);
        committer
    }

    /// What an earlier shard has acknowledged before it was durable is for this one to make so.
    fn take_over(&mut self, left: &[[u8; HASH_BYTES]]) {
        for hash in left {
            // Killed before it got its name, or deleted since.
            if self.layout.blob(hash).exists() {
                self.remember(hash);
            }
        }
        if let Some(failure) = self.notes.unread() {
            tracing::warn!(%failure, "everything is synced before the next entry");
            count(&self.counters.corrupt, 1);
            self.all_unsynced = true;
        }
        if !self.notes.is_empty() {
            self.flag.store(true, Relaxed);
        }
    }

    /// Writes a group; the answers are in its order.
    pub(crate) fn commit(&mut self, packs: &mut Packs<F>, group: Vec<Write>) -> Answers {
        count(&self.counters.commits, 1);
        self.settle_unread(packs, &group);
        let group = self.note(group);
        let mut group = self.prepare(group);
        let before = match group.holds_durable_entry() {
            // What this group itself has noted stays so.
            true => self.settle(packs),
            false => Ok(()),
        };
        if let Err(failure) = before.and_then(|()| self.sync_contents(&group.ready)) {
            return vec![Err(failure); group.answers.len()];
        }
        let durable_names = self.name_files(&mut group);
        let synced = self.record(packs, &mut group, &durable_names);
        match synced {
            Ok(()) => durable_names.iter().for_each(|hash| {
                self.unsynced.remove(hash);
            }),
            Err(failure) => {
                for (answer, durable) in group.answers.iter_mut().zip(&group.durable) {
                    if *durable && answer.is_ok() {
                        *answer = Err(failure.clone());
                    }
                }
            }
        }
        if self.unsynced.len() > REMEMBER_UNSYNCED
            && let Err(failure) = self.sync(packs)
        {
            tracing::warn!(%failure, "cannot sync; tried again with the next group");
        }
        self.raise_flag(packs);
        group.answers
    }

    /// While it is not known what is noted, nothing can be added to that.
    fn settle_unread(&mut self, packs: &mut Packs<F>, group: &[Write]) {
        let mut writes = group.iter();
        if self.notes.unread().is_some()
            && writes.any(|write| write.durability == Durability::Relaxed)
            && let Err(failure) = self.sync(packs)
        {
            tracing::warn!(%failure, "cannot sync what an earlier process may have left");
        }
    }

    /// Has the next process know what this group acknowledges before it is durable. What cannot be noted
    /// is made durable at once.
    fn note(&mut self, mut group: Vec<Write>) -> Vec<Write> {
        let is_relaxed = |write: &&Write| write.durability == Durability::Relaxed;
        let names = group
            .iter()
            .filter(is_relaxed)
            .map(|write| match write.what {
                Target::Record(..) => RECORDS,
                Target::File(hash, _) => hash,
            });
        if let Err(failure) = self.notes.add(&names.collect::<Vec<_>>()) {
            tracing::warn!(%failure, "syncing instead");
            let relaxed = group.iter_mut().filter(|write| is_relaxed(&&**write));
            relaxed.for_each(|write| write.durability = Durability::Durable);
        }
        group
    }

    /// A put of this durability has met a large blob that is here, but perhaps not durable: this or an
    /// earlier process may have put it with less. Returns when that put counts as done.
    pub(crate) fn met(&mut self, hash: &[u8; HASH_BYTES], durability: Durability) -> Durability {
        if durability != Durability::Volatile {
            self.remember(hash);
        }
        self.met_noting(*hash, durability)
    }

    /// The same for a record.
    pub(crate) fn met_record(&mut self, packs: &Packs<F>, durability: Durability) -> Durability {
        match packs.is_unsynced() {
            true => self.met_noting(RECORDS, durability),
            false => durability,
        }
    }

    fn met_noting(&mut self, name: [u8; HASH_BYTES], durability: Durability) -> Durability {
        if durability != Durability::Relaxed {
            return durability;
        }
        match self.notes.add(&[name]) {
            Ok(()) => Durability::Relaxed,
            Err(failure) => {
                tracing::warn!(%failure, "syncing instead");
                Durability::Durable
            }
        }
    }

    fn remember(&mut self, hash: &[u8; HASH_BYTES]) {
        self.unsynced.insert(*hash);
        // Who put it may also have made the directory.
        self.unsynced_fans |= self.fans.insert(hash[0]);
        self.flag.store(true, Relaxed);
    }

    /// Whether a sync has failed and what it should have made durable is not written anew yet. The
    /// next process cannot know.
    pub(crate) fn is_in_doubt(&self, packs: &Packs<F>) -> bool {
        !self.doubtful.is_empty() || packs.is_in_doubt()
    }

    /// Says whether something here is not durable: also what an earlier process may have left so. If nothing
    /// is, nothing is noted any more.
    pub(crate) fn raise_flag(&mut self, packs: &Packs<F>) {
        let unsynced = !self.unsynced.is_empty()
            || self.unsynced_fans
            || self.all_unsynced
            || packs.is_unsynced();
        self.flag.store(unsynced, Relaxed);
        if !unsynced {
            self.notes.clear();
        }
    }

    /// Brings large contents into temporary files and gathers the records.
    fn prepare(&self, writes: Vec<Write>) -> Group {
        let mut group = Group::default();
        for (index, write) in writes.into_iter().enumerate() {
            group.answers.push(Ok(()));
            let durable = write.durability == Durability::Durable;
            group.durable.push(durable);
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
                        durability: write.durability,
                        hash,
                    }),
                },
            }
        }
        group
    }

    /// Renames the large contents; returns the hashes whose names must be synced.
    fn name_files(&mut self, group: &mut Group) -> Vec<[u8; HASH_BYTES]> {
        let mut durable = Vec::new();
        for ready in std::mem::take(&mut group.ready) {
            let (index, durability, hash) = (ready.index, ready.durability, ready.hash);
            if let Err(failure) = self.name(ready) {
                group.answers[index] = Err(failure);
                continue;
            }
            // Another file has the name now.
            self.doubtful.remove(&hash);
            if durability != Durability::Volatile {
                self.unsynced.insert(hash);
            }
            if durability == Durability::Durable {
                durable.push(hash);
            }
        }
        durable
    }

    /// Appends the records and makes names and records durable. The error is that of the sync;
    /// records that could not be written have their answers.
    fn record(
        &mut self,
        packs: &mut Packs<F>,
        group: &mut Group,
        names: &[[u8; HASH_BYTES]],
    ) -> Result<(), IoFailure> {
        let must_sync = group.owners.iter().any(|index| group.durable[*index]);
        // Behind the group, what is written anew would win over it at the next opening.
        let settled = match must_sync && packs.is_in_doubt() {
            true => packs.sync(),
            false => Ok(()),
        };
        let appended = settled.and_then(|()| match group.records.is_empty() {
            true => Ok(Vec::new()),
            false => packs.append(&group.records),
        });
        let synced = self.sync_names(names).and_then(|()| match &appended {
            Ok(_) if must_sync => packs.sync(),
            _ => Ok(()),
        });
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

    fn sync_contents(&mut self, ready: &[Ready]) -> Result<(), IoFailure> {
        let durable = ready
            .iter()
            .filter(|ready| ready.durability == Durability::Durable);
        if durable.clone().count() > SYNC_EACH_UP_TO {
            return self.sync_everything();
        }
        for StagedFile { path, file } in durable.map(|ready| &ready.staged) {
            count(&self.counters.fsyncs, 1);
            self.fs.sync_file(file).during("sync", path.as_path())?;
        }
        Ok(())
    }

    /// Renames a staged file to its name.
    fn name(&mut self, ready: Ready) -> Result<(), IoFailure> {
        let path = self.layout.blob(&ready.hash);
        let fan = self.layout.fan(ready.hash[0]);
        if !self.fans.contains(&ready.hash[0]) {
            // Also when it is there: an earlier process may have been killed before its sync.
            make_directory(&fan)?;
            self.unsynced_fans = true;
            self.fans.insert(ready.hash[0]);
        }
        let StagedFile { path: temp, file } = ready.staged;
        set_read_only(&file);
        self.fs
            .rename(temp.as_path(), &path)
            .during("write", &path)?;
        temp.named();
        Ok(())
    }
}

/// Guards against tools that edit files in place. A failure is harmless.
fn set_read_only(file: &File) {
    let _ = rustix::fs::fchmod(file, rustix::fs::Mode::from_raw_mode(0o444));
}

fn make_directory(path: &Path) -> Result<(), IoFailure> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.during("create", path),
    }
}
