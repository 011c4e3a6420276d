//! A dictionary that twenty workers read and write, one in ten times writing.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;

use crate::actor::{Done, Kit, Msg, Ops, Play, Role, sent};
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::scenario::actors::{case, every_kit, timed, wait, workers};
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

const WORKERS: u64 = 20;
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

struct Worker<R> {
    dictionary: R,
    me: u64,
    left: u64,
    sum: u64,
    done: Done,
}

impl<R: Clone + Send> Play<R> for Worker<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        if let Msg::Token(value) = msg {
            self.sum += value;
        }
        if self.left == 0 {
            let _ = self.done.send(self.sum);
            return;
        }
        self.left -= 1;
        let request = request(
            self.me,
            self.left.wrapping_mul(7919) % KEYS,
            self.left.is_multiple_of(10),
        );
        sent(ops.tell(&self.dictionary, Msg::Item(request)));
    }
}

fn look_up<K: Kit>(options: &Options) -> Case {
    let each = options.count(20_000, 50);
    case::<K>(
        "20 workers",
        workers(options),
        move |kit, done, finished| {
            let dictionary = Dictionary::<K::Ref> {
                workers: Arc::new([]),
                entries: HashMap::new(),
            };
            let dictionary = kit.spawn(Role::play(dictionary));
            let worker = |me| Worker {
                dictionary: dictionary.clone(),
                me,
                left: each,
                sum: 0,
                done: done.clone(),
            };
            let all: Arc<[K::Ref]> = (0..WORKERS)
                .map(|me| kit.spawn(Role::play(worker(me))))
                .collect();
            kit.tell(&dictionary, Msg::Wires(Arc::clone(&all)));
            let (elapsed, sum) = timed(|| {
                all.iter().for_each(|worker| kit.tell(worker, Msg::Go));
                wait(finished, WORKERS)
            });
            Sample::rate(each * WORKERS, elapsed, sum)
        },
    )
}
