//! Flipped bits on disk: found, told, and healed or dropped, whichever byte they hit.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use crate::digest::Digest;
use crate::error::GetError;
use crate::fs::{Fs, RealFs};
use crate::layout::Kind;
use crate::maintain::{Checked, Compaction};
use crate::pack::HEADER_BYTES;
use crate::seen::Stamp;
use crate::shard::{Shard, VerifyReads, lock};
use crate::shard_tests::{PACKED, damage, get, put, shard};

const NUMBER: u8 = 6;

fn content(number: u8) -> Vec<u8> {
    vec![number; 100 + usize::from(number)]
}

/// Gives the space of what is gone back; returns the bytes that the disk got.
pub(crate) fn compact<F: Fs>(shard: &mut Shard<F>) -> u64 {
    let packed_bytes = |shard: &mut Shard<F>| shard.open_packs().unwrap().0.packed_bytes();
    let before = packed_bytes(shard);
    let survey = shard.plan_compaction(Compaction::UNASKED).unwrap();
    let mut plan = survey.map_or_else(Default::default, |survey| survey.read_all());
    while !plan.is_done() {
        plan = shard.compact_some(plan).unwrap();
    }
    before - packed_bytes(shard)
}

/// A shard whose blobs are all in the table of its index, and where that lies.
fn indexed(directory: &tempfile::TempDir) -> (Shard<RealFs>, PathBuf) {
    let mut shard = shard(directory.path(), RealFs);
    for number in 0..NUMBER {
        put(&mut shard, &content(number));
    }
    shard.open_packs().unwrap().0.checkpoint().unwrap();
    let index = shard.layout.pack(0).join("index");
    (shard, index)
}

fn flip(path: &PathBuf, at: u64, bit: u8) {
    let file = fs::File::options().read(true).write(true).open(path);
    let file = file.unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << bit], at).unwrap();
}

fn all_are_here(shard: &mut Shard<RealFs>) {
    for number in 0..NUMBER {
        let digest = Digest::of(&content(number));
        lock(&shard.memory).remove(digest.hash());
        assert!(shard.contains(&digest), "{number}");
        assert_eq!(*get(shard, &digest).unwrap().blob, content(number));
    }
    assert_eq!(shard.usage().unwrap().blobs, u64::from(NUMBER));
}

/// A flipped bit in an entry hid an acknowledged blob whose record was intact.
#[test]
fn no_flipped_bit_in_the_index_hides_a_blob() {
    let directory = tempfile::tempdir().unwrap();
    let (first, index) = indexed(&directory);
    drop(first);
    let good = fs::read(&index).unwrap();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&index, bytes).unwrap();
        let mut shard = shard(directory.path(), RealFs);
        all_are_here(&mut shard);
        assert_eq!(
            shard.counters.corrupt.load(Relaxed),
            0,
            "no record was lost"
        );
    }
}

/// What damage to the index does while the store is open must not be made to last: the scrubber set
/// aside the wrong record, and rewriting segments dropped the right one.
#[test]
fn damage_to_an_open_index_is_found_before_anything_is_lost_by_it() {
    type Act = fn(&mut Shard<RealFs>);
    let scrub: Act = |shard| {
        for listed in shard.records_after(None, 100).unwrap() {
            shard.check(&listed).unwrap();
        }
    };
    let compact: Act = |shard| {
        shard
            .open_packs()
            .unwrap()
            .0
            .compact(100, u64::MAX)
            .unwrap();
    };
    let checkpoint: Act = |shard| shard.open_packs().unwrap().0.checkpoint().unwrap();
    // Hash, segment, offset, length, kind, time, size of an entry.
    for byte in [0, 31, 32, 36, 40, 43, 44, 48, 51] {
        for act in [scrub, compact, checkpoint] {
            let directory = tempfile::tempdir().unwrap();
            let (mut shard, index) = indexed(&directory);
            let size = fs::metadata(&index).unwrap().len();
            flip(&index, size - 52 * 4 + byte, 6);
            act(&mut shard);
            assert_eq!(shard.counters.corrupt.load(Relaxed), 1, "told once");
            all_are_here(&mut shard);
            all_are_here(&mut self::shard(directory.path(), RealFs));
        }
    }
}

