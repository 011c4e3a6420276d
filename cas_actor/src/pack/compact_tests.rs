//! Compaction on a disk that is full or fails, and what it must not forget.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::*;
use crate::digest::Digest;
use crate::fs::faulty::{Fault, FaultyFs};
use crate::fs::{Disk, RealFs};
use crate::layout::Kind;
use crate::power_fs::PowerFs;

pub(super) fn open<F: Fs>(directory: &Path, fs: F) -> Packs<F> {
    let temp = directory.join("tmp");
    fs::create_dir_all(&temp).unwrap();
    let staging = Arc::new(Staging::new(temp, fs.clone()));
    Packs::open(fs, directory.join("packs"), staging, Arc::default()).unwrap()
}

pub(super) fn content(number: u8) -> Bytes {
    vec![number; 1000].into()
}

pub(super) fn name(number: u8) -> Name {
    (*Digest::of(&content(number)).hash(), Kind::Blob)
}

pub(super) fn put<F: Fs>(packs: &mut Packs<F>, number: u8) -> Result<(), IoFailure> {
    let header = Header {
        deleted: false,
        length: 1000,
        ..deletion(&name(number)).0
    };
    let record = [(header, content(number))];
    let places = packs.append(&record)?;
    packs.publish(&record, &places);
    Ok(())
}

/// What is put from here on goes to another segment.
fn next_segment<F: Fs>(packs: &mut Packs<F>) {
    packs.seal().unwrap();
}

impl Survey {
    pub(crate) fn read_all(self) -> Rewriting {
        let (plan, read) = self.read(&AtomicBool::new(false));
        read.unwrap();
        plan
    }
}

impl<F: Fs> Packs<F> {
    /// Rewrites all that is planned; returns the bytes that the files lost.
    pub(crate) fn compact(
        &mut self,
        live_percent: u64,
        wanted_bytes: u64,
    ) -> Result<u64, IoFailure> {
        let before = self.packed_bytes();
        let Some(survey) = self.plan(live_percent, wanted_bytes)? else {
            return Ok(before.saturating_sub(self.packed_bytes()));
        };
        let mut plan = survey.read_all();
        while !plan.is_done() {
            plan = self.rewrite_some(plan)?;
        }
        Ok(before.saturating_sub(self.packed_bytes()))
    }
}

fn segment_bytes(directory: &Path) -> u64 {
    let found = fs::read_dir(directory.join("packs")).unwrap();
    let found = found.map(|entry| entry.unwrap());
    let found = found.filter(|entry| entry.file_name() != INDEX);
    found.map(|entry| entry.metadata().unwrap().len()).sum()
}

/// The note of a deletion went with its segment, and a new index found the record in an older one.
#[test]
fn what_was_deleted_does_not_return_with_a_new_index() {
    let directory = tempfile::tempdir().unwrap();
    let mut packs = open(directory.path(), RealFs);
    for number in 0..20 {
        put(&mut packs, number).unwrap();
    }
    next_segment(&mut packs);
    put(&mut packs, 20).unwrap();
    for number in [3, 20] {
        assert!(packs.remove(&name(number)));
    }
    for _ in 0..3 {
        assert!(packs.compact(60, u64::MAX).is_ok());
        let index = directory.path().join("packs").join(INDEX);
        fs::remove_file(index).unwrap();
        let anew = open(directory.path(), RealFs);
        for number in 0..=20 {
            let is_here = anew.find(&name(number)).is_some();
            assert_eq!(is_here, ![3, 20].contains(&number), "{number}");
        }
        assert_eq!(anew.list().count(), 19);
        put(&mut packs, 20).unwrap();
        packs.remove(&name(20));
    }
    // Nothing is noted any more once nothing old is left.
    for number in 0..20 {
        packs.remove(&name(number));
    }
    packs.compact(60, u64::MAX).unwrap();
    assert_eq!(segment_bytes(directory.path()), 0);
}

