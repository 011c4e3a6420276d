//! Uploads that were interrupted, kept so that they can be gone on with, also after a restart.
//!
//! Owns: their directory, who writes to which of them, and what is kept for how long.
//! Does not know: protocols. An upload has an id that its protocol chooses.
//! Invariants: at most one upload writes to an id; a file holds the first bytes of a content and
//! nothing else is remembered, so what is gone on with is read and hashed again, and the end proves
//! all of it; what nobody goes on with is bounded in number, bytes and age.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::error::{During, IoFailure};
use crate::ingest::Upload;
use crate::layout::{Layout, PartialId};
use crate::name::BlobName;
use crate::staging::StagedFile;
use crate::store::Store;

/// Interrupted uploads of one store: many tiny ones are many files.
const MOST: usize = 4096;

/// How much is kept of what was interrupted, beside what the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialConfig {
    /// Bytes of all of them; beyond, the one that was interrupted first is dropped.
    pub max_bytes: u64,
    /// How long one is kept.
    pub max_age: Duration,
}

impl Default for PartialConfig {
    /// 4 GiB, for a day.
    fn default() -> Self {
        Self {
            max_bytes: 4 * 1024 * 1024 * 1024,
            max_age: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// Why an upload cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResumeError {
    /// There is none, or it was dropped: start again.
    #[error("no such upload; start again at offset 0")]
    Unknown,
    /// Somebody else writes to it now: try again.
    #[error("this upload goes on over another connection")]
    Busy,
    /// There is not so much of it: go on earlier.
    #[error("this upload goes on at offset {written_bytes}")]
    Ahead {
        /// What there is.
        written_bytes: u64,
    },
    /// The disk failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
}

/// One that nobody writes to.
#[derive(Debug, Clone, Copy)]
struct Kept {
    bytes: u64,
    since: SystemTime,
}

#[derive(Debug, Default)]
struct State {
    busy: HashSet<PartialId>,
    kept: HashMap<PartialId, Kept>,
}

/// The interrupted uploads of one store.
#[derive(Debug)]
pub(crate) struct Partials {
    layout: Layout,
    config: PartialConfig,
    state: Mutex<State>,
}

impl Partials {
    /// Finds what an earlier process has left. Only under the lock of the store.
    pub(crate) fn open(layout: Layout, config: PartialConfig) -> Result<Arc<Self>, IoFailure> {
        let directory = layout.partials();
        fs::create_dir_all(&directory).during("create", &directory)?;
        let mut kept = HashMap::new();
        for entry in fs::read_dir(&directory).during("list", &directory)? {
            let entry = entry.during("list", &directory)?;
            let id = Layout::partial_id_of(&entry.file_name());
            if let (Some(id), Ok(metadata)) = (id, entry.metadata()) {
                let bytes = metadata.len();
                let since = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                kept.insert(id, Kept { bytes, since });
            }
        }
        let state = State {
            kept,
            ..State::default()
        };
        let partials = Arc::new(Self {
            layout,
            config,
            state: Mutex::new(state),
        });
        partials.sweep(SystemTime::now());
        Ok(partials)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what is too old or too much.
    pub(crate) fn sweep(&self, now: SystemTime) {
        let mut state = self.lock();
        let mut by_age: Vec<(SystemTime, PartialId)> = state
            .kept
            .iter()
            .map(|(id, kept)| (kept.since, *id))
            .collect();
        by_age.sort_unstable();
        let mut bytes: u64 = state.kept.values().map(|kept| kept.bytes).sum();
        for (since, id) in by_age {
            let age = now.duration_since(since).unwrap_or_default();
            let is_much = bytes > self.config.max_bytes || state.kept.len() > MOST;
            if !is_much && age <= self.config.max_age {
                break;
            }
            if let Some(dropped) = state.kept.remove(&id) {
                bytes -= dropped.bytes;
                self.remove(&id);
            }
        }
    }

    fn remove(&self, id: &PartialId) {
        let path = self.layout.partial(id);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove an interrupted upload");
        }
    }

    /// Makes the caller the only one who writes to `id`; what was kept of it is the caller's.
    fn claim(self: &Arc<Self>, id: PartialId) -> Option<(Slot, Option<Kept>)> {
        let mut state = self.lock();
        let slot = state.busy.insert(id).then(|| Slot {
            partials: Arc::clone(self),
            id,
            keep: true,
        })?;
        Some((slot, state.kept.remove(&id)))
    }

    /// How many bytes of an upload are here.
    fn written_bytes(&self, id: &PartialId) -> Option<u64> {
        let state = self.lock();
        if let Some(kept) = state.kept.get(id) {
            return Some(kept.bytes);
        }
        if !state.busy.contains(id) {
            return None;
        }
        // The first bytes wait in memory, and there is no file yet.
        let metadata = fs::metadata(self.layout.partial(id));
        Some(metadata.map_or(0, |metadata| metadata.len()))
    }
}

/// The right to write to one id.
#[derive(Debug)]
pub(crate) struct Slot {
    partials: Arc<Partials>,
    id: PartialId,
    keep: bool,
}

impl Slot {
    pub(crate) fn path(&self) -> PathBuf {
        self.partials.layout.partial(&self.id)
    }

    /// A new file for the content.
    pub(crate) fn create(self) -> Result<StagedFile, IoFailure> {
        let path = self.path();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(&path).during("create", &path)?;
        Ok(StagedFile::in_slot(self, file))
    }

    /// From now on the file is not worth keeping.
    pub(crate) fn discard(&mut self) {
        self.keep = false;
    }

    /// Whether the file is to stay when nobody writes to it.
    pub(crate) fn keeps(&self) -> bool {
        self.keep
    }

    /// The file stays, for somebody to go on with.
    pub(crate) fn put_back(self) {
        let metadata = fs::metadata(self.path());
        let bytes = metadata.map_or(0, |metadata| metadata.len());
        let partials = Arc::clone(&self.partials);
        if bytes > 0 {
            let since = SystemTime::now();
            partials.lock().kept.insert(self.id, Kept { bytes, since });
        } else {
            partials.remove(&self.id);
        }
        drop(self);
        partials.sweep(SystemTime::now());
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.partials.lock().busy.remove(&self.id);
    }
}

impl Store {
    /// Starts an upload of what `name` says. If it is dropped before its end, what has come is
    /// kept under `id`; what was kept there before is forgotten.
    pub(crate) fn begin_partial(&self, id: PartialId, name: BlobName) -> Upload {
        let upload = self.upload_as(name);
        match self.inner.partials.claim(id) {
            Some((slot, kept)) => {
                if kept.is_some() {
                    self.inner.partials.remove(&id);
                }
                upload.in_slot(slot)
            }
            // Somebody else's connection is still open: both may finish, one may be gone on with.
            None => upload,
        }
    }

    /// Goes on with an upload at `written_bytes`; what was kept beyond that is forgotten. Reads and
    /// hashes what there is, on this thread.
    pub(crate) fn resume_partial(
        &self,
        id: PartialId,
        name: BlobName,
        written_bytes: u64,
    ) -> Result<Upload, ResumeError> {
        let claimed = self.inner.partials.claim(id);
        let (slot, kept) = claimed.ok_or(ResumeError::Busy)?;
        let kept = kept.ok_or(ResumeError::Unknown)?;
        let path = slot.path();
        let file = match File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) => {
                slot.put_back();
                return Err(IoFailure::new("open", &path, error).into());
            }
        };
        if kept.bytes < written_bytes {
            slot.put_back();
            return Err(ResumeError::Ahead {
                written_bytes: kept.bytes,
            });
        }
        let staged = StagedFile::in_slot(slot, file);
        staged.file.set_len(written_bytes).during("cut", &path)?;
        Ok(self.upload_as(name).with_beginning(staged)?)
    }

