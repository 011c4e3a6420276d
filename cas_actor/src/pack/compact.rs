//! Giving the space of dead records back.
//!
//! Owns: which segments are worth rewriting, and the order that keeps a crash harmless.
//! Does not know: why records died, what is read of segments before (`survey`), or how records are copied (`copy`).
//! Invariants: a segment is removed only after its live records are durable elsewhere and a
//! durable table points to them there, all of it could be read, and none that is damaged is in the index any
//! more; between two batches whatever else is asked of the packs may come; a deletion that it notes is noted elsewhere as long as an older segment holds a record of that name.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::index::{ENTRY_BYTES, SegmentState};
use super::survey::{Read, Segments, Survey};
use super::table::Table;
use super::{Active, Name, Packs};
use crate::error::{During, IoFailure};
use crate::fs::Fs;

/// What a compaction has yet to do.
#[derive(Default)]
pub(crate) struct Rewriting {
    /// Segments to be rewritten, the oldest first.
    pub(super) victims: Vec<u32>,
    /// Deletions that outlive them, and where those are noted.
    pub(super) notes: HashMap<Name, u32>,
    /// Segments in which nothing is alive, to be removed before those are rewritten,
    pub(super) dead: Vec<u32>,
    /// and the deletions that outlive them.
    pub(super) dead_notes: HashMap<Name, u32>,
    /// All of them as they were when they were read.
    pub(super) states: HashMap<u32, SegmentState>,
    /// Those that could not be read in full: they stay, whatever is copied out of them.
    pub(super) unreadable: HashSet<u32>,
    /// The segment that grew when this was planned.
    pub(super) sealed: Option<Active>,
    pub(super) has_begun: bool,
}

impl Rewriting {
    fn done() -> Self {
        Self {
            has_begun: true,
            ..Self::default()
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.has_begun && self.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.victims.is_empty() && self.dead.is_empty()
    }
}

impl<F: Fs> Packs<F> {
    /// Chooses the segments to rewrite: of which at most `live_percent` is alive, those with the most dead
    /// first, until `wanted_bytes` of that are found. They grow no more. What is to be read of them is read
    /// elsewhere.
    pub(crate) fn plan(
        &mut self,
        live_percent: u64,
        wanted_bytes: u64,
    ) -> Result<Option<Survey>, IoFailure> {
        if !self.is_in_doubt() && self.worth(live_percent).next().is_none() {
            self.remove_empty()?;
            return Ok(None);
        }
        self.mend_table()?;
        if self.is_in_doubt() {
            // What is written anew must not go to a segment that was chosen when it was dead.
            self.sync_or_make_room()?;
        }
        self.remove_empty()?;
        let mut victims = self.victims(live_percent, wanted_bytes);
        let mut sealed = None;
        if self.is_growing(&victims) {
            self.sync_or_make_room()?;
            // That may have given up the segment, or removed dead ones.
            victims.retain(|number| self.segments.contains_key(number));
            if self.is_growing(&victims) {
                sealed = self.active.take();
            }
        }
        if victims.is_empty() {
            return Ok(None);
        }
        Ok(Some(Survey {
            segments: self.surveyed(),
            live_percent,
            victims,
            sealed,
        }))
    }

    fn is_growing(&self, numbers: &[u32]) -> bool {
        let growing = self.active.as_ref().map(|active| active.number);
        growing.is_some_and(|growing| numbers.contains(&growing))
    }

    fn surveyed(&self) -> Segments {
        let filled = self.segments.values().filter(|state| state.end > 0);
        Segments {
            disk: Arc::clone(&self.staging.disk),
            directory: self.directory.clone(),
            states: filled.copied().collect(),
        }
    }

    /// Segments of which so little is alive that they are worth rewriting, but for those that cannot be.
    fn worth(&self, live_percent: u64) -> impl Iterator<Item = &SegmentState> {
        let filled = self.segments.values().filter(|state| state.end > 0);
        filled.filter(move |state| {
            is_worth(state, 0, live_percent) && !self.unreadable.contains(&state.number)
        })
    }

