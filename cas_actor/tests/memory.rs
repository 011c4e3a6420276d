//! Memory stays within what was configured, whatever passes through the store. One test, for it
//! looks at the memory of the whole process.
#![forbid(unsafe_code)]

use std::fs;
use std::thread;

use actor_rt::System;
use cas_actor::{Digest, Durability, Store, StoreConfig};

const MIB: u64 = 1024 * 1024;
const CAPACITY: u64 = 8 * MIB;
/// Indices of what was not yet folded into a table, mailboxes, stacks, and what the allocator
/// keeps. Far below what passes through.
const SLACK: u64 = 24 * MIB;

/// Memory of this process that is not a mapped file.
fn anonymous_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let field = line.and_then(|line| line.split_whitespace().nth(1));
    field.unwrap().parse::<u64>().unwrap() * 1024
}

fn content(number: u32, size: usize) -> Vec<u8> {
    let mut content = vec![(number % 251) as u8; size];
    content[..4].copy_from_slice(&number.to_le_bytes());
    content
}

#[test]
fn memory_stays_within_its_budget() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let mut config = StoreConfig {
        shards: 2,
        durability: Durability::Volatile,
        ..StoreConfig::new(directory.path())
    };
    config.memory.capacity_bytes = CAPACITY;
    let store = Store::open(config, &system).unwrap();
    let before = anonymous_bytes();
    let mut most = 0;
    // Many tiny ones, many that are packed, some large ones: 180 MiB and more in all.
    for (size, number) in [(16, 12_000), (8_000, 8_000), (1_500_000, 80)] {
        let digests: Vec<Digest> = thread::scope(|scope| {
            let writers = (0..4).map(|writer| {
                let store = &store;
                scope.spawn(move || {
                    let mine = (writer..number).step_by(4);
                    let put = |number| store.blocking().put(content(number, size)).unwrap();
                    mine.map(put).collect::<Vec<_>>()
                })
            });
            let writers: Vec<_> = writers.collect();
            writers
                .into_iter()
                .flat_map(|writer| writer.join().unwrap())
                .collect()
        });
        for digest in &digests {
            assert_eq!(store.blocking().get(digest).unwrap().len(), size);
        }
        let held = store.blocking().stats().unwrap().memory_bytes;
        assert!(held <= CAPACITY, "{held}");
        most = most.max(anonymous_bytes().saturating_sub(before));
    }
    assert!(most <= CAPACITY + SLACK, "{} MiB", most / MIB);
}
