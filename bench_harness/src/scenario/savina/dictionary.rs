//! A dictionary that twenty workers read and write, one in ten times writing.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;

use super::clients::{CLIENTS, ask_server};
use crate::actor::{Kit, Msg, Ops, Play, sent};
use crate::measure::{Case, Unit};
use crate::options::Options;
use crate::scenario::actors::every_kit;
use crate::scenario::{Family, Scenario};

/// `dictionary`.
pub const SCENARIO: Scenario = Scenario {
    name: "dictionary",
    family: Family::Savina("Concurrent Dictionary"),
    about: "a dictionary actor that 20 workers read and write",
    unit: Unit::MillionPerSecond("operations"),
    cases: |options| {
        let mut cases = Vec::new();
        every_kit!(options, cases, look_up, options);
        cases
    },
};

/// Keys per worker, so that the order of workers does not change what is read.
const KEYS: u64 = 512;

struct Dictionary<R> {
    workers: Arc<[R]>,
    entries: HashMap<u64, u64>,
}

/// A request: who, which key, whether to write it.
fn request(worker: u64, key: u64, write: bool) -> u64 {
    worker << 32 | key << 1 | u64::from(write)
}

impl<R: Clone + Send + Sync> Play<R> for Dictionary<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        match msg {
            Msg::Wires(workers) => self.workers = workers,
            Msg::Item(request) => {
                let (worker, key) = (request >> 32, request >> 1);
                let value = self.entries.entry(key).or_insert(0);
                *value += request & 1;
                sent(ops.tell(&self.workers[worker as usize], Msg::Token(*value)));
            }
            _ => {}
        }
    }
}

fn question(me: u64, left: u64) -> u64 {
    request(me, left.wrapping_mul(7919) % KEYS, left.is_multiple_of(10))
}

/// What is read in all: a key's value is how often it was written, and only its client writes it.
fn answers(each: u64) -> u64 {
    let of_client = |client| {
        let mut written = HashMap::<u64, u64>::new();
        let read = |left| {
            let asked = question(client, left);
            let value = written.entry(asked >> 1).or_default();
            *value += asked & 1;
            *value
        };
        (0..each).rev().map(read).sum::<u64>()
    };
    (0..CLIENTS).map(of_client).sum()
}

fn look_up<K: Kit>(options: &Options) -> Case {
    let empty = || Dictionary::<K::Ref> {
        workers: Arc::new([]),
        entries: HashMap::new(),
    };
    ask_server::<K, _>(options, options.count(20_000, 50), empty, question, answers)
}
