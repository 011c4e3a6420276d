//! What rots on the disk, and what that must not cost.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::compact_tests::{content, name, open, put};
use super::index::ENTRY_BYTES;
use super::merge::Merge;
use super::*;
use crate::action::ActionEntry;
use crate::digest::Digest;
use crate::fs::{Disk, RealFs};
use crate::layout::{Kind, PACK_UP_TO_BYTES};

fn put_all<F: Fs>(packs: &mut Packs<F>, records: &[(Header, Bytes)]) -> Vec<Place> {
    let places = packs.append(records).unwrap();
    packs.publish(records, &places);
    places
}

fn entry(key: u8, payload: &str) -> (Header, Bytes) {
    let encoded = Bytes::from(ActionEntry::new(payload.to_owned()).encode(&[key; 32]));
    let header = Header {
        kind: Kind::Action,
        deleted: false,
        hash: [key; 32],
        length: encoded.len() as u32,
        deflated: false,
    };
    (header, encoded)
}

fn key(key: u8) -> Name {
    ([key; 32], Kind::Action)
}

/// Loses bytes of a segment.
fn lose<F: Fs>(packs: &Packs<F>, segment: u32, at: u32, bytes: usize) {
    let file = File::options()
        .write(true)
        .open(packs.segment_path(segment))
        .unwrap();
    file.write_all_at(&vec![0; bytes], u64::from(at)).unwrap();
}

fn assert_intact<F: Fs>(packs: &mut Packs<F>, numbers: impl IntoIterator<Item = u8>) {
    for number in numbers {
        let read = packs.read(&name(number)).unwrap();
        assert_eq!(read, Read::Intact(content(number)), "{number}");
    }
}

/// A blob full of headers, each of them of a record that reaches far behind it, and its own header lost.
fn put_forged<F: Fs>(packs: &mut Packs<F>) {
    let number = PACK_UP_TO_BYTES as u32 / HEADER_BYTES as u32;
    let forged: Vec<u8> = (0..number)
        .flat_map(|index| {
            let header = Header {
                kind: Kind::Blob,
                deleted: false,
                hash: [9; 32],
                length: (number - index) * HEADER_BYTES as u32 + 20_000,
                deflated: false,
            };
            header.encode()
        })
        .collect();
    let header = Header {
        kind: Kind::Blob,
        deleted: false,
        hash: *Digest::of(&forged).hash(),
        length: forged.len() as u32,
        deflated: false,
    };
    let places = put_all(packs, &[(header, forged.into())]);
    packs.sync().unwrap();
    lose(packs, places[0].segment, places[0].offset, 8);
}

/// Records behind a blob of forged headers whose own header was lost were taken for damaged, and went with
/// their segment.
#[test]
fn headers_in_a_blob_hide_no_record_from_a_compaction() {
    let directory = tempfile::tempdir().unwrap();
    let mut packs = open(directory.path(), RealFs);
    put(&mut packs, 0).unwrap();
    put_forged(&mut packs);
    for number in 1..40 {
        put(&mut packs, number).unwrap();
    }
    packs.sync().unwrap();
    packs.compact(100, u64::MAX).unwrap();
    assert!(packs.lost.len() <= 1, "the blob itself");
    assert!(!packs.segment_path(1).exists());
    assert_intact(&mut packs, 0..40);
}

/// A disk that gives zeros for what is read at a time of a segment, as memory that fails does.
#[derive(Debug, Clone, Default)]
struct MisreadFs {
    misreads: Arc<AtomicBool>,
}

impl Disk for MisreadFs {
    fn read_back(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        RealFs.read_back(file, buffer, offset)?;
        if buffer.len() > 10_000 && self.misreads.load(Relaxed) {
            buffer[3000..6000].fill(0);
        }
        Ok(())
    }
}

/// What a scan had not met was taken for damaged without a look at the record itself.
#[test]
fn a_record_that_proves_itself_is_never_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let fs = MisreadFs::default();
    let mut packs = open(directory.path(), fs.clone());
    for number in 0..20 {
        put(&mut packs, number).unwrap();
    }
    let place = packs.find(&name(19)).unwrap();
    packs.sync().unwrap();
    lose(&packs, 1, place.offset, 8);
    fs.misreads.store(true, Relaxed);
    packs.compact(100, u64::MAX).unwrap();
    assert!(!packs.segment_path(1).exists());
    let lost: Vec<Name> = packs.lost.iter().map(|(name, _)| *name).collect();
    assert_eq!(lost, [name(19)]);
    assert_intact(&mut packs, 0..19);
}

