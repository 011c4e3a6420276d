//! Opening packs: the table, then what was appended behind it.
//!
//! Owns: which files of the directory count, and reading their records.
//! Does not know: how the index is used afterwards.
//! Invariants: opening loses no complete record, whatever state a killed process left; a table that
//! one opening refused is believed by no later one; nothing is appended behind what could not be read, where
//! a record may end that reaches further, nor behind a header that is lost; behind a header that is lost, up to the end of the segment, only
//! blobs are believed, which their hashes prove: of anything else there is none then, nor an older one as long as that segment is there.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::checkpoint::CHECKPOINT_BYTES;
use super::index::{self, SegmentState};
use super::record::{Met, scan};
use super::table::Table;
use super::walk::read_around;
use super::{Active, INDEX, Packs, Place, SEGMENT_SUFFIX, seconds};
use crate::error::{During, IoFailure};
use crate::fs::Fs;
use crate::layout::Kind;
use crate::staging::Staging;
use crate::stats::{Counters, Usage, count};

impl<F: Fs> Packs<F> {
    /// Opens the packs in `directory`, which need not exist.
    pub(crate) fn open(
        fs: F,
        directory: PathBuf,
        staging: Arc<Staging>,
        counters: Arc<Counters>,
    ) -> Result<Self, IoFailure> {
        let found = segments_in(&directory)?;
        let table = read_table(&directory)?.filter(|table| covers(table, &found));
        if table.is_none() {
            remove_table(&fs, &directory, &counters)?;
        }
        let mut packs = Self {
            fs,
            directory,
            staging,
            counters,
            usage: table.as_ref().map_or_else(Usage::default, Table::usage),
            table,
            changes: HashMap::new(),
            segments: BTreeMap::new(),
            active: None,
            readers: HashMap::new(),
            unreadable: HashSet::new(),
            unsynced: false,
            doubtful: Vec::new(),
            copied: Vec::new(),
            lost: Vec::new(),
            anew_from: None,
            next_number: 1,
            finished_below: 0,
            new_names: false,
            tail_bytes: 0,
            stale_use_seconds: 0,
        };
        if let Some(table) = &packs.table {
            let known = table.segments().iter();
            // One that was empty may be gone: a sync failed that should have made its first records durable.
            let known = known.filter(|state| state.end > 0 || found.contains_key(&state.number));
            packs.segments = known.map(|state| (state.number, *state)).collect();
        }
        let mut is_whole = true;
        for number in found.keys() {
            is_whole = packs.recover_segment(*number)?;
        }
        let behind = packs.segments.keys().next_back().map_or(1, |last| last + 1);
        let covered = packs
            .table
            .as_ref()
            .map_or(0, |table| table.covered().segment);
        packs.next_number = behind.max(covered);
        packs.finished_below = covered;
        packs.resume(&found)?;
        // What the table does not cover may come from a process that was killed before its sync.
        packs.unsynced = packs.tail_bytes > 0;
        // So may a segment without records.
        let is_covered = |active: &Active| active.durable > 0;
        packs.new_names = packs.unsynced || !packs.active.as_ref().is_none_or(is_covered);
        if !is_whole {
            if let Err(failure) = packs.seal() {
                tracing::warn!(%failure, "the records of the last segment are written anew");
            }
            packs.finished_below = packs.next_number;
        }
        if packs.tail_bytes > CHECKPOINT_BYTES / 8
            && let Err(failure) = packs.checkpoint()
        {
            // On a full disk, this opening must go on: to read, and to delete what makes room.
            tracing::warn!(%failure, "cannot write the index; the next opening reads as much again");
        }
        Ok(packs)
    }

    /// Makes the index anew from the segments if the table was damaged since it was opened; says
    /// whether something may be found now that was not. Whatever loses records or writes another table on
    /// the word of this one asks before.
    pub(crate) fn mend_table(&mut self) -> Result<bool, IoFailure> {
        match &self.table {
            None => return Ok(false),
            Some(table) if table.is_intact() => return Ok(table.heal()),
            Some(_) => {}
        }
        // Nothing is in doubt in what is read now.
        self.sync()?;
        let path = self.directory.join(INDEX);
        count(&self.counters.corrupt, 1);
        tracing::warn!(index = %path.display(), "damaged index; reading all segments instead");
        remove_table(&self.fs, &self.directory, &self.counters)?;
        *self = Self::open(
            self.fs.clone(),
            self.directory.clone(),
            Arc::clone(&self.staging),
            Arc::clone(&self.counters),
        )?;
        Ok(true)
    }

