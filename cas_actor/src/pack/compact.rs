//! Giving the space of dead records back.
//!
//! Owns: which segments are worth rewriting, and the order that keeps a crash harmless.
//! Does not know: why records died.
//! Invariant: a segment is removed only after its live records are durable elsewhere and a
//! durable table points to them there.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io;

use bytes::Bytes;

use super::durable::Copied;
use super::index::SegmentState;
use super::record::{HEADER_BYTES, Header, Met, scan};
use super::{Packs, Place};
use crate::error::{During, IoFailure};
use crate::fs::Fs;
use crate::mapped;

/// Live records are copied in groups of about this many bytes.
pub(super) const COPY_BYTES: usize = 4 * 1024 * 1024;

impl<F: Fs> Packs<F> {
    /// Rewrites the segments of which at most `live_percent` is alive; returns the bytes that
    /// the files lost.
    pub(crate) fn compact(&mut self, live_percent: u64) -> Result<u64, IoFailure> {
        self.mend_table()?;
        if self.is_in_doubt() {
            // What is written anew must not go to a segment that was chosen when it was dead.
            self.sync()?;
        }
        let worth = |state: &&SegmentState| {
            state.live_bytes * 100 <= u64::from(state.end) * live_percent && state.end > 0
        };
        let victims: Vec<SegmentState> = self.segments.values().filter(worth).copied().collect();
        if victims.is_empty() {
            return Ok(0);
        }
        let before = self.packed_bytes();
        // From here on records go to a segment that is no victim, and the table covers the
        // victims, so that recovery never replays one.
        self.sync()?;
        self.active = None;
        if let Err(failure) = self.checkpoint() {
            // On a full disk, room comes from what needs no copy. Without a table that knows of
            // it, a crash now costs reading all segments, but no record.
            tracing::warn!(%failure, "removing dead segments first");
            for victim in victims.iter().filter(|victim| victim.live_bytes == 0) {
                self.remove_segment(victim.number)?;
            }
            self.checkpoint()?;
        }
        for victim in &victims {
            if victim.live_bytes > 0 {
                self.copy_live(victim.number)?;
            }
        }
        // Where this fails, the copies are given up.
        self.sync()?;
        for victim in &victims {
            self.segments.remove(&victim.number);
        }
        self.checkpoint()?;
        for victim in &victims {
            self.remove_segment(victim.number)?;
        }
        Ok(before.saturating_sub(self.packed_bytes()))
    }

    fn remove_segment(&mut self, number: u32) -> Result<(), IoFailure> {
        self.segments.remove(&number);
        self.readers.remove(&number);
        let path = self.segment_path(number);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.during("remove", &path),
        }
    }

    fn packed_bytes(&self) -> u64 {
        let ends = self.segments.values().map(|state| u64::from(state.end));
        ends.sum()
    }

    /// Appends the live records of a segment to the active one.
    fn copy_live(&mut self, number: u32) -> Result<(), IoFailure> {
        let path = self.segment_path(number);
        let file = File::open(&path).during("open", &path)?;
        let map = mapped::map(&file).during("map", &path)?;
        let mut live: Vec<(Header, Place)> = Vec::new();
        scan(&map, 0, |offset, met| {
            if let Met::Record(header, _) = met
                && let Some(place) = self.find(&(header.hash, header.kind))
                && (place.segment, place.offset as usize) == (number, offset)
            {
                live.push((header, place));
            }
        });
        let mut rest = &live[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|(header, _)| {
                let take = bytes < COPY_BYTES;
                bytes += header.record_bytes() as usize;
                take
            });
            let (group, later) = rest.split_at(fits.count());
            self.copy_group(&map, group)?;
            rest = later;
        }
        Ok(())
    }

    fn copy_group(&mut self, map: &[u8], group: &[(Header, Place)]) -> Result<(), IoFailure> {
        let payload = |place: &Place| {
            let start = place.offset as usize + HEADER_BYTES;
            Bytes::copy_from_slice(&map[start..start + place.length as usize])
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
