//! What a failed sync has left in doubt: kept where it lay until it is durable elsewhere.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::action::ActionEntry;
use crate::commit::Durability;
use crate::digest::{Digest, Hasher};
use crate::group::Put;
use crate::layout::Kind;
use crate::pack::Header;
use crate::power_tests::{Op, Rig, content};
use crate::shard_tests::get;
use crate::staging::Verified;

fn segment(rig: &Rig, number: u32) -> PathBuf {
    rig.shard.layout.pack(0).join(format!("{number:08}.seg"))
}

/// A process put durably and ended; the first sync of the next failed, and what wrote the records
/// anew cut the old segment before the copies were durable.
#[test]
fn durable_records_of_an_earlier_process_outlive_two_failed_syncs() {
    for failures in [1, 2, 3] {
        for cut_at_once in [true, false] {
            let mut rig = Rig::new();
            rig.apply(Op::Put(vec![2, 4], Durability::Durable)).unwrap();
            rig.reopen();
            for _ in 0..failures {
                rig.fs.fail_after(0);
                rig.apply(Op::Put(vec![6], Durability::Durable)).unwrap();
            }
            if !cut_at_once {
                rig.apply(Op::Put(vec![6], Durability::Durable)).unwrap();
            }
            for name in [2, 4] {
                assert!(rig.promises.durable.contains(&name));
                let found = get(&mut rig.shard, &Digest::of(&content(name))).unwrap();
                assert_eq!(*found.blob, content(name));
            }
            rig.apply(Op::PowerCut(7)).unwrap();
        }
    }
}

/// Each try left another copy of everything in doubt, and told of each of the earlier ones.
#[test]
fn failing_syncs_take_no_room_and_are_told_once() {
    const ROUNDS: u64 = 200;
    for relaxed_between in [false, true] {
        let told = Arc::new(AtomicU64::new(0));
        tracing::subscriber::with_default(Telling(Arc::clone(&told)), || {
            let mut rig = Rig::new();
            let names = (2..14).step_by(2).collect();
            rig.apply(Op::Put(names, Durability::Relaxed)).unwrap();
            rig.fs.fail_on();
            for round in 0..ROUNDS {
                rig.apply(Op::Put(vec![14], Durability::Durable)).unwrap();
                if relaxed_between {
                    let content = format!("relaxed {round}").into_bytes();
                    let blob = Verified::hash(content.into(), Hasher::new());
                    let put = Put::Blob(blob, Durability::Relaxed);
                    assert!(rig.shard.put_group(vec![put]).remove(0).is_ok());
                }
            }
            let bytes: u64 = segments(&rig).iter().sum();
            assert!(bytes < 60_000, "{bytes}");
            let lines = told.load(Relaxed);
            assert!(
                lines <= if relaxed_between { ROUNDS } else { 0 } + 3,
                "{lines}"
            );
            rig.fs.fail_never();
            rig.apply(Op::Sync).unwrap();
            let left = segments(&rig);
            assert!(left.len() <= 2 && !left.contains(&0), "{left:?}");
            assert!(rig.promises.durable.contains(&12));
            rig.apply(Op::PowerCut(7)).unwrap();
        });
    }
}

/// The sizes of all segments.
fn segments(rig: &Rig) -> Vec<u64> {
    let found = fs::read_dir(rig.shard.layout.pack(0)).unwrap();
    let found = found.map(|entry| entry.unwrap());
    let found = found.filter(|entry| entry.path().extension().is_some_and(|is| is == "seg"));
    found.map(|entry| entry.metadata().unwrap().len()).collect()
}

/// Counts what is told.
struct Telling(Arc<AtomicU64>);

impl Subscriber for Telling {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Relaxed);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// A copy whose sync failed is given up; the record that it was made of is there.
#[test]
fn a_copy_that_is_lost_is_made_again_from_the_original() {
    let mut rig = Rig::new();
    rig.apply(Op::Put(vec![2, 4], Durability::Durable)).unwrap();
    rig.reopen();
    for _ in 0..2 {
        rig.fs.fail_after(0);
        rig.apply(Op::Put(vec![6], Durability::Durable)).unwrap();
    }
    assert!(!segment(&rig, 2).exists(), "it held copies");
    rig.apply(Op::Sync).unwrap();
    rig.apply(Op::PowerCut(7)).unwrap();
}

/// Writing the records anew filled a segment, the next could not be made, and the sync after that had
/// nothing to do.
#[test]
fn no_sync_succeeds_while_records_are_in_doubt() {
    let mut rig = Rig::new();
    rig.apply(Op::Put(vec![2], Durability::Relaxed)).unwrap();
    rig.fs.fail_after(0);
    rig.apply(Op::Sync).unwrap();
    let filling = Header {
        kind: Kind::Blob,
        deleted: false,
        hash: [0; 32],
        length: 64 * 1024 * 1024 - 200,
        deflated: false,
    };
    let payload = vec![0; filling.length as usize].into();
    let (packs, _) = rig.shard.open_packs().unwrap();
    packs.append(&[(filling, payload)]).unwrap();
    fs::write(segment(&rig, 3), "in the way").unwrap();
    for _ in 0..3 {
        assert!(rig.shard.sync().is_err());
    }
    fs::remove_file(segment(&rig, 3)).unwrap();
    rig.apply(Op::Sync).unwrap();
    assert!(rig.promises.durable.contains(&2));
    rig.apply(Op::PowerCut(7)).unwrap();
}

