//! Small blobs and action entries of one shard, packed into append-only segments.
//!
//! Owns: the segments, the index over them (a table on disk plus the changes since), and its
//! recovery.
//! Does not know: who asks, large blobs, or when to sync.
//! Invariants:
//! 1. segments only grow, and only behind the last complete record; a group whose write failed is
//!    cut off; where a sync failed, nothing follows in that segment, and what it had not made durable
//!    before is not believed to be durable until it was written anew (`durable`);
//! 2. the index is derived: table, then every record behind what the table covers, in order; with
//!    no usable table, every record;
//! 3. a table that is written covers nothing that is not durable, and is not made from a damaged one; a segment is
//!    removed only after a durable table that points nowhere into it, but for one without live records
//!    on a full disk, which costs reading all segments after a crash;
//! 4. a record is believed only if it proves itself, wherever the index says it is.
#![forbid(unsafe_code)]

mod checkpoint;
mod compact;
#[cfg(test)]
mod compact_tests;
mod copy;
mod deflated;
mod durable;
pub(crate) mod fuzzing;
mod index;
mod merge;
mod read;
mod record;
mod recover;
#[cfg(test)]
mod rot_tests;
mod survey;
mod table;
mod walk;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::error::{During, IoFailure};
use crate::fs::Fs;
use crate::staging::Staging;
use crate::stats::{Counters, Usage};

pub(crate) use compact::Rewriting;
pub(crate) use deflated::deflate;
use durable::Copied;
use index::SegmentState;
pub(crate) use index::{Name, Place};
use merge::Merge;
pub(crate) use read::Read;
pub(crate) use record::{HEADER_BYTES, Header, MAGIC as RECORD_MAGIC};
pub(crate) use survey::Survey;
use table::Table;

/// A segment that has reached this is not appended to.
pub(crate) const SEGMENT_BYTES: u32 = 64 * 1024 * 1024;
/// Segments that stay open for reading.
const OPEN_SEGMENTS: usize = 64;
/// The segment that grows.
struct Active {
    number: u32,
    file: File,
    end: u32,
    /// Up to here it is durable.
    durable: u32,
}

/// The packed part of a shard.
pub(crate) struct Packs<F> {
    fs: F,
    directory: PathBuf,
    staging: Arc<Staging>,
    counters: Arc<Counters>,
    table: Option<Table>,
    /// What changed since the table; `None` is a deletion.
    changes: HashMap<Name, Option<Place>>,
    segments: BTreeMap<u32, SegmentState>,
    active: Option<Active>,
    readers: HashMap<u32, File>,
    /// Segments that a compaction could not read in full.
    unreadable: HashSet<u32>,
    usage: Usage,
    /// Whether something was appended since the last sync.
    unsynced: bool,
    /// Segments of which a sync has failed, and from where on that counts.
    doubtful: Vec<(u32, u32)>,
    /// What was copied since the last sync.
    copied: Vec<Copied>,
    /// What a compaction could not copy, and what lay there instead; the shard sets it aside.
    pub(crate) lost: Vec<(Name, Bytes)>,
    /// From where on the segment that grows holds only what is written anew, while that is not durable.
    anew_from: Option<u32>,
    /// The number of the next segment. None has a number that an earlier table covers, also after
    /// the segments with the highest ones are gone.
    next_number: u32,
    /// The segments below this number are finished, as a table on disk may say: what is appended to them is not
    /// looked for.
    finished_below: u32,
    /// Whether a segment was made whose name is not durable yet.
    new_names: bool,
    /// Bytes of records behind the table.
    tail_bytes: u64,
    /// By how many seconds at most the uses that the table knows are too old.
    stale_use_seconds: u32,
}

impl<F: Fs> Packs<F> {
    /// What the packs hold.
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    /// Appends a group of records in one write. They are not in the index before
    /// [`publish`](Self::publish) is called with the places.
    pub(crate) fn append(&mut self, records: &[(Header, Bytes)]) -> Result<Vec<Place>, IoFailure> {
        let size = records.iter().map(|(header, _)| header.record_bytes());
        let size = usize::try_from(size.sum::<u64>()).unwrap_or(usize::MAX);
        let mut buffer = Vec::with_capacity(size);
        let active = self.active_for(size)?;
        let (number, start) = (active.number, active.end);
        let used = seconds(SystemTime::now());
        let mut places = Vec::with_capacity(records.len());
        for (header, payload) in records {
            places.push(Place {
                segment: number,
                offset: start + buffer.len() as u32,
                length: header.length,
                used,
                size: header.content_bytes(payload),
            });
            buffer.extend_from_slice(&header.encode());
            buffer.extend_from_slice(payload);
        }
        let written = self
            .fs
            .write_at(&self.active_ref().file, &buffer, u64::from(start));
        self.unsynced = true;
        if let Err(error) = written {
            self.undo_append(start);
            let path = self.segment_path(number);
            return Err(IoFailure::new("write", &path, error));
        }
        let end = start + buffer.len() as u32;
        self.tail_bytes += buffer.len() as u64;
        if let Some(active) = &mut self.active {
            active.end = end;
        }
        if let Some(state) = self.segments.get_mut(&number) {
            state.end = end;
        }
        Ok(places)
    }

