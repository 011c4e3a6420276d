//! Giving the space of dead records back.
//!
//! Owns: which segments are worth rewriting, and the order that keeps a crash harmless.
//! Does not know: why records died.
//! Invariants: a segment is removed only after its live records are durable elsewhere and a
//! durable table points to them there, all of it could be read, and none that is damaged is in the index any
//! more; between two batches whatever else is asked of the packs may come; a deletion that it notes is noted elsewhere as long as an older segment holds a record of that name.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;

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

/// What a compaction has yet to do.
#[derive(Debug, Default)]
pub(crate) struct Rewriting {
    /// Segments to be rewritten, the oldest first.
    victims: Vec<u32>,
    /// Deletions that outlive them, and where those are noted.
    notes: HashMap<Name, u32>,
}

impl Rewriting {
    pub(crate) fn is_done(&self) -> bool {
        self.victims.is_empty()
    }
}

impl<F: Fs> Packs<F> {
    /// Chooses the segments to rewrite: of which at most `live_percent` is alive, those with the most dead
    /// first, until `wanted_bytes` of that are found.
    pub(crate) fn plan(
        &mut self,
        live_percent: u64,
        wanted_bytes: u64,
    ) -> Result<Rewriting, IoFailure> {
        if !self.is_in_doubt() && self.worth(live_percent).next().is_none() {
            self.remove_empty()?;
            return Ok(Rewriting::default());
        }
        self.mend_table()?;
        if self.is_in_doubt() {
            // What is written anew must not go to a segment that was chosen when it was dead.
            self.sync_or_make_room()?;
        }
        self.remove_empty()?;
        let plan = self.victims(live_percent, wanted_bytes)?;
        if !plan.is_done() {
            self.begin()?;
        }
        Ok(plan)
    }

    /// Segments of which so little is alive that they are worth rewriting, but for those that cannot be.
    fn worth(&self, live_percent: u64) -> impl Iterator<Item = &SegmentState> {
        let filled = self.segments.values().filter(|state| state.end > 0);
        filled.filter(move |state| {
            is_worth(state, 0, live_percent) && !self.unreadable.contains(&state.number)
        })
    }

    /// The segments that are worth rewriting, the oldest first, and the notes that outlive all of them,
    /// and where those are. They count as alive: a segment of nothing else would only move from one number
    /// to the next.
    fn victims(&self, live_percent: u64, wanted_bytes: u64) -> Result<Rewriting, IoFailure> {
        let mut worth: Vec<_> = self.worth(live_percent).collect();
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
                is_worth(&self.segments[number], notes_bytes, live_percent)
            });
            if victims.len() == before {
                return Ok(Rewriting { victims, notes });
            }
        }
    }

    /// From here on records go to a segment that is no victim, and the table covers the victims, so that
    /// recovery never replays one.
    fn begin(&mut self) -> Result<(), IoFailure> {
        self.sync_or_make_room()?;
        self.active = None;
        if let Err(failure) = self.checkpoint() {
            // On a full disk, room comes from what needs no copy. Without a table that knows of
            // it, a crash now costs reading all segments, but no record.
            tracing::warn!(%failure, "removing dead segments first");
            self.remove_dead()?;
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Rewrites some of the victims and gives back what they held; returns what is left to do. Those in which
    /// nothing is alive come first, for they need no room. The others go from the oldest on, so that what is
    /// noted in one is needed by none that has yet to go.
    pub(crate) fn rewrite_some(&mut self, plan: Rewriting) -> Result<Rewriting, IoFailure> {
        let Rewriting {
            mut victims,
            mut notes,
        } = plan;
        // An index that was made anew meanwhile may have one grow again.
        let growing = self.active.as_ref().map(|active| active.number);
        victims.retain(|number| Some(*number) != growing && self.segments.contains_key(number));
        let (dead, alive): (Vec<u32>, Vec<u32>) = victims
            .iter()
            .partition(|number| self.live_bytes(**number) == 0);
        if !dead.is_empty() {
            let needed: Vec<Name> = self.needed_notes(&dead)?.into_keys().collect();
            self.rewrite(&dead, &needed)?;
            victims = alive;
            return Ok(Rewriting { victims, notes });
        }
        let later = victims.split_off(self.at_a_time(&victims));
        // What was put again since it was noted is not gone.
        let is_needed =
            |name: &Name, noted: &u32| victims.contains(noted) && self.find(name).is_none();
        let needed = notes.iter().filter(|(name, noted)| is_needed(name, noted));
        let needed: Vec<Name> = needed.map(|(name, _)| *name).collect();
        self.all_was_read()?;
        self.rewrite(&victims, &needed)?;
        let stays = |number: &u32| self.segments.contains_key(number);
        if victims.iter().any(stays) {
            // One stays that should have gone, and what is noted in others is needed for it.
            notes = self.needed_notes(&later)?;
        }
        Ok(Rewriting {
            victims: later,
            notes,
        })
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
        fits.count().max(1).min(victims.len())
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
                // What cannot be read stays where it is, and is no victim until the next opening.
                self.unreadable.insert(victim.number);
                continue;
            }
            self.drop_damaged(victim.number)?;
            numbers.push(victim.number);
        }
        if numbers.is_empty() {
            return self.sync();
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

fn is_worth(state: &SegmentState, notes_bytes: u64, live_percent: u64) -> bool {
    let alive = state.live_bytes + notes_bytes;
    alive * 100 <= u64::from(state.end) * live_percent
}

fn number(state: &SegmentState) -> u32 {
    state.number
}

/// Bytes of records that nothing points to any more.
fn dead_bytes(state: &SegmentState) -> u64 {
    u64::from(state.end).saturating_sub(state.live_bytes)
}
