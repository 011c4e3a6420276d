//! Finding and reading records.
//!
//! Owns: what the index says of a name, and whether what lies there is that.
//! Does not know: how the index came to be.
//! Invariants: a record that does not prove itself is not served; what the table did not show because it
//! could not be read is looked for once more, or told ([`Packs::all_was_read`]).
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use bytes::Bytes;

use super::record::{HEADER_BYTES, Header};
use super::table::Table;
use super::{INDEX, Name, Packs, Place, seconds};
use crate::error::{During, IoFailure};
use crate::fs::Fs;

/// What reading a record gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read {
    /// There is none of that name.
    Missing,
    /// The content, which matches its name.
    Intact(Bytes),
    /// What lies there instead.
    Damaged(Bytes),
}

impl<F: Fs> Packs<F> {
    /// Where a record lies.
    pub(crate) fn find(&self, name: &Name) -> Option<Place> {
        match self.changes.get(name) {
            Some(change) => *change,
            None => self.table.as_ref()?.find(name),
        }
    }

    /// Where a record lies; notes its use for eviction.
    pub(crate) fn touch(&mut self, name: &Name) -> Option<Place> {
        self.touch_at(name, seconds(SystemTime::now()))
    }

    /// The same for a use in that second. What is not found where the table cannot be read is looked for
    /// once more, in one made anew.
    pub(crate) fn touch_at(&mut self, name: &Name, now: u32) -> Option<Place> {
        let found = self.touch_once(name, now);
        match found.is_none() && self.is_harmed() && self.mend_table().unwrap_or(false) {
            true => self.touch_once(name, now),
            false => found,
        }
    }

    /// Where a record lies, also where the table could not be read for a moment.
    pub(super) fn find_surely(&mut self, name: &Name) -> Option<Place> {
        let found = self.find(name);
        match found.is_none() && self.is_harmed() && self.mend_table().unwrap_or(false) {
            true => self.find(name),
            false => found,
        }
    }

    fn is_harmed(&self) -> bool {
        self.table.as_ref().is_some_and(Table::is_harmed)
    }

    /// Fails where a part of the table could not be read since it was last mended: what was not found may
    /// be there.
    pub(super) fn all_was_read(&self) -> Result<(), IoFailure> {
        if !self.is_harmed() {
            return Ok(());
        }
        let harmed = io::Error::other("a part of it could not be read");
        Err(IoFailure::new("read", &self.directory.join(INDEX), harmed))
    }

    fn touch_once(&mut self, name: &Name, now: u32) -> Option<Place> {
        let known = match self.changes.get_mut(name) {
            Some(change) => {
                let place = change.as_mut()?;
                let known = *place;
                place.used = place.used.max(now);
                known
            }
            None => self.table.as_mut()?.touch(name, now)?,
        };
        let newer_by = now.saturating_sub(known.used);
        self.stale_use_seconds = self.stale_use_seconds.max(newer_by);
        Some(Place {
            used: known.used.max(now),
            ..known
        })
    }

    /// Whether there is a segment that reaches as far as this place.
    pub(crate) fn reaches(&self, place: &Place) -> bool {
        let end = u64::from(place.offset) + HEADER_BYTES as u64 + u64::from(place.length);
        let segment = self.segments.get(&place.segment);
        segment.is_some_and(|segment| end <= u64::from(segment.end))
    }

    /// Reads a record and checks it against its name.
    pub(crate) fn read(&mut self, name: &Name) -> Result<Read, IoFailure> {
        let read = self.read_once(name)?;
        let is_unsure = match read {
            // Perhaps it is not the record that was damaged.
            Read::Damaged(_) => true,
            Read::Missing => self.is_harmed(),
            Read::Intact(_) => false,
        };
        match is_unsure && self.mend_table()? {
            true => self.read_once(name),
            false => Ok(read),
        }
    }

    fn read_once(&mut self, name: &Name) -> Result<Read, IoFailure> {
        let Some(place) = self.find(name) else {
            return Ok(Read::Missing);
        };
        if !self.reaches(&place) {
            return Ok(Read::Damaged(Bytes::new()));
        }
        let mut record = vec![0; HEADER_BYTES + place.length as usize];
        let path = self.segment_path(place.segment);
        let read = self
            .reader(place.segment)
            .and_then(|file| file.read_exact_at(&mut record, u64::from(place.offset)));
        match read {
            Err(error) if cut_off(&error) => return Ok(Read::Damaged(Bytes::new())),
            other => other.during("read", &path)?,
        }
        let record = Bytes::from(record);
        let payload = record.slice(HEADER_BYTES..);
        let header = Header::of(&record, name, place.length);
        let content = header.and_then(|header| {
            Some(match header.content(&payload)? {
                Cow::Borrowed(_) => payload.clone(),
                Cow::Owned(content) => content.into(),
            })
        });
        let content = content.filter(|content| content.len() == place.size as usize);
        Ok(content.map_or(Read::Damaged(payload), Read::Intact))
    }
}

