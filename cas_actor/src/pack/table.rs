//! A table on disk, searched where it lies.
//!
//! Owns: finding entries with one read, walking through them, their uses since the table was written, and
//! writing one piece by piece.
//! Does not know: the format (`index`), or what happened after the table was written (`pack` replays that).
//! Invariants: nothing of the file is mapped, so whoever cuts it off, or a sector that cannot be read, makes
//! a search fail and not the process; a search that failed is told by [`Table::is_harmed`] until all of it
//! could be read again, and no other table is made of what a harmed one lists.
//!
//! In memory there are the first bytes of every so many-th hash: eight bytes for 16 entries.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;
use std::vec;

use super::index::{
    Covered, ENTRY_BYTES, Entry, HEADER_BYTES, Name, Parsed, Place, SegmentState, decode_entry,
    encode_entry, first_bytes, head_bytes, head_bytes_of, parse, prefix, search,
};
use crate::fs::Disk;
use crate::stats::Usage;

/// Entries of a block, which is read at once.
const BLOCK: usize = 16;
/// Entries that are read at a time to walk through them, and written.
const PIECE: usize = 256 * BLOCK;

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

    fn new(file: File, head: Parsed, fences: Vec<u64>) -> Self {
        Self {
            file,
            uses: vec![0; head.entries],
            head,
            fences,
            is_harmed: Cell::new(false),
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
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
    pub(super) fn entries_from(&self, start: usize) -> Entries<'_> {
        Entries {
            table: self,
            start,
            next: start,
            piece: Vec::new().into_iter(),
            hasher: blake3::Hasher::new(),
        }
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

/// Walks through a table.
pub(super) struct Entries<'t> {
    table: &'t Table,
    start: usize,
    /// What is read next.
    next: usize,
    piece: vec::IntoIter<Entry>,
    hasher: blake3::Hasher,
}

impl Entries<'_> {
    /// Whether all of the table was met, as it was written.
    pub(super) fn is_intact(&self) -> bool {
        let is_whole = self.start == 0 && self.next == self.table.len() && self.piece.len() == 0;
        is_whole && first_bytes(&self.hasher) == self.table.head.entries_check
    }
}

impl Iterator for Entries<'_> {
    type Item = (Name, Place);

    fn next(&mut self) -> Option<(Name, Place)> {
        if self.piece.len() == 0 && self.next < self.table.len() {
            let piece = self.table.read(self.next, PIECE)?;
            self.hasher.update(piece.as_flattened());
            self.next += piece.len();
            self.piece = piece.into_iter();
        }
        let index = self.next - self.piece.len();
        let entry = self.piece.next()?;
        Some(self.table.used(index, decode_entry(&entry)))
    }
}

/// Writes a table, entry by entry.
pub(super) struct Writer<'d> {
    disk: &'d dyn Disk,
    file: File,
    /// Where the next piece goes.
    at: u64,
    piece: Vec<u8>,
    hasher: blake3::Hasher,
    fences: Vec<u64>,
    entries: usize,
}

impl<'d> Writer<'d> {
    /// To a file that holds nothing, of a table with so many segments.
    pub(super) fn new(disk: &'d dyn Disk, file: File, segments: usize) -> Self {
        Self {
            disk,
            file,
            at: head_bytes_of(segments) as u64,
            piece: Vec::with_capacity(PIECE * ENTRY_BYTES),
            hasher: blake3::Hasher::new(),
            fences: Vec::new(),
            entries: 0,
        }
    }

    /// The next entry in the order of names.
    pub(super) fn push(&mut self, name: &Name, place: &Place) -> io::Result<()> {
        let entry = encode_entry(name, place);
        if self.entries.is_multiple_of(BLOCK) {
            self.fences.push(prefix(&entry));
        }
        self.entries += 1;
        self.piece.extend_from_slice(&entry);
        match self.piece.len() < PIECE * ENTRY_BYTES {
            true => Ok(()),
            false => self.write_piece(),
        }
    }

    fn write_piece(&mut self) -> io::Result<()> {
        self.disk.write_at(&self.file, &self.piece, self.at)?;
        self.hasher.update(&self.piece);
        self.at += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }

    /// Writes the head, which says that the rest is there.
    pub(super) fn finish(
        mut self,
        covered: Covered,
        usage: &Usage,
        segments: &[SegmentState],
    ) -> io::Result<Table> {
        self.write_piece()?;
        let head = Parsed {
            covered,
            usage: *usage,
            segments: segments.to_vec(),
            entries_at: head_bytes_of(segments.len()),
            entries: self.entries,
            entries_check: first_bytes(&self.hasher),
        };
        self.disk.write_at(&self.file, &head.encode(), 0)?;
        Ok(Table::new(self.file, head, self.fences))
    }
}

fn fences_of(entries: &[Entry]) -> impl Iterator<Item = u64> + '_ {
    entries.iter().step_by(BLOCK).map(|entry| prefix(entry))
}
