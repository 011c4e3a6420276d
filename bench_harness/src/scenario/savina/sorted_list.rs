//! A sorted list that twenty workers read and write: one request in ten inserts, one in a hundred asks for the size.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::sync::Arc;

use super::clients::{CLIENTS, ask_server};
use crate::actor::{Kit, Msg, Ops, Play, sent};
use crate::measure::{Case, Unit};
use crate::options::Options;
use crate::scenario::actors::every_kit;
use crate::scenario::{Family, Scenario};

/// `sorted_list`.
pub const SCENARIO: Scenario = Scenario {
    name: "sorted_list",
    family: Family::Savina("Concurrent Sorted Linked-List"),
    about: "a sorted list actor that 20 workers read and write",
    unit: Unit::MillionPerSecond("operations"),
    cases: |options| {
        let mut cases = Vec::new();
        every_kit!(options, cases, look_up, options);
        cases
    },
};

/// Keys of each worker are its own, so that the order of workers does not change what is read.
const KEYS: u64 = 1 << 10;
const CONTAINS: u64 = 0;
const INSERT: u64 = 1;
const SIZE: u64 = 2;

struct List<R> {
    workers: Arc<[R]>,
    keys: Vec<u64>,
}

impl<R: Clone + Send + Sync> Play<R> for List<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        match msg {
            Msg::Wires(workers) => self.workers = workers,
            Msg::Item(request) => {
                let (kind, key) = (request & 3, request >> 2);
                let worker = key / KEYS;
                let answer = match (kind, self.keys.binary_search(&key)) {
                    (CONTAINS, found) => u64::from(found.is_ok()),
                    (INSERT, Err(place)) => {
                        self.keys.insert(place, key);
                        1
                    }
                    (INSERT, Ok(_)) => 0,
                    // Of the asker's own keys.
                    _ => {
                        let below = |bound| self.keys.partition_point(|key| *key < bound) as u64;
                        below((worker + 1) * KEYS) - below(worker * KEYS)
                    }
                };
                sent(ops.tell(&self.workers[worker as usize], Msg::Token(answer)));
            }
            _ => {}
        }
    }
}

fn question(me: u64, left: u64) -> u64 {
    let kind = match left % 100 {
        0 => SIZE,
        1..=10 => INSERT,
        _ => CONTAINS,
    };
    let key = me * KEYS + left.wrapping_mul(7919) % KEYS;
    key << 2 | kind
}

/// What the answers add up to: every client works on keys of its own, so on a set of its own.
fn answers(each: u64) -> u64 {
    let of_client = |client| {
        let mut keys = BTreeSet::new();
        let answer = |left| {
            let (kind, key) = (question(client, left) & 3, question(client, left) >> 2);
            match kind {
                CONTAINS => u64::from(keys.contains(&key)),
                INSERT => u64::from(keys.insert(key)),
                _ => keys.len() as u64,
            }
        };
        (0..each).rev().map(answer).sum::<u64>()
    };
    (0..CLIENTS).map(of_client).sum()
}

fn look_up<K: Kit>(options: &Options) -> Case {
    let empty = || List::<K::Ref> {
        workers: Arc::new([]),
        keys: Vec::new(),
    };
    ask_server::<K, _>(
        options,
        options.count(20_000, 200),
        empty,
        question,
        answers,
    )
}