/// A segment that could not be read stayed, and the notes of what was deleted in it went with others; so
/// did those in a segment that could not be read itself.
#[test]
fn what_was_deleted_stays_so_where_a_segment_cannot_be_read() {
    // What cannot be read, how much was put, ten to a segment, and of those how many are deleted at the
    // beginning of the first segment and of the last, which notes it.
    for (unreadable, whole, deleted) in [(6, 20, [5, 5]), (29, 30, [3, 10])] {
        let directory = tempfile::tempdir().unwrap();
        let fs = PowerFs::default();
        let mut packs = open(directory.path(), fs.clone());
        for number in 0..whole {
            if number > 0 && number % 10 == 0 {
                next_segment(&mut packs);
            }
            put(&mut packs, number).unwrap();
        }
        let last = whole - 10;
        for number in (0..deleted[0]).chain(last..last + deleted[1]) {
            assert!(packs.remove(&name(number)));
        }
        next_segment(&mut packs);
        fs.make_unreadable(content(unreadable).to_vec());
        packs.compact(60, u64::MAX).unwrap();
        let left: Vec<Name> = packs.list().map(|(name, _)| name).collect();
        drop(packs);
        // There is none where nothing could be rewritten.
        let _ = fs::remove_file(directory.path().join("packs").join(INDEX));
        let anew = open(directory.path(), RealFs);
        let found: Vec<Name> = anew.list().map(|(name, _)| name).collect();
        assert_eq!(found, left, "{unreadable}");
    }
}

/// The segments that were about to go were forgotten, and the next one got the number of the last.
#[test]
fn packs_can_be_written_to_after_a_compaction_has_failed() {
    let directory = tempfile::tempdir().unwrap();
    let mut packs = open(directory.path(), FaultyFs::new(Fault::Rename, 1));
    put(&mut packs, 1).unwrap();
    packs.remove(&name(1));
    assert!(packs.compact(60, u64::MAX).is_err(), "the second index");
    put(&mut packs, 2).unwrap();
    packs.sync().unwrap();
    assert!(packs.compact(60, u64::MAX).unwrap() > 1000);
    let anew = open(directory.path(), RealFs);
    assert!(anew.find(&name(1)).is_none() && anew.find(&name(2)).is_some());
}

/// What a store leaves that was killed while syncs failed.
#[test]
fn empty_segments_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let mut packs = open(directory.path(), RealFs);
    put(&mut packs, 1).unwrap();
    packs.sync().unwrap();
    drop(packs);
    let segment = |number: u32| directory.path().join(format!("packs/{number:08}.seg"));
    for number in 2..10 {
        fs::write(segment(number), "").unwrap();
    }
    let mut packs = open(directory.path(), RealFs);
    packs.compact(60, u64::MAX).unwrap();
    put(&mut packs, 2).unwrap();
    let left: Vec<u32> = (1..10).filter(|number| segment(*number).exists()).collect();
    assert_eq!(left, [1, 9], "one is written to");
}

/// A disk that takes more than it has room for, and tells when it has to write that down.
#[derive(Debug, Clone)]
struct FullFs {
    directory: PathBuf,
    room_bytes: Arc<AtomicU64>,
}