/// A process ended with little to write down, and the next made durable by a sync what was lost.
#[test]
fn what_is_in_doubt_is_written_anew_on_closing() {
    for name in [2, 3] {
        let mut rig = Rig::new();
        rig.apply(Op::Put(vec![name], Durability::Relaxed)).unwrap();
        rig.fs.fail_after(0);
        rig.apply(Op::Sync).unwrap();
        rig.apply(Op::Close).unwrap();
        rig.reopen();
        rig.apply(Op::Put(vec![name], Durability::Durable)).unwrap();
        assert!(rig.promises.durable.contains(&name));
        rig.apply(Op::PowerCut(7)).unwrap();
    }
}

/// A bad block under a large blob kept its shard from ever making anything durable again.
#[test]
fn what_the_disk_cannot_read_back_is_lost_and_nothing_else() {
    for (lost, kept) in [(2, 4), (3, 5)] {
        let mut rig = Rig::new();
        let both = vec![lost, kept];
        rig.apply(Op::Put(both.clone(), Durability::Relaxed))
            .unwrap();
        let layout = &rig.shard.layout;
        let paths = both.iter().map(|name| match name % 2 {
            0 => segment(&rig, 1),
            _ => layout.blob(Digest::of(&content(*name)).hash()),
        });
        paths.for_each(|path| rig.fs.fail_in_background(&path));
        rig.apply(Op::Sync).unwrap();
        rig.fs.make_unreadable(vec![lost; 100]);
        let failure = rig.shard.sync().unwrap_err();
        assert!(failure.to_string().contains("lost"), "{failure}");
        assert!(!rig.shard.contains(&Digest::of(&content(lost))));
        rig.promises.relaxed.remove(&lost);
        rig.apply(Op::Sync).unwrap();
        assert!(rig.promises.durable.contains(&kept));
        rig.apply(Op::PowerCut(7)).unwrap();
    }
}

/// An entry that was replaced in the group whose sync wrote the old one anew was the old one again
/// after the next opening.
#[test]
fn what_is_written_anew_does_not_win_over_what_is_put() {
    let mut rig = Rig::new();
    let put = |rig: &mut Rig, payload: &str, with: Option<u8>| {
        let entry = ActionEntry::new(payload.to_owned()).encode(&[1; 32]);
        let mut group = vec![Put::Action([1; 32], entry.into(), Durability::Relaxed)];
        group.extend(with.map(|name| {
            let blob = Verified::hash(content(name).into(), Hasher::new());
            Put::Blob(blob, Durability::Durable)
        }));
        rig.shard.put_group(group)
    };
    assert!(put(&mut rig, "old", None).iter().all(Result::is_ok));
    rig.fs.fail_after(0);
    rig.apply(Op::Put(vec![6], Durability::Durable)).unwrap();
    assert!(put(&mut rig, "new", Some(4)).iter().all(Result::is_ok));
    rig.reopen();
    let entry = rig.shard.get_action(&[1; 32]).unwrap().unwrap();
    assert_eq!(entry.payload, "new");
}

/// A large blob that was met again got its name made durable, but not that of its directory.
#[test]
fn a_large_blob_of_an_earlier_process_is_made_durable_with_its_directory() {
    for seed in 0..8 {
        let mut rig = Rig::new();
        rig.apply(Op::Put(vec![7], Durability::Relaxed)).unwrap();
        rig.reopen();
        rig.apply(Op::Put(vec![7], Durability::Durable)).unwrap();
        assert!(rig.promises.durable.contains(&7));
        rig.apply(Op::PowerCut(seed)).unwrap();
    }
}

/// The note of a deletion was cut off with what was in doubt: the blob came back.
#[test]
fn a_deletion_that_was_in_doubt_stays() {
    for in_table in [false, true] {
        let mut rig = Rig::new();
        rig.apply(Op::Put(vec![2, 4], Durability::Durable)).unwrap();
        if in_table {
            rig.apply(Op::Checkpoint).unwrap();
        }
        rig.apply(Op::Delete(2)).unwrap();
        rig.fs.fail_after(0);
        rig.apply(Op::Put(vec![6], Durability::Durable)).unwrap();
        rig.apply(Op::Put(vec![6], Durability::Durable)).unwrap();
        rig.reopen();
        for (name, is_here) in [(2, false), (4, true), (6, true)] {
            let digest = Digest::of(&content(name));
            assert_eq!(rig.shard.contains(&digest), is_here, "{name}");
        }
    }
}

/// A process made a segment, could not make its name durable, and left it empty; the next took the name
/// for durable.
#[test]
fn the_name_of_an_empty_segment_of_an_earlier_process_is_made_durable() {
    for seed in 0..8 {
        let mut rig = Rig::new();
        rig.fs.fail_after(2);
        rig.apply(Op::Put(vec![10], Durability::Durable)).unwrap();
        rig.apply(Op::Reopen).unwrap();
        // As a process leaves it that is killed behind making it.
        fs::write(segment(&rig, 1), "").unwrap();
        rig.reopen();
        rig.apply(Op::Put(vec![14], Durability::Durable)).unwrap();
        assert!(rig.promises.durable.contains(&14));
        rig.apply(Op::PowerCut(seed)).unwrap();
    }
}

/// Compaction chose a dead segment, wrote what was in doubt to it, and removed it.
#[test]
fn compaction_keeps_what_it_writes_anew() {
    let mut rig = Rig::new();
    rig.apply(Op::Put(vec![4, 14], Durability::Relaxed))
        .unwrap();
    rig.fs.fail_after(0);
    rig.apply(Op::Sync).unwrap();
    rig.apply(Op::Delete(4)).unwrap();
    rig.apply(Op::Compact).unwrap();
    let found = get(&mut rig.shard, &Digest::of(&content(14))).unwrap();
    assert_eq!(*found.blob, content(14));
}