/// Changes the entry of a name in the index on disk.
fn rot_entry(directory: &Path, name: &Name) {
    let index = directory.join("packs").join(INDEX);
    let mut bytes = fs::read(&index).unwrap();
    let at = bytes.windows(name.0.len()).position(|hash| *hash == name.0);
    bytes[at.unwrap() + 20] ^= 1;
    fs::write(index, bytes).unwrap();
}

/// What a rotted index did not show was noted as deleted, and the index that was made anew believed the note.
#[test]
fn what_a_rotted_index_does_not_show_is_not_noted_as_deleted() {
    // Whether anything else of the segment that holds the note is alive.
    for is_alive in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let mut packs = open(directory.path(), RealFs);
        for number in 0..40 {
            put(&mut packs, number).unwrap();
            if number == 19 {
                packs.seal().unwrap();
            }
        }
        packs.remove(&name(3));
        packs.seal().unwrap();
        put(&mut packs, 3).unwrap();
        for number in 20 + u8::from(is_alive)..40 {
            packs.remove(&name(number));
        }
        let survey = packs.plan(60, u64::MAX).unwrap().unwrap();
        let plan = packs.rewrite_some(survey.read_all()).unwrap();
        rot_entry(directory.path(), &name(3));
        assert!(packs.find(&name(3)).is_none());
        assert!(packs.rewrite_some(plan).is_err());
        assert_intact(&mut packs, (0..20 + u8::from(is_alive)).rev());
        packs.compact(60, u64::MAX).unwrap();
        assert!(!packs.segment_path(2).exists(), "it goes nevertheless");
        assert_intact(&mut packs, 0..20 + u8::from(is_alive));
    }
}

/// The last piece could not be read, and could when it was asked for once more: it was taken for delivered.
#[test]
fn an_index_of_which_a_piece_was_left_out_is_not_intact() {
    // One entry more than are read at a time.
    const ENTRIES: u32 = 256 * 16 + 1;
    let directory = tempfile::tempdir().unwrap();
    let mut packs = open(directory.path(), RealFs);
    let records: Vec<_> = (0..ENTRIES)
        .map(|number| {
            let payload = number.to_le_bytes().to_vec();
            let header = Header {
                kind: Kind::Blob,
                deleted: false,
                hash: *Digest::of(&payload).hash(),
                length: 4,
                deflated: false,
            };
            (header, Bytes::from(payload))
        })
        .collect();
    put_all(&mut packs, &records);
    packs.checkpoint().unwrap();
    let index = directory.path().join("packs").join(INDEX);
    let bytes = fs::read(&index).unwrap();
    let mut entries = Merge::new(packs.table.as_ref(), &packs.changes, None);
    let file = File::options().write(true).open(&index).unwrap();
    file.set_len((bytes.len() - ENTRY_BYTES) as u64).unwrap();
    let mut delivered = entries.by_ref().take(ENTRIES as usize - 1).count();
    fs::write(&index, &bytes).unwrap();
    delivered += entries.by_ref().count();
    assert_eq!(delivered, ENTRIES as usize - 1);
    assert!(!entries.is_intact());
    drop(entries);
    let mut entries = Merge::new(packs.table.as_ref(), &packs.changes, None);
    assert_eq!(entries.by_ref().count(), ENTRIES as usize);
    assert!(entries.is_intact());
}

/// What is damaged may be a write that a power cut has torn, also once that segment is not the last any more.
#[test]
fn an_entry_outlives_one_that_was_half_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut packs = open(directory.path(), RealFs);
    put_all(&mut packs, &[entry(8, "old")]);
    packs.sync().unwrap();
    let newer = put_all(&mut packs, &[entry(8, "new")])[0];
    lose(&packs, 1, newer.offset + HEADER_BYTES as u32, 8);
    drop(packs);
    for number in 1..4 {
        let mut packs = open(directory.path(), RealFs);
        assert_eq!(
            packs.read(&key(8)).unwrap(),
            Read::Intact(entry(8, "old").1)
        );
        packs.seal().unwrap();
        put(&mut packs, number).unwrap();
        packs.sync().unwrap();
    }
}