/// It was mapped, and the search that touched it ended the process.
#[test]
fn an_open_index_that_is_cut_off_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (mut shard, index) = indexed(&directory);
    let file = fs::OpenOptions::new().write(true).open(&index).unwrap();
    file.set_len(0).unwrap();
    all_are_here(&mut shard);
    assert_eq!(shard.counters.corrupt.load(Relaxed), 1);
    all_are_here(&mut self::shard(directory.path(), RealFs));
}

/// A damaged record was left out of the copy, its segment went, and the index still led there: a durable
/// put of the blob was answered without writing anything.
#[test]
fn what_a_compaction_cannot_copy_is_here_no_more() {
    for byte in [0, HEADER_BYTES as u64 + 5] {
        let directory = tempfile::tempdir().unwrap();
        let (mut shard, _) = indexed(&directory);
        let digest = Digest::of(&content(3));
        let packs = shard.open_packs().unwrap().0;
        let place = packs.find(&(*digest.hash(), Kind::Blob)).unwrap();
        let segment = format!("{:08}.seg", place.segment);
        let segment = shard.layout.pack(0).join(segment);
        flip(&segment, u64::from(place.offset) + byte, 2);
        for number in [0, 1, 2, 5] {
            shard.delete(&Digest::of(&content(number))).unwrap();
        }
        assert!(compact(&mut shard) > 0);
        assert_eq!(shard.counters.corrupt.load(Relaxed), 1);
        assert!(shard.layout.quarantine().join(digest.hex()).exists());
        for _ in 0..2 {
            assert!(!shard.contains(&digest));
            assert!(shard.contains(&Digest::of(&content(4))));
            shard = self::shard(directory.path(), RealFs);
        }
        put(&mut shard, &content(3));
        lock(&shard.memory).remove(digest.hash());
        assert_eq!(*get(&mut shard, &digest).unwrap().blob, content(3));
    }
}

/// An index that leads into a segment that is not there had a durable put write nothing.
#[test]
fn a_place_in_no_segment_is_no_blob() {
    let directory = tempfile::tempdir().unwrap();
    let (mut shard, _) = indexed(&directory);
    let digest = Digest::of(&content(3));
    let packs = shard.open_packs().unwrap().0;
    let place = packs.find(&(*digest.hash(), Kind::Blob)).unwrap();
    packs.remove_segment(place.segment).unwrap();
    assert!(!shard.contains(&digest));
    lock(&shard.memory).remove(digest.hash());
    let error = get(&mut shard, &digest).unwrap_err();
    assert!(matches!(error, GetError::Corrupt { .. }), "{error}");
}

/// A large blob was checked at its first read only: what was damaged later was served until the next
/// opening.
#[test]
fn a_large_blob_that_was_read_and_then_written_to_is_not_served() {
    for verify_reads in [VerifyReads::FirstLarge, VerifyReads::Always] {
        for at in [0, 1, PACKED / 2, PACKED] {
            let directory = tempfile::tempdir().unwrap();
            let mut shard = shard(directory.path(), RealFs);
            shard.verify_reads = verify_reads;
            let digest = put(&mut shard, &vec![7; PACKED + 1]);
            get(&mut shard, &digest).unwrap();
            assert!(shard.contains(&digest));
            damage(&mut shard, &digest, |bytes| bytes[at] ^= 1);
            let peeked = lock(&shard.memory).get(digest.hash(), Instant::now());
            assert_eq!(peeked, None);
            let error = get(&mut shard, &digest).unwrap_err();
            assert!(matches!(error, GetError::Corrupt { .. }), "{error}");
            assert!(!shard.contains(&digest));
        }
    }
}

