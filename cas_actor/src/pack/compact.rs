//! Giving the space of dead records back.
//!
//! Owns: which segments are worth rewriting, and the order that keeps a crash harmless.
//! Does not know: why records died.
//! Invariants: a segment is removed only after its live records are durable elsewhere and a
//! durable table points to them there, all of it could be read, and none that is damaged is in the index any
//! more; a deletion that it notes is noted elsewhere as long as an older segment holds a record of that name.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;

use super::durable::Copied;
use super::index::{ENTRY_BYTES, SegmentState};
use super::record::{HEADER_BYTES, Header, Met, scan};
use super::table::Table;
use super::{Name, Packs, Place};
use crate::error::{During, IoFailure};
use crate::fs::Fs;

/// Live records are copied in groups of about this many bytes.
pub(super) const COPY_BYTES: usize = 4 * 1024 * 1024;
/// What is read at a time,
const PIECE_BYTES: usize = 1024 * 1024;
/// of headers with what lies behind them,
const HEADERS_BYTES: u64 = 32 * 1024;
/// and what is lost with a sector that cannot be read.
const BLOCK_BYTES: usize = 4096;

impl<F: Fs> Packs<F> {
    /// Rewrites the segments of which at most `live_percent` is alive, those with the most dead first, until
    /// `wanted_bytes` of that are found; returns the bytes that the files lost.
    pub(crate) fn compact(
        &mut self,
        live_percent: u64,
        wanted_bytes: u64,
    ) -> Result<u64, IoFailure> {
        self.mend_table()?;
        let before = self.packed_bytes();
        if self.is_in_doubt() {
            // What is written anew must not go to a segment that was chosen when it was dead.
            self.sync_or_make_room()?;
        }
        self.remove_empty()?;
        let (victims, notes) = self.victims(live_percent, wanted_bytes)?;
        if !victims.is_empty() {
            self.rewrite_all(&victims, &notes)?;
        }
        Ok(before.saturating_sub(self.packed_bytes()))
    }

    /// The segments that are worth rewriting, the oldest first, and the notes that outlive all of them,
    /// and where those are. They count as alive: a segment of nothing else would only move from one number
    /// to the next.
    fn victims(
        &self,
        live_percent: u64,
        wanted_bytes: u64,
    ) -> Result<(Vec<u32>, HashMap<Name, u32>), IoFailure> {
        let is_worth = |state: &SegmentState, notes_bytes: u64| {
            let alive = state.live_bytes + notes_bytes;
            alive * 100 <= u64::from(state.end) * live_percent
        };
        let filled = self.segments.values().filter(|state| state.end > 0);
        let mut worth: Vec<_> = filled.filter(|state| is_worth(state, 0)).collect();
        worth.sort_by_key(|state| Reverse(dead_bytes(state)));
        let mut found_bytes = 0;
        let wanted = worth.into_iter().take_while(|state| {
            let is_wanted = found_bytes < wanted_bytes;
            found_bytes += dead_bytes(state);
            is_wanted
        });
        let mut victims: Vec<u32> = wanted.map(number).collect();
        victims.sort_unstable();
        loop {
            // Where one stays, what it holds may need the notes of another.
            let notes = self.needed_notes(&victims)?;
            let mut notes_bytes: HashMap<u32, u64> = HashMap::new();
            for noted in notes.values() {
                *notes_bytes.entry(*noted).or_default() += HEADER_BYTES as u64;
            }
            let before = victims.len();
            victims.retain(|number| {
                let notes_bytes = notes_bytes.get(number).copied().unwrap_or(0);
                is_worth(&self.segments[number], notes_bytes)
            });
            if victims.len() == before {
                return Ok((victims, notes));
            }
        }
    }