    /// Applies the records of one segment that the table does not cover; says whether all of it could be
    /// read, and no header was lost: otherwise what is appended there might not be believed.
    fn recover_segment(&mut self, number: u32) -> Result<bool, IoFailure> {
        let covered = self.table.as_ref().map(Table::covered);
        let start = match covered {
            Some(covered) if number == covered.segment => covered.end as usize,
            Some(covered) if number < covered.segment => {
                if !self.segments.contains_key(&number) {
                    // Compacted away, but the process was killed before it was removed.
                    let path = self.segment_path(number);
                    fs::remove_file(&path).during("remove", &path)?;
                }
                return Ok(true);
            }
            _ => 0,
        };
        self.segments.entry(number).or_insert(SegmentState {
            number,
            end: start as u32,
            live_bytes: 0,
        });
        let path = self.segment_path(number);
        let file = File::open(&path).during("open", &path)?;
        let size_bytes = file.metadata().during("read", &path)?.len();
        if size_bytes <= start as u64 {
            return Ok(true);
        }
        let (bytes, is_read) = read_around(&self.fs, &file, &path, start as u64..size_bytes);
        let used = seconds(SystemTime::now());
        let (mut harmed, mut is_chain) = (0u64, true);
        let end = scan(&bytes, 0, |offset, met| match met {
            // What follows may lie in the payload of a blob, and be what somebody has put there.
            Met::Record(header, _) if !is_chain && !header.is_proven_by_its_hash() => {
                harmed += 1;
                if header.kind != Kind::Blob {
                    self.forget(&(header.hash, header.kind));
                }
            }
            Met::Record(header, payload) => {
                let place = Place {
                    segment: number,
                    offset: (start + offset) as u32,
                    length: header.length,
                    used,
                    size: header.content_bytes(payload),
                };
                self.apply(&header, place);
            }
            // It may be a write that a power cut has torn: then the older one counts.
            Met::Damaged(..) => harmed += 1,
            Met::Gap(_) => {
                harmed += 1;
                is_chain = false;
            }
        });
        if harmed > 0 {
            count(&self.counters.corrupt, harmed);
            tracing::warn!(segment = %path.display(), harmed, "skipped damaged records");
        }
        // What cannot be read today is neither cut off nor written over.
        let end = if is_read { end } else { bytes.len() };
        self.tail_bytes += end as u64;
        if let Some(state) = self.segments.get_mut(&number) {
            state.end = (start + end) as u32;
        }
        Ok(is_read && is_chain)
    }

    /// Goes on appending to the last segment, behind its last complete record, unless the table
    /// covers that segment as one that is finished.
    fn resume(&mut self, found: &BTreeMap<u32, u64>) -> Result<(), IoFailure> {
        let covered = self.table.as_ref().map(Table::covered);
        let finished = covered.map_or(0, |covered| covered.segment);
        let last = self.segments.values().next_back().copied();
        let Some(last) = last.filter(|last| last.number >= finished) else {
            return Ok(());
        };
        let covered = covered.filter(|covered| covered.segment == last.number);
        let covered = covered.map(|covered| covered.end);
        let size_bytes = found.get(&last.number).copied().unwrap_or(0);
        let path = self.segment_path(last.number);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .during("open", &path)?;
        if size_bytes > u64::from(last.end) {
            file.set_len(u64::from(last.end)).during("write", &path)?;
        }
        self.active = Some(Active {
            number: last.number,
            file,
            end: last.end,
            durable: covered.unwrap_or(0),
        });
        Ok(())
    }
}

/// The segments on disk with their sizes in bytes.
fn segments_in(directory: &Path) -> Result<BTreeMap<u32, u64>, IoFailure> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries.during("list", directory)?,
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let entry = entry.during("list", directory)?;
        if let Some(number) = number_of(&entry.file_name()) {
            let metadata = entry.metadata().during("read", &entry.path())?;
            found.insert(number, metadata.len());
        }
    }
    Ok(found)
}

fn number_of(name: &OsStr) -> Option<u32> {
    name.to_str()?.strip_suffix(SEGMENT_SUFFIX)?.parse().ok()
}