impl Disk for FullFs {
    fn sync_file(&self, _: &File) -> io::Result<()> {
        match segment_bytes(&self.directory) > self.room_bytes.load(Relaxed) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

/// Before anything was removed, everything in doubt had to be written anew, for which there was no room.
#[test]
fn dead_segments_make_room_for_what_is_in_doubt() {
    let directory = tempfile::tempdir().unwrap();
    let fs = FullFs {
        directory: directory.path().into(),
        room_bytes: Arc::new(AtomicU64::new(u64::MAX)),
    };
    let mut packs = open(directory.path(), fs.clone());
    for number in 0..20 {
        put(&mut packs, number).unwrap();
    }
    next_segment(&mut packs);
    fs.room_bytes.store(22_000, Relaxed);
    for number in 20..25 {
        put(&mut packs, number).unwrap();
    }
    for _ in 0..3 {
        assert!(packs.sync().is_err());
    }
    for number in 0..20 {
        assert!(packs.remove(&name(number)));
    }
    assert!(packs.compact(60, u64::MAX).unwrap() > 15_000);
    assert!(!packs.is_in_doubt());
    let anew = open(directory.path(), RealFs);
    assert_eq!(anew.list().count(), 5);
}

/// A disk with a sector in the first segment that cannot be read.
#[derive(Debug, Clone)]
struct BadSectorFs {
    bad: std::ops::Range<u64>,
}

impl Disk for BadSectorFs {
    fn read_back(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let end = offset + buffer.len() as u64;
        let is_bad = offset < self.bad.end && self.bad.start < end;
        match is_bad && path.ends_with("00000001.seg") {
            true => Err(rustix::io::Errno::IO.into()),
            false => RealFs.read_back(file, buffer, offset),
        }
    }
}

/// The segment was mapped then, and touching the sector killed the process.
#[test]
fn a_sector_that_cannot_be_read_costs_no_note() {
    let directory = tempfile::tempdir().unwrap();
    let bad = 4096..8192;
    let mut packs = open(directory.path(), BadSectorFs { bad });
    for number in 0..20 {
        put(&mut packs, number).unwrap();
    }
    next_segment(&mut packs);
    for number in 20..40 {
        put(&mut packs, number).unwrap();
    }
    // One before the sector, one in it, one behind it, and what makes their notes leave.
    for number in [1, 5, 15].into_iter().chain(20..40) {
        assert!(packs.remove(&name(number)));
    }
    assert!(packs.compact(60, u64::MAX).unwrap() > 15_000);
    let index = directory.path().join("packs").join(INDEX);
    fs::remove_file(index).unwrap();
    let anew = open(directory.path(), RealFs);
    assert_eq!(anew.list().count(), 17);
}

/// Nothing in it counted as alive, so that every compaction wrote it to the next segment.
#[test]
fn a_segment_of_needed_notes_stays_where_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut packs = open(directory.path(), RealFs);
    for number in 0..20 {
        put(&mut packs, number).unwrap();
    }
    next_segment(&mut packs);
    assert!(packs.remove(&name(3)));
    packs.compact(60, u64::MAX).unwrap();
    let next = packs.next_number;
    for _ in 0..3 {
        assert_eq!(packs.compact(60, u64::MAX).unwrap(), 0);
    }
    assert_eq!((packs.next_number, packs.segments.len()), (next, 2));
    for number in 0..20 {
        packs.remove(&name(number));
    }
    packs.compact(60, u64::MAX).unwrap();
    assert_eq!(segment_bytes(directory.path()), 0, "needed no more");
}

/// A plan seals the segment that grows, and has it grow on where it comes to nothing: not if a table that may be
/// on the disk takes it for finished, for then nobody looks for what is appended.
#[test]
fn what_is_put_after_a_plan_for_nothing_is_found_again() {
    for fails in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let fs = FaultyFs::new(Fault::Sync, i64::MAX);
        let mut packs = open(directory.path(), fs.clone());
        for number in 0..20 {
            put(&mut packs, number).unwrap();
        }
        next_segment(&mut packs);
        assert!(packs.remove(&name(3)));
        let survey = packs.plan(60, u64::MAX).unwrap().unwrap();
        let plan = survey.read_all();
        if fails {
            // Behind the index, which has its name then.
            fs.countdown.store(1, Relaxed);
            assert!(packs.checkpoint().is_err());
        }
        assert!(packs.rewrite_some(plan).unwrap().is_done());
        put(&mut packs, 21).unwrap();
        packs.sync().unwrap();
        let expected = if fails { 3 } else { 2 };
        assert_eq!(packs.segments.len(), expected, "it grows on where it may");
        drop(packs);
        let anew = open(directory.path(), RealFs);
        assert!(anew.find(&name(21)).is_some() && anew.find(&name(3)).is_none());
    }
}

/// Live records were copied, and a tail replayed, from a map: touching the sector killed the process.
#[test]
fn a_sector_that_cannot_be_read_costs_what_lies_in_it_until_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let disk = BadSectorFs { bad: 4096..8192 };
    let mut packs = open(directory.path(), disk.clone());
    for number in 0..20 {
        put(&mut packs, number).unwrap();
    }
    packs.sync().unwrap();
    drop(packs);
    let is_here = |packs: &Packs<BadSectorFs>| {
        let find = |number: &u8| packs.find(&name(*number)).is_some();
        (0..20).filter(find).collect::<Vec<u8>>()
    };
    let (behind, all): (Vec<u8>, Vec<u8>) = ((8..20).collect(), (0..20).collect());
    let readable: Vec<u8> = (0..3).chain(behind).collect();

    // Read again at the opening, as nothing else tells what is in it.
    let mut packs = open(directory.path(), disk.clone());
    assert_eq!(is_here(&packs), readable);
    put(&mut packs, 20).unwrap();
    packs.sync().unwrap();
    drop(packs);
    let well = BadSectorFs { bad: 0..0 };
    let mut packs = open(directory.path(), well);
    assert_eq!(is_here(&packs), all, "nothing was cut off or written over");
    packs.checkpoint().unwrap();
    drop(packs);

    let mut packs = open(directory.path(), disk);
    next_segment(&mut packs);
    packs.compact(100, u64::MAX).unwrap();
    assert_eq!(is_here(&packs), all);
    let in_first = |packs: &Packs<BadSectorFs>| {
        let is_in_first = |number: &u8| packs.find(&name(*number)).unwrap().segment == 1;
        (0..20).filter(is_in_first).collect::<Vec<u8>>()
    };
    assert_eq!(
        in_first(&packs),
        [3, 4, 5, 6, 7],
        "it stays with what is in it"
    );
}

