//! What has to be read of segments before any of them is rewritten.
//!
//! Owns: reading the headers of segments to learn which notes of deletions outlive them.
//! Does not know: the index; a shard goes on with its work meanwhile, so whoever reads may take its time.
//! Invariants: no segment that is to go grows while it is read; what could not be read stays, and may hold
//! a record of anything; without a note, a deleted record that an older segment holds would be back when the
//! index is made anew.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::compact::{Rewriting, is_worth};
use super::index::SegmentState;
use super::record::HEADER_BYTES;
use super::walk::each_header;
use super::{Active, Name, segment_in};
use crate::error::IoFailure;
use crate::fs::Disk;

/// The segments of a shard at one moment, and those of them that are to go.
pub(crate) struct Survey {
    pub(super) segments: Segments,
    pub(super) live_percent: u64,
    /// The oldest first.
    pub(super) victims: Vec<u32>,
    /// The segment that grew, if it is one of them.
    pub(super) sealed: Option<Active>,
}

impl Survey {
    /// Reads all headers that matter, and tells what kept it from that: then nothing is to be rewritten. What is
    /// returned goes back to the shard in any case, for it holds the segment that grew.
    pub(crate) fn read(self, closing: &AtomicBool) -> (Rewriting, Result<(), IoFailure>) {
        let Self {
            segments,
            live_percent,
            victims,
            sealed,
        } = self;
        let mut unreadable = HashSet::new();
        let read = segments.survey(victims, live_percent, &mut unreadable, closing);
        let (plan, read) = match read {
            Ok(plan) => (plan, Ok(())),
            Err(failure) => (Rewriting::default(), Err(failure)),
        };
        let plan = Rewriting {
            unreadable,
            sealed,
            ..plan
        };
        (plan, read)
    }
}

fn without(numbers: &[u32], others: &HashSet<u32>) -> Vec<u32> {
    let left = numbers.iter().filter(|number| !others.contains(number));
    left.copied().collect()
}

/// What was read of those that leave.
pub(super) enum Read {
    /// The deletions noted in them that an older segment needs which stays, and where each is noted.
    Notes(HashMap<Name, u32>),
    /// This one could not be read in full: what it notes is not known.
    NotAll(u32),
}

/// Where segments lie, and what is known of them.
pub(super) struct Segments {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) directory: PathBuf,
    /// Those that hold something, the oldest first.
    pub(super) states: Vec<SegmentState>,
}

impl Segments {
    fn survey(
        &self,
        mut victims: Vec<u32>,
        live_percent: u64,
        unreadable: &mut HashSet<u32>,
        closing: &AtomicBool,
    ) -> Result<Rewriting, IoFailure> {
        let mut notes;
        loop {
            // Where one stays, what it holds may need the notes of another.
            let leaving: Vec<u32> = without(&victims, unreadable);
            notes = match self.needed_notes(&leaving, closing)? {
                Read::Notes(notes) => notes,
                Read::NotAll(number) => {
                    unreadable.insert(number);
                    continue;
                }
            };
            let mut notes_bytes: HashMap<u32, usize> = HashMap::new();
            for noted in notes.values() {
                *notes_bytes.entry(*noted).or_default() += HEADER_BYTES;
            }
            let before = victims.len();
            victims.retain(|number| {
                let notes_bytes = notes_bytes.get(number).copied().unwrap_or(0);
                is_worth(&self.state(*number), notes_bytes, live_percent)
            });
            if victims.len() == before {
                break;
            }
        }
        let is_dead = |number: &u32| self.state(*number).live_bytes == 0;
        let dead: Vec<u32> = victims.iter().copied().filter(is_dead).collect();
        let dead = without(&dead, unreadable);
        // There is nothing to copy out of one that is dead.
        victims.retain(|number| !is_dead(number));
        let dead_notes = match dead.is_empty() {
            true => HashMap::new(),
            false => match self.needed_notes(&dead, closing)? {
                Read::Notes(notes) => notes,
                // It could be read a moment ago.
                Read::NotAll(_) => return Ok(Rewriting::default()),
            },
        };
        let states = victims.iter().chain(&dead);
        let states = states.map(|number| (*number, self.state(*number)));
        Ok(Rewriting {
            states: states.collect(),
            victims,
            notes,
            dead,
            dead_notes,
            ..Rewriting::default()
        })
    }

    fn state(&self, number: u32) -> SegmentState {
        let found = self
            .states
            .binary_search_by_key(&number, |state| state.number);
        found.map_or(SegmentState::empty(number), |index| self.states[index])
    }

    /// The deletions noted in segments that are about to go, and where, if an older segment that stays holds
    /// a record of that name. Also of what was put again: who rewrites looks. The oldest leaves first.
    pub(super) fn needed_notes(
        &self,
        leaving: &[u32],
        closing: &AtomicBool,
    ) -> Result<Read, IoFailure> {
        let mut noted: HashMap<Name, u32> = HashMap::new();
        for number in leaving {
            let is_read =
                self.each_header(&self.state(*number), closing, |name, is_deletion| {
                    if is_deletion {
                        noted.insert(name, *number);
                    }
                })?;
            if !is_read {
                return Ok(Read::NotAll(*number));
            }
        }
        let last = noted.values().max().copied().unwrap_or(0);
        let mut needed = HashMap::new();
        for state in self.states.iter().filter(|state| state.number < last) {
            // Everything in it is alive: it holds nothing that was deleted.
            let is_whole = state.live_bytes >= u64::from(state.end);
            if is_whole || leaving.binary_search(&state.number).is_ok() {
                continue;
            }
            let is_read = self.each_header(state, closing, |name, is_deletion| {
                if let Some(noted) = noted.get(&name)
                    && state.number < *noted
                    && !is_deletion
                {
                    needed.insert(name, *noted);
                }
            })?;
            if !is_read {
                // It may hold any of them.
                needed.extend(noted.iter().filter(|(_, noted)| state.number < **noted));
            }
        }
        Ok(Read::Notes(needed))
    }

    fn each_header(
        &self,
        state: &SegmentState,
        closing: &AtomicBool,
        mut meet: impl FnMut(Name, bool),
    ) -> Result<bool, IoFailure> {
        let path: &Path = &segment_in(&self.directory, state.number);
        if closing.load(Relaxed) {
            let closes = io::Error::other("the store closes");
            return Err(IoFailure::new("read", path, closes));
        }
        each_header(&*self.disk, path, state.end, |header| {
            meet((header.hash, header.kind), header.deleted);
        })
    }
}