    /// The segments that are worth rewriting, the oldest first. Notes that outlive them count as alive, once
    /// they are known: a segment of nothing else would only move from one number to the next.
    fn victims(&self, live_percent: u64, wanted_bytes: u64) -> Vec<u32> {
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
        victims
    }

    /// Has the table cover the victims, so that recovery never replays one.
    fn begin(&mut self) -> Result<(), IoFailure> {
        self.sync_or_make_room()?;
        if let Err(failure) = self.checkpoint() {
            // On a full disk, room comes from what needs no copy. Without a table that knows of
            // it, a crash now costs reading all segments, but no record.
            tracing::warn!(%failure, "removing dead segments first");
            self.remove_dead()?;
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Has the segment that was sealed for a plan grow on, if that is of no use and nothing has come after it:
    /// plans for nothing make no segments.
    fn grow_on(&mut self, sealed: Active) {
        let last = self.segments.values().next_back();
        let is_last =
            last.is_some_and(|last| (last.number, last.end) == (sealed.number, sealed.end));
        // A table that was written meanwhile takes it for finished.
        let is_open = sealed.number >= self.finished_below;
        let is_next = self.next_number == sealed.number + 1;
        if self.active.is_none() && !self.is_in_doubt() && is_last && is_open && is_next {
            self.active = Some(sealed);
        }
    }

    /// Rewrites some of the victims and gives back what they held; returns what is left to do. Those in which
    /// nothing is alive come first, for they need no room. The others go from the oldest on, so that what is
    /// noted in one is needed by none that has yet to go.
    pub(crate) fn rewrite_some(&mut self, mut plan: Rewriting) -> Result<Rewriting, IoFailure> {
        if !plan.has_begun {
            plan.has_begun = true;
            self.unreadable.extend(&plan.unreadable);
            let sealed = plan.sealed.take();
            if let Some(sealed) = sealed
                && !plan.states.contains_key(&sealed.number)
                && !plan.unreadable.contains(&sealed.number)
            {
                self.grow_on(sealed);
            }
            if !plan.is_empty() {
                self.begin()?;
            }
            return Ok(plan);
        }
        // On a full disk some may be gone. With an index that was made anew one may have grown again, and
        // then all that was read of segments says too little.
        plan.victims
            .retain(|number| self.segments.contains_key(number));
        plan.dead
            .retain(|number| self.segments.contains_key(number));
        let mut left = plan.victims.iter().chain(&plan.dead);
        let is_as_it_was = |number: &u32| {
            let (now, then) = (&self.segments[number], &plan.states[number]);
            now.end == then.end && now.live_bytes <= then.live_bytes
        };
        if !left.all(is_as_it_was) || self.is_growing(&plan.victims) || self.is_growing(&plan.dead)
        {
            return Ok(Rewriting::done());
        }
        if !plan.dead.is_empty() {
            let dead = std::mem::take(&mut plan.dead);
            let notes = std::mem::take(&mut plan.dead_notes);
            let needed = self.needed(&notes, &dead)?;
            self.append_notes(&needed)?;
            self.remove_rewritten(&dead)?;
            return Ok(plan);
        }
        let later = plan.victims.split_off(self.at_a_time(&plan.victims));
        let victims = std::mem::replace(&mut plan.victims, later);
        let needed = self.needed(&plan.notes, &victims)?;
        match self.rewrite(&victims, &needed, &plan.unreadable)? {
            true => Ok(plan),
            // One stays that should have gone, and what is noted in others may be needed for it.
            false => Ok(Rewriting::done()),
        }
    }

    /// Of these notes those that lie in segments that go now. What was put again since is not gone.
    fn needed(
        &mut self,
        notes: &HashMap<Name, u32>,
        leaving: &[u32],
    ) -> Result<Vec<Name>, IoFailure> {
        let is_needed = |name: &Name, noted: &u32| {
            leaving.binary_search(noted).is_ok() && self.find(name).is_none()
        };
        let needed = notes.iter().filter(|(name, noted)| is_needed(name, noted));
        let needed: Vec<Name> = needed.map(|(name, _)| *name).collect();
        // What was not found may only not have been read,
        self.all_was_read()?;
        // or have rotted away.
        if !needed.is_empty() {
            self.trust_table()?;
        }
        Ok(needed)
    }

    /// How many of these victims are rewritten together: one, or more while their copies together are
    /// smaller than the table that has to be written each time.
    fn at_a_time(&self, victims: &[u32]) -> usize {
        let table_bytes = self.usage.records() * ENTRY_BYTES as u64;
        let mut bytes = 0;
        let fits = victims.iter().take_while(|number| {
            bytes += self.live_bytes(**number);
            bytes <= table_bytes
        });
        fits.count().max(1).min(victims.len())
    }

    pub(super) fn live_bytes(&self, number: u32) -> u64 {
        let state = self.segments.get(&number);
        state.map_or(0, |state| state.live_bytes)
    }

    /// Copies what is alive, and removes what was copied. Says no, and removes nothing, where one of them turns
    /// out to be unreadable.
    fn rewrite(
        &mut self,
        victims: &[u32],
        notes: &[Name],
        unreadable: &HashSet<u32>,
    ) -> Result<bool, IoFailure> {
        let mut all_are_read = true;
        for number in victims {
            if !self.copy_live(*number)? && !unreadable.contains(number) {
                // What cannot be read stays where it is, and is no victim until the next opening.
                self.unreadable.insert(*number);
                all_are_read = false;
            }
        }
        if !all_are_read {
            self.sync()?;
            return Ok(false);
        }
        let gone = victims.iter().filter(|number| !unreadable.contains(number));
        let gone: Vec<u32> = gone.copied().collect();
        for number in &gone {
            self.drop_damaged(*number)?;
        }
        self.append_notes(notes)?;
        self.remove_rewritten(&gone)?;
        Ok(true)
    }

    /// Removes segments of which nothing is needed any more, once that is durable.
    fn remove_rewritten(&mut self, numbers: &[u32]) -> Result<(), IoFailure> {
        // Where this fails, the copies are given up.
        self.sync()?;
        if numbers.is_empty() {
            return Ok(());
        }
        let is_gone = |number: &u32, _: &mut SegmentState| numbers.contains(number);
        let gone: Vec<_> = self.segments.extract_if(.., is_gone).collect();
        let written = self.checkpoint();
        if written.is_err() {
            // They stay, as segments in which nothing is alive.
            for (number, state) in &gone {
                let dead = SegmentState {
                    live_bytes: 0,
                    ..*state
                };
                self.segments.entry(*number).or_insert(dead);
            }
        }
        written?;
        for (number, _) in gone {
            // An index that was damaged is made anew from all segments, these among them.
            if !self.segments.contains_key(&number) {
                self.remove_segment(number)?;
            }
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
    pub(super) fn remove_dead(&mut self) -> Result<bool, IoFailure> {
        let is_dead = |state: &SegmentState| state.live_bytes == 0 && state.end > 0;
        let mut dead = self.idle(is_dead);
        // What was copied and is not durable there may have to be copied again.
        let is_copied = |number| {
            self.copied
                .iter()
                .any(|copied| copied.from.segment == number)
        };
        dead.retain(|number| !self.unreadable.contains(number) && !is_copied(*number));
        let notes = loop {
            match self
                .surveyed()
                .needed_notes(&dead, &AtomicBool::new(false))?
            {
                Read::Notes(notes) => break self.needed(&notes, &dead)?,
                Read::NotAll(unreadable) => dead.retain(|number| *number != unreadable),
            }
        };
        // Whoever is killed in between leaves both, unless there is no room for the notes.
        let noted = self.append_notes(&notes);
        for number in &dead {
            self.remove_segment(*number)?;
        }
        if noted.is_err()
            && let Err(failure) = self.append_notes(&notes)
        {
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
}

/// Whether so little of a segment is alive, with the notes of so many bytes that outlive it.
pub(super) fn is_worth(state: &SegmentState, notes_bytes: usize, live_percent: u64) -> bool {
    let alive = state.live_bytes.saturating_add(notes_bytes as u64);
    alive.saturating_mul(100) <= u64::from(state.end) * live_percent
}

fn number(state: &SegmentState) -> u32 {
    state.number
}

/// Bytes of records that nothing points to any more.
fn dead_bytes(state: &SegmentState) -> u64 {
    u64::from(state.end).saturating_sub(state.live_bytes)
}