/// A plan had the segment that an opening had finished, for a header in it was lost, grow on: what was put
/// there was not believed by the next.
#[test]
fn no_plan_has_a_segment_grow_on_in_which_a_header_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let mut packs = open(directory.path(), RealFs);
    for number in 0..20 {
        put(&mut packs, number).unwrap();
    }
    packs.checkpoint().unwrap();
    packs.seal().unwrap();
    // Nothing but notes that are needed.
    for number in [3, 4] {
        assert!(packs.remove(&name(number)));
    }
    let survey = packs.plan(60, u64::MAX).unwrap().unwrap();
    let plan = survey.read_all();
    lose(&packs, 2, 0, 8);
    rot_entry(directory.path(), &name(5));
    assert!(packs.mend_table().unwrap());
    assert!(packs.rewrite_some(plan).unwrap().is_done());
    put_all(&mut packs, &[entry(8, "put")]);
    packs.sync().unwrap();
    drop(packs);
    let packs = open(directory.path(), RealFs);
    assert!(packs.find(&key(8)).is_some());
}

/// A disk that takes nothing more while a segment is there, or once it is gone.
#[derive(Debug, Clone)]
struct RoomFs {
    segment: PathBuf,
    refuses: Arc<AtomicBool>,
    while_there: bool,
}

impl Disk for RoomFs {
    fn write_at(&self, file: &File, content: &[u8], offset: u64) -> io::Result<()> {
        match self.refuses.load(Relaxed) && self.segment.exists() == self.while_there {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => RealFs.write_at(file, content, offset),
        }
    }
}

/// Dead segments were removed before what they note was noted elsewhere: whoever was killed between the two
/// found again what was deleted.
#[test]
fn what_a_dead_segment_notes_is_noted_before_it_goes() {
    for while_there in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let fs = RoomFs {
            segment: directory.path().join("packs/00000002.seg"),
            refuses: Arc::default(),
            while_there,
        };
        let mut packs = open(directory.path(), fs.clone());
        for number in 0..40 {
            put(&mut packs, number).unwrap();
            if number == 19 {
                packs.seal().unwrap();
            }
        }
        for number in (20..40).chain([3]) {
            packs.remove(&name(number));
        }
        packs.seal().unwrap();
        fs.refuses.store(true, Relaxed);
        assert!(packs.remove_dead().unwrap());
        assert!(!fs.segment.exists());
        drop(packs);
        let anew = open(directory.path(), RealFs);
        assert!(anew.find(&name(3)).is_none(), "{while_there}");
        assert_eq!(anew.list().count(), 19);
    }
}

/// One segment that could not be opened kept all others from being rewritten.
#[test]
fn a_segment_that_cannot_be_opened_keeps_no_other_from_going() {
    let directory = tempfile::tempdir().unwrap();
    let mut packs = open(directory.path(), RealFs);
    for number in 0..60 {
        put(&mut packs, number).unwrap();
        if number % 20 == 19 {
            packs.seal().unwrap();
        }
    }
    // Two are worth it: one that cannot be opened, and one that notes what is deleted in both.
    for number in (0..15).chain(40..55) {
        packs.remove(&name(number));
    }
    let (segment, aside) = (packs.segment_path(1), directory.path().join("aside"));
    fs::rename(&segment, &aside).unwrap();
    std::os::unix::fs::symlink(&segment, &segment).unwrap();
    assert!(File::open(&segment).is_err());
    assert!(packs.compact(60, u64::MAX).unwrap() > 15_000);
    assert!(!packs.segment_path(3).exists());
    fs::rename(&aside, &segment).unwrap();
    let index = directory.path().join("packs").join(INDEX);
    for _ in 0..2 {
        drop(packs);
        packs = open(directory.path(), RealFs);
        assert_intact(&mut packs, (15..40).chain(55..60));
        assert_eq!(packs.list().count(), 30);
        let _ = fs::remove_file(&index);
    }
}

/// The segment that was sealed for a plan was finished for nothing where what is planned could not be read, and
/// a store that closed waited until all headers were.
#[test]
fn a_plan_that_comes_to_nothing_gives_the_segment_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut packs = open(directory.path(), RealFs);
    for number in 0..20 {
        put(&mut packs, number).unwrap();
    }
    for number in 0..15 {
        packs.remove(&name(number));
    }
    let survey = packs.plan(60, u64::MAX).unwrap().unwrap();
    assert!(packs.active.is_none());
    let (plan, read) = survey.read(&AtomicBool::new(true));
    assert!(read.is_err());
    assert!(packs.rewrite_some(plan).unwrap().is_done());
    put(&mut packs, 21).unwrap();
    assert_eq!(packs.segments.len(), 1);
    assert!(packs.compact(60, u64::MAX).unwrap() > 10_000);
    assert_intact(&mut packs, (15..20).chain([21]));
}
