//! A sorted list that twenty workers read and write: one request in ten inserts, one in a hundred asks for the size.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::actor::{Done, Kit, Msg, Ops, Play, Role, sent};
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::scenario::actors::{case, every_kit, timed, wait, workers};
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

const WORKERS: u64 = 20;
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

struct Worker<R> {
    list: R,
    me: u64,
    left: u64,
    sum: u64,
    done: Done,
}

impl<R: Clone + Send> Play<R> for Worker<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        if let Msg::Token(answer) = msg {
            self.sum += answer;
        }
        if self.left == 0 {
            let _ = self.done.send(self.sum);
            return;
        }
        self.left -= 1;
        let kind = match self.left % 100 {
            0 => SIZE,
            1..=10 => INSERT,
            _ => CONTAINS,
        };
        let key = self.me * KEYS + self.left.wrapping_mul(7919) % KEYS;
        sent(ops.tell(&self.list, Msg::Item(key << 2 | kind)));
    }
}

fn look_up<K: Kit>(options: &Options) -> Case {
    let each = options.count(20_000, 200);
    case::<K>(
        "20 workers",
        workers(options),
        move |kit, done, finished| {
            let list = kit.spawn(Role::play(List::<K::Ref> {
                workers: Arc::new([]),
                keys: Vec::new(),
            }));
            let worker = |me| Worker {
                list: list.clone(),
                me,
                left: each,
                sum: 0,
                done: done.clone(),
            };
            let all: Arc<[K::Ref]> = (0..WORKERS)
                .map(|me| kit.spawn(Role::play(worker(me))))
                .collect();
            kit.tell(&list, Msg::Wires(Arc::clone(&all)));
            let (elapsed, sum) = timed(|| {
                all.iter().for_each(|worker| kit.tell(worker, Msg::Go));
                wait(finished, WORKERS)
            });
            Sample::rate(each * WORKERS, elapsed, sum)
        },
    )
}