    /// Rewrites victims some at a time, each time giving back what they held: those in which nothing is
    /// alive first, for they need no room. The others go from the oldest on, so that what is noted in one
    /// is needed by none that has yet to go.
    fn rewrite_all(
        &mut self,
        victims: &[u32],
        notes: &HashMap<Name, u32>,
    ) -> Result<(), IoFailure> {
        // From here on records go to a segment that is no victim, and the table covers the
        // victims, so that recovery never replays one.
        self.sync_or_make_room()?;
        self.active = None;
        if let Err(failure) = self.checkpoint() {
            // On a full disk, room comes from what needs no copy. Without a table that knows of
            // it, a crash now costs reading all segments, but no record.
            tracing::warn!(%failure, "removing dead segments first");
            self.remove_dead()?;
            self.checkpoint()?;
        }
        let (dead, alive): (Vec<u32>, Vec<u32>) = victims
            .iter()
            .partition(|number| self.live_bytes(**number) == 0);
        if !dead.is_empty() {
            let needed: Vec<Name> = self.needed_notes(&dead)?.into_keys().collect();
            self.rewrite(&dead, &needed)?;
        }
        let (mut rest, mut notes) = (&alive[..], Cow::Borrowed(notes));
        while !rest.is_empty() {
            let (some, later) = rest.split_at(self.at_a_time(rest));
            let needed = notes.iter().filter(|(_, noted)| some.contains(noted));
            let needed: Vec<Name> = needed.map(|(name, _)| *name).collect();
            self.rewrite(some, &needed)?;
            rest = later;
            if some.iter().any(|number| self.segments.contains_key(number)) {
                // One stays that should have gone, and what is noted in others is needed for it.
                notes = Cow::Owned(self.needed_notes(rest)?);
            }
        }
        Ok(())
    }

    /// How many of these victims are rewritten together: one, or more while their copies together are
    /// smaller than the table that has to be written each time.
    fn at_a_time(&self, victims: &[u32]) -> usize {
        let table_bytes = (self.list().count() * ENTRY_BYTES) as u64;
        let mut bytes = 0;
        let fits = victims.iter().take_while(|number| {
            bytes += self.live_bytes(**number);
            bytes <= table_bytes
        });
        fits.count().max(1)
    }

    fn live_bytes(&self, number: u32) -> u64 {
        let state = self.segments.get(&number);
        state.map_or(0, |state| state.live_bytes)
    }

    fn rewrite(&mut self, victims: &[u32], notes: &[Name]) -> Result<(), IoFailure> {
        let known = |number: &u32| self.segments.get(number).copied();
        let victims: Vec<SegmentState> = victims.iter().filter_map(known).collect();
        let mut numbers = Vec::new();
        for victim in &victims {
            let is_read = match victim.live_bytes {
                0 => self.each_header(victim.number, |_| ())?,
                _ => self.copy_live(victim.number)?,
            };
            if !is_read {
                // What cannot be read today stays where it is.
                continue;
            }
            self.drop_damaged(victim.number)?;
            numbers.push(victim.number);
        }
        self.append_notes(notes)?;
        if numbers.len() < victims.len() {
            let needed: Vec<Name> = self.needed_notes(&numbers)?.into_keys().collect();
            self.append_notes(&needed)?;
        }
        // Where this fails, the copies are given up.
        self.sync()?;
        self.segments.retain(|number, _| !numbers.contains(number));
        if let Err(failure) = self.checkpoint() {
            // They stay, as segments in which nothing is alive.
            let gone = victims
                .iter()
                .filter(|victim| numbers.contains(&victim.number));
            let dead = gone.map(|victim| SegmentState {
                live_bytes: 0,
                ..*victim
            });
            self.segments
                .extend(dead.map(|state| (state.number, state)));
            return Err(failure);
        }
        for number in numbers {
            self.remove_segment(number)?;
        }
        Ok(())
    }

    /// Makes everything durable. Where that fails, perhaps because the disk is full, it is tried once
    /// more without the dead segments.
    fn sync_or_make_room(&mut self) -> Result<(), IoFailure> {
        let Err(failure) = self.sync() else {
            return Ok(());
        };
        match self.remove_dead()? {
            true => self.sync(),
            false => Err(failure),
        }
    }