    fn active_ref(&self) -> &Active {
        self.active
            .as_ref()
            .expect("`active_for` made one and nothing between took it")
    }

    /// Cuts a half-written group off; where that fails, the segment gets no more records.
    fn undo_append(&mut self, end: u32) {
        if self.active_ref().file.set_len(u64::from(end)).is_err() {
            self.abandon();
        }
    }

    /// Puts appended records into the index.
    pub(crate) fn publish(&mut self, records: &[(Header, Bytes)], places: &[Place]) {
        for ((header, _), place) in records.iter().zip(places) {
            self.apply(header, *place);
        }
    }

    /// Forgets a record; says whether it was here. The note of it on disk is not synced, and is
    /// left out where the disk is full: a deletion must work then, and a blob that comes back
    /// after a crash does no harm.
    pub(crate) fn remove(&mut self, name: &Name) -> bool {
        if self.find_surely(name).is_none() {
            return false;
        }
        if let Err(failure) = self.append(&[deletion(name)]) {
            tracing::warn!(%failure, "a deletion may be forgotten");
        }
        self.forget(name);
        true
    }

    /// Every record in the order of names.
    pub(crate) fn list(&self) -> impl Iterator<Item = (Name, Place)> + '_ {
        self.list_after(None)
    }

    /// Every record behind a name, in the order of names.
    pub(crate) fn list_after(
        &self,
        after: Option<&Name>,
    ) -> impl Iterator<Item = (Name, Place)> + '_ {
        Merge::new(self.table.as_ref(), &self.changes, after)
    }

    fn segment_path(&self, number: u32) -> PathBuf {
        segment_in(&self.directory, number)
    }

    fn reader(&mut self, number: u32) -> io::Result<&File> {
        if !self.readers.contains_key(&number) {
            if self.readers.len() >= OPEN_SEGMENTS {
                self.readers.clear();
            }
            let file = File::open(self.segment_path(number))?;
            self.readers.insert(number, file);
        }
        Ok(&self.readers[&number])
    }

    /// The segment to append to: the active one, or a new one when that is full.
    fn active_for(&mut self, size: usize) -> Result<&Active, IoFailure> {
        let full = self.active.as_ref().is_some_and(|active| {
            active.end > 0 && active.end as usize + size > SEGMENT_BYTES as usize
        });
        if full {
            self.seal()?;
        }
        if self.active.is_none() {
            self.active = Some(self.create_segment()?);
        }
        Ok(self.active_ref())
    }

    fn create_segment(&mut self) -> Result<Active, IoFailure> {
        let number = self.next_number;
        let path = self.segment_path(number);
        fs::create_dir_all(&self.directory).during("create", &self.directory)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .during("create", &path)?;
        self.segments.insert(number, SegmentState::empty(number));
        self.next_number += 1;
        self.new_names = true;
        Ok(Active {
            number,
            file,
            end: 0,
            durable: 0,
        })
    }

    /// Changes the index by one record.
    fn apply(&mut self, header: &Header, place: Place) {
        let name = (header.hash, header.kind);
        match header.deleted {
            true => self.forget(&name),
            false => self.point(name, place),
        }
    }

    /// Has a name lead to a place.
    fn point(&mut self, name: Name, place: Place) {
        self.forget(&name);
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live_bytes += HEADER_BYTES as u64 + u64::from(place.length);
        }
        self.usage.add(name.1, u64::from(place.length));
        self.changes.insert(name, Some(place));
    }

    fn forget(&mut self, name: &Name) {
        let Some(place) = self.find(name) else { return };
        let record_bytes = HEADER_BYTES as u64 + u64::from(place.length);
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live_bytes = segment.live_bytes.saturating_sub(record_bytes);
        }
        self.usage.subtract(name.1, u64::from(place.length));
        self.changes.insert(*name, None);
    }
}

/// The note that a record is gone.
fn deletion(name: &Name) -> (Header, Bytes) {
    let header = Header {
        kind: name.1,
        deleted: true,
        hash: name.0,
        length: 0,
        deflated: false,
    };
    (header, Bytes::new())
}

fn segment_in(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("{number:08}{SEGMENT_SUFFIX}"))
}

const SEGMENT_SUFFIX: &str = ".seg";
const INDEX: &str = "index";

/// Seconds since 1970, as uses are noted.
pub(crate) fn seconds(time: SystemTime) -> u32 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
    })
}
