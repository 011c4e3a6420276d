//! What a failed sync has left in doubt: kept where it lay until it is durable elsewhere.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::commit::Durability;
use crate::digest::Digest;
use crate::power_tests::{Op, Rig, content};
use crate::shard_tests::get;

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

/// A copy whose sync failed may be gone from memory too; the record that it was made of is not.
#[test]
fn a_copy_that_is_lost_is_made_again_from_the_original() {
    let mut rig = Rig::new();
    rig.apply(Op::Put(vec![2, 4], Durability::Durable)).unwrap();
    rig.reopen();
    for _ in 0..2 {
        rig.fs.fail_after(0);
        rig.apply(Op::Put(vec![6], Durability::Durable)).unwrap();
    }
    let copies = fs::File::options()
        .write(true)
        .open(segment(&rig, 2))
        .unwrap();
    let length = copies.metadata().unwrap().len();
    assert!(length > content(4).len() as u64, "it holds copies");
    copies.write_all_at(&vec![0; length as usize], 0).unwrap();
    rig.apply(Op::Sync).unwrap();
    rig.apply(Op::PowerCut(7)).unwrap();
}
