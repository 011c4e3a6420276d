//! Writing the index down.
//!
//! Owns: when a table is due, what it covers, and how it takes the place of the one before.
//! Does not know: the format (`index`).
//! Invariants: a table covers nothing that is not durable, and is not made of one that is damaged or could
//! not be read in full; whatever number of entries there is, memory holds a piece of each table.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs;
use std::io;

use super::index::{Covered, ENTRY_BYTES, SegmentState};
use super::merge::Merge;
use super::table::{Table, Writer};
use super::{INDEX, Packs};
use crate::error::{During, IoFailure};
use crate::fs::Fs;
use crate::stats::count;

/// Changes are folded into a new table at this many bytes of records behind the old one, or at
/// twice the size of the table if that is more: recovery stays short and rewriting rare.
pub(super) const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;
/// Changes in memory before they are folded into a new table, unless the table is much larger.
const CHECKPOINT_CHANGES: usize = 16 * 1024;
/// On closing, this many bytes of records are left to the next opening.
const LEAVE_BYTES: u64 = 512 * 1024;
/// Uses are worth a new table when the known ones are so much older, in seconds: while the store is
/// open, and then only if the table itself is as old,
const STALE_USE_SECONDS: u32 = 24 * 3600;
/// and when it is closed.
const STALE_USE_SECONDS_AT_CLOSE: u32 = 3600;

impl<F: Fs> Packs<F> {
    /// Folds the changes into a new table when there are many.
    pub(crate) fn checkpoint_if_due(&mut self) -> Result<(), IoFailure> {
        let entries = self.table.as_ref().map_or(0, Table::len);
        let bytes = CHECKPOINT_BYTES.max(2 * (entries * ENTRY_BYTES) as u64);
        let changes = CHECKPOINT_CHANGES.max(entries / 4);
        let is_stale = self.stale_use_seconds > STALE_USE_SECONDS && self.table_is_old();
        match self.tail_bytes > bytes || self.changes.len() > changes || is_stale {
            true => self.checkpoint(),
            false => Ok(()),
        }
    }

    /// Whether the table was written so long ago that uses are worth another. Without that, each old
    /// record that is used would cost one.
    fn table_is_old(&self) -> bool {
        let written = self.table.as_ref().and_then(Table::written_at);
        let age = written.and_then(|written| written.elapsed().ok());
        age.is_some_and(|age| age.as_secs() >= u64::from(STALE_USE_SECONDS))
    }

    /// Leaves little to do for the next opening.
    pub(crate) fn close(&mut self) -> Result<(), IoFailure> {
        let is_stale = self.stale_use_seconds > STALE_USE_SECONDS_AT_CLOSE;
        match self.tail_bytes > LEAVE_BYTES || is_stale {
            true => self.checkpoint(),
            false => Ok(()),
        }
    }

    /// Writes a table that covers everything.
    pub(crate) fn checkpoint(&mut self) -> Result<(), IoFailure> {
        if self.write_table()? {
            return Ok(());
        }
        self.mend_table()?;
        match self.write_table()? {
            true => Ok(()),
            false => {
                let harmed = io::Error::other("a part of it could not be read");
                Err(IoFailure::new("read", &self.directory.join(INDEX), harmed))
            }
        }
    }

    /// Merges the table and the changes into a new one. Says no, and leaves everything as it is, where the
    /// old one is not what was written.
    fn write_table(&mut self) -> Result<bool, IoFailure> {
        self.sync()?;
        let covered = match &self.active {
            Some(active) => Covered {
                segment: active.number,
                end: active.end,
            },
            // Nothing will be appended to what exists; covered is all of it.
            None => Covered {
                segment: self.next_number,
                end: 0,
            },
        };
        let states: Vec<SegmentState> = self.segments.values().copied().collect();
        fs::create_dir_all(&self.directory).during("create", &self.directory)?;
        let temp = self.staging.path();
        let mut entries = Merge::new(self.table.as_ref(), &self.changes, None);
        let written = self
            .fs
            .write_new(temp.as_path(), &[])
            .and_then(|file| {
                let mut writer = Writer::new(&self.fs, file, states.len());
                for (name, place) in &mut entries {
                    writer.push(&name, &place)?;
                }
                let table = writer.finish(covered, &self.usage, &states)?;
                self.fs.sync_file(table.file())?;
                Ok(table)
            })
            .during("write", temp.as_path())?;
        if !entries.is_intact() {
            return Ok(false);
        }
        let path = self.directory.join(INDEX);
        // Also where what follows fails: the name may lead to it by then.
        self.finished_below = covered.segment;
        self.fs
            .rename(temp.as_path(), &path)
            .during("write", &path)?;
        temp.named();
        count(&self.counters.fsyncs, 2);
        self.fs
            .sync_directory(&self.directory)
            .during("sync", &self.directory)?;
        self.table = Some(written);
        self.changes = HashMap::new();
        self.tail_bytes = 0;
        self.stale_use_seconds = 0;
        Ok(true)
    }
}