/// All victims were copied before the first was removed.
#[test]
fn room_for_the_copy_of_one_segment_is_enough() {
    let directory = tempfile::tempdir().unwrap();
    let fs = FullFs {
        directory: directory.path().into(),
        room_bytes: Arc::new(AtomicU64::new(u64::MAX)),
    };
    let mut packs = open(directory.path(), fs.clone());
    for segment in 0..4 {
        for number in 0..20 {
            put(&mut packs, 20 * segment + number).unwrap();
        }
        next_segment(&mut packs);
    }
    // Less than half of two segments is alive.
    for number in (0..12).chain(20..32) {
        packs.remove(&name(number));
    }
    packs.sync().unwrap();
    let before = segment_bytes(directory.path());
    fs.room_bytes.store(before + 12_000, Relaxed);
    assert!(packs.compact(60, u64::MAX).unwrap() > 20_000);
    let index = directory.path().join("packs").join(INDEX);
    for _ in 0..2 {
        let anew = open(directory.path(), RealFs);
        assert_eq!(anew.list().count(), 80 - 24);
        let _ = fs::remove_file(&index);
    }
}

/// All victims were rewritten at once, and the shard answered nobody meanwhile. What was put again before the
/// note of its deletion was copied would have been gone.
#[test]
fn between_two_batches_whatever_may_come() {
    let directory = tempfile::tempdir().unwrap();
    let mut packs = open(directory.path(), RealFs);
    for segment in 0..3 {
        for number in 0..20 {
            put(&mut packs, 20 * segment + number).unwrap();
        }
        // In the second, which goes, of one in the first, which stays.
        if segment == 1 {
            packs.remove(&name(3));
        }
        next_segment(&mut packs);
    }
    for number in (20..32).chain(40..52) {
        packs.remove(&name(number));
    }
    let survey = packs.plan(60, 20_000).unwrap().unwrap();
    let plan = survey.read_all();
    let mut plan = packs.rewrite_some(plan).unwrap();
    for number in [3, 21, 100] {
        put(&mut packs, number).unwrap();
    }
    plan = packs.rewrite_some(plan).unwrap();
    assert!(!plan.is_done(), "one of two");
    packs.remove(&name(55));
    plan = packs.rewrite_some(plan).unwrap();
    assert!(plan.is_done());
    packs.sync().unwrap();
    let index = directory.path().join("packs").join(INDEX);
    for _ in 0..2 {
        let anew = open(directory.path(), RealFs);
        for number in 0..60 {
            let is_gone =
                number != 21 && ((20..32).contains(&number) || (40..52).contains(&number));
            let is_here = !is_gone && number != 55;
            assert_eq!(anew.find(&name(number)).is_some(), is_here, "{number}");
        }
        drop(anew);
        let _ = fs::remove_file(&index);
    }
}

/// It was the first to be tried each time, what was wanted was expected of it, and no other was.
#[test]
fn a_dead_segment_that_cannot_be_read_keeps_no_other_from_going() {
    let directory = tempfile::tempdir().unwrap();
    let mut packs = open(directory.path(), BadSectorFs { bad: 4096..8192 });
    for number in 0..40 {
        put(&mut packs, number).unwrap();
        if number == 19 {
            next_segment(&mut packs);
        }
    }
    next_segment(&mut packs);
    for number in 0..35 {
        packs.remove(&name(number));
    }
    let before = packs.packed_bytes();
    assert_eq!(packs.compact(60, 10_000).unwrap(), 0);
    assert_eq!(packs.packed_bytes(), before, "nor is anything copied");
    assert!(packs.compact(60, 10_000).unwrap() > 10_000);
}

/// The whole index was read before anybody had looked whether there was something to rewrite.
#[test]
fn where_nothing_is_dead_no_index_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let mut packs = open(directory.path(), RealFs);
    put(&mut packs, 1).unwrap();
    packs.checkpoint().unwrap();
    let index = directory.path().join("packs").join(INDEX);
    fs::write(&index, "damaged").unwrap();
    assert_eq!(packs.compact(60, u64::MAX).unwrap(), 0);
    assert!(index.exists(), "it would have been removed");
}
