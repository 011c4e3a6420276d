//! Making records durable, also after that has failed.
//!
//! Owns: what of the segments is known to be durable.
//! Does not know: who waits for it.
//! Invariants: a sync that failed is never made good by another: the kernel reports an error once and
//! takes the pages for written, so a later success says nothing of them. What the failed one should
//! have made durable is read back, proves itself, and is written to another segment; what cannot be
//! read back is dropped and told. Until then, no sync of the packs succeeds. A record is cut off, or
//! its segment removed, only once its copy is durable: it may have been durable where it was. Tries
//! that fail take no room: a copy that is given up is cut off.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;

use bytes::Bytes;

use super::copy::COPY_BYTES;
use super::record::HEADER_BYTES;
use super::{Active, Header, Name, Packs, Place, deletion, segment_in};
use crate::error::{During, IoFailure};
use crate::fs::{Fs, is_unreadable};
use crate::stats::count;

/// A record that was written to another place, until it is durable there.
pub(super) struct Copied {
    pub(super) name: Name,
    pub(super) from: Place,
    pub(super) to: Place,
}

impl<F: Fs> Packs<F> {
    /// Whether something was appended that is not durable.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced || !self.doubtful.is_empty()
    }

    /// Whether a sync has failed whose records are not written anew yet.
    pub(crate) fn is_in_doubt(&self) -> bool {
        !self.doubtful.is_empty()
    }

    /// Gives up the segment that grows, and what of it is not durable: a group that was appended but
    /// is not in the index is gone, copies are made again from where they came, everything else is
    /// written anew by the next sync.
    pub(crate) fn abandon(&mut self) {
        let Some(active) = self.active.take() else {
            return;
        };
        for copied in std::mem::take(&mut self.copied) {
            let to = copied.to;
            if to.segment != active.number || to.offset < active.durable {
                self.copied.push(copied);
                continue;
            }
            // Unless it was deleted or put anew meanwhile.
            if let Some(now) = self.find(&copied.name)
                && (now.segment, now.offset) == (to.segment, to.offset)
            {
                let used = now.used;
                self.point(
                    copied.name,
                    Place {
                        used,
                        ..copied.from
                    },
                );
            }
        }
        self.doubt(&active);
    }

    /// Notes what of a segment is in doubt. What was only written anew is still where it was: it is cut
    /// off, so that the next try takes no more room than this one.
    fn doubt(&mut self, active: &Active) {
        let (number, durable) = (active.number, active.durable);
        let end = match self.anew_from.take() {
            None => active.end,
            Some(anew) => {
                let in_doubt = self.in_doubt(number, durable);
                let needed = in_doubt.last().map_or(durable, |(_, place)| {
                    place.offset + HEADER_BYTES as u32 + place.length
                });
                anew.max(needed)
            }
        };
        if end < active.end {
            self.cut(number, end);
        }
        if durable < end {
            let path = self.segment_path(number);
            tracing::warn!(segment = %path.display(), "a sync has failed; its records are written anew");
            self.doubtful.push((number, durable));
        }
    }

    /// Cuts a segment off behind what is needed of it. Nothing points there any more: where this fails,
    /// a longer file than the index says does no harm.
    fn cut(&mut self, number: u32, end: u32) {
        let path = self.segment_path(number);
        let file = OpenOptions::new().write(true).open(&path);
        let cut = file.and_then(|file| file.set_len(u64::from(end)));
        if let Some(state) = self.segments.get_mut(&number) {
            state.end = end;
        }
        if end == 0 && cut.is_ok() {
            // Compaction does it otherwise.
            let _ = self.remove_segment(number);
        }
    }

    /// Makes what was appended durable.
    pub(crate) fn sync(&mut self) -> Result<(), IoFailure> {
        self.rescue()?;
        self.sync_or_abandon()?;
        self.unsynced = false;
        self.settle()
    }

    /// Makes the segment that grows durable, and has it grow no more. Nothing else: an append that a
    /// sync makes may end up here.
    pub(super) fn seal(&mut self) -> Result<(), IoFailure> {
        self.sync_or_abandon()?;
        self.active = None;
        self.anew_from = self.anew_from.map(|_| 0);
        Ok(())
    }

    fn sync_or_abandon(&mut self) -> Result<(), IoFailure> {
        let synced = self.sync_active();
        if synced.is_err() {
            self.abandon();
        }
        synced
    }

    fn sync_active(&mut self) -> Result<(), IoFailure> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let path = segment_in(&self.directory, active.number);
        count(&self.counters.fsyncs, 1);
        self.fs.sync_file(&active.file).during("sync", &path)?;
        if self.new_names {
            // The segment may be the first: then `packs/N` and `packs` are new as well.
            for directory in self.directory.ancestors().take(3) {
                count(&self.counters.fsyncs, 1);
                let synced = self.fs.sync_directory(directory);
                synced.during("sync", directory)?;
            }
            self.new_names = false;
        }
        active.durable = active.end;
        Ok(())
    }

    /// Writes the records anew that a failed sync should have made durable. They keep their old places
    /// as well until the copies are durable.
    fn rescue(&mut self) -> Result<(), IoFailure> {
        if self.is_in_doubt() && self.anew_from.is_none() {
            self.anew_from = Some(self.active.as_ref().map_or(0, |active| active.end));
        }
        for (number, from) in self.doubtful.clone() {
            let path = self.segment_path(number);
            let file = match File::open(&path) {
                // What was in it is lost.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.during("open", &path)?,
            };
            let (mut records, mut places, mut bytes) = (Vec::new(), Vec::new(), 0);
            for (name, place) in self.in_doubt(number, from) {
                let read = self.read_back(&file, &name, &place);
                let Some(record) = read.during("read", &path)? else {
                    continue;
                };
                bytes += record.0.record_bytes() as usize;
                records.push(record);
                places.push(place);
                if bytes >= COPY_BYTES {
                    self.copy_records(&std::mem::take(&mut records), &std::mem::take(&mut places))?;
                    bytes = 0;
                }
            }
            self.copy_records(&records, &places)?;
        }
        match self.doubtful.is_empty() {
            true => Ok(()),
            false => self.note_deletions(),
        }
    }

    /// Notes every deletion since the table once more: notes may be among what is cut off, and then
    /// the next opening would find older records of those names.
    fn note_deletions(&mut self) -> Result<(), IoFailure> {
        let gone = self.changes.iter().filter(|(_, place)| place.is_none());
        let names: Vec<_> = gone.map(|(name, _)| *name).collect();
        self.append_notes(&names)
    }

    /// Appends the notes that these names are gone.
    pub(super) fn append_notes(&mut self, names: &[Name]) -> Result<(), IoFailure> {
        for group in names.chunks(COPY_BYTES / HEADER_BYTES) {
            let notes: Vec<_> = group.iter().map(deletion).collect();
            self.append(&notes)?;
        }
        Ok(())
    }

    /// Reads a record that may not be on the disk; `None` when it is not there.
    pub(super) fn read_back(
        &self,
        file: &File,
        name: &Name,
        place: &Place,
    ) -> io::Result<Option<(Header, Bytes)>> {
        let mut record = vec![0; HEADER_BYTES + place.length as usize];
        let read = self
            .fs
            .read_back(file, &mut record, u64::from(place.offset));
        match read {
            Err(error) if is_unreadable(&error) => return Ok(None),
            read => read?,
        }
        let record = Bytes::from(record);
        let payload = record.slice(HEADER_BYTES..);
        let header = Header::of(&record, name, place.length);
        let intact = header.filter(|header| header.content(&payload).is_some());
        Ok(intact.map(|header| (header, payload)))
    }

    /// The records of a segment from there on that are in the index, in the order in which they lie.
    /// No table knows of them: it would not be there without a sync that succeeded.
    fn in_doubt(&self, number: u32, from: u32) -> Vec<(Name, Place)> {
        let lies_there = |(name, place): (&Name, &Option<Place>)| {
            let place = (*place)?;
            (place.segment == number && place.offset >= from).then_some((*name, place))
        };
        let mut found: Vec<_> = self.changes.iter().filter_map(lies_there).collect();
        found.sort_unstable_by_key(|(_, place)| place.offset);
        found
    }

    /// The copies are durable: what they were made of may go, and what could not be copied is lost.
    fn settle(&mut self) -> Result<(), IoFailure> {
        self.copied.clear();
        self.anew_from = None;
        let mut outcome = Ok(());
        for (number, from) in std::mem::take(&mut self.doubtful) {
            let path = self.segment_path(number);
            let lost = self.in_doubt(number, from);
            for (name, _) in &lost {
                self.forget(name);
            }
            self.cut(number, from);
            if !lost.is_empty() {
                count(&self.counters.corrupt, lost.len() as u64);
                tracing::warn!(segment = %path.display(), lost = lost.len(), "records are lost");
                let message = format!("{} records were lost after a failed sync", lost.len());
                let failure = IoFailure::new("keep", &path, io::Error::other(message));
                outcome = outcome.and(Err(failure));
            }
        }
        outcome
    }
}
