//! Copying records to the segment that grows.
//!
//! Owns: what of a segment is alive, and what the index says of it that is not true.
//! Does not know: which segments go (`compact`), or what becomes of copies that no sync has made durable
//! (`durable`).
//! Invariant: nothing is taken out of the index, or noted as gone, on the word of an index that is damaged itself, nor a record
//! that proves itself.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;

use bytes::Bytes;

use super::durable::Copied;
use super::record::{HEADER_BYTES, Header, Met, scan};
use super::table::Table;
use super::walk::{open_segment, read_around};
use super::{INDEX, Packs, Place};
use crate::error::{During, IoFailure};
use crate::fs::Fs;

/// Live records are copied in groups of about this many bytes.
pub(super) const COPY_BYTES: usize = 4 * 1024 * 1024;

impl<F: Fs> Packs<F> {
    /// Appends the live records of a segment to the active one; says whether all of it could be read.
    pub(super) fn copy_live(&mut self, number: u32) -> Result<bool, IoFailure> {
        let path = self.segment_path(number);
        let Some(file) = open_segment(&path).during("open", &path)? else {
            return Ok(false);
        };
        let size_bytes = file.metadata().during("read", &path)?.len();
        let (bytes, is_read) = read_around(&self.fs, &file, &path, 0..size_bytes);
        let mut live: Vec<(Header, Place)> = Vec::new();
        scan(&bytes, 0, |offset, met| {
            if let Met::Record(header, _) = met
                && let Some(place) = self.find(&(header.hash, header.kind))
                && (place.segment, place.offset as usize) == (number, offset)
                && place.length == header.length
            {
                live.push((header, place));
            }
        });
        self.all_was_read()?;
        let mut rest = &live[..];
        while !rest.is_empty() {
            let mut copied_bytes = 0;
            let fits = rest.iter().take_while(|(header, _)| {
                let take = copied_bytes < COPY_BYTES;
                copied_bytes += header.record_bytes() as usize;
                take
            });
            let (group, later) = rest.split_at(fits.count());
            self.copy_group(&bytes, group)?;
            rest = later;
        }
        Ok(is_read)
    }

    /// Takes out of the index what still leads into a segment whose live records were copied. What was not met
    /// there is copied all the same if it proves itself where it lies.
    pub(super) fn drop_damaged(&mut self, number: u32) -> Result<(), IoFailure> {
        if self.live_bytes(number) == 0 {
            return Ok(());
        }
        let path = self.segment_path(number);
        let file = File::open(&path).during("open", &path)?;
        let left = self.list().filter(|(_, place)| place.segment == number);
        let left: Vec<_> = left.collect();
        self.all_was_read()?;
        // Perhaps it is not the records that are damaged.
        self.trust_table()?;
        for (name, place) in left {
            let read = self.read_back(&file, &name, &place);
            if let Some(record) = read.during("read", &path)? {
                self.copy_records(&[record], &[place])?;
                continue;
            }
            let mut bytes = vec![0; place.length as usize];
            let payload_at = u64::from(place.offset) + HEADER_BYTES as u64;
            let read = self.fs.read_back(&file, &mut bytes, payload_at);
            let bytes = read.map_or(Bytes::new(), |()| bytes.into());
            self.remove(&name);
            self.lost.push((name, bytes));
        }
        Ok(())
    }

    /// Fails, with an index made anew, where the one on disk is not what was written.
    pub(super) fn trust_table(&mut self) -> Result<(), IoFailure> {
        if self.table.as_ref().is_none_or(Table::is_intact) {
            return Ok(());
        }
        self.mend_table()?;
        let harmed = io::Error::other("it was damaged, and is made anew");
        Err(IoFailure::new("read", &self.directory.join(INDEX), harmed))
    }

    fn copy_group(&mut self, segment: &[u8], group: &[(Header, Place)]) -> Result<(), IoFailure> {
        let payload = |place: &Place| {
            let start = place.offset as usize + HEADER_BYTES;
            Bytes::copy_from_slice(&segment[start..start + place.length as usize])
        };
        let records = group
            .iter()
            .map(|(header, place)| (*header, payload(place)));
        let places: Vec<Place> = group.iter().map(|(_, place)| *place).collect();
        self.copy_records(&records.collect::<Vec<_>>(), &places)
    }

    /// Appends records that lie elsewhere, and remembers those places until the copies are durable.
    pub(super) fn copy_records(
        &mut self,
        records: &[(Header, Bytes)],
        places: &[Place],
    ) -> Result<(), IoFailure> {
        if records.is_empty() {
            return Ok(());
        }
        let mut copies = self.append(records)?;
        for (to, from) in copies.iter_mut().zip(places) {
            to.used = from.used;
        }
        self.publish(records, &copies);
        let copied = records.iter().zip(places.iter().zip(copies));
        let copied = copied.map(|((header, _), (from, to))| Copied {
            name: (header.hash, header.kind),
            from: *from,
            to,
        });
        self.copied.extend(copied);
        Ok(())
    }
}