    /// How many bytes of an upload are here; `None` when it is not known.
    pub(crate) fn partial_bytes(&self, id: &PartialId) -> Option<u64> {
        self.inner.partials.written_bytes(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const HOUR: Duration = Duration::from_secs(3600);
    const CONFIG: PartialConfig = PartialConfig {
        max_bytes: 250,
        max_age: HOUR,
    };

    fn open(root: &std::path::Path) -> Arc<Partials> {
        Partials::open(Layout::new(root.into()), CONFIG).unwrap()
    }

    fn interrupt(partials: &Arc<Partials>, number: u8, bytes: usize) {
        let (slot, _) = partials.claim([number; 32]).unwrap();
        let mut staged = slot.create().unwrap();
        staged.file.write_all(&vec![number; bytes]).unwrap();
    }

    /// Without a descriptor to spare, for one.
    #[test]
    fn an_upload_that_cannot_be_opened_now_can_be_gone_on_with_later() {
        let directory = tempfile::tempdir().unwrap();
        let system = actor_rt::System::new().unwrap();
        let config = crate::StoreConfig::new(directory.path());
        let store = Store::open(config, &system).unwrap();
        let (id, content) = ([1; 32], vec![7; 200_000]);
        let name = BlobName::from(crate::Digest::of(&content));
        let mut upload = store.begin_partial(id, name);
        upload.write(&content[..150_000]).unwrap();
        drop(upload);
        let path = Layout::new(directory.path().into()).partial(&id);
        let away = directory.path().join("away");
        fs::rename(&path, &away).unwrap();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), "").unwrap();
        let failed = store.resume_partial(id, name, 1000);
        assert!(matches!(failed, Err(ResumeError::Io(_))));
        fs::remove_dir_all(&path).unwrap();
        fs::rename(&away, &path).unwrap();
        let upload = store.resume_partial(id, name, 1000).unwrap();
        assert_eq!(upload.written_bytes(), 1000);
    }