    /// Removes the segments in which nothing is alive and nothing in doubt, whatever the table on disk
    /// says of them; says whether there were any.
    fn remove_dead(&mut self) -> Result<bool, IoFailure> {
        let dead = self.idle(|state| state.live_bytes == 0 && state.end > 0);
        let notes: Vec<Name> = self.needed_notes(&dead)?.into_keys().collect();
        for number in &dead {
            self.remove_segment(*number)?;
        }
        if let Err(failure) = self.append_notes(&notes) {
            tracing::warn!(%failure, "deletions may be forgotten");
        }
        Ok(!dead.is_empty())
    }

    /// Removes the segments that hold nothing, as failed writes leave them.
    fn remove_empty(&mut self) -> Result<(), IoFailure> {
        let empty = self.idle(|state| state.end == 0);
        empty
            .into_iter()
            .try_for_each(|number| self.remove_segment(number))
    }

    /// Segments that do not grow and are not in doubt.
    fn idle(&self, which: impl Fn(&SegmentState) -> bool) -> Vec<u32> {
        let active = self.active.as_ref().map(|active| active.number);
        let is_idle = |state: &&SegmentState| {
            let is_doubtful = self
                .doubtful
                .iter()
                .any(|(number, _)| *number == state.number);
            which(state) && Some(state.number) != active && !is_doubtful
        };
        self.segments.values().filter(is_idle).map(number).collect()
    }

    /// The deletions noted in segments that are about to go, and where, if an older segment that stays
    /// holds a record of that name: without the note it would be back when the index is made anew.
    fn needed_notes(&self, leaving: &[u32]) -> Result<HashMap<Name, u32>, IoFailure> {
        let mut noted: HashMap<Name, u32> = HashMap::new();
        for number in leaving {
            self.each_header(*number, |header| {
                let name = (header.hash, header.kind);
                if header.deleted && self.find(&name).is_none() {
                    noted.insert(name, *number);
                }
            })?;
        }
        // What was not found may only not have been read.
        self.all_was_read()?;
        let last = noted.values().max().copied().unwrap_or(0);
        let mut needed = HashMap::new();
        for state in self.segments.range(..last).map(|(_, state)| state) {
            // Everything in it is alive: it holds nothing that was deleted.
            let is_whole = state.live_bytes >= u64::from(state.end);
            if is_whole || leaving.contains(&state.number) {
                continue;
            }
            let is_read = self.each_header(state.number, |header| {
                let name = (header.hash, header.kind);
                if let Some(noted) = noted.get(&name)
                    && state.number < *noted
                    && !header.deleted
                {
                    needed.insert(name, *noted);
                }
            })?;
            if !is_read {
                // It may hold any of them.
                needed.extend(noted.iter().filter(|(_, noted)| state.number < **noted));
            }
        }
        Ok(needed)
    }