/// Our own stamps of use are no reason to hash a large blob again.
#[test]
fn a_large_blob_that_is_used_is_checked_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut shard = shard(directory.path(), RealFs);
    let digest = put(&mut shard, &vec![7; PACKED + 1]);
    let path = shard.layout.blob(digest.hash());
    let age = |ago| {
        let file = fs::File::open(&path).unwrap();
        file.set_modified(SystemTime::now() - ago).unwrap();
    };
    age(Duration::from_secs(50));
    assert!(shard.get(&digest).unwrap().unchecked, "the first time");
    get(&mut shard, &digest).unwrap();
    for ahead in 1..4 {
        let later = Instant::now() + Duration::from_secs(100 * ahead);
        assert!(lock(&shard.memory).get(digest.hash(), later).is_some());
        // Writes the use down.
        shard.note_reads().unwrap();
        assert!(lock(&shard.memory).get(digest.hash(), later).is_some());
        assert!(!shard.get(&digest).unwrap().unchecked);
    }
    age(Duration::from_secs(50));
    assert!(
        shard.get(&digest).unwrap().unchecked,
        "somebody else's stamp"
    );
}

/// Flips a bit of a large blob so that nothing of its file tells, as a disk does.
fn rot(shard: &mut Shard<RealFs>, digest: &Digest) {
    let path = shard.layout.blob(digest.hash());
    let stamp = || Stamp::of_file(&fs::File::open(&path).unwrap()).unwrap();
    let (before, used) = (stamp(), fs::metadata(&path).unwrap().modified().unwrap());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    flip(&path, 9, 3);
    fs::File::open(&path).unwrap().set_modified(used).unwrap();
    // That of the last change cannot be set: the store takes it for its own.
    shard.seen.restamp(digest.hash(), before, stamp());
    lock(&shard.memory).restamp(digest.hash(), before, stamp());
}

/// Nobody but who checks every read can know.
#[test]
fn a_bit_that_flips_without_a_trace_is_never_served_where_every_read_is_checked() {
    let reads = [
        (VerifyReads::Always, None),
        (VerifyReads::FirstLarge, Some(Duration::ZERO)),
    ];
    for (verify_reads, trusted_for) in reads {
        let directory = tempfile::tempdir().unwrap();
        let mut shard = shard(directory.path(), RealFs);
        shard.verify_reads = verify_reads;
        shard.seen.trusted_for = trusted_for.unwrap_or(shard.seen.trusted_for);
        let digest = put(&mut shard, &vec![7; PACKED + 1]);
        for _ in 0..2 {
            get(&mut shard, &digest).unwrap();
        }
        rot(&mut shard, &digest);
        let peeked = lock(&shard.memory).get(digest.hash(), Instant::now());
        assert_eq!(peeked, None);
        let error = get(&mut shard, &digest).unwrap_err();
        assert!(matches!(error, GetError::Corrupt { .. }), "{error}");
        assert!(!shard.contains(&digest));
    }
}

/// A bit that decays on the disk changes no time: it was served until the next opening.
#[test]
fn a_bit_that_flips_without_a_trace_is_found_a_day_later_or_by_a_scrub() {
    for is_scrubbed in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let mut shard = shard(directory.path(), RealFs);
        let digest = put(&mut shard, &vec![7; PACKED + 1]);
        get(&mut shard, &digest).unwrap();
        rot(&mut shard, &digest);
        assert!(
            lock(&shard.memory)
                .get(digest.hash(), Instant::now())
                .is_some()
        );
        let found = shard.get(&digest).unwrap();
        assert!(!found.unchecked && found.blob[9] != 7, "served until then");
        match is_scrubbed {
            true => {
                let listed = shard.list().unwrap()[0];
                assert_eq!(shard.check(&listed).unwrap(), Checked::Damaged);
            }
            false => {
                shard.seen.trusted_for = Duration::ZERO;
                let error = get(&mut shard, &digest).unwrap_err();
                assert!(matches!(error, GetError::Corrupt { .. }), "{error}");
            }
        }
        assert!(!shard.contains(&digest));
    }
}