/// A segment that is too short, or gone, as after damage to the file system.
fn cut_off(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound
    )
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, OpenOptions};
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::super::compact_tests::{content, name, open, put};
    use super::super::index::ENTRY_BYTES;
    use super::*;
    use crate::digest::HASH_BYTES;
    use crate::fs::{Disk, RealFs};

    fn cut_off_index(index: &Path) {
        let file = OpenOptions::new().write(true).open(index).unwrap();
        file.set_len(0).unwrap();
    }

    /// One read that failed kept records from being found, and a table from being written, until the store
    /// was opened again.
    #[test]
    fn what_can_be_read_again_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut packs = open(directory.path(), RealFs);
        for number in 0..20 {
            put(&mut packs, number).unwrap();
        }
        packs.checkpoint().unwrap();
        let index = directory.path().join("packs").join(INDEX);
        let bytes = fs::read(&index).unwrap();
        let mut once_unreadable = |then: &mut dyn FnMut(&mut Packs<RealFs>)| {
            cut_off_index(&index);
            assert!(packs.find(&name(3)).is_none());
            fs::write(&index, &bytes).unwrap();
            then(&mut packs);
        };
        once_unreadable(&mut |packs| {
            // One that is not here is looked for first.
            assert!(packs.touch(&name(100)).is_none());
            assert!(packs.touch(&name(3)).is_some());
        });
        once_unreadable(&mut |packs| {
            let read = packs.read(&name(100)).unwrap();
            assert_eq!(read, Read::Missing);
            assert!(packs.all_was_read().is_ok());
        });
        once_unreadable(&mut |packs| packs.checkpoint().unwrap());
        once_unreadable(&mut |packs| assert!(packs.compact(60, u64::MAX).is_ok()));
    }

    /// A disk whose index is harmed with one of the reads of segments.
    #[derive(Debug, Clone)]
    struct TornFs {
        index: PathBuf,
        reads_until: Arc<AtomicU64>,
        harm: fn(&Path),
    }

    impl TornFs {
        fn new(directory: &Path, harm: fn(&Path)) -> Self {
            Self {
                index: directory.join("packs").join(INDEX),
                reads_until: Arc::new(AtomicU64::new(u64::MAX)),
                harm,
            }
        }
    }

    impl Disk for TornFs {
        fn read_back(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            if self.reads_until.fetch_sub(1, Relaxed) == 1 {
                (self.harm)(&self.index);
            }
            RealFs.read_back(file, buffer, offset)
        }
    }

    /// Twelve records that are gone and eight that are not, in one segment.
    fn fill(packs: &mut Packs<TornFs>) {
        for number in 0..20 {
            put(packs, number).unwrap();
        }
        for number in 0..12 {
            assert!(packs.remove(&name(number)));
        }
        packs.checkpoint().unwrap();
    }

    /// Records that the index could not be asked for were taken for dead and removed.
    #[test]
    fn a_compaction_that_cannot_read_the_index_removes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let fs = TornFs::new(directory.path(), cut_off_index);
        let mut packs = open(directory.path(), fs.clone());
        fill(&mut packs);
        // The first looks for notes, the second for what is alive.
        fs.reads_until.store(2, Relaxed);
        assert!(packs.compact(60, u64::MAX).is_err());
        for number in 12..20 {
            let read = packs.read(&name(number)).unwrap();
            assert_eq!(read, Read::Intact(content(number)), "{number}");
        }
    }

    /// Changes a byte of each entry.
    fn rot(index: &Path, at: usize) {
        let mut bytes = fs::read(index).unwrap();
        let entries = bytes.len() - 8 * ENTRY_BYTES;
        for entry in bytes[entries..].chunks_exact_mut(ENTRY_BYTES) {
            entry[at] ^= 1;
        }
        fs::write(index, bytes).unwrap();
    }

    /// An index that rotted while segments were rewritten was made anew, from the segment among others that
    /// was about to go, which went nevertheless; or what it misled to was noted as deleted.
    #[test]
    fn an_index_that_rots_while_segments_are_rewritten_costs_no_record() {
        let names: fn(&Path) = |index| rot(index, 20);
        let segments: fn(&Path) = |index| rot(index, HASH_BYTES);
        let offsets: fn(&Path) = |index| rot(index, HASH_BYTES + 4);
        let lengths: fn(&Path) = |index| rot(index, HASH_BYTES + 10);
        for harm in [names, segments, offsets, lengths] {
            for reads in 1..4 {
                let directory = tempfile::tempdir().unwrap();
                let fs = TornFs::new(directory.path(), harm);
                let mut packs = open(directory.path(), fs.clone());
                fill(&mut packs);
                fs.reads_until.store(reads, Relaxed);
                let _ = packs.compact(60, u64::MAX);
                let check = |packs: &mut Packs<TornFs>| {
                    for number in 12..20 {
                        let read = packs.read(&name(number)).unwrap();
                        assert_eq!(read, Read::Intact(content(number)), "{number} {reads}");
                    }
                };
                check(&mut packs);
                packs.sync().unwrap();
                drop(packs);
                check(&mut open(directory.path(), fs));
            }
        }
    }
}