    fn kept(partials: &Partials) -> Vec<u8> {
        let directory = fs::read_dir(partials.layout.partials()).unwrap();
        let names = directory.map(|entry| entry.unwrap().file_name());
        let ids = names.filter_map(|name| Layout::partial_id_of(&name));
        let mut numbers: Vec<u8> = ids.map(|id| id[0]).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn what_nobody_goes_on_with_is_bounded_in_bytes_and_age() {
        let directory = tempfile::tempdir().unwrap();
        let partials = open(directory.path());
        for number in 0..5 {
            interrupt(&partials, number, 100);
        }
        assert_eq!(kept(&partials), [3, 4]);
        assert_eq!(partials.written_bytes(&[4; 32]), Some(100));
        assert_eq!(partials.written_bytes(&[0; 32]), None);
        let kept_since = |bytes| Kept {
            bytes,
            since: SystemTime::now(),
        };
        for number in 0..2 * MOST {
            let id = *blake3::hash(&number.to_le_bytes()).as_bytes();
            partials.lock().kept.insert(id, kept_since(0));
        }
        partials.sweep(SystemTime::now());
        assert_eq!(partials.lock().kept.len(), MOST);
        partials.sweep(SystemTime::now() + 2 * HOUR);
        assert!(kept(&partials).is_empty());
        // Nothing came: there is nothing to go on with.
        interrupt(&partials, 7, 0);
        assert!(kept(&partials).is_empty());
    }

    #[test]
    fn what_an_earlier_process_has_left_is_found_unless_it_is_too_old() {
        let directory = tempfile::tempdir().unwrap();
        let partials = open(directory.path());
        interrupt(&partials, 1, 10);
        interrupt(&partials, 2, 20);
        let old = File::options()
            .write(true)
            .open(partials.layout.partial(&[1; 32]))
            .unwrap();
        old.set_modified(SystemTime::now() - 2 * HOUR).unwrap();
        let stranger = partials.layout.partials().join("stranger");
        fs::write(&stranger, "x").unwrap();
        drop(partials);
        let partials = open(directory.path());
        assert_eq!(kept(&partials), [2]);
        assert_eq!(partials.written_bytes(&[2; 32]), Some(20));
        assert!(stranger.exists(), "what no store wrote is not ours");
    }

    #[test]
    fn only_one_writes_and_what_is_discarded_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let partials = open(directory.path());
        let (slot, kept_before) = partials.claim([1; 32]).unwrap();
        assert!(kept_before.is_none() && partials.claim([1; 32]).is_none());
        assert_eq!(partials.written_bytes(&[1; 32]), Some(0));
        let mut staged = slot.create().unwrap();
        staged.file.write_all(b"content").unwrap();
        assert_eq!(partials.written_bytes(&[1; 32]), Some(7));
        staged.path.discard();
        drop(staged);
        assert!(kept(&partials).is_empty());
        assert!(partials.claim([1; 32]).is_some());
    }
}