fn read_table(directory: &Path) -> Result<Option<Table>, IoFailure> {
    let path = directory.join(INDEX);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.during("open", &path)?,
    };
    if file.metadata().during("read", &path)?.len() == 0 {
        return Ok(None);
    }
    let mut magic = [0; 4];
    if file.read_exact_at(&mut magic, 0).is_ok() && index::is_older(&magic) {
        tracing::info!(index = %path.display(), "an older index; reading all segments once");
        return Ok(None);
    }
    let table = Table::open(file);
    if table.is_none() {
        tracing::warn!(index = %path.display(), "damaged index; reading all segments instead");
    }
    Ok(table)
}

/// Removes a table that is not believed, before anything else is written. Once its segments have grown
/// behind it, nothing would tell that it does not know what lies in them.
fn remove_table<F: Fs>(fs: &F, directory: &Path, counters: &Counters) -> Result<(), IoFailure> {
    let path = directory.join(INDEX);
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed.during("remove", &path)?,
    }
    count(&counters.fsyncs, 1);
    fs.sync_directory(directory).during("sync", directory)
}

/// Whether every segment that a table points into is there in full.
fn covers(table: &Table, found: &BTreeMap<u32, u64>) -> bool {
    let missing = table.segments().iter().find(|state| {
        let size_bytes = found.get(&state.number).copied().unwrap_or(0);
        size_bytes < u64::from(state.end)
    });
    if let Some(state) = missing {
        tracing::warn!(
            segment = state.number,
            "a segment is missing or too short; reading all others anew"
        );
    }
    missing.is_none()
}

#[cfg(test)]
mod tests {
    use super::super::compact_tests::{content, name, open, put};
    use super::super::{Read, deletion};
    use super::*;
    use crate::action::ActionEntry;
    use crate::digest::Digest;
    use crate::fs::RealFs;
    use crate::fs::faulty::{Fault, FaultyFs};
    use crate::pack::Header;
    use crate::power_fs::PowerFs;
    use bytes::Bytes;
    use std::sync::atomic::Ordering::Relaxed;

