//! A table on disk, searched where it lies.
//!
//! Owns: finding entries with one read, and their uses since the table was written.
//! Does not know: the format (`index`), or what happened after the table was written (`pack` replays that).
//! Invariants: nothing of the file is mapped, so whoever cuts it off, or a sector that cannot be read, makes
//! a search fail and not the process; a search that failed is told by [`Table::is_harmed`] until all of it
//! could be read again, and no other table is made of what a harmed one lists.
//!
//! In memory there are the first bytes of every so many-th hash: eight bytes for 16 entries.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use super::index::{
    Covered, ENTRY_BYTES, Entry, HEADER_BYTES, Name, Parsed, Place, SegmentState, decode_entry,
    first_bytes, head_bytes, parse, prefix, search,
};
use crate::stats::Usage;

/// Entries of a block, which is read at once.
const BLOCK: usize = 16;
/// Entries that are read at a time to walk through them.
const PIECE: usize = 1024 * BLOCK;

/// A table on disk.
#[derive(Debug)]
pub(crate) struct Table {
    file: File,
    head: Parsed,
    /// The first bytes of the first hash of each block.
    fences: Vec<u64>,
    /// Second of last use of each entry since the table was written; 0 for none. Memory that was
    /// never written to is not there, so a table nobody uses costs none.
    uses: Vec<u32>,
    is_harmed: Cell<bool>,
}

impl Table {
    /// A table; `None` when it is none, was damaged, or cannot be read.
    pub(crate) fn open(file: File) -> Option<Self> {
        let size_bytes = file.metadata().ok()?.len();
        let mut head = vec![0; HEADER_BYTES];
        file.read_exact_at(&mut head, 0).ok()?;
        let length = head_bytes(&head).filter(|length| *length as u64 <= size_bytes)?;
        head.resize(length, 0);
        file.read_exact_at(&mut head, 0).ok()?;
        let mut table = Self::new(file, parse(&head, size_bytes)?, Vec::new());
        let mut fences = Vec::with_capacity(table.len().div_ceil(BLOCK));
        let is_intact = table.check(|entries| fences.extend(fences_of(entries)));
        table.fences = fences;
        is_intact.then_some(table)
    }

    /// A table that was just written, of these bytes: they are not read once more.
    pub(crate) fn written(file: File, bytes: &[u8]) -> Option<Self> {
        let head = parse(bytes, bytes.len() as u64)?;
        let fences = fences_of(bytes[head.entries_at..].as_chunks().0).collect();
        Some(Self::new(file, head, fences))
    }

    fn new(file: File, head: Parsed, fences: Vec<u64>) -> Self {
        Self {
            file,
            uses: vec![0; head.entries],
            head,
            fences,
            is_harmed: Cell::new(false),
        }
    }

    pub(crate) fn covered(&self) -> Covered {
        self.head.covered
    }

    pub(crate) fn usage(&self) -> Usage {
        self.head.usage
    }

    pub(crate) fn segments(&self) -> &[SegmentState] {
        &self.head.segments
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.head.entries
    }

    /// Whether the entries are those that were written. Reads them all.
    pub(crate) fn is_intact(&self) -> bool {
        self.check(|_| ())
    }

    fn check(&self, mut meet: impl FnMut(&[Entry])) -> bool {
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        while at < self.len() {
            let Some(entries) = self.read(at, PIECE) else {
                return false;
            };
            hasher.update(entries.as_flattened());
            meet(&entries);
            at += entries.len();
        }
        first_bytes(&hasher) == self.head.entries_check
    }

    /// Whether a part of it could not be read: what was not found may be here.
    pub(crate) fn is_harmed(&self) -> bool {
        self.is_harmed.get()
    }

    /// All of it can be read now. Says whether it could not before.
    pub(crate) fn heal(&self) -> bool {
        self.is_harmed.replace(false)
    }

    /// When it was written, as the file system knows it.
    pub(crate) fn written_at(&self) -> Option<SystemTime> {
        self.file.metadata().and_then(|is| is.modified()).ok()
    }

    /// Where a record lies.
    pub(crate) fn find(&self, name: &Name) -> Option<Place> {
        Some(self.locate(name)?.1)
    }

    /// Where a record lies; notes that it is used now. The place still says when it was used
    /// before.
    pub(crate) fn touch(&mut self, name: &Name, now: u32) -> Option<Place> {
        let (index, place) = self.locate(name)?;
        self.uses[index] = self.uses[index].max(now);
        Some(place)
    }

    fn locate(&self, name: &Name) -> Option<(usize, Place)> {
        self.blocks_of(name).find_map(|block| {
            let entries = self.read(block * BLOCK, BLOCK)?;
            let at = search(&entries, name)?;
            let index = block * BLOCK + at;
            Some((index, self.used(index, decode_entry(&entries[at])).1))
        })
    }

    /// The blocks in which a name may lie: the last one that begins before it, and those that begin with
    /// the same bytes.
    fn blocks_of(&self, name: &Name) -> std::ops::Range<usize> {
        let wanted = prefix(&name.0);
        let same = self.fences.partition_point(|fence| *fence < wanted);
        let equal = self.fences[same..].iter();
        let equal = equal.take_while(|fence| **fence == wanted).count();
        same.saturating_sub(1)..same + equal
    }

    /// The place of the first entry behind a name.
    pub(crate) fn first_after(&self, name: Option<&Name>) -> usize {
        let Some(name) = name else { return 0 };
        let blocks = self.blocks_of(name);
        for block in blocks.clone() {
            let entries = self.read(block * BLOCK, BLOCK).unwrap_or_default();
            let at = entries.partition_point(|entry| decode_entry(entry).0 <= *name);
            if at < entries.len() {
                return block * BLOCK + at;
            }
        }
        self.len().min(blocks.end * BLOCK)
    }

    /// The entries from a place on, in the order of their names; fewer where the table is harmed.
    pub(crate) fn iter_from(&self, start: usize) -> impl Iterator<Item = (Name, Place)> + '_ {
        let pieces = (start..self.len()).step_by(PIECE);
        let pieces = pieces.map_while(|at| Some((at, self.read(at, PIECE)?)));
        pieces.flat_map(move |(start, entries)| {
            let numbered = entries.into_iter().enumerate();
            numbered.map(move |(at, entry)| self.used(start + at, decode_entry(&entry)))
        })
    }

    fn used(&self, index: usize, (name, mut place): (Name, Place)) -> (Name, Place) {
        place.used = place.used.max(self.uses[index]);
        (name, place)
    }

    /// So many entries from a place on, as far as there are; `None` where they cannot be read.
    fn read(&self, start: usize, most: usize) -> Option<Vec<Entry>> {
        let number = most.min(self.len() - start);
        let mut entries = vec![[0; ENTRY_BYTES]; number];
        let offset = self.head.entries_at + start * ENTRY_BYTES;
        let buffer = entries.as_flattened_mut();
        match self.file.read_exact_at(buffer, offset as u64) {
            Ok(()) => Some(entries),
            Err(error) => {
                tracing::warn!(%error, "an index cannot be read");
                self.is_harmed.set(true);
                None
            }
        }
    }
}

fn fences_of(entries: &[Entry]) -> impl Iterator<Item = u64> + '_ {
    entries.iter().step_by(BLOCK).map(|entry| prefix(entry))
}