    /// Reads the headers of a segment, some twice where something is damaged; says whether all of it could
    /// be read. No segment is ever mapped: one sector that cannot be read would end the process.
    fn each_header(&self, number: u32, mut meet: impl FnMut(&Header)) -> Result<bool, IoFailure> {
        let path = self.segment_path(number);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            opened => opened.during("open", &path)?,
        };
        let end = self.segments.get(&number).map_or(0, |state| state.end);
        let end = u64::from(end);
        let (mut at, mut piece_at, mut piece) = (0, 0, Vec::new());
        while at < end {
            if at + HEADER_BYTES as u64 > piece_at + piece.len() as u64 {
                piece_at = at;
                piece.resize((end - at).min(HEADERS_BYTES) as usize, 0);
                if self.fs.read_back(&file, &mut piece, at).is_err() {
                    break;
                }
            }
            let Some(header) = Header::decode(&piece[(at - piece_at) as usize..]) else {
                break;
            };
            meet(&header);
            at += header.record_bytes();
        }
        if at >= end {
            return Ok(true);
        }
        let size_bytes = file.metadata().during("read", &path)?.len();
        let (bytes, is_read) = self.read_around(&file, &path, 0..size_bytes.min(end));
        scan(&bytes, 0, |_, met| {
            if let Met::Record(header, _) = met {
                meet(&header);
            }
        });
        Ok(is_read)
    }

    /// A part of a segment, with zeros for what cannot be read, and whether all could.
    pub(super) fn read_around(
        &self,
        file: &File,
        path: &Path,
        part: Range<u64>,
    ) -> (Vec<u8>, bool) {
        let mut bytes = vec![0; (part.end - part.start) as usize];
        let (mut at, mut is_read) = (part.start, true);
        for piece in bytes.chunks_mut(PIECE_BYTES) {
            let length = piece.len() as u64;
            if self.fs.read_back(file, piece, at).is_err() {
                for (index, block) in piece.chunks_mut(BLOCK_BYTES).enumerate() {
                    let offset = at + (index * BLOCK_BYTES) as u64;
                    if self.fs.read_back(file, block, offset).is_err() {
                        block.fill(0);
                        is_read = false;
                    }
                }
            }
            at += length;
        }
        if !is_read {
            tracing::warn!(segment = %path.display(), "a part of it cannot be read");
        }
        (bytes, is_read)
    }

    /// Removes the file, which nothing points into any more.
    pub(crate) fn remove_segment(&mut self, number: u32) -> Result<(), IoFailure> {
        let path = self.segment_path(number);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.during("remove", &path)?,
        }
        self.segments.remove(&number);
        self.readers.remove(&number);
        Ok(())
    }

    /// Bytes of the index on disk.
    pub(crate) fn index_bytes(&self) -> u64 {
        let entries = self.table.as_ref().map_or(0, Table::len);
        (entries * ENTRY_BYTES) as u64
    }

    /// Bytes of all segments.
    pub(crate) fn packed_bytes(&self) -> u64 {
        let ends = self.segments.values().map(|state| u64::from(state.end));
        ends.sum()
    }

    /// Appends the live records of a segment to the active one; says whether all of it could be read.
    fn copy_live(&mut self, number: u32) -> Result<bool, IoFailure> {
        let path = self.segment_path(number);
        let file = File::open(&path).during("open", &path)?;
        let size_bytes = file.metadata().during("read", &path)?.len();
        let (bytes, is_read) = self.read_around(&file, &path, 0..size_bytes);
        let mut live: Vec<(Header, Place)> = Vec::new();
        scan(&bytes, 0, |offset, met| {
            if let Met::Record(header, _) = met
                && let Some(place) = self.find(&(header.hash, header.kind))
                && (place.segment, place.offset as usize) == (number, offset)
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

    /// Takes out of the index what still leads into a segment whose live records were copied.
    fn drop_damaged(&mut self, number: u32) -> Result<(), IoFailure> {
        if self.live_bytes(number) == 0 {
            return Ok(());
        }
        let path = self.segment_path(number);
        let file = File::open(&path).during("open", &path)?;
        let left = self.list().filter(|(_, place)| place.segment == number);
        let left: Vec<_> = left.collect();
        self.all_was_read()?;
        for (name, place) in left {
            let mut bytes = vec![0; place.length as usize];
            let payload_at = u64::from(place.offset) + HEADER_BYTES as u64;
            let read = self.fs.read_back(&file, &mut bytes, payload_at);
            let bytes = read.map_or(Bytes::new(), |()| bytes.into());
            self.remove(&name);
            self.lost.push((name, bytes));
        }
        Ok(())
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

fn number(state: &SegmentState) -> u32 {
    state.number
}

/// Bytes of records that nothing points to any more.
fn dead_bytes(state: &SegmentState) -> u64 {
    u64::from(state.end).saturating_sub(state.live_bytes)
}