    /// A segment had been cut off, and grew behind what the table says of it: then the table was believed
    /// again, and what was put meanwhile was gone.
    #[test]
    fn a_table_that_was_refused_is_never_believed_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut packs = open(directory.path(), RealFs);
        for number in 0..10 {
            put(&mut packs, number).unwrap();
        }
        packs.checkpoint().unwrap();
        let segment = packs.segment_path(1);
        drop(packs);
        let file = OpenOptions::new().write(true).open(&segment).unwrap();
        file.set_len(file.metadata().unwrap().len() - 500).unwrap();
        let mut packs = open(directory.path(), RealFs);
        for number in 20..25 {
            put(&mut packs, number).unwrap();
        }
        packs.sync().unwrap();
        drop(packs);
        let mut packs = open(directory.path(), RealFs);
        for number in (0..9).chain(20..25) {
            let read = packs.read(&name(number)).unwrap();
            assert_eq!(read, Read::Intact(content(number)), "{number}");
        }
        assert_eq!(packs.read(&name(9)).unwrap(), Read::Missing, "cut off");
    }

    /// With the header of a blob gone, the records in it were found: who may put blobs, and nothing else, had
    /// put an entry.
    #[test]
    fn behind_a_header_that_is_lost_only_blobs_are_believed() {
        let header = |kind, hash, payload: &[u8]| Header {
            kind,
            deleted: false,
            hash,
            length: payload.len() as u32,
            deflated: false,
        };
        let entry = |key, payload: &str| {
            let encoded = ActionEntry::new(payload.to_owned()).encode(&key);
            (header(Kind::Action, key, &encoded), Bytes::from(encoded))
        };
        let directory = tempfile::tempdir().unwrap();
        let mut packs = open(directory.path(), RealFs);
        put(&mut packs, 1).unwrap();
        let (forged, payload) = entry([7; 32], "forged");
        let forged = [&forged.encode()[..], &payload].concat();
        let outer = header(Kind::Blob, *Digest::of(&forged).hash(), &forged);
        let records = [
            entry([8; 32], "old"),
            entry([9; 32], "kept"),
            (outer, forged.into()),
            entry([8; 32], "new"),
        ];
        let places = packs.append(&records).unwrap();
        packs.publish(&records, &places);
        put(&mut packs, 2).unwrap();
        packs.sync().unwrap();
        let segment = packs.segment_path(1);
        drop(packs);
        let file = OpenOptions::new().write(true).open(&segment).unwrap();
        file.write_all_at(&[0; 8], u64::from(places[2].offset))
            .unwrap();
        let packs = open(directory.path(), RealFs);
        let is_here = |key| packs.find(&(key, Kind::Action)).is_some();
        assert!(!is_here([7; 32]), "it was never put");
        assert!(is_here([9; 32]), "it lies before");
        assert!(!is_here([8; 32]), "the old one is not what was put last");
        assert!(packs.find(&name(1)).is_some() && packs.find(&name(2)).is_some());
    }

    /// An entry was appended behind a header that is lost, where only blobs are believed: the next opening did
    /// not know it.
    #[test]
    fn what_is_put_behind_a_header_that_is_lost_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut packs = open(directory.path(), RealFs);
        for number in 0..3 {
            put(&mut packs, number).unwrap();
        }
        packs.sync().unwrap();
        let (segment, place) = (packs.segment_path(1), packs.find(&name(1)).unwrap());
        drop(packs);
        let file = OpenOptions::new().write(true).open(&segment).unwrap();
        file.write_all_at(&[0; 8], u64::from(place.offset)).unwrap();
        let mut packs = open(directory.path(), RealFs);
        let encoded = Bytes::from(ActionEntry::new("put").encode(&[8; 32]));
        let header = Header {
            kind: Kind::Action,
            deleted: false,
            hash: [8; 32],
            length: encoded.len() as u32,
            deflated: false,
        };
        let records = [(header, encoded)];
        let places = packs.append(&records).unwrap();
        packs.publish(&records, &places);
        packs.sync().unwrap();
        drop(packs);
        let packs = open(directory.path(), RealFs);
        assert!(packs.find(&([8; 32], Kind::Action)).is_some());
        assert!(packs.find(&name(2)).is_some());
    }

    /// A table covered a segment that was empty, and went when a sync failed: nobody could open the packs
    /// any more.
    #[test]
    fn an_empty_segment_that_is_gone_keeps_nobody_from_opening() {
        let directory = tempfile::tempdir().unwrap();
        let fs = FaultyFs::new(Fault::Sync, i64::MAX);
        // As a process leaves it that is killed behind making it.
        let segment = directory.path().join("packs/00000001.seg");
        fs::create_dir(directory.path().join("packs")).unwrap();
        fs::write(&segment, "").unwrap();
        let mut packs = open(directory.path(), fs.clone());
        packs.checkpoint().unwrap();
        fs.countdown.store(0, Relaxed);
        packs.append(&[deletion(&name(1))]).unwrap();
        assert!(packs.sync().is_err());
        packs.sync().unwrap();
        drop(packs);
        assert!(!segment.exists(), "nothing of it was acknowledged");
        let mut packs = open(directory.path(), RealFs);
        put(&mut packs, 2).unwrap();
        packs.sync().unwrap();
        drop(packs);
        assert!(open(directory.path(), RealFs).find(&name(2)).is_some());
    }

    /// What was put next was written behind half a record, whose header said that it was a part of that.
    #[test]
    fn what_is_put_behind_half_a_record_and_a_bad_sector_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let fs = PowerFs::default();
        let mut packs = open(directory.path(), fs.clone());
        for number in 0..3 {
            put(&mut packs, number).unwrap();
        }
        packs.sync().unwrap();
        let segment = packs.segment_path(1);
        drop(packs);
        let file = OpenOptions::new().write(true).open(&segment).unwrap();
        file.set_len(file.metadata().unwrap().len() - 500).unwrap();
        fs.make_unreadable(content(1).to_vec());
        let mut packs = open(directory.path(), fs);
        put(&mut packs, 3).unwrap();
        packs.sync().unwrap();
        drop(packs);
        // By now all of it can be read.
        let mut packs = open(directory.path(), RealFs);
        for number in [0, 1, 3] {
            let read = packs.read(&name(number)).unwrap();
            assert_eq!(read, Read::Intact(content(number)), "{number}");
        }
        assert_eq!(packs.read(&name(2)).unwrap(), Read::Missing, "cut off");
    }
}
